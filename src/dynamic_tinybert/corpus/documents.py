"""Ask a question of files as they are, without an index."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from dynamic_tinybert.answer import Answer, EmptyQuestionError
from dynamic_tinybert.corpus.discover import DocumentNames, find_files
from dynamic_tinybert.corpus.errors import CorpusError, UnreadableError
from dynamic_tinybert.corpus.formats import (
    KINDS,
    PLAIN,
    Complaints,
    Reading,
    Span,
    check_beginning,
    decoded,
    encoding_of,
    endless,
    most_bytes,
    read,
)
from dynamic_tinybert.corpus.places import Box, check_span, find, not_paged
from dynamic_tinybert.errors import warn
from dynamic_tinybert.files import NoTextError, decode_text
from dynamic_tinybert.inference import Options, check_pair
from dynamic_tinybert.qa import QuestionAnswerer

if TYPE_CHECKING:
    from typing_extensions import Unpack

_MOST_OF_A_STREAM = 1 << 28  # bytes of what has no size, as a pipe or a device
_PAGE_END = "\f"


class Document(NamedTuple):
    """A text with its source.

    Attributes:
        name: The path, with the id of a JSON Lines record; empty if the text is of no file.
        text: The text.
        paged: Whether form feeds divide the text into pages.
    """

    name: str
    text: str
    paged: bool = False

    def page(self, at: int) -> int | None:
        """Return the page of a character, from 1; None without pages."""
        return self.text.count(_PAGE_END, 0, at) + 1 if self.paged else None


@dataclass(frozen=True, kw_only=True)
class FileAnswer(Answer):
    """An answer from a document.

    Attributes:
        document: The path of the file, as given or found in a folder; of a JSON Lines record with `#` and its id.
        page: The page of a PDF, from 1; None for other kinds. `start` and `end` count the characters of the whole text.
    """

    document: str
    page: int | None = None

    def boxes(self) -> list[Box]:
        """Find where the answer stands on the pages of a PDF: a box for each line. The file is read again for this.

        Returns:
            The boxes; none if there is no answer, or if the document is not a PDF.

        Raises:
            UnreadableError: The file has changed since it was read, or cannot be read any more.
            OSError: It cannot be opened.
        """
        return [] if self.page is None else find(self.document, self._span())[0]

    def picture(self) -> bytes:
        """Draw the page of a PDF with the answer marked: a PNG. Of an answer on two pages, the first.

        Raises:
            UnreadableError: There is no answer, the document is not a PDF, or see `boxes`.
            OSError: The file cannot be opened.
        """
        if not self.text:
            raise UnreadableError("there is no answer, so there is no page to show")
        if self.page is None:
            raise not_paged(self.document)
        return find(self.document, self._span(picture=True))[1]

    def _span(self, *, picture: bool = False) -> Span:
        around, begin = self.surroundings
        return check_span(self.start, self.end, self.start - begin, around, picture=picture)

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as the dictionary that `--json` prints."""
        row = super().to_dict()
        if self.document:
            row |= {"document": self.document, "sentence": self.sentence}
        return row if self.page is None else {**row, "page": self.page}


@overload
def ask_files(
    question: str,
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    qa: QuestionAnswerer | None = ...,
    top_k: None = ...,
    reading: Reading | None = ...,
    skipped: Callable[[str], None] = ...,
    **options: Unpack[Options],
) -> FileAnswer: ...
@overload
def ask_files(
    question: str,
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    qa: QuestionAnswerer | None = ...,
    top_k: int,
    reading: Reading | None = ...,
    skipped: Callable[[str], None] = ...,
    **options: Unpack[Options],
) -> list[FileAnswer]: ...


def ask_files(
    question: str,
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    qa: QuestionAnswerer | None = None,
    top_k: int | None = None,
    reading: Reading | None = None,
    skipped: Callable[[str], None] = warn,
    **options: Unpack[Options],
) -> FileAnswer | list[FileAnswer]:
    """Answer a question from files and folders, without an index. Every document is read whole.

    HTML, PDF, Word and JSON Lines are extracted as for an index; every other file is read as text. Of a folder, the
    files of known kinds are read. The answers of several documents are ranked by confidence, or by what their logit
    gains over no answer if the model has no calibration.

    Args:
        question: The question.
        paths: A file or folder, or several.
        qa: The model; by default the embedded one.
        top_k: How many answers to give. Fewer come if the others overlap a better one or have much lower scores.
        reading: How to read files: see `Reading`.
        skipped: Called with one line for each file of a folder, and for each record or page, that cannot be read.
        options: See `QuestionAnswerer`.

    Returns:
        The best answer; with `top_k` a list, the best first.

    Raises:
        CorpusError: There is no document, or a file given by name cannot be read (`UnreadableError`).
        OSError: A file given by name cannot be opened.
        ImportError: The package that reads a kind is not installed (extra `corpus`).
        ValueError: The question is empty, or an option is out of range.

    Example:
        >>> from dynamic_tinybert import ask_files
        >>> answer = ask_files("Who designed the tower?", ["manual.pdf", "notes/"])  # doctest: +SKIP
        >>> answer.text, answer.document, answer.page, answer.sentence  # doctest: +SKIP
        ('Koechlin and Nouguier', 'manual.pdf', 3, 'It was designed by Koechlin and Nouguier.')
    """
    given = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    qa = qa or QuestionAnswerer()
    check_pair(question, "", None)
    _check(qa, top_k, **options)
    documents = read_documents(given, reading=reading, skipped=skipped)
    found = ask_documents(qa, question, documents, top_k=1 if top_k is None else top_k, **options)
    answers = [answer for _, answer in found]
    return answers[0] if top_k is None else answers


