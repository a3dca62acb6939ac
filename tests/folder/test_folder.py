from __future__ import annotations

import contextlib
import errno
import http.server
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import huggingface_hub.constants
import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from dynamic_tinybert import folder as room
from dynamic_tinybert.folder import ModelFolder, ModelFolderError, hub, open_folder, save_folder, saving, tensor_table
from dynamic_tinybert.model import ModelShape
from support.fake_hub import ask_at

SHAPE = ModelShape(layers=2, hidden=8, heads=2, feed_forward=12, vocabulary=40, positions=16)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "who", "wrote", "it", "ada", "did", "##s", "?", "."]
CONFIG: dict[str, Any] = {
    "architectures": ["BertForQuestionAnswering"],
    "model_type": "bert",
    "hidden_act": "gelu",
    "hidden_size": 8,
    "intermediate_size": 12,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 16,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "type_vocab_size": 2,
    "vocab_size": 40,
}


def random_tensors(shape: ModelShape = SHAPE, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {theirs: random.normal(size=sizes).astype(np.float32) for _, theirs, sizes in tensor_table(shape)}


def write_config(path: Path, **changes: Any) -> None:
    (path / "config.json").write_text(json.dumps(CONFIG | changes))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A sound model folder, made without transformers."""
    path = tmp_path / "model"
    path.mkdir()
    write_config(path)
    save_file(random_tensors(), path / "model.safetensors")
    (path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return path


def refusal(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    """Call what must be refused, and give the line that says why."""
    with pytest.raises(ModelFolderError) as caught:
        function(*args, **kwargs)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) > 20
    return line


def edit_tensors(path: Path, edit: Callable[[dict[str, np.ndarray]], object]) -> None:
    tensors = load_file(path / "model.safetensors")
    edit(tensors)
    save_file(tensors, path / "model.safetensors")


# ---------------------------------------------------------------- sound folders


def test_reads_shape_names_and_values(checkpoint: Path) -> None:
    folder = open_folder(checkpoint)
    assert folder.shape == SHAPE
    assert folder.name == str(checkpoint)
    assert folder.config["model_type"] == "bert"
    assert folder.source_bytes == (checkpoint / "model.safetensors").stat().st_size
    assert (folder.length_configs, folder.calibration, folder.license) == (None, None, None)
    tensors = random_tensors()
    assert folder.parameters == sum(x.size for x in tensors.values())
    assert set(folder.weights) == {ours for ours, _, _ in tensor_table(SHAPE)}
    for ours, theirs, _ in tensor_table(SHAPE):
        np.testing.assert_array_equal(folder.weights[ours], tensors[theirs])
        assert folder.weights[ours].dtype == np.float32


def test_names() -> None:
    names = {ours: theirs for ours, theirs, _ in tensor_table(SHAPE)}
    assert names["layers.1.attention_norm.bias"] == "bert.encoder.layer.1.attention.output.LayerNorm.bias"
    assert names["layers.0.intermediate.weight"] == "bert.encoder.layer.0.intermediate.dense.weight"
    assert names["embeddings.token_type"] == "bert.embeddings.token_type_embeddings.weight"
    assert len(names) == len(set(names.values())) == 3 + 2 + 2 * 16 + 2


def test_reads_old_names_and_ignores_what_is_not_needed(checkpoint: Path) -> None:
    def old(name: str) -> str:
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        return name.removeprefix("bert.")

    tensors = {old(name): value for name, value in random_tensors().items()}
    tensors["embeddings.position_ids"] = np.arange(16)[None]
    tensors["pooler.dense.weight"] = np.full((8, 8), np.nan, np.float32)
    tensors["cls.predictions.bias"] = np.zeros(40, np.float64)
    save_file(tensors, checkpoint / "model.safetensors")
    weights = open_folder(checkpoint).weights
    np.testing.assert_array_equal(weights["embeddings.norm.weight"], tensors["embeddings.LayerNorm.gamma"])


def test_reads_lengths_calibration_and_card(checkpoint: Path) -> None:
    (checkpoint / "length_configs.json").write_text('{"configurations": [], "calibration": {"slope": 2}}')
    (checkpoint / "README.md").write_text("---\nlanguage: en\nlicense: 'cc-by-4.0'  # ours\n---\nlicense: no\n")
    folder = open_folder(checkpoint)
    assert folder.length_configs == {"configurations": [], "calibration": {"slope": 2}}
    assert folder.calibration == {"slope": 2}
    assert folder.license == "cc-by-4.0"


@pytest.mark.parametrize(
    "card", ["---" + "\n" * 200_000, "---\n" * 50_000, "--- " * 50_000], ids=["breaks", "lines", "one"]
)
def test_a_card_without_end_takes_no_time(checkpoint: Path, card: str) -> None:
    (checkpoint / "README.md").write_text(card)
    assert open_folder(checkpoint).license is None


@pytest.mark.parametrize("card", ["", "license: mit", "---\ntags: x\n---\nlicense: mit", "---\nlicense:\n- mit\n---\n"])
def test_card_without_a_licence(checkpoint: Path, card: str) -> None:
    (checkpoint / "README.md").write_text(card)
    assert open_folder(checkpoint).license is None


@pytest.mark.parametrize("ours", ["question", {"voters": "nobody"}, {"voters": None}, ["voters"], 3, None])
def test_a_rule_of_significance_that_nobody_knows_is_refused(checkpoint: Path, ours: object) -> None:
    file = checkpoint / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "dynamic_tinybert": ours}))
    line = refusal(open_folder, checkpoint)
    assert "dynamic_tinybert is" in line
    assert "'all' or 'question'" in line


@pytest.mark.parametrize("head", ["yes", 1, None, [True]])
def test_a_significance_head_is_there_or_not(checkpoint: Path, head: object) -> None:
    file = checkpoint / "config.json"
    ours = {"voters": "question", "significance_head": head}
    file.write_text(json.dumps({**json.loads(file.read_text()), "dynamic_tinybert": ours}))
    assert "significance_head of dynamic_tinybert is" in refusal(open_folder, checkpoint)


def test_a_folder_without_the_significance_heads_that_it_promises(checkpoint: Path) -> None:
    file = checkpoint / "config.json"
    ours = {"significance_head": True}
    file.write_text(json.dumps({**json.loads(file.read_text()), "dynamic_tinybert": ours}))
    line = refusal(open_folder, checkpoint)
    assert "lacks its 2 significance heads, which transformers does not keep" in line


@pytest.mark.parametrize(
    ("name", "ours"), [("gelu_new", "gelu_tanh"), ("gelu_pytorch_tanh", "gelu_tanh"), ("relu", "relu")]
)
def test_activations(checkpoint: Path, name: str, ours: str) -> None:
    write_config(checkpoint, hidden_act=name)
    assert open_folder(checkpoint).shape.activation == ours


def test_files_may_begin_with_a_byte_order_mark(checkpoint: Path) -> None:
    for name in ("config.json", "length_configs.json"):
        file = checkpoint / name
        text = file.read_text("utf-8") if file.is_file() else '{"no_answer": {"threshold": 1}}'
        file.write_text(text, "utf-8-sig")
    folder = open_folder(checkpoint)
    assert folder.shape == SHAPE
    assert folder.length_configs == folder.read_length_configs() is not None


def test_a_precision_that_nobody_knows_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dtype must be 'float32' or 'int8', not 'fp16'"):
        save_folder(open_folder(checkpoint), tmp_path / "new", dtype="fp16")  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()


def test_settings_that_may_be_left_out(checkpoint: Path) -> None:
    config = {k: v for k, v in CONFIG.items() if k not in ("hidden_act", "layer_norm_eps", "type_vocab_size")}
    (checkpoint / "config.json").write_text(json.dumps(config))
    assert open_folder(checkpoint).shape == SHAPE


def test_embedded() -> None:
    folder = open_folder()
    assert folder.name == open_folder("embedded").name == room.EMBEDDED
    assert folder.license == "apache-2.0"
    assert folder.shape.hidden == 384
    assert folder.parameters == sum(x.size for x in folder.weights.values())
    assert sum(file.stat().st_size for file in folder.path.iterdir()) < 26e6


def test_a_folder_called_embedded_is_read_by_its_path(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkpoint.parent)
    checkpoint.rename("embedded")
    assert open_folder(Path("embedded")).shape == open_folder("./embedded").shape == SHAPE
    assert open_folder("embedded").shape != SHAPE


# ---------------------------------------------------------------- transformers


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small model of transformers, and a tokenizer saved beside it in `reference.path`."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    config = transformers.BertConfig(**{k: v for k, v in CONFIG.items() if k not in ("architectures", "model_type")})
    model = transformers.BertForQuestionAnswering(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.5)
    path = tmp_path_factory.mktemp("reference")
    vocabulary = path / "vocab.txt"
    vocabulary.write_text("\n".join(WORDS) + "\n")
    transformers.BertTokenizer.from_pretrained(path).save_pretrained(path)
    vocabulary.unlink()
    model.path = path
    return model


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("shard_size", ["1GB", "2KB"])
def test_reads_what_transformers_writes(reference: Any, tmp_path: Path, dtype: str, shard_size: str) -> None:
    torch = pytest.importorskip("torch")
    shutil.copytree(reference.path, tmp_path, dirs_exist_ok=True)
    cast = type(reference)(reference.config).to(getattr(torch, dtype))
    cast.load_state_dict(reference.state_dict())
    cast.save_pretrained(tmp_path, max_shard_size=shard_size)
    files = sorted(tmp_path.glob("*.safetensors"))
    assert (len(files) > 1) == (shard_size == "2KB")

    folder = open_folder(tmp_path)
    assert folder.source_bytes == sum(file.stat().st_size for file in files)
    expected = cast.state_dict()
    for ours, theirs, _ in tensor_table(folder.shape):
        np.testing.assert_array_equal(folder.weights[ours], expected[theirs].float().numpy())


@pytest.mark.parametrize(
    "tokenizer_files", [("tokenizer.json", "tokenizer_config.json"), ("tokenizer.json",), ("vocab.txt",)]
)
def test_transformers_reads_what_we_write(reference: Any, tmp_path: Path, tokenizer_files: tuple[str, ...]) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    source = tmp_path / "source"
    reference.save_pretrained(source)
    for name in tokenizer_files:
        if name == "vocab.txt":
            (source / name).write_text("\n".join(WORDS) + "\n")
        else:
            shutil.copyfile(reference.path / name, source / name)

    written = save_folder(open_folder(source), tmp_path / "deep" / "written")
    assert sorted(x.name for x in written.iterdir()) == sorted(["config.json", "model.safetensors", *tokenizer_files])
    model, info = transformers.AutoModelForQuestionAnswering.from_pretrained(written, output_loading_info=True)
    assert not any(info.values())
    assert model.dtype == torch.float32
    tokenizer = transformers.AutoTokenizer.from_pretrained(written)
    inputs = tokenizer("Who wrote it?", "Ada did.", return_tensors="pt")
    assert inputs["input_ids"].tolist() == [[2, 5, 6, 7, 11, 3, 8, 9, 12, 3]]
    with torch.no_grad():
        for key in ("start_logits", "end_logits"):
            assert torch.equal(model.eval()(**inputs)[key], reference(**inputs)[key])


def test_the_embedded_model_exported(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = open_folder()
    written = save_folder(folder, tmp_path / "exported")
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(written)
    tokenizer = transformers.AutoTokenizer.from_pretrained(written)
    question = tokenizer("Who wrote it?", "Ada Lovelace did.", return_tensors="pt")
    assert question["input_ids"][0, 0] == 101
    np.testing.assert_array_equal(model.qa_outputs.weight.detach().numpy(), folder.weights["span.weight"])
    config = json.loads((written / "config.json").read_text())
    assert config["dtype"] == "float32"
    assert config["dynamic_tinybert"] == {"voters": "question"}


def test_the_line_that_converts_a_pickle(reference: Any, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    shutil.copytree(reference.path, tmp_path, dirs_exist_ok=True)
    reference.config.save_pretrained(tmp_path)
    torch.save(reference.state_dict(), tmp_path / "pytorch_model.bin")
    torch.save({}, tmp_path / "optimizer.pt")
    line = refusal(open_folder, tmp_path)
    assert "pytorch_model.bin, a pickle" in line
    assert "trust" in line
    code = re.search(r'python -c "(.*)"$', line)
    assert code is not None
    exec(code[1], {})
    np.testing.assert_array_equal(open_folder(tmp_path).weights["span.bias"], reference.qa_outputs.bias.detach())


# ---------------------------------------------------------------- INT8


def test_int8_is_off_by_half_a_step_at_most(checkpoint: Path, tmp_path: Path) -> None:
    def widen(tensors: dict[str, np.ndarray]) -> None:
        word = tensors["bert.embeddings.word_embeddings.weight"]
        word[0], word[1], word[2], word[3] = 0, 1e-44, 3e38, np.float32(1e-30)

    edit_tensors(checkpoint, widen)
    exact = open_folder(checkpoint)
    rounded = open_folder(save_folder(exact, tmp_path / "int8", dtype="int8"))
    assert rounded.config["dynamic_tinybert"] == {"weights": "int8"}
    assert rounded.source_bytes < exact.source_bytes
    for name, value in exact.weights.items():
        if value.ndim < 2 or name == "span.weight":
            np.testing.assert_array_equal(rounded.weights[name], value)
        else:
            step = np.abs(value).max(axis=1, keepdims=True).astype(np.float64) / 127
            assert (np.abs(rounded.weights[name] - value.astype(np.float64)) <= step * 0.5001 + 1e-38).all()
    stored = load_file(rounded.path / "model.safetensors")
    assert stored["bert.encoder.layer.1.output.dense.weight"].dtype == np.int8
    assert stored["bert.encoder.layer.1.output.dense.weight.scale"].shape == (8,)

    again = open_folder(save_folder(rounded, tmp_path / "again", dtype="int8"))
    widened = open_folder(save_folder(rounded, tmp_path / "widened"))
    assert "dynamic_tinybert" not in widened.config
    for name, value in rounded.weights.items():
        np.testing.assert_allclose(again.weights[name], value, rtol=1e-6)
        np.testing.assert_array_equal(widened.weights[name], value)


@pytest.mark.parametrize(
    "scale", [None, np.ones(7, np.float32), np.ones(8, np.float16), np.full(8, np.nan, np.float32)]
)
def test_int8_needs_sound_scales(checkpoint: Path, scale: np.ndarray | None) -> None:
    name = "bert.encoder.layer.0.attention.self.key.weight"

    def edit(tensors: dict[str, np.ndarray]) -> None:
        tensors[name] = np.ones((8, 8), np.int8)
        if scale is not None:
            tensors[f"{name}.scale"] = scale

    edit_tensors(checkpoint, edit)
    assert name in refusal(lambda: open_folder(checkpoint).weights)


# ---------------------------------------------------------------- what is refused: config.json


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "xlnet"}, "'xlnet', but only bert | distilbert | roberta"),
        ({"model_type": ["bert"]}, "model_type is ['bert']"),
        ({"model_type": "distilbert"}, "n_layers is missing"),
        ({"model_type": "roberta", "max_position_embeddings": 2}, "max_position_embeddings is 2"),
        ({"model_type": "roberta", "pad_token_id": -1}, "pad_token_id is -1"),
        ({"model_type": "albert", "inner_group_num": 2}, "inner_group_num is 2"),
        ({"model_type": "albert", "num_hidden_groups": 3}, "num_hidden_groups is 3"),
        ({"model_type": "mpnet", "relative_attention_num_buckets": 16}, "an integer from 32"),
        ({"model_type": "electra", "embedding_size": "narrow"}, "embedding_size is 'narrow'"),
        ({"model_type": None}, "None"),
        ({"is_decoder": True}, "is_decoder"),
        ({"add_cross_attention": True}, "add_cross_attention"),
        ({"position_embedding_type": "relative_key"}, "'relative_key', but only 'absolute'"),
        ({"hidden_act": "silu"}, "gelu | gelu_python | gelu_fast | gelu_new | gelu_pytorch_tanh | relu"),
        ({"hidden_act": ["gelu"]}, "hidden_act"),
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"hidden_size": "8"}, "hidden_size is '8'"),
        ({"hidden_size": True}, "hidden_size is True"),
        ({"num_hidden_layers": -1}, "num_hidden_layers"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ({"intermediate_size": 1.5}, "intermediate_size"),
        ({"vocab_size": None}, "vocab_size is None"),
        ({"num_attention_heads": 3}, "multiple of num_attention_heads (3)"),
        ({"layer_norm_eps": 0}, "layer_norm_eps"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps"),
    ],
)
def test_settings_that_are_refused(checkpoint: Path, changes: dict[str, Any], said: str) -> None:
    write_config(checkpoint, **changes)
    line = refusal(open_folder, checkpoint)
    assert said in line
    assert "config.json" in line


def test_settings_that_must_be_there(checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text('{"model_type": "bert"}')
    assert "num_hidden_layers is missing" in refusal(open_folder, checkpoint)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b"\xff\xfe{}", b"[" * 100_000])
@pytest.mark.parametrize("name", ["config.json", "length_configs.json"])
def test_broken_json(checkpoint: Path, name: str, content: bytes) -> None:
    (checkpoint / name).write_bytes(content)
    assert name in refusal(open_folder, checkpoint)


# ---------------------------------------------------------------- what is refused: weights


def test_truncated_anywhere(checkpoint: Path) -> None:
    file = checkpoint / "model.safetensors"
    whole = file.read_bytes()
    random = np.random.default_rng(0)
    for size in [0, 1, 7, 8, 9, len(whole) - 1, *random.integers(10, len(whole), 40)]:
        file.write_bytes(whole[:size])
        line = refusal(open_folder, checkpoint)
        assert str(file) in line
        assert "download it again" in line


def test_damaged_anywhere(checkpoint: Path) -> None:
    """A folder with a changed byte is read or refused with one line; it never fails in another way."""
    file = checkpoint / "model.safetensors"
    whole = file.read_bytes()
    random = np.random.default_rng(1)
    for at in random.integers(0, 6000, 150):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << random.integers(8)
        file.write_bytes(damaged)
        with contextlib.suppress(ModelFolderError):
            open_folder(checkpoint).weights  # noqa: B018


def test_truncated_after_it_was_opened(checkpoint: Path) -> None:
    folder = open_folder(checkpoint)
    (checkpoint / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes()[:-4000])
    assert "changed while it was read" in refusal(lambda: folder.weights)


def test_missing_tensors(checkpoint: Path) -> None:
    edit_tensors(checkpoint, lambda t: t.pop("bert.encoder.layer.1.output.dense.bias"))
    line = refusal(open_folder, checkpoint)
    assert "lacks 1 of the model's 39 tensors: bert.encoder.layer.1.output.dense.bias;" in line
    write_config(checkpoint, num_hidden_layers=4)
    line = refusal(open_folder, checkpoint)
    assert "lacks 33 of" in line
    assert line.count("encoder.layer.") == 3


def test_no_question_answering_head(checkpoint: Path) -> None:
    edit_tensors(checkpoint, lambda t: (t.pop("qa_outputs.weight"), t.pop("qa_outputs.bias")))
    line = refusal(open_folder, checkpoint)
    assert "no question-answering head (qa_outputs)" in line
    assert "ForQuestionAnswering" in line


@pytest.mark.parametrize("name", ["qa_outputs.weight", "bert.embeddings.LayerNorm.bias"])
def test_wrong_shape(checkpoint: Path, name: str) -> None:
    edit_tensors(checkpoint, lambda t: t.update({name: np.zeros((3, 8), np.float32)}))
    line = refusal(open_folder, checkpoint)
    assert f"{name} has shape [3, 8]" in line
    assert re.search(r"requires \[(2, )?8\]", line)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_not_a_number(checkpoint: Path, value: float, dtype: type) -> None:
    name = "bert.encoder.layer.0.output.dense.weight"

    def edit(tensors: dict[str, np.ndarray]) -> None:
        tensors[name] = tensors[name].astype(dtype)
        tensors[name][3, 5] = value

    edit_tensors(checkpoint, edit)
    assert f"{name} holds NaN or infinity" in refusal(lambda: open_folder(checkpoint).weights)


def test_int8_that_overflows(checkpoint: Path, tmp_path: Path) -> None:
    path = save_folder(open_folder(checkpoint), tmp_path / "int8", dtype="int8")
    edit_tensors(path, lambda t: t["bert.encoder.layer.0.output.dense.weight.scale"].fill(3e38))
    assert "infinity" in refusal(lambda: open_folder(path).weights)


def test_other_dtypes(checkpoint: Path) -> None:
    edit_tensors(checkpoint, lambda t: t.update({"qa_outputs.bias": np.zeros(2, np.float64)}))
    assert "qa_outputs.bias has dtype F64" in refusal(open_folder, checkpoint)


def test_pickle_under_the_name_of_safetensors(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").write_bytes(pickle.dumps({"weights": [1.0] * 1000}))
    assert "not a safetensors file" in refusal(open_folder, checkpoint)


def test_git_lfs_pointer(checkpoint: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    (checkpoint / "model.safetensors").write_text(pointer)
    assert "git lfs pull" in refusal(open_folder, checkpoint)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model.bin.index.json"])
def test_pickle_that_transformers_converts(checkpoint: Path, name: str) -> None:
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "training_args.bin").touch()
    (checkpoint / name).touch()
    line = refusal(open_folder, checkpoint)
    assert f"only {name}, a pickle" in line
    assert f'.from_pretrained({str(checkpoint)!r}).save_pretrained({str(checkpoint)!r})"' in line


@pytest.mark.parametrize("name", ["weights.pt", "model.pth", "last.ckpt"])
def test_other_pickles(checkpoint: Path, name: str) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / name)
    line = refusal(open_folder, checkpoint)
    assert f"only {name}, a pickle" in line
    assert "save_pretrained" in line


def test_weights_may_be_read_one_by_one(checkpoint: Path) -> None:
    folder = open_folder(checkpoint)
    assert set(folder.stored_weights) == set(folder.weights)
    assert len(folder.stored_weights) == len(folder.weights)
    for name, value in folder.stored_weights.items():
        np.testing.assert_array_equal(value, folder.weights[name])
    assert folder.stored_weights["span.weight"] is not folder.stored_weights["span.weight"]


def test_no_weights(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    assert f"{checkpoint} has no model.safetensors" in refusal(open_folder, checkpoint)


# ---------------------------------------------------------------- what is refused: shards


def shard(path: Path, weight_map: Any = None) -> None:
    """Split the weights of a folder into two shards."""
    tensors = random_tensors()
    (path / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[:20], "model-00002-of-00002.safetensors": names[20:]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, path / file)
    if weight_map is None:
        weight_map = {name: file for file, part in parts.items() for name in part}
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_shards(checkpoint: Path) -> None:
    expected = open_folder(checkpoint).weights
    shard(checkpoint)
    for name, value in open_folder(checkpoint).weights.items():
        np.testing.assert_array_equal(value, expected[name])


def test_missing_shard(checkpoint: Path) -> None:
    shard(checkpoint)
    (checkpoint / "model-00002-of-00002.safetensors").unlink()
    assert "names model-00002-of-00002.safetensors, which is missing" in refusal(open_folder, checkpoint)


@pytest.mark.parametrize(
    "name",
    ["../x.safetensors", "/etc/x.safetensors", "sub/x.safetensors", "..", "", "x.bin", 3, None, "a\0.safetensors"],
)
def test_shard_that_is_no_file_of_the_folder(checkpoint: Path, name: Any) -> None:
    shutil.copy(checkpoint / "model.safetensors", checkpoint.parent / "x.safetensors")
    shard(checkpoint, {"qa_outputs.bias": name})
    assert "model.safetensors.index.json names" in refusal(open_folder, checkpoint)


@pytest.mark.parametrize("index", ["", "{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {}}'])
def test_broken_index(checkpoint: Path, index: str) -> None:
    shard(checkpoint)
    (checkpoint / "model.safetensors.index.json").write_text(index)
    assert "model.safetensors.index.json" in refusal(open_folder, checkpoint)


# ---------------------------------------------------------------- what is refused: tokenizers and folders


def test_no_tokenizer(checkpoint: Path) -> None:
    (checkpoint / "vocab.txt").unlink()
    assert "neither tokenizer.json nor vocab.txt" in refusal(open_folder, checkpoint)


def test_vocabulary_larger_than_the_embeddings(checkpoint: Path) -> None:
    (checkpoint / "vocab.txt").write_text("".join(f"word{i}\n" for i in range(41)))
    assert "vocab.txt has 41 tokens, but the model has embeddings for 40" in refusal(open_folder, checkpoint)
    tokenizer = {"model": {"vocab": {"a": 0, "b": 39}}, "added_tokens": [{"id": 40, "content": "[X]"}]}
    (checkpoint / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "tokenizer.json has 41 tokens" in refusal(open_folder, checkpoint)
    tokenizer["added_tokens"] = []
    (checkpoint / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert open_folder(checkpoint).shape == SHAPE


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"model": {"vocab": [["a", 0.5]]}, "added_tokens": []}'])
def test_broken_tokenizer_is_left_to_its_loader(checkpoint: Path, content: str) -> None:
    (checkpoint / "tokenizer.json").write_text(content)
    assert open_folder(checkpoint).shape == SHAPE


def test_no_folder(tmp_path: Path, checkpoint: Path) -> None:
    for name in ("", "nowhere", "./nowhere", str(tmp_path / "nowhere"), "a/b/c", "~nobody/x", "a\0b", "-x/y"):
        assert f"no such folder: {name!r}" in refusal(open_folder, name)
    assert "no such folder" in refusal(open_folder, Path("owner/name"))
    assert "is a file: give the folder" in refusal(open_folder, checkpoint / "config.json")
    (tmp_path / "empty").mkdir()
    assert "has no config.json" in refusal(open_folder, tmp_path / "empty")


def test_message_is_one_line_whatever_the_folder_is_called(tmp_path: Path) -> None:
    (tmp_path / "a\nb").mkdir()
    assert "has no config.json" in refusal(open_folder, tmp_path / "a\nb")


def test_revision_of_a_local_folder(checkpoint: Path) -> None:
    assert "no revision 'v1'" in refusal(open_folder, checkpoint, revision="v1")
    assert "no revision 'v1'" in refusal(open_folder, revision="v1")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="needs a user who may not read everything")
def test_unreadable(checkpoint: Path) -> None:
    (checkpoint / "config.json").chmod(0)
    assert "config.json" in refusal(open_folder, checkpoint)


# ---------------------------------------------------------------- writing


def test_writes_all_that_belongs_to_the_model(checkpoint: Path, tmp_path: Path) -> None:
    write_config(checkpoint, torch_dtype="float16", architectures=["Other"], problem_type=None)
    for name in ("README.md", "special_tokens_map.json", "tokenizer_config.json", "length_configs.json"):
        (checkpoint / name).write_text("{}")
    (checkpoint / "training_args.bin").touch()
    written = save_folder(open_folder(checkpoint), tmp_path / "written")
    assert sorted(x.name for x in written.iterdir()) == [
        "README.md", "config.json", "length_configs.json", "model.safetensors", "special_tokens_map.json",
        "tokenizer_config.json", "vocab.txt",
    ]  # fmt: skip
    config = json.loads((written / "config.json").read_text())
    assert config == CONFIG | {"dtype": "float32", "problem_type": None}
    assert (written / "model.safetensors").stat().st_mode == (written / "config.json").stat().st_mode
    assert sorted(x.name for x in tmp_path.iterdir()) == ["model", "written"]


def test_overwrites_only_when_asked_and_only_models(checkpoint: Path, tmp_path: Path) -> None:
    folder = open_folder(checkpoint)
    target = tmp_path / "target"
    target.mkdir()
    assert save_folder(folder, target) == target
    (target / "model-00001-of-00002.safetensors").touch()
    assert "is not empty" in refusal(save_folder, folder, target)
    save_folder(folder, target, overwrite=True)
    assert not (target / "model-00001-of-00002.safetensors").exists()
    save_folder(open_folder(target), target, dtype="int8", overwrite=True)
    assert open_folder(target).config["dynamic_tinybert"]

    assert "not overwritten" in refusal(save_folder, folder, tmp_path, overwrite=True)
    (target / ".git").mkdir()
    assert "not overwritten" in refusal(save_folder, folder, target, overwrite=True)
    assert (target / "config.json").exists()
    assert sorted(x.name for x in tmp_path.iterdir()) == ["model", "target"]


@pytest.mark.parametrize("fault", [errno.EBUSY, errno.EACCES])
def test_a_folder_that_cannot_be_renamed_is_filled(
    fault: int, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mounted folder answers EBUSY; a folder whose parent only others may write cannot hold a draft beside it."""
    folder = open_folder(checkpoint)
    target = tmp_path / "mounted"
    target.mkdir()
    place = target.stat().st_ino
    rename, access = Path.rename, os.access

    def refuse(path: Path, other: Path) -> Path:
        if path == target:
            raise OSError(fault, os.strerror(fault))
        return rename(path, other)

    monkeypatch.setattr(Path, "rename", refuse)
    if fault == errno.EACCES:
        monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path and access(path, mode))
    save_folder(folder, target)
    assert "is not empty" in refusal(save_folder, folder, target)
    (target / "model-00001-of-00002.safetensors").touch()
    save_folder(folder, target, dtype="int8", overwrite=True)
    assert open_folder(target).config["dynamic_tinybert"]
    assert sorted(x.name for x in target.iterdir()) == sorted(x.name for x in checkpoint.iterdir())
    assert sorted(x.name for x in tmp_path.iterdir()) == ["model", "mounted"]
    assert target.stat().st_ino == place


