"""Our pipeline beside that of transformers 5.2, on the same weights, questions and parameters.

usage: TF52/python -m benchmarks.parity.pipeline_parity reference FOLDER [--data DEV] --output REFERENCE.json.gz
       python -m benchmarks.parity.pipeline_parity compare FOLDER REFERENCE.json.gz [FOLDER REFERENCE.json.gz ...]
           [--data DEV] [--output results/parity/pipeline.md]

`reference` runs where transformers 5.2 and PyTorch are, and needs nothing of this package; `compare` runs where this
package is. FOLDER is a model folder that both read: `dynamic-tinybert export embedded FOLDER`, or what
`tests/support/random_checkpoints.py` makes. `--data examples` takes the questions and texts of examples/, which
tests/compat/transformers_5_2.json was made with. A REFERENCE.json.gz, as in results/parity/pipeline-reference/, holds
what transformers answered, a REFERENCE.json the questions too.

Both remember the logits of a window, since parameters that change no window need no second reading; all else is the
pipelines' own. An answer agrees if its place and words are the same and its score is within 1e-4. Of several answers,
those of transformers that overlap a better one are left out first: see docs/migrating.md.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import itertools
import json
import re
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.parity.pipeline_cases import DEMONSTRATIONS, RUNS, questions
from benchmarks.parity.pipeline_differences import PURPOSES

TOLERANCE = 1e-4
Ask = Callable[..., Any]


def main() -> None:
    parser = common.argument_parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    reference = commands.add_parser("reference")
    reference.add_argument("folder")
    common.add_data(reference)
    reference.add_argument("--limit", type=int, default=1000)
    reference.add_argument("--long", type=int, default=40)
    reference.add_argument("--token-types", action="store_true", help="give the model token types if it has any")
    reference.add_argument("--output", type=Path, required=True)
    compared = commands.add_parser("compare")
    compared.add_argument("pairs", nargs="+", metavar="FOLDER REFERENCE", help="one model, or one after the other")
    compared.add_argument("--data", help="of the first, where its reference lacks the questions: what it was made of")
    compared.add_argument("--output", type=Path)
    args = parser.parse_args()
    if args.command == "reference":
        make_reference(args)
    else:
        compare(args)


# transformers 5.2


def make_reference(args: argparse.Namespace) -> None:
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    pipe = transformers.pipeline("question-answering", model=args.folder, dtype=torch.float32, device="cpu")
    if args.token_types and "token_type_ids" not in pipe.tokenizer.model_input_names:
        pipe.tokenizer.model_input_names = [*pipe.tokenizer.model_input_names, "token_type_ids"]
    forward, known = pipe.model.forward, {}

    def remembered(**inputs: Any) -> Any:
        key = tuple((name, value.shape, value.numpy().tobytes()) for name, value in inputs.items())
        if key not in known:
            known[key] = forward(**inputs)
        return dict(known[key])

    asked = questions(args.data, args.limit, args.long)
    demonstrated = [attempt(pipe, *demonstration[1:]) for demonstration in DEMONSTRATIONS]
    pipe.model.forward = remembered
    runs = []
    for which, options in RUNS:
        began = time.perf_counter()
        if "batch_size" in options:  # which means something for many questions
            questions_, contexts = (list(part) for part in zip(*asked[which], strict=True))
            results = pipe(question=questions_, context=contexts, **options)
        else:
            results = [attempt(pipe, q, c, options) for q, c in asked[which]]
        runs.append({"which": which, "options": options, "results": rounded(results)})
        print(f"{which} {options}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    stored = {
        "command": common.command(),
        "versions": {name: version(name) for name in ("transformers", "tokenizers", "torch")},
        "model": pipe.model.config.model_type,
        "inputs": pipe.tokenizer.model_input_names,
        "data": Path(args.data).name,
        "limits": [args.limit, args.long],
        "questions": asked,
        "runs": runs,
        "demonstrated": demonstrated,
    }
    if args.output.suffix == ".gz":  # to be kept: small, without what the data has
        del stored["questions"]
        common.write_gzip(args.output, stored)
    else:
        args.output.write_text(json.dumps(stored, separators=(",", ":")), "utf-8")


def rounded(result: Any) -> Any:
    """Scores to seven digits, for a smaller file."""
    if isinstance(result, list):
        return [rounded(answer) for answer in result]
    return {**result, "score": float(f"{result['score']:.7g}")} if "score" in result else result


def attempt(pipe: Ask, question: str, context: str, options: dict[str, Any]) -> Any:
    """The answers, or what was raised."""
    try:
        return pipe(question=question, context=context, **options)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a panic of the tokenizer is no Exception
        lines = traceback.format_exception_only(error)[0].strip().splitlines()
        return {"raised": re.sub(r"^[\w.]*\.", "", lines[0])[:200]}


# This package


def compare(args: argparse.Namespace) -> None:
    if len(args.pairs) % 2:
        raise SystemExit("give a folder and a reference, or several such pairs")
    found = [
        compare_one(folder, Path(reference), args.data or "examples" if i == 0 else "examples")
        for i, (folder, reference) in enumerate(zip(args.pairs[::2], args.pairs[1::2], strict=True))
    ]
    first = found[0]
    lines = [
        *beginning(first),
        *first.rows,
        "",
        *explained("## Where they do not agree", first.details),
        "## Differences on purpose",
        "",
        *demonstrations("transformers 5.2", DEMONSTRATIONS, first.reference["demonstrated"], first.demonstrated, brief),
    ]
    if found[1:]:
        lines += others(found[1:])
    common.write_page("\n".join(lines).strip() + "\n", args.output)


@dataclass
class Comparison:
    """A model beside its reference: rows of the table of runs; of each that does not agree, why and its row."""

    reference: dict[str, Any]
    demonstrated: list[Any]
    rows: list[str]
    details: list[tuple[str, str]]
    asked: int
    worst: float


def compare_one(folder: str, path: Path, data: str) -> Comparison:
    import warnings

    from dynamic_tinybert import pipeline

    warnings.simplefilter("ignore")
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        reference = json.load(file)
    asked = reference.get("questions") or questions(data, *reference["limits"])
    pipe = pipeline("question-answering", model=folder)
    demonstrated = [attempt(pipe, *demonstration[1:]) for demonstration in DEMONSTRATIONS]
    pipe.model.reader.runtime = Remembering(pipe.model.reader.runtime)
    found = Comparison(reference, demonstrated, [], [], 0, 0.0)
    for run, form in zip(reference["runs"], itertools.cycle(FORMS)):
        which, options, theirs = run["which"], run["options"], run["results"]
        began, pairs = time.perf_counter(), asked[which]
        try:
            ours = form(pipe, pairs, options)
        except ValueError:  # of one of them
            ours = [attempt(pipe, q, c, options) for q, c in pairs]
        top_k = options.get("top_k", 1)
        verdicts = [verdict(a, b, top_k) for a, b in zip(theirs, ours, strict=True)]
        for i, (why, both, difference) in enumerate(verdicts):
            if why:
                verdicts[i] = (purpose(pipe, pairs[i], options, theirs[i]) or why, both, difference)
        same = sum(not why for why, _, _ in verdicts)
        worst = max((difference for why, _, difference in verdicts if not why), default=0.0)
        shown = shown_options(options)
        found.rows.append(f"| {which} | {shown} | {len(pairs)} | {same} | {worst:.1e} |")
        found.details += [
            (why, f"| {which} | {shown} | {cell(pairs[i][0])} | {both} |")
            for i, (why, both, _) in enumerate(verdicts)
            if why
        ]
        found.asked += len(pairs)
        found.worst = max(found.worst, worst)
        print(f"{found.rows[-1]} {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return found


# How questions are put, one after the other of these
FORMS: list[Callable[[Any, list[list[str]], dict[str, Any]], Any]] = [
    lambda pipe, pairs, options: pipe([{"question": q, "context": c} for q, c in pairs], **options),
    lambda pipe, pairs, options: pipe(question=[q for q, _ in pairs], context=[c for _, c in pairs], **options),
    lambda pipe, pairs, options: pipe(({"question": q, "context": c} for q, c in pairs), **options),
    lambda pipe, pairs, options: [pipe(question=q, context=c, **options) for q, c in pairs],
]


class Remembering:
    """A runtime that reads no window twice."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        self._known: dict[bytes, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)

    def run(self, input_ids: Any, token_type_ids: Any, attention_mask: Any, lengths: Any) -> Any:
        import numpy as np

        from dynamic_tinybert.runtime import Logits

        sizes = attention_mask.sum(1)
        keys = [input_ids[i, :n].tobytes() + token_type_ids[i, :n].tobytes() for i, n in enumerate(sizes)]
        new = [i for i, key in enumerate(keys) if key not in self._known]
        if new:
            got = self._runtime.run(input_ids[new], token_type_ids[new], attention_mask[new], lengths[new])
            for row, i in enumerate(new):
                self._known[keys[i]] = [values[row, : sizes[i]] for values in got]
        filled = [np.zeros(input_ids.shape, kind) for kind in (np.float32, np.float32, np.int64)]
        for i, key in enumerate(keys):
            for values, known in zip(filled, self._known[key], strict=True):
                values[i, : sizes[i]] = known
        return Logits(*filled)


