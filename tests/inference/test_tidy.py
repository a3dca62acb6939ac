"""Spans that a person would underline."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.inference import SpanRanker, TextTokenizer, Tokens, cut_windows
from dynamic_tinybert.inference.characters import whole_characters
from dynamic_tinybert.inference.tidy import (
    is_sensible,
    line_ends,
    sensible,
    stretched,
    whole_pairs,
    words_of_unspaced,
)


@pytest.fixture(scope="module")
def tokenizer(embedded: Path) -> TextTokenizer:
    return TextTokenizer(embedded)


def ranked(tokenizer: TextTokenizer, text: str, *wanted: str, top_k: int = 1, align: bool = True) -> list[str]:
    """The answers of a model that wants certain spans, each a little less than the one before."""
    (window,) = cut_windows(tokenizer, np.array([5, 6]), tokenizer.text(text), max_seq_len=384, doc_stride=0)
    start, end = np.zeros((2, len(window)), np.float32)
    for number, part in enumerate(wanted):
        at = text.index(part)
        first = int(np.searchsorted(window.text.end, at, "right"))
        last = int(np.searchsorted(window.text.start, at + len(part), "left")) - 1
        start[window.offset + first] = end[window.offset + last] = 9 - number
    ranker = SpanRanker(text, top_k=top_k, max_answer_len=30, align_to_words=align)
    ranker.add(window, start, end)
    return [text[span.start : span.end] for span in ranker.ranked()]


@pytest.mark.parametrize(
    ("text", "wanted", "shown"),
    [
        ("Import it from py.typed now.", "typed", "py.typed"),
        ("Set it in pyproject.toml.", "toml", "pyproject.toml"),
        ("Build with --disable-gil here.", "gil", "--disable-gil"),
        ("Use @cached.property there.", "cached", "@cached.property"),
        ("It takes CR123A cells.", "CR123A", "CR123A"),
        ("It costs EUR 4,200 a year.", "4", "EUR 4,200"),
        ("It costs EUR 4,200 a year.", "200", "EUR 4,200"),
        ("We meet at 19:30, not later.", "30", "19:30"),
        ("Write to jo.do@example.org.", "example", "jo.do@example.org"),
        ("See https://example.org/a/b?c=1, there.", "example", "https://example.org/a/b?c=1"),
        ("Heat it to 74 °C now.", "74", "74 °C"),
        ("It rose by 12.5 % then.", "12", "12.5 %"),
        ("Edit /etc/hosts.deny first.", "hosts", "/etc/hosts.deny"),
        ("Call os_path_join() at last.", "path", "os_path_join()"),
        ("It ended.The next came.", "ended", "ended"),
        ("Tom.he is", "Tom", "Tom"),
        ("He was born in Berlin.12 Later", "Berlin", "Berlin"),
        ("He was born in 1999.12 Later", "1999", "1999"),
        ("They went to Brazil.3 In", "Brazil", "Brazil"),
        ("Version 3.14 is out.", "14", "3.14"),
        ("The Paris-based firm.", "Paris", "Paris"),
        ("In 1995, 1996 and 1997.", "1995", "1995"),
    ],
)
def test_what_is_written_together_stays_together(tokenizer: TextTokenizer, text: str, wanted: str, shown: str) -> None:
    assert ranked(tokenizer, text, wanted) == [shown]
    assert ranked(tokenizer, text, wanted, align=False)[0] in shown


@pytest.mark.parametrize(
    ("text", "wanted", "shown"),
    [
        ("within thirty (30) days", "thirty (30", "thirty (30)"),
        ("(founded in 1871) by", "(founded in 1871", "(founded in 1871)"),
        ("the Tower (of Paris, as some say, which is tall and old and grey) is", "Tower (of Paris", "Tower (of Paris"),
        ("see (1) Paris", "1) Paris", "(1) Paris"),
        ("was “Home Alone” then", "Home Alone”", "“Home Alone”"),
        ('was "Home Alone" then', '"Home', '"Home'[1:]),
        ('was "Home Alone" then', 'Home Alone"', '"Home Alone"'),
        ("a) Paris", "a) Paris", "a) Paris"),
        ("lol :-)) there", "lol :-))", "lol :-"),
        ("((lambda x", "((lambda", "lambda"),
        ("x 3)] y", "3)]", "3"),
        ("(1990s Paris) in 1999", "Paris) in 1999", "(1990s Paris) in 1999"),
        ("Goethe schrieb „Faust“ im Jahr", "„Faust“", "„Faust“"),
        ("Goethe schrieb „Faust“ im Jahr", "Goethe schrieb „Faust“", "Goethe schrieb „Faust“"),
        ("schrieb »Faust« im", "»Faust«", "»Faust«"),
        ("He is 6'2\" tall", "6'2\"", "6'2\""),
        ('a 15.6" screen', '15.6"', '15.6"'),
        ('wrote "it measures 5 m²" then', 'it measures 5 m²"', '"it measures 5 m²"'),
        ("(()) only", "(())", "(())"),
        ("[see Paris", "[see Paris", "see Paris"),
        ("The book ‘War and Peace’, by", "‘War and Peace", "‘War and Peace’"),
        ("The book ‘Tolstoy’s War’ is", "Tolstoy’s War’", "‘Tolstoy’s War’"),
        ("The book ‘Tolstoy’s War’ is", "‘Tolstoy’s", "‘Tolstoy’s"),
        ("at the ‘farmers’ market’ in", "farmers’ market", "farmers’ market"),
        ("a ‘workers’ paradise’ in", "‘workers’ paradise", "‘workers’ paradise’"),
        ("for 'players' association', x", "players' association", "players' association"),
        ("caliph was ‘Ali, a cousin", "‘Ali", "‘Ali"),
        ("in the ‘90s bands’ songs", "‘90s", "‘90s"),
        ("‘I live in Hawai‘i’", "Hawai‘i", "Hawai‘i"),
        ("wrote „Pan Tadeusz” in", "Pan Tadeusz”", "„Pan Tadeusz”"),
        ("wrote „Pan Tadeusz” in", "„Pan Tadeusz", "„Pan Tadeusz”"),
        ("wrote „Pan Tadeusz” in", "„Pan Tadeusz”", "„Pan Tadeusz”"),
        ("Film ‚Rock’n’Roll Mops‘ war", "Rock’n’Roll Mops", "Rock’n’Roll Mops"),
        ("Film ‚Wie geht’s dir‘ war", "‚Wie geht’s dir", "‚Wie geht’s dir‘"),
        ("the '90s bands' songs", "90s bands'", "90s bands'"),
        ("the '90s bands' songs", "'90s bands", "'90s bands"),
        ("die «A»«B» ok", "«A»", "«A»"),
        ("die «A»«B» ok", "«B»", "«B»"),
        ("»A« und »B« x", "A« und »B", "»A« und »B«"),
        ("kirja »Faust» on", "»Faust", "»Faust»"),
        ("if x <y: return a->b", "y: return a->", "y: return a->"),
        ("a p <0.05> b", "<0.05", "<0.05"),
        ("mail <a@b.org> now", "<a@b.org", "<a@b.org>"),
        ("the soldiers’ rights", "soldiers’", "soldiers’"),
        ("écrit «War and Peace», puis", "«War and Peace", "«War and Peace»"),
        ("écrit « Guerre » puis « Paix » ici", "« Guerre » puis « Paix", "« Guerre » puis « Paix"),
        ("a «A» and «B» z", "A» and «B", "«A» and «B»"),
        ("schrieb »Faust«, dann", "»Faust", "»Faust«"),
        ("schrieb »Faust und Helena« dann", "»Faust", "Faust"),
        ("wrote „The Old Man“ in", "„The Old Man", "„The Old Man“"),
        ("a ‚Haus‘ b", "‚Haus", "‚Haus‘"),
        ("The book 'War and Peace', by", "'War and Peace", "'War and Peace'"),
        ("The book 'War and Peace', by", "War and Peace'", "'War and Peace'"),
        ("the soldiers' rights", "soldiers'", "soldiers'"),
        ("in the '90s they", "'90s", "'90s"),
        ("it wasn't John's book", "John's", "John's"),
        ("use <name> here", "<name", "<name>"),
        ("if x < 3 then", "< 3", "< 3"),
        ("stands in **Paris**.", "**Paris", "Paris"),
        ("stands in **Paris**.", "Paris**", "Paris"),
        ("stands in _Paris_.", "_Paris", "Paris"),
        ("the option `verbose` shows", "`verbose", "verbose"),
        ("the option **`verbose`** shows", "**`verbose", "verbose"),
        ("the option `a` or `b` shows", "`a` or `b`", "`a` or `b`"),
        ("are **Paris** and **Lyon**, then", "Paris** and **Lyon**", "**Paris** and **Lyon**"),
        ("are **Paris** and **Lyon**, then", "**Paris** and **Lyon", "**Paris** and **Lyon**"),
        ("options `--a` and `--b` set", "`--a` and `--b", "`--a` and `--b`"),
        ("call _private now", "_private", "_private"),
        ("call __init__ now", "__init__", "__init__"),
        ("is 2 * 3 * 4 then", "3 * 4", "3 * 4"),
    ],
)
def test_brackets_and_quotation_marks_are_whole(text: str, wanted: str, shown: str) -> None:
    at = text.index(wanted)
    start, end = whole_pairs(text, at, at + len(wanted))
    assert text[start:end] == shown


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("2. Boil it for 2 minutes.\n4. Cool it.", ["2. Boil it for 2 minutes.", "4. Cool it."]),
        ("Towns:\n- Paris\n- Rome", ["Towns:", "- Paris", "- Rome"]),
        ("one\n\ntwo\n \nthree\ffour", ["one", "two", "three", "four"]),
        ("a | b | c", ["a", "b", "c"]),
        ("Name\tAge\nBo\t7", ["Name", "Age", "Bo", "7"]),
        (
            "Report of the year\nThe lighthouse of Port Ellis was built by Agnes Moreau, who had\n"
            "come from Brittany, and finished in 1871 by others of whom nothing\nis known.",
            ["Report of the year", "The lighthouse"],
        ),
        (
            "The lighthouse of Port Ellis was built by Agnes Moreau, who had\n"
            "come from Brittany, and finished in 1871 by others of whom little\nis known today.",
            ["The lighthouse"],
        ),
        ("Members:\nAlice\nBob\nCarol", ["Members:", "Alice", "Bob", "Carol"]),
        ("It was said on that day by the President John\nF. Kennedy, who spoke to them.", ["It was said"]),
        ("These were the long years of the war (1990-\n99) and the others after it.", ["These were"]),
        ("It was taught at that time by one Prof.\nJohn Miller, who taught for years.", ["It was taught"]),
        (
            "There was a harbour of New\nYork and many ships, see\nhttps://example.org/a/very/long/address/of/a/page\n"
            "and others of which nothing\nis known.",
            ["There was a harbour"],
        ),
        ("J. Doe, R. Roe\nWe present a method that is much better than everything.", ["J. Doe, R. Roe", "We present"]),
    ],
)
def test_lines_end_where_a_person_would_say_so(text: str, parts: list[str]) -> None:
    ends = list(line_ends(text, 0, len(text)))
    bounds = [0, *(end + 1 for end in ends), len(text)]
    found = [text[a:b].strip() for a, b in itertools.pairwise(bounds)]
    found = [part for part in found if part.strip("| ")]
    assert len(found) == len(parts)
    assert all(a.strip("| ").startswith(b) for a, b in zip(found, parts, strict=True))


def test_no_answer_crosses_the_end_of_a_line_of_a_list(tokenizer: TextTokenizer) -> None:
    text = "3. Boil it for 2 minutes.\n4. Cool it to 74 degrees.\n5. Serve."
    assert ranked(tokenizer, text, "2 minutes.\n4", "minutes") == ["2 minutes"]
    assert ranked(tokenizer, text, "2 minutes.\n4", align=False) == ["2 minutes.\n4"]
    assert "\n" not in "".join(ranked(tokenizer, text, "2 minutes.\n4", top_k=20))


def test_an_answer_is_more_than_punctuation_or_a_stop_word(tokenizer: TextTokenizer) -> None:
    assert ranked(tokenizer, "It is , in the tower of Paris .", "the", "Paris", top_k=9)[0] == "the tower of Paris"
    assert ranked(tokenizer, "It is , in the tower , yes .", ", in the tower ,") == ["in the tower"]
    assert ranked(tokenizer, "?! ... ,", "...") == ["..."]  # there is nothing else
    assert ranked(tokenizer, "the", "the") == ["the"]
    assert ranked(tokenizer, "It was made by IT in May .", "IT", "May") == ["IT"]
    assert ranked(tokenizer, "?! ... ,", "...", align=False) == ["..."]
    assert not is_sensible("The", 0, 3)
    assert is_sensible("no", 0, 2)
    assert is_sensible("of the", 0, 6)


@pytest.mark.parametrize(
    ("text", "cut", "whole"),
    [
        ("in Orle\u0301ans", "Orle", "Orle\u0301"),
        ("a 👍🏽 b", "👍", "👍🏽"),
        ("a 👩\u200d👧 b", "👩", "👩\u200d👧"),
        ("a 👩\u200d👧 b", "👧", "👩\u200d👧"),
        ("a 🇫🇷🇩🇪 b", "\U0001f1f7", "🇫🇷"),
        ("कि", "क", "कि"),
        ("שָׁ", "ש", "שָׁ"),
        ("a ❤️ b", "❤", "❤️"),
        (
            "a 🏴\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f.",
            "🏴",
            "🏴\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f",
        ),
        ("plain", "lai", "lai"),
        ("क\u094d\u200d", "क", "क\u094d\u200d"),
    ],
)
def test_no_character_is_cut(text: str, cut: str, whole: str) -> None:
    at = text.index(cut)
    start, end = whole_characters(text, at, at + len(cut))
    assert text[start:end] == whole


@pytest.mark.parametrize(
    ("text", "sizes", "words"),
    [
        ("หอคอยอยู่ในปารีส", [5, 3, 3, 5], ["หอคอย", "อยู่", "ยู่ใน", "ปารีส"]),  # the mark of the second is in the third
        ("東京タワー", [2, 3], ["東京", "タワー"]),
        ("the tower", [2, 1, 6], ["the", "the", " tower"]),
    ],
)
def test_scripts_without_spaces_are_not_stretched_to_the_sentence(
    text: str, sizes: list[int], words: list[str]
) -> None:
    end = np.cumsum(sizes)
    start = end - sizes
    if text.isascii():
        word_start, word_end = np.array([0, 0, 3]), np.array([3, 3, 9])
    else:
        word_start, word_end = np.zeros_like(end), np.full_like(end, len(text))
    found = words_of_unspaced(text, Tokens(end, start, end, word_start, word_end))
    assert [text[a:b] for a, b in zip(found.word_start, found.word_end, strict=True)] == words


@given(
    st.lists(st.sampled_from([*'()[“”„‘’«»<>*_`a \n.é\u0301タ"', "'", "b1", "$5"]), max_size=30).map("".join),
    st.integers(0, 40),
    st.integers(1, 20),
)
def test_rules_stay_inside_the_text(text: str, start: int, length: int) -> None:
    start = min(start, len(text))
    end = min(start + length, len(text))
    for rule in (stretched, whole_pairs, whole_characters):
        a, b = rule(text, start, end) if start < end else (start, end)
        assert 0 <= a <= b <= len(text)
    assert all(start <= at < end for at in line_ends(text, start, end))


@pytest.mark.parametrize(
    "text",
    ["." * 4300, "1a" * 8000, "(" * 5000, '"' * 5000, "- " * 3000, "a.b" * 3000, "‘" * 5000, "«»" * 3000, "*_" * 3000],
)
def test_a_text_of_nothing_takes_no_quadratic_time(tokenizer: TextTokenizer, text: str) -> None:
    ranker = SpanRanker(text, top_k=100, max_answer_len=30)
    for window in cut_windows(tokenizer, np.array([5, 6]), tokenizer.text(text), max_seq_len=384, doc_stride=128):
        ranker.add(window, *np.zeros((2, len(window)), np.float32))
    spans = sorted((span.start, span.end) for span in ranker.ranked())
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))


def test_what_nobody_would_underline_crowds_out_nothing(tokenizer: TextTokenizer) -> None:
    text = "It is in Paris . " + "- " * 100 + "word " * 6000
    ranker = SpanRanker(text, top_k=1, max_answer_len=30)
    for window in cut_windows(tokenizer, np.array([5, 6]), tokenizer.text(text), max_seq_len=384, doc_stride=128):
        start, end = np.zeros((2, len(window)), np.float32)
        for row, (a, b) in enumerate(zip(window.text.start.tolist(), window.text.end.tolist(), strict=True)):
            start[window.offset + row] = end[window.offset + row] = {"Paris": 4, "-": 5}.get(text[a:b], 0)
        ranker.add(window, start, end)
    (span,) = ranker.ranked()
    assert "Paris" in text[span.start : span.end]


def test_answers_of_mixed_scripts_do_not_overlap(tiny: QuestionAnswerer) -> None:
    text = "かなでもコンピュータかなかなiphoneかなコンピュータは。ひらがなéひらがな" * 5
    spans = sorted((a.start, a.end) for a in tiny("何ですか?", text, top_k=8, score_threshold=0))
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))


def test_a_huge_text_takes_no_quadratic_time() -> None:
    text = "(" * 200_000 + " x " + "\n" * 200_000 + "1." * 200_000
    at = text.index("x")
    assert whole_pairs(text, at, at + 1) == (at, at + 1)
    assert stretched(text, at, at + 1) == (at, at + 1)
    assert len(list(line_ends(text, at, at + 50))) > 0
    assert stretched("1." * 200_000, 200_000, 200_001)[1] <= 200_200


WRAPPED = """\
The committee named its winner in May. The tower was designed by Maurice
Koechlin and built by a firm in Levallois. It was painted red at first
and stood for twenty years before the city bought it from the company.