def test_places_that_cannot_be_written(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = open_folder(checkpoint)
    file = tmp_path / "file"
    file.touch()
    assert "is a file" in refusal(save_folder, folder, file)
    assert "cannot be written" in refusal(save_folder, folder, file / "under")
    assert "cannot be written" in refusal(save_folder, folder, tmp_path / ("x" * 300))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert "current folder" in refusal(save_folder, folder, ".")
    assert sorted(x.name for x in tmp_path.iterdir()) == ["file", "here", "model"]


@pytest.mark.skipif(sys.platform == "win32", reason="files have no size limit there")
def test_disk_full(checkpoint: Path, tmp_path: Path) -> None:
    import resource

    folder = open_folder(checkpoint)
    assert folder.weights
    target = tmp_path / "target"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    try:
        line = refusal(save_folder, folder, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(target) in line
    assert [x.name for x in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), SafetensorError("I/O\nerror"), KeyboardInterrupt()]
)
def test_failure_leaves_the_old_folder(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    folder = open_folder(checkpoint)
    target = save_folder(folder, tmp_path / "target")

    def fail(*_: Any, **__: Any) -> None:
        raise error

    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else ModelFolderError
    for patched in ((saving, "save_file"), (saving.shutil, "copyfile")):
        with monkeypatch.context() as patch:
            patch.setattr(*patched, fail)
            with pytest.raises(expected):
                save_folder(folder, target, overwrite=True)
    rename = Path.rename

    def fail_once_moved(self: Path, to: Path) -> Path:
        if to == target and not self.name.endswith(".old"):
            raise error
        return rename(self, to)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail_once_moved)
        with pytest.raises(expected):
            save_folder(folder, target, overwrite=True)
    assert open_folder(target).weights
    assert sorted(x.name for x in tmp_path.iterdir()) == ["model", "target"]


