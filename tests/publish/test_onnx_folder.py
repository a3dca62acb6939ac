"""The folder for other runtimes: what it holds is what answering needs."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from tokenizers import Tokenizer
from typer.testing import CliRunner

from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.cli.app import app
from dynamic_tinybert.folder import ModelFolderError, open_folder
from dynamic_tinybert.publish import save_onnx_folder
from support.commands import complaint

FILES = ["README.md", "answering.json", "model.onnx", "tokenizer.json"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model, in fp32."""
    return save_onnx_folder(open_folder(), tmp_path_factory.mktemp("onnx") / "new" / "model", precision="fp32")


def test_save_onnx_folder_writes_what_belongs_to_the_model(written: Path, embedded: Path) -> None:
    assert sorted(file.name for file in written.iterdir()) == FILES
    for name in ("README.md", "tokenizer.json"):
        assert (written / name).read_bytes() == (embedded / name).read_bytes()
    assert (written / "model.onnx").stat().st_size < 1.05 * (embedded / "model.safetensors").stat().st_size


def test_save_onnx_folder_describes_what_answering_needs(written: Path, qa: QuestionAnswerer) -> None:
    found = json.loads((written / "answering.json").read_text("utf-8"))
    assert (found["format"], found["name"], found["precision"], found["license"]) == (
        1, "embedded", "fp32", "apache-2.0",
    )  # fmt: skip
    assert found["special_tokens"] == {"cls": 101, "between": [102], "sep": 102, "pad": 0}
    assert [(c["name"], c["share"], c["fractions"]) for c in found["configs"]] == [
        (c.name, c.share, list(c.config.fractions)) for c in qa.table.choices
    ]
    assert found["no_answer"]["threshold"] == qa.table.no_answer_threshold
    assert qa.calibration is not None
    assert found["calibration"]["margin"] == qa.calibration.margin


def test_save_onnx_folder_packs_weights_without_a_loss(written: Path, qa: QuestionAnswerer) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(written / "model.onnx"), options, providers=["CPUExecutionProvider"])
    (window,) = qa.reader.windows(
        "Who built it?", "It was built by Ada. " * 8, max_seq_len=384, doc_stride=128, max_question_len=64
    )
    for choice in (qa.table.choices[0], qa.table.choices[-1]):
        expected = qa.reader.predict([window], [choice.config])
        start, end = session.run(["start_logits", "end_logits"], {
            "input_ids": window.ids[None],
            "attention_mask": np.ones((1, len(window)), np.int64),
            "token_type_ids": window.type_ids[None],
            "lengths": choice.config.lengths([len(window)]),
        })  # fmt: skip
        np.testing.assert_allclose(start, expected.start, atol=1e-4)
        np.testing.assert_allclose(end, expected.end, atol=1e-4)


def test_save_onnx_folder_makes_a_tokenizer_file_of_a_vocabulary(tiny_folder: Path, tmp_path: Path) -> None:
    source = shutil.copytree(tiny_folder, tmp_path / "source")
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokens = sorted(tokenizer.get_vocab(), key=tokenizer.token_to_id)
    (source / "vocab.txt").write_text("\n".join(tokens) + "\n", "utf-8")
    (source / "tokenizer.json").unlink()
    target = save_onnx_folder(open_folder(source), tmp_path / "target")
    again = Tokenizer.from_file(str(target / "tokenizer.json"))
    text = "Zürich's tower, 東京 😀"
    assert again.encode(text, add_special_tokens=False).ids == tokenizer.encode(text, add_special_tokens=False).ids
    described = json.loads((target / "answering.json").read_text("utf-8"))
    assert (described["measured_on"], described["calibration"], described["precision"]) == (None, None, "fp32")
    assert described["configs"][0]["fractions"] == [1.0, 1.0]


def test_save_onnx_folder_writes_over_its_own_files_only_if_asked(tiny_folder: Path, tmp_path: Path) -> None:
    folder = open_folder(tiny_folder)
    target = save_onnx_folder(folder, tmp_path / "model")
    (target / "notes.txt").write_text("mine")
    with pytest.raises(ModelFolderError, match="is not empty"):
        save_onnx_folder(folder, target)
    with pytest.raises(ValueError, match="precision must be 'auto', 'fp32' or 'int8', not 'fp16'"):
        save_onnx_folder(folder, target, overwrite=True, precision="fp16")  # type: ignore[arg-type]
    save_onnx_folder(folder, target, overwrite=True, precision="int8")
    assert json.loads((target / "answering.json").read_text("utf-8"))["precision"] == "int8"
    assert (target / "notes.txt").read_text() == "mine"


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal that cannot be caught")
def test_save_onnx_folder_after_an_export_that_was_killed(tiny_folder: Path, tmp_path: Path) -> None:
    killed = (
        "import os, signal, sys; from pathlib import Path; Path.replace = lambda *_: os.kill(os.getpid(), 9);"
        "from dynamic_tinybert.folder import open_folder; from dynamic_tinybert.publish import save_onnx_folder;"
        "save_onnx_folder(open_folder(sys.argv[1]), sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", killed, tiny_folder, tmp_path / "web"], check=False)
    assert [file.name.rpartition(".")[0] for file in (tmp_path / "web").iterdir()] == [".model.onnx"]
    save_onnx_folder(open_folder(tiny_folder), tmp_path / "web")
    assert sorted(file.name for file in (tmp_path / "web").iterdir()) == FILES[1:]


def test_save_onnx_folder_never_writes_into_another_folder(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "README.md").write_text("mine")
    with pytest.raises(ModelFolderError, match="name a new folder"):
        save_onnx_folder(open_folder(tiny_folder), tmp_path / "letters", overwrite=True)
    with pytest.raises(ModelFolderError, match="is a file"):
        save_onnx_folder(open_folder(tiny_folder), tmp_path / "letters" / "README.md")
    assert [(file.name, file.read_text()) for file in (tmp_path / "letters").iterdir()] == [("README.md", "mine")]


def test_export_writes_each_format(tiny_folder: Path, tmp_path: Path) -> None:
    def run(*arguments: object) -> int:
        return CliRunner().invoke(app, ["export", str(tiny_folder), *map(str, arguments)]).exit_code

    assert run(tmp_path / "web", "--format", "onnx", "--precision", "int8") == 0
    assert sorted(file.name for file in (tmp_path / "web").iterdir()) == FILES[1:]
    assert run(tmp_path / "graph", "--format", "onnx-file") == 0
    onnxruntime.InferenceSession(str(tmp_path / "graph"), providers=["CPUExecutionProvider"])
    assert run(tmp_path / "folder", "--format", "transformers") == 0
    assert QuestionAnswerer(tmp_path / "folder").shape.layers == 2
    assert run(tmp_path / "other", "--format", "gguf") == 2
    wrong = CliRunner().invoke(app, ["export", str(tiny_folder), str(tmp_path / "other"), "--precision", "int8"])
    assert "--format onnx" in complaint(wrong, 2)