def verdict(theirs: Any, ours: Any, top_k: int) -> tuple[str, str, float]:
    """Why they disagree, or an empty string; both as cells of a table; the largest difference of two scores."""
    theirs = [theirs] if isinstance(theirs, dict) else theirs
    if "raised" in theirs[0] or "raised" in ours:
        both_raised = "raised" in theirs[0] and "raised" in ours
        return "" if both_raised else "one of them raised", f"{brief(theirs)} | {brief(ours)}", 0.0
    if isinstance(ours, dict) != (top_k == 1):
        return "a list or none", f"{brief(theirs)} | {type(ours).__name__}", 0.0
    ours = [ours] if isinstance(ours, dict) else ours
    kept: list[Any] = []
    for answer in theirs:
        if any(answer["start"] < other["end"] and other["start"] < answer["end"] for other in kept):
            continue  # on purpose
        if kept and not answer["score"]:
            continue  # no answer at all: on purpose
        kept.append(answer)
    both = f"{brief(kept)} | {brief(ours)}"
    places = [(answer["start"], answer["end"], answer["answer"]) for answer in ours]
    if len(ours) > top_k or len(set(places)) < len(ours):
        return "too many", both, 0.0
    worst = 0.0
    for answer in kept:
        place = (answer["start"], answer["end"], answer["answer"])
        if place not in places:
            return "another answer", both, 0.0
        worst = max(worst, abs(answer["score"] - ours[places.index(place)]["score"]))
    if worst > TOLERANCE:
        return "scores differ", both, worst
    scores = [answer["score"] for answer in ours]
    if sorted(scores, reverse=True) != scores:
        return "not in order", both, 0.0
    return "", both, worst