@pytest.mark.skipif(sys.platform == "win32", reason="kills with SIGKILL")
def test_kill_leaves_no_half_written_folder(checkpoint: Path, tmp_path: Path) -> None:
    code = f"""
import os, signal
from dynamic_tinybert.folder import open_folder, save_folder, saving
saving.shutil.copyfile = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
save_folder(open_folder({str(checkpoint)!r}), {str(tmp_path / "target")!r})
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    assert not (tmp_path / "target").exists()


# ---------------------------------------------------------------- the Hub

SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(checkpoint: Path, tmp_path: Path) -> Path:
    """The Hub's cache as huggingface_hub lays it out, with one model at one revision and a tag."""
    home = tmp_path / "hub"
    repo = home / "models--ada--engine"
    (repo / "refs").mkdir(parents=True)
    for ref in ("main", "v1"):
        (repo / "refs" / ref).write_text(SHA)
    (repo / "blobs").mkdir()
    snapshot = repo / "snapshots" / SHA
    snapshot.mkdir(parents=True)
    for file in checkpoint.iterdir():
        blob = repo / "blobs" / f"of-{file.name}"
        file.rename(blob)
        (snapshot / file.name).symlink_to(Path("..") / ".." / "blobs" / blob.name)
    return home


@pytest.mark.parametrize("revision", [None, "main", "v1", SHA])
def test_cached_model(cache: Path, revision: str | None) -> None:
    folder = open_folder("ada/engine", revision=revision, cache_dir=cache, local_files_only=True)
    assert folder.name == "ada/engine"
    assert folder.path == cache / "models--ada--engine" / "snapshots" / SHA
    assert len(folder.weights) == 39
    copy = save_folder(folder, cache.parent / "copy")
    assert not (copy / "vocab.txt").is_symlink()


