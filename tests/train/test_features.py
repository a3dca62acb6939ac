"""Features: the windows of answering, with labels that point at the answers."""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dynamic_tinybert import QuestionAnswerer, WindowError
from dynamic_tinybert.inference import TextTokenizer, Tokens, Window
from dynamic_tinybert.squad import Question, other_paragraphs
from dynamic_tinybert.train.features import (
    NO_ANSWER,
    NO_SPAN,
    Feature,
    FeatureError,
    FeatureSettings,
    collate,
    fingerprint,
    make_features,
)

TEXT = (
    "The lighthouse of Port Ellis was built by Agnes Moreau in 1871. Its keeper, Barnaby Whitlock, lived there with "
    "two goats. Agnes Moreau was 31 in 1871; she came back 5 times, the last in 1895."
)
SHORT = FeatureSettings(max_seq_len=40, doc_stride=10, max_question_len=12)


def ask(
    answers: str | Sequence[str] = (),
    starts: Any = None,
    *,
    text: str = TEXT,
    question: str = "Who built the lighthouse?",
    title: str = "Lighthouses",
) -> Question:
    """A question; without `starts`, no answer has one."""
    answers = (answers,) if isinstance(answers, str) else tuple(answers)
    starts = (starts,) if isinstance(starts, int) else tuple(starts or (None,) * len(answers))
    return Question(
        id="0",
        title=title,
        question=question,
        context=text,
        answers=answers,
        answer_starts=starts,
        impossible=not answers,
    )


@pytest.fixture(scope="module")
def tokenizer(embedded: Path) -> TextTokenizer:
    return TextTokenizer(embedded)


def tokens_of(tokenizer: TextTokenizer, text: str) -> Tokens:
    pieces = list(tokenizer.text(text))
    whole = pieces[0]
    for piece in pieces[1:]:
        whole = whole + piece
    return whole


def placed(tokenizer: TextTokenizer, question: Question, features: list[Feature]) -> list[list[tuple[int, int]]]:
    """The characters that the labels of each window stand for; none for a window without an answer.

    The windows are found in the text by their tokens, so this knows nothing of how the features were made.
    """
    text = tokens_of(tokenizer, question.context)
    found, least = [], 0
    for feature in features:
        ids = feature.ids[feature.offset : -1]
        start = next(i for i in range(least, len(text)) if np.array_equal(text.ids[i : i + len(ids)], ids))
        least = start + 1
        if feature.spans == NO_ANSWER:
            found.append([])
            continue
        for first, last in feature.spans:
            assert feature.offset <= first <= last < len(feature) - 1
        shift = start - feature.offset
        found.append([(int(text.start[a + shift]), int(text.end[b + shift])) for a, b in feature.spans])
    return found


def labelled(tokenizer: TextTokenizer, question: Question, **settings: Any) -> list[str]:
    """The texts that are labelled right, of a question with one window."""
    features = make_features(tokenizer, [question], FeatureSettings(**settings))
    (places,) = placed(tokenizer, question, features)
    return [question.context[a:b] for a, b in places]


# Where answers are.


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (TEXT, "Barnaby Whitlock"),
        (TEXT, "two goats"),
        ("It was Émile Zola's, naïve façade — über die Brücke.", "Émile Zola"),
        ("It was E\u0301mile Zola\u0308 who wrote.", "E\u0301mile Zola\u0308"),
        ("東京タワーは333メートル。", "東京"),
        ("Он жил в городе Москва в 1900 году.", "Москва"),
        ("שָׁלוֹם עולם", "שָׁלוֹם"),
        ("हिन्दी भाषा", "हिन्दी"),
        ("It costs $5,000.50 (net).", "$5,000.50"),
        ("İstanbul and ﬁne 👩\u200d👧 people", "İstanbul"),
        ("a\u00adb \x00c d\u200be f", "d\u200be"),
        ("line\r\none\ttwo\u00a0three", "two\u00a0three"),
        ("whole", "whole"),
        ("He said [SEP] and left.", "[SEP]"),
    ],
)
@pytest.mark.parametrize("answers", ["all", "first"])
@pytest.mark.parametrize("known", [True, False])
def test_labels_are_the_answer(tokenizer: TextTokenizer, text: str, answer: str, answers: str, known: bool) -> None:
    start = text.index(answer) if known else None
    question = ask(answer, (start,), text=text)
    assert labelled(tokenizer, question, answers=answers) == [answer]