The tower has three levels for visitors, with restaurants on the first and second levels. The upper platform is
the highest one that visitors may see.

Tickets can be purchased to ascend by stairs or lift to the first and second levels. The climb from ground level
to the first level is over 300 steps.
"""


@pytest.mark.parametrize(("old", "new"), [("\n", "\r\n"), ("\n\n", "\n \n"), ("\n\n", "\n\n\n"), ("\n\n", "\f")])
def test_paragraphs_wrapped_to_other_widths_end_no_line(old: str, new: str) -> None:
    """Each paragraph says how wide its own lines are, however it ends."""
    text = WRAPPED.replace(old, new)
    ends = list(line_ends(text, 0, len(text)))
    assert not [at for at in ends if text[at - 20 : at].rstrip().endswith(("Maurice", "first"))]
    assert len(ends) >= 2


def test_marks_that_join_words_are_no_words(tokenizer: TextTokenizer) -> None:
    assert not is_sensible("____", 0, 4)
    assert not is_sensible("_the_", 0, 5)
    assert is_sensible("__init__", 0, 8)
    text = "The value is __ and it is not known."
    assert ranked(tokenizer, text, "__")[0] != "__"


def in_windows(tokenizer: TextTokenizer, text: str, *wanted: str, room: int, overlap: int, **options: int) -> list[str]:
    """The answers of a model that wants certain spans wherever a window holds them, a little less each."""
    ranker = SpanRanker(text, **{"top_k": 1, "max_answer_len": 30, **options})
    for window in cut_windows(
        tokenizer, np.array([5, 6]), tokenizer.text(text), max_seq_len=room + 5, doc_stride=overlap
    ):
        start, end = np.zeros((2, len(window)), np.float32)
        for number, part in enumerate(wanted):
            at = text.index(part)
            first = np.flatnonzero(window.text.start == at)
            last = np.flatnonzero(window.text.end == at + len(part))
            if len(first) and len(last):
                start[window.offset + first[0]] = end[window.offset + last[0]] = 9 - number
        ranker.add(window, start, end)
    return [text[span.start : span.end] for span in ranker.ranked()]


def test_a_window_of_punctuation_alone_has_no_answer_if_another_has_words(tokenizer: TextTokenizer) -> None:
    text = "Eiffel built it ." + " !" * 40 + " ?" + " ." * 40
    assert in_windows(tokenizer, text, "?", room=16, overlap=4)[0] != "?"
    assert in_windows(tokenizer, text, "?", "Eiffel", room=16, overlap=4) == ["Eiffel"]
    assert in_windows(tokenizer, text[16:], "?", room=16, overlap=4) == ["?"]  # there is nothing else


def test_a_span_over_a_break_that_two_windows_hold_is_no_answer_in_either(tokenizer: TextTokenizer) -> None:
    """The best span of the first window is one; the best one of the second is not, but is worth less."""
    text = "It was long ago.\n- made by Ann\n- Bob made it\n- Carl sold it and then left the town for ever"
    over = "Ann\n- Bob"
    first = [len(next(tokenizer.text(text[: text.index(part)]))) for part in (over, "left")]
    assert first[0] < 12 < first[1]
    for top_k in (1, 2):
        found = in_windows(tokenizer, text, over, "left", room=16, overlap=12, top_k=top_k)
        assert "\n" not in "".join(found)


def test_a_word_that_a_window_cuts_is_no_stop_word(tokenizer: TextTokenizer) -> None:
    """Of "unaffableof", the window may begin with the token "of", which by itself would say nothing."""
    text = "unaffableof"
    tokens = next(tokenizer.text(text))
    cut = Tokens(*(getattr(tokens, name)[-1:] for name in ("ids", "start", "end", "word_start", "word_end")))
    assert text[cut.start[0] : cut.end[0]] == "of"
    assert sensible(text, cut, 1).all()