def test_not_in_the_cache(cache: Path) -> None:
    line = refusal(open_folder, "ada/other", cache_dir=cache, local_files_only=True)
    assert "ada/other is neither a folder here nor complete in the Hub's cache" in line
    line = refusal(open_folder, "ada/engine", revision="v2", cache_dir=cache, local_files_only=True)
    assert "ada/engine at revision 'v2'" in line
    assert "local_files_only" in line


def test_incomplete_in_the_cache(cache: Path) -> None:
    (cache / "models--ada--engine" / "snapshots" / SHA / "vocab.txt").unlink()
    line = refusal(open_folder, "ada/engine", cache_dir=cache, local_files_only=True)
    assert "neither tokenizer.json nor vocab.txt" in line


def test_offline_by_environment(cache: Path) -> None:
    """HF_HUB_OFFLINE and HF_HOME are honoured, and nothing heavy is imported."""
    code = """
import sys
from dynamic_tinybert.folder import ModelFolderError, open_folder
open_folder()
assert not {"huggingface_hub", "torch", "transformers"} & set(sys.modules)
assert open_folder("ada/engine").parameters > 0
assert not {"torch", "transformers"} & set(sys.modules)
try:
    open_folder("ada/other")
except ModelFolderError as error:
    print(error)
"""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGINGFACE_", "TRANSFORMERS_"))}
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=inherited | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(cache.parent)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "HF_HUB_OFFLINE forbids the download" in result.stdout


