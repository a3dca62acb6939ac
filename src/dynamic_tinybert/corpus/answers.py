"""Answers from a corpus."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from dynamic_tinybert import layers
from dynamic_tinybert.answer import Spent, headline, in_sentence, sentence_of
from dynamic_tinybert.corpus.errors import UnreadableError
from dynamic_tinybert.corpus.formats import Span
from dynamic_tinybert.corpus.places import Box, check_paged, check_span, find, is_paged, path_of

_SPENT = (  # the fields of `spent` that `--json` prints
    "configuration", "coarse", "retrieved", "read", "read_again", "windows", "macs", "bert_base_macs", "seconds",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CorpusAnswer:
    """An answer from a corpus: `corpus.text(answer.document)[answer.start:answer.end] == answer.text`.

    Attributes:
        text: The words that answer the question; empty if no passage contains an answer.
        document: The name of the document that contains the answer.
        title: The title of the document; may be empty.
        start: The start of the answer, in characters of the document's text.
        end: The end of the answer, in characters of the document's text.
        passage: The text of the passage that contains the answer.
        passage_start: The start of the passage, in characters of the document's text.
        score: Softmax of the sum of the model's and the retrieval's scores, over the candidates of the last round of
            predictions; in [0, 1].
        confidence: Calibrated probability that the passage answers the question and that this is the answer; None for a
            model without calibration.
        logit: Start logit plus end logit, raw; minus infinity if there is no answer.
        retrieval: The BM25 score of the passage.
        spent: The cost of the question.
    """

    text: str
    document: str
    title: str
    start: int
    end: int
    passage: str = field(repr=False)
    passage_start: int = field(repr=False)
    score: float
    confidence: float | None = None
    logit: float
    retrieval: float
    spent: Spent = field(repr=False)

    @property
    def sentence(self) -> str:
        """The sentence of the passage that contains the answer, on one line; empty if there is no answer."""
        begin, end = self.start - self.passage_start, self.end - self.passage_start
        return sentence_of(self.passage, begin, end) if self.text else ""

    def show(self) -> None:
        """Show the answer in its sentence, with its document: HTML in a notebook, elsewhere a text."""
        begin = self.start - self.passage_start
        head = headline(self.text, self.score, self.confidence, self.spent)
        where = f"   {self.title or self.document}" if self.text else ""
        shown = (head + where, *in_sentence(self.passage, begin, len(self.text)))
        layers.show(layers.as_html(*shown), layers.as_text(*shown))

    def boxes(self) -> list[Box]:
        """Find where the answer stands on the pages of a PDF: a box for each line. The file is read again for this.

        Returns:
            The boxes; none if there is no answer, or if the document is not a PDF.

        Raises:
            UnreadableError: The file has changed since it was added to the index, or cannot be read any more.
            OSError: It cannot be opened.
        """
        return find(path_of(self.document), self._span())[0] if self.text and is_paged(self.document) else []

    def picture(self) -> bytes:
        """Draw the page of a PDF with the answer marked: a PNG. Of an answer on two pages, the first.

        Raises:
            UnreadableError: There is no answer, the document is not a PDF, or see `boxes`.
            OSError: The file cannot be opened.
        """
        if not self.text:
            raise UnreadableError("there is no answer, so there is no page to show")
        check_paged(self.document)
        return find(path_of(self.document), self._span(picture=True))[1]

    def _span(self, *, picture: bool = False) -> Span:
        return check_span(self.start, self.end, self.passage_start, self.passage, picture=picture)

    def to_dict(self) -> dict[str, Any]:
        """Return the dictionary that `--json` prints."""
        row = asdict(self) | {"logit": self.logit if math.isfinite(self.logit) else None}
        row["spent"] = {name: row["spent"][name] for name in _SPENT} | {"seconds": round(self.spent.seconds, 4)}
        return row
