"""Random checkpoints of every architecture and option: equal to transformers, or refused in one line.

usage: python -m benchmarks.parity.random_models [--models 2000] [--part 500] [--records FILE] [--output FILE]

Each model has an architecture, sizes and options drawn at random (benchmarks/parity/random_options.py): activation,
norms, token types, width of the embeddings, positions, relative attention, groups of layers, the dtype and the shards
of its files, a tokenizer of another family, and options that nobody should support. transformers writes it and reads it
again, tokenizer and model. Then, for a question with some texts:

- the tokens of a window are those of transformers' tokenizer;
- the logits at `full` are those of transformers' model, which gets what transformers' tokenizer gives;
- with tokens dropped, the logits are those of the plain reference of tests/support/runtime_reference.py, and the same
  tokens are kept.

A model that is neither equal nor refused is printed with its options. A model depends on --seed and on its number
alone. With --records, results are kept in a file, so a run goes on where the last one ended, and --part bounds how many
models it takes. The page is of all records.
"""

from __future__ import annotations

import inspect
import json
import random
import re
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from benchmarks import common
from benchmarks.parity.random_options import ALL, Drawn, draw
from dynamic_tinybert import DynamicTinyBertError, QuestionAnswerer
from dynamic_tinybert.folder import open_folder
from dynamic_tinybert.model import LengthConfig
from support.random_checkpoints import randomize
from support.runtime_reference import TIE, answer

QUESTION = "Who designed the tower, and when?"
CLOSE = 1e-4  # of the deviation of the logits, or of 1 if that is less
_RETENTION = 0.6
_OUTCOMES = ("equal", "refused", "no model of transformers", "different")


@dataclass(frozen=True)
class Result:
    """What came of a model.

    Attributes:
        number: Which it is.
        kind: Its architecture.
        outcome: One of `equal`, `refused`, `no model of transformers`, `different`.
        full: The largest difference of logits at `full`, as a part of their deviation.
        dropping: The same with dropping, beside the reference; None if significances tied.
        why: The error, or how the model differs.
        options: What was drawn.
    """

    number: int
    kind: str
    outcome: str
    full: float = 0.0
    dropping: float | None = None
    why: str = ""
    options: str = ""


class _Different(Exception):
    """A model says something else than transformers."""


class _NoModel(Exception):
    """There is no such model in transformers."""


def main() -> None:
    parser = common.argument_parser(__doc__)
    common.add_counts(parser, models=(2000, "models"), part=(10**6, "models at most in this run"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--records", type=Path, metavar="FILE", help="JSON Lines of what each model came to")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the page, beside standard output")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    say = common.Progress()
    results = _read(args.records)
    missing = (number for number in range(args.models) if number not in results)
    for done, number in enumerate(islice(missing, args.part), 1):
        result = results[number] = one(args.seed, number)
        if result.outcome == "different":
            print(f"DIFFERENT: {result}")
        if args.records:
            with args.records.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(result)) + "\n")
        if done % 50 == 0:
            say(f"{len(results)}: {Counter(each.outcome for each in results.values())}")
    common.write_page(page(list(results.values()), args.models), args.output)


def _read(file: Path | None) -> dict[int, Result]:
    if file is None or not file.exists():
        return {}
    found = [Result(**json.loads(line)) for line in file.read_text("utf-8").splitlines()]
    return {result.number: result for result in found}


def one(seed: int, number: int) -> Result:
    """Make a model, and read it both ways."""
    drawn = draw(ALL[number % len(ALL)], random.Random(f"{seed} {number}"))
    with tempfile.TemporaryDirectory() as folder:
        try:
            full, dropping = _compare(drawn, Path(folder))
            outcome, why = "equal", ""
        except _NoModel as error:
            outcome, full, dropping, why = "no model of transformers", 0.0, None, str(error)
        except _Different as error:
            outcome, full, dropping, why = "different", 0.0, None, str(error)
        except DynamicTinyBertError as error:
            line = str(error).replace(folder, "FOLDER")
            outcome, full, dropping, why = "refused" if "\n" not in line else "different", 0.0, None, line
    return Result(number, drawn.kind, outcome, full, dropping, why, str(drawn))


