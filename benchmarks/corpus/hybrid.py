"""Measure word vectors beside BM25: recall, time, size, answers. `scripts/distill_vectors.py` makes the vectors.

usage: python -m benchmarks.corpus.hybrid recall --vectors V256.npz V128.npz --work DIR
       python -m benchmarks.corpus.hybrid squad --vectors V256.npz --work DIR --names 'parts 256, 40'
       python -m benchmarks.corpus.hybrid time|answers --vectors V256.npz --work DIR --weight 40

`recall` chooses on the questions that are not SQuAD's, half by half; `squad` measures what was chosen. The retrievers:

- parts: the vectors of up to 8 parts of a passage, joined sentences; BM25's first 200 are ranked by BM25 plus a weight
  times the highest cosine of a part. The vectors are in memory.
- all parts: the same, but over all passages, so also those without a word of the question.
- whole: one vector a passage, over all passages; RRF: the same by reciprocal rank fusion (k = 60).
- nearest: the question's words and their nearest words by vectors, as one query of BM25.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import tantivy
from tokenizers import Tokenizer

from benchmarks import common
from benchmarks.corpus.hybrid_sets import Asked, Texts, own_questions, squad_questions
from benchmarks.corpus.paraphrase import WordNet, paraphrase
from dynamic_tinybert.corpus import Hit
from dynamic_tinybert.corpus.index.analyzer import question_words, words_of
from dynamic_tinybert.corpus.index.schema import passage_of

AT = (1, 5, 20)
HEADER = ("", *(f"recall at {k}" for k in AT), *(f"gain at {k}" for k in AT))
DEPTH, PARTS = 200, 8
SENTENCE = re.compile(r"(?<=[.!?])\s+|\n\s*\n")
EMBEDDED = common.ROOT / "src/dynamic_tinybert/embedded/tokenizer.json"


# The vectors.


class Vectors:
    """Static vectors of tokens; a text's vector is the sum over its tokens, of length 1."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as file:
            self.tokens = [str(token) for token in file["tokens"]]
            self.table = file["vectors"].astype(np.float32) * file["scales"][:, None]
        self.bytes = path.stat().st_size
        self._tokenizer = Tokenizer.from_file(str(EMBEDDED))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        assert [self._tokenizer.id_to_token(n) for n in range(len(self.tokens))] == self.tokens

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [found.ids for found in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def of(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        total: np.ndarray = self.table[ids].sum(axis=0)
        return total / max(float(np.linalg.norm(total)), 1e-9)

    def parts_of(self, text: str) -> np.ndarray:
        """Return the vectors of a passage's parts, of shape [at most PARTS, dimensions]."""
        sentences = [ids for ids in self.ids(SENTENCE.split(text)) if ids]
        groups = [part for part in np.array_split(np.arange(len(sentences)), PARTS) if len(part)]
        if not groups:
            return np.zeros((1, self.table.shape[1]), np.float32)
        return np.stack([self.of(np.concatenate([sentences[k] for k in group])) for group in groups])

    def parts(self, texts: Texts) -> np.ndarray:
        """Return the vectors of each passage's parts, INT8 (times 127), of shape [passages, PARTS, dimensions]."""
        found = np.zeros((len(texts.passages), PARTS, self.table.shape[1]), np.int8)
        for number, passage in enumerate(texts.passages):
            parts = self.parts_of(passage.text)
            found[number, : len(parts)] = np.rint(127 * parts)
        return found

    def wholes(self, texts: Texts) -> np.ndarray:
        return np.stack([self.of(ids) for ids in self.ids([f"{one.title}\n{one.text}" for one in texts.passages])])


class Nearest:
    """The nearest words of a word, as stems."""

    def __init__(self, vectors: Vectors, weights: float) -> None:
        stems: dict[str, int] = {}
        for number, token in enumerate(vectors.tokens):
            words = words_of(token) if token.isascii() and token.isalpha() and len(token) > 2 else []
            if len(words) == 1:
                stems.setdefault(words[0], number)
        self._names, self._at = list(stems), {stem: row for row, stem in enumerate(stems)}
        table = vectors.table[list(stems.values())]
        self._table = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-9)
        self._weight = weights
        self._known: dict[str, list[tuple[str, float]]] = {}

    def __call__(self, stem: str, count: int = 5, least: float = 0.35) -> list[tuple[str, float]]:
        if stem not in self._known:
            row, found = self._at.get(stem), []
            if row is not None:
                close = self._table @ self._table[row]
                order = np.argsort(-close)[1 : count + 1]
                found = [(self._names[n], float(close[n]) * self._weight) for n in order if close[n] > least]
            self._known[stem] = found
        return self._known[stem]


# Retrieval. Each gives numbers of passages, the best first.


class Bm25:
    """BM25 as it is today, its first `DEPTH`."""

    def __init__(self, texts: Texts) -> None:
        self.texts = texts
        self._kept: dict[str, list[tuple[int, float]]] = {}

    def __call__(self, question: str) -> list[tuple[int, float]]:
        if question not in self._kept:
            hits = self.texts.corpus.index.search(question, DEPTH)
            self._kept[question] = [
                (self.texts.at[hit.passage.document, hit.passage.number], hit.score) for hit in hits
            ]
        return self._kept[question]


Ranker = Callable[[str], Sequence[int]]


def ranked(scores: np.ndarray) -> list[int]:
    return [int(n) for n in np.argsort(-scores, kind="stable")[: max(AT)]]


def rankers(bm25: Bm25, vectors: Vectors) -> Iterator[tuple[str, Ranker]]:
    """Yield all variants that are tried, by name, with these vectors."""
    texts, size = bm25.texts, vectors.table.shape[1]
    parts, wholes = vectors.parts(texts), vectors.wholes(texts)
    flat = parts.astype(np.float32).reshape(-1, size) / 127
    cosines: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def cosine(question: str) -> tuple[np.ndarray, np.ndarray]:
        if question not in cosines:
            asked = vectors.of(vectors.ids([question])[0])
            cosines[question] = (flat @ asked).reshape(-1, PARTS).max(axis=1), wholes @ asked
        return cosines[question]

    def summed(question: str, which: int, weight: float, *, all_: bool) -> list[int]:
        scores = np.zeros(len(texts.passages)) if all_ else np.full(len(texts.passages), -np.inf)
        for number, score in bm25(question):
            scores[number] = score
        return ranked(scores + weight * cosine(question)[which])

    def fused(question: str, weight: float) -> list[int]:
        scores = np.zeros(len(texts.passages))
        for rank, (number, _) in enumerate(bm25(question)):
            scores[number] += 1 / (61 + rank)
        for rank, number in enumerate(np.argsort(-cosine(question)[1])[:DEPTH]):
            scores[number] += weight / (61 + rank)
        return ranked(scores)

    for weight in (10, 20, 30, 40):
        yield f"parts {size}, {weight}", partial(summed, which=0, weight=weight, all_=False)
        yield f"all parts {size}, {weight}", partial(summed, which=0, weight=weight, all_=True)
    for weight in (10, 20):
        yield f"whole {size}, {weight}", partial(summed, which=1, weight=weight, all_=True)
    for share in (0.3, 1.0):
        yield f"RRF {size}, {share}", partial(fused, weight=share)
    for share in (0.3, 0.6):
        yield f"nearest {size}, {share}", nearest_ranker(texts, Nearest(vectors, share))


def nearest_query(words: Sequence[str], nearest: Nearest, schema: tantivy.Schema) -> tantivy.Query:
    """Return BM25's query with the nearest words of each word; of a word and its nearest, the best counts."""
    query, occur, queries = tantivy.Query, tantivy.Occur.Should, []
    for word in words:
        same = [query.term_query(schema, "words", word, "freq")]
        same += [
            query.boost_query(query.term_query(schema, "words", other, "freq"), boost)
            for other, boost in nearest(word)
            if other not in words
        ]
        queries.append((occur, query.disjunction_max_query(same)))
    return query.boolean_query(queries)


def nearest_ranker(texts: Texts, nearest: Nearest) -> Ranker:
    index: Any = texts.corpus.index

    def rank(question: str) -> list[int]:
        words, searcher = question_words(question), index._searcher()
        if not words:
            return []
        hits = searcher.search(nearest_query(words, nearest, index._index.schema), max(AT), count=False).hits
        found = [searcher.doc(address) for _, address in hits]
        return [texts.at[one.get_first("document"), one.get_first("number") or 0] for one in found]

    return rank


# What is measured.


def recall(rank: Ranker, asked: Sequence[Asked]) -> np.ndarray:
    """Return whether the right passage is among the first, of shape [questions, AT]."""
    found = [rank(one.question) for one in asked]
    return np.array([[bool(one.right & set(list(got)[:k])) for k in AT] for one, got in zip(asked, found, strict=True)])


def row(name: str, now: np.ndarray, before: np.ndarray) -> list[str]:
    gain = now.astype(float) - before
    error = gain.std(axis=0, ddof=1) / len(gain) ** 0.5
    cells = [f"{each:.1%}" for each in now.mean(axis=0)]
    if now is before:
        return [name, *cells, *[""] * len(AT)]
    return [name, *cells, *(f"{100 * g:+.1f} ± {100 * e:.1f}" for g, e in zip(gain.mean(axis=0), error, strict=True))]


def measure_recall(args: Any, say: common.Progress) -> str:
    texts, own = own_questions(args.work)
    bm25, results = Bm25(texts), {}
    before = recall(lambda q: [n for n, _ in bm25(q)], own)
    wordnet = WordNet(args.wordnet)
    said = [paraphrase(wordnet, one.question, one.sentence) for one in own]
    other = [Asked(new, one.sentence, one.right) for one, new in zip(own, said, strict=True) if new]
    other_before = recall(lambda q: [n for n, _ in bm25(q)], other)
    other_rows = [row("BM25", other_before, other_before)]
    for path in args.vectors:
        for name, rank in rankers(bm25, Vectors(path)):
            results[name] = recall(rank, own)
            other_rows.append(row(name, recall(rank, other), other_before))
            say(name)
    folds = np.arange(len(own)) % 2
    crossed, chosen = np.zeros_like(before), []
    for fold in (0, 1):
        best = max(results, key=lambda name: results[name][folds != fold, 1].mean())
        chosen.append(best)
        crossed[folds == fold] = results[best][folds == fold]
    rows = [row(name, results.get(name, before), before) for name in ("BM25", *results)]
    rows.append(row(f"chosen half by half: {' and '.join(chosen)}", crossed, before))
    few = len(texts.passages)
    page = [f"{len(own)} own questions over {few:,} passages; gains with their standard errors:\n"]
    page += [common.table(HEADER, rows), f"\n{len(other)} of them in other words (WordNet):\n"]
    page += [common.table(HEADER, other_rows)]
    best = max(results, key=lambda name: results[name][:, 1].mean())
    return "\n".join([*page, f"\nBest on all: {best}."])


def measure_squad(args: Any, say: common.Progress) -> str:
    texts, chosen = squad_questions(args.data, args.work, args.questions)
    bm25, page = Bm25(texts), []
    ranks = {name: rank for path in args.vectors for name, rank in rankers(bm25, Vectors(path)) if name in args.names}
    wordnet = WordNet(args.wordnet)
    for which, asked in chosen.items():
        said = [paraphrase(wordnet, one.question, one.sentence) for one in asked]
        other = [Asked(new, one.sentence, one.right) for one, new in zip(asked, said, strict=True) if new]
        for what, some in ((f"`{which}`", asked), (f"`{which}`, in other words", other)):
            before = recall(lambda q: [n for n, _ in bm25(q)], some)
            rows = [row("BM25", before, before)] + [
                row(name, recall(rank, some), before) for name, rank in ranks.items()
            ]
            page.append(f"\nSQuAD {what}, {len(some):,} questions over {len(texts.passages):,} passages:\n")
            page.append(common.table(HEADER, rows))
            say(what)
    return "\n".join(page)


class PartsRetriever:
    """The best case of `parts` in a product: vectors in memory, found by the engine's address of a passage."""

    def __init__(self, texts: Texts, vectors: Vectors, weight: float) -> None:
        self._index = cast(Any, texts.corpus.index)
        self._vectors, self._weight = vectors, weight
        searcher = self._index._searcher()
        everything = searcher.search(tantivy.Query.all_query(), searcher.num_docs, count=False).hits
        parts = vectors.parts(texts)
        self._parts, self._row = parts, {}
        for _, address in everything:
            stored = searcher.doc(address)
            key = (stored.get_first("document"), stored.get_first("number") or 0)
            if key in texts.at:
                self._row[address.segment_ord, address.doc] = texts.at[key]
        self._passages = texts.passages

    def search(self, question: str, k: int) -> list[Hit]:
        words = question_words(question)
        if not words:
            return []
        query, schema = tantivy.Query, self._index._index.schema
        terms = [(tantivy.Occur.Should, query.term_query(schema, "words", word, "freq")) for word in words]
        searcher = self._index._searcher()
        hits = searcher.search(query.boolean_query(terms), max(k, DEPTH), count=False).hits
        if not hits:
            return []
        rows = [self._row[address.segment_ord, address.doc] for _, address in hits]
        asked = self._vectors.of(self._vectors.ids([question])[0]) / 127
        cosine = (self._parts[rows].astype(np.float32) @ asked).max(axis=1)
        scores = np.array([score for score, _ in hits]) + self._weight * cosine
        order = np.argsort(-scores, kind="stable")[:k]
        stored = [(searcher.doc(hits[n][1]), float(scores[n])) for n in order]
        return [Hit(passage_of(one), score) for one, score in stored]


def measure_time(args: Any, say: common.Progress) -> str:
    texts, chosen = squad_questions(args.data, args.work, 200)
    vectors = Vectors(args.vectors[0])
    began = time.perf_counter()
    parts = PartsRetriever(texts, vectors, args.weight)
    took = time.perf_counter() - began
    nearest = nearest_ranker(texts, Nearest(vectors, 0.3))

    def from_text(question: str) -> list[Hit]:
        asked = vectors.of(vectors.ids([question])[0])
        hits = texts.corpus.index.search(question, DEPTH)
        value = [hit.score + args.weight * (vectors.parts_of(hit.passage.text) @ asked).max() for hit in hits]
        return [hits[n] for n in np.argsort(-np.array(value), kind="stable")[:20]]

    questions = [one.question for one in chosen["select"]]
    runs: dict[str, Callable[[str], object]] = {
        "BM25": lambda q: texts.corpus.index.search(q, 20),
        "parts": lambda q: parts.search(q, 20),
        "parts, made at the question": from_text,
        "nearest": nearest,
    }
    seconds = common.interleave("time", runs, questions, say)
    base = statistics.median(seconds["BM25"])
    rows = [
        (name, f"{1000 * statistics.median(times):.2f} ms", f"{statistics.median(times) / base:.2f}")
        for name, times in seconds.items()
    ]
    stored = parts._parts.shape[1] * parts._parts.shape[2] * len(texts.passages) / 1e6
    index = texts.corpus.index.size() or 0
    return "\n".join(
        (
            f"The vectors of the tokens have {vectors.bytes / 1e6:.1f} MB; those of {len(texts.passages):,} passages "
            f"{stored:.1f} MB (the index has {index / 1e6:.1f} MB), and take {took:.1f} s to make.\n",
            common.table(("", "a search, median", "of BM25's"), rows),
        )
    )


def measure_answers(args: Any, say: common.Progress) -> str:
    from dynamic_tinybert import QuestionAnswerer
    from dynamic_tinybert.corpus.answering import Asking, Pace, make_plan
    from dynamic_tinybert.squad import exact_match, f1_score

    qa, rows = QuestionAnswerer(), []
    squad_texts, chosen = squad_questions(args.data, args.work, args.questions)
    own_texts, own = own_questions(args.work)
    sets = {"suite": (own_texts, own[:200]), "`select`": (squad_texts, chosen["select"])}
    for what, (texts, asked) in sets.items():
        parts = PartsRetriever(texts, Vectors(args.vectors[0]), args.weight)
        for name, index in (("BM25", texts.corpus.index), ("parts", parts)):
            scores = []
            for one in asked:
                plan = make_plan(qa, "full", passages=20, top_k=None, max_latency_ms=None, options={})
                text = Asking(index, qa, Pace(), plan)(one.question)[0].text
                scores.append([max(metric(text, a) for a in one.answers) for metric in (exact_match, f1_score)])
            em, mean = np.array(scores, float).mean(axis=0)
            rows.append((f"{what}, {len(asked)} questions", name, f"{100 * em:.1f}", f"{100 * mean:.2f}"))
            say(f"{what}, {name}")
    return common.table(("", "", "EM", "F1"), rows, left=2)


def main() -> None:
    parser = common.argument_parser(__doc__)
    parser.add_argument("what", choices=["recall", "squad", "time", "answers"])
    parser.add_argument("--vectors", type=Path, nargs="+", required=True, metavar="FILE")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="where the indexes are kept")
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"), metavar="DIR")
    parser.add_argument("--names", nargs="+", default=[], metavar="NAME", help="the retrievers for `squad`")
    parser.add_argument("--weight", type=float, default=30.0, metavar="W", help="of the cosine, for time and answers")
    parser.add_argument("--output", type=Path, metavar="FILE")
    common.add_data(parser, "train-v1.1.json.gz")
    common.add_counts(parser, questions=(1000, "questions of each part of SQuAD"))
    args = parser.parse_args()
    others = common.Others()
    measure = {"recall": measure_recall, "squad": measure_squad, "time": measure_time, "answers": measure_answers}[
        args.what
    ]
    body = measure(args, common.Progress())
    common.write_page(f"{common.heading('tantivy', 'numpy', others=others)}\n\n{body}\n", args.output)


if __name__ == "__main__":
    main()