def test_all_occurrences_are_right_or_the_first_alone(tokenizer: TextTokenizer) -> None:
    question = ask("Agnes Moreau", TEXT.index("Agnes Moreau"))
    features = make_features(tokenizer, [question], FeatureSettings())
    first, second = TEXT.index("Agnes"), TEXT.rindex("Agnes")
    assert placed(tokenizer, question, features) == [[(first, first + 12), (second, second + 12)]]
    assert labelled(tokenizer, question, answers="first") == ["Agnes Moreau"]
    later = ask("Agnes Moreau", second)
    features = make_features(tokenizer, [later], FeatureSettings(answers="first"))
    assert placed(tokenizer, later, features) == [[(second, second + 12)]]


def test_an_occurrence_is_whole_words(tokenizer: TextTokenizer) -> None:
    question = ask("5", TEXT.index(" 5 ") + 1)
    features = make_features(tokenizer, [question], FeatureSettings())
    assert placed(tokenizer, question, features) == [[(TEXT.index(" 5 ") + 1, TEXT.index(" 5 ") + 2)]]
    text = "The unhappy happy man was happyish."
    assert labelled(tokenizer, ask("happy", text=text)) == ["happy"]


@pytest.mark.parametrize("answers", ["all", "first"])
def test_without_an_offset_it_is_the_first_whole_word(tokenizer: TextTokenizer, answers: str) -> None:
    question = ask("5", text="In 1995 and 1950, or 5 times.")
    assert labelled(tokenizer, question, answers=answers) == ["5"]


def test_an_offset_is_believed_even_inside_a_word(tokenizer: TextTokenizer) -> None:
    """The label is then the tokens that the answer touches."""
    text = "東京タワーは333メートル、333メートル。"
    assert labelled(tokenizer, ask("333", text.index("333"), text=text)) == ["333"]
    with pytest.raises(FeatureError):
        labelled(tokenizer, ask("333", text=text))
    text = "In 1990s music was 1990s music."
    question = ask("1990", 3, text=text)
    features = make_features(tokenizer, [question], FeatureSettings())
    ((place, *more),) = placed(tokenizer, question, features)
    assert text[slice(*place)] == "1990s"
    assert place[0] == 3
    assert not more  # the other is no whole word


@pytest.mark.parametrize("start", [0, 1, len(TEXT) - 2, len(TEXT), 10**30, -1, -12])
@pytest.mark.parametrize("answers", ["all", "first"])
def test_a_wrong_offset_is_not_believed(tokenizer: TextTokenizer, start: int, answers: str) -> None:
    """Another text stands there, so the answer is looked for."""
    assert labelled(tokenizer, ask("Barnaby Whitlock", start), answers=answers) == ["Barnaby Whitlock"]


def test_a_wrong_offset_of_a_text_that_is_not_there_gives_nothing(tokenizer: TextTokenizer) -> None:
    with pytest.raises(FeatureError, match="none of 1 questions") as error:
        make_features(tokenizer, [ask("Paris", 5)], FeatureSettings())
    assert "\n" not in str(error.value)


def test_an_answer_written_differently_is_labelled(tokenizer: TextTokenizer) -> None:
    assert labelled(tokenizer, ask("barnaby  WHITLOCK", TEXT.index("Barnaby"))) == ["Barnaby Whitlock"]
    assert labelled(tokenizer, ask("cafe\u0301", text="Le Café est ici.")) == ["Café"]


def test_questions_that_give_nothing_are_told_with_the_reason(tokenizer: TextTokenizer) -> None:
    good = ask("Barnaby Whitlock", TEXT.index("Barnaby"))
    questions = [
        good,
        dataclasses.replace(good, id="absent", answers=("Paris",)),
        dataclasses.replace(good, id="no words", question="\u200b"),
        dataclasses.replace(good, id="empty", context=" "),
        dataclasses.replace(good, id="blank", answers=(" ",)),
    ]
    told: list[tuple[str, str]] = []
    features = make_features(
        tokenizer, questions, FeatureSettings(), unusable=lambda question, why: told.append((question.id, why))
    )
    assert len(features) == 1
    assert told == [
        ("absent", "the answer 'Paris' is not in the text"),
        ("no words", "the question has no words"),
        ("empty", "the text has no words"),
        ("blank", "it has no answer"),
    ]