def purpose(pipe: Any, pair: list[str], options: dict[str, Any], theirs: Any) -> str:
    """Which differences on purpose make the disagreement: those without which both agree, the fewest that do."""
    for count in range(1, len(PURPOSES) + 1):
        for names in itertools.combinations(PURPOSES, count):
            with contextlib.ExitStack() as without:
                for name in names:
                    without.enter_context(PURPOSES[name](pipe))
                ours = attempt(pipe, pair[0], pair[1], options)
            if not verdict(theirs, ours, options.get("top_k", 1))[0]:
                return " and ".join(names)
    return ""


# What is written


def beginning(found: Comparison) -> list[str]:
    reference = found.reference
    return [
        "# The pipeline beside that of transformers 5.2",
        "",
        f"The same weights, questions of `{reference['data']}`; `short`: one paragraph each, `some`: a part of these, "
        "`long`:",
        "many paragraphs together, `unicode`: contexts that hold every character beyond ASCII, and some of other",
        "scripts. An answer agrees if its place and words are the same and its score is within "
        f"{TOLERANCE:g}; of several,",
        "all that transformers gave must be there, but for those that overlap a better one "
        "([why](../../docs/migrating.md)). Here",
        "the questions came as a list of dicts, as lists by name, from a generator and one by one, in turn. What",
        "transformers answered is kept in [pipeline-reference](pipeline-reference): the first line, in an environment",
        "of torch 2.13.0 and transformers 5.2.0, makes it anew, the second compares.",
        "",
        f"    {reference['command']}",
        "",
        common.heading("dynamic-tinybert", "onnxruntime"),
        f"Of the reference: {common.listed(reference['versions'])}.",
        "",
        f"Of {found.asked} calls {found.asked - len(found.details)} agree; the largest difference of their scores is "
        f"{found.worst:.1e}.",
        "",
        "| questions | parameters | n | agree | largest difference of scores |",
        "| --- | --- | --- | --- | --- |",
    ]