def _compare(drawn: Drawn, folder: Path) -> tuple[float, float | None]:
    """Return the largest differences at full and with dropping.

    Raises:
        _Different: They are too large, or tokens differ.
        _NoModel: transformers has no such model.
        DynamicTinyBertError: It is refused.
    """
    try:
        model = randomize(transformers.AutoModelForQuestionAnswering.from_config(drawn.config), drawn.seed)
        model.to(drawn.dtype).save_pretrained(folder, max_shard_size=drawn.shards)
        drawn.tokenizer.save_pretrained(folder)
        model = transformers.AutoModelForQuestionAnswering.from_pretrained(folder, dtype=torch.float32).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # such a model cannot be
        raise _NoModel(f"{type(error).__name__} when it is made") from error
    qa = QuestionAnswerer(folder, threads=1, precision="fp32")
    text = (common.ROOT / "examples" / "eiffel-tower.txt").read_text("utf-8")
    largest, config = 0.0, LengthConfig.full(qa.shape.layers)
    windows = []
    for part, most in ((text[:900], 200), (text[900:960], 64), ("Paris", 48)):
        longest = min(most, qa.shape.positions)
        window = next(qa.reader.windows(QUESTION, part, max_seq_len=longest, doc_stride=8, max_question_len=32))
        windows.append(window)
        encoded = tokenizer(
            QUESTION,
            part,
            truncation="only_second",
            max_length=longest,
            return_tensors="pt",
            **({"return_token_type_ids": True} if drawn.tokens == "albert" else {}),  # its issue 48128
        )
        if encoded["input_ids"][0].tolist() != window.ids.tolist():
            raise _Different("other tokens")
        wanted = predict(model, encoded)
        ours = qa.reader.predict([window], [config])
        largest = max(largest, difference(ours, wanted))
    if not largest < CLOSE:  # also if it is NaN
        raise _Different(f"by {largest:.1e} at full")
    return largest, dropped(qa, folder, windows[-2], LengthConfig.uniform(qa.shape.layers, _RETENTION))


def predict(model: Any, encoded: Any) -> tuple[Any, Any]:
    """Return transformers' logits of what its tokenizer gives, without what the model does not take."""
    taken = inspect.signature(model.forward).parameters
    try:
        with torch.no_grad():
            found = model(**{name: value for name, value in encoded.items() if name in taken})
    except Exception as error:
        raise _NoModel(f"{type(error).__name__} at a window") from error
    return found.start_logits[0].numpy(), found.end_logits[0].numpy()


def difference(ours: Any, wanted: Iterable[Any]) -> float:
    """Return the largest difference of logits of one window, as a part of their deviation or of 1."""
    return max(
        float(np.abs(mine[0] - other).max()) / max(float(other.std()), 1.0)
        for mine, other in zip(ours[:2], wanted, strict=True)
    )


def dropped(qa: QuestionAnswerer, folder: Path, window: Any, config: LengthConfig) -> float | None:
    """Return the largest difference to the reference with tokens dropped; None if significances tie."""
    opened = open_folder(folder)
    lengths = config.lengths([len(window)])[0].tolist()
    wanted = answer(opened.shape, opened.weights, window.ids.tolist(), window.type_ids.tolist(), lengths)
    if wanted.margin < TIE:
        return None
    ours = qa.reader.predict([window], [config])
    if ours[2][0].tolist() != wanted.passed.tolist():
        raise _Different("other tokens are dropped")
    largest = difference(ours, (wanted.start, wanted.end))
    if not largest < CLOSE:
        raise _Different(f"by {largest:.1e} with tokens dropped")
    return largest


def page(results: list[Result], models: int) -> str:
    """Return the page."""
    rows = []
    for kind in (*ALL, "all"):
        ours = [result for result in results if kind in (result.kind, "all")]
        counts = Counter(result.outcome for result in ours)
        dropped = [result.dropping for result in ours if result.dropping is not None]
        worst = max((result.full for result in ours), default=0.0), max(dropped, default=0.0)
        columns = [str(counts[outcome]) for outcome in _OUTCOMES]
        rows.append((kind, *columns, f"{worst[0]:.0e}", str(len(dropped)), f"{worst[1]:.0e}"))
    refused = Counter(_reason(result.why) for result in results if result.outcome == "refused")
    unmade = Counter(result.why for result in results if result.outcome == "no model of transformers")
    different = [result for result in results if result.outcome == "different"]
    return (
        "# Random models of every architecture\n\n"
        f"{common.heading('transformers', 'torch', 'onnxruntime')}\n\n"
        f"{len(results)} of {models} models: architecture, sizes, options, files and tokenizer are drawn at random. "
        "`equal`: a window's tokens are those of transformers' tokenizer, and the logits at `full` those of its model, "
        f"to {CLOSE:g} of their deviation (of 1 if that is less). `dropping`: how many of these were also held "
        f"against the plain reference with a retention of {_RETENTION:g}; in the others two significances tied. "
        "`refused`: with one line.\n\n"
        + common.table(
            ["architecture", *_OUTCOMES, "largest difference", "dropping", "largest difference of dropping"], rows
        )
        + f"\n\n## Different\n\n{_listed(Counter(f'{each.kind}: {each.why}: {each.options}' for each in different))}\n"
        f"## Refused, by the setting\n\n{_listed(refused)}\n"
        f"## No model of transformers\n\n{_listed(unmade)}"
    )


def _reason(line: str) -> str:
    """Return a refusal without the values, so that refusals can be counted."""
    line = re.sub(r"\b\d+\b", "N", line)
    found = re.match(r"FOLDER/config\.json: (\w+) is (.*), but only (.*) is supported", line)
    return f"`{found[1]}`: only {found[3]}" if found else re.sub(r"which is '[^']*'", "which is another", line)


def _listed(counts: Counter[str]) -> str:
    return "".join(f"- {count}: {what}\n" for what, count in counts.most_common()) or "None.\n"


if __name__ == "__main__":
    main()