def test_every_reference_answer_counts_once(tokenizer: TextTokenizer) -> None:
    at = TEXT.index("Barnaby")
    question = ask(["Barnaby Whitlock", "Barnaby Whitlock", "Whitlock", "nobody"], [at, at, at + 8, None])
    assert labelled(tokenizer, question) == ["Barnaby Whitlock", "Whitlock"]
    assert labelled(tokenizer, question, answers="first") == ["Barnaby Whitlock"]


def test_blanks_around_an_answer_are_no_part_of_it(tokenizer: TextTokenizer) -> None:
    at = TEXT.index(" Barnaby Whitlock")
    assert labelled(tokenizer, ask(" Barnaby Whitlock", at)) == ["Barnaby Whitlock"]


@pytest.mark.parametrize("answer", ["", " ", "\n", "\u200b"])
def test_an_answer_of_nothing_labels_nothing(tokenizer: TextTokenizer, answer: str) -> None:
    with pytest.raises(FeatureError):
        make_features(tokenizer, [ask(answer, text="One\u200b \n two.")], FeatureSettings())


ANYTHING = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.lists(
    st.sampled_from(
        ["Émile", "1995", "5", "東京", "e\u0301te\u0301", "👩\u200d👧", "שָׁלוֹם", "[SEP]", "\r\n", "a-b", "\x00"]
    )
).map(" ".join)


@given(before=ANYTHING, answer=ANYTHING.filter(lambda s: any(c.isalnum() for c in s)), after=ANYTHING)
def test_labels_overlap_the_answer_and_are_its_words(
    tokenizer: TextTokenizer, before: str, answer: str, after: str
) -> None:
    text = f"{before} {answer} {after}"
    question = ask(answer, len(before) + 1, text=text)
    try:
        features = make_features(tokenizer, [question], FeatureSettings(max_seq_len=400))
    except FeatureError:
        assert not list(tokenizer.text(answer))  # an answer that BERT reads nothing of
        return
    (places,) = placed(tokenizer, question, features)
    begin, end = places[0]
    # Blanks around the answer, and what BERT reads nothing of, are all that may be cut from it; and what stands on its
    # last character, or is in the same token, all that may be added.
    assert len(before) + 1 <= begin < end
    cut = text[len(before) + 1 : begin] + text[end : len(before) + 1 + len(answer)]
    assert not list(tokenizer.text(cut))
    read = tokens_of(tokenizer, text)
    inside = (read.end > len(before) + 1) & (read.start < len(before) + 1 + len(answer))
    assert begin == read.start[inside].min()
    assert end == read.end[inside].max()
    for begin, end in places[1:]:
        assert set(read.word_start[(read.start >= begin) & (read.end <= end)]) >= {begin}
        assert end in set(read.word_end[(read.start >= begin) & (read.end <= end)])


# Windows.


def windows_of(qa: QuestionAnswerer, question: Question, settings: FeatureSettings) -> list[Window]:
    """The windows that answering reads."""
    return list(
        qa.reader.windows(
            question.question,
            question.context,
            max_seq_len=settings.max_seq_len,
            doc_stride=settings.doc_stride,
            max_question_len=settings.max_question_len,
        )
    )


@given(
    words=st.lists(
        st.sampled_from([*TEXT.split(), "東京", "naïvely", "supercalifragilistic"]), min_size=1, max_size=150
    ),
    length=st.integers(24, 60),
    stride=st.integers(0, 8),
    question=st.sampled_from(["Who?", "  Who built the lighthouse? ", "What did Agnes Moreau build in Port Ellis?"]),
)
def test_windows_are_those_that_answering_reads(
    qa: QuestionAnswerer, words: list[str], length: int, stride: int, question: str
) -> None:
    settings = FeatureSettings(max_seq_len=length, doc_stride=stride, max_question_len=12, impossible=0.001)
    # Of a question without an answer every window is kept, once impossible ones are wanted at all.
    asked = ask(text=" ".join(words), question=question)
    features = make_features(qa.reader.tokenizer, [asked], settings)
    wanted = windows_of(qa, asked, settings)
    assert [f.ids.tolist() for f in features] == [w.ids.tolist() for w in wanted]
    assert [f.offset for f in features] == [w.offset for w in wanted]
    types = [collate([(0, f)], 0)["token_type_ids"][0].tolist() for f in features]
    assert types == [w.type_ids.tolist() for w in wanted]