class HubHandler(http.server.BaseHTTPRequestHandler):
    """As much of the Hub as a download needs."""

    files: dict[str, bytes]
    error: tuple[int, str] | None
    asked: list[tuple[str, str | None]]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        self.asked.append((path, self.headers.get("Authorization")))
        name = path.rpartition("/")[2]
        etag = f'"{name}"'
        if self.error is not None:
            body = b"{}"
            self.send_response(self.error[0])
            self.send_header("X-Error-Code", self.error[1])
        elif "/tree/" in path:
            listing = [{"type": "file", "path": n, "size": len(c), "oid": "0" * 40} for n, c in self.files.items()]
            body = json.dumps(listing).encode()
            self.send_response(200)
        elif path.startswith("/api/models/"):
            siblings = [{"rfilename": n} for n in self.files]
            body = json.dumps({"id": "ada/engine", "modelId": "ada/engine", "sha": SHA, "siblings": siblings}).encode()
            self.send_response(200)
        elif path.startswith("/ada/engine/resolve/"):
            body = self.files[name]
            self.send_response(200)
        else:
            body = b""
            self.send_response(404)
        self.send_header("ETag", etag)
        self.send_header("X-Repo-Commit", SHA)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[HubHandler]]:
    """A Hub on this machine that has the model ada/engine. huggingface_hub itself asks it."""

    class Handler(HubHandler):
        files = {file.name: file.read_bytes() for file in checkpoint.iterdir()} | {
            "pytorch_model.bin": b"pickle",
            "onnx/model.onnx": b"onnx",
            "checkpoint-1/model.safetensors": b"old",
        }
        error = None
        asked = []  # noqa: RUF012

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as hub_server:
        thread = threading.Thread(target=hub_server.serve_forever, args=(0.01,))
        thread.start()
        ask_at(f"http://127.0.0.1:{hub_server.server_port}", monkeypatch)
        yield Handler
        hub_server.shutdown()
        thread.join()


