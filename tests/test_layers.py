"""Answers shown in their text, and what each layer left of it."""

from __future__ import annotations

import contextlib
import html
import io
import pickle
import re

import pytest

from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.layers import TokenLayers, as_html, as_text

QUESTION = "When was it built?"
TEXT = "The tower stands in Paris. It was built in 1889 by the company of Gustave Eiffel, and is 330 metres high."


def plain(markup: str) -> str:
    """What a browser shows of HTML, without the legend."""
    return html.unescape(re.sub("<[^>]*>", "", markup.rpartition("</div></div>")[0].rpartition('wrap:anywhere">')[2]))


def test_explain_changes_no_answer_and_tells_the_layers_of_each_token(qa: QuestionAnswerer) -> None:
    for budget in ("full", 0.3):
        answer = qa(QUESTION, TEXT, budget=budget, explain=True)
        assert answer == qa(QUESTION, TEXT, budget=budget)
        tokens = answer.layers
        assert tokens is not None
        assert (tokens.depth, tokens.text) == (6, TEXT)
        assert len(tokens.start) == len(tokens.end) == len(tokens.layers)
        assert "".join(TEXT[s:e] for s, e in zip(tokens.start, tokens.end, strict=True)) == TEXT.replace(" ", "")
        kept = [len(tokens.kept(layer)) for layer in range(1, 7)]
        assert kept == sorted(kept, reverse=True)
        assert (kept[-1] < len(tokens.layers)) == (budget != "full")
    assert qa(QUESTION, TEXT).layers is None
    assert pickle.loads(pickle.dumps(answer)).layers == tokens


def test_all_answers_and_the_empty_one_have_the_layers(qa: QuestionAnswerer) -> None:
    answers = qa(QUESTION, TEXT, top_k=3, score_threshold=0, budget=0.3, explain=True)
    assert len({id(answer.layers) for answer in answers}) == 1
    nothing = qa(QUESTION, "", explain=True)
    assert nothing.layers == TokenLayers(start=[], end=[], layers=[], depth=6, text="")
    assert nothing.layers.kept(1) == []


def test_a_token_of_two_windows_is_told_once(qa: QuestionAnswerer) -> None:
    text = " ".join(f"{TEXT} ({number})" for number in range(30))
    tokens = qa(QUESTION, text, budget=0.3, explain=True, max_seq_len=96, doc_stride=32, max_question_len=16).layers
    assert tokens is not None
    assert tokens.start == sorted(set(tokens.start))
    assert "".join(text[s:e] for s, e in zip(tokens.start, tokens.end, strict=True)) == text.replace(" ", "")


def test_the_heat_map_has_the_whole_text_with_the_layer_of_each_token(qa: QuestionAnswerer) -> None:
    answer = qa(QUESTION, TEXT, budget=0.3, explain=True)
    markup = answer._repr_html_()
    assert markup is not None
    assert plain(markup) == TEXT
    assert answer.layers is not None
    titles = re.findall('<span title="([^"]*)"', markup.partition('wrap:anywhere">')[2])
    assert titles.count("never dropped: passed all 6 layers") == answer.layers.layers.count(6)
    assert titles.count("dropped in the first layer") == answer.layers.layers.count(0)
    assert "outline:2px solid" in markup.partition(">1889<")[0][-200:]
    assert qa(QUESTION, TEXT)._repr_html_() is None  # a notebook then shows what Python does


def test_an_answer_that_cuts_a_token_is_outlined_alone() -> None:
    tokens = TokenLayers(start=[0, 4], end=[3, 9], layers=[1, 2], depth=2, text="the tower.")
    markup = as_html("", "the tower.", 6, 9, tokens)
    assert plain(markup) == "the tower."
    assert re.findall("outline:2px[^>]*>([^<]*)<", markup) == ["wer"]


@pytest.mark.parametrize(
    "text",
    [
        '<b>The</b> & "tower" is <script>alert(1)</script> 1889',
        "👩‍🚀 1889 été\u0301",
        "x" * 50_000 + " 1889",
    ],
)
def test_any_text_is_shown_as_text(qa: QuestionAnswerer, text: str) -> None:
    answer = qa(QUESTION, text, budget=0.3, explain=True)
    markup = answer._repr_html_() or ""
    assert plain(markup).strip("… ") in text
    assert answer.text in plain(markup)
    assert "<script" not in markup
    assert "<b>" not in markup
    assert len(markup) < 3_000_000


def test_show_prints_what_each_layer_left(qa: QuestionAnswerer, capsys: pytest.CaptureFixture[str]) -> None:
    answer = qa(QUESTION, TEXT, budget=0.3, explain=True)
    answer.show()
    printed = capsys.readouterr().out
    head, *lines = printed.splitlines()
    assert head.startswith("1889   score 0.9")
    assert head.endswith(f"{answer.spent.configuration}, {answer.spent.share:.0%} of full")
    assert answer.spent.share <= 0.3
    assert "in [1889] by" in lines[0]
    counts = [int(n) for n in re.findall(r"after layers? \d.*: (\d+) of \d+ tokens", printed)]
    assert counts == sorted(set(counts), reverse=True)
    assert "·" in lines[-1]
    qa(QUESTION, TEXT, explain=True).show()
    assert capsys.readouterr().out.endswith("no token was dropped: ask at a lower budget\n")
    qa(QUESTION, TEXT).show()
    assert capsys.readouterr().out.splitlines()[1].strip().startswith("It was built in [1889] by")
    qa(QUESTION, "", explain=True).show()
    assert capsys.readouterr().out.startswith("(no answer)")


def test_half_pairs_of_utf16_are_shown_as_unknown(qa: QuestionAnswerer) -> None:
    answer = qa(QUESTION, f"\ud83d {TEXT} \ude00", explain=True)
    (answer._repr_html_() or "").encode()
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with contextlib.redirect_stdout(stream):
        answer.show()
    stream.seek(0)
    assert "in [1889] by" in stream.read()


def test_a_text_is_printed_in_part_and_controls_nothing() -> None:
    text = "\x1b[31m" + "word " * 5000 + "1889 " + "word " * 5000
    start = text.index("1889")
    printed = as_text("head", text, start, start + 4)
    assert "[1889]" in printed
    assert printed.count("…") == 2
    assert len(printed) < 400
    assert "\x1b" not in as_text("", text, 0, 5)