def explained(title: str, details: Sequence[tuple[str, str]], shown: int = 5) -> list[str]:
    """For each reason how often, and the first of its cases."""
    if not details:
        return [title, "", "Nowhere.", ""]
    lines = [
        title,
        "",
        f"Each reason is a difference on purpose without which both agree; the first {shown} of each.",
        "",
    ]
    for why, times in Counter(why for why, _ in details).most_common():
        rows = [row for other, row in details if other == why][:shown]
        head = ["| questions | parameters | question | transformers 5.2 | here |", f"|{' --- |' * 5}"]
        lines += [f"**{why}**: {times}", "", *head, *rows, ""]
    return lines


def others(found: Sequence[Comparison]) -> list[str]:
    """What the same came to with other models."""
    lines = [
        "",
        "## Other architectures",
        "",
        "Small models of random weights, made by `python tests/support/random_checkpoints.py /tmp/rand52` with",
        "transformers 5.2; the same parameters, the questions of `examples/` and texts of other scripts. Inputs: what",
        "transformers gave the model; of ALBERT once as it does, once with the token types that it leaves out.",
        "",
        "| architecture | inputs | calls | agree | largest difference of scores | why not |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for one in found:
        why = Counter(why for why, _ in one.details)
        lines.append(
            f"| {one.reference['model']} | {', '.join(f'`{name}`' for name in one.reference['inputs'])} | {one.asked} "
            f"| {one.asked - len(one.details)} | {one.worst:.1e} "
            f"| {'; '.join(f'{name}: {times}' for name, times in why.items())} |"
        )
    for one in found:
        if one.details:
            lines += ["", *explained(f"### {one.reference['model']}", one.details, 3)]
    return lines


def demonstrations(
    whose: str, cases: Sequence[Any], theirs: Sequence[Any], ours: Sequence[Any], show: Callable[[Any], str]
) -> list[str]:
    lines = [f"| what | parameters | {whose} | here |", "| --- | --- | --- | --- |"]
    for (what, _, _, options), a, b in zip(cases, theirs, ours, strict=True):
        lines.append(f"| {what} | {shown_options(options)} | {show(a)} | {show(b)} |")
    return lines


def shown_options(options: dict[str, Any]) -> str:
    return ", ".join(f"`{name}={value}`" for name, value in options.items()) or "defaults"


def cell(text: str) -> str:
    """What a table can hold."""
    return ascii(text)[1:-1].replace("|", "\\|") if not text.isprintable() else text.replace("|", "\\|")


def brief(result: Any) -> str:
    if isinstance(result, dict) and "raised" in result:
        text = str(result["raised"])
    elif isinstance(result, dict):
        text = f"{result['answer']!r} {result['start']}-{result['end']} {result['score']:.3g}"
    else:
        text = f"[{'; '.join(map(brief, result))}]"
    return text.replace("|", "\\|")


if __name__ == "__main__":
    main()
