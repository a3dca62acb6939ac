"""A teacher's stored logits: computed, written, found again by the windows' tokens, and refused when damaged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dynamic_tinybert.train.predict as predicting
from dynamic_tinybert.inference import TextTokenizer
from dynamic_tinybert.squad import Question
from dynamic_tinybert.train import TrainingError
from dynamic_tinybert.train.features import Feature, FeatureSettings, fingerprint, make_features
from dynamic_tinybert.train.logits import LogitsTable, StoredLogits, greatest_logits, read_table, window_keys
from dynamic_tinybert.train.models import Inputs
from dynamic_tinybert.train.predict import LogitsMaker, logits_of, plan_batches
from support.torch_models import tiny_bert


def feature(length: int, offset: int, begin: int = 5) -> Feature:
    return Feature(np.arange(begin, begin + length, dtype=np.int32), offset, ((offset, offset),))


FEATURES = [feature(12, 4), feature(6, 3), feature(30, 5), feature(9, 2)]


def predictor(model: Any) -> Any:
    """What `LogitsMaker` calls."""
    inputs = Inputs(model)
    return lambda batch: model(**inputs(batch))


def predicted(model: Any, window: Feature) -> list[torch.Tensor]:
    """Start and end logits of a window alone, `[tokens]` each."""
    ids = torch.from_numpy(window.ids.astype(np.int64))[None]
    types = (torch.arange(len(window)) >= window.offset).long()[None]
    with torch.no_grad():
        output = model(input_ids=ids, token_type_ids=types)
    return [output.start_logits[0], output.end_logits[0]]


def write_first_form(path: Path, features: Sequence[Feature], k: int = 8, have: list[bool] | None = None) -> None:
    """What earlier versions wrote: rows in the order of the features."""
    model = tiny_bert()
    index, value = np.zeros((len(features), 2, k), np.int16), np.full((len(features), 2, k), -1e4, np.float16)
    for row, window in enumerate(features):
        for side, logits in enumerate(predicted(model, window)):
            best, at = logits.topk(min(k, len(window)))
            index[row, side, : len(at)], value[row, side, : len(at)] = at, best
    arrays: dict[str, Any] = {"index": index, "value": value}
    if have is not None:
        arrays = {"index": index[have], "value": value[have], "have": np.array(have)}
    np.savez(path, **arrays, features=np.array(fingerprint(features)))


@pytest.fixture(scope="module")
def kept() -> StoredLogits:
    model = tiny_bert()
    return logits_of(model, Inputs(model), FEATURES, 0, 8, bf16=False)


@pytest.fixture
def path(kept: StoredLogits, tmp_path: Path) -> Path:
    kept.write(tmp_path / "logits.npz", FEATURES)
    return tmp_path / "logits.npz"


def same(a: StoredLogits, b: StoredLogits, rows: list[int]) -> bool:
    """Whether what was read is what was written, to the precision of 16 bits."""
    return torch.equal(a.index, b.index[rows]) and bool(
        ((a.value - b.value[rows]).abs() < 1e-3 * (1 + b.value[rows].abs())).all()
    )


# Computing


def test_they_are_the_greatest_logits_of_each_feature_and_the_share_that_they_hold(kept: StoredLogits) -> None:
    model = tiny_bert()
    assert kept.index.shape == kept.value.shape == (4, 2, 8)
    for row, window in enumerate(FEATURES):
        for side, logits in enumerate(predicted(model, window)):
            value, index = logits.log_softmax(0).topk(min(8, len(window)))
            assert torch.allclose(kept.value[row, side, : len(value)], value, atol=1e-2)
            assert torch.equal(kept.index[row, side, : len(index)], index)
            assert float(kept.mass[row, side]) == pytest.approx(float(value.exp().sum()), abs=1e-3)
    assert (kept.value[1, :, 6:] == -1e4).all()  # a window of 6 has no more
    assert (kept.index[1, :, 6:] == 0).all()
    assert kept.figures() == pytest.approx(
        {"mass_mean": float(kept.mass.mean()), "mass_min": float(kept.mass.min())}, abs=1e-6
    )
    assert 0.3 < kept.figures()["mass_min"] < kept.figures()["mass_mean"] < 1


def test_several_teachers_are_averaged_as_log_probabilities() -> None:
    models = [tiny_bert(), tiny_bert(num_hidden_layers=1)]
    maker = LogitsMaker(FEATURES, 8)
    maker.compute([predictor(model) for model in models], pad=0, batch_tokens=64)
    table = maker.table(["a", "b"])
    rows = table.find(window_keys(FEATURES))
    for row, window in zip(rows, FEATURES, strict=True):
        for side in (0, 1):
            first, second = (torch.softmax(predicted(model, window)[side].double(), 0) for model in models)
            mean = (first * second).sqrt()
            value, index = (mean / mean.sum()).topk(min(8, len(window)))
            assert table.index[row, side, : len(index)].tolist() == index.tolist()
            assert np.exp(table.value[row, side, : len(value)].astype(float)) == pytest.approx(value, rel=1e-2)
            assert table.mass[row, side] == pytest.approx(float(value.sum()), abs=1e-3)
    assert table.teachers == ("a", "b")


def test_windows_with_the_same_tokens_are_predicted_once_and_share_a_row(tmp_path: Path) -> None:
    model, seen = tiny_bert(), []
    inputs = Inputs(model)

    def predict(batch: dict[str, torch.Tensor]) -> Any:
        seen.append(len(batch["input_ids"]))
        return model(**inputs(batch))

    other = Feature(FEATURES[0].ids, FEATURES[0].offset, ((5, 6),))  # another answer in the same window
    features = [*FEATURES, other, FEATURES[2]]
    maker = LogitsMaker(features, 8)
    maker.compute([predict], pad=0)
    assert sum(seen) == len(FEATURES)
    maker.table().write(tmp_path / "logits.npz")
    stored = StoredLogits.read(tmp_path / "logits.npz", features)
    assert len(stored.index) == 6
    assert torch.equal(stored.value[[0, 2]], stored.value[[4, 5]])
    assert not torch.equal(stored.value[0], stored.value[2])


def test_the_same_ids_with_another_offset_are_another_window() -> None:
    keys = window_keys([feature(12, 4), feature(12, 5), feature(12, 4), feature(13, 4)])
    assert keys[0] == keys[2]
    assert len(set(keys.tolist())) == 3


def test_batches_hold_every_window_once_and_no_more_tokens_than_allowed() -> None:
    lengths = np.random.default_rng(0).integers(5, 120, 500)
    rows = np.flatnonzero(np.arange(500) % 3)
    batches = plan_batches(lengths, rows, 256)
    assert sorted(np.concatenate(batches)) == rows.tolist()
    assert all(len(batch) * -(-lengths[batch].max() // 16) * 16 <= 256 for batch in batches)
    assert [b.tolist() for b in batches] == [b.tolist() for b in plan_batches(lengths, rows, 256)]
    assert {len(batch) for batch in plan_batches(lengths, rows, 1)} == {1}  # a window too long is a batch of its own
    assert plan_batches(lengths, rows[:0], 256) == []


def test_a_teacher_reads_no_more_positions_than_it_has() -> None:
    model = tiny_bert(max_position_embeddings=37)  # a multiple of 16 would be 48
    features = [feature(37, 5), feature(4, 2)]
    stored = logits_of(model, Inputs(model), features, 0, 4, bf16=False)
    best, at = predicted(model, features[0])[0].log_softmax(0).topk(4)
    assert torch.equal(stored.index[0, 0], at)
    assert torch.allclose(stored.value[0, 0], best, atol=1e-2)


def test_logits_that_are_no_numbers_are_refused() -> None:
    model = tiny_bert()
    with torch.no_grad():
        model.qa_outputs.bias[1] = torch.nan
    with pytest.raises(TrainingError, match="logits are NaN or infinite: set precision: fp32"):
        logits_of(model, Inputs(model), FEATURES, 0, 8, bf16=False)


def test_a_computation_that_was_stopped_goes_on_and_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, features = tiny_bert(), [feature(6 + n % 20, 3, 5 + n) for n in range(20)]
    inputs, part, batches = Inputs(model), tmp_path / "part.npz", []
    monkeypatch.setattr(predicting, "_SAVE_EVERY", 0.0)

    def run(stop: int = 0) -> LogitsMaker:
        def predict(batch: dict[str, torch.Tensor]) -> Any:
            batches.append(len(batch["input_ids"]))
            if len(batches) == stop:
                raise KeyboardInterrupt
            return model(**inputs(batch))

        maker = LogitsMaker(features, 8)
        maker.resume(part)
        maker.compute([predict], pad=0, batch_tokens=96, part=part)
        return maker

    run().table().write(tmp_path / "whole.npz")
    part.unlink()
    at_once = batches.copy()
    batches.clear()
    with pytest.raises(KeyboardInterrupt):
        run(stop=4)
    batches.clear()
    run().table().write(tmp_path / "resumed.npz")
    assert batches == at_once[3:]  # the three that were saved are not computed again
    assert (tmp_path / "resumed.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


@pytest.mark.parametrize("k", [4, 8, 12])
def test_windows_of_an_earlier_file_are_taken_over(k: int, kept: StoredLogits, path: Path) -> None:
    model, more = tiny_bert(), feature(20, 4, 9)
    maker = LogitsMaker([more, *FEATURES[:3]], k, read_table(path, []))
    assert (maker.taken, maker.missing) == (3, 1)
    maker.compute([predictor(model)], pad=0)
    table = maker.table()
    fresh = logits_of(model, Inputs(model), [more, *FEATURES[:3]], 0, k, bf16=False)
    rows = table.find(window_keys([more, *FEATURES[:3]]))
    some = min(k, 8)
    assert table.index[rows][..., :some].tolist() == fresh.index[..., :some].tolist()
    wanted = fresh.mass if k <= 8 else torch.cat([fresh.mass[:1], kept.mass[:3]])
    assert np.allclose(table.mass[rows], wanted, atol=2e-3)  # of 12, an earlier file of 8 knows no more
    assert (table.value[rows[1:]][..., 8:] == -1e4).all()


# Files


def test_they_are_read_back(kept: StoredLogits, path: Path) -> None:
    assert same(StoredLogits.read(path, FEATURES), kept, [0, 1, 2, 3])
    assert [file.name for file in path.parent.iterdir()] == ["logits.npz"]


@pytest.mark.parametrize("rows", [[3, 0, 2, 1], [2], [1, 1, 0], []])
def test_subsets_and_other_orders_are_read(rows: list[int], kept: StoredLogits, path: Path) -> None:
    assert same(StoredLogits.read(path, [FEATURES[row] for row in rows]), kept, rows)


def test_what_was_read_can_be_written_for_a_subset(kept: StoredLogits, path: Path) -> None:
    some = [FEATURES[2], FEATURES[0], FEATURES[2]]
    StoredLogits.read(path, some).write(path, some)
    assert len(read_table(path, []).keys) == 2
    assert same(StoredLogits.read(path, FEATURES[:1]), kept, [0])
    with pytest.raises(TrainingError, match="lacks the logits of 1 of 3 windows"):
        StoredLogits.read(path, [FEATURES[0], FEATURES[3], FEATURES[2]])


def test_windows_that_are_missing_are_counted_and_the_first_is_named(path: Path, embedded: Path) -> None:
    with pytest.raises(TrainingError, match=r"lacks the logits of 2 of 3 windows.* ids 7, 8, 9, .*stage.* logits") as e:
        StoredLogits.read(path, [FEATURES[0], feature(12, 4, 7), feature(9, 3)])
    assert "\n" not in str(e.value)
    tokenizer = TextTokenizer(embedded)
    question = Question(
        id="1",
        title="Orte",
        question="Wer wohnt in Łódź — Zoë?",
        context="Zoë wohnt in Łódź 🏠.",
        answers=("Zoë",),
        answer_starts=(0,),
        impossible=False,
    )
    features = make_features(tokenizer, [question], FeatureSettings())
    with pytest.raises(TrainingError, match="1 of 1 windows, the first is of the question 'wer wohnt in łodz — zoe"):
        StoredLogits.read(path, features, tokenizer.words)


def test_many_features_are_found(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    features = [Feature(draw.integers(0, 30522, 12, dtype=np.int32), 4, ((4, 4),)) for _ in range(30_000)]
    index = draw.integers(0, 12, (30_000, 2, 4))
    value = -np.sort(draw.exponential(3, (30_000, 2, 4)))
    LogitsTable.of(window_keys(features), index, value, np.ones((30_000, 2))).write(tmp_path / "logits.npz")
    order = draw.permutation(30_000)[:20_000]
    stored = StoredLogits.read(tmp_path / "logits.npz", [features[at] for at in order])
    assert np.array_equal(stored.index.numpy(), index[order])


@pytest.mark.parametrize("damage", ["missing", "empty", "text", "half", "most", "folder", "one array", "other arrays"])
def test_a_damaged_file_is_one_line(damage: str, path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage == "one array":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif damage == "other arrays":
        np.savez(path, other=np.zeros(3))
    elif damage != "missing":
        size = len(content)
        path.write_bytes({"empty": b"", "text": b"{}", "half": content[: size // 2], "most": content[:-30]}[damage])
    with pytest.raises(TrainingError, match="is not a file of stored logits") as error:
        StoredLogits.read(path, FEATURES)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_a_file_with_a_wrong_byte_is_one_line(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[120] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(TrainingError, match="is not a file of stored logits"):
        StoredLogits.read(path, FEATURES)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("form", np.array(3), "is of form 3, and this version reads forms 1 and 2"),
        ("keys", np.zeros(4, "S16"), "keys are not sorted"),
        ("keys", np.zeros(3, "S16"), r"keys is \|S16 \[3\], not \|S16 \[4\]"),
        ("mass", np.zeros((4, 2)), "mass is float64"),
        ("index", np.full((4, 2, 8), -1, np.int16), "below 0"),
        ("value", np.full((4, 2, 8), np.nan, np.float16), "NaN"),
        ("teachers", np.array("{"), "is not a file of stored logits"),
    ],
)
def test_a_file_of_a_wrong_form_is_one_line(name: str, value: Any, says: str, path: Path) -> None:
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **{**arrays, name: value})
    with pytest.raises(TrainingError, match=says) as error:
        StoredLogits.read(path, FEATURES)
    assert "\n" not in str(error.value)


def test_tokens_that_a_window_does_not_have_are_refused(path: Path) -> None:
    table = read_table(path, [])
    row = table.find(window_keys(FEATURES[1:2]))[0]
    table.index[row, 0, 0] = 6
    table.write(path)
    StoredLogits.read(path, FEATURES[2:])
    with pytest.raises(TrainingError, match="is damaged: it gives 1 windows logits of tokens that they do not have"):
        StoredLogits.read(path, FEATURES)


def test_pickles_are_not_loaded(path: Path) -> None:
    np.savez(path, form=np.array(2), keys=np.array([{}], object))
    with pytest.raises(TrainingError, match="allow_pickle"):
        StoredLogits.read(path, FEATURES)


# The first form


def test_a_file_of_the_first_form_is_read_for_its_features_and_becomes_one_of_the_present(
    kept: StoredLogits, tmp_path: Path
) -> None:
    path = tmp_path / "old.npz"
    write_first_form(path, FEATURES)
    stored = StoredLogits.read(path, FEATURES)
    assert torch.equal(stored.index, kept.index)
    shifted = (stored.value - kept.value)[:, :, :6]
    assert (shifted - shifted[..., :1]).abs().max() < 0.02  # equal up to a constant
    assert stored.mass.isnan().all()
    assert stored.figures() == {}
    stored.write(tmp_path / "new.npz", FEATURES)
    again = StoredLogits.read(tmp_path / "new.npz", FEATURES[::-1])
    assert torch.equal(again.value, stored.value.flip(0))


def test_a_file_of_the_first_form_serves_no_other_features(tmp_path: Path) -> None:
    write_first_form(tmp_path / "old.npz", FEATURES)
    for others in (FEATURES[:3], FEATURES[::-1]):
        with pytest.raises(TrainingError, match=rf"are of other features \(4, here are {len(others)}\).*convert") as e:
            StoredLogits.read(tmp_path / "old.npz", others)
        assert "\n" not in str(e.value)


def test_a_part_of_the_first_form_is_taken_over(tmp_path: Path) -> None:
    write_first_form(tmp_path / "part.npz", FEATURES, have=[True, False, True, False])
    maker = LogitsMaker(FEATURES, 8, read_table(tmp_path / "part.npz", FEATURES))
    assert (maker.taken, maker.missing) == (2, 2)
    with pytest.raises(TrainingError, match="lacks the logits of 2 of 4 windows"):
        StoredLogits.read(tmp_path / "part.npz", FEATURES)


def test_a_first_form_whose_arrays_do_not_fit_is_one_line(tmp_path: Path) -> None:
    write_first_form(tmp_path / "old.npz", FEATURES, have=[True, False, True, False])
    with np.load(tmp_path / "old.npz") as file:
        arrays = {**file, "have": np.ones(4, bool)}
    np.savez(tmp_path / "old.npz", **arrays)
    with pytest.raises(TrainingError, match="arrays do not match each other"):
        StoredLogits.read(tmp_path / "old.npz", FEATURES)


def test_an_index_of_the_first_form_that_lies_in_padding_is_not_followed(tmp_path: Path) -> None:
    """Earlier versions kept tokens of the padding of their batch for windows shorter than k."""
    write_first_form(tmp_path / "old.npz", FEATURES)
    with np.load(tmp_path / "old.npz") as file:
        arrays = dict(file)
    arrays["index"][1, :, 6:] = 25
    np.savez(tmp_path / "old.npz", **arrays)
    assert int(StoredLogits.read(tmp_path / "old.npz", FEATURES).index[1].max()) < 6


def test_one_teacher_is_its_own_mean() -> None:
    mask = torch.tensor([[1, 1, 1, 0]])
    output = type("Output", (), {"start_logits": torch.tensor([[1.0, 3.0, 2.0, 9.0]]), "end_logits": torch.zeros(1, 4)})
    index, value, mass = greatest_logits([output, output], mask, 2)
    assert index[0, 0].tolist() == [1, 2]
    assert torch.allclose(value[0, 0], torch.tensor([1.0, 3.0, 2.0]).log_softmax(0)[[1, 2]])
    assert mass[0].tolist() == pytest.approx([float(value[0, 0].exp().sum()), 2 / 3])
