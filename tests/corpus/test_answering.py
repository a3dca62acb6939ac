from __future__ import annotations

import math
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from dynamic_tinybert import Corpus, CorpusError, QuestionAnswerer
from dynamic_tinybert.corpus import CorpusAnswer
from dynamic_tinybert.corpus.answering import retrieve

DISTRACTIONS = [
    (f"other/{i}", "", f"Report {i} says that the gate, the tower and a bridge need paint.") for i in range(40)
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder alone: how passages are read does not depend on the engine."""
    return tmp_path / "index"


def test_the_answer_stands_in_its_document(corpus: Corpus, folder: Path) -> None:
    answer = corpus("Where does the Brandenburg Gate stand?")
    assert answer.text == "Berlin"
    assert answer.document == str(folder / "berlin.html")
    assert answer.title == "Gate"
    text = corpus.text(answer.document)
    assert text[answer.start : answer.end] == answer.text
    begin = answer.passage_start
    assert text[begin : begin + len(answer.passage)] == answer.passage
    assert 0 <= answer.score <= 1
    assert answer.confidence is not None
    assert answer.retrieval > 0


def test_offsets_hold_in_passages_after_the_first_in_any_unicode(tmp_path: Path, qa: QuestionAnswerer) -> None:
    text = (
        "😀 Ünïcödé 東京 paragraphs come first, and say nothing of it.\n\n" * 30
        + "The tower stands in Paris 😀.\n\n"
        + "é " * 900
    )
    corpus = Corpus(tmp_path / "index", qa=qa, passage_size=300)
    corpus.put("long", text)
    answer = corpus("Where does the tower stand?")
    assert answer.text == "Paris"
    assert answer.passage_start > 1000
    assert corpus.text("long") == text
    assert text[answer.start : answer.end] == "Paris"


def test_what_is_read_at_full_at_the_end_is_what_the_answering_road_says(corpus: Corpus, qa: QuestionAnswerer) -> None:
    answer = corpus("When was the gate finished?")
    same = qa("When was the gate finished?", answer.passage)
    assert (answer.text, answer.logit, answer.confidence) == (same.text, same.logit, same.confidence)


def test_top_k_gives_answers_of_several_documents_the_best_first(corpus: Corpus) -> None:
    answers = corpus("When was the tower built?", top_k=3, score_threshold=0)
    assert len(answers) == 3
    assert [a.score for a in answers] == sorted((a.score for a in answers), reverse=True)
    assert {"1889", "1958"} <= {a.text for a in answers}
    assert all(corpus.text(a.document)[a.start : a.end] == a.text for a in answers)
    assert corpus("When was the tower built?").text in {a.text for a in answers}


def test_no_word_in_common_is_no_answer(corpus: Corpus, tmp_path: Path, qa: QuestionAnswerer) -> None:
    nothing = corpus("Xyzzy plugh?")
    assert (nothing.text, nothing.document, nothing.score, nothing.confidence) == ("", "", 0.0, 0.0)
    assert nothing.to_dict()["logit"] is None
    assert corpus("Xyzzy plugh?", top_k=3) == []
    assert corpus("???").text == ""
    assert corpus("Who?").text == ""
    empty = Corpus(tmp_path / "empty", qa=qa)
    empty.put("empty", "")
    assert empty("Where is the tower?").text == ""


@pytest.mark.parametrize(
    ("question", "options", "error"),
    [
        ("", {}, ValueError),
        (" \n", {}, ValueError),
        (7, {}, TypeError),
        (["Who?"], {}, TypeError),
        ("Who?", {"budget": 2}, ValueError),
        ("Who?", {"budget": "cheap"}, ValueError),
        ("Who?", {"top_k": 0}, ValueError),
        ("Who?", {"passages": 0}, ValueError),
        ("Who?", {"passages": True}, ValueError),
        ("Who?", {"max_latency_ms": 0}, ValueError),
        ("Who?", {"max_latency_ms": math.nan}, ValueError),
        ("Where is the tower?", {"max_answer_len": 0}, ValueError),
        ("Xyzzy?", {"max_answer_len": 0}, ValueError),
        ("Who?", {"max_latency_ms": "5"}, ValueError),
        ("Who?", {"handle_impossible_answer": True}, TypeError),
    ],
)
def test_bad_input_is_refused(corpus: Corpus, question: Any, options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        corpus(question, **options)


def test_a_missing_index_is_told_before_a_model_is_loaded(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path / "nothing")
    with pytest.raises(CorpusError, match="index add"):
        corpus("Who?")


def test_a_huge_question_is_answered(corpus: Corpus) -> None:
    with pytest.warns(UserWarning, match="cut"):
        assert corpus("Where does the tower stand? " + "tower " * 100_000).text


def test_many_passages_are_read_coarsely_and_the_best_again(corpus: Corpus) -> None:
    corpus.put_many(DISTRACTIONS)
    answer = corpus("Who designed the gate?")
    assert answer.text == "Carl Langhans"
    spent = answer.spent
    assert (spent.configuration, spent.retrieved) == ("full", 20)
    assert spent.coarse is not None
    assert 1 <= spent.read_again < spent.read <= 20
    assert spent.windows == spent.read + spent.read_again
    cheap = corpus("Who designed the gate?", budget=0.4).spent
    assert (cheap.coarse, cheap.read_again) == (None, 0)
    assert cheap.macs < spent.macs


def test_reading_stops_when_no_unread_passage_can_win(corpus: Corpus) -> None:
    corpus.put_many((f"far/{i}", "", f"A gate, number {i}.") for i in range(40))
    spent = corpus("Who designed the Brandenburg Gate?").spent
    assert spent.retrieved == 20
    assert spent.read < 20


def test_a_deadline_reads_less_and_one_passage_at_the_least(corpus: Corpus) -> None:
    corpus.put_many(DISTRACTIONS)
    question = "Which gate and tower and bridge need paint?"
    whole = corpus(question).spent
    assert whole.read > 5
    hurried = corpus(question, max_latency_ms=1e-3)
    assert (hurried.spent.read, hurried.spent.read_again) == (1, 0)
    assert hurried.text
    assert corpus(question, max_latency_ms=1e9).spent.read == whole.read


def test_many_answers_come_of_as_many_passages(corpus: Corpus) -> None:
    corpus.put_many(DISTRACTIONS)
    answers = corpus("Which gate and tower and bridge need paint?", top_k=30)
    assert len(answers) == 30
    assert answers[0].spent.retrieved == answers[0].spent.read == 30


def test_one_slow_reading_does_not_keep_later_ones_from_being_read_again(corpus: Corpus) -> None:
    corpus.put_many(DISTRACTIONS)
    question = "Which gate and tower and bridge need paint?"
    corpus(question)
    full = corpus.qa.table.select(corpus.qa.shape, "full")
    for _ in range(50):
        corpus._pace.observe(full, 1000, 60.0)  # as if the machine had slept
    spent = corpus(question, max_latency_ms=60_000).spent
    assert spent.read > 3
    assert spent.read_again == 2


def test_the_second_reading_decides_together_with_the_first(corpus: Corpus, qa: QuestionAnswerer) -> None:
    """Of two passages read at both configurations, the mean of the log-odds, and 0.2 of BM25 besides, ranks."""
    corpus.put_many(DISTRACTIONS)
    question = "When was the tower built?"
    answers = corpus(question, top_k=2)
    coarse = qa.table.select(qa.shape, 0.55)

    def odds(confidence: float | None) -> float:
        assert confidence is not None
        return math.log(confidence / (1 - confidence))

    def value(answer: CorpusAnswer) -> float:
        first = qa(question, answer.passage, budget=coarse.config)
        return (odds(first.confidence) + odds(answer.confidence)) / 2 + 0.2 * answer.retrieval

    one, other = answers
    assert one.passage != other.passage
    assert one.score / other.score == pytest.approx(math.exp(value(one) - value(other)), rel=1e-2)


def test_half_characters_in_a_question_are_no_matter(corpus: Corpus) -> None:
    assert corpus("Where does the \ud800 Brandenburg Gate stand?").text == "Berlin"
    with pytest.raises(KeyError, match=r"^the index has no document '.*': documents"):
        corpus.text("\udce9")


def test_a_model_without_calibration_answers_without_confidence(
    corpus: Corpus, tmp_path: Path, qa: QuestionAnswerer
) -> None:
    bare = QuestionAnswerer.from_reader(qa.reader, qa.shape, qa.table, name="bare")
    answer = Corpus(corpus.directory, qa=bare)("Where does the Brandenburg Gate stand?")
    assert answer.text == "Berlin"
    assert answer.confidence is None
    assert Corpus(corpus.directory, qa=bare)("Xyzzy?").confidence is None


def test_retrieval_finds_words_in_other_forms_scripts_and_titles(corpus: Corpus) -> None:
    def first(question: str) -> str:
        return corpus.find(question)[0].passage.document

    assert first("designing operas").endswith("#7")
    assert first("JORN UTZON").endswith("#7")
    assert first("Jo\u0308rn Utzon").endswith("#7")
    corpus.put("東京", "東京タワーは東京都港区にある。")
    corpus.put("titled", "It says nothing of its subject.", title="Zanzibar")
    assert first("タワー はどこ") == "東京"
    assert first("Zanzibar") == "titled"
    assert corpus.find("tower", 1) == corpus.find("tower", 5)[:1]


def test_one_corpus_answers_from_many_threads_while_it_changes(corpus: Corpus) -> None:
    question, wrong = "Where does the Brandenburg Gate stand?", []
    stop = time.monotonic() + 1.5

    def ask() -> None:
        try:
            while time.monotonic() < stop:
                assert corpus(question, budget=0.4, passages=3).text == "Berlin"
        except BaseException as error:
            wrong.append(repr(error))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    number = 0
    while time.monotonic() < stop:
        corpus.put(f"new/{number % 3}", f"A report of day {number}.")
        number += 1
    for thread in threads:
        thread.join()
    assert not wrong
    assert number > 2


def test_an_answer_prints_as_json(corpus: Corpus) -> None:
    answer = corpus("Where does the Brandenburg Gate stand?")
    assert isinstance(answer, CorpusAnswer)
    row = answer.to_dict()
    assert row["text"] == "Berlin"
    assert row["spent"]["configuration"] == "full"
    assert " ".join(row["spent"]) == (
        "configuration coarse retrieved read read_again windows macs bert_base_macs seconds"
    )
    assert set(row) >= {"document", "title", "start", "end", "passage", "score", "confidence", "retrieval"}


def test_copies_of_a_text_take_the_place_of_one_passage(tmp_path: Path, qa: QuestionAnswerer) -> None:
    text = "The tower, the tower, the tower: where does the tower stand? The tower stands in Paris."
    corpus = Corpus(tmp_path / "index", qa=qa)
    corpus.put_many([(f"copy/{i}", "", text.replace(" ", "\n" if i % 2 else " ")) for i in range(90)])
    corpus.put_many([(f"other/{i}", "", f"Report {i}: the tower stands in city number {i}.") for i in range(6)])
    assert {hit.passage.document.partition("/")[0] for hit in corpus.find("Where does the tower stand?")} == {"copy"}
    found = retrieve(corpus.index, "Where does the tower stand?", 5)
    assert [hit.passage.document.partition("/")[0] for hit in found] == ["copy"] + 4 * ["other"]
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
    assert len(retrieve(corpus.index, "Where does the tower stand?", 50)) == 7
    answers = corpus("Where does the tower stand?", top_k=4, passages=5, score_threshold=0)
    assert len({(answer.text, answer.passage) for answer in answers}) == len(answers) == 4
    assert sum(answer.document.startswith("copy/") and answer.text == "Paris" for answer in answers) == 1
    assert answers[0].spent.retrieved == 5


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The price of the lamp is $5.", "The price of the lamp is €5."),
        ("The lamp was made for -5 °C.", "The lamp was made for +5 °C."),
        ("The lamp is driven by C++.", "The lamp is driven by C#."),
        ("दीपक lamp घर का दिन", "दीपक lamp घर की दान"),
    ],
)
def test_texts_that_differ_in_a_sign_are_different(tmp_path: Path, qa: QuestionAnswerer, one: str, other: str) -> None:
    corpus = Corpus(tmp_path / "index", qa=qa)
    corpus.put_many([("one", "", one), ("other", "", other)])
    assert {hit.passage.text for hit in retrieve(corpus.index, "Which lamp?", 5)} == {one, other}