def test_a_long_question_is_cut_as_in_answering_but_without_a_word(qa: QuestionAnswerer) -> None:
    question = ask("two goats", question="Who " + "really " * 200 + "built it?")
    (feature,) = make_features(qa.reader.tokenizer, [question], FeatureSettings())
    assert feature.offset == 64 + 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (window,) = windows_of(qa, question, FeatureSettings())
    assert feature.ids.tolist() == window.ids.tolist()


def test_of_several_windows_those_with_the_whole_answer_are_kept(qa: QuestionAnswerer) -> None:
    question = ask("1895", TEXT.index("1895"))
    features = make_features(qa.reader.tokenizer, [question], SHORT)
    wanted = windows_of(qa, question, SHORT)
    holding = [w for w in wanted if w.text.start[0] <= TEXT.index("1895") and TEXT.index("1895") + 4 <= w.text.end[-1]]
    assert 0 < len(holding) < len(wanted)
    assert [f.ids.tolist() for f in features] == [w.ids.tolist() for w in holding]
    place = TEXT.index("1895"), TEXT.index("1895") + 4
    assert placed(qa.reader.tokenizer, question, features) == [[place]] * len(holding)


@pytest.mark.parametrize("impossible", [0.0, 0.001])
def test_a_window_with_part_of_an_answer_is_never_learned_from(qa: QuestionAnswerer, impossible: float) -> None:
    settings = FeatureSettings(max_seq_len=24, doc_stride=3, max_question_len=8, impossible=impossible)
    text = " ".join(str(100 + i) for i in range(60))  # a token each
    at = {i: 4 * i for i in range(60)}
    kinds = set()
    for first in range(50):
        answer = text[at[first] : at[first + 5]].strip()  # two tokens more than windows share
        question = ask(answer, at[first], text=text, question="Which?")
        try:
            features = make_features(qa.reader.tokenizer, [question], settings)
        except FeatureError:
            kinds.add("in no window whole")
            continue
        windows = windows_of(qa, question, settings)
        by_ids = {tuple(w.ids.tolist()): w for w in windows}
        if all(feature.spans == NO_ANSWER for feature in features):
            kinds.add("in no window whole")
        for feature, places in zip(features, placed(qa.reader.tokenizer, question, features), strict=True):
            window = by_ids.pop(tuple(feature.ids.tolist())).text
            begin, end = int(window.start[0]), int(window.end[-1])
            inside = begin <= at[first] and at[first] + len(answer) <= end
            assert places == ([(at[first], at[first] + len(answer))] if inside else [])
            kinds.add("whole" if inside else "none")
            if inside and at[first] == begin:
                kinds.add("at the left edge")
            if inside and at[first] + len(answer) == end:
                kinds.add("at the right edge")
        for window in (w.text for w in by_ids.values()):
            touches = window.start[0] < at[first] + len(answer) and window.end[-1] > at[first]
            inside = window.start[0] <= at[first] and at[first] + len(answer) <= window.end[-1]
            assert not inside
            assert touches or not impossible
            kinds.add("part")
    assert kinds >= {"whole", "at the left edge", "at the right edge", "part", "in no window whole"}
    assert ("none" in kinds) == bool(impossible)


def test_windows_without_an_answer_are_kept_where_impossible_questions_are_wanted(qa: QuestionAnswerer) -> None:
    question = ask("1895", TEXT.index("1895"))
    features = make_features(qa.reader.tokenizer, [question], dataclasses.replace(SHORT, impossible=0.01))
    wanted = windows_of(qa, question, SHORT)
    assert [f.ids.tolist() for f in features] == [w.ids.tolist() for w in wanted]
    empty = [f.spans == NO_ANSWER for f in features]
    assert empty == [w.text.end[-1] < TEXT.index("1895") for w in wanted]
    assert any(empty)
    assert not all(empty)


def test_a_question_whose_answer_cannot_be_found_teaches_nothing(tokenizer: TextTokenizer) -> None:
    """That its windows have no answer is not known."""
    lost = ask("Paris")
    found = ask("two goats", question="What else?")
    settings = FeatureSettings(impossible=0.001)
    features = make_features(tokenizer, [lost, found], settings)
    assert len(features) == 1
    assert features[0].spans != NO_ANSWER


# What has nothing in it.


