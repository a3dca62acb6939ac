"""The command `push`: upload a model folder to the Hugging Face Hub."""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated, Any

import typer

from dynamic_tinybert.cli import console

Folder = Annotated[str, typer.Argument(metavar="FOLDER", help='A model folder, or "embedded".')]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The name on the Hub: owner/name.")]


def push(
    folder: Folder,
    name: Name,
    private: Annotated[bool, typer.Option("--private", help="Make it private.")] = False,
    revision: Annotated[
        str | None, typer.Option(metavar="BRANCH", help="The branch to write.  [default: main]")
    ] = None,
    message: Annotated[str | None, typer.Option(metavar="TEXT", help="The commit message.")] = None,
    license: Annotated[
        str | None, typer.Option(metavar="ID", help="The licence, if the model card has none; for example apache-2.0.")
    ] = None,
    token: Annotated[
        str | None, typer.Option(metavar="T", help="Access token.  [default: from HF_TOKEN or hf auth login]")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show files, sizes and the card; upload nothing.")] = False,
    as_json: console.AsJson = False,
) -> None:
    """Upload a model folder to the Hugging Face Hub, with a complete model card.

    \b
      dynamic-tinybert push my-model ada/engine --dry-run
      dynamic-tinybert push my-model ada/engine --private

    The folder is checked first, and is not changed. What README.md lacks is added from the folder: metadata, the
    architecture, the length configurations, how to use it. What is written in it stays. Only the files of a model are
    uploaded, in one commit; INT8 weights become float32, which transformers can load.
    """
    from dynamic_tinybert.publish import push_model, without_bars

    with contextlib.nullcontext() if sys.stderr.isatty() else without_bars():
        done = push_model(
            folder,
            name,
            private=private,
            revision=revision,
            message=message,
            license=license,
            token=token,
            dry_run=dry_run,
            say=lambda line: print(line, file=sys.stderr),
        )
    if done.card.missing:
        console.complain("warning", f"the card does not state {', '.join(done.card.missing)}: add it to README.md")
    described: dict[str, Any] = {
        "name": done.name,
        "url": done.url,
        "commit": done.commit,
        "private": done.private,
        "bytes": sum(done.files.values()),
        "files": dict(done.files),
        "removed": list(done.removed),
        "card_added": list(done.card.added),
        "card_missing": list(done.card.missing),
    }
    if as_json:
        console.print_json({**described, "card": done.card.text} if dry_run else described)
        return
    if dry_run:
        for file, size in done.files.items():
            print(f"{size:>14,}  {file}")
        print(f"{described['bytes']:>14,}  bytes in all")
        print(f"\nREADME.md, with these additions: {', '.join(done.card.added) or 'nothing'}\n\n{done.card.text}")
        print(f"nothing was uploaded; it would go to {done.url}")
        return
    print(done.url)
