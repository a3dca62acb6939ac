"""The components for other frameworks where the framework is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [("langchain", "langchain_core", "langchain"), ("llama_index", "llama_index", "llama-index")],
)
def test_a_missing_framework_gives_one_line_with_the_extra(module: str, package: str, extra: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; import dynamic_tinybert.{module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ModuleNotFoundError: dynamic_tinybert.{module} needs {package}, which is not installed: ")
    assert "pip install" in last
    assert f"[{extra}]" in last
    assert "During handling" not in done.stderr


def test_the_rest_works_without_them() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['langchain_core', 'llama_index', 'pydantic']))\n"
        "import dynamic_tinybert.compat as room\n"
        "assert {'AnswerCompressor', 'AnswerRerank'} <= {*room.__all__}\n"
        "from dynamic_tinybert import ask_passages\n"
        "assert ask_passages('Where is it?', ['It is in Paris.']).text == 'Paris'\n"
        "try: room.AnswerRerank\n"
        "except ImportError: pass\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
