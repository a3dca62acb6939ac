"""Write the model card (`README.md`) of a model folder, or complete one that somebody wrote."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from dynamic_tinybert.folder import ModelFolder, ModelFolderError
from dynamic_tinybert.model import BERT_BASE, SHARE_TOKENS, ConfigTable, macs

LIBRARY: Final = "dynamic-tinybert"
TASK: Final = "question-answering"
_MOST: Final = 100  # percent
_TASKS: Final = {"rajpurkar/squad": "plain_text", "rajpurkar/squad_v2": "squad_v2"}  # by the dataset's id on the Hub

PREJUDICES: Final = """\
- It has the prejudices of its sources: of {sources}, and of the people who wrote
  the questions. Names, groups and countries that are rare there are answered worse, and an ambiguous question may be
  resolved along a stereotype; predictions may hold disturbing or offensive content. None of this has been measured.
- Out of scope: decisions that affect people (employment, credit, health, law, policing), establishing facts about a
  living person, and producing or supporting content that harasses, demeans or deceives, or creates a hostile or
  alienating environment. A wrong text gives a wrong answer with the same assurance as a right one.
"""
SPANS_ONLY: Final = """\
- An answer is a span of the text, word for word. The model does not reason over several passages, count, calculate,
  answer yes or no, or know anything that the text does not say.