@pytest.mark.parametrize("text", ["", " ", "\n\n", "\x00\u200b"])
@pytest.mark.parametrize("impossible", [0.0, 1.0])
def test_a_text_without_words_gives_nothing(tokenizer: TextTokenizer, text: str, impossible: float) -> None:
    settings = FeatureSettings(impossible=impossible)
    questions = [ask("goats", text=text), ask("two goats")]
    features = make_features(tokenizer, questions, settings)
    alone = make_features(tokenizer, [ask("two goats")], FeatureSettings())
    assert features[0].ids.tolist() == alone[0].ids.tolist()
    with pytest.raises(FeatureError):
        make_features(tokenizer, questions[:1], settings)


@pytest.mark.parametrize("question", ["", "  ", "\u200b"])
def test_a_question_without_words_gives_nothing(tokenizer: TextTokenizer, question: str) -> None:
    with pytest.raises(FeatureError, match="none of 1 questions"):
        make_features(tokenizer, [ask("two goats", question=question)], FeatureSettings(impossible=1.0))


@pytest.mark.parametrize("impossible", [0.0, 0.5])
def test_no_questions_give_nothing(tokenizer: TextTokenizer, impossible: float) -> None:
    with pytest.raises(FeatureError, match="none of 0 questions"):
        make_features(tokenizer, [], FeatureSettings(impossible=impossible))


@pytest.mark.parametrize("impossible", [0.0, 0.001])
def test_an_unanswerable_question_of_a_file_teaches_that_there_is_no_answer(
    tokenizer: TextTokenizer, impossible: float
) -> None:
    nothing = ask(question="Who painted it?")
    (feature,) = make_features(tokenizer, [nothing], FeatureSettings(impossible=impossible))
    assert feature.spans == NO_ANSWER
    plausible = dataclasses.replace(ask("two goats", question="Who painted it?"), impossible=True)
    (feature,) = make_features(tokenizer, [plausible], FeatureSettings(impossible=impossible))
    assert feature.spans == NO_ANSWER