def read_documents(
    paths: Sequence[str | os.PathLike[str]],
    *,
    reading: Reading | None = None,
    skipped: Callable[[str], None] = warn,
    seen: Counter[str] | None = None,
) -> list[Document]:
    """Read files, and folders with everything in them: see `ask_files`. Each file is read once, however often it comes.

    Args:
        paths: The files and folders.
        reading: How to read files.
        skipped: Called with one line for what cannot be read.
        seen: How often each file came in earlier calls; such files are not read again.

    Raises:
        CorpusError, OSError, ImportError: See `ask_files`. A file of a folder that cannot be read is skipped instead.
    """
    found: list[Document] = []
    seen = Counter() if seen is None else seen
    before = seen.total() - len(seen)  # how often a file came again
    names = [os.fspath(path) for path in paths]
    for path in names:
        of_path = _of_folder if os.path.isdir(path) else _of_file
        found.extend(of_path(path, reading or Reading(), skipped, seen))
    if not found and seen.total() - len(seen) == before:
        raise CorpusError(f"there is no document in {', '.join(names) or 'an empty list of paths'}")
    return found


def ask_documents(
    qa: QuestionAnswerer, question: str, documents: Sequence[Document], *, top_k: int, **options: Unpack[Options]
) -> list[tuple[Document, FileAnswer]]:
    """Answer a question from documents: at least one answer and at most `top_k`, the best first."""
    texts = [document.text for document in documents]
    try:
        if top_k == 1:  # "no answer" counts, so that there always is one
            each = [[answer] for answer in qa(question, texts, **options)]
        else:
            each = qa(question, texts, top_k=top_k, **options)
    except EmptyQuestionError:  # its number among the texts would say nothing
        raise EmptyQuestionError("the question is empty") from None
    found = [(document, answer) for document, answers in zip(documents, each, strict=True) for answer in answers]
    if len(documents) > 1:
        found.sort(key=lambda pair: _worth(pair[1]), reverse=True)
    return [(document, _of_document(answer, document)) for document, answer in found[:top_k]]


def _check(qa: QuestionAnswerer, top_k: int | None, **options: Unpack[Options]) -> None:
    options.pop("progress", None)
    qa.settings(top_k=top_k, **options)


def _worth(answer: Answer) -> tuple[bool, float]:
    gain = answer.logit - answer.no_answer_logit
    return bool(answer.text), gain if answer.confidence is None else answer.confidence


def _of_document(answer: Answer, document: Document) -> FileAnswer:
    given = {field.name: getattr(answer, field.name) for field in fields(Answer)}
    return FileAnswer(**given, document=document.name, page=document.page(answer.start) if answer.text else None)


def _of_folder(folder: str, reading: Reading, skipped: Callable[[str], None], seen: Counter[str]) -> Iterator[Document]:
    top = os.path.abspath(folder)
    for path, _ in find_files([folder], Counter(), lambda path, why: skipped(f"{path}: {why}")):
        seen[path] += 1
        if seen[path] > 1:
            continue
        name = os.path.join(folder, os.path.relpath(path, top))
        try:
            yield from _extracted(path, name, reading, skipped)
        except (UnreadableError, OSError) as error:
            skipped(f"{name}: {(isinstance(error, OSError) and error.strerror) or error}")


def _of_file(path: str, reading: Reading, skipped: Callable[[str], None], seen: Counter[str]) -> Iterator[Document]:
    there = os.path.abspath(path)
    seen[there] += 1
    if seen[there] > 1:
        return
    suffix = Path(path).suffix.lower()
    try:
        if suffix in KINDS and suffix not in PLAIN:
            yield from _extracted(path, path, reading, skipped)
            return
        file = io.BytesIO(_content(path))
        text = None if reading.encoding is None else "".join(decoded(file, encoding_of(file, reading)))
    except UnreadableError as error:
        raise UnreadableError(f"{path} {error}") from None
    try:
        yield Document(path, decode_text(file.getvalue(), path) if text is None else text)
    except NoTextError as error:
        raise UnreadableError(str(error)) from None


def _content(path: str) -> bytes:
    check_beginning(Path(path), os.stat(path).st_size)
    with open(path, "rb") as file:
        most = most_bytes(file)
        content = file.read((_MOST_OF_A_STREAM if most is None else most) + 1)
    if most is None and len(content) > _MOST_OF_A_STREAM:
        raise UnreadableError(f"has more than {_MOST_OF_A_STREAM >> 20} MiB, perhaps without end")
    if most is not None and len(content) > most:
        raise endless()
    return content


def _extracted(path: str, name: str, reading: Reading, skipped: Callable[[str], None]) -> Iterator[Document]:
    paged = Path(path).suffix.lower() == ".pdf"
    check_beginning(Path(path), os.stat(path).st_size)
    names, complaints = DocumentNames(name), Complaints(lambda why: skipped(f"{name}: {why}"))
    try:
        for draft in read(Path(path), reading, complain=complaints):
            yield Document(names.next(draft) if draft.id else name, "".join(draft.blocks), paged)
    finally:
        complaints.finish()
