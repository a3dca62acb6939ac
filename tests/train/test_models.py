"""Loading students and teachers: what they compute is what their folders say, and a damaged folder is one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from dynamic_tinybert import QuestionAnswerer
from dynamic_tinybert.folder import open_folder, save_folder
from dynamic_tinybert.inference import TextTokenizer
from dynamic_tinybert.model import LengthConfig
from dynamic_tinybert.train import (
    DynamicBertForQuestionAnswering,
    DynamicMPNetForQuestionAnswering,
    TrainingError,
)
from dynamic_tinybert.train.finalize import one_separator
from dynamic_tinybert.train.models import (
    Inputs,
    Teacher,
    load_model,
    load_student,
    read_config,
    set_dropout,
    shape_of,
    student_from_teacher,
)
from dynamic_tinybert.train.vocabulary import Vocabulary
from support.torch_models import tiny_bert, tiny_mpnet
from support.training import write_model, write_tokenizer

IDS = torch.randint(5, 60, (3, 12), generator=torch.Generator().manual_seed(0))
MASK = (torch.arange(12) < torch.tensor([[12], [5], [9]])).long()
TYPES = (torch.arange(12) >= 4).long().expand(3, 12) * MASK
# The id in MPNet of each of a vocabulary of 60: specials apart, 4 more.
MAP = torch.tensor([1, 104 - 100, 0, 2, *range(8, 64)])


@pytest.fixture(autouse=True)
def no_bars() -> Any:
    """transformers draws bars when it saves."""
    transformers.utils.logging.disable_progress_bar()
    yield
    transformers.utils.logging.enable_progress_bar()


def saved(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


def changed(folder: Path, to: Path, **tensors: Any) -> Path:
    """The folder with other tensors; None takes one away, and a `_` in a name stands for a dot there."""
    to.mkdir()
    shutil.copyfile(folder / "config.json", to / "config.json")
    weights = load_file(folder / "model.safetensors")
    weights.update(tensors)
    save_file({k: v for k, v in weights.items() if v is not None}, to / "model.safetensors", metadata={"format": "pt"})
    return to


def logits(model: Any, **others: Any) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        output = model.eval()(input_ids=IDS, attention_mask=MASK, token_type_ids=TYPES, **others)
    return output.start_logits, output.end_logits


def one_line(error: pytest.ExceptionInfo[TrainingError]) -> None:
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


# A student of a teacher's layers.


def test_of_all_layers_of_a_bert_it_is_the_same_model() -> None:
    teacher = tiny_bert(type_vocab_size=3, hidden_dropout_prob=0.2, hidden_act="relu", layer_norm_eps=1e-6)
    student = student_from_teacher(teacher, [0, 1, 2, 3], None)
    assert isinstance(student, DynamicBertForQuestionAnswering)
    assert all(torch.equal(a, b) for a, b in zip(logits(student), logits(teacher), strict=True))
    assert student.config.hidden_dropout_prob == 0.2


def test_it_takes_every_second_layer_and_the_head() -> None:
    teacher = tiny_bert()
    student = student_from_teacher(teacher, [1, 3], None)
    assert student.config.num_hidden_layers == 2
    mine, his = student.state_dict(), teacher.state_dict()
    for name, value in mine.items():
        other = name.replace("layer.1.", "layer.3.").replace("layer.0.", "layer.1.")
        assert torch.equal(value, his[other]), name


@pytest.mark.parametrize("voters", ["all", "question"])
def test_whose_attention_counts_goes_along(voters: str) -> None:
    teacher = tiny_bert(dynamic_tinybert={"voters": voters})
    assert shape_of(student_from_teacher(teacher, [1, 3], None).config).significance == voters


@pytest.mark.parametrize("form", ["bert", "mpnet"])
def test_significance_heads_do_not_go_along_to_fewer_layers(form: str) -> None:
    teacher = (tiny_bert if form == "bert" else tiny_mpnet)(dynamic_tinybert={"significance_head": True})
    student = student_from_teacher(teacher, [1, 3], None, form)
    assert not shape_of(student.config).significance_head
    assert not [name for name in student.state_dict() if "significance" in name]


def test_it_is_no_view_of_its_teacher() -> None:
    teacher = tiny_bert()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    student = student_from_teacher(teacher, [0, 1], None)
    with torch.no_grad():
        for value in student.parameters():
            value.add_(1)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(value.requires_grad for value in student.parameters())


def test_a_student_of_mpnet_begins_with_its_embeddings_of_the_mapped_ids() -> None:
    teacher = tiny_mpnet()
    student = student_from_teacher(teacher, [1, 3], MAP).eval()
    assert student.config.vocab_size == 60
    assert student.config.max_position_embeddings == 40
    full = torch.ones_like(IDS)
    with torch.no_grad():
        for types in (torch.zeros_like(IDS), TYPES):  # whatever half, as MPNet knows none
            mine = student.bert.embeddings(input_ids=IDS, token_type_ids=types)
            wanted = teacher(MAP[IDS], full, output_hidden_states=True).hidden_states[0]
            assert torch.allclose(mine, wanted, atol=1e-6)


def test_a_student_of_mpnets_layers_computes_what_they_do_but_for_the_position_bias() -> None:
    teacher = tiny_mpnet()
    with torch.no_grad():
        teacher.mpnet.encoder.relative_attention_bias.weight.zero_()
    student = student_from_teacher(teacher, [0, 1, 2, 3], MAP)
    with torch.no_grad():
        wanted = teacher(MAP[IDS], MASK)
    start, end = logits(student)
    for row, count in enumerate(MASK.sum(1)):
        assert torch.allclose(start[row, :count], wanted.start_logits[row, :count], atol=1e-5)
        assert torch.allclose(end[row, :count], wanted.end_logits[row, :count], atol=1e-5)


def test_in_the_form_of_mpnet_of_all_layers_it_is_the_same_model() -> None:
    teacher = tiny_mpnet(dynamic_tinybert={"voters": "question"}, hidden_dropout_prob=0.2)
    student = student_from_teacher(teacher, [0, 1, 2, 3], MAP, "mpnet").eval()
    assert isinstance(student, DynamicMPNetForQuestionAnswering)
    assert (shape_of(student.config).significance, student.config.hidden_dropout_prob) == ("question", 0.2)
    with torch.no_grad():
        wanted = teacher(MAP[IDS], MASK)
        for types in (None, TYPES):
            found = student(MAP[IDS], MASK, types)
            assert torch.equal(found.start_logits, wanted.start_logits)
            assert torch.equal(found.end_logits, wanted.end_logits)


def test_in_the_form_of_mpnet_it_takes_every_second_layer_the_bias_and_the_head_and_is_no_view() -> None:
    teacher = tiny_mpnet()
    student = student_from_teacher(teacher, [1, 3], None, "mpnet")
    mine, his = student.state_dict(), {name: value.clone() for name, value in teacher.state_dict().items()}
    assert student.config.num_hidden_layers == 2
    assert teacher.config.num_hidden_layers == 4
    for name, value in mine.items():
        other = name.replace("layer.1.", "layer.3.").replace("layer.0.", "layer.1.")
        assert torch.equal(value, his[other]), name
    with torch.no_grad():
        for value in student.parameters():
            value.add_(1)
    assert all(torch.equal(value, his[name]) for name, value in teacher.state_dict().items())


@pytest.mark.parametrize(("make", "form"), [(tiny_bert, "bert"), (tiny_mpnet, "mpnet")])
@pytest.mark.parametrize("layers", [[], [4], [-1], [0, 9]])
def test_layers_that_are_not_there_are_refused(layers: list[int], make: Any, form: str) -> None:
    with pytest.raises(TrainingError, match="the teacher has layers 0 to 3") as error:
        student_from_teacher(make(), layers, None, form)
    one_line(error)


def test_a_bert_gives_no_student_in_the_form_of_mpnet() -> None:
    with pytest.raises(TrainingError, match=r"from an MPNet, not from a bert model: set student\.form") as e:
        student_from_teacher(tiny_bert(), [0], None, "mpnet")
    one_line(e)


def test_layers_of_another_architecture_are_refused() -> None:
    config = transformers.DistilBertConfig(vocab_size=60, dim=16, n_layers=1, n_heads=2, hidden_dim=24)
    teacher = transformers.DistilBertForQuestionAnswering(config)
    with pytest.raises(TrainingError, match="a ModernBERT, not from a distilbert model") as error:
        student_from_teacher(teacher, [0], None)
    one_line(error)


# Loading a student.


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_folder_of_transformers(dtype: torch.dtype, tmp_path: Path) -> None:
    model = tiny_bert().to(dtype)
    student = load_student(saved(model, tmp_path / "model"))
    assert type(student) is DynamicBertForQuestionAnswering
    assert {value.dtype for value in student.parameters()} == {torch.float32}
    assert torch.equal(logits(student)[0], logits(model.float())[0])


def test_a_bare_encoder_gets_a_head_by_the_seed(tmp_path: Path) -> None:
    model = tiny_bert()
    folder = saved(model.bert, tmp_path / "bare")
    heads = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        student = load_student(folder)
        heads.append(student.qa_outputs.weight.detach())
        assert torch.equal(
            student.bert.encoder.layer[3].output.dense.weight, model.bert.encoder.layer[3].output.dense.weight
        )
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    assert 0 < heads[0].std() < 0.1


def test_a_masked_language_model_gets_a_head_too(tmp_path: Path) -> None:
    config = tiny_bert().config
    folder = saved(transformers.BertForMaskedLM(config), tmp_path / "mlm")
    assert load_student(folder).qa_outputs.weight.shape == (2, 16)


def test_loading_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = saved(tiny_bert().bert, tmp_path / "bare")
    transformers.utils.logging.enable_progress_bar()
    before = transformers.utils.logging.get_verbosity()
    capfd.readouterr()
    load_student(folder)
    assert capfd.readouterr() == ("", "")
    assert transformers.utils.logging.get_verbosity() == before
    assert transformers.utils.logging.is_progress_bar_enabled()


@pytest.mark.parametrize("named", [True, False])
def test_the_embedded_model_is_what_answering_reads(named: bool, embedded: Path, qa: QuestionAnswerer) -> None:
    student = load_student("embedded" if named else embedded)
    assert {value.dtype for value in student.parameters()} == {torch.float32}
    assert all(value.requires_grad for value in student.parameters())
    windows = list(
        qa.reader.windows(
            "Who built the lighthouse?",
            "The lighthouse of Port Ellis was built by Agnes Moreau in 1871.",
            max_seq_len=384,
            doc_stride=128,
            max_question_len=64,
        )
    )
    wanted = qa.reader.predict(windows, [LengthConfig.full(6)])
    with torch.no_grad():
        found = student.eval()(
            torch.from_numpy(windows[0].ids)[None], None, torch.from_numpy(windows[0].type_ids)[None]
        )
    np.testing.assert_allclose(found.start_logits.numpy(), wanted.start, rtol=0, atol=1e-3)
    np.testing.assert_allclose(found.end_logits.numpy(), wanted.end, rtol=0, atol=1e-3)


def test_a_trained_student_forgets_that_it_was_int8(tmp_path: Path, tiny_folder: Path) -> None:
    """Else its folder would be read for one of INT8 again."""
    stored = tmp_path / "int8"
    save_folder(open_folder(tiny_folder), stored, dtype="int8")
    student = load_student(stored)
    folder = saved(student, tmp_path / "trained")
    assert "int8" not in (folder / "config.json").read_text("utf-8")
    again = load_student(folder)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), student.parameters(), strict=True))
    shutil.copyfile(tiny_folder / "tokenizer.json", folder / "tokenizer.json")
    np.testing.assert_array_equal(
        open_folder(folder).weights["span.weight"], student.qa_outputs.weight.detach().numpy()
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_folder_of_an_mpnet(dtype: torch.dtype, tmp_path: Path) -> None:
    model = tiny_mpnet().to(dtype)
    student = load_student(saved(model, tmp_path / "model")).eval()
    assert type(student) is DynamicMPNetForQuestionAnswering
    assert {value.dtype for value in student.parameters()} == {torch.float32}
    with torch.no_grad():
        assert torch.equal(student(MAP[IDS], MASK, TYPES).start_logits, model.float()(MAP[IDS], MASK).start_logits)


@pytest.mark.parametrize("load", [load_student, load_model])
def test_an_mpnet_of_ours_in_int8(load: Any, tmp_path: Path, embedded: Path) -> None:
    plain = Path(write_model(tmp_path / "plain", embedded, "mpnet"))
    stored = save_folder(open_folder(plain), tmp_path / "int8", dtype="int8")
    loaded = load(stored).eval()
    assert isinstance(loaded, transformers.MPNetForQuestionAnswering)
    assert isinstance(loaded, DynamicMPNetForQuestionAnswering) == (load is load_student)
    weights = open_folder(stored).weights
    np.testing.assert_array_equal(loaded.qa_outputs.weight.detach().numpy(), weights["span.weight"])
    encoder = loaded.mpnet.encoder
    np.testing.assert_array_equal(encoder.relative_attention_bias.weight.detach().numpy(), weights["distances"])
    np.testing.assert_array_equal(
        encoder.layer[1].attention.attn.q.weight.detach().numpy(), weights["layers.1.query.weight"]
    )
    folder = saved(loaded, tmp_path / "again")  # as float32, which does not say that it is INT8
    assert "int8" not in (folder / "config.json").read_text("utf-8")
    assert type(load_model(folder)) is transformers.MPNetForQuestionAnswering


def test_dropout_of_an_mpnet_is_set_in_modules_and_configuration() -> None:
    student = student_from_teacher(tiny_mpnet(), [0, 1], None, "mpnet")
    set_dropout(student, 0.0)
    assert {module.p for module in student.modules() if isinstance(module, torch.nn.Dropout)} == {0.0}
    assert student.config.hidden_dropout_prob == student.config.attention_probs_dropout_prob == 0


def test_dropout_is_set_in_modules_and_configuration() -> None:
    student = student_from_teacher(tiny_bert(), [0, 1], None)
    for dropout in (0.3, 0.0):
        set_dropout(student, dropout)
        assert {module.p for module in student.modules() if isinstance(module, torch.nn.Dropout)} == {dropout}
        assert student.config.hidden_dropout_prob == student.config.attention_probs_dropout_prob == dropout
    without = logits(student)[0]
    with torch.no_grad():
        assert torch.equal(student.train()(IDS, MASK, TYPES).start_logits, without)


# What is refused.


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    config = transformers.DistilBertConfig(vocab_size=60, dim=16, n_layers=1, n_heads=2, hidden_dim=24)
    folder = saved(transformers.DistilBertForQuestionAnswering(config), tmp_path / "distilbert")
    with pytest.raises(TrainingError, match="is a checkpoint of another architecture, distilbert") as error:
        load_student(folder)
    one_line(error)
    assert load_model(folder).config.model_type == "distilbert"


@pytest.mark.parametrize("load", [load_student, load_model, read_config])
def test_a_folder_that_is_not_there_is_one_line(load: Any, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"there is no model folder .*nowhere") as error:
        load(tmp_path / "nowhere")
    one_line(error)


@pytest.mark.parametrize("load", [load_student, load_model])
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("no weights", "no file named model.safetensors"),
        ("half of the weights", "cannot be loaded"),
        ("no JSON", "there is no model at"),
        ("a layer less", "its weights lack 16 of its tensors, as bert.encoder.layer.2"),
        ("no encoder", "its weights lack .* of its tensors, as bert."),
        ("another size", "bert.embeddings.word_embeddings.weight in its weights is not of the size"),
        ("another head", "qa_outputs.weight in its weights is not of the size"),
        ("NaN", "qa_outputs.bias holds NaN"),
        ("infinity", "bert.encoder.layer.0.output.dense.bias holds NaN or infinity"),
    ],
)
def test_a_damaged_folder_is_one_line(load: Any, damage: str, says: str, tmp_path: Path) -> None:
    """Above all where transformers would make up what is missing, and go on."""
    whole = saved(tiny_bert(), tmp_path / "whole")
    weights = load_file(whole / "model.safetensors")
    folder = tmp_path / "damaged"
    if damage == "a layer less":
        changed(whole, folder, **{name: None for name in weights if ".layer.2." in name})
    elif damage == "no encoder":
        changed(whole, folder, **{name: None for name in weights if name.startswith("bert.")})
    elif damage == "another size":
        changed(whole, folder, **{"bert.embeddings.word_embeddings.weight": torch.zeros(50, 16)})
    elif damage == "another head":
        changed(whole, folder, **{"qa_outputs.weight": torch.zeros(3, 16)})
    elif damage == "NaN":
        changed(whole, folder, **{"qa_outputs.bias": torch.tensor([0.0, float("nan")])})
    elif damage == "infinity":
        changed(whole, folder, **{"bert.encoder.layer.0.output.dense.bias": torch.full((16,), float("inf"))})
    else:
        changed(whole, folder)
        file = folder / "model.safetensors"
        if damage == "no weights":
            file.unlink()
        elif damage == "half of the weights":
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        else:
            (folder / "config.json").write_text('{"model_type": "bert"', "utf-8")
    with pytest.raises(TrainingError, match=says) as error:
        load(folder)
    one_line(error)
    assert str(folder) in str(error.value)


@pytest.mark.parametrize("load", [load_student, load_model, read_config])
@pytest.mark.parametrize("ours", ["question", ["voters"], 3, None, {"voters": "text"}, {"voters": None}])
def test_a_rule_of_significance_that_nobody_knows_is_one_line(load: Any, ours: object, tmp_path: Path) -> None:
    folder = saved(tiny_bert(), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "dynamic_tinybert": ours}), "utf-8")
    with pytest.raises(TrainingError, match=r"dynamic_tinybert is .*whose voters are 'all' or 'question'") as error:
        load(folder)
    one_line(error)
    assert str(folder) in str(error.value)


def test_a_damaged_folder_of_ours_is_one_line(tmp_path: Path, tiny_folder: Path) -> None:
    folder = tmp_path / "int8"
    save_folder(open_folder(tiny_folder), folder, dtype="int8")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(TrainingError, match=r"int8|model\.safetensors") as error:
        load_student(folder)
    one_line(error)


# Feeding them.


def test_inputs_maps_ids_and_gives_types_to_those_that_know_them() -> None:
    batch = {"input_ids": IDS, "attention_mask": MASK, "token_type_ids": TYPES, "spans": IDS, "index": IDS}
    fed = Inputs(tiny_bert())(batch)
    assert set(fed) == {"input_ids", "attention_mask", "token_type_ids"}
    assert all(fed[name] is batch[name] for name in fed)
    fed = Inputs(tiny_mpnet(), MAP)(batch)
    assert set(fed) == {"input_ids", "attention_mask"}
    assert torch.equal(fed["input_ids"], MAP[IDS])
    assert torch.equal(batch["input_ids"], IDS)
    fed = Inputs(student_from_teacher(tiny_mpnet(), [0], None, "mpnet"), MAP)(batch)  # whose question's tokens may vote
    assert fed["token_type_ids"] is TYPES
    assert torch.equal(fed["input_ids"], MAP[IDS])


# Tokenizers.


@pytest.mark.parametrize("kept", ["tokenizer.json", "vocab.txt"])
def test_an_mpnets_tokenizer_is_made_to_put_one_separator(kept: str, tmp_path: Path, embedded: Path) -> None:
    folder = write_tokenizer(tmp_path / "mpnet", embedded, "mpnet")
    before = TextTokenizer(folder)
    if kept == "vocab.txt":
        words = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
        (folder / "vocab.txt").write_text("\n".join(sorted(words, key=words.get)) + "\n", "utf-8")
        (folder / "tokenizer.json").unlink()
    one_separator(folder)
    after = TextTokenizer(folder)
    assert (len(before.between), after.between.tolist()) == (2, [2])
    assert (after.cls, after.sep, after.pad) == (0, 2, 1)
    text = "Who — “Zoë” 東京 </s> [SEP]?"
    np.testing.assert_array_equal(before.question(text), after.question(text))
    content = (folder / "tokenizer.json").read_bytes()
    one_separator(folder)  # what is so already stays as it is
    assert (folder / "tokenizer.json").read_bytes() == content


def test_a_tokenizer_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{", "utf-8")
    with pytest.raises(TrainingError, match="cannot be read") as error:
        one_separator(tmp_path)
    one_line(error)


def test_a_teacher_is_frozen_and_reads_the_students_batches(tmp_path: Path, embedded: Path) -> None:
    model = tiny_bert(vocab_size=30522)
    folder = saved(model, tmp_path / "teacher")
    shutil.copyfile(embedded / "tokenizer.json", folder / "tokenizer.json")
    shutil.copyfile(embedded / "tokenizer_config.json", folder / "tokenizer_config.json")
    teacher = Teacher(folder, Vocabulary(embedded))
    assert (teacher.layers, teacher.hidden) == (4, 16)
    assert not teacher.model.training
    assert not any(value.requires_grad for value in teacher.model.parameters())
    batch = {"input_ids": IDS, "attention_mask": MASK, "token_type_ids": TYPES}
    found = teacher(batch, output_hidden_states=True)
    assert torch.equal(found.start_logits, logits(model)[0])
    assert len(found.hidden_states) == 5
    assert not found.start_logits.requires_grad
    half = Teacher(folder, Vocabulary(embedded), bf16=True)(batch)  # transformers does it for the student alone
    assert half.start_logits.dtype == torch.bfloat16
    assert torch.allclose(half.start_logits.float()[MASK == 1], found.start_logits[MASK == 1], atol=0.1)


@pytest.mark.parametrize(("make", "positions"), [(tiny_bert, 40), (tiny_mpnet, 40)])
def test_shape_of(make: Any, positions: int) -> None:
    shape = shape_of(make().config)
    assert (shape.layers, shape.hidden, shape.heads, shape.feed_forward) == (4, 16, 2, 24)
    assert shape.positions == positions


def test_shape_of_distilbert() -> None:
    config = transformers.DistilBertConfig(dim=16, n_layers=1, n_heads=2, hidden_dim=24)
    shape = shape_of(config)
    assert (shape.layers, shape.hidden, shape.heads, shape.feed_forward) == (1, 16, 2, 24)


def test_what_is_read_can_be_written_down(tmp_path: Path) -> None:
    """The configuration that a student of layers gets is a whole one."""
    student = student_from_teacher(tiny_mpnet(), [1, 3], MAP)
    folder = saved(student, tmp_path / "student")
    assert json.loads((folder / "config.json").read_text("utf-8"))["model_type"] == "bert"
    assert torch.equal(logits(load_student(folder))[0], logits(student)[0])