def test_download(server: type[HubHandler], tmp_path: Path) -> None:
    folder = open_folder("ada/engine", cache_dir=tmp_path / "hub", token="hf_secret")
    assert folder.name == "ada/engine"
    assert len(folder.weights) == 39
    assert sorted(x.name for x in folder.path.iterdir()) == ["config.json", "model.safetensors", "vocab.txt"]
    assert {token for path, token in server.asked if "ada/engine" in path} == {"Bearer hf_secret"}
    asked = len(server.asked)
    again = open_folder("ada/engine", cache_dir=tmp_path / "hub", local_files_only=True)
    assert again.path == folder.path
    assert len(server.asked) == asked


def test_only_a_pickle_on_the_hub(server: type[HubHandler], tmp_path: Path) -> None:
    del server.files["model.safetensors"]
    line = refusal(open_folder, "ada/engine", cache_dir=tmp_path / "hub", revision="v1")
    assert "ada/engine at revision 'v1' on the Hub has no model.safetensors, only pytorch_model.bin, a pickle" in line
    assert ".from_pretrained('ada/engine', revision='v1').save_pretrained('engine')" in line
    del server.files["pytorch_model.bin"]
    line = refusal(open_folder, "ada/engine", cache_dir=tmp_path / "hub2")
    assert "has no model.safetensors: save" in line


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ((404, "RepoNotFound"), "neither a folder here nor a model on the Hub"),
        ((401, "RepoNotFound"), "private there"),
        ((403, "GatedRepo"), "is gated: ask for access at"),
        ((404, "RevisionNotFound"), "has no revision 'v9' on the Hub"),
        ((418, ""), "check the network"),
    ],
)
def test_errors_of_the_hub(server: type[HubHandler], tmp_path: Path, error: tuple[int, str], said: str) -> None:
    server.error = error
    line = refusal(open_folder, "ada/engine", cache_dir=tmp_path / "hub", revision="v9")
    assert "ada/engine" in line
    assert said in line


def test_hub_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    line = refusal(open_folder, "ada/engine", cache_dir=tmp_path / "hub")
    assert "http://127.0.0.1:1 fails (" in line
    assert "check the network" in line

    def fail(*_: Any, **__: Any) -> str:
        raise RuntimeError("\nthe transfer broke\nat length")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    assert "could not be downloaded from the Hub: the transfer broke" in refusal(open_folder, "ada/engine")


def test_names_of_the_hub() -> None:
    assert all(map(hub.is_hub_name, ["ada/engine", "Intel/dynamic_tinybert", "a.b/c-d.e"]))
    names = [
        "ada",
        "./ada",
        "../ada",
        "/ada",
        "ada/",
        "a/b/c",
        "~/ada",
        "C:\\a\\b",
        ".a/b",
        "a/.b",
        "a/..",
        "a b/c",
        "é/b",
    ]
    assert not any(map(hub.is_hub_name, names))
    assert "Hub" in refusal(open_folder, "a--b/c", local_files_only=True)


def test_a_folder_goes_before_the_hub(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkpoint.parent)
    (checkpoint.parent / "ada").mkdir()
    checkpoint.rename("ada/engine")
    assert isinstance(open_folder("ada/engine"), ModelFolder)
