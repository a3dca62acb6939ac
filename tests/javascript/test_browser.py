"""The JavaScript package in a real Chromium. A test fails, too, if a page complains or calls another host."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright", reason="needs playwright: pip install playwright")

from playwright.sync_api import Browser, Page, expect, sync_playwright

from benchmarks.browser.pages import serving
from dynamic_tinybert import Answer, QuestionAnswerer
from dynamic_tinybert.folder import open_folder
from dynamic_tinybert.publish import save_onnx_folder
from dynamic_tinybert.squad import read_squad
from support.data import SQUAD, needs_squad
from support.javascript import NAMES, PACKAGE

pytestmark = [pytest.mark.browser]

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LIGHTHOUSE = "The lighthouse of Port Ellis was built by Agnes Moreau in 1871. Its keeper was Barnaby Whitlock. "
PAIRS = [
    ("Who built the lighthouse?", LIGHTHOUSE),
    ("What was launched?", "😀 The 𝒯ower (🗼) stands in Paris. 👩‍🚀 Apollo 11 was launched from Florida in 1969. 🚀"),
    ("Where does the flag of France 🇫🇷 stand?", "🇩🇪 in Berlin, 🇫🇷 in Zu\u0308rich 👍🏽, and in e\u0301te\u0301 🇯🇵"),
    ("Who is the keeper?", "Le gardien du phare e\u0301tait Barnabe\u0301 Whitlo\u0323\u0302ck\u0308, dit Aîné."),
    ("日本の首都は?", "日本の首都は東京です。大阪は「商都」と呼ばれる。人口は約1,400万人。"),
    ("Where is the tower?", "한국어 문서: 탑은 서울에 있습니다. The tower is in Seoul (서울)."),
    ("מי בנה את המגדלור?", "המגדלור נבנה על ידי אגנס מורו בשנת 1871. שָׁלוֹם"),
    ("من بنى المنارة؟", "بُنيت المنارة على يد أغنيس مورو في عام ١٨٧١."),
    ("What is the price?",
     "Item\r\n- Rope: USD 12.50\r\n- Lamp: $1,200.00\r\n\r\nTotal\t| 1,212.50 |\r\nSee www.example.com.\r\n"),
    ("Which option stops it?",
     "Run `dynamic-tinybert serve --port 80`,\nthen os.kill() it; see ../docs/serving.md (line 3)."),
    ("Who?", "a\ud800b \udc00 was Ada [SEP] [CLS] \x00\ufffd Lovelace\u200b \ufeff."),
    ("Who built it? " * 40, LIGHTHOUSE * 3),
    ("Who?", ""),
    ("Who?", " \r\n\t\u3000"),
    ("Who?", "?!"),
]  # fmt: skip
OPTIONS: list[dict[str, Any]] = [{}, {"budget": "balanced"}, {"top_k": 4, "budget": 0.3}]
ALSO: list[dict[str, Any]] = [
    {"handle_impossible_answer": True},
    {"handle_impossible_answer": True, "no_answer_threshold": "squad2", "top_k": 3},
    {"align_to_words": False, "max_answer_len": 4, "score_threshold": 0.0, "top_k": 9},
    {"max_seq_len": 96, "doc_stride": 12},
]

Ask = Callable[..., list[Any]]


@pytest.fixture(scope="module")
def browser(node: str) -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        pytest.skip("no Chromium in PATH: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(exported: Path, tiny_folder: Path) -> Iterator[str]:
    save_onnx_folder(open_folder(tiny_folder), exported / "tiny")
    roots = {"package": PACKAGE, **{name: exported / name for name in ("fp32", "int8", "tiny")}, "broken": exported}
    with serving(roots) as address:
        yield address


@pytest.fixture(scope="module")
def page(browser: Browser, address: str) -> Iterator[Page]:
    page = browser.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("request", lambda request: None if request.url.startswith(address) else complaints.append(request.url))
    page.goto(address)
    page.wait_for_function("window.ready")
    yield page
    page.close()
    expected = ("was cut to maxQuestionLength", "status of 404", "data:,")
    assert [line for line in complaints if not any(words in line for words in expected)] == []


@pytest.fixture(scope="module")
def ask(page: Page) -> Ask:
    def ask(pairs: list[tuple[str, str]], model: str = "fp32", **options: Any) -> list[Any]:
        named = {NAMES.get(name, name): value for name, value in options.items()}
        # As JSON, since a lone surrogate does not go through the driver.
        return list(page.evaluate(
            "([pairs, model, options]) => ask(model, options, JSON.parse(pairs), 2)",
            [json.dumps(pairs), model, named],
        ))  # fmt: skip

    return ask


def check_equal(found: Any, answer: Answer, text: str) -> None:
    points = (answer.start, answer.end)
    assert (found["startCodePoint"], found["endCodePoint"]) == points, (found, answer)
    units = [len(text[:at].encode("utf-16-le", "surrogatepass")) // 2 for at in points]
    assert [found["start"], found["end"]] == units
    assert found["text"] == answer.text == text[slice(*points)]
    assert found["score"] == pytest.approx(answer.score, abs=1e-3)
    assert (found["confidence"] is None) == (answer.confidence is None)
    if answer.confidence is not None:
        assert found["confidence"] == pytest.approx(answer.confidence, abs=1e-3)
    if answer.text:
        assert found["logit"] == pytest.approx(answer.logit, abs=1e-3)
        assert found["noAnswerLogit"] == pytest.approx(answer.no_answer_logit, abs=1e-3)
    assert found["spent"]["configuration"] == answer.spent.configuration
    assert found["spent"]["share"] == pytest.approx(answer.spent.share)
    assert found["spent"]["windows"] == answer.spent.windows


@pytest.mark.filterwarnings("ignore:a question of")
@pytest.mark.parametrize("options", OPTIONS + ALSO, ids=str)
def test_the_page_answers_as_python_does_in_any_script(ask: Ask, qa: QuestionAnswerer, options: dict[str, Any]) -> None:
    for (question, text), found in zip(PAIRS, ask(PAIRS, **options), strict=True):
        expected = qa(question, text, **options)
        if "top_k" not in options:
            found, expected = [found], [expected]
        assert len(found) == len(expected), (found, expected)
        for one, answer in zip(found, expected, strict=True):
            check_equal(one, answer, text)


@pytest.mark.filterwarnings("ignore:a question of")
def test_the_page_answers_in_int8_as_python_does(ask: Ask) -> None:
    qa = QuestionAnswerer(precision="int8")
    for budget in ("full", "balanced"):
        for (question, text), found in zip(PAIRS, ask(PAIRS, "int8", budget=budget), strict=True):
            answer = qa(question, text, budget=budget)
            assert (found["text"], found["startCodePoint"]) == (answer.text, answer.start)
            assert found["score"] == pytest.approx(answer.score, abs=0.1)  # a last bit can become a step of INT8


@pytest.mark.filterwarnings("ignore:a question of")
def test_the_page_answers_with_a_model_without_a_table_or_calibration(ask: Ask, tiny: QuestionAnswerer) -> None:
    for budget in ("full", "fast", 0.7):
        for (question, text), found in zip(PAIRS, ask(PAIRS, "tiny", budget=budget), strict=True):
            check_equal(found, tiny(question, text, budget=budget), text)


def test_the_page_answers_from_a_text_of_100_kilobytes(ask: Ask, qa: QuestionAnswerer) -> None:
    filler = [f"The keeper of lamp {i} noted 😀 {i * 7} ships, as on the day before.\n" for i in range(1500)]
    text = "".join([*filler[:900], "The lighthouse was painted by Wilhelmina Oyelaran. ", *filler[900:]])
    assert len(text.encode()) > 100_000
    question = "Who painted the lighthouse?"
    (found,) = ask([(question, text)], budget=0.3)
    assert found["text"] == "Wilhelmina Oyelaran"
    check_equal(found, qa(question, text, budget=0.3), text)


def test_the_page_refuses_an_empty_question_and_a_wrong_option_with_its_value(ask: Ask) -> None:
    for question in ("", " \n\t\u2003", "\u200b\ufeff"):
        (found,) = ask([(question, LIGHTHOUSE)])
        assert found == {"error": "EmptyQuestionError", "message": "the question is empty"}
    (found,) = ask([("Who?", LIGHTHOUSE)], budget=7)
    assert found["error"] == "BudgetError"
    assert "not 7" in found["message"]
    (found,) = ask([("Who?", LIGHTHOUSE)], top_k=0)
    assert found == {"error": "OptionError", "message": "topK must be at least 1, not 0"}


def test_loading_names_the_file_that_is_missing(page: Page) -> None:
    found = page.evaluate("loadOnly('/broken/')")
    assert found.startswith("ModelError: ")
    assert "answering.json cannot be read: the server answered 404" in found or ".json" in found


@needs_squad
@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("budget", ["full", "balanced"])
def test_the_page_answers_500_questions_of_squad_as_python_does(ask: Ask, qa: QuestionAnswerer, budget: str) -> None:
    titles = PACKAGE.parent.joinpath("recipes", "heldout-select.txt").read_text("utf-8").splitlines()
    questions = [q for q in read_squad(SQUAD / "train-v1.1.json.gz").questions if q.title in titles]
    chosen = random.Random(26).sample(questions, 500)
    for i in range(0, len(chosen), 50):
        pairs = [(q.question, q.context) for q in chosen[i : i + 50]]
        answers = qa([p[0] for p in pairs], [p[1] for p in pairs], budget=budget)
        for (_, text), found, answer in zip(pairs, ask(pairs, budget=budget), answers, strict=True):
            check_equal(found, answer, text)


def test_the_demo_answers_and_marks_the_place(browser: Browser, exported: Path) -> None:
    with serving({"demo": PACKAGE / "demo", "src": PACKAGE / "src", "node_modules": PACKAGE / "node_modules",
                  "model": exported / "int8"}, isolated=False) as address:  # fmt: skip
        page = browser.new_page()
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request", lambda r: None if r.url.startswith((address, "data:", "blob:")) else complaints.append(r.url)
        )
        page.goto(f"{address}/demo/index.html")
        expect(page.locator("#state")).to_contain_text("ready", timeout=120_000)
        page.locator("#text").fill(LIGHTHOUSE + "<b>😀</b> It is red.")
        page.locator("#question").fill("Who built the lighthouse?")
        page.locator("#ask").click()
        expect(page.locator("#answers li").first).to_contain_text("Agnes Moreau", timeout=60_000)
        expect(page.locator("#reading mark").first).to_have_text("Agnes Moreau")
        assert page.locator("#reading").text_content() == LIGHTHOUSE + "<b>😀</b> It is red."
        page.locator("#text").fill("")
        page.locator("#ask").click()
        expect(page.locator("#state")).to_contain_text("text has no words", timeout=60_000)
        page.close()
        assert complaints == []
