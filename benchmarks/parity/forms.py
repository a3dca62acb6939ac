"""Every form of a checkpoint, from a Hub on this machine: loaded, and held against transformers.

usage: python -m benchmarks.parity.forms [--strings 10000] [--output results/parity/forms.md]

A local server (tests/support/fake_hub.py) speaks the Hub's API, and huggingface_hub asks it. On it are checkpoints of
random weights in the forms of benchmarks/parity/form_folders.py. Each is loaded by its name. Then its tokens are held
against those of transformers' tokenizer, on strings of 20 scripts; its logits at `full` against those of transformers'
model, which gets what transformers' tokenizer gives; and its logits at a share of 0.5 against the plain reference of
tests/support/runtime_reference.py. The exit status is 1 if any form is not as it should be.
"""

from __future__ import annotations

import re
import tempfile
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import transformers

from benchmarks import common
from benchmarks.parity.form_folders import BOT, Form, Made, forms
from benchmarks.parity.random_models import CLOSE, QUESTION, difference, dropped, predict
from dynamic_tinybert import DynamicTinyBertError, QuestionAnswerer
from dynamic_tinybert.model import LengthConfig
from support.fake_hub import FakeHub, ask_at, running
from support.sentencepieces import SCRIPTS, strings

BUDGET = 0.5


class Row(NamedTuple):
    """What came of a form.

    Attributes:
        loads: What was said; "yes" if it was loaded in silence.
        other: How many strings have other tokens.
        full: The largest difference of logits at full, as a part of their deviation.
        half: The same at a share of 0.5.
        share: The share that was computed.
    """

    loads: str
    other: int | None = None
    full: float | None = None
    half: float | None = None
    share: float | None = None

    def cells(self) -> list[str]:
        """The row of the table."""
        other, share = common.number(self.other), common.number(self.share, decimals=2)
        return [self.loads, other, _exact(self.full), share, _exact(self.half)]


def main() -> int:
    parser = common.argument_parser(__doc__)
    common.add_counts(parser, strings=(10_000, "strings"))
    parser.add_argument("--output", type=Path, metavar="FILE", help="the page, beside standard output")
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    say, texts = common.Progress(), list(strings(args.strings))
    rows, wrong = [], []
    for form in forms():
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch, running() as hub:
            from huggingface_hub import constants

            ask_at(hub.url, patch)
            patch.setattr(constants, "HF_TOKEN_PATH", str(Path(folder) / "no-token"))
            row = _row(form, hub, Path(folder), texts)
        good = form.refused in row.loads if form.refused else _is_good(form, row, args.strings)
        if not good:
            wrong.append(form)
        rows.append((form.what, form.kind, *row.cells()))
        say(f"{form.what}, {form.kind}: {'' if good else 'WRONG: '}{row}")
    common.write_page(_page(rows, args.strings), args.output)
    return 1 if wrong else 0


def _row(form: Form, hub: FakeHub, folder: Path, texts: list[str]) -> Row:
    made = form.make(folder / "made")
    name = made.name or "ada/model"
    repository = hub.make(name, files=made.files, private=made.private)
    for branch, files in made.branches.items():
        repository.branches[branch] = repository.branches["main"]
        repository.commit(branch, files, branch)
    if made.conversion:
        repository.request(made.conversion, title=BOT[1], author=BOT[0])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            options = {"cache_dir": folder / "cache", "precision": "fp32", "threads": 1, **made.options}
            qa = QuestionAnswerer(made.given or name, **options)
        except DynamicTinyBertError as error:
            line = re.sub(rf"{re.escape(str(folder))}/[\w./-]*/snapshots/\w+", "FOLDER", str(error))
            return Row(f"refused: {line}")
    lines = [re.sub("[0-9a-f]{40}", "COMMIT", str(warning.message)) for warning in said]
    warnings.simplefilter("ignore")  # of a table that nobody measured
    config = qa.table.select(qa.shape, BUDGET)
    return Row(
        "; ".join(["yes", *lines]),
        _other_tokens(qa, made, texts),
        _at_full(qa, made),
        dropped(qa, folder_of(qa), _windows(qa)[0], config.config),
        config.share,
    )


