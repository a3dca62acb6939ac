"""Compare the text that is read from PDF, HTML and Word files with the text that they show.

The files are made here, from code, so the text that they show is known: tables with cells of one character, columns,
sideways text, divided words, lists in lists, numbers that a list resumes, text that is hidden. Each case is about one
thing that is easily read wrong, so the figures say what is read wrong, not how often that occurs in real files.

The word error rate is the number of words to insert, delete or replace, divided by the number of words shown. Marks of
lists without a number do not count; in code, ends of lines do. With `--before FOLDER`, the same files are read by the
sources in that folder, too; pdftotext (of Poppler) and LibreOffice are compared if they are installed.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from benchmarks import common
from benchmarks.quality.extraction_files import CASES

Texts: TypeAlias = Mapping[str, str]

_BULLETS = {"*", "+", "o", "-", "•", "◦", "▪"}
_BY_LINES = "code-"  # files in which the ends of lines count as words
_READ = """
import json, sys
from pathlib import Path
from dynamic_tinybert.corpus.formats import Reading, read
def quiet(line): pass
texts = {}
for name in sys.argv[1:]:
    try:
        texts[name] = "".join(part for draft in read(Path(name), Reading(), complain=quiet) for part in draft.blocks)
    except Exception as error:
        texts[name] = ""
print(json.dumps(texts))
"""


def main() -> None:
    parser = common.argument_parser(__doc__)
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="the sources of another version, to compare")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the page there")
    common.add_counts(parser, files=(20, "files of each case"))
    args = parser.parse_args()
    readers: dict[str, Callable[[Sequence[Path]], Texts]] = {"now": lambda paths: read_by(None, paths)}
    if args.before:
        readers["before"] = lambda paths: read_by(args.before, paths)
    if shutil.which("pdftotext"):
        readers["pdftotext"] = read_by_pdftotext
        readers["pdftotext -layout"] = lambda paths: read_by_pdftotext(paths, "-layout")
    if shutil.which("soffice"):
        readers["LibreOffice"] = read_by_libreoffice
    shown: dict[Path, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (suffix, make) in CASES.items():
            for seed in range(args.files):
                content, text = make(random.Random(f"{name} {seed}"))
                path = Path(folder, f"{name.replace(' ', '-')}-{seed}{suffix}")
                path.write_bytes(content)
                shown[path] = text
        texts = {reader: read(list(shown)) for reader, read in readers.items()}
    write(args.output, args.files, shown, texts)


def read_by(sources: Path | None, paths: Sequence[Path]) -> Texts:
    """Return what the readers of this package, or of its sources in a folder, read."""
    environment = {**os.environ, "PYTHONPATH": str(sources)} if sources else None
    done = subprocess.run(
        [sys.executable, "-c", _READ, *map(str, paths)], env=environment, check=True, capture_output=True, text=True
    )
    return dict(json.loads(done.stdout))


def read_by_pdftotext(paths: Sequence[Path], *options: str) -> Texts:
    return {
        str(path): subprocess.run(["pdftotext", *options, path, "-"], check=True, capture_output=True, text=True).stdout
        for path in paths
        if path.suffix == ".pdf"
    }


def read_by_libreoffice(paths: Sequence[Path]) -> Texts:
    paths = [path for path in paths if path.suffix == ".docx"]
    with tempfile.TemporaryDirectory() as folder:
        form = "txt:Text (encoded):UTF8"
        command = ["soffice", f"-env:UserInstallation=file://{folder}/profile", "--headless", "--convert-to", form]
        subprocess.run([*command, "--outdir", folder, *paths], check=True, capture_output=True)
        found = {str(path): Path(folder, f"{path.stem}.txt") for path in paths}
        return {name: text.read_text("utf-8-sig") for name, text in found.items() if text.exists()}


def words(text: str, *, lines: bool = False) -> list[str]:
    """Return the words of a text; with `lines`, each end of a line is a word, too."""
    if lines:
        text = " ⏎ ".join(line for line in text.splitlines() if line.strip())
    return [word for word in text.split() if word not in _BULLETS]


def errors(shown: Sequence[str], found: Sequence[str]) -> int:
    """Return the number of words to insert, delete or replace."""
    row = list(range(len(found) + 1))
    for number, word in enumerate(shown, 1):
        diagonal, row[0] = row[0], number
        for index, other in enumerate(found, 1):
            cost = min(row[index] + 1, row[index - 1] + 1, diagonal + (word != other))
            diagonal, row[index] = row[index], cost
    return row[-1]


def write(output: Path | None, files: int, shown: Mapping[Path, str], texts: Mapping[str, Texts]) -> None:
    rows = []
    for name, group in groups(shown):
        expected = {path: words(shown[path], lines=path.name.startswith(_BY_LINES)) for path in group}
        total = sum(map(len, expected.values()))
        rates = []
        for found in texts.values():
            wrong = sum(
                errors(right, words(found[str(path)], lines=path.name.startswith(_BY_LINES)))
                for path, right in expected.items()
                if str(path) in found
            )
            rates.append(f"{wrong / total:.1%}" if all(str(path) in found for path in group) else "-")
        rows.append((name, f"{total:,}", *rates))
    page = (
        f"# Text of PDF, HTML and Word files\n\n"
        f"{common.heading('pypdfium2', 'inscriptis', 'lxml', 'mammoth')}\n\n"
        f"Word error rate, {files} files of each case.\n\n"
        f"{common.table(('case', 'words', *texts), rows)}\n"
    )
    common.write_page(page, output)


def groups(shown: Mapping[Path, str]) -> Iterator[tuple[str, list[Path]]]:
    """Yield the files of each case, and of each format."""
    for name in CASES:
        yield name, [path for path in shown if path.name.startswith(f"{name.replace(' ', '-')}-")]
    for suffix in dict.fromkeys(suffix for suffix, _ in CASES.values()):
        yield f"**all {suffix[1:]}**", [path for path in shown if path.suffix == suffix]


if __name__ == "__main__":
    main()
