"""Our pipeline beside that of transformers 5.2, on the same weights, questions and parameters.

usage: TF52/python pipeline_parity.py reference FOLDER --data DEV.json.gz [--limit 1000] --output REFERENCE.json
       pipeline_parity.py compare FOLDER REFERENCE.json [--output results/pipeline.md]

`reference` runs where transformers 5.2 and PyTorch are, and needs nothing of this package; `compare` runs where this
package is. FOLDER is a model folder that both read: `dynamic-tinybert export embedded FOLDER`. `--data examples` takes
the questions and texts of examples/, which tests/transformers_5_2.json was made with.

Both remember the logits of a window, since parameters that change no window need no second reading; all else is the
pipelines' own. An answer agrees if its place and words are the same and its score is within 1e-4. Of several answers,
those of transformers that overlap a better one are left out first: see docs/migrating.md.
"""

from __future__ import annotations

import argparse
import datetime
import gzip
import json
import re
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TOLERANCE = 1e-4
RUNS: list[tuple[str, dict[str, Any]]] = [  # which questions, and the parameters
    ("short", {}),
    ("short", {"top_k": 3}),
    ("short", {"top_k": 20}),
    ("short", {"max_answer_len": 3}),
    ("short", {"max_answer_len": 40, "top_k": 3}),
    ("short", {"handle_impossible_answer": True}),
    ("short", {"handle_impossible_answer": True, "top_k": 3}),
    ("short", {"align_to_words": False}),
    ("short", {"align_to_words": False, "top_k": 3}),
    ("short", {"max_question_len": 16}),
    ("some", {"max_seq_len": 96, "doc_stride": 32}),
    ("some", {"max_seq_len": 192, "top_k": 3}),
    ("some", {"max_seq_len": 128, "doc_stride": 0, "handle_impossible_answer": True}),
    ("long", {}),
    ("long", {"top_k": 3}),
    ("long", {"top_k": 20}),
    ("long", {"doc_stride": 200, "top_k": 3}),
    ("long", {"max_seq_len": 256, "doc_stride": 64, "handle_impossible_answer": True, "top_k": 3}),
    ("long", {"align_to_words": False, "top_k": 20}),
]
TOWER = "The tower stands in Paris. Everybody knows that it is in Paris. It was built in 1889."
DEMONSTRATIONS: list[tuple[str, str, str, dict[str, Any]]] = [  # what, question, context, parameters
    ("overlapping answers", "Where is the tower?", TOWER, {"top_k": 3}),
    ("fewer than `top_k`", "Where is the tower?", "Paris! " * 9 + "It is not in Rome, London or Madrid.", {"top_k": 3}),
    ("one answer for `top_k` 3: no list", "Where is the tower?", "Paris", {"top_k": 3}),
    ("window of as many spans as wanted", "Where", "Paris", {"top_k": 25, "align_to_words": False}),
    ("a letter and its combining mark", "Who wrote it?", "Rene\u0301 wrote it in 1898.", {}),
    ("a word at the edge of a window", "Where is it?", "It is in Llanfairpwll.", {"max_seq_len": 12, "doc_stride": 0}),
    ("a question without words", " ", TOWER, {}),
    ("`doc_stride` at the window's length", "Where is it?", TOWER * 9, {"max_seq_len": 64, "doc_stride": 60}),
    ("the default `doc_stride`", "Where is the tower? " * 8, TOWER * 9, {"max_seq_len": 64}),
    ("`max_seq_len` beyond the model", "Where is it?", TOWER * 40, {"max_seq_len": 1000}),
    ("a question that fills the window", "Where is it? " * 120, TOWER, {}),
    ("`max_question_len`", "Is it in London or in Rome or where is the tower?", TOWER, {"max_question_len": 3}),
    ("a special token's name in a text", "What is the sign?", "The sign [SEP] is the sign of the end.", {}),
    ("an unknown parameter", "Where is the tower?", TOWER, {"max_anwser_len": 3}),
    ("`topk`", "Where is the tower?", TOWER, {"topk": 2}),
    ("half a surrogate pair", "Where is it?", "It is \ud83d in Paris.", {}),
    ("equal answers in windows that overlap: kept", "Where is it?", TOWER * 9, {"max_seq_len": 64, "doc_stride": 40}),
]
Ask = Callable[..., Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    reference = commands.add_parser("reference")
    reference.add_argument("folder")
    reference.add_argument("--data", required=True)
    reference.add_argument("--limit", type=int, default=1000)
    reference.add_argument("--long", type=int, default=40)
    reference.add_argument("--output", type=Path, required=True)
    compared = commands.add_parser("compare")
    compared.add_argument("folder")
    compared.add_argument("reference", type=Path)
    compared.add_argument("--output", type=Path)
    args = parser.parse_args()
    if args.command == "reference":
        make_reference(args)
    else:
        compare(args)


# What is asked


def questions(data: str, limit: int, long: int) -> dict[str, list[list[str]]]:
    """Pairs of a question and a context: `short`, one paragraph each; `some` of these; `long`, many paragraphs."""
    if data == "examples":
        return _examples()
    opener = gzip.open if data.endswith(".gz") else open
    with opener(data, "rt", encoding="utf-8") as file:
        articles = json.load(file)["data"]
    pairs = [[q["question"], p["context"]] for a in articles for p in a["paragraphs"] for q in p["qas"]]
    short = pairs[:: max(1, len(pairs) // limit)][:limit]
    texts = ["\n\n".join(p["context"] for p in a["paragraphs"][:12]) for a in articles]
    joined = [
        [p["qas"][0]["question"], text]
        for text, article in zip(texts, articles, strict=True)
        for p in article["paragraphs"][:12:4]
    ]
    return {"short": short, "some": short[::4], "long": joined[:: max(1, len(joined) // long)][:long]}


def _examples() -> dict[str, list[list[str]]]:
    asked = json.loads((ROOT / "examples/questions.json").read_text("utf-8"))
    texts = {item["text"]: (ROOT / "examples" / item["text"]).read_text("utf-8") for item in asked}
    long = [[item["question"], texts[item["text"]]] for item in asked]
    short = [[q, part] for i, (q, text) in enumerate(long) for part in text.split("\n\n")[i % 5 + 1 :: 9]]
    return {"short": short, "some": short[::2], "long": long[::3]}


# transformers 5.2


def make_reference(args: argparse.Namespace) -> None:
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    pipe = transformers.pipeline("question-answering", model=args.folder, dtype=torch.float32)
    forward, known = pipe.model.forward, {}

    def remembered(input_ids: Any, token_type_ids: Any, attention_mask: Any) -> Any:
        key = (input_ids.numpy().tobytes(), token_type_ids.numpy().tobytes())
        if key not in known:
            known[key] = forward(input_ids=input_ids, token_type_ids=token_type_ids, attention_mask=attention_mask)
        return dict(known[key])

    asked = questions(args.data, args.limit, args.long)
    demonstrated = [attempt(pipe, *demonstration[1:]) for demonstration in DEMONSTRATIONS]
    pipe.model.forward = remembered
    runs = []
    for which, options in RUNS:
        began = time.perf_counter()
        results = [rounded(attempt(pipe, q, c, options)) for q, c in asked[which]]
        runs.append({"which": which, "options": options, "results": results})
        print(f"{which} {options}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    stored = {
        "command": command(),
        "versions": {name: version(name) for name in ("transformers", "tokenizers", "torch")},
        "data": Path(args.data).name,
        "questions": asked,
        "runs": runs,
        "demonstrated": demonstrated,
    }
    args.output.write_text(json.dumps(stored, separators=(",", ":")), "utf-8")


def rounded(result: Any) -> Any:
    """Scores to seven digits, for a smaller file."""
    if isinstance(result, list):
        return [rounded(answer) for answer in result]
    return {**result, "score": round(result["score"], 7)} if "score" in result else result


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
    import warnings

    from dynamic_tinybert import pipeline

    warnings.simplefilter("ignore")
    reference = json.loads(args.reference.read_text("utf-8"))
    asked = reference["questions"]
    pipe = pipeline("question-answering", model=args.folder)
    demonstrated = [attempt(pipe, *demonstration[1:]) for demonstration in DEMONSTRATIONS]
    pipe.model.reader.runtime = Remembering(pipe.model.reader.runtime)
    rows, details = [], []
    for run in reference["runs"]:
        which, options, theirs = run["which"], run["options"], run["results"]
        began, pairs = time.perf_counter(), asked[which]
        ours = pipe([{"question": q, "context": c} for q, c in pairs], **options)
        verdicts = [verdict(a, b, options.get("top_k", 1)) for a, b in zip(theirs, ours, strict=True)]
        same = sum(not why for why, _ in verdicts)
        worst = max((difference for why, difference in verdicts if not why), default=0.0)
        shown = ", ".join(f"`{name}={value}`" for name, value in options.items()) or "defaults"
        rows.append(f"| {which} | {shown} | {len(pairs)} | {same} | {worst:.1e} |")
        details += [f"- {which}, {shown}: {pairs[i][0]!r}: {why}" for i, (why, _) in enumerate(verdicts) if why]
        print(f"{rows[-1]} {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    lines = [
        *heading(reference),
        *rows,
        "",
        *explained(details),
        *demonstrations(reference["demonstrated"], demonstrated),
    ]
    if args.output:
        args.output.write_text("\n".join(lines) + "\n", "utf-8")
    else:
        print("\n".join(lines))


class Remembering:
    """A runtime that reads no window twice."""

    def __init__(self, runtime: Any) -> None:
        self.shape, self.precision, self.batch_tokens = runtime.shape, runtime.precision, runtime.batch_tokens
        self._runtime = runtime
        self._known: dict[bytes, Any] = {}

    def run(self, input_ids: Any, token_type_ids: Any, attention_mask: Any, lengths: Any) -> Any:
        import numpy as np

        from dynamic_tinybert.runtime.session import Logits

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


def verdict(theirs: Any, ours: Any, top_k: int) -> tuple[str, float]:
    """Why they disagree, or an empty string; and the largest difference of two scores."""
    theirs = [theirs] if isinstance(theirs, dict) else theirs
    ours = [ours] if isinstance(ours, dict) else ours
    if any("raised" in answer for answer in theirs):
        return f"transformers raised {theirs[0]['raised']}", 0.0
    kept: list[Any] = []
    for answer in theirs:
        if not any(answer["start"] < other["end"] and other["start"] < answer["end"] for other in kept):
            kept.append(answer)
    mine = {(answer["start"], answer["end"], answer["answer"]): answer["score"] for answer in ours}
    if len(ours) > top_k or (top_k == 1 and len(kept) != len(ours)):
        return f"{len(kept)} and {len(ours)} answers", 0.0
    worst = 0.0
    for answer in kept:
        place = (answer["start"], answer["end"], answer["answer"])
        if place not in mine:
            return f"transformers {brief(kept)}, here {brief(ours)}", 0.0
        worst = max(worst, abs(answer["score"] - mine[place]))
    if worst > TOLERANCE:
        return f"scores differ by {worst:.1e}: {brief(kept)}, {brief(ours)}", worst
    return "", worst


# What is written


def heading(reference: dict[str, Any]) -> list[str]:
    from speed import describe_machine

    machine = describe_machine()
    versions = {**reference["versions"], **{n: version(n) for n in ("dynamic-tinybert", "onnxruntime")}}
    return [
        "# The pipeline beside that of transformers 5.2",
        "",
        f"The same weights, questions of `{reference['data']}`; `short`: one paragraph each, `some`: a part of these, "
        "`long`:",
        "many paragraphs together. An answer agrees if its place and words are the same and its score is within "
        f"{TOLERANCE:g};",
        "of several, all that transformers gave must be there, but for those that",
        "overlap a better one ([why](../docs/migrating.md)).",
        "",
        f"    {reference['command']}",
        f"    {command()}",
        "",
        f"{machine['cpu']}, {machine['cores']} cores; {', '.join(f'{name} {v}' for name, v in versions.items())}; "
        f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}.",
        "",
        "| questions | parameters | n | agree | largest difference of scores |",
        "| --- | --- | --- | --- | --- |",
    ]


def explained(details: Sequence[str]) -> list[str]:
    return ["## Where they do not agree", "", *(details or ["Nowhere."]), ""]


def demonstrations(theirs: Sequence[Any], ours: Sequence[Any]) -> list[str]:
    lines = [
        "## Differences on purpose",
        "",
        "| what | parameters | transformers 5.2 | here |",
        "| --- | --- | --- | --- |",
    ]
    for (what, _, _, options), a, b in zip(DEMONSTRATIONS, theirs, ours, strict=True):
        shown = ", ".join(f"`{name}={value}`" for name, value in options.items()) or "defaults"
        lines.append(f"| {what} | {shown} | {brief(a)} | {brief(b)} |")
    return lines


def brief(result: Any) -> str:
    if isinstance(result, dict) and "raised" in result:
        text = str(result["raised"])
    elif isinstance(result, dict):
        text = f"{result['answer']!r} {result['start']}-{result['end']} {result['score']:.3g}"
    else:
        text = f"[{'; '.join(map(brief, result))}]"
    return text.replace("|", "\\|")


def command() -> str:
    return shlex.join([Path(sys.executable).name, *sys.argv])


if __name__ == "__main__":
    main()