"""

_BLOCK: Final = re.compile(
    r"\A(\ufeff?\s*---\r?\n)(.*?)^(---[ \t]*(?:\r?\n|\Z))", re.DOTALL | re.MULTILINE
)  # the same rule as on the Hub
_ALL_OF_DEV: Final = re.compile(r"SQuAD ([12])\.\d, the [\d,]+ questions of dev-v\1\.\d")  # not a part of it
_OF_SQUAD: Final = r"dev-v[12]|train-v[12]|heldout-(?:select|confirm)"
_FENCED: Final = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
_MARK: Final = re.compile(r"\n<!-- Written by dynamic-tinybert push[^\n]* sha256:([0-9a-f]{64}) -->\n\Z")
_USUAL: Final = ("language", "datasets")  # keys and headings that only an author can write
_SAID: Final = (("intended use", "intended|uses?$"), ("training", "train"))


@dataclass(frozen=True, kw_only=True)
class Card:
    """A model card.

    Attributes:
        text: The content of the card.
        added: What was added to the existing card: keys of the metadata, and titles of sections.
        missing: What the author of the model should still write; the folder does not tell it.
        has_figures: Whether the card has the F1 of `full` from the folder's table; true if the table has none.
    """

    text: str
    added: Sequence[str]
    missing: Sequence[str]
    has_figures: bool = True


def card_evaluation(dataset: Mapping[str, str], exact_match: float, f1: float) -> dict[str, Any]:
    """Return one entry of the `results` of `model-index`.

    Args:
        dataset: `type`, `name` and perhaps `split`, with the names of the Hub.
        exact_match: In percent.
        f1: In percent.
    """
    return {
        "task": {"type": TASK, "name": "Question Answering"},
        "dataset": dict(dataset),
        "metrics": [
            {"type": kind, "value": round(float(value), 2), "name": name}
            for kind, value, name in (("exact_match", exact_match, "Exact match"), ("f1", f1, "F1"))
        ],
    }


def card_metadata(
    name: str, results: Sequence[Mapping[str, Any]], *, family: str = "bert", squad: bool = True
) -> dict[str, Any]:
    """Return the metadata that every model of this library has: library, task, tags and `model-index`.

    Args:
        name: The name of the model.
        results: Entries made by `card_evaluation`; if empty, there is no `model-index`.
        family: The architecture: `model_type` of `config.json`.
        squad: Whether to tag the model with SQuAD.
    """
    tags = [TASK, "extractive-qa", family, "transformers", "onnx", *(["squad"] if squad else [])]
    values: dict[str, Any] = {"library_name": LIBRARY, "pipeline_tag": TASK, "tags": tags}
    if results:
        values["model-index"] = [{"name": name, "results": [dict(result) for result in results]}]
    return values


def evaluation_results(card: str) -> bytes | None:
    """Return the results on SQuAD in a card's `model-index`, as a file of the Hub's folder `.eval_results`, or None.

    Only results on the validation split, of question answering, count.

    Raises:
        ModelFolderError: The card's metadata cannot be read.
    """
    entries: list[dict[str, Any]] = []
    done: set[str] = set()
    for model in _items(_read_block(card)[1].get("model-index")):
        for result in _items(model.get("results")):
            task, dataset = _mapping(result.get("task")), _mapping(result.get("dataset"))
            kind = dataset.get("type")
            right = task.get("type") == TASK and dataset.get("split") == "validation"
            if not right or not isinstance(kind, str) or kind not in _TASKS or kind in done:
                continue
            values = _percentages(_items(result.get("metrics")))
            if "f1" in values:
                done.add(kind)
                exact = values.get("exact_match", values.get("exact"))
                entry = {"dataset": {"id": kind, "task_id": _TASKS[kind]}, "value": values["f1"]}
                entries.append(entry | {"notes": "F1" if exact is None else f"F1; exact match {exact}"})
    return _dump_list(entries).encode() if entries else None


def _percentages(metrics: list[dict[str, Any]]) -> dict[str, float]:
    """Return the first value of each kind that is a percentage."""
    found: dict[str, float] = {}
    for one in metrics:
        name, value = one.get("type"), one.get("value")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _MOST:
            continue
        if isinstance(name, str):
            found.setdefault(name, value)
    return found


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _items(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def compose_card(values: Mapping[str, Any], body: str) -> str:
    """Return a card with this metadata and text."""
    return f"---\n{_dump(values)}---\n{body}"


def complete_card(text: str | None, folder: ModelFolder, name: str, *, license: str | None = None) -> Card:
    """Write the card of a model to publish, or complete an existing card.

    The existing text does not change, byte for byte: metadata is added at the end of the block, sections at the end of
    the text. But a card that this function wrote, and nobody has changed, is written again.

    Args:
        text: The existing card, or None.
        folder: The model.
        name: The name of the model on the Hub, `owner/name`.
        license: The licence of the model, if the card states none.

    Raises:
        ModelFolderError: The card's metadata cannot be read; it states another licence than `license`; or neither
            states a licence.
        BudgetError: `length_configs.json` is not a table of this model.
    """
    if text is not None and _is_untouched(text):
        license = license or _read_block(text)[1].get("license")
        text = None
    old = text or ""
    block, known = _read_block(old)
    if block and not block.endswith("\n"):  # the card ends with its metadata
        block = old = block + _line_end(old)
    body = old[len(block) :]
    stated = known.get("license")
    if license and stated and license != stated:
        raise ModelFolderError(f"the card (README.md) says license: {stated}, not {license}: make the two agree")
    if not stated and (not license or "license" in known):
        raise ModelFolderError(
            "the card states no licence: give one (for example --license apache-2.0), or write it into README.md as"
            " license: apache-2.0 between two lines of ---"
        )
    table = ConfigTable.read(folder.shape, folder.length_configs)
    ours = {"license": license, **_metadata_of(folder, table, name)}
    values = {key: value for key, value in ours.items() if value and key not in known}
    words = _FENCED.sub("", body)
    sections = _lacking(words, body, folder, table, name)
    missing = [key for key in _USUAL if not known.get(key)]
    missing += [what for what, heading in _SAID if not _has(words, heading)]
    title = [] if body.strip() else [f"# {name.partition('/')[2]}\n\n{_WHAT}"]
    added = [*title, *(f"## {heading}\n\n{content}" for heading, content in sections.items())]
    whole = _with_sections(body, added, _line_end(old))
    new = _with_values(block, known, values) + whole
    if text is None:
        digest = hashlib.sha256(new.encode()).hexdigest()
        new += f"\n<!-- Written by dynamic-tinybert push, at each push until somebody changes it. sha256:{digest} -->\n"
    full = next((c.f1 for c in table.choices if c.share == 1), None)
    shown = full is None or f"{full:.2f}" in whole
    return Card(text=new, added=[*values, *sections], missing=missing, has_figures=shown)


def _lacking(words: str, body: str, folder: ModelFolder, table: ConfigTable, name: str) -> dict[str, str]:
    """Write the sections that a card lacks: title -> content. `words` is `body` without code blocks."""
    usage = "From the Hub" if _has(words, "how to use|usage|use it|started") else "How to use it"
    there = {
        "Architecture": re.search(r"\barchitecture|\blayers\b", words, re.IGNORECASE),
        usage: re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w/-])", body),
        "Length configurations": re.search(r"^(\|.*\bshare\b|#.*\blength config)", words, re.MULTILINE | re.IGNORECASE),
        "Limits, bias, and what it is not for": _has(words, "limit|bias|out.of.scope"),
    }
    contents = (_architecture(folder, table), _usage(name), _lengths(table), _limits())
    return {title: content for (title, found), content in zip(there.items(), contents, strict=True) if not found}


def configurations(table: ConfigTable) -> str:
    """Return a table of length configurations in Markdown."""
    lines = ["| configuration | share | EM | F1 | tokens kept after each layer |", "| --- | --- | --- | --- | --- |"]
    for choice in table.choices:
        em, f1 = (f"{x:.2f}" if x is not None else "" for x in (choice.exact_match, choice.f1))
        kept = " ".join(f"{f:.2f}" for f in choice.config.fractions)
        lines.append(f"| {_cell(choice.name)} | {choice.share:.2f} | {em} | {f1} | {kept} |")
    return "\n".join(lines) + "\n"


_WHAT: Final = (
    "Extractive question answering: given a question and a text, the model gives the span of the text that answers.\n"
)


def _metadata_of(folder: ModelFolder, table: ConfigTable, name: str) -> dict[str, Any]:
    measured = table.measured_on
    results = []
    full = next((c for c in table.choices if c.share == 1), None)
    if measured and full and full.exact_match is not None and full.f1 is not None:
        # Other data may be in the format of SQuAD too, so only these names count as SQuAD itself.
        own = re.search(rf"squad\D{{0,3}}([12]).*\b(?:{_OF_SQUAD})", measured, re.IGNORECASE)
        kind = {"1": "rajpurkar/squad", "2": "rajpurkar/squad_v2"}[own[1]] if own else "other"
        split = {"split": "validation"} if _ALL_OF_DEV.fullmatch(measured) else {}
        results = [card_evaluation({"type": kind, "name": measured, **split}, full.exact_match, full.f1)]
    family = str(folder.config.get("model_type", "bert"))
    return card_metadata(name, results, family=family, squad=any(x["dataset"]["type"] != "other" for x in results))


def _architecture(folder: ModelFolder, table: ConfigTable) -> str:
    s = folder.shape
    full = macs(s, SHARE_TOKENS)
    family = _cell(str(folder.config.get("model_type", "bert")))
    dropped = "the question attends to least" if s.significance == "question" else "receive the least attention"
    dropped += ", weighed by a linear head on each token" if s.significance_head else ""
    rows = {
        "type": f"{family}: {s.layers} layers, hidden {s.hidden}, {s.heads} heads, feed-forward {s.feed_forward} "
        f"({s.activation})",
        "parameters": f"{folder.parameters:,}",
        "weights": f"{folder.source_bytes / 1e6:,.1f} MB",
        "vocabulary": f"{s.vocabulary:,} tokens",
        "reads": f"windows of up to {s.positions} tokens; longer texts in overlapping windows",
        "drops": f"tokens that {dropped}, as a budget asks",
        "cost": f"{full / 1e9:.2f} billion multiply-accumulates for {SHARE_TOKENS} tokens: "
        f"{macs(BERT_BASE, SHARE_TOKENS) / full:.1f} times less than BERT-base",
        "confidence": "calibrated" if folder.calibration else "not calibrated: answers have none",
        "length configurations": f"{len(table.choices)}, measured" if table.measured_on else "none measured",
    }
    return "| | |\n| --- | --- |\n" + "".join(f"| {key} | {value} |\n" for key, value in rows.items())


def _usage(name: str) -> str:
    return f"""\
