"""Measure word vectors beside BM25: recall, time, size, answers. `scripts/distill_vectors.py` makes the vectors.

usage: python -m benchmarks.corpus.hybrid recall --vectors V256.npz V128.npz --work DIR --data SQUAD
       python -m benchmarks.corpus.hybrid time|answers --vectors V256.npz --work DIR --data SQUAD

`recall` chooses on the questions that are not SQuAD's, half by half, and reports SQuAD beside. The retrievers:

- parts: the vectors of up to 8 parts of a passage, joined sentences; BM25's first 200 are ranked by BM25 plus a weight
  times the highest cosine of a part. The vectors are in memory.
- all parts: the same, but over all passages, so also those without a word of the question.
- whole: one vector a passage, over all passages; RRF: the same by reciprocal rank fusion (k = 60).
- nearest: the question's words and their nearest words by vectors, as one query of BM25.
"""

from __future__ import annotations

import gzip
import random
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tantivy
from tokenizers import Tokenizer

from benchmarks import common
from benchmarks.corpus.paraphrase import WordNet, paraphrase
from benchmarks.quality.suite import SUITE, read_suite
from dynamic_tinybert.corpus import Corpus, Hit, Passage
from dynamic_tinybert.corpus.index.analyzer import question_words, words_of

DEBIAN = Path(__file__).with_name("debian.tsv")
DOCUMENTS = Path("/usr/share/doc")
NAMES = re.compile(r"(README.*|.*FAQ.*|.*\.(txt|md)|NEWS\.Debian)(\.gz)?", re.IGNORECASE)
LARGEST = 300_000  # bytes of a document, unless questions name it
AT = (1, 5, 20)
DEPTH, PARTS = 200, 8
SENTENCE = re.compile(r"(?<=[.!?])\s+|\n\s*\n")
EMBEDDED = common.ROOT / "src/dynamic_tinybert/embedded/tokenizer.json"


# The texts and the questions.


@dataclass
class Asked:
    """A question, the sentence that answers it, the passages that are right (by number), accepted answers."""

    question: str
    sentence: str
    right: set[int]
    answers: Sequence[str] = ()


