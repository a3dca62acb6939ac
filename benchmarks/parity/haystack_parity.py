"""Our haystack reader beside TransformersExtractiveReader, on the same weights, queries, documents and parameters.

usage: HAYSTACK/python -m benchmarks.parity.haystack_parity reference FOLDER [--data DEV] --output REFERENCE.json
       python -m benchmarks.parity.haystack_parity compare FOLDER REFERENCE.json [--output results/parity/haystack.md]
       python -m benchmarks.parity.haystack_parity types FOLDER [--data TRAIN] [--limit 1000]

`reference` runs where transformers-haystack and PyTorch are, and needs nothing of this package; `compare` runs where
this package and haystack-ai are. FOLDER is a model folder that both read: `dynamic-tinybert export embedded FOLDER`.
`--data examples` takes the questions and texts of examples/, which
tests/compat/transformers_haystack_2.json was made with.

Both remember the logits of a window, since parameters that change no window need no second reading; all else is the
readers' own. A call agrees if it gives the same answers in the same order (but for scores within 1e-6 of each other),
each in the same document at the same place, and with a score within 1e-4.

TransformersExtractiveReader does not tell a model which tokens are the document's, and so runs beside
`token_types=False`; where it says `told`, it was made to tell, and runs beside the default. `types` prints what that
is worth in exact match and F1, over questions drawn from the `select` articles.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.parity.pipeline_parity import Remembering, demonstrations, shown_options

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"

TOLERANCE = 1e-4
EQUAL = 1e-6  # scores that float32 and the order of a sum may put in either order
TIE = "of spans with equal scores another"
RUNS: list[tuple[str, bool, dict[str, Any]]] = [  # which calls, whether the model is told, the parameters
    ("single", False, {}),
    ("single", False, {"top_k": 3, "answers_per_seq": 60}),
    ("single", False, {"overlap_threshold": 0.5, "top_k": 50}),
    ("single", False, {"overlap_threshold": None, "top_k": 10}),
    ("single", True, {}),
    ("lists", False, {}),
    ("lists", False, {"top_k": 1}),
    ("lists", False, {"top_k": 5, "no_answer": False}),
    ("lists", False, {"score_threshold": 0.5}),
    ("lists", False, {"calibration_factor": 0.5, "answers_per_seq": 5}),
    ("lists", False, {"calibration_factor": 1.0, "overlap_threshold": 0.2, "score_threshold": 0.01}),
    ("lists", False, {"max_batch_size": 2, "answers_per_seq": 100, "top_k": 40}),
    ("lists", True, {}),
    ("some", False, {"max_seq_length": 96, "stride": 32}),
    ("some", False, {"max_seq_length": 160, "stride": 1, "top_k": 50, "answers_per_seq": 8}),
    ("some", False, {"max_seq_length": 128, "stride": 64, "max_batch_size": 3, "overlap_threshold": 0.9}),
    ("long", False, {}),
    ("long", False, {"stride": 200, "top_k": 50, "answers_per_seq": 40}),
    ("long", False, {"max_seq_length": 256, "stride": 64, "overlap_threshold": 0.3}),
    ("long", True, {"top_k": 5}),
]
TOWER = "The tower stands in Paris. Everybody knows that it is in Paris. It was built in 1889."
WHERE = "Where is the tower?"
DEMONSTRATIONS: list[tuple[str, str, list[Any], dict[str, Any]]] = [  # what, query, documents, parameters
    ("no documents", WHERE, [], {}),
    ("a document without content", WHERE, [None, TOWER], {"top_k": 1}),
    ("an empty document", WHERE, ["", TOWER], {"top_k": 1}),
    ("empty documents only", WHERE, ["", " "], {}),
    ("an empty query", " ", [TOWER], {"top_k": 1}),
    ("the default `stride`, in a small window", WHERE, [TOWER * 9], {"max_seq_length": 64, "top_k": 1}),
    ("`stride` 0, of a call", WHERE, [TOWER * 9], {"max_seq_length": 160, "stride": 0, "top_k": 2}),
    ("`top_k` 0", WHERE, [TOWER], {"top_k": 0, "score_threshold": 0.6}),
    ("`max_seq_length` beyond the model", WHERE, [TOWER * 40], {"max_seq_length": 1000, "top_k": 1}),
    ("a query longer than the window", "Where is it? " * 120, [TOWER], {"top_k": 1}),
    ("more candidates than pairs of tokens", "Where", ["Paris"], {"answers_per_seq": 40, "top_k": 1}),
    ("one span in two windows, `overlap_threshold` None", WHERE, [f"{TOWER} " * 3],
     {"max_seq_length": 48, "stride": 36, "overlap_threshold": None, "top_k": 3}),
    ("a letter and its combining mark", "Who wrote it?", ["It is by Rene\u0301"], {"top_k": 1}),
    ("a special token's name in a text", "What is the sign?", ["The sign [SEP] is the sign of the end."], {"top_k": 1}),
    ("`calibration_factor` 0", WHERE, [TOWER], {"calibration_factor": 0.0, "top_k": 1}),
]  # fmt: skip


def main() -> None:
    parser = common.argument_parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    reference = commands.add_parser("reference")
    reference.add_argument("folder")
    common.add_data(reference)
    reference.add_argument("--limit", type=int, default=200)
    reference.add_argument("--long", type=int, default=30)
    reference.add_argument("--double", action="store_true", help="logits in float64, which keeps scores near 1 apart")
    reference.add_argument("--output", type=Path, required=True)
    compared = commands.add_parser("compare")
    compared.add_argument("folder")
    compared.add_argument("reference", type=Path)
    compared.add_argument("--output", type=Path)
    types = commands.add_parser("types")
    types.add_argument("folder")
    common.add_data(types, "train-v1.1.json.gz")
    types.add_argument("--limit", type=int, default=1000)
    args = parser.parse_args()
    {"reference": make_reference, "compare": compare, "types": worth_of_types}[args.command](args)


# What is asked


def calls(data: str, limit: int, long: int) -> dict[str, list[dict[str, Any]]]:
    """Queries with documents: `single`, the paragraph asked about; `lists`, five of its article; `some` of these;
    `long`, the article's first paragraphs as two documents."""
    if data == "examples":
        return _examples()
    articles = common.read_articles(data)
    found = []
    for article in articles:
        texts = [paragraph["context"] for paragraph in article["paragraphs"]]
        for number, paragraph in enumerate(article["paragraphs"]):
            near = [texts[(number + i) % len(texts)] for i in range(-2, 3)]
            for qa in paragraph["qas"]:
                gold = [answer["text"] for answer in qa["answers"]]
                found.append(
                    (qa["question"], texts[number], near, ["\n\n".join(texts[:6]), "\n".join(texts[6:12])], gold)
                )
    chosen = found[:: max(1, len(found) // limit)][:limit]
    lists = [{"query": query, "documents": near} for query, _, near, _, _ in chosen]
    return {
        "single": [{"query": query, "documents": [text], "gold": gold} for query, text, _, _, gold in chosen],
        "lists": lists,
        "some": lists[::4],
        "long": [{"query": query, "documents": two} for query, _, _, two, _ in found[:: len(found) // long][:long]],
    }


def _examples() -> dict[str, list[dict[str, Any]]]:
    asked = json.loads((common.ROOT / "examples/questions.json").read_text("utf-8"))
    texts = {item["text"]: (common.ROOT / "examples" / item["text"]).read_text("utf-8") for item in asked}
    parts = {name: text.split("\n\n") for name, text in texts.items()}
    lists = [
        {"query": item["question"], "documents": parts[item["text"]][number % 5 + 1 :: 4]}
        for number, item in enumerate(asked)
    ]
    single = [{"query": call["query"], "documents": call["documents"][-1:], "gold": []} for call in lists]
    long = [
        {"query": item["question"], "documents": ["\n\n".join(part[:4]), "\n\n".join(part[4:])]}
        for item in asked[5:6]
        for part in [parts[item["text"]]]
    ]
    return {"single": single, "lists": lists[::2], "some": lists[1::4], "long": long}


# TransformersExtractiveReader


def make_reference(args: argparse.Namespace) -> None:
    import torch
    from haystack.utils import ComponentDevice
    from haystack_integrations.components.readers.transformers import TransformersExtractiveReader

    torch.set_num_threads(1)
    reader = TransformersExtractiveReader(model=args.folder, device=ComponentDevice.from_str("cpu"))
    reader.warm_up()
    asked = calls(args.data, args.limit, args.long)
    demonstrated = [attempt(reader, query, texts, options) for _, query, texts, options in DEMONSTRATIONS]
    reader.model = remembering = Remembered(reader.model, reader.tokenizer.sep_token_id, double=args.double)
    runs = []
    for which, told, options in RUNS:
        began = time.perf_counter()
        remembering.told = told
        results = [attempt(reader, call["query"], call["documents"], options) for call in asked[which]]
        runs.append({"which": which, "told": told, "options": options, "results": results})
        print(f"{which} {told} {options}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    stored = {
        "command": common.command(),
        "versions": {name: version(name) for name in ("transformers-haystack", "haystack-ai", "transformers", "torch")},
        "data": Path(args.data).name,
        "calls": asked,
        "runs": runs,
        "demonstrated": demonstrated,
    }
    args.output.write_text(json.dumps(stored, separators=(",", ":")), "utf-8")


class Remembered:
    """A model that reads no window twice, and that may be told which tokens are the document's."""

    def __init__(self, model: Any, separator: int, *, double: bool = False) -> None:
        self.told = False
        self._model, self._separator, self._double = model, separator, double
        self._known: dict[Any, Any] = {}

    def __call__(self, input_ids: Any, attention_mask: Any) -> Any:
        import torch
        from transformers.modeling_outputs import QuestionAnsweringModelOutput

        shape = input_ids.shape
        kind = torch.float64 if self._double else torch.float32
        start, end = torch.zeros(shape, dtype=kind), torch.zeros(shape, dtype=kind)
        for row, length in enumerate(attention_mask.sum(1).tolist()):
            ids = input_ids[row : row + 1, :length]
            key = self.told, tuple(ids[0].tolist())
            if key not in self._known:
                after = (ids == self._separator).cumsum(1) - (ids == self._separator).long() > 0
                has_types = getattr(self._model.config, "type_vocab_size", 0) > 1
                types = {"token_type_ids": after.long()} if self.told and has_types else {}
                self._known[key] = self._model(input_ids=ids, attention_mask=torch.ones_like(ids), **types)
            start[row, :length], end[row, :length] = self._known[key].start_logits[0], self._known[key].end_logits[0]
        return QuestionAnsweringModelOutput(start_logits=start, end_logits=end)


def attempt(reader: Any, query: str, texts: Sequence[str | None], options: dict[str, Any]) -> Any:
    """The answers as `[text, document, start, end, score]`, or what was raised."""
    from haystack import Document

    documents = [Document(content=text) for text in texts]
    own = {name: options[name] for name in options if name == "calibration_factor" or options[name] is None}
    before = {name: getattr(reader, name) for name in own}
    try:
        for name, value in own.items():
            setattr(reader, name, value)
        given = {name: value for name, value in options.items() if name not in own}
        answers = reader.run(query=query, documents=documents, **given)["answers"]
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a panic of the tokenizer is no Exception
        lines = traceback.format_exception_only(error)[0].strip().splitlines()
        return {"raised": re.sub(r"^[\w.]*\.(?=\w+:)", "", lines[0])[:200]}
    finally:
        for name, value in before.items():
            setattr(reader, name, value)
    places = {id(document): number for number, document in enumerate(documents)}
    return [
        [answer.data, places[id(answer.document)], answer.document_offset.start, answer.document_offset.end,
         round(answer.score, 7)] if answer.document else [None, None, None, None, round(answer.score, 7)]
        for answer in answers
    ]  # fmt: skip


# This package


def compare(args: argparse.Namespace) -> None:

    from dynamic_tinybert.haystack import ExtractiveReader

    reference = json.loads(args.reference.read_text("utf-8"))
    readers: dict[bool, Any] = {}
    for told in (True, False):
        readers[told] = reader = ExtractiveReader(model=args.folder, token_types=told)
        reader.warm_up()
    demonstrated = [attempt(readers[False], query, texts, options) for _, query, texts, options in DEMONSTRATIONS]
    for reader in readers.values():
        reader._qa.reader.runtime = Remembering(reader._qa.reader.runtime)
    rows, details, first = [], [], {}
    for run in reference["runs"]:
        which, told, options, theirs = run["which"], run["told"], run["options"], run["results"]
        began, asked = time.perf_counter(), reference["calls"][which]
        ours = [attempt(readers[told], call["query"], call["documents"], options) for call in asked]
        verdicts = [verdict(a, b) for a, b in zip(theirs, ours, strict=True)]
        same, ties = (sum(why == reason for why, _ in verdicts) for reason in ("", TIE))
        worst = max((difference for why, difference in verdicts if why in ("", TIE)), default=0.0)
        answers = sum(len(result) for result in theirs if isinstance(result, list))
        shown = shown_options(options) + (", told" if told else "")
        rows.append(f"| {which} | {shown} | {len(asked)} | {answers} | {same} | {ties} | {worst:.1e} |")
        details += [
            f"- {which}, {shown}: {asked[i]['query']!r}: {why}"
            for i, (why, _) in enumerate(verdicts)
            if why not in ("", TIE)
        ]
        print(f"{rows[-1]} {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        if not options:
            first[which, told] = [next((a for a in result if a[0] is not None), None) for result in ours]
    lines = [
        *beginning(reference),
        *rows,
        "",
        "## Where they do not agree",
        "",
        *(details or ["Nowhere."]),
        "",
        *token_types(reference, first),
        "## Differences on purpose",
        "",
        "[Why](../../docs/haystack.md). Answers as text, document:start-end, score.",
        "",
        *demonstrations("TransformersExtractiveReader", DEMONSTRATIONS, reference["demonstrated"], demonstrated, brief),
    ]
    common.write_page("\n".join(lines).strip() + "\n", args.output)


def verdict(theirs: Any, ours: Any) -> tuple[str, float]:
    """Why they disagree, or an empty string; and the largest difference of two scores."""
    if isinstance(theirs, dict) or isinstance(ours, dict):
        return f"{brief(theirs)}, here {brief(ours)}", 0.0
    if len(theirs) != len(ours):
        return f"{len(theirs)} and {len(ours)} answers: {brief(theirs)}, here {brief(ours)}", 0.0
    scores = {tuple(answer[:4]): answer[4] for answer in theirs}
    worst, tie = 0.0, False
    for a, b in zip(theirs, ours, strict=True):
        score = scores.pop(tuple(b[:4]), None)
        if score is None and abs(a[4] - b[4]) <= EQUAL:
            score, tie = a[4], True
        if score is None or abs(score - a[4]) > EQUAL:
            return f"{brief(theirs)}, here {brief(ours)}", worst
        worst = max(worst, abs(score - b[4]))
    if worst > TOLERANCE:
        return f"scores differ by {worst:.1e}: {brief(theirs)}, here {brief(ours)}", worst
    return TIE if tie else "", worst


def worth_of_types(args: argparse.Namespace) -> None:
    import dataclasses
    import random

    from dynamic_tinybert import QuestionAnswerer
    from dynamic_tinybert.evaluation import evaluate
    from dynamic_tinybert.squad import read_squad

    data = read_squad(args.data, titles=common.held_out_titles("select"))
    questions = tuple(random.Random(0).sample(data.questions, args.limit))
    qa = QuestionAnswerer(args.folder)
    for told in (True, False):
        if not told:
            qa.reader.runtime = Untold(qa.reader.runtime)
        found = evaluate(qa, dataclasses.replace(data, questions=questions)).to_dict()
        print(f"token types {told}: exact match {found['exact_match']:.1f}, F1 {found['f1']:.1f} of {found['total']}")


class Untold:
    """A runtime that is told that every token is the question's."""

    def __init__(self, runtime: Any) -> None:
        self.shape, self.precision, self.batch_tokens = runtime.shape, runtime.precision, runtime.batch_tokens
        self._runtime = runtime

    def run(self, input_ids: Any, token_type_ids: Any, attention_mask: Any, lengths: Any) -> Any:
        return self._runtime.run(input_ids, token_type_ids * 0, attention_mask, lengths)


# What is written


def beginning(reference: dict[str, Any]) -> list[str]:
    return [
        "# The haystack reader beside TransformersExtractiveReader",
        "",
        f"The same weights, questions of `{reference['data']}`; `single`: the paragraph asked about; `lists`: five",
        "paragraphs of its article; `some`: a part of these; `long`: twelve paragraphs as two documents. A call agrees",
        f"if it gives the same answers in the same order (but for scores within {EQUAL:g} of each other), each in the",
        f"same document at the same place, with a score within {TOLERANCE:g}; but for ties, if of spans with scores",
        f"within {EQUAL:g} of each other another was taken: in float32 scores near 1 are equal.",
        "",
        "TransformersExtractiveReader does not tell a model which tokens are the document's. Ours runs beside it with",
        "`token_types=False`; where it says `told`, theirs was made to tell, and ours runs by its default.",
        "",
        f"    {reference['command']}",
        "",
        common.heading("dynamic-tinybert", "onnxruntime"),
        f"Of the reference: {common.listed(reference['versions'])}.",
        "",
        "| calls | parameters | calls | answers | calls that agree | but for ties | largest difference of scores |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]


def token_types(reference: dict[str, Any], first: dict[tuple[str, bool], list[Any]]) -> list[str]:
    """What it is worth to tell the model which tokens are the document's."""
    from dynamic_tinybert.squad import exact_match, f1_score

    lines = ["## What `token_types` is worth", ""]
    for which in ("single", "lists"):
        pairs = list(zip(first[which, True], first[which, False], strict=True))
        same = sum(bool(a and b) and a[:4] == b[:4] for a, b in pairs)
        lines.append(f"- `{which}`: {same} of {len(pairs)} calls have the same first answer with and without.")
    golds = [call["gold"] for call in reference["calls"]["single"]]
    if all(golds):
        for told in (True, False):
            texts = [answer[0] if answer else "" for answer in first["single", told]]
            scored = list(zip(texts, golds, strict=True))
            em, f1 = (
                100 * sum(max(metric(text, truth) for truth in gold) for text, gold in scored) / len(scored)
                for metric in (exact_match, f1_score)
            )
            lines.append(f"- `token_types={told}`: exact match {em:.1f}, F1 {f1:.1f} of the first answers to `single`.")
    return [*lines, ""]


def brief(result: Any) -> str:
    if isinstance(result, dict):
        text = str(result["raised"])
    else:
        text = "; ".join(
            f"{answer[0]!r} {answer[1]}:{answer[2]}-{answer[3]} {answer[4]:.3g}"
            if answer[0] is not None
            else f"none {answer[4]:.3g}"
            for answer in result[:6]
        )
        text = f"[{text}{'; …' if len(result) > 6 else ''}]"
    return text.replace("|", "\\|")


if __name__ == "__main__":
    main()
