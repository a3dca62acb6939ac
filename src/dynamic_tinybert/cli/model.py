"""The commands `info` and `export`: describe a model, and write it to a folder or a file."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from dynamic_tinybert.cli import console

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help=console.MODEL_HELP)]


class Format(str, Enum):
    """The values of `export --format`."""

    transformers = "transformers"
    onnx = "onnx"
    onnx_file = "onnx-file"


def info(
    folder_or_name: Annotated[str | None, typer.Argument(metavar="MODEL", help=console.MODEL_HELP)] = None,
    model: console.Model = "embedded",
    as_json: console.AsJson = False,
) -> None:
    """Show the architecture, size and licence of a model, and the configurations that it offers.

    \b
      dynamic-tinybert info
      dynamic-tinybert info ./my-model --json
    """
    from dynamic_tinybert.model import BERT_BASE, SHARE_TOKENS, ConfigTable, macs
    from dynamic_tinybert.runtime import choose_precision

    if folder_or_name is not None and model != "embedded":
        console.fail("give the model once: as MODEL, or as --model", misuse=True)
    with console.failures():
        folder = console.open_model(folder_or_name or model)
        table = ConfigTable.read(folder.shape, folder.length_configs)
        parameters = folder.parameters
        here = choose_precision("auto", table.precision)
    full = macs(folder.shape, SHARE_TOKENS)
    described: dict[str, Any] = {
        "model": folder.name,
        "path": str(folder.path),
        "commit": folder.commit,
        "architecture": {"type": folder.architecture, **folder.shape.to_dict()},
        "parameters": parameters,
        "bytes": folder.source_bytes,
        "license": folder.license,
        "macs": full,
        "speedup_over_bert_base": round(macs(BERT_BASE, SHARE_TOKENS) / full, 2),
        "confidence": folder.calibration is not None,
        "no_answer_threshold": table.no_answer_threshold,
        "squad2_threshold": table.squad2_threshold,
        "precision": {"measured": table.precision, "here": here},
        "measured_on": table.measured_on,
        "configurations": [
            {
                "name": c.name,
                "fractions": list(c.config.fractions),
                "share": round(c.share, 4),
                "exact_match": c.exact_match,
                "f1": c.f1,
            }
            for c in table.choices
        ],
    }
    if as_json:
        console.print_json(described)
        return
    s = folder.shape
    print(f"model          {folder.name}   ({folder.path})")
    if folder.commit:
        print(f"commit         {folder.commit}")
    print(f"architecture   {folder.architecture}: {s.layers} layers, hidden {s.hidden}, {s.heads} heads, "
          f"feed-forward {s.feed_forward}, {s.activation}")  # fmt: skip
    print(f"size           {parameters / 1e6:.1f} million parameters, {folder.source_bytes / 1e6:.1f} MB on disk")
    print(f"reads          up to {s.positions} tokens at a time, from a vocabulary of {s.vocabulary:,}")
    whose = "the question's tokens" if s.significance == "question" else "all tokens"
    weighed = ", weighed by a linear head on each token" if s.significance_head else ""
    print(f"drops          the tokens with the least attention from {whose}{weighed}")
    print(f"licence        {folder.license or 'not stated'}")
    print(f"cost           {full / 1e9:.2f} billion multiply-accumulates for {SHARE_TOKENS} tokens: "
          f"{described['speedup_over_bert_base']}x less than BERT-base")  # fmt: skip
    measured = f"; the figures below were measured in {table.precision}" if table.measured_on else ""
    print(f"precision      {here} here, by default{measured}")
    print(f"confidence     {'calibrated' if folder.calibration else 'not calibrated: answers have none'}")
    threshold = "0 (not tuned)" if table.no_answer_threshold is None else f"{table.no_answer_threshold:g}"
    print(f"no answer      if the no-answer logit is more than {threshold} above the best span's")
    print(f"\nlength configurations, {table.measured_on or 'not measured: a geometric series'}")
    print(f"  {'name':<16} {'share':>6} {'EM':>7} {'F1':>7}   kept after each layer")
    for c in table.choices:
        em, f1 = (f"{x:7.2f}" if x is not None else "      -" for x in (c.exact_match, c.f1))
        print(f"  {c.name:<16} {c.share:6.3f} {em} {f1}   {' '.join(f'{f:.2f}' for f in c.config.fractions)}")


def export(
    model: ModelArgument,
    target: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder, or a file that ends in .onnx.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
    format_: Annotated[
        Format | None,
        typer.Option("--format", help="What to write.  [default: onnx-file if DIR ends in .onnx, or transformers]"),
    ] = None,
    precision: Annotated[
        console.Precision,
        typer.Option(help="Arithmetic of an onnx folder: auto is the one in which the model was measured."),
    ] = console.Precision.auto,
) -> None:
    """Write a model as a folder that transformers reads, as an ONNX file, or as a folder for the browser.

    \b
      dynamic-tinybert export embedded ./my-model
      dynamic-tinybert export embedded ./my-model.onnx
      dynamic-tinybert export embedded ./for-the-browser --format onnx

    The folder loads with AutoTokenizer.from_pretrained and AutoModelForQuestionAnswering.from_pretrained. The ONNX
    file takes input_ids, attention_mask, token_type_ids [batch, tokens] and lengths [batch, layers], the tokens that
    each row keeps after each layer, and gives start_logits, end_logits and layers_passed [batch, tokens].
    With --format onnx, DIR gets that graph as model.onnx, the tokenizer, and the table in answering.json: what the
    JavaScript package reads.
    """
    from dynamic_tinybert.folder import save_folder
    from dynamic_tinybert.publish import save_onnx_folder
    from dynamic_tinybert.runtime import export_onnx

    target = target.expanduser()
    if format_ is None:
        format_ = Format.onnx_file if target.suffix.lower() == ".onnx" else Format.transformers
    if precision != console.Precision.auto and format_ != Format.onnx:
        console.fail(f"--precision {precision.value} is for --format onnx", misuse=True)
    folder = console.open_model(model)
    onnx = format_ == Format.onnx_file
    if target.is_file() and not onnx:
        console.fail(f"{target} is a file: give a new folder, or a file that ends in .onnx")
    if target.is_dir() and onnx:
        console.fail(f"{target} is a folder: give a file that ends in .onnx")
    there = any(target.iterdir()) if target.is_dir() else os.path.lexists(target)
    if there and not force:
        console.fail(f"{target} already exists; --force overwrites it{'' if onnx else ' if it is a model'}")
    if onnx:
        target.parent.mkdir(parents=True, exist_ok=True)
        export_onnx(folder.shape, folder.weights, Path(os.path.realpath(target)))  # a link stays a link
    elif format_ == Format.onnx:
        save_onnx_folder(folder, target, precision=precision.value, overwrite=force)
    else:
        save_folder(folder, target, overwrite=force)
    print(target)
