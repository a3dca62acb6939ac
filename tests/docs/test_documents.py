"""Every code block of the README and of the documentation does what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

import dynamic_tinybert
from support import documents
from support.documents import (
    OF_FRAMEWORKS,
    PAGES,
    Block,
    Place,
    blocks,
    check,
    check_command,
    find_blocks,
    needs_a_server,
    skip_if_absent,
)

ALL = [block for page in PAGES for block in blocks(page)]

# How many blocks of a page have a marker: one more is a decision, and stands here.
NOT_RUN = {
    "docs/architectures.md": 1,
    "docs/browser.md": 4,
    "docs/corpus.md": 2,
    "docs/how-it-works.md": 5,
    "docs/publishing.md": 3,
    "docs/scaling.md": 3,
    "docs/serving.md": 2,
    "docs/squad2.md": 1,
    "docs/training.md": 2,
}


@pytest.fixture(scope="module")
def places() -> Iterator[dict[str, Place]]:
    opened: dict[str, Place] = {}
    yield opened
    for place in opened.values():
        place.close()


def parameters(found: list[Block]) -> list[ParameterSet]:
    """The blocks as parameters; those that need a server are of `make test-serve`, others of `make test-frameworks`."""
    marks = {
        str(b): [pytest.mark.serve] * needs_a_server(b) + [pytest.mark.frameworks] * (b.page in OF_FRAMEWORKS)
        for b in found
    }
    return [pytest.param(b, id=str(b), marks=marks[str(b)]) for b in found]


@pytest.mark.slow
@pytest.mark.parametrize("block", parameters([b for b in ALL if not b.reason]))
def test_a_block_runs(block: Block, places: dict[str, Place], tmp_path_factory: pytest.TempPathFactory) -> None:
    assert block.kind != "text", f"{block}: say what it is (python, bash, console), or mark it as not run"
    skip_if_absent(block)
    if block.page not in places:
        places[block.page] = Place(block.page, tmp_path_factory.mktemp("page"))
    places[block.page].run(block)
    check(block) if block.kind not in ("python", "shell", "console") else None


@pytest.mark.parametrize("block", parameters([b for b in ALL if b.reason]))
def test_a_block_that_does_not_run_could(block: Block) -> None:
    skip_if_absent(block)
    check(block)


def test_what_does_not_run_is_counted() -> None:
    assert Counter(block.page for block in ALL if block.reason) == {
        page: count for page, count in NOT_RUN.items() if page in PAGES
    }


def test_no_page_of_the_api_hides_code() -> None:
    for page in (documents.ROOT / "docs").rglob("*.rst"):
        assert not re.search(r"^(?!\.\. ).*::\s*$|code-block|^>>>", page.read_text("utf-8"), re.MULTILINE), page


def _modules(of: str) -> list[str]:
    """The modules that may have examples: those of serving or of frameworks, or all others but training's and so on."""
    found = [m.name for m in pkgutil.walk_packages(dynamic_tinybert.__path__, "dynamic_tinybert.")]
    if of == "serve":
        return [name for name in found if name.startswith("dynamic_tinybert.serve.") and not name.endswith(".on_ray")]
    frameworks = (".langchain", ".llama_index")
    if of == "frameworks":
        return [name for name in found if name.endswith(frameworks)]
    left_out = (".train", "__main__", "__pyinstaller", "_tinybert.serve.", "_tinybert.mcp.", ".on_ray", ".index.milvus")
    left_out += frameworks
    return ["dynamic_tinybert", *(name for name in found if not any(part in name for part in left_out))]


@pytest.mark.slow
@pytest.mark.parametrize(
    "of",
    [
        "package",
        pytest.param("serve", marks=pytest.mark.serve),
        pytest.param("frameworks", marks=pytest.mark.frameworks),
    ],
)
def test_examples_of_docstrings_run(of: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if of == "frameworks":
        for name in ("langchain_core", "llama_index"):
            pytest.importorskip(name)
    Place("", tmp_path)
    monkeypatch.chdir(tmp_path)
    ran = 0
    for name in _modules(of):
        for found in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name)):
            result = doctest.DocTestRunner().run(found)
            assert not result.failed, found.name
            ran += bool(result.attempted)
    assert ran >= {"package": 4, "serve": 0, "frameworks": 4}[of]


@pytest.mark.parametrize(
    "line",
    [
        "dynamic-tinybert aks Where",
        "dynamic-tinybert ask Where --bugdet 0.5",
        "dynamic-tinybert index add documents",
        "pip install 'dynamic-tinybert[corpsu]'",
        "make tset",
        "python scripts/average_models.py RUN --wieghts 3",
        "curl https://example.org",
    ],
)
def test_a_misspelt_command_is_found(line: str) -> None:
    with pytest.raises(AssertionError):
        check_command(line)


@pytest.mark.parametrize(
    "source",
    [
        "```python\nprint(1)\n```\n\n```text\n2\n```\n",
        "```console\n$ dynamic-tinybert ask 'Where?' --context 'In Paris.' --json\n{}\n```\n",
        "```python\nqa(\n```\n",
        "```bash\ndynamic-tinybert info --model nowhere\n```\n",
    ],
)
def test_a_wrong_block_is_found(source: str, tmp_path: Path) -> None:
    (block,) = find_blocks("README.md", source)
    place = Place("", tmp_path)
    with pytest.raises((AssertionError, SyntaxError)):
        place.run(block)


def test_blocks_are_found_wherever_they_stand() -> None:
    source = "---\nx: y\n---\n\n    make test\n\n- a list\n\n  ```python\n  x = 1\n  ```\n\n"
    source += "<!-- not run: a\nformula -->\n\n    x²\n"
    assert [(b.line, b.kind, b.code, b.reason) for b in find_blocks("p", source)] == [
        (5, "shell", "make test\n", None),
        (10, "python", "x = 1\n", None),
        (16, "text", "x²\n", "a formula"),
    ]


def test_a_block_needs_what_the_maker_of_its_names_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "ROOT", tmp_path)
    monkeypatch.setitem(documents.NEEDS, "colorsys", "not_installed")
    codes = [
        "import colorsys as c\nx = 1",
        "y = 2",
        "def f():\n    return x",
        "print(f(), y)",
        "print(y)",
        "x = 3\n",
        "print(x)",
    ]
    (tmp_path / "p.md").write_text("\n".join(f"```python\n{code}\n```\n" for code in codes))
    needs = [documents.needs_what_is_absent(block) for block in blocks("p.md")]
    absent = "not_installed"
    assert needs == [absent, None, absent, absent, None, None, None]