def folder_of(qa: QuestionAnswerer) -> Path:
    """Return the folder that was downloaded."""
    return Path(qa._folder() or "")


def _windows(qa: QuestionAnswerer) -> list[Any]:
    options = {"max_seq_len": 128, "doc_stride": 8, "max_question_len": 64}
    return [next(qa.reader.windows(QUESTION, text, **options)) for text in _texts()]


def _texts() -> list[str]:
    eiffel = (common.ROOT / "examples" / "eiffel-tower.txt").read_text("utf-8")
    return ["The tower stands in Paris, 1 kilometre from here.", eiffel[:900], " ".join(SCRIPTS)]


def _other_tokens(qa: QuestionAnswerer, made: Made, texts: list[str]) -> int:
    """Count the strings whose tokens are not transformers'."""
    count = 0
    for number, text in enumerate(texts):
        if made.words and number % 3 == 0:
            text = f"{text} {made.words[number % len(made.words)]} {text}"
        found = [part.ids for part in qa.reader.tokenizer.text(text)]
        ours = np.concatenate(found).tolist() if found else []
        theirs = made.tokens or (lambda text: made.tokenizer(text, add_special_tokens=False)["input_ids"])
        count += ours != theirs(text)
    return count


def _at_full(qa: QuestionAnswerer, made: Made) -> float:
    """Return the largest difference of logits, as a part of their deviation; infinite if tokens differ."""
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(made.folder, dtype=torch.float32).eval()
    largest = 0.0
    for text, window in zip(_texts(), _windows(qa), strict=True):
        types = {"return_token_type_ids": True} if model.config.model_type == "albert" else {}  # its issue 48128
        encoded = made.tokenizer(QUESTION, text, truncation="only_second", max_length=128, return_tensors="pt", **types)
        if encoded["input_ids"][0].tolist() != window.ids.tolist():
            return float("inf")
        logits = qa.reader.predict([window], [LengthConfig.full(qa.shape.layers)])
        largest = max(largest, difference(logits, predict(model, encoded)))
    return largest


def _is_good(form: Form, row: Row, count: int) -> bool:
    if row.full is None or row.other is None:
        return False
    few = count / 500 if "spm.model" in form.what else 0  # marks without a letter, and zero-width spaces at an end
    return row.full < CLOSE and row.other <= few and (row.half is None or row.half < CLOSE)


def _exact(value: float | None) -> str:
    return "-" if value is None else f"{value:.0e}"


def _page(rows: list[tuple[str, ...]], count: int) -> str:
    header = (
        "form",
        "architecture",
        "loads",
        f"other tokens, of {count} strings",
        "largest difference at `full`",
        f"share at {BUDGET:g}",
        "largest difference there",
    )
    return (
        "# Forms of checkpoints, from a Hub\n\n"
        f"{common.heading('transformers', 'tokenizers', 'huggingface_hub', 'torch', 'onnxruntime')}\n\n"
        "A server on this machine speaks the Hub's API, and huggingface_hub asks it. Weights are random. Tokens are "
        "held against transformers' tokenizer on strings of 20 scripts, and logits at `full` against transformers' "
        "model, which gets what its tokenizer gives. Logits at a budget are held against the plain reference, "
        "with the same tokens kept. Differences are parts of the logits' deviation (of 1 if that is less): "
        f"{CLOSE:g} at most is equal.\n\n"
        "Where transformers 5 differs from the published models, they go first. For `spm.model` the tokens are those "
        "of SentencePiece itself, of which transformers 5 leaves the normalization out; 1 in 500 may differ, "
        "by marks without a letter and zero-width spaces at an end. DeBERTa with `vocab.json` has one separator "
        "between question and text, as in transformers 4; ALBERT has token types.\n\n"
        f"{common.table(header, rows, left=3)}\n"
    )


if __name__ == "__main__":
    raise SystemExit(main())
