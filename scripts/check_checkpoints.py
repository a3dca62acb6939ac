"""Checks the checkpoints of docs/checkpoints.json against the Hub, and writes docs/checkpoints.md.

usage: check_checkpoints.py            ask the Hub (HF_ENDPOINT) about each: its architecture, files, size and licence
       check_checkpoints.py --page     write the page again, and ask nobody

Only file lists and model cards are asked for; nothing is downloaded. A difference is one line on standard error, and
the exit status is 1. If there is none, the date goes into docs/checkpoints.json, and the page is written.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dynamic_tinybert.folder import INDEX, SENTENCEPIECES, TOKENIZER, WEIGHTS, find_conversion

ROOT = Path(__file__).parents[1]
DATA = ROOT / "docs" / "checkpoints.json"
PAGE = ROOT / "docs" / "checkpoints.md"
CHECKED = ("kind", "weights", "tokenizer", "megabytes", "licence")
_PAIRS = ("vocab.json", "merges.txt")
_CLOSE = 0.01  # of a size, which model pages round

_HEAD = """# Checkpoints on the Hub

Question-answering checkpoints of the [architectures](architectures.md) that are read here, each under its name:
`dynamic-tinybert ask QUESTION FILE --model NAME`. They are published by others. Read a model's card and its licence
before you use it.

**{checked}**
`python scripts/check_checkpoints.py` asks it for the files, the size and the licence of each, and writes this page. The
tests load each form of files in this table from a server that speaks the Hub's API, with random weights
([results](../results/parity/forms.md)). They do not load the checkpoints themselves.
"""
_TAIL = """
"Weights": `model.safetensors` on the main branch; or "conversion", the safetensors in the open pull request of the
Hub's conversion bot, beside a pickle that is never loaded. "Tokenizer": what is read of it. "Size": that of the
weights; "-" if it was not found. "F1": what the model's card states, measured by its authors on the dev set of the
named data; "-" if no card was found that states it. No figure here was measured with this package. To measure one:
`dynamic-tinybert evaluate DATA --model NAME`.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="write the page again, and ask nobody")
    parser.add_argument(
        "--data", type=Path, default=DATA, metavar="FILE", help="the checkpoints [default: %(default)s]"
    )
    parser.add_argument("--output", type=Path, default=PAGE, metavar="FILE", help="the page [default: %(default)s]")
    args = parser.parse_args()
    known = json.loads(args.data.read_text("utf-8"))
    if not args.page:
        lines = [line for entry in known["checkpoints"] for line in differences(entry)]
        if lines:
            print("\n".join(lines), file=sys.stderr)
            return 1
        known["checked"] = datetime.date.today().isoformat()
        args.data.write_text(json.dumps(known, indent=2, ensure_ascii=False) + "\n", "utf-8")
    args.output.write_text(page(known), "utf-8")
    return 0


def differences(entry: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each thing that is not as the Hub has it."""
    name = entry["model"]
    try:
        found = look(name)
    except Exception as error:  # of the Hub or of the network: the libraries below have errors of their own
        yield f"{name}: the Hub does not answer: {' '.join(str(error).split())[:200]}"
        return
    for key in CHECKED:
        said = entry[key]
        if key == "megabytes" and (said is None or abs(found[key] - said) <= _CLOSE * said):
            continue
        if found[key] != said:
            yield f"{name}: {key} is {found[key]!r} on the Hub, but {said!r} in the data"


def look(name: str) -> dict[str, Any]:
    """Return what the Hub says of a model, by the keys `CHECKED`."""
    from huggingface_hub import HfApi

    api = HfApi()
    info = api.model_info(name, files_metadata=True)
    kind = (info.config or {}).get("model_type")
    licence = info.card_data.get("license") if info.card_data else None
    weights: str | None = next((file for file in (WEIGHTS, INDEX) if file in _sizes(info)), None)
    if weights is None and (commit := find_conversion(api, name, str(info.sha))) is not None:
        info, weights = api.model_info(name, revision=commit, files_metadata=True), "conversion"
    sizes = _sizes(info)
    total = sum(size for file, size in sizes.items() if file.endswith(".safetensors") and "/" not in file)
    return {
        "kind": kind,
        "weights": weights,
        "tokenizer": tokenizer_of(set(sizes)),
        "megabytes": round(total / 1e6, 1),
        "licence": licence,
    }


def _sizes(info: Any) -> dict[str, int]:
    return {file.rfilename: file.size or 0 for file in info.siblings or ()}


def tokenizer_of(files: set[str]) -> str | None:
    """Return which files of a tokenizer are read, by the names of a model's files."""
    pieces = [file for file in dict.fromkeys(SENTENCEPIECES.values()) if file in files]
    for file in (TOKENIZER, *pieces, "vocab.txt"):
        if file in files:
            return file
    return ", ".join(_PAIRS) if files.issuperset(_PAIRS) else None


def page(known: dict[str, Any]) -> str:
    """Return the page."""
    date = known["checked"]
    checked = f"Checked against the Hub on {date}." if date else "Not yet checked against the Hub."
    rows = [
        (
            f"[{entry['model']}](https://huggingface.co/{entry['model']})",
            f"`{entry['kind']}`",
            entry["weights"] if entry["weights"] == "conversion" else f"`{entry['weights']}`",
            f"`{entry['tokenizer']}`",
            "-" if entry["megabytes"] is None else f"{entry['megabytes']:g}",
            f"[{entry['f1']:.1f}]({entry['f1_seen']})" if entry["f1"] is not None else "-",
            entry["on"],
            entry["licence"] or "none stated",
        )
        for entry in known["checkpoints"]
    ]
    header = ("model", "architecture", "weights", "tokenizer", "size, MB", "F1", "data", "licence")
    lines = [header, ("---", "---", "---", "---", "---:", "---:", "---", "---"), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{_HEAD.format(checked=checked)}\n{table}\n{_TAIL}"


if __name__ == "__main__":
    raise SystemExit(main())
