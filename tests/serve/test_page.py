"""The page, in a real Chromium. A test fails, too, if the page complains, breaks its policy or calls another host."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra: pip install 'dynamic-tinybert[serve]'")
pytest.importorskip("uvicorn", reason="needs the extra: pip install 'dynamic-tinybert[serve]'")
pytest.importorskip("playwright", reason="needs playwright: pip install playwright")

from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from dynamic_tinybert.corpus import Corpus
from dynamic_tinybert.qa import QuestionAnswerer
from dynamic_tinybert.serve import Engine, ServeOptions, create_app, wrap
from dynamic_tinybert.serve.http import Server
from support.formats import pdf

pytestmark = [pytest.mark.serve, pytest.mark.browser]

ASTRAL = (
    "😀 The 𝒯ower (🗼) stands in Paris,\nnot in Zürich. 👩‍🚀 Apollo 11 was launched from Florida on 16 July 1969. 🚀"
)

# The text on display, cut where the layer changes: [text, layer or null].
PIECES = """reading => {
  const pieces = [];
  const walk = document.createTreeWalker(reading, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const run = walk.currentNode.parentElement.closest(".run");
    pieces.push([walk.currentNode.data, run ? Number(run.dataset.layer) : null]);
  }
  return pieces;
}"""

# The contrast of each element's text with what is behind it, by WCAG.
CONTRAST = """elements => {
  const parse = color => color.match(/[\\d.]+/g).map(Number);
  const light = color => {
    const [r, g, b] = color.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.length < 4 || color[3] === 1) return color.slice(0, 3);
    }
    return [255, 255, 255];
  };
  return elements.map(element => {
    const style = getComputedStyle(element);
    const [a, b] = [light(parse(style.color).slice(0, 3)), light(behind(element))].sort((x, y) => y - x);
    return [`${element.tagName} ${element.id} ${element.className}: ${element.textContent.slice(0, 30)}`,
            (a + 0.05) / (b + 0.05)];
  });
}"""


@dataclass
class Watch:
    """What a page does that it must not; `failures` are the responses that a test asks for."""

    host: str
    failures: set[int] = field(default_factory=set)
    gone: bool = False
    complaints: list[str] = field(default_factory=list)

    def over(self, page: Page) -> None:
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("console", self.console)
        page.on("request", self.request)

    def console(self, message: Any) -> None:
        expected = [f"status of {status}" for status in self.failures] + ["net::ERR"] * self.gone
        if message.type in ("error", "warning") and not any(text in message.text for text in expected):
            self.complaints.append(f"{message.type}: {message.text}")

    def request(self, request: Any) -> None:
        if not request.url.startswith((self.host, "data:")):
            self.complaints.append(f"called {request.url}")


@contextlib.contextmanager
def serving(qa: QuestionAnswerer, index: Path | None = None) -> Iterator[str]:
    """The URL of a server that gives what is asked for, however slow the machine."""
    options = ServeOptions(port=0, slo_ms=None)
    ready = threading.Event()
    engine = Engine(qa, options, workers=1)
    if index is not None:
        engine.corpora["docs"] = Corpus(index, qa=engine.qa)
    server = Server(wrap(create_app(engine, options), options), options, ready=lambda url: ready.set())
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert ready.wait(60)
    yield server.url.rstrip("/")
    server.stop()
    thread.join(60)


@pytest.fixture(scope="module")
def server(qa: QuestionAnswerer) -> Iterator[str]:
    with serving(qa) as url:
        yield url


@pytest.fixture(scope="module")
def browser(chromium_path: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def watch(server: str) -> Watch:
    return Watch(server)


@pytest.fixture
def opened(browser: Browser, server: str, watch: Watch) -> Iterator[Callable[..., Page]]:
    contexts = []

    def open_page(*, width: int = 1280, height: int = 800, scheme: str = "light", before: Any = None) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            reduced_motion="reduce",
        )
        contexts.append(context)
        context.set_default_timeout(20_000)
        page = context.new_page()
        watch.over(page)
        if before:
            before(page)
        page.goto(server + "/")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert watch.complaints == []


@pytest.fixture
def page(opened: Callable[..., Page]) -> Page:
    return opened()


def ask(page: Page, question: str | None = None, text: str | None = None) -> dict[str, Any]:
    """Ask by clicking; the one result of the reply."""
    if question is not None:
        page.fill("#question", question)
    if text is not None:
        if page.locator("#text").is_hidden():
            page.click("#edit")
        page.fill("#text", text)
    return replied(page, lambda: page.click("#go"))


def replied(page: Page, act: Callable[[], Any]) -> dict[str, Any]:
    """The result of the reply to what an action asks, once it is shown."""
    with page.expect_response("**/answer") as response:
        act()
    (result,) = response.value.json()["results"]
    expect(page.locator("#progress")).to_be_hidden()
    return result


def fake(body: Any, *, status: int = 200, **headers: str) -> Callable[[Route], None]:
    """A response to hand to `page.route`."""
    kind = "application/json" if status == 200 else "application/problem+json"
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda route: route.fulfill(status=status, body=json.dumps(body), headers={"Content-Type": kind} | headers)


def problem(status: int, detail: str, **more: Any) -> dict[str, Any]:
    return {"type": "about:blank", "title": "Problem", "status": status, "detail": detail, "code": "x", **more}


def result(answers: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    spent = {"configuration": "full", "share": 1.0, "windows": 1, "macs": 10, "bert_base_macs": 80}
    times = {"queue_ms": 0.5, "read_ms": 9.5, "tokens": None}
    return {"model": "embedded", "total_ms": 10.5, "results": [{"answers": answers, **spent, **times, **more}]}


def span(text: str, words: str, score: float = 0.5, **more: Any) -> dict[str, Any]:
    start = text.index(words)
    where = {"start": start, "end": start + len(words)}
    return {"text": words, **where, "score": score, "logit": 1.0, "confidence": score, **more}


def tab_to(page: Page, selector: str, *, back: bool = False) -> None:
    for _ in range(40):
        page.keyboard.press("Shift+Tab" if back else "Tab")
        if page.locator(selector).evaluate("element => element === document.activeElement"):
            return
    raise AssertionError(f"the Tab key never comes to {selector}")


def width_beyond(page: Page) -> int:
    return page.evaluate("document.documentElement.scrollWidth - innerWidth")


def test_the_first_click_shows_an_answer_in_its_place(page: Page) -> None:
    before = page.input_value("#text")
    answers = ask(page)["answers"]
    expect(page.locator("#best")).to_have_text(answers[0]["text"])
    expect(page.locator("#reading mark.chosen")).to_have_text(before[answers[0]["start"] : answers[0]["end"]])
    expect(page.locator("#reading mark.chosen")).to_be_in_viewport()
    assert page.locator("#reading").evaluate("e => e.textContent") == before
    expect(page.locator("#said")).to_contain_text(f"Answer: {answers[0]['text']}")


def test_places_are_counted_in_characters_not_in_utf_16_units(page: Page) -> None:
    answers = ask(page, "When was Apollo 11 launched?", ASTRAL)["answers"]
    assert answers[0]["text"] == ASTRAL[answers[0]["start"] : answers[0]["end"]]
    expect(page.locator("#reading mark.chosen")).to_have_text(answers[0]["text"])
    shown = page.locator("#reading mark").evaluate_all(
        "marks => marks.map(mark => [Number(mark.dataset.candidate), mark.textContent])"
    )
    assert {i: answers[i]["text"] for i, _ in shown} == dict(shown)
    assert page.locator("#reading").evaluate("e => e.textContent") == ASTRAL


def test_an_answer_far_down_is_scrolled_into_view(page: Page) -> None:
    ask(page, "Where was Apollo 11 launched?", "Nothing of it is said here.\n\n" * 60 + ASTRAL)
    expect(page.locator("#reading mark.chosen")).to_be_in_viewport()
    assert page.locator("#reading").evaluate("e => e.scrollTop") > 500


def test_candidates_are_chosen_with_the_arrow_keys(page: Page) -> None:
    answers = ask(page)["answers"]
    assert len(answers) == page.locator(".candidate").count() == 5
    for answer, row in zip(answers, page.locator(".candidate").all(), strict=True):
        expect(row.locator(".words")).to_have_text(answer["text"])
        expect(row).to_contain_text("confidence")
    page.focus(".candidate input:checked")
    for answer in answers[1:3]:
        page.keyboard.press("ArrowDown")
        expect(page.locator("#best")).to_have_text(answer["text"])
        expect(page.locator("#reading mark.chosen")).to_have_text(answer["text"])
    assert page.locator("#reading mark:not(.chosen)").count() == 4


def test_the_budget_asks_again_and_says_what_was_spent(page: Page) -> None:
    info = page.request.get(page.url + "info").json()
    assert ask(page)["configuration"] == "full"
    asked: list[dict[str, Any]] = []
    page.on("request", lambda request: request.url.endswith("/answer") and asked.append(request.post_data_json))
    page.focus("#budget")
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    expect(page.locator("#configuration")).not_to_have_text("full")
    assert len(asked) == 1  # it rests before it asks
    budget = asked[0]["budget"]
    (row,) = [c for c in info["configurations"] if c["name"] == info["budgets"].get(budget) or c["share"] == budget]
    expect(page.locator("#configuration")).to_have_text(row["name"])
    expect(page.locator("#share")).to_have_text(f"{round(row['share'] * 100)}% of full")
    expect(page.locator("#total")).to_have_text(re.compile(r"^[\d.,]+ ms$"))
    expect(page.locator("#times")).to_have_text(re.compile(r"^queue [\d.,]+, read [\d.,]+$"))
    expect(page.locator("#measured-on")).to_have_text("on " + info["measured_on"])  # F1 never stands alone
    expect(page.locator("#less")).to_be_hidden()
    for name in ("fast", "balanced"):
        spent = replied(page, page.get_by_role("button", name=name).click)
        assert spent["configuration"] == info["budgets"][name]
        expect(page.locator("#configuration")).to_have_text(info["budgets"][name])
        expect(page.locator("#budget")).to_have_attribute("aria-valuetext", re.compile(name))


@pytest.mark.parametrize("width", [320, 400, 1000, 1280])
def test_names_of_budgets_never_overlap(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    expect(page.locator("#budget")).to_be_enabled()
    names = page.locator("#names button")
    # Neighbours on the slider, as another model's table may have them.
    names.nth(1).evaluate("(name) => { name.style.left = document.querySelector('#names button').style.left; }")
    page.evaluate("dispatchEvent(new Event('resize'))")
    boxes = [box for box in (names.nth(i).bounding_box() for i in range(names.count())) if box]
    assert len(boxes) == 3
    for one, other in itertools.combinations(boxes, 2):
        apart_x = one["x"] + one["width"] <= other["x"] + 1 or other["x"] + other["width"] <= one["x"] + 1
        apart_y = one["y"] + one["height"] <= other["y"] + 1 or other["y"] + other["height"] <= one["y"] + 1
        assert apart_x or apart_y, boxes


def test_every_stop_of_the_slider_gets_the_configuration_it_names(page: Page, server: str) -> None:
    expect(page.locator("#budget")).to_be_enabled()
    page.route("**/answer", lambda route: (asked.append(route.request.post_data_json), fake(result([]))(route)))
    asked: list[dict[str, Any]] = []
    ask(page)
    page.focus("#budget")
    stops = int(page.get_attribute("#budget", "max") or 0) + 1
    shares = [page.get_attribute("#budget", "aria-valuetext") or ""]
    for _ in range(stops - 1):
        with page.expect_response("**/answer"):
            page.keyboard.press("ArrowLeft")
        shares.append(page.get_attribute("#budget", "aria-valuetext") or "")
    page.unroute("**/answer")
    for request, said in zip(asked, shares, strict=True):
        body = {"question": "Who?", "text": "Nobody.", "budget": request["budget"]}
        (spent,) = page.request.post(server + "/answer", data=body).json()["results"]
        assert said.endswith(f"{round(spent['share'] * 100)}% of full")


def test_load_control_that_gives_less_is_named(page: Page) -> None:
    less = result([span(page.input_value("#text"), "1930")], configuration="search-0.55", share=0.5465)
    page.route("**/answer", fake(less))
    ask(page)
    expect(page.locator("#less")).to_contain_text("load control gave 55%")
    expect(page.locator("#less")).to_contain_text("full (100%)")
    expect(page.locator("#said")).to_contain_text("load control gave 55%")


def test_the_heat_map_covers_the_text_and_agrees_with_the_api(page: Page) -> None:
    ask(page, "When was Apollo 11 launched?", ASTRAL)
    replied(page, lambda: page.click("#layers"))
    expect(page.locator("#readout")).to_contain_text("full drops nothing")
    spent = replied(page, page.get_by_role("button", name="fast").click)
    expect(page.locator("#readout")).to_contain_text(spent["configuration"])
    tokens = spent["tokens"]
    pieces = page.locator("#reading").evaluate(PIECES)
    assert "".join(text for text, _ in pieces) == ASTRAL
    layers = [layer for text, layer in pieces for _ in text]
    for start, end, layer in zip(tokens["start"], tokens["end"], tokens["layers"], strict=True):
        assert layers[start:end] == [layer] * (end - start), ASTRAL[start:end]
    assert len(set(layers) - {None}) > 2
    assert all(character.isspace() for character, layer in zip(ASTRAL, layers, strict=True) if layer is None)
    counts = [tokens["layers"].count(layer) for layer in range(7)]
    assert page.locator("#scale button").count() == 7
    for count, button in zip(counts, page.locator("#scale button").all(), strict=True):
        expect(button.locator("span")).to_have_text(f"{round(100 * count / sum(counts))}%")
    expect(page.locator("#reading mark.chosen")).to_have_text(spent["answers"][0]["text"])


def test_a_layer_is_told_by_more_than_its_colour(page: Page) -> None:
    ask(page)
    page.get_by_role("button", name="fast").click()
    page.click("#layers")
    run = page.locator("#reading.heat .run[data-layer='4']").first
    run.hover()
    expect(page.locator("#readout")).to_contain_text("dropped in layer 5, after passing 4 of 6")
    expect(run).to_have_attribute("title", "dropped in layer 5, after passing 4 of 6")
    page.check("#numbers")
    assert run.evaluate("run => getComputedStyle(run, '::after').content") in ('"4"', "attr(data-layer)")
    page.locator("#scale button").nth(4).click()
    expect(page.locator("#scale button").nth(4)).to_have_attribute("aria-pressed", "true")
    assert page.locator(".run.off[data-layer='4']").count() == 0
    assert page.locator(".run:not(.off):not([data-layer='4'])").count() == 0
    page.click("#layers")
    expect(page.locator(".run")).to_have_count(0)
    expect(page.locator("#legend")).to_be_hidden()


def test_all_of_it_works_by_keyboard(page: Page) -> None:
    expect(page.locator("#budget")).to_be_enabled()
    tab_to(page, "#question")
    page.keyboard.press("Control+A")
    page.keyboard.type("When was the tower's last aerial added?")
    replied(page, lambda: page.keyboard.press("Enter"))
    tab_to(page, "#edit")
    page.keyboard.press("Enter")
    expect(page.locator("#text")).to_be_focused()
    page.keyboard.press("Control+A")
    page.keyboard.type("The last aerial of the tower was added in March 2022.")
    answer = replied(page, lambda: page.keyboard.press("Control+Enter"))["answers"][0]
    expect(page.locator("#reading mark.chosen")).to_have_text(answer["text"])
    tab_to(page, "#layers")
    replied(page, lambda: page.keyboard.press("Space"))
    tab_to(page, "#budget")
    spent = replied(page, lambda: page.keyboard.press("Home"))
    assert spent["share"] < 0.5
    tab_to(page, "#reading", back=True)
    page.keyboard.press("ArrowRight")
    expect(page.locator("#readout")).to_contain_text("“")
    first = page.inner_text("#readout")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#readout")).not_to_have_text(first)
    tab_to(page, ".candidate input:checked")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#best")).to_have_text(spent["answers"][1]["text"])


def test_what_has_the_focus_shows_it(page: Page) -> None:
    ask(page)
    tab_to(page, "#question", back=True)
    for _ in range(14):
        page.keyboard.press("Tab")
        seen = page.evaluate(
            """() => {
              const at = document.activeElement;
              return [at, at.closest(".candidate, .slider, .ask-line")].filter(Boolean).some(element => {
                const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(element);
                return (outlineStyle !== "none" && outlineWidth !== "0px") || boxShadow !== "none";
              }) || at === document.body;
            }"""
        )
        assert seen, page.evaluate("document.activeElement.outerHTML")


def drop(page: Page, name: str, content: bytes) -> None:
    transfer = page.evaluate_handle(
        """([name, bytes]) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([new Uint8Array(bytes)], name));
          return transfer;
        }""",
        [name, list(content)],
    )
    page.dispatch_event("#budget", "dragenter", {"dataTransfer": transfer})
    expect(page.locator("#drop")).to_be_visible()
    page.dispatch_event("#budget", "drop", {"dataTransfer": transfer})
    expect(page.locator("#drop")).to_be_hidden()


def test_a_file_is_dropped_anywhere(page: Page) -> None:
    ask(page)
    drop(page, "towers.txt", "\ufeffThe 🗼 is in Tokyo.\r\nIt was built in 1958.\r\n".encode())
    expect(page.locator("#title")).to_have_text("towers.txt")
    assert page.input_value("#text") == "The 🗼 is in Tokyo.\nIt was built in 1958.\n"
    expect(page.locator("#best")).to_be_hidden()
    answer = ask(page, "When was it built?")["answers"][0]
    expect(page.locator("#reading mark.chosen")).to_have_text(answer["text"])


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("Zürich".encode("utf-16"), "Zürich"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", None),
        (b"PK\x03\x04\x00\x00", None),
    ],
)
def test_a_file_is_chosen_and_read_as_text_or_refused(page: Page, content: bytes, text: str | None) -> None:
    before = page.input_value("#text")
    page.set_input_files("#file", {"name": "a.txt", "mimeType": "text/plain", "buffer": content})
    if text is None:
        expect(page.locator("#problem")).to_contain_text("a.txt is not a text file")
    else:
        expect(page.locator("#title")).to_have_text("a.txt")
    assert page.input_value("#text") == (before if text is None else text)


def paste(page: Page, selector: str, text: str) -> None:
    page.locator(selector).evaluate(
        """(element, text) => {
          const clipboardData = new DataTransfer();
          clipboardData.setData("text/plain", text);
          element.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
        }""",
        text,
    )


def test_a_paste_beside_the_fields_is_a_new_text(page: Page) -> None:
    ask(page)
    paste(page, "#reading", "Pasted.")
    expect(page.locator("#text")).to_have_value("Pasted.")


def test_markup_in_a_text_is_shown_not_run(page: Page) -> None:
    text = "<script>hacked = 1</script> Paris &amp; <img src=x onerror='hacked = 1'> <b>Lyon</b>"
    ask(page, "Which <i>city</i>?", text)
    page.click("#layers")
    expect(page.locator("#reading.heat")).to_be_visible()
    assert page.locator("#reading").evaluate("e => e.textContent") == text
    assert page.locator("#reading :is(script, img, b)").count() == 0
    assert page.evaluate("typeof hacked") == "undefined"


def with_index(page: Page) -> None:
    def info(route: Route) -> None:
        body = route.fetch().json()
        route.fulfill(json=body | {"indexes": [{"name": "docs", "documents": 2, "passages": 9}]})

    page.route("**/info", info)


def test_an_index_shows_the_passage_with_its_title(opened: Callable[..., Page]) -> None:
    page = opened(before=with_index)
    passages = ["😀 The tower is <b>Koechlin</b>'s.", "Others say Eiffel 😀."]
    answers = [
        span(passages[0], "Koechlin", 0.7, document="a.txt", title="<i>Towers</i>", passage=passages[0]),
        span(passages[1], "Eiffel", 0.2, document="b.txt", title="", passage=passages[1]),
    ]
    for answer, begin in zip(answers, (1000, 0), strict=True):
        answer |= {"passage_start": begin, "start": answer["start"] + begin, "end": answer["end"] + begin}
        answer["retrieval"] = 3.0
    asked: list[dict[str, Any]] = []

    def reply(route: Route) -> None:
        asked.append(route.request.post_data_json)
        if "index" in asked[-1]:
            fake(result(answers))(route)
        else:
            tokens = {"start": [0, 2, 6], "end": [1, 5, 11], "layers": [0, 3, 6]}
            fake(result([], tokens=tokens))(route)

    page.route("**/answer", reply)
    page.select_option("#source", "docs")
    expect(page.locator("#reading")).to_contain_text("the passage that answers is shown here")
    expect(page.locator("#text")).to_be_hidden()
    ask(page, "Who designed it?")
    assert asked[0]["index"] == "docs"
    assert "text" not in asked[0]
    expect(page.locator("#title")).to_have_text("<i>Towers</i>")
    expect(page.locator("#size")).to_have_text("passage from character 1,000")
    expect(page.locator("#reading mark.chosen")).to_have_text("Koechlin")
    assert page.locator("#reading").evaluate("e => e.textContent") == passages[0]
    page.click(".candidate >> nth=1")
    expect(page.locator("#title")).to_have_text("b.txt")
    expect(page.locator("#reading mark.chosen")).to_have_text("Eiffel")
    page.click("#layers")
    expect(page.locator("#reading.heat .run")).to_have_count(3)
    assert (asked[-1]["text"], asked[-1]["explain"], asked[-1]["budget"]) == (passages[1], True, "full")
    page.select_option("#source", "")
    expect(page.locator("#text")).to_be_visible()
    expect(page.locator("#best")).to_be_hidden()


# The middle of what is of the mark's colour in the picture, as shares of its width and height.
MARKED = """async picture => {
  await picture.decode();
  const { naturalWidth: width, naturalHeight: height } = picture;
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.drawImage(picture, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  let [x, y, count] = [0, 0, 0];
  for (let i = 0; i < data.length; i += 4)
    if (data[i] === 255 && data[i + 1] === 236 && data[i + 2] === 120) {
      x += (i / 4) % width;
      y += Math.floor(i / 4 / width);
      count += 1;
    }
  return count ? [x / count / width, y / count / height] : null;
}"""


def test_the_page_of_a_pdf_is_shown_with_the_answer_marked(
    browser: Browser, qa: QuestionAnswerer, tmp_path: Path
) -> None:
    pytest.importorskip("pypdfium2", reason="needs the extra: pip install 'dynamic-tinybert[corpus]'")
    pytest.importorskip("tantivy", reason="needs the extra: pip install 'dynamic-tinybert[corpus]'")
    manual = tmp_path / "manual.pdf"
    filler = [f"Line {number} of the manual." for number in range(30)]
    lines = [*filler, "The warranty ends after five years.", *filler[:10]]
    manual.write_bytes(pdf(["The pump", "\n".join(lines)], title="Manual <b>1</b>"))
    (tmp_path / "gate.txt").write_text("The gate opens at noon.")
    Corpus(tmp_path / "index", qa=qa).add(manual, tmp_path / "gate.txt")
    with serving(qa, tmp_path / "index") as url, contextlib.closing(browser.new_context()) as context:
        page, watch = context.new_page(), Watch(url)
        watch.over(page)
        page.goto(url)
        page.locator("#source option >> nth=1").wait_for(state="attached")
        page.select_option("#source", "docs")
        expect(page.locator("#leaf")).to_be_hidden()
        ask(page, "When does the warranty end?")
        expect(page.locator("#reading mark.chosen")).to_have_text("after five years")
        expect(page.locator("#sheet-name")).to_have_text("Page 2 of Manual <b>1</b>")
        picture = page.locator("#sheet-picture")
        expect(picture).to_have_attribute("alt", "Page 2, with “after five years” marked")
        x, y = picture.evaluate(MARKED)
        assert (x, y) == (pytest.approx(0.33, abs=0.06), pytest.approx((72 + 31 * 14 - 4) / 792, abs=0.02))
        view = page.locator("#sheet-view").bounding_box()
        box = picture.bounding_box()
        assert view
        assert box
        assert view["y"] < box["y"] + y * box["height"] < view["y"] + view["height"]  # it is scrolled into view
        page.click("#leaf")
        expect(page.locator("#sheet")).to_be_hidden()
        expect(page.locator("#leaf")).to_have_attribute("aria-pressed", "false")
        page.click("#leaf")
        expect(picture).to_be_visible()
        ask(page, "When does the gate open?")
        expect(page.locator("#sheet")).to_be_hidden()
        expect(page.locator("#leaf")).to_be_hidden()
        manual.write_bytes(pdf(["Another"]))
        watch.failures.add(409)
        ask(page, "When does the warranty end?")
        expect(page.locator("#sheet-name")).to_contain_text(
            "There is no page to show: the file of this document is gone"
        )
        expect(picture).to_be_hidden()
        expect(page.locator("#best")).to_have_text("after five years")
        page.select_option("#source", "")
        expect(page.locator("#sheet")).to_be_hidden()
        assert watch.complaints == []


def test_a_text_of_a_million_characters_is_shown_in_part(page: Page) -> None:
    text = "😀 word " * 142_000
    text = text[:500_000] + "Paris" + text[500_005:]
    tokens = [match.span() for match in re.finditer(r"\S+", text)]
    explained = {
        "start": [start for start, _ in tokens],
        "end": [end for _, end in tokens],
        "layers": [i % 7 for i in range(len(tokens))],
    }
    far = {"text": "word", "start": 900_002, "end": 900_006, "score": 0.1, "logit": 0.0, "confidence": 0.1}
    far |= {"text": text[900_002:900_006]}
    page.route("**/answer", fake(result([span(text, "Paris"), far], tokens=explained, windows=3000)))
    page.fill("#text", "")
    paste(page, "#text", text)
    expect(page.locator("#range")).to_contain_text("Characters 0 to 12,000 of 994,000 are shown")
    ask(page)
    expect(page.locator("#reading mark.chosen")).to_have_text("Paris")
    expect(page.locator("#reading mark.chosen")).to_be_in_viewport()
    expect(page.locator("#range")).to_have_text(
        "Characters 494,002 to 506,002 of 994,000 are shown. All of the text was read."
    )
    page.click("#layers")
    expect(page.locator("#reading.heat")).to_be_visible()
    assert page.evaluate("document.querySelectorAll('*').length") < 5000
    pieces = page.locator("#reading").evaluate(PIECES)
    assert "".join(text for text, _ in pieces) == f"… {text[494_002:506_002]} …"
    page.click(".candidate >> nth=1")
    expect(page.locator("#reading mark.chosen")).to_have_text(far["text"])
    page.click("#later")
    expect(page.locator("#range")).to_contain_text("Characters 905,504 to 917,504 of 994,000")
    page.get_by_role("button", name="Clear text").click()
    expect(page.locator("#text")).to_be_focused()
    expect(page.locator("#text")).to_have_value("")


def test_a_newer_question_takes_the_place_of_an_older(page: Page) -> None:
    expect(page.locator("#budget")).to_be_enabled()
    text = page.input_value("#text")
    held: list[Route] = []

    def reply(route: Route) -> None:
        if route.request.post_data_json["question"] == "slow?":
            held.append(route)
        else:
            fake(result([span(text, "New York")]))(route)

    page.route("**/answer", reply)
    page.fill("#question", "slow?")
    with page.expect_request("**/answer"):
        page.click("#go")
    expect(page.locator("#stop")).to_be_visible()
    with page.expect_event("requestfailed", lambda request: request.url.endswith("/answer")):
        ask(page, "fast?")
    expect(page.locator("#best")).to_have_text("New York")
    fake(result([span(text, "1930")]))(held[0])
    expect(page.locator("#best")).to_have_text("New York")
    page.fill("#question", "slow?")
    with page.expect_request("**/answer"):
        page.click("#go")
    with page.expect_event("requestfailed", lambda request: request.url.endswith("/answer")):
        page.keyboard.press("Escape")
    expect(page.locator("#progress")).to_be_hidden()
    expect(page.locator("#notice")).to_be_hidden()


def test_what_is_missing_is_said_where_it_is_missing(page: Page) -> None:
    expect(page.locator("#budget")).to_be_enabled()
    page.fill("#question", "  ")
    page.click("#go")
    expect(page.get_by_role("alert")).to_contain_text("There is no question yet")
    expect(page.locator("#question")).to_be_focused()
    page.fill("#question", "Who?")
    page.fill("#text", "\n")
    page.click("#go")
    expect(page.get_by_role("alert")).to_contain_text("There is no text yet")
    expect(page.locator("#text")).to_be_focused()
    assert ask(page, text="…")["answers"] is not None
    paste(page, "h1", "x" * 1_000_001)
    page.click("#go")
    expect(page.get_by_role("alert")).to_contain_text("The text has 1,000,001 characters; this server reads 1,000,000")


def test_a_text_without_an_answer(page: Page) -> None:
    page.route("**/answer", fake(result([])))
    ask(page)
    expect(page.locator("#best")).to_contain_text("No answer")
    expect(page.locator("#candidates")).to_be_hidden()


def test_an_error_is_told_in_the_servers_words(page: Page, watch: Watch) -> None:
    watch.failures.add(422)
    errors = [{"field": "question", "message": "it is <b>odd</b>"}]
    page.route("**/answer", fake(problem(422, "a field is wrong", errors=errors), status=422))
    page.click("#go")
    expect(page.get_by_role("alert")).to_contain_text("a field is wrong")
    expect(page.get_by_role("alert").locator("li")).to_have_text("question: it is <b>odd</b>")
    page.unroute("**/answer")
    ask(page)
    expect(page.locator("#notice")).to_be_hidden()


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again_when_it_says(page: Page, watch: Watch, status: int) -> None:
    watch.failures.add(status)
    page.route("**/answer", fake(problem(status, "come back later"), status=status, Retry_After="2"), times=1)
    page.click("#go")
    expect(page.get_by_role("alert")).to_contain_text("come back later")
    expect(page.locator("#waiting")).to_have_text(re.compile(r"Asking again in [12] s\."))
    expect(page.get_by_role("button", name="Ask now")).to_be_visible()
    expect(page.locator("#best")).to_have_text("Chrysler")
    expect(page.locator("#notice")).to_be_hidden()


def test_a_server_with_keys_gets_one(opened: Callable[..., Page], watch: Watch) -> None:
    watch.failures.add(401)

    def guard(route: Route) -> None:
        if route.request.headers.get("authorization") == "Bearer s3cret":
            route.continue_()
        else:
            fake(problem(401, "bring an API key"), status=401)(route)

    def guarded(page: Page) -> None:
        page.route(re.compile("/(info|answer)$"), guard)

    page = opened(before=guarded)
    expect(page.get_by_role("alert")).to_contain_text("bring an API key")
    expect(page.get_by_label("API key")).to_be_focused()
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("The key was not accepted")
    page.keyboard.type("s3cret")
    page.keyboard.press("Enter")
    expect(page.locator("#notice")).to_be_hidden()
    expect(page.locator("#budget")).to_be_enabled()
    page.reload()
    ask(page)
    assert page.evaluate("Object.values(sessionStorage)") == ["s3cret"]
    assert page.evaluate("localStorage.length") == 0


def test_a_server_that_is_gone(page: Page, watch: Watch) -> None:
    watch.gone = True
    expect(page.locator("#budget")).to_be_enabled()
    page.route("**/answer", lambda route: route.abort("connectionrefused"))
    page.click("#go")
    expect(page.get_by_role("alert")).to_contain_text("The server does not answer")
    page.unroute("**/answer")
    replied(page, page.get_by_role("button", name="Ask again").click)
    expect(page.locator("#notice")).to_be_hidden()


def test_behind_a_prefix(opened: Callable[..., Page], server: str) -> None:
    page = opened()
    page.route(
        "**/some/prefix/**",
        lambda route: route.fulfill(response=route.fetch(url=route.request.url.replace("/some/prefix", ""))),
    )
    page.goto(server + "/some/prefix/")
    ask(page)
    expect(page.locator("#best")).to_have_text("Chrysler")


def test_a_phone_scrolls_in_one_direction(opened: Callable[..., Page], watch: Watch) -> None:
    page = opened(width=360, height=740, before=with_index)
    watch.failures.add(500)
    expect(page.locator("#source")).to_be_visible()
    assert width_beyond(page) <= 0
    ask(page)
    expect(page.locator("#reading mark.chosen")).to_be_in_viewport()
    assert width_beyond(page) <= 0
    page.get_by_role("button", name="fast").click()
    page.click("#layers")
    expect(page.locator("#reading.heat")).to_be_visible()
    page.check("#numbers")
    assert width_beyond(page) <= 0
    ask(page, "W" * 200, "x" * 3000 + " Paris")
    assert width_beyond(page) <= 0
    page.route("**/answer", fake(problem(500, "e" * 300), status=500))
    page.click("#go")
    expect(page.get_by_role("alert")).to_be_visible()
    assert width_beyond(page) <= 0
    small = page.locator("button:visible, select:visible, .candidate, .check").evaluate_all(
        """all => all.map(element => [element.outerHTML, element.getBoundingClientRect()])
                     .filter(([_, { width, height }]) => width < 24 || height < 24)"""
    )
    assert small == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(opened: Callable[..., Page], watch: Watch, scheme: str) -> None:
    def twelve_layers(page: Page) -> None:  # so that the legend has all shades
        def info(route: Route) -> None:
            body = route.fetch().json()
            route.fulfill(json=body | {"model": body["model"] | {"layers": 12}})

        page.route("**/info", info)

    def check(selector: str) -> None:
        found = page.locator(selector).evaluate_all(CONTRAST)
        assert found, selector
        assert [(what, ratio) for what, ratio in found if ratio < 4.5] == []

    watch.failures.add(401)
    page = opened(scheme=scheme, before=twelve_layers)
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert dark == (scheme == "dark")
    check("#hint, #text, #question, #go, #choose, #layers, #model, label:visible, .head a")
    ask(page)
    check("#best, #best-scores, #reading, #reading mark, .candidate span, #budget-says, #names button")
    check("#spent dt, #spent dd, #spent b, #spent .soft, summary, #size")
    page.click("#layers")
    expect(page.locator("#scale button")).to_have_count(13)
    check("#scale b, #scale span, #readout, #legend-title, #reading .run")
    page.locator("#scale button").nth(0).click()
    check("#reading .run")
    page.route("**/answer", fake(problem(401, "a key"), status=401))
    page.click("#go")
    expect(page.locator("#key-form")).to_be_visible()
    check("#problem, #key-form label, #key-form p, #key-form button")


def test_shades_differ_in_lightness_not_in_hue_alone(opened: Callable[..., Page]) -> None:
    for scheme in ("light", "dark"):
        page = opened(scheme=scheme)
        ask(page)
        page.click("#layers")
        expect(page.locator("#scale button")).to_have_count(7)
        shades = page.locator("#scale button").evaluate_all(
            "all => all.map(e => getComputedStyle(e).backgroundColor.match(/[\\d.]+/g).map(Number))"
        )
        weights = (0.2126, 0.7152, 0.0722)
        luminance = [sum(w * (v / 255) ** 2.2 for w, v in zip(weights, shade, strict=True)) for shade in shades]
        ordered = sorted(luminance, reverse=scheme == "light")
        assert luminance == ordered
        ratios = [(max(a, b) + 0.05) / (min(a, b) + 0.05) for a, b in itertools.pairwise(luminance)]
        assert min(ratios) > 1.05


def test_what_can_be_used_has_a_name(opened: Callable[..., Page]) -> None:
    page = opened(before=with_index)
    ask(page)
    page.click("#layers")
    expect(page.locator("#scale button")).to_have_count(7)
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.locator("h1").count() == 1
    assert page.locator("main").count() == 1
    ids = page.locator("[id]").evaluate_all("all => all.map(e => e.id)")
    assert len(ids) == len(set(ids))
    tree = page.locator("body").aria_snapshot()
    roles = "button|textbox|slider|radio|checkbox|combobox|link"
    for nameless in re.findall(rf"^\s*- (?:{roles})(?: \[.*\])*:?$", tree, re.MULTILINE):
        raise AssertionError(f"without a name: {nameless}\n{tree}")
    for named in ('textbox "Question"', 'slider "Budget"', 'group "Candidates"', 'button "Layers" [pressed]'):
        assert named in tree
