"""The package as a whole: what it offers, and what it does not import."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

import dynamic_tinybert
from dynamic_tinybert.__pyinstaller import hook_dirs

ROOT = Path(__file__).parents[1]
HEAVY = ["torch", "transformers", "onnx", "huggingface_hub", "optuna", "fastapi", "pandas", "scipy", "sklearn"]
HEAVY += ["accelerate", "matplotlib", "yaml", "tantivy", "lxml", "inscriptis", "mammoth", "pypdfium2", "haystack"]
HEAVY += ["starlette", "uvicorn", "uvloop", "prometheus_client", "pythonjsonlogger", "ray"]
HEAVY += ["pymilvus", "grpc", "mcp", "mcp_types", "langchain_core", "langsmith", "llama_index"]


def imported(code: str) -> set[str]:
    """The top-level modules there are once the code has run."""
    code = f"{code}\nimport sys\nprint(' '.join({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_importing_the_package_imports_nothing_else() -> None:
    modules = imported("import dynamic_tinybert; dynamic_tinybert.__version__")
    assert "dynamic_tinybert" in modules
    assert not modules & {*HEAVY, "numpy", "onnxruntime", "tokenizers", "safetensors", "typer", "rich"}


def test_the_doors_of_others_import_nothing_before_one_is_opened() -> None:
    modules = imported(
        "import dynamic_tinybert.compat, dynamic_tinybert.compat as room; assert 'pipeline' in room.__all__"
    )
    assert not modules & {*HEAVY, "numpy", "onnxruntime", "tokenizers", "safetensors"}


def test_answering_imports_neither_torch_nor_transformers() -> None:
    modules = imported(
        "from dynamic_tinybert import QuestionAnswerer\n"
        "qa = QuestionAnswerer()\n"
        "assert qa('Where is the tower?', 'The tower stands in Paris.', top_k=2)[0].text == 'Paris'\n"
        "assert qa.table.select(qa.shape, 'full')"
    )
    assert {"numpy", "onnxruntime", "tokenizers"} <= modules
    assert not modules & {*HEAVY, "pydantic", "typer", "rich", "click"}


def test_asking_a_corpus_imports_no_reader_of_documents(tmp_path: Path) -> None:
    modules = imported(
        "from dynamic_tinybert import Corpus\n"
        f"corpus = Corpus({str(tmp_path / 'index')!r})\n"
        "corpus.put('a', 'The tower stands in Paris.')\n"
        "assert corpus('Where is the tower?').text == 'Paris'"
    )
    assert "tantivy" in modules
    assert not modules & ({*HEAVY, "pydantic", "typer", "rich", "click"} - {"tantivy"})


def test_answering_imports_no_room_for_training_or_search() -> None:
    code = (
        "import sys\n"
        "from dynamic_tinybert import QuestionAnswerer\n"
        "assert QuestionAnswerer()('Where is the tower?', 'The tower stands in Paris.').text == 'Paris'\n"
        "import dynamic_tinybert.cli.app\n"
        "assert not [name for name in sys.modules if name.startswith(('dynamic_tinybert.train', "
        "'dynamic_tinybert.search', 'dynamic_tinybert.corpus'))]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_command_line_imports_no_model_to_give_help() -> None:
    modules = imported(
        "from typer.testing import CliRunner\n"
        "from dynamic_tinybert.cli.app import app\n"
        "assert CliRunner().invoke(app, ['ask', '--help']).exit_code == 0"
    )
    assert not modules & {*HEAVY, "numpy", "onnxruntime", "tokenizers", "safetensors"}


@pytest.mark.slow
def test_the_command_line_answers_without_torch() -> None:
    modules = imported(
        "from typer.testing import CliRunner\n"
        "from dynamic_tinybert.cli.app import app\n"
        "result = CliRunner().invoke(app, ['ask', 'Where is it?', '--context', 'It is in Paris.', '--top-k', '2'])\n"
        "assert result.exit_code == 0 and 'Paris' in result.stdout"
    )
    assert not modules & {*HEAVY}


def test_every_name_that_is_offered_is_there() -> None:
    assert sorted(dynamic_tinybert.__all__) == dynamic_tinybert.__all__
    for name in dynamic_tinybert.__all__:
        assert getattr(dynamic_tinybert, name) is not None
    assert {"Answer", "QuestionAnswerer", "LengthConfig", "Spent"} <= {*dynamic_tinybert.__all__}
    assert dynamic_tinybert.QuestionAnswerer is import_module("dynamic_tinybert.qa").QuestionAnswerer
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        dynamic_tinybert.Nonsense  # noqa: B018
    with pytest.raises(ImportError):
        exec("from dynamic_tinybert import Nonsense")


def test_errors_are_what_a_caller_would_catch() -> None:
    for name in ("BudgetError", "ModelFolderError", "WindowError"):
        assert issubclass(getattr(dynamic_tinybert, name), ValueError)


def test_what_is_offered_is_listed() -> None:
    assert dir(dynamic_tinybert) == sorted(dynamic_tinybert.__all__)


def test_the_package_is_typed() -> None:
    assert (Path(dynamic_tinybert.__file__).parent / "py.typed").is_file()


def test_the_version_is_that_of_the_distribution() -> None:
    assert dynamic_tinybert.__version__ == version("dynamic-tinybert")
    assert re.match(r"\d+\.\d+", dynamic_tinybert.__version__)


def test_files_that_nobody_installed_have_a_version_too(tmp_path: Path) -> None:
    """A copy on a path: it imports and answers, and does not pretend to be a release."""
    (tmp_path / "dynamic_tinybert").symlink_to(Path(dynamic_tinybert.__file__).parent, target_is_directory=True)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import dynamic_tinybert as d; print(d.__version__)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0.0\n"


@pytest.mark.slow
def test_a_zipped_package_answers(tmp_path: Path) -> None:
    source = Path(dynamic_tinybert.__file__).parent
    with zipfile.ZipFile(tmp_path / "package.zip", "w") as archive:
        for file in sorted(source.rglob("*")):
            if file.is_file() and file.suffix != ".pyc":
                archive.write(file, file.relative_to(source.parent))
    code = "from dynamic_tinybert import QuestionAnswerer as Q; print(Q()('Where is it?', 'It is in Paris.').text)"
    places = {"PYTHONPATH": str(tmp_path / "package.zip"), "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **places}, capture_output=True, check=False)
    assert done.stdout.split() == [b"Paris"], done.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "package.zip"]  # what was unpacked is gone


def test_pyinstaller_finds_the_hook() -> None:
    (folder,) = hook_dirs()
    hook = (Path(folder) / "hook-dynamic_tinybert.py").read_text("utf-8")
    compile(hook, "hook", "exec")
    (line,) = re.findall(r'^hook-dirs = "(.*)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert line == f"{hook_dirs.__module__}:{hook_dirs.__name__}"
