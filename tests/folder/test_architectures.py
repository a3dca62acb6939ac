"""All architectures other than BERT by the road that BERT goes: held against transformers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from conftest import quiet
from dynamic_tinybert import ModelFolderError, QuestionAnswerer, WindowError
from dynamic_tinybert.cli.app import app
from dynamic_tinybert.folder import open_folder, save_folder
from dynamic_tinybert.inference import TextTokenizer
from dynamic_tinybert.model import Disentangled, LengthConfig
from dynamic_tinybert.runtime import Runtime, export_onnx
from dynamic_tinybert.runtime.positions import distance_bias, distance_buckets, rotary_angles
from support.runtime_reference import Batch, assert_equals_reference

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from support.random_checkpoints import (  # noqa: E402
    KINDS,
    make,
    make_mmbert_tokenizer,
    make_model,
    make_tokenizer,
    randomize,
)

ROOT = Path(__file__).parents[2]
QUESTION = "Who designed the tower, and when?"
TEXTS = [
    (ROOT / "examples/eiffel-tower.txt").read_text("utf-8")[:1500],
    "The tower stands in Paris, on the Champ de Mars. It was built in 1889.",
    "  Two  spaces,\r\n\r\na tab\tand a no-break\u00a0space \n",
    "Zoë's naïve œuvre — 東京 is a city; e\u0301te\u0301 🙂👍🏽 [SEP] </s> <pad>, 50% “a” 1’000\u200b.",
    "Paris",
]


def _as(folder: Path, kind: str) -> Path:
    """XLM-R's checkpoint as another model that is the same under another name."""
    make("xlm-roberta", folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "model_type": kind}), "utf-8")
    return folder


