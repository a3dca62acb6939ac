"""`info` and `export`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner, Result

from dynamic_tinybert import LengthConfig, QuestionAnswerer
from dynamic_tinybert.cli.app import app
from dynamic_tinybert.folder import open_folder
from dynamic_tinybert.inference import cut_windows
from dynamic_tinybert.model import BERT_BASE, macs, share
from support.commands import complaint

QUESTION = "Who built the lighthouse?"
TEXT = "The lighthouse of Port Ellis was built by Agnes Moreau in 1871. Its keeper was Barnaby Whitlock. "


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


# info


def described(*arguments: object) -> dict[str, Any]:
    result = run("info", "--json", *arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    assert len(result.stdout.splitlines()) == 1
    value = json.loads(result.stdout)
    assert isinstance(value, dict)
    return value


def test_info_describes_the_embedded_model(qa: QuestionAnswerer, embedded: Path) -> None:
    found = described()
    assert found["model"] == "embedded"
    assert Path(found["path"]) == embedded
    assert found["architecture"]["type"] == "BertForQuestionAnswering"
    for name in ("layers", "hidden", "heads", "feed_forward", "vocabulary", "positions"):
        assert found["architecture"][name] == getattr(qa.shape, name)
    assert found["parameters"] == sum(w.size for w in open_folder().weights.values())
    assert found["bytes"] == (embedded / "model.safetensors").stat().st_size < 26e6
    assert found["license"] == "apache-2.0"
    assert found["macs"] == macs(qa.shape, 384)
    assert found["speedup_over_bert_base"] == pytest.approx(macs(BERT_BASE, 384) / macs(qa.shape, 384), abs=0.01)
    assert found["confidence"] is (open_folder().calibration is not None)


def test_info_gives_the_table_of_configurations(qa: QuestionAnswerer) -> None:
    found = described()
    assert found["measured_on"] == qa.table.measured_on
    rows = found["configurations"]
    assert [row["name"] for row in rows] == [choice.name for choice in qa.table.choices]
    assert rows[0]["name"] == "full"
    for row in rows:
        assert row.keys() == {"name", "fractions", "share", "exact_match", "f1"}
        assert row["share"] == pytest.approx(share(qa.shape, LengthConfig(tuple(row["fractions"]))), abs=1e-4)
    assert [row["share"] for row in rows] == sorted((row["share"] for row in rows), reverse=True)


def test_info_says_the_same_to_people(qa: QuestionAnswerer) -> None:
    result = run("info")
    assert (result.exit_code, result.stderr) == (0, "")
    for word in ("embedded", f"{qa.shape.layers} layers", f"hidden {qa.shape.hidden}", "apache-2.0", "384 tokens"):
        assert word in result.stdout
    assert all(f"  {choice.name} " in result.stdout for choice in qa.table.choices)


@pytest.mark.parametrize(("voters", "whose"), [("all", "all tokens"), ("question", "the question's tokens")])
def test_info_says_whose_attention_counts(tiny_folder: Path, tmp_path: Path, voters: str, whose: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "dynamic_tinybert": {"voters": voters}}), "utf-8")
    assert described("--model", folder)["architecture"]["voters"] == voters
    lines = run("info", "--model", folder).stdout.splitlines()
    assert f"drops          the tokens with the least attention from {whose}" in lines


def test_info_says_that_a_head_weighs_the_votes(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    ours = {"dynamic_tinybert": {"voters": "all", "significance_head": True}}
    (folder / "config.json").write_text(json.dumps({**config, **ours}), "utf-8")
    heads = {
        f"bert.encoder.layer.{i}.significance_head": np.zeros(config["hidden_size"], np.float32)
        for i in range(config["num_hidden_layers"])
    }
    save_file({**load_file(folder / "model.safetensors"), **heads}, folder / "model.safetensors")
    assert described("--model", folder)["architecture"]["significance_head"] is True
    weighed = "the tokens with the least attention from all tokens, weighed by a linear head on each token"
    assert f"drops          {weighed}" in run("info", "--model", folder).stdout.splitlines()


def test_info_says_where_nothing_was_measured(tiny_folder: Path) -> None:
    found = described("--model", tiny_folder)
    assert (found["model"], found["measured_on"], found["license"]) == (str(tiny_folder), None, None)
    assert {row["f1"] for row in found["configurations"]} == {None}
    shown = run("info", "--model", tiny_folder).stdout
    assert "not measured" in shown
    assert "not stated" in shown
    assert "the figures below" not in shown


def test_info_tells_the_no_answer_threshold(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    assert described("--model", folder)["no_answer_threshold"] is None
    assert "is more than 0 (not tuned) above the best span's" in run("info", "--model", folder).stdout
    (folder / "length_configs.json").write_text('{"no_answer": {"threshold": -13.5}}')
    assert described("--model", folder)["no_answer_threshold"] == -13.5
    assert "is more than -13.5 above the best span's\n" in run("info", "--model", folder).stdout
    (folder / "length_configs.json").write_text('{"no_answer": {"threshold": "low"}}')
    assert "no_answer: a no-answer threshold" in complaint(run("info", "--model", folder), 1)


def test_an_exported_folder_keeps_the_threshold(tiny_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_folder, tmp_path / "model")
    (tmp_path / "model" / "length_configs.json").write_text('{"no_answer": {"threshold": -13.5}}')
    assert run("export", tmp_path / "model", tmp_path / "copy").exit_code == 0
    assert described("--model", tmp_path / "copy")["no_answer_threshold"] == -13.5


def test_info_refuses_what_is_no_model(tmp_path: Path) -> None:
    assert "no such folder" in complaint(run("info", "--model", tmp_path / "nowhere"))
    assert "config.json" in complaint(run("info", "--model", tmp_path))
    assert "give the model once" in complaint(run("info", "embedded", "--model", tmp_path), 2)


def test_info_takes_the_model_by_position(tiny_folder: Path) -> None:
    assert run("info", tiny_folder, "--json").stdout == run("info", "--model", tiny_folder, "--json").stdout


def test_a_model_whose_name_is_nearly_right_gets_a_hint() -> None:
    assert complaint(run("info", "embeded")).endswith("no such folder: 'embeded'; did you mean 'embedded'?")


def test_info_of_a_broken_table_is_a_failure_and_no_misuse(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(tiny_folder, folder)
    (folder / "length_configs.json").write_text("{}")
    assert "length_configs.json" in complaint(run("info", "--model", folder), 1)


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
@pytest.mark.parametrize("arguments", [["info"], ["info", "--json"], ["--help"], ["--version"]])
def test_a_reader_that_leaves_early_sees_no_traceback(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "dynamic_tinybert", *arguments], stdout=writer, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(writer)
    assert done.stderr == b""


# export


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "my-model"
    result = run("export", "embedded", folder)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{folder}\n"
    return folder


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "my model.onnx"
    result = run("export", "embedded", path)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{path}\n", "")
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    return path


def test_an_exported_folder_answers_as_its_model_does(exported: Path, qa: QuestionAnswerer) -> None:
    again = QuestionAnswerer(exported)
    a, b = again(QUESTION, TEXT, top_k=3), qa(QUESTION, TEXT, top_k=3)
    assert [(x.text, x.start) for x in a] == [(x.text, x.start) for x in b]
    assert [x.logit for x in a] == pytest.approx([x.logit for x in b], abs=1e-4)
    assert again.table == qa.table


def test_an_exported_folder_holds_what_belongs_to_the_model(exported: Path, embedded: Path) -> None:
    names = {file.name for file in exported.iterdir()}
    assert {file.name for file in embedded.iterdir() if file.is_file()} <= names
    assert (exported / "README.md").read_text("utf-8") == (embedded / "README.md").read_text("utf-8")


def test_the_lines_of_the_original_model_card_work_on_an_exported_folder(exported: Path, qa: QuestionAnswerer) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(exported))
    model, loading = transformers.AutoModelForQuestionAnswering.from_pretrained(str(exported), output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]

    context = "remember the number 123456, I'll ask you later."
    question = "What is the number I told you?"
    tokens = tokenizer(question, context, return_tensors="pt", truncation=True)
    with torch.no_grad():
        outputs = model(tokens["input_ids"], attention_mask=tokens["attention_mask"])
    answer_start = torch.argmax(outputs.start_logits)
    answer_end = torch.argmax(outputs.end_logits) + 1
    answer = tokenizer.convert_tokens_to_string(
        tokenizer.convert_ids_to_tokens(tokens["input_ids"][0][answer_start:answer_end])
    )
    assert "123456" in answer

    # The same numbers as ours, with token types and, as the card has it, without.
    for types in (tokens["token_type_ids"], torch.zeros_like(tokens["token_type_ids"])):
        with torch.no_grad():
            theirs = model(tokens["input_ids"], attention_mask=tokens["attention_mask"], token_type_ids=types)
        ids = tokens["input_ids"].numpy()
        lengths = LengthConfig.full(qa.shape.layers).lengths([ids.shape[1]])
        ours = qa.reader.runtime.run(ids, types.numpy(), np.ones_like(ids), lengths)
        np.testing.assert_allclose(ours.start, theirs.start_logits.numpy(), atol=1e-4)
        np.testing.assert_allclose(ours.end, theirs.end_logits.numpy(), atol=1e-4)

    # And our windows are theirs.
    encoded = tokenizer(
        QUESTION, TEXT * 40, truncation="only_second", max_length=384, stride=128, return_overflowing_tokens=True
    )
    cut = cut_windows(
        qa.reader.tokenizer,
        qa.reader.tokenizer.question(QUESTION),
        qa.reader.tokenizer.text(TEXT * 40),
        max_seq_len=384,
        doc_stride=128,
    )
    assert [window.ids.tolist() for window in cut] == encoded["input_ids"]


def test_an_exported_graph_runs_in_onnxruntime(onnx_file: Path, qa: QuestionAnswerer) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(onnx_file), options, providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["input_ids", "attention_mask", "token_type_ids", "lengths"]
    assert [o.name for o in session.get_outputs()] == ["start_logits", "end_logits", "layers_passed"]
    ids = qa.reader.tokenizer.question(TEXT * 3)[None]
    ids = np.concatenate([ids, ids])
    mask = np.ones_like(ids)
    mask[1, 20:] = 0
    types = np.zeros_like(ids)
    types[:, 5:] = 1
    for config in (LengthConfig.full(qa.shape.layers), LengthConfig.uniform(qa.shape.layers, 0.8)):
        lengths = config.lengths(mask.sum(1))
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types, "lengths": lengths}
        start, end, passed = session.run(None, feeds)
        ours = qa.reader.runtime.run(ids, types, mask, lengths)
        real = mask == 1
        np.testing.assert_allclose(start[real], ours.start[real], atol=1e-4)
        np.testing.assert_allclose(end[real], ours.end[real], atol=1e-4)
        np.testing.assert_array_equal(passed[real], ours.layers_passed[real])
        assert (passed[real].min() < qa.shape.layers) == (config.fractions[-1] < 1)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_export_replaces_neither_pipe_nor_link(tiny_folder: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    assert "already exists" in complaint(run("export", tiny_folder, tmp_path / "pipe.onnx"))
    assert "not a regular file" in complaint(run("export", tiny_folder, tmp_path / "pipe.onnx", "--force"))
    (tmp_path / "link.onnx").symlink_to(tmp_path / "real.onnx")
    assert run("export", tiny_folder, tmp_path / "link.onnx", "--force").exit_code == 0
    assert (tmp_path / "link.onnx").is_symlink()
    onnxruntime.InferenceSession(tmp_path / "real.onnx")


def test_export_writes_over_nothing_unless_forced(tiny_folder: Path, tmp_path: Path) -> None:
    for target in (tmp_path / "folder", tmp_path / "model.onnx"):
        assert run("export", tiny_folder, target).exit_code == 0
        file = target / "config.json" if target.is_dir() else target
        if target.suffix:
            file.write_text("{}")
        before = file.read_bytes()
        line = complaint(run("export", tiny_folder, target))
        assert str(target) in line
        assert file.read_bytes() == before
        assert run("export", tiny_folder, target, "--force").exit_code == 0
    onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["folder", "model.onnx"]


def test_export_says_how_to_write_over_a_folder(tiny_folder: Path, tmp_path: Path) -> None:
    assert run("export", tiny_folder, tmp_path / "folder").exit_code == 0
    assert "--force" in complaint(run("export", tiny_folder, tmp_path / "folder"))


def test_export_never_writes_over_what_is_no_model(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("Dear Ada")
    for force in ([], ["--force"]):
        complaint(run("export", tiny_folder, tmp_path / "letters", *force))
        complaint(run("export", tiny_folder, tmp_path / "letters" / "dear.txt", *force))
    assert (tmp_path / "letters" / "dear.txt").read_text() == "Dear Ada"
    assert len(list(tmp_path.rglob("*"))) == 2


def test_export_refuses_what_is_no_model_or_no_place(tiny_folder: Path, tmp_path: Path) -> None:
    assert "no such folder" in complaint(run("export", tmp_path / "nowhere", tmp_path / "new"))
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in complaint(run("export", tiny_folder, tmp_path / "file" / "model.onnx"))
    (tmp_path / "folder.onnx").mkdir()
    complaint(run("export", tiny_folder, tmp_path / "folder.onnx", "--force"))
    assert run("export", tiny_folder).exit_code == 2
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder.onnx"}


def test_export_makes_the_folders_above(tiny_folder: Path, tmp_path: Path) -> None:
    for target in (tmp_path / "new" / "model.ONNX", tmp_path / "other" / "model"):
        assert run("export", tiny_folder, target).exit_code == 0
        assert target.exists()


def test_export_over_a_model_never_loses_a_file_of_another_kind(tiny_folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "model"
    assert run("export", tiny_folder, target).exit_code == 0
    assert run("export", tiny_folder, target, "--force").exit_code == 0
    (target / "notes.txt").write_text("mine")
    assert "notes.txt" in complaint(run("export", tiny_folder, target, "--force"))
    assert (target / "notes.txt").read_text() == "mine"


def test_export_never_replaces_a_folder_of_other_settings(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"port": 80}')
    (tmp_path / "README.md").write_text("mine")
    complaint(run("export", tiny_folder, tmp_path, "--force"))
    assert (tmp_path / "README.md").read_text() == "mine"
