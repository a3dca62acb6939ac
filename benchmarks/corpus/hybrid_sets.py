"""The texts and questions of `hybrid`: the suite and Debian's documents in one index, and SQuAD's paragraphs."""

from __future__ import annotations

import gzip
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import common
from benchmarks.quality.suite import SUITE, read_suite
from dynamic_tinybert.corpus import Corpus, Passage

DEBIAN = Path(__file__).with_name("debian.tsv")
DOCUMENTS = Path("/usr/share/doc")
NAMES = re.compile(r"(README.*|.*FAQ.*|.*\.(txt|md)|NEWS\.Debian)(\.gz)?", re.IGNORECASE)
LARGEST = 300_000  # bytes of a document, unless questions name it


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