def _variant(folder: Path, kind: str, tokenizer: Any = None, **settings: Any) -> Path:
    tokenizer = tokenizer or make_tokenizer(kind)
    config = make_model(kind, len(tokenizer), layers=5, hidden=32).config
    config = type(config)(**{**config.to_dict(), **settings})
    model = randomize(transformers.AutoModelForQuestionAnswering.from_config(config), seed=1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _bert_of_xlm_r(folder: Path, types: int) -> Path:
    """As multilingual MiniLM: BERT's layers, and a tokenizer that gives all tokens type 0."""
    tokenizer = make_tokenizer("xlm-roberta")
    config = make_model("bert", len(tokenizer), layers=4, hidden=32).config
    config.type_vocab_size, config.pad_token_id = types, tokenizer.pad_token_id
    randomize(transformers.BertForQuestionAnswering(config), seed=2).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


MAKERS: dict[str, Callable[[Path], Path]] = {
    **{kind: lambda folder, kind=kind: make(kind, folder) for kind in KINDS},
    "camembert": lambda folder: _as(folder, "camembert"),
    "roberta of two types": lambda folder: _variant(folder, "roberta", type_vocab_size=2, hidden_act="relu"),
    "roberta of two types, words of BERT": lambda folder: _variant(
        folder, "roberta", make_tokenizer("bert"), type_vocab_size=2, pad_token_id=0
    ),
    "electra, wide embeddings": lambda folder: _variant(folder, "electra", embedding_size=32),
    "albert, two groups": lambda folder: _variant(folder, "albert", num_hidden_groups=2, embedding_size=32),
    "bert, tokens of XLM-R": lambda folder: _bert_of_xlm_r(folder, 2),
    "bert of one type": lambda folder: _bert_of_xlm_r(folder, 1),
    "mpnet, more buckets": lambda folder: _variant(folder, "mpnet", relative_attention_num_buckets=40),
    "deberta, content to position": lambda folder: _variant(
        folder,
        "deberta",
        pos_att_type="c2p",
        max_relative_positions=100,
        position_biased_input=True,
        type_vocab_size=2,
        embedding_size=24,
    ),
    "deberta, position to content": lambda folder: _variant(folder, "deberta", pos_att_type=["p2c"]),
    "deberta-v2, own projections": lambda folder: _variant(
        folder,
        "deberta-v2",
        share_att_key=False,
        norm_rel_ebd="none",
        position_buckets=-1,
        max_relative_positions=48,
        position_biased_input=True,
        type_vocab_size=2,
        embedding_size=24,
    ),
    "deberta-v2, content to position": lambda folder: _variant(
        folder, "deberta-v2", pos_att_type="c2p", max_relative_positions=128, hidden_act="gelu_new"
    ),
    "deberta-v2, position to content": lambda folder: _variant(
        folder, "deberta-v2", pos_att_type=["p2c"], share_att_key=False, position_buckets=20
    ),
    "deberta-v2, no relative positions": lambda folder: _variant(
        folder,
        "deberta-v2",
        relative_attention=False,
        pos_att_type=None,
        norm_rel_ebd="none",
        position_biased_input=True,
    ),
    "mobilebert, other sizes": lambda folder: _variant(
        folder,
        "mobilebert",
        embedding_size=20,
        intra_bottleneck_size=24,
        true_hidden_size=24,
        num_feedforward_networks=1,
        hidden_act="gelu",
        type_vocab_size=3,
    ),
    "modernbert with biases": lambda folder: _variant(
        folder,
        "modernbert",
        attention_bias=True,
        mlp_bias=True,
        norm_bias=True,
        classifier_bias=True,
        classifier_activation="relu",
        hidden_activation="gelu_pytorch_tanh",
    ),
    "modernbert as mmBERT": lambda folder: _variant(folder, "modernbert", make_mmbert_tokenizer(), local_attention=48),
    "modernbert, other layers": lambda folder: _variant(
        folder,
        "modernbert",
        layer_types=["sliding_attention", "full_attention", "full_attention", "sliding_attention", "full_attention"],
        local_attention=129,
        rope_parameters={"full_attention": {"rope_theta": 500.0}, "sliding_attention": {"rope_theta": 90.0}},
    ),
}


@pytest.fixture(scope="module", params=MAKERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return MAKERS[request.param](tmp_path_factory.mktemp("checkpoints") / "model")


@pytest.fixture(scope="module")
def qa(folder: Path) -> QuestionAnswerer:
    return quiet(QuestionAnswerer(folder))


@pytest.fixture(scope="module")
def theirs(folder: Path) -> tuple[Any, Any]:
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(folder, dtype=torch.float32).eval()
    return transformers.AutoTokenizer.from_pretrained(folder), model


def encode(tokenizer: Any, text: str, **options: Any) -> Any:
    return tokenizer(QUESTION, text, truncation="only_second", return_overflowing_tokens=True, **options)


def read(model: Any, encoded: Any) -> tuple[Any, Any]:
    with torch.no_grad():
        found = model(**{name: torch.tensor(encoded[name]) for name in encoded if name.endswith(("_ids", "_mask"))})
    return found.start_logits.numpy(), found.end_logits.numpy()


@pytest.mark.slow
@pytest.mark.parametrize("text", TEXTS)
def test_windows_are_those_of_the_models_own_tokenizer(
    folder: Path, qa: QuestionAnswerer, theirs: Any, text: str
) -> None:
    if any(token in text for token in ("</s>", "[SEP]", "<pad>")):
        theirs[0].split_special_tokens = True  # texts are data
    wanted = encode(theirs[0], text, max_length=96, stride=16)
    theirs[0].split_special_tokens = False
    options = {"max_seq_len": 96, "doc_stride": 16, "max_question_len": 64}
    found = list(qa.reader.windows(QUESTION, text, **options))
    special, unknown = set(theirs[0].all_special_ids), theirs[0].unk_token_id
    for window, ids in zip(found, wanted["input_ids"], strict=True):
        text_ids = [
            unknown if i in special else i for i in ids[window.offset : -1]
        ]  # of a unigram model they are pieces
        assert window.ids.tolist() == [*ids[: window.offset], *text_ids, ids[-1]]
        assert not special & set(window.text.ids.tolist()) - {unknown}
    assert len(found) > (len(text) > 1000)


def test_full_equals_transformers(folder: Path, qa: QuestionAnswerer, theirs: Any) -> None:
    _, model = theirs
    windows = []
    for text in TEXTS:
        windows += qa.reader.windows(QUESTION, text, max_seq_len=512, doc_stride=16, max_question_len=64)
    full = LengthConfig.full(qa.shape.layers)
    logits = qa.reader.predict(windows, [full] * len(windows))
    spread = 0.0
    for row, window in enumerate(windows):
        inputs = {"input_ids": [window.ids.tolist()], "attention_mask": [[1] * len(window)]}
        if qa.shape.typed:
            inputs["token_type_ids"] = [window.type_ids.tolist()]
        for ours, wanted in zip(logits[:2], read(model, inputs), strict=True):
            np.testing.assert_allclose(ours[row, : len(window)], wanted[0], rtol=0, atol=1e-4)
            spread = max(spread, float(wanted[0].std()))
    assert spread > 0.5
    # Beyond 128 tokens MPNet's distances share the last bucket.
    assert max(map(len, windows)) > 300


def test_full_equals_transformers_in_a_padded_batch(qa: QuestionAnswerer, theirs: Any) -> None:
    tokenizer, model = theirs
    texts = [text for text in TEXTS if "</s>" not in text]
    options = {"padding": True, "truncation": "only_second", "max_length": 384}
    # transformers 5 leaves ALBERT's types out unless told (its issue 48128).
    encoded = tokenizer([QUESTION] * len(texts), texts, return_token_type_ids=qa.shape.typed, **options)
    mask = np.array(encoded["attention_mask"])
    ids = np.array(encoded["input_ids"])
    types = np.array(encoded.get("token_type_ids", np.zeros_like(ids)))
    lengths = np.repeat(mask.sum(1)[:, None], qa.shape.layers, 1)
    found = qa.reader.runtime.run(ids, types, mask, lengths)
    for ours, wanted in zip(found[:2], read(model, encoded), strict=True):
        np.testing.assert_allclose(ours[mask == 1], wanted[mask == 1], rtol=0, atol=1e-4)


def test_dropping_and_restoring_equals_the_reference(folder: Path, qa: QuestionAnswerer) -> None:
    opened = open_folder(folder)
    options = {"max_seq_len": 96, "doc_stride": 16, "max_question_len": 64}
    windows = [window for text in TEXTS[:2] for window in qa.reader.windows(QUESTION, text, **options)][-2:]
    config = LengthConfig.uniform(opened.shape.layers, 0.7)
    logits = qa.reader.predict(windows, [config] * 2)
    assert (logits.layers_passed[0] == 0).any()
    width = max(map(len, windows))
    rows = [np.pad(np.stack([w.ids, w.type_ids, np.ones_like(w.ids)]), ((0, 0), (0, width - len(w)))) for w in windows]
    ids, types, mask = np.stack(rows, 1)
    batch = Batch(ids, types, mask, config.lengths([len(window) for window in windows]))
    assert_equals_reference(opened.shape, opened.weights, batch, logits)


def test_an_answer_does_not_depend_on_its_neighbours(qa: QuestionAnswerer) -> None:
    together = qa([QUESTION] * len(TEXTS), TEXTS, budget=0.5)
    for text, answer in zip(TEXTS, together, strict=True):
        alone = qa(QUESTION, text, budget=0.5)
        assert (alone.start, alone.end) == (answer.start, answer.end)
        assert alone.logit == pytest.approx(answer.logit, abs=1e-4)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("words", [True, False], ids=["words", "tokens"])
def test_answers_are_parts_of_the_text_without_spaces_around(qa: QuestionAnswerer, text: str, words: bool) -> None:
    answers = qa(QUESTION, text, top_k=50, max_answer_len=3, align_to_words=words)
    assert answers
    for answer in answers:
        assert text[answer.start : answer.end] == answer.text
        assert answer.text == answer.text.strip() != ""
    assert sum(answer.score for answer in answers) <= 1 + 1e-6


@pytest.mark.parametrize("text", ["", " ", " \n\t\r\n ", "\u00a0"])
def test_a_text_of_white_space_has_no_answer(qa: QuestionAnswerer, text: str) -> None:
    assert qa(QUESTION, text).text == ""
    assert qa(QUESTION, text, top_k=3) == []


def test_words_end_at_punctuation(qa: QuestionAnswerer) -> None:
    for answer in qa(QUESTION, TEXTS[1], top_k=99, max_answer_len=1):
        assert answer.text in {",", ".", *TEXTS[1].replace(",", "").replace(".", "").split()}


def test_a_long_text_reads_as_one_piece_would(folder: Path, theirs: Any) -> None:
    text = "It is “Paris”,  said he;\n\n the tower \t stands there. " * 1600  # more than is tokenized at a time
    pieces = list(TextTokenizer(folder).text(text))
    assert len(pieces) > 1
    found = np.concatenate([piece.ids for piece in pieces])
    assert found.tolist() == theirs[0](text, add_special_tokens=False)["input_ids"]
    for piece in pieces:
        there = piece.start < piece.end
        assert (piece.start <= piece.end).all()
        assert (piece.word_start <= piece.word_end).all()
        assert (piece.word_start <= piece.start)[there].all()
        assert (piece.word_end >= piece.end)[there].all()


def test_what_is_written_is_read_by_transformers(folder: Path, theirs: Any, tmp_path: Path) -> None:
    path = save_folder(open_folder(folder), tmp_path / "again")
    config = json.loads((path / "config.json").read_text("utf-8"))
    assert config["architectures"] == [open_folder(folder).architecture]
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(path)
    assert type(model).__name__ == open_folder(folder).architecture
    encoded = encode(tokenizer, TEXTS[1])
    for again, before in zip(read(model, encoded), read(theirs[1], encoded), strict=True):
        np.testing.assert_array_equal(again, before)


def test_what_is_written_in_int8_reads_nearly_the_same(folder: Path, qa: QuestionAnswerer, tmp_path: Path) -> None:
    small = quiet(QuestionAnswerer(save_folder(open_folder(folder), tmp_path / "small", dtype="int8")))
    one, other = (list(x(QUESTION, TEXTS[1], top_k=3)) for x in (qa, small))
    assert one[0].logit == pytest.approx(other[0].logit, abs=0.5)


def test_int8_arithmetic_answers(folder: Path, qa: QuestionAnswerer) -> None:
    small = quiet(QuestionAnswerer(folder, precision="int8"))
    found, exact = (list(x(QUESTION, TEXTS[0], top_k=20, budget=0.6)) for x in (small, qa))
    assert {answer.text for answer in found} & {answer.text for answer in exact}


def test_the_exported_graph_says_the_same(folder: Path, qa: QuestionAnswerer, tmp_path: Path) -> None:
    opened = open_folder(folder)
    export_onnx(opened.shape, opened.weights, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (window,) = qa.reader.windows(QUESTION, TEXTS[1], max_seq_len=384, doc_stride=16, max_question_len=64)
    config = LengthConfig.uniform(opened.shape.layers, 0.8)
    feeds = {
        "input_ids": window.ids[None],
        "attention_mask": np.ones_like(window.ids)[None],
        "token_type_ids": window.type_ids[None],
        "lengths": config.lengths([len(window)]),
    }
    wanted = qa.reader.predict([window], [config])
    for found, ours in zip(session.run(None, feeds), wanted, strict=True):
        np.testing.assert_allclose(found, ours, rtol=0, atol=1e-4)


def test_the_command_line_tells_what_it_is_and_answers(folder: Path) -> None:
    told = CliRunner().invoke(app, ["info", "--model", str(folder), "--json"])
    described = json.loads(told.stdout)
    assert described["architecture"]["type"] == open_folder(folder).architecture
    held = load_file(folder / "model.safetensors")
    assert described["parameters"] == sum(value.size for name, value in held.items() if "pooler" not in name)
    asked = CliRunner().invoke(app, ["ask", QUESTION, "--context", TEXTS[1], "--model", str(folder), "--json"])
    answer = json.loads(asked.stdout)
    assert TEXTS[1][answer["start"] : answer["end"]] == answer["text"]


def test_a_tensor_that_is_missing_is_named_as_transformers_names_it(folder: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    held = load_file(broken / "model.safetensors")
    lost = sorted(name for name in held if "embeddings.LayerNorm" in name or "embeddings.norm" in name)[0]
    save_file({name: value for name, value in held.items() if name != lost}, broken / "model.safetensors")
    with pytest.raises(ModelFolderError, match=lost):
        open_folder(broken)


@pytest.mark.parametrize("lost", ["classifier", ("classifier", "head")], ids=["of a masked model", "of no task"])
def test_a_modernbert_without_a_head_is_told_so(lost: Any, tmp_path: Path) -> None:
    folder = make("modernbert", tmp_path / "model")
    held = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in held.items() if not name.startswith(lost)}
    save_file(kept, folder / "model.safetensors")
    with pytest.raises(ModelFolderError, match=r"has no question-answering head \(classifier\)"):
        open_folder(folder)


# Tokenizers without tokenizer.json


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("roberta", tmp_path_factory.mktemp("roberta") / "model")


def paired(roberta: Path, target: Path) -> Path:
    """The folder as old RoBERTa checkpoints are: `vocab.json` and `merges.txt`."""
    shutil.copytree(roberta, target)
    model = json.loads((roberta / "tokenizer.json").read_text("utf-8"))
    vocabulary = {**model["model"]["vocab"], **{token["content"]: token["id"] for token in model["added_tokens"]}}
    (target / "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["model"]["merges"]]
    (target / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", "utf-8")
    (target / "tokenizer.json").unlink()
    return target


@pytest.mark.parametrize("text", TEXTS)
def test_a_vocabulary_and_merges_read_as_the_whole_tokenizer(roberta: Path, tmp_path: Path, text: str) -> None:
    whole, pair = TextTokenizer(roberta), TextTokenizer(paired(roberta, tmp_path / "model"))
    assert (pair.cls, pair.sep, pair.pad, pair.between.tolist()) == (0, 2, 1, [2, 2])
    assert (whole.cls, whole.sep, whole.pad, whole.between.tolist()) == (0, 2, 1, [2, 2])
    for one, other in zip(pair.text(text), whole.text(text), strict=True):
        for column in ("ids", "start", "end", "word_start", "word_end"):
            np.testing.assert_array_equal(getattr(one, column), getattr(other, column))


def test_a_vocabulary_and_merges_make_a_folder(roberta: Path, tmp_path: Path) -> None:
    folder = paired(roberta, tmp_path / "model")
    one, other = (quiet(QuestionAnswerer(path)) for path in (folder, roberta))
    assert one(QUESTION, TEXTS[0]) == other(QUESTION, TEXTS[0])
    written = save_folder(open_folder(folder), tmp_path / "written")
    assert (written / "merges.txt").read_bytes() == (folder / "merges.txt").read_bytes()
    (folder / "merges.txt").unlink()
    with pytest.raises(ModelFolderError, match=r"neither tokenizer\.json nor vocab\.txt, nor vocab\.json and merges"):
        open_folder(folder)


def test_merges_that_are_none_are_one_line(roberta: Path, tmp_path: Path) -> None:
    folder = paired(roberta, tmp_path / "model")
    (folder / "merges.txt").write_text("a b c d\n", "utf-8")
    with pytest.raises(WindowError, match=r"^the tokenizer of .* cannot be read: .*$"):
        QuestionAnswerer(folder)


def test_special_tokens_are_those_that_the_settings_name(tmp_path: Path) -> None:
    words = ["<s>", "<pad>", "</s>", "[UNK]", "[CLS]", "[SEP]", "[PAD]", "paris", "where"]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n", "utf-8")
    settings: dict[str, Any] = {"cls_token": "<s>", "sep_token": {"content": "</s>"}, "pad_token": "<pad>"}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(settings), "utf-8")
    tokenizer = TextTokenizer(tmp_path)
    assert (tokenizer.cls, tokenizer.between.tolist(), tokenizer.sep, tokenizer.pad) == (0, [2, 2], 2, 1)
    assert tokenizer.specials == 4
    (tmp_path / "special_tokens_map.json").unlink()
    tokenizer = TextTokenizer(tmp_path)
    assert (tokenizer.cls, tokenizer.between.tolist(), tokenizer.sep, tokenizer.pad) == (4, [5], 5, 6)


def test_a_question_that_leaves_no_room_counts_all_special_tokens(roberta: Path) -> None:
    qa = quiet(QuestionAnswerer(roberta))
    with pytest.raises(WindowError, match="4 special tokens leaves 0 tokens"):
        qa("Who?", TEXTS[1], max_seq_len=12, max_question_len=8)
    assert qa("Who?", TEXTS[1], max_seq_len=13, max_question_len=8, doc_stride=0).text


@pytest.mark.parametrize("token", ["<s>", "</s>", "<pad>", "<mask>"])
@pytest.mark.parametrize("kind", ["xlm-roberta", "albert"])
def test_special_tokens_in_a_text_are_text(kind: str, token: str, tmp_path: Path) -> None:
    qa = quiet(QuestionAnswerer(make(kind, tmp_path / "model")))
    (window,) = qa.reader.windows(
        f"Is {token} it?", f"It {token} is.", max_seq_len=64, doc_stride=0, max_question_len=32
    )
    tokenizer = qa.reader.tokenizer
    special = {tokenizer.cls, tokenizer.sep, tokenizer.pad}
    inside = [*window.ids[1 : window.offset - len(tokenizer.between)], *window.ids[window.offset : -1]]
    assert not special & set(map(int, inside))


def test_a_post_processor_at_odds_with_the_rest_changes_no_offset(roberta: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(roberta, tmp_path / "model"))
    content = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    content["pre_tokenizer"]["add_prefix_space"] = True
    (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    (piece,) = TextTokenizer(folder).text("Paris is big")
    assert (piece.start[0], piece.word_start[0], piece.word_end[-1]) == (0, 0, 12)


def test_a_template_of_another_form_is_one_line(roberta: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(roberta, tmp_path / "model"))
    content = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    special = {"id": "</s>", "ids": [2], "tokens": ["</s>"]}
    first, second, mark = ({"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}},
                           {"SpecialToken": {"id": "</s>", "type_id": 0}})  # fmt: skip
    content["post_processor"] = {
        "type": "TemplateProcessing", "single": [first, mark], "pair": [first, mark, second, mark],
        "special_tokens": {"</s>": special},
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    with pytest.raises(WindowError, match="puts 0, 1 and 1 special tokens"):
        QuestionAnswerer(folder)


def test_a_vocabulary_with_another_name_for_the_unknown(tmp_path: Path) -> None:
    words = ["<s>", "<pad>", "</s>", "<unk>", "paris"]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n", "utf-8")
    (piece,) = TextTokenizer(tmp_path).text("Paris Rome")
    assert piece.ids.tolist() == [4, 3]
    (tmp_path / "vocab.txt").write_text("\n".join([*words[:3], "paris"]) + "\n", "utf-8")
    with pytest.raises(WindowError, match=r"has no \[UNK\] or <unk>$"):
        TextTokenizer(tmp_path)


def test_settings_that_are_null_are_as_if_missing(tmp_path: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "paris"]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n", "utf-8")
    settings = {"do_lower_case": None, "tokenize_chinese_chars": None, "cls_token": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    (piece,) = TextTokenizer(tmp_path).text("Paris")
    assert piece.ids.tolist() == [4]


@pytest.mark.parametrize("kind", ["roberta", "xlm-roberta", "albert"])
def test_words_with_marks_are_whole_and_no_space_is_at_an_end(kind: str, tmp_path: Path) -> None:
    qa = quiet(QuestionAnswerer(make(kind, tmp_path / "model")))
    text = "Il est à Paris\u00a0: 19th\r\n🙂 cafe\u0301s et नमस्ते\u00a0!"
    answers = qa("Où est-il?", text, top_k=99, max_answer_len=4)
    for answer in answers:
        assert answer.text == answer.text.strip() != ""
        assert not answer.text.startswith(("\u0301", "s ", "ते", "्"))
        assert not answer.text.endswith(("cafe", "नमस", "नमस्"))


# What settings leave out


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("mpnet", {"pad_token_id": 0}),
        ("albert", {"hidden_act": None}),
        ("distilbert", {"layer_norm_eps": 1e-3}),
        ("bert", {"hidden_act": "gelu_python"}),
        ("electra", {"hidden_act": "gelu_fast"}),
    ],
    ids=str,
)
def test_settings_mean_what_they_mean_to_transformers(kind: str, changes: dict[str, Any], tmp_path: Path) -> None:
    folder = make(kind, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config = {name: value for name, value in {**config, **changes}.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    qa = quiet(QuestionAnswerer(folder))
    (window,) = qa.reader.windows(QUESTION, TEXTS[1], max_seq_len=384, doc_stride=0, max_question_len=64)
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(folder, dtype=torch.float32).eval()
    inputs = {"input_ids": [window.ids.tolist()], "attention_mask": [[1] * len(window)]}
    if qa.shape.typed:
        inputs["token_type_ids"] = [window.type_ids.tolist()]
    found = qa.reader.predict([window], [LengthConfig.full(qa.shape.layers)])
    for ours, wanted in zip(found[:2], read(model, inputs), strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("kind", "pad"), [("roberta", 0), ("xlm-roberta", 3)])
def test_a_model_that_takes_another_token_for_padding_is_one_line(kind: str, pad: int, tmp_path: Path) -> None:
    folder = make(kind, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "pad_token_id": pad}), "utf-8")
    with pytest.raises(WindowError, match=f"padding token has the id {pad}, which is '<") as caught:
        QuestionAnswerer(folder)
    assert "\n" not in str(caught.value)


# Distances


def test_distances_are_those_of_mpnet() -> None:
    encoder = transformers.models.mpnet.modeling_mpnet.MPNetEncoder
    buckets = np.arange(64, dtype=np.float32).reshape(32, 2)
    wanted = encoder.relative_position_bucket(torch.arange(1 - 600, 600)).numpy()
    np.testing.assert_array_equal(distance_bias(buckets, 600), np.stack([2 * wanted, 2 * wanted + 1], 1))


@pytest.mark.parametrize(
    ("buckets", "longest"), [(256, 512), (256, 1024), (32, 512), (20, 128), (5, 40), (4, 4), (-1, 512), (-1, 100)]
)
def test_buckets_are_those_of_deberta(buckets: int, longest: int) -> None:
    build = transformers.models.deberta_v2.modeling_deberta_v2.build_relative_position
    empty = torch.empty(1, 900, 1)
    span = buckets if buckets > 0 else longest
    wanted = torch.clamp(build(empty, empty, buckets, longest)[0] + span, 0, 2 * span - 1).numpy()
    relative = Disentangled(span=span, longest=longest if buckets > 0 else 0)
    by_distance = distance_buckets(relative, 900)
    np.testing.assert_array_equal(by_distance[899:], wanted[:, 0])
    np.testing.assert_array_equal(by_distance[:900], wanted[0, ::-1])


@pytest.mark.parametrize("base", [10_000.0, 160_000.0, 80_000.0])
def test_angles_are_those_of_modernbert(base: float) -> None:
    rotary = transformers.models.modernbert.modeling_modernbert.ModernBertRotaryEmbedding
    parameters = {"full_attention": {"rope_type": "default", "rope_theta": base}}
    config = transformers.ModernBertConfig(num_hidden_layers=1, rope_parameters=parameters)
    cos, sin = rotary(config)(torch.empty(1), torch.arange(8192)[None], "full_attention")
    angles = rotary_angles(base, 64, 8192)
    # An ulp of a frequency is 5e-4 of an angle at position 8192.
    np.testing.assert_allclose(np.cos(angles), cos[0, :, :32].numpy(), rtol=0, atol=1e-3)
    np.testing.assert_allclose(np.sin(angles)[:512], sin[0, :512, :32].numpy(), rtol=0, atol=5e-5)


def test_a_model_without_types_takes_the_parts_all_the_same(roberta: Path) -> None:
    opened = open_folder(roberta)
    runtime = Runtime(opened.shape, opened.weights)
    ids, lengths = np.full((1, 6), 7), np.full((1, 3), 6)
    ones = np.ones_like(ids)
    one, other = (runtime.run(ids, types, ones, lengths) for types in (ones, 0 * ones))
    np.testing.assert_array_equal(one.start, other.start)
    with pytest.raises(ValueError, match="token types from 0 to 1"):
        runtime.run(ids, 2 * ones, ones, lengths)
