"""The commands `index add|remove|list|status`: manage an index of documents."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Annotated

import typer

from dynamic_tinybert.cli import console
from dynamic_tinybert.progress import progress_bar

Directory = Annotated[
    str,
    typer.Option("--index", metavar="DIR", help="The folder of the index; or milvus://HOST:PORT/COLLECTION."),
]

app = typer.Typer(
    help="""Make an index of documents, for `ask --index` and `batch --index` (extra `corpus`).

\b
  dynamic-tinybert index add my-documents faq.html --index my-index
  dynamic-tinybert ask "Who designed the tower?" --index my-index
""",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("add")
def add(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Files, or folders with everything in them.")],
    directory: Directory,
    text_field: Annotated[
        str, typer.Option(metavar="NAME", help="JSON Lines: the field of the text; a.b means b inside a.")
    ] = "text",
    title_field: Annotated[str, typer.Option(metavar="NAME", help="JSON Lines: the field of the title.")] = "title",
    id_field: Annotated[str, typer.Option(metavar="NAME", help="JSON Lines: the field of the name.")] = "id",
    encoding: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The encoding of text files that are not UTF-8, for example latin-1."),
    ] = None,
    html: console.HtmlOption = console.Html.all,
    passage_size: Annotated[
        int | None,
        typer.Option(metavar="N", min=50, help="For a new index: the most characters in a passage.  [default: 1200]"),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="For a new index: the language whose stems are compared, as german or de; none for no stems.  "
            "[default: english]",
        ),
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove documents of files that were in these folders and no longer exist.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Read unchanged files again, too.")] = False,
    as_json: console.AsJson = False,
) -> None:
    """Add documents to an index, or make one: text, Markdown, HTML, PDF, DOCX, JSON Lines.

    Unchanged files are left alone, unless these options changed; changed files are replaced. A file that cannot be read
    is reported and skipped. The exit status is 1 if such a file was given by name. After an interruption, run the same
    command to continue.

    \b
      dynamic-tinybert index add my-documents --index my-index
      dynamic-tinybert index add articles.jsonl --index my-index --text-field body --title-field headline
    """
    from dynamic_tinybert.corpus import Corpus, Reading

    reading = Reading(
        text_field=text_field, title_field=title_field, id_field=id_field, encoding=encoding, html=html.value
    )
    corpus = Corpus(directory, passage_size=passage_size, language=language)
    with progress_bar("adding", "bytes") as progress:
        report = corpus.add(
            *paths,
            reading=reading,
            prune=prune,
            force=force,
            progress=progress and (lambda done, total, name: progress(done, total, f"  {console.plain(name)}")),
            skipped=lambda path, why: console.complain("skipped", f"{console.plain(path)}: {why}"),
        )
    for path, count in report.left_out.items():
        what = f"{count:,} part{'s' * (count != 1)} of it could not be read when it was added"
        console.complain("unchanged", f"{console.plain(path)}: {what}: --force reads it again")
    counts, size = corpus.counts(), corpus.index.size()
    named = {os.path.abspath(path) for path in paths}
    failed = any(path in named for path, _ in report.skipped)
    if as_json:
        console.print_json(asdict(report) | {"index": {**counts._asdict(), "bytes": size}})
        raise typer.Exit(int(failed))
    files = f"{report.added:,} added, {report.replaced:,} replaced, {report.unchanged:,} unchanged"
    files += f", {report.removed:,} removed" if prune else ""
    print(f"files      {files}")
    if report.skipped:
        print(f"skipped    {len(report.skipped):,} files, or records and pages of files")
    print(f"new        {report.documents:,} documents in {report.passages:,} passages, {report.seconds:.1f} s")
    print(f"index      {counts.documents:,} documents in {counts.passages:,} passages{_megabytes(size, ', ')}")
    if report.ignored:
        kinds = ", ".join(f"{count:,} {console.plain(suffix)}" for suffix, count in report.ignored.most_common(5))
        print(f"ignored    files of other types: {kinds}{', …' if len(report.ignored) > 5 else ''}")
    raise typer.Exit(int(failed))


@app.command("remove")
def remove(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Names from `index list`, or files, or folders.")
    ],
    directory: Directory,
    as_json: console.AsJson = False,
) -> None:
    """Remove documents from an index. If one of the names is not in it, nothing is removed.

    \b
      dynamic-tinybert index remove my-documents/old.txt --index my-index
    """
    from dynamic_tinybert.corpus import Corpus

    removed = Corpus(directory).remove(*names)
    if as_json:
        console.print_json({"removed": dict(removed)})
        return
    for name, count in removed.items():
        print(f"{console.plain(name)}: {count:,} document{'s' * (count != 1)} removed")


@app.command("list")
def list_(directory: Directory, as_json: console.AsJson = False) -> None:
    """List the documents of an index: name, passages, characters, title.

    \b
      dynamic-tinybert index list --index my-index
    """
    from dynamic_tinybert.corpus import Corpus

    for info in Corpus(directory).documents():
        if as_json:
            console.print_json(asdict(info))
        else:
            title = f"  {console.plain(info.title)}" if info.title else ""
            print(f"{console.plain(info.name)}  {info.passages:,} × {info.characters:,}{title}")


@app.command("status")
def status(directory: Directory, as_json: console.AsJson = False) -> None:
    """Show the size of an index, and which files were only partly added.

    \b
      dynamic-tinybert index status --index my-index
    """
    from dynamic_tinybert.corpus import Corpus

    found = Corpus(directory).status()
    if as_json:
        console.print_json(asdict(found))
        return
    print(f"index        {found.directory}")
    print(f"files        {found.files:,}")
    print(f"documents    {found.documents:,}")
    print(f"passages     {found.passages:,}, of {found.passage_size:,} characters at most")
    print(f"characters   {found.characters:,}")
    print(f"language     {found.language}")
    print(f"on disk      {_megabytes(found.bytes) or 'Milvus does not say'}")
    for name in found.incomplete:
        print(f"incomplete   {console.plain(name)}: add it again to finish it")


def _megabytes(size: int | None, before: str = "") -> str:
    return "" if size is None else f"{before}{size / 1e6:,.1f} MB"