With dynamic-tinybert (`pip install dynamic-tinybert`), at any budget, without PyTorch:

```python
from dynamic_tinybert import QuestionAnswerer

qa = QuestionAnswerer("{name}")
print(qa("Who wrote it?", "The report was written by Ada Lovelace in 1843.", budget=0.5).text)
```

    dynamic-tinybert ask "Who wrote it?" --text report.txt --model {name}

With transformers, which drops nothing:

```python
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForQuestionAnswering.from_pretrained("{name}")
```
"""


def _lengths(table: ConfigTable) -> str:
    if table.measured_on is None:
        return (
            "None was measured: a budget below full selects one of a geometric series, and its cost in F1 is unknown.\n"
            "`dynamic-tinybert search` finds and measures configurations.\n"
        )
    precision = ", in INT8" if table.precision == "int8" else ""
    return (
        f"Measured on {_cell(table.measured_on)}{precision}. Share is of the full model's multiply-accumulates.\n\n"
        f"{configurations(table)}"
    )


def _limits() -> str:
    return SPANS_ONLY + PREJUDICES.format(sources="the texts it was trained on")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _has(text: str, heading: str) -> bool:
    """Return whether a Markdown text has a heading that matches the pattern `heading`."""
    return re.search(rf"^#+[ \t].*\b(?:{heading})", text, re.MULTILINE | re.IGNORECASE) is not None


def _is_untouched(text: str) -> bool:
    mark = _MARK.search(text)
    return mark is not None and hashlib.sha256(text[: mark.start()].encode()).hexdigest() == mark[1]


def _line_end(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _dump_list(values: list[dict[str, Any]]) -> str:
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=1000)
    return text


def _dump(values: Mapping[str, Any]) -> str:
    text: str = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=1000)
    return text


def _read_block(text: str) -> tuple[str, dict[str, Any]]:
    """Return the metadata of a card: the block as written, empty if there is none, and its values.

    Raises:
        ModelFolderError: The block is not YAML, or not a mapping.
    """
    block = _BLOCK.match(text)
    if block is None:
        return "", {}
    try:
        values = yaml.safe_load(block[2])
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ModelFolderError(f"the metadata of the card (README.md) is not YAML ({error}): correct it") from error
    if not isinstance(values or {}, dict):
        raise ModelFolderError("the metadata of the card (README.md) is YAML, but has no keys with values: correct it")
    return block[0], values or {}


def _with_values(block: str, known: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """Add values at the end of a block of metadata; if it is empty, make a new block."""
    if not values:
        return block
    if not block:
        return f"---\n{_dump(values)}---\n"
    found = _BLOCK.match(block)
    assert found
    added = _dump(values).replace("\n", _line_end(block))
    new = f"{found[1]}{found[2]}{added}{found[3]}"
    try:
        whole = _read_block(new)[1] == {**known, **values}
    except ModelFolderError:
        whole = False
    if not whole:
        raise ModelFolderError(
            f"nothing can be added to the metadata of the card (README.md) as it stands: add {', '.join(values)} there"
        )
    return new


def _with_sections(body: str, sections: Sequence[str], line_end: str) -> str:
    text = "\n".join(sections).replace("\n", line_end)
    if not text:
        return body
    gap = "" if not body.strip() else line_end if body.endswith("\n") else 2 * line_end
    return f"{body}{gap}{text}"
