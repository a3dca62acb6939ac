"""The code blocks of the documentation, found by a Markdown parser, and what runs them.

A block is run as a reader would: Python in one namespace for each page, commands by the command line's own code, both
in a folder that holds what the pages speak of. What a block or a command prints is compared with the output that the
page shows after it. What cannot run has a marker in the source, just before it, with the reason,

    <!-- not run: it trains for hours -->

(or a comment in the code, `# not run: ...`, where readers should see it) and is checked as far as it goes: Python
compiles and its imports are there, commands and options exist.

`dynamic-tinybert serve` starts a server with the options of the page, on a free port; what the page asks of
127.0.0.1:8000 after that, in Python or by curl, goes there. Blocks of this kind need the extra `serve`.
"""

from __future__ import annotations

import ast
import contextlib
import doctest
import importlib.util
import io
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import typer.main
import yaml
from markdown_it import MarkdownIt
from typer.testing import CliRunner

from dynamic_tinybert.cli.app import app
from dynamic_tinybert.folder import EMBEDDED
from support.formats import pdf

ROOT = Path(__file__).parents[2]

PAGES = sorted(
    str(page.relative_to(ROOT).as_posix())
    for pattern in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md", "src/dynamic_tinybert/embedded/*.md")
    for page in ROOT.glob(pattern)
)

# Of these only names and options are checked, wherever they stand. So of a command with a model that is on the Hub.
NEVER_RUN = {
    "calibrate": "it measures for minutes",
    "mcp": "it waits for an assistant",
    "push": "it writes to the Hub",
    "search": "it measures for minutes to hours",
    "train": "it trains for minutes to hours",
}

# Other people's programs, which are taken as they are: they would change a repository, a registry or an account.
FOREIGN = {"claude", "git", "hf", "podman", "twine", "ray", "serve", "npm"}

# Where the pages say that a server is, and the pages that are of nothing else.
SERVER = "127.0.0.1:8000"
OF_SERVING = {"docs/mcp.md", "docs/serving.md"}
OF_FRAMEWORKS = {"docs/frameworks.md"}

# What a page takes for done: commands, run in its folder before its first block.
BEFORE = {
    "README.md": ["export embedded my-model"],
    "docs/publishing.md": ["export embedded my-model"],
    "docs/training.md": ["export embedded my-run/model"],
}

# Module of an import -> what must be installed for it. Blocks that need what is absent are skipped, with that reason.
NEEDS = {
    "dynamic_tinybert.train": "torch",
    "dynamic_tinybert.search": "optuna",
    "dynamic_tinybert.corpus": "tantivy",
    "dynamic_tinybert.serve": "fastapi",
    "mcp": "mcp",
    "torch": "torch",
    "transformers": "transformers",
    "dynamic_tinybert.haystack": "haystack",
    "haystack": "haystack",
    "dynamic_tinybert.langchain": "langchain_core",
    "langchain_core": "langchain_core",
    "langchain_classic": "langchain_classic",
    "dynamic_tinybert.llama_index": "llama_index",
    "llama_index": "llama_index",
}
NAMES_NEED = {"Corpus": "tantivy"}  # of `from dynamic_tinybert import ...`

_SETTING = re.compile(r"[A-Z_]+=.*")
_MARKER = re.compile(r"<!--\s*not run:\s*(\S.*?)\s*-->", re.DOTALL)
_COMMENT = re.compile(r"#\s*not run:\s*(\S.*?)\s*$", re.MULTILINE)
_PYTHON, _SHELL, _DATA = {"python", "py"}, {"bash", "sh", "shell", "console"}, {"json", "yaml"}
_PROGRAMS = ("dynamic-tinybert ", ".venv/bin/", "pip ", "python ", "make ", "accelerate ", "ACCELERATE_", "git ", "hf ")
_PROGRAMS += ("curl ", "podman ")


@dataclass(frozen=True)
class Block:
    """A code block of a page.

    Attributes:
        page: The page, from the root of the repository.
        line: Its first line of code there, from 1.
        kind: `python`, `shell`, `console`, a format of data, or `text`.
        code: What it holds.
        reason: Why it does not run, if it has a marker.
        output: What the page says that it prints, if it does.
    """

    page: str
    line: int
    kind: str
    code: str
    reason: str | None = None
    output: str | None = None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    """Find the code blocks of a page, fenced and indented. An output that is shown belongs to the block before it."""
    return find_blocks(page, (ROOT / page).read_text("utf-8"))


def find_blocks(page: str, source: str) -> list[Block]:
    """Find the code blocks of a page in its Markdown."""
    source = re.sub(r"\A---\n.*?\n---\n", lambda head: "\n" * head[0].count("\n"), source, flags=re.DOTALL)
    found: list[Block] = []
    tokens = MarkdownIt("commonmark").parse(source)
    for place, token in enumerate(tokens):
        if token.type not in ("fence", "code_block"):
            continue
        before = tokens[place - 1] if place else None
        marker = _MARKER.fullmatch(before.content.strip()) if before and before.type == "html_block" else None
        marker = marker or _COMMENT.search(token.content)
        reason = " ".join(marker[1].split()) if marker else None
        language = token.info.split()[0] if token.info.split() else ""
        assert token.map
        line = token.map[0] + (2 if token.type == "fence" else 1)
        if language in _PYTHON:
            kind = "python"
        elif language in _SHELL:
            kind = "console" if language == "console" else "shell"
        elif language in _DATA:
            kind = language
        elif not language and any(row.startswith(_PROGRAMS) for row in token.content.splitlines()):
            kind = "shell"
        elif language in ("", "text") and not reason and before and before.type in ("fence", "code_block") and found:
            found[-1] = Block(**{**vars(found[-1]), "output": token.content})
            continue
        else:
            kind = "text"
        found.append(Block(page, line, kind, token.content, reason))
    return found


def needs_what_is_absent(block: Block) -> str | None:
    """The package that a block needs and that is not installed."""
    wanted: set[str] = set()
    if block.kind == "python":
        for node in ast.walk(ast.parse(block.code)):
            modules = []
            if isinstance(node, ast.ImportFrom) and node.module:
                modules = [node.module]
                if node.module == "dynamic_tinybert":
                    wanted |= {NAMES_NEED[n.name] for n in node.names if n.name in NAMES_NEED}
            elif isinstance(node, ast.Import):
                modules = [name.name for name in node.names]
            wanted |= {NEEDS[m] for module in modules for m in NEEDS if f"{module}.".startswith(f"{m}.")}
        for earlier in _makers_of_its_names(block):
            if absent := needs_what_is_absent(earlier):
                return absent
    elif block.kind in ("shell", "console") and "curl " in block.code and shutil.which("curl") is None:
        return "curl"
    if needs_a_server(block):
        wanted.add("fastapi")
    if block.kind in ("shell", "console") and re.search(r"--index\b|\bindex (add|remove|list|status)", block.code):
        wanted.add("tantivy")
    return next((name for name in sorted(wanted) if importlib.util.find_spec(name) is None), None)


def _makers_of_its_names(block: Block) -> list[Block]:
    """The blocks of its page before it that bind names it uses: of each name, the last."""
    names = [node for node in ast.walk(ast.parse(block.code)) if isinstance(node, ast.Name)]
    used = {node.id for node in names if isinstance(node.ctx, ast.Load)}
    makers: dict[str, Block] = {}
    for earlier in blocks(block.page):
        if earlier.line < block.line and earlier.kind == "python" and not earlier.reason:
            for node in ast.walk(ast.parse(earlier.code)):
                if isinstance(node, ast.alias):
                    makers[(node.asname or node.name).partition(".")[0]] = earlier
                elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                    makers[node.name] = earlier
                elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    makers[node.id] = earlier
    return [maker for name, maker in makers.items() if name in used]


def needs_a_server(block: Block) -> bool:
    """Whether a block starts a server, asks one, or is of the package that serves."""
    if block.page in OF_SERVING:
        return True
    starts = block.kind in ("shell", "console") and any(
        (our_arguments(line) or [""])[0] == "serve" and "--help" not in line for line, _ in commands(block)
    )
    imports = block.kind == "python" and "dynamic_tinybert.serve" in block.code
    return starts or imports or (block.kind in ("python", "shell", "console") and SERVER in block.code)


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


class Place:
    """Where a page's blocks run: a folder of their own, and one namespace for their Python."""

    def __init__(self, page: str, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self._done: set[int] = set()
        self._server: subprocess.Popen[bytes] | None = None
        self._address = SERVER
        documents = folder / "my-documents"
        shutil.copytree(ROOT / "examples", folder / "examples")
        shutil.copytree(ROOT / "recipes", folder / "recipes")
        documents.mkdir()
        for text in (ROOT / "examples").glob("*.txt"):
            shutil.copy(text, documents)
            shutil.copy(text, folder)
        (folder / "faq.html").write_text("<title>FAQ</title><p>The tower is open every day.</p>", "utf-8")
        manual = ["Manual of the pump", "Turn it off before you open it.\nThe warranty ends after five years.\n"]
        (folder / "manual.pdf").write_bytes(pdf(manual))
        (folder / "port-ellis.txt").write_text("The lighthouse of Port Ellis was built by Agnes Moreau.", "utf-8")
        asked = {"id": "q1", "question": "Where is the tower?", "text": "The tower stands in Paris."}
        for name in ("questions.jsonl", "QUESTIONS.jsonl"):
            (folder / name).write_text(json.dumps(asked) + "\n", "utf-8")
        from support.training import write_squad  # which imports PyTorch

        for name in ("train-v1.1.json", "dev-v1.1.json"):
            write_squad(folder / name, ["Ada", "Berta"])
            old = json.loads((folder / name).read_text("utf-8"))
            unanswerable = {"id": "n", "question": "What does it cost?", "answers": [], "is_impossible": True}
            old["data"][0]["paragraphs"][0]["qas"].append(unanswerable)
            new = folder / name.replace("v1.1", "v2.0")
            new.write_text(json.dumps({"version": "v2.0", "data": old["data"]}), "utf-8")
        with inside(folder):
            for command in BEFORE.get(page, ()):
                invoke(shlex.split(command))

    def run(self, block: Block) -> None:
        """Run a block, and those of its page before it that have not run: a page is read from its beginning.

        Raises:
            AssertionError: It fails, or prints something else than the page says.
        """
        if block.line in self._done:
            return
        for earlier in blocks(block.page):
            if earlier.line >= block.line or earlier.reason or needs_what_is_absent(earlier):
                continue
            if needs_a_server(block) or not needs_a_server(earlier):
                self.run(earlier)
        self._done.add(block.line)
        with inside(self.folder):
            if block.kind == "python":
                self._run_python(block)
            elif block.kind in ("shell", "console"):
                self._run_shell(block)

    def close(self) -> None:
        """Stop the server, if one runs."""
        if self._server is not None:
            self._server.send_signal(signal.SIGTERM)
            try:
                assert self._server.wait(30) == 0, (self.folder / "server.log").read_text("utf-8")
            finally:
                self._server.kill()
                self._server = None

    def _serve(self, line: str, arguments: list[str]) -> None:
        """Start a server as the page does, but on a free port, and wait until it answers."""
        self.close()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        given = dict(word.split("=", 1) for word in itertools.takewhile(_SETTING.fullmatch, shlex.split(line)))
        command = [sys.executable, "-m", "dynamic_tinybert", *arguments, "--port", port]
        with (self.folder / "server.log").open("wb") as log:
            self._server = subprocess.Popen(command, env={**os.environ, **given}, stdout=log, stderr=log)
        self._address = f"127.0.0.1:{port}"
        for _ in range(600):
            assert self._server.poll() is None, f"{line}: {(self.folder / 'server.log').read_text('utf-8')}"
            with contextlib.suppress(URLError, ConnectionError), urlopen(f"http://{self._address}/health", timeout=5):
                return
            time.sleep(0.1)
        raise AssertionError(f"{line}: it does not answer")

    def _run_shell(self, block: Block) -> None:
        printed = ""
        for line, output in commands(block):
            arguments = our_arguments(line)
            if (line.startswith("curl ") and SERVER in line) or line.startswith("python -c "):
                printed = self._by_shell(line)
            elif arguments is None or _only_checked(arguments):
                check_command(line)
                continue
            elif arguments[0] == "serve" and "--help" not in arguments:
                check_command(line)
                self._serve(line, arguments)
            else:
                printed = invoke(arguments)
            if output is not None:
                same(block, printed, output)
        if block.output is not None:
            same(block, printed, block.output)

    def _by_shell(self, line: str) -> str:
        line = re.sub("^python ", f"{shlex.quote(sys.executable)} ", line.replace(SERVER, self._address))
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, f"{line}: {done.stderr}"
        return done.stdout.replace(self._address, SERVER).replace("\r\n", "\n")

    def _run_python(self, block: Block) -> None:
        printed = io.StringIO()
        source = block.code.replace(SERVER, self._address)
        code = compile("\n" * (block.line - 1) + source, str(ROOT / block.page), "exec")
        with contextlib.redirect_stdout(printed):
            exec(code, self.names)
        if block.output is not None:
            same(block, printed.getvalue().replace(self._address, SERVER), block.output)


def check(block: Block) -> None:
    """Check what does not run as far as it goes.

    Raises:
        AssertionError: It cannot be right.
    """
    if block.kind == "python":
        tree = ast.parse(block.code, str(block))
        wanted = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
        exec(compile(ast.Module(wanted, []), str(block), "exec"), {})
    elif block.kind in ("shell", "console"):
        for line, _ in commands(block):
            check_command(line)
    elif block.kind == "json":
        json.loads(block.code)
    elif block.kind == "yaml":
        yaml.safe_load(block.code)


def commands(block: Block) -> list[tuple[str, str | None]]:
    """The commands of a block of shell, each with the output that the block shows of it, if it is of the console."""
    found: list[tuple[str, str | None]] = []
    if block.kind == "console":
        for part in re.split(r"^\$ ", block.code, flags=re.MULTILINE)[1:]:
            whole = re.match(r"(?:.*\\\n)*.*\n?", part)
            assert whole
            found.append((whole[0].replace("\\\n", " ").strip(), part[whole.end() :]))
        return found
    joined = block.code.replace("\\\n", " ").splitlines()
    return [(line.strip(), None) for line in joined if line.strip() and not line.lstrip().startswith("#")]


def _only_checked(arguments: list[str]) -> bool:
    if "--help" in arguments:
        return False
    model = dict(itertools.pairwise(arguments)).get("--model", EMBEDDED)
    of_the_hub = re.fullmatch(r"\w[\w.-]*/[\w.-]+", model) and not Path(model).exists()
    return arguments[0] in NEVER_RUN or bool(of_the_hub)


def invoke(arguments: list[str]) -> str:
    """Call `dynamic-tinybert` and return what it prints."""
    result = CliRunner().invoke(app, arguments, prog_name="dynamic-tinybert", terminal_width=88)
    assert result.exit_code == 0, f"dynamic-tinybert {shlex.join(arguments)}: {result.output} {result.exception!r}"
    return result.stdout


def same(block: Block, printed: str, shown: str) -> None:
    """Compare what came out with what the page shows, but for spaces at ends of lines; `...` stands for anything."""
    got, want = ("\n".join(line.rstrip() for line in text.strip("\n").splitlines()) + "\n" for text in (printed, shown))
    assert doctest.OutputChecker().check_output(want, got, doctest.ELLIPSIS), f"{block} prints\n{got}"


def our_arguments(line: str) -> list[str] | None:
    """The arguments of a line that calls `dynamic-tinybert`, by whatever way; None of another."""
    words = shlex.split(line, comments=True)
    while words and _SETTING.fullmatch(words[0]):
        words = words[1:]
    if words and words[0].removeprefix(".venv/bin/") == "dynamic-tinybert":
        return words[1:]
    if words[:1] in (["python"], ["accelerate"]) and words.count("dynamic_tinybert") == 1:
        place = words.index("dynamic_tinybert")
        if words[place - 1] == "-m":
            return words[place + 1 :]
    return None


def check_command(line: str) -> None:
    """Check a line of shell without running it: the command is there, and so are its options.

    Raises:
        AssertionError: It is not.
    """
    arguments = our_arguments(line)
    if arguments is not None:
        _parse(arguments, line)
        return
    words = shlex.split(line, comments=True)
    while words and _SETTING.fullmatch(words[0]):
        words = words[1:]
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    if words[:1] == ["make"]:
        makefile = (ROOT / "Makefile").read_text("utf-8")
        for target in words[1:]:
            assert "=" in target or re.search(rf"^{target}:", makefile, re.MULTILINE), f"{line}: no target {target}"
    elif words[:2] == ["pip", "install"] or words[1:4] == ["-m", "pip", "install"]:
        for word in words[2:]:
            extras = re.fullmatch(r"(?:\.|dynamic-tinybert)\[(.*)\]", word)
            for extra in extras[1].split(",") if extras else ():
                assert re.search(rf"^{extra.strip()} = \[", project, re.MULTILINE), f"{line}: no extra {extra}"
    elif words[:1] == ["python"] and len(words) > 1 and words[1].endswith(".py"):
        script = ROOT / words[1]
        assert script.is_file(), f"{line}: no {words[1]}"
        for option in (word for word in words[2:] if word.startswith("--")):
            assert f'"{option.split("=")[0]}"' in script.read_text("utf-8"), f"{line}: no {option}"
    elif words[:2] == ["python", "-c"]:
        ast.parse(words[2])
    elif words[0] == "curl":
        assert SERVER in line, f"{line}: of another server"
    elif words[1:3] == ["-m", "venv"] or words[:2] == [".", ".venv/bin/activate"]:
        pass  # the tests have an environment
    elif words[0] not in FOREIGN and words[1:3] not in (["-m", "twine"], ["-m", "milvus_lite"], ["-m", "http.server"]):
        raise AssertionError(f"nobody knows how to check {line!r}: teach tests/support/documents.py, or mark the block")


def _parse(arguments: list[str], line: str) -> None:
    command: Any = typer.main.get_command(app)
    names = list(arguments)
    context = command.make_context("dynamic-tinybert", ["--"], resilient_parsing=True)
    while hasattr(command, "commands"):
        assert names, line
        assert names[0] in command.commands, f"{line}: no command {names[0]}"
        command = command.commands[names.pop(0)]
    try:
        command.make_context(command.name, names, parent=context)
    except typer.Exit:  # --help
        pass
    except Exception as error:
        says = getattr(error, "format_message", None)
        raise AssertionError(f"{line}: {says() if says else error}") from None


def skip_if_absent(block: Block) -> None:
    """Skip the test of a block that needs what is not installed."""
    if absent := needs_what_is_absent(block):
        pytest.skip(f"{block} needs {absent}")