def test_beside_unanswerable_questions_every_window_without_an_answer_is_kept(qa: QuestionAnswerer) -> None:
    """As where they are made: half of the windows of a long text must not pass for answerable."""
    question, nothing = ask("1895", TEXT.index("1895")), ask(question="Who painted it?")
    features = make_features(qa.reader.tokenizer, [question, nothing], SHORT)
    wanted = windows_of(qa, question, SHORT) + windows_of(qa, nothing, SHORT)
    assert [f.ids.tolist() for f in features] == [w.ids.tolist() for w in wanted]
    empty = [f.spans == NO_ANSWER for f in features]
    assert empty == [w.text.end[-1] < TEXT.index("1895") or i >= len(wanted) // 2 for i, w in enumerate(wanted)]


def test_lengths_that_do_not_fit_are_refused(tokenizer: TextTokenizer) -> None:
    for settings in (FeatureSettings(max_seq_len=100), FeatureSettings(doc_stride=-1)):
        with pytest.raises(WindowError):
            make_features(tokenizer, [ask("two goats")], settings)


def test_a_huge_text(tokenizer: TextTokenizer) -> None:
    filler = "The coast is rough there, and ships keep away from it in winter. " * 4000
    text = filler + TEXT + filler
    question = ask("Barnaby Whitlock", text=text)
    features = make_features(tokenizer, [question], FeatureSettings())
    begin = text.index("Barnaby")
    places = placed(tokenizer, question, features)
    assert len(features) in (1, 2)
    assert set(itertools.chain.from_iterable(places)) == {(begin, begin + len("Barnaby Whitlock"))}


# Impossible questions.

PARAGRAPHS = [
    "Agnes Moreau built the lighthouse in 1871.",
    "Barnaby Whitlock kept two goats.",
    "In 1895 the AGNES MOREAU prize was founded.",
    "The harbour lies to the south.",
]


def article(title: str = "Lighthouses") -> list[Question]:
    answers = ["Agnes Moreau", "two goats", "1895", "south"]
    return [
        ask(answer, text.index(answer), text=text, question=f"Which {title} {i}?", title=title)
        for i, (answer, text) in enumerate(zip(answers, PARAGRAPHS, strict=True))
    ]


def test_impossible_questions_are_of_the_same_article_and_hold_no_answer() -> None:
    other = [ask("Paris", text="Paris is a city.", title="Cities"), ask("Rome", text="Rome is too.", title="Cities")]
    alone = ask("Mars", text="Mars is red.", title="Planets")
    questions = [*article(), *other, alone]
    for seed in range(10):
        pairs = list(other_paragraphs(questions, len(questions), seed=seed))
        assert len(pairs) == 6  # the planet has no other paragraph
        for question, text in pairs:
            assert text != question.context
            assert text in {q.context for q in questions if q.title == question.title}
            assert question.answers[0].casefold() not in text.casefold()


def test_no_reference_answer_may_be_there() -> None:
    texts = ["One is red.", "Two is blue."]
    question = ask(["red", "TWO"], text=texts[0], title="Colours")
    assert list(other_paragraphs([question, ask("blue", text=texts[1], title="Colours")], 2, seed=0))[1:] == []
    pairs = list(other_paragraphs([question, ask("blue", text=texts[1], title="Colours")], 2, seed=0))
    assert [q.answers[0] for q, _ in pairs] == ["blue"]


def test_a_draw_is_the_same_by_seed_and_another_by_another() -> None:
    questions = [q for i in range(20) for q in article(f"A{i}")]
    draws = [[(q.question, t) for q, t in other_paragraphs(questions, 20, seed=seed)] for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert len(draws[0]) == 20
    assert len({q for q, _ in draws[0]}) == 20


def test_the_share_says_how_many(tokenizer: TextTokenizer) -> None:
    questions = [q for i in range(5) for q in article(f"A{i}")]
    for share, more in ((0.0, 0), (0.25, 5), (1.0, 20)):
        features = make_features(tokenizer, questions, FeatureSettings(impossible=share))
        assert len(features) == 20 + more
        assert [f.spans == NO_ANSWER for f in features] == [False] * 20 + [True] * more
    seeds = [
        fingerprint(make_features(tokenizer, questions, FeatureSettings(impossible=0.25, seed=seed)))
        for seed in (0, 0, 1)
    ]
    assert seeds[0] == seeds[1] != seeds[2]


def test_more_than_there_are_is_all() -> None:
    assert len(list(other_paragraphs(article(), 100, seed=0))) == 4


# Batches.


def test_collate(tokenizer: TextTokenizer) -> None:
    questions = [ask("Agnes Moreau", text="Agnes Moreau, Agnes Moreau!"), ask("goats", text="Two goats.")]
    features = make_features(tokenizer, questions, FeatureSettings())
    batch = collate([(7, features[0]), (3, features[1])], tokenizer.pad)
    width = len(features[0])
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        assert batch[name].shape == (2, width)
        assert batch[name].dtype == torch.int64
    assert batch["index"].tolist() == [7, 3]
    assert batch["spans"].shape == (2, 2, 2)
    assert batch["spans"][1].tolist() == [list(features[1].spans[0]), [NO_SPAN, NO_SPAN]]
    short = len(features[1])
    assert batch["attention_mask"][1].tolist() == [1] * short + [0] * (width - short)
    assert batch["input_ids"][1, short:].tolist() == [tokenizer.pad] * (width - short)
    assert batch["input_ids"][1, :short].tolist() == features[1].ids.tolist()
    assert batch["token_type_ids"][1].tolist() == (
        [0] * features[1].offset + [1] * (short - features[1].offset) + [0] * (width - short)
    )


def test_a_fingerprint_tells_features_apart(tokenizer: TextTokenizer) -> None:
    questions = article()
    features = make_features(tokenizer, questions, FeatureSettings())
    same = make_features(tokenizer, questions, FeatureSettings())
    assert fingerprint(features) == fingerprint(same)
    others = [
        features[:-1],
        features[::-1],
        make_features(tokenizer, questions, FeatureSettings(impossible=1.0)),
        make_features(tokenizer, questions, FeatureSettings(max_question_len=2)),
    ]
    prints = {fingerprint(features), *map(fingerprint, others)}
    assert len(prints) == 5
    # Where one window ends and the next begins is told too.
    a, b = (np.array(x, np.int32) for x in ([1, 2, 3], [4]))
    c, d = (np.array(x, np.int32) for x in ([1, 2], [3, 4]))
    assert fingerprint([Feature(a, 1, NO_ANSWER), Feature(b, 1, NO_ANSWER)]) != fingerprint(
        [Feature(c, 1, NO_ANSWER), Feature(d, 1, NO_ANSWER)]
    )


def test_progress_is_told(tokenizer: TextTokenizer) -> None:
    told: list[tuple[int, int]] = []
    make_features(tokenizer, article(), FeatureSettings(impossible=1.0), progress=lambda *x: told.append(x))
    assert told == [(i + 1, 8) for i in range(8)]