@dataclass
class Texts:
    """An index and its passages."""

    corpus: Corpus
    passages: list[Passage] = field(default_factory=list)
    of: dict[str, list[int]] = field(default_factory=dict)  # passages by document

    def __post_init__(self) -> None:
        for info in self.corpus.documents():
            for passage in self.corpus.index.document(info.name):
                self.of.setdefault(passage.document, []).append(len(self.passages))
                self.passages.append(passage)
        self.at = {(one.document, one.number): number for number, one in enumerate(self.passages)}

    def asked(self, question: str, document: str, quotes: Sequence[str]) -> Asked:
        """Find the passages of a document that have one of the quotes as whole words, and a sentence with one."""
        found = [re.compile(rf"(?<!\w){re.escape(' '.join(quote.split()))}(?!\w)") for quote in quotes]
        texts = {number: " ".join(self.passages[number].text.split()) for number in self.of[document]}
        right = {number for number, text in texts.items() if any(one.search(text) for one in found)}
        if not right:  # the quote is cut in two: the passage with most of it
            half = [quote[: len(quote) * 2 // 3] for quote in quotes] + [quote[len(quote) // 3 :] for quote in quotes]
            right = {number for number, text in texts.items() if any(one in text for one in half)}
        sentences = [one for number in right for one in re.split(r"(?<=[.!?]) ", texts[number])]
        sentence = next((one for one in sentences if any(each.search(one) for each in found)), " ".join(sentences))
        return Asked(question, sentence, right, quotes)


def debian_documents(first: set[Path]) -> Iterator[tuple[str, bytes]]:
    """Yield the plain documents of this machine's packages, those with questions first, each text once."""
    seen = set()
    for path in [*sorted(first), *sorted(set(DOCUMENTS.rglob("*")) - first)]:
        linked = path.is_symlink() and path not in first
        if linked or not path.is_file() or not NAMES.fullmatch(path.name) or "changelog" in str(path).lower():
            continue
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if (len(content) <= LARGEST or path in first) and content not in seen:
            seen.add(content)
            yield file_of(str(path.relative_to(DOCUMENTS))), content


def file_of(name: str) -> str:
    flat = name.replace("/", "__")
    return flat if flat.endswith((".txt", ".md")) else f"{flat}.txt"


def own_questions(work: Path) -> tuple[Texts, list[Asked]]:
    """Index the suite's texts and Debian's documents together; return their questions."""
    lines = [line.split("\t") for line in DEBIAN.read_text("utf-8").splitlines() if not line.startswith("#")]
    folder = work / "own"
    if not folder.exists():
        folder.mkdir(parents=True)
        for name, content in debian_documents({DOCUMENTS / line[1] for line in lines}):
            (folder / name).write_bytes(content)
        for path in SUITE.glob("*.txt"):
            (folder / f"suite__{path.name}").write_bytes(path.read_bytes())
    corpus = Corpus(work / "own-index")
    corpus.add(folder)
    texts = Texts(corpus)
    where = {Path(name).name: name for name in texts.of}
    suite = {name.partition("-")[2].removesuffix(".txt"): where[name] for name in where if name.startswith("suite__")}
    asked = [texts.asked(one.question, suite[one.kind], one.answers) for one in read_suite()]
    return texts, asked + [texts.asked(question, where[file_of(name)], [quote]) for question, name, quote in lines]


def squad_questions(data: Path, work: Path, count: int) -> tuple[Texts, dict[str, list[Asked]]]:
    """Index all paragraphs of SQuAD's train; return questions of the `select` and of the `confirm` articles."""
    articles = common.read_articles(data)
    corpus = Corpus(work / "squad-index")
    if not (work / "squad-index").exists():
        corpus.put_many(
            (f"{n}:{m}", article["title"].replace("_", " "), paragraph["context"])
            for n, article in enumerate(articles)
            for m, paragraph in enumerate(article["paragraphs"])
        )
    texts, chosen = Texts(corpus), {}
    for name in ("select", "confirm"):
        titles = common.held_out_titles(name)
        found = [
            (qa["question"], f"{n}:{m}", [answer["text"] for answer in qa["answers"]])
            for n, article in enumerate(articles)
            if article["title"] in titles
            for m, paragraph in enumerate(article["paragraphs"])
            for qa in paragraph["qas"]
        ]
        chosen[name] = [texts.asked(*one) for one in random.Random(0).sample(found, count)]
    return texts, chosen


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

    def of(self, ids: Sequence[int]) -> np.ndarray:
        total = self.table[ids].sum(axis=0)
        return total / max(float(np.linalg.norm(total)), 1e-9)

    def parts(self, texts: Texts) -> np.ndarray:
        """Return the vectors of each passage's parts, INT8 (times 127), of shape [passages, PARTS, dimensions]."""
        found = np.zeros((len(texts.passages), PARTS, self.table.shape[1]), np.int8)
        for number, passage in enumerate(texts.passages):
            sentences = [ids for ids in self.ids(SENTENCE.split(passage.text)) if ids]
            groups = [part for part in np.array_split(np.arange(len(sentences)), PARTS) if len(part)]
            for n, group in enumerate(groups):
                found[number, n] = np.rint(127 * self.of(np.concatenate([sentences[k] for k in group])))
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
        yield f"parts {size}, {weight}", lambda q, w=weight: summed(q, 0, w, all_=False)
        yield f"all parts {size}, {weight}", lambda q, w=weight: summed(q, 0, w, all_=True)
    for weight in (10, 20):
        yield f"whole {size}, {weight}", lambda q, w=weight: summed(q, 1, w, all_=True)
    for share in (0.3, 1.0):
        yield f"RRF {size}, {share}", lambda q, w=share: fused(q, w)
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
    header = ["", *(f"recall at {k}" for k in AT), *(f"gain at {k}" for k in AT)]
    names = ["BM25", *results]
    rows = [row(name, results.get(name, before), before) for name in names]
    rows.append(row(f"chosen half by half: {' and '.join(chosen)}", crossed, before))
    few = len(texts.passages)
    page = [f"{len(own)} own questions over {few:,} passages; gains with their standard errors:\n"]
    page += [common.table(header, rows), f"\n{len(other)} of them in other words (WordNet):\n"]
    page += [common.table(header, other_rows)]
    best = max(results, key=lambda name: results[name][:, 1].mean())
    page += [f"\nBest on all: {best}.\n", squad_recall(args, [*dict.fromkeys([best, *chosen])], header, say)]
    return "\n".join(page)


def squad_recall(args: Any, names: Sequence[str], header: Sequence[str], say: common.Progress) -> str:
    texts, chosen = squad_questions(args.data, args.work, args.questions)
    bm25, page = Bm25(texts), []
    ranks = {
        name: rank
        for path in args.vectors
        if any(f" {np.load(path)['vectors'].shape[1]}," in name for name in names)
        for name, rank in rankers(bm25, Vectors(path))
    }
    wordnet = WordNet(args.wordnet)
    for which, asked in chosen.items():
        said = [paraphrase(wordnet, one.question, one.sentence) for one in asked]
        other = [Asked(new, one.sentence, one.right) for one, new in zip(asked, said, strict=True) if new]
        for what, some in ((f"`{which}`", asked), (f"`{which}`, in other words", other)):
            before = recall(lambda q: [n for n, _ in bm25(q)], some)
            rows = [row("BM25", before, before)] + [row(name, recall(ranks[name], some), before) for name in names]
            page.append(f"\nSQuAD {what}, {len(some):,} questions over {len(texts.passages):,} passages:\n")
            page.append(common.table(header, rows))
            say(what)
    return "\n".join(page)


class PartsRetriever:
    """The best case of `parts` in a product: vectors in memory, found by the engine's address of a passage."""

    def __init__(self, texts: Texts, vectors: Vectors, weight: float) -> None:
        self._index: Any = texts.corpus.index
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
        from dynamic_tinybert.corpus.index.schema import passage_of

        return [Hit(passage_of(one), score) for one, score in stored]


def measure_time(args: Any, say: common.Progress) -> str:
    texts, chosen = squad_questions(args.data, args.work, 200)
    vectors = Vectors(args.vectors[0])
    began = time.perf_counter()
    parts = PartsRetriever(texts, vectors, args.weight)
    took = time.perf_counter() - began
    nearest = nearest_ranker(texts, Nearest(vectors, 0.3))
    questions = [one.question for one in chosen["select"]]
    runs: dict[str, Callable[[str], object]] = {
        "BM25": lambda q: texts.corpus.index.search(q, 20),
        "parts": lambda q: parts.search(q, 20),
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
    parser.add_argument("what", choices=["recall", "time", "answers"])
    parser.add_argument("--vectors", type=Path, nargs="+", required=True, metavar="FILE")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="where the indexes are kept")
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"), metavar="DIR")
    parser.add_argument("--weight", type=float, default=30.0, metavar="W", help="of the cosine, for time and answers")
    parser.add_argument("--output", type=Path, metavar="FILE")
    common.add_data(parser, "train-v1.1.json.gz")
    common.add_counts(parser, questions=(1000, "questions of each part of SQuAD"))
    args = parser.parse_args()
    others = common.Others()
    measure = {"recall": measure_recall, "time": measure_time, "answers": measure_answers}[args.what]
    body = measure(args, common.Progress())
    common.write_page(f"{common.heading('tantivy', 'numpy', others=others)}\n\n{body}\n", args.output)


if __name__ == "__main__":
    main()
