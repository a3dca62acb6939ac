"""Each loss against a value computed by hand; padding counts in none."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dynamic_tinybert.train.features import NO_SPAN
from dynamic_tinybert.train.losses import (
    divergence,
    hidden_loss,
    log_probabilities,
    relation_loss,
    score_loss,
    significance_loss,
    soft_cross_entropy,
    span_loss,
    stored_cross_entropy,
)

# Two rows, of 4 and of 2 real tokens.
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
START = torch.tensor([[0.5, 2.0, -1.0, 0.0], [1.0, -0.5, 9.0, 9.0]])
END = torch.tensor([[0.0, -1.0, 1.5, 0.5], [0.2, 0.4, 9.0, -9.0]])
OTHER = torch.tensor([[1.0, 1.0, 0.0, -2.0], [-1.0, 2.0, 5.0, 5.0]])


def softmax(values: list[float]) -> np.ndarray:
    exponents = np.exp(np.array(values) - max(values))
    return exponents / exponents.sum()


def rows(logits: Tensor) -> list[list[float]]:
    """The real logits of each row."""
    return [logits[row, : int(count)].tolist() for row, count in enumerate(MASK.sum(1))]


def repadded(logits: Tensor) -> Tensor:
    """The same with other values at padding."""
    return torch.where(MASK[(...,) + (None,) * (logits.ndim - 2)] == 1, logits, torch.full_like(logits, -3.75))


def states(hidden: int, seed: int) -> Tensor:
    return torch.randn(2, 4, hidden, generator=torch.Generator().manual_seed(seed))


def scores(seed: int) -> Tensor:
    return torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed))


# Probabilities.


def test_log_probabilities() -> None:
    found = log_probabilities(START, MASK).exp()
    assert torch.allclose(found.sum(1), torch.ones(2))
    assert found[1, 2:].tolist() == [0.0, 0.0]
    for row, wanted in enumerate(rows(START)):
        np.testing.assert_allclose(found[row, : len(wanted)], softmax(wanted), rtol=1e-6)
    warm = log_probabilities(START, MASK, 2.0).exp()
    np.testing.assert_allclose(warm[0], softmax([0.25, 1.0, -0.5, 0.0]), rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_log_probabilities_are_computed_in_float32(dtype: torch.dtype) -> None:
    found = log_probabilities(START.to(dtype), MASK)
    assert found.dtype == torch.float32
    assert torch.isfinite(found).all()


# Labels.


def test_with_one_span_it_is_the_mean_cross_entropy_of_start_and_end() -> None:
    spans = torch.tensor([[[1, 2]], [[0, 1]]])
    by_hand = [
        -(math.log(softmax(start)[a]) + math.log(softmax(end)[b])) / 2
        for start, end, (a, b) in zip(rows(START), rows(END), [(1, 2), (0, 1)], strict=True)
    ]
    assert span_loss(START, END, MASK, spans).item() == pytest.approx(sum(by_hand) / 2, rel=1e-6)
    # As transformers computes it, where nothing is padded.
    everything = torch.ones_like(MASK)
    cross = torch.nn.functional.cross_entropy
    theirs = (cross(START, spans[:, 0, 0]) + cross(END, spans[:, 0, 1])) / 2
    assert span_loss(START, END, everything, spans).item() == pytest.approx(theirs.item(), rel=1e-6)


def test_a_number_written_out() -> None:
    """Uniform logits over 4 and 2 tokens: ln 4 and ln 2, their mean."""
    spans = torch.tensor([[[1, 2]], [[0, 0]]])
    nothing = torch.zeros(2, 4)
    assert span_loss(nothing, nothing, MASK, spans).item() == pytest.approx((math.log(4) + math.log(2)) / 2)
    # Two of the 16 pairs are right in the first row.
    spans = torch.tensor([[[1, 2], [3, 3]], [[0, 0], [NO_SPAN, NO_SPAN]]])
    wanted = (-math.log(2 / 16) - math.log(1 / 4)) / 2 / 2
    assert span_loss(nothing, nothing, MASK, spans).item() == pytest.approx(wanted)


def test_with_several_spans_their_probabilities_as_pairs_add_up() -> None:
    spans = torch.tensor([[[1, 2], [0, 0], [3, 3]], [[0, 1], [NO_SPAN, NO_SPAN], [NO_SPAN, NO_SPAN]]])
    start, end = [softmax(x) for x in rows(START)], [softmax(x) for x in rows(END)]
    first = start[0][1] * end[0][2] + start[0][0] * end[0][0] + start[0][3] * end[0][3]
    second = start[1][0] * end[1][1]
    wanted = -(math.log(first) + math.log(second)) / 2 / 2
    assert span_loss(START, END, MASK, spans).item() == pytest.approx(wanted, rel=1e-6)
    assert span_loss(START, END, MASK, spans) < span_loss(START, END, MASK, spans[:, :1])


def test_filling_up_spans_changes_nothing() -> None:
    spans = torch.tensor([[[1, 2]], [[0, 1]]])
    filled = torch.cat([spans, torch.full((2, 5, 2), NO_SPAN)], 1)
    assert span_loss(START, END, MASK, filled).item() == pytest.approx(span_loss(START, END, MASK, spans).item())


def test_the_gradient_of_filled_up_spans_is_finite_and_that_of_padding_zero() -> None:
    start, end = START.clone().requires_grad_(), END.clone().requires_grad_()
    spans = torch.tensor([[[1, 2], [0, 0]], [[0, 1], [NO_SPAN, NO_SPAN]]])
    span_loss(start, end, MASK, spans).backward()
    for logits in (start, end):
        assert torch.isfinite(logits.grad).all()
        assert (logits.grad[MASK == 0] == 0).all()
        assert logits.grad[1, :2].abs().sum() > 0


# Soft labels.


@pytest.mark.parametrize("temperature", [1.0, 2.0, 0.5])
def test_soft_cross_entropy(temperature: float) -> None:
    by_hand = []
    for mine, theirs in zip(rows(START), rows(OTHER), strict=True):
        p = softmax([x / temperature for x in theirs])
        q = softmax([x / temperature for x in mine])
        by_hand.append(-(p * np.log(q)).sum() * temperature**2)
    found = soft_cross_entropy(START, OTHER, MASK, temperature).item()
    assert found == pytest.approx(np.mean(by_hand), rel=1e-5)


def test_the_gradient_keeps_its_size_whatever_the_temperature() -> None:
    sizes = []
    for temperature in (5.0, 10.0, 20.0):
        mine = START.clone().requires_grad_()
        soft_cross_entropy(mine, OTHER, MASK, temperature).backward()
        sizes.append(mine.grad.norm().item())
    assert max(sizes) < 1.2 * min(sizes)


def test_of_a_sure_teacher_soft_is_hard() -> None:
    sure = torch.full((2, 4), -500.0)
    sure[0, 2] = sure[1, 1] = 500.0
    wanted = -(math.log(softmax(rows(START)[0])[2]) + math.log(softmax(rows(START)[1])[1])) / 2
    assert soft_cross_entropy(START, sure, MASK).item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_stored_logits_of_all_tokens_are_a_live_teacher(temperature: float) -> None:
    masked = OTHER.masked_fill(MASK == 0, -1e4)  # as they are stored
    value, index = masked.topk(4)
    found = stored_cross_entropy(START, index, value, MASK, temperature)
    live = soft_cross_entropy(START, OTHER, MASK, temperature)
    assert found.item() == pytest.approx(live.item(), rel=1e-5)


def test_stored_logits_of_a_few_tokens_are_renormalized() -> None:
    index, value = torch.tensor([[0, 1], [1, 0]]), torch.tensor([[1.0, 1.0], [2.0, -1.0]])
    q = [np.log(softmax(x)) for x in rows(START)]
    p = softmax([2.0, -1.0])
    wanted = -(q[0][0] / 2 + q[0][1] / 2 + p[0] * q[1][1] + p[1] * q[1][0]) / 2
    assert stored_cross_entropy(START, index, value, MASK).item() == pytest.approx(wanted, rel=1e-5)


def test_unused_places_of_stored_logits_count_nothing() -> None:
    """A window shorter than k is filled up with token 0 at -1e4."""
    index, value = torch.tensor([[1, 2], [1, 0]]), torch.tensor([[1.0, 0.5], [2.0, -1.0]])
    more_index = torch.cat([index, torch.zeros(2, 3, dtype=torch.long)], 1)
    more_value = torch.cat([value, torch.full((2, 3), -1e4)], 1)
    wanted = stored_cross_entropy(START, index, value, MASK).item()
    assert stored_cross_entropy(START, more_index, more_value, MASK).item() == pytest.approx(wanted)


def test_divergence() -> None:
    by_hand = []
    for mine, theirs in zip(rows(START), rows(OTHER), strict=True):
        p, q = softmax(theirs), softmax(mine)
        by_hand.append((p * np.log(p / q)).sum())
    assert divergence(START, OTHER, MASK).item() == pytest.approx(np.mean(by_hand), rel=1e-5)


def test_divergence_is_zero_at_equality_and_greater_elsewhere() -> None:
    assert divergence(START, START, MASK).item() == pytest.approx(0, abs=1e-7)
    assert divergence(START, START + 3.0, MASK).item() == pytest.approx(0, abs=1e-6)  # logits are told up to a constant
    assert divergence(START, OTHER, MASK).item() > 0.1


# What is inside.


def test_hidden_loss() -> None:
    mine, theirs = states(5, 0), states(5, 1)
    errors = [((mine[row, i] - theirs[row, i]) ** 2).mean().item() for row, i in [(0, 0), (0, 1), (0, 2), (0, 3)]]
    errors += [((mine[1, i] - theirs[1, i]) ** 2).mean().item() for i in (0, 1)]
    assert hidden_loss(mine, theirs, MASK).item() == pytest.approx(sum(errors) / 6, rel=1e-5)
    assert hidden_loss(torch.zeros(2, 4, 5), torch.full((2, 4, 5), 3.0), MASK).item() == pytest.approx(9.0)


def test_score_loss() -> None:
    mine, theirs = scores(0), scores(1)
    total, count = 0.0, 0
    for row, length in ((0, 4), (1, 2)):
        for head in range(3):
            for i in range(length):
                for j in range(length):
                    total += (mine[row, head, i, j] - theirs[row, head, i, j]).item() ** 2
                    count += 1
    assert count == 3 * (16 + 4)
    assert score_loss(mine, theirs, MASK).item() == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize(("width", "others", "heads"), [(6, 6, 2), (6, 8, 2), (12, 6, 3), (4, 10, 1)])
def test_relation_loss(width: int, others: int, heads: int) -> None:
    mine, theirs = states(width, 0), states(others, 1)
    total, tokens = 0.0, 0
    for row, length in ((0, 4), (1, 2)):
        for i in range(length):
            tokens += 1
            for head in range(heads):
                distributions = []
                for x in (mine, theirs):
                    size = x.shape[-1] // heads
                    part = x[row, :length, head * size : (head + 1) * size].double().numpy()
                    distributions.append(softmax((part[i] @ part.T / math.sqrt(size)).tolist()))
                q, p = distributions
                total += (p * np.log(p / q)).sum() / heads
    assert relation_loss(mine, theirs, MASK, heads).item() == pytest.approx(total / tokens, rel=1e-4)


def test_relation_loss_is_zero_where_relations_are_equal() -> None:
    mine = states(6, 0)
    assert relation_loss(mine, mine.clone(), MASK, 3).item() == pytest.approx(0, abs=1e-6)
    turned = mine @ torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(2)))[0]
    assert relation_loss(mine, turned, MASK, 1).item() == pytest.approx(0, abs=1e-5)  # only products count


# Which tokens matter.

# 2 layers, 2 rows, 4 tokens; the second row's last token is gone after the first layer.
VOTES = torch.tensor([[[9.0, 1.0, 2.0, 1.0], [5.0, 3.0, 1.0, 4.0]], [[9.0, 2.0, 1.0, 1.0], [5.0, 3.0, 1.0, 0.0]]])


def test_significance_loss() -> None:
    spans = torch.tensor([[[1, 2], [NO_SPAN, NO_SPAN]], [[3, 3], [1, 1]]])
    shares = [1 / 4, 2 / 4, 7 / 8, 7 / 8]  # of the first token, of the last, row by row; [CLS] counts for nothing
    shares += [2 / 4, 1 / 4, 3 / 4, 3 / 4]  # of the second row one of two answers is left
    wanted = -sum(map(math.log, shares)) / 8
    assert significance_loss(VOTES, spans).item() == pytest.approx(wanted, rel=1e-5)


def test_who_has_no_answer_or_lost_it_has_no_part_in_significance() -> None:
    first = torch.tensor([[[1, 2]], [[0, 0]]])
    assert significance_loss(VOTES, first).item() == pytest.approx(
        significance_loss(VOTES[:, :1], first[:1]).item(), rel=1e-5
    )
    lost = torch.tensor([[[NO_SPAN, NO_SPAN]], [[3, 3]]])
    assert significance_loss(VOTES, lost).item() == pytest.approx(-math.log(4 / 8), rel=1e-5)
    assert significance_loss(VOTES, torch.zeros(2, 1, 2, dtype=torch.long)).item() == 0


def test_significance_draws_votes_to_answers() -> None:
    votes = VOTES.clone().requires_grad_()
    significance_loss(votes, torch.tensor([[[1, 1]], [[3, 3]]])).backward()
    assert torch.isfinite(votes.grad).all()
    assert (votes.grad[:, :, 0] == 0).all()  # [CLS] stays whatever it gets
    assert (votes.grad[:, 0, 1] < 0).all()
    assert (votes.grad[:, 0, 2:] > 0).all()


# What holds of them all.

TWO_SIDED: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Tensor, Tensor]] = {
    "soft_cross_entropy": (lambda a, b: soft_cross_entropy(a, b, MASK, 2.0), START, OTHER),
    "divergence": (lambda a, b: divergence(a, b, MASK), START, OTHER),
    "hidden_loss": (lambda a, b: hidden_loss(a, b, MASK), states(5, 0), states(5, 1)),
    "score_loss": (lambda a, b: score_loss(a, b, MASK), scores(0), scores(1)),
    "relation_loss": (lambda a, b: relation_loss(a, b, MASK, 2), states(4, 0), states(6, 1)),
}


@pytest.mark.parametrize("name", TWO_SIDED)
def test_the_student_learns_and_the_teacher_does_not(name: str) -> None:
    loss, student, teacher = TWO_SIDED[name]
    student, teacher = student.clone().requires_grad_(), teacher.clone().requires_grad_()
    loss(student, teacher).backward()
    assert teacher.grad is None
    assert torch.isfinite(student.grad).all()
    padding = MASK == 0
    if name == "score_loss":  # [batch, heads, tokens, tokens]: of queries, and of keys
        assert (student.grad.transpose(1, 2)[padding] == 0).all()
        assert (student.grad.permute(0, 3, 1, 2)[padding] == 0).all()
    else:
        assert (student.grad[padding] == 0).all()
    assert student.grad.abs().sum() > 0


@pytest.mark.parametrize("name", TWO_SIDED)
def test_padding_counts_nowhere(name: str) -> None:
    loss, student, teacher = TWO_SIDED[name]
    if name == "score_loss":
        pairs = (MASK[:, None, :, None] * MASK[:, None, None, :]) == 1
        other = torch.where(pairs, student, torch.full_like(student, 8.0))
        third = torch.where(pairs, teacher, torch.full_like(teacher, -8.0))
    else:
        other, third = repadded(student), repadded(teacher)
    assert not torch.equal(other, student)
    assert loss(other, third).item() == pytest.approx(loss(student, teacher).item(), rel=1e-6)


@pytest.mark.parametrize("name", TWO_SIDED)
def test_more_padding_counts_nowhere(name: str) -> None:
    """Columns of padding that a longer neighbour brings."""
    _, student, teacher = TWO_SIDED[name]
    alone, wide = ([x[1:2, :2], x[1:2]] for x in (student, teacher))
    if name == "score_loss":
        alone, wide = ([x[1:2, :, :2, :2], x[1:2]] for x in (student, teacher))
    functions: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
        "soft_cross_entropy": lambda a, b, m: soft_cross_entropy(a, b, m, 2.0),
        "divergence": divergence,
        "hidden_loss": hidden_loss,
        "score_loss": score_loss,
        "relation_loss": lambda a, b, m: relation_loss(a, b, m, 2),
    }
    function = functions[name]
    short = function(alone[0], wide[0], MASK[1:2, :2])
    long = function(alone[1], wide[1], MASK[1:2])
    assert short.item() == pytest.approx(long.item(), rel=1e-5)


def test_padding_counts_nowhere_in_labels() -> None:
    spans = torch.tensor([[[1, 2], [0, 0]], [[0, 1], [NO_SPAN, NO_SPAN]]])
    wanted = span_loss(START, END, MASK, spans).item()
    assert span_loss(repadded(START), repadded(END), MASK, spans).item() == pytest.approx(wanted, rel=1e-6)
    index, value = torch.tensor([[0, 1], [1, 0]]), torch.tensor([[1.0, 1.0], [2.0, -1.0]])
    wanted = stored_cross_entropy(START, index, value, MASK).item()
    assert stored_cross_entropy(repadded(START), index, value, MASK).item() == pytest.approx(wanted, rel=1e-6)


@given(
    st.lists(st.floats(-30, 30), min_size=3, max_size=3),
    st.lists(st.floats(-30, 30), min_size=3, max_size=3),
    st.floats(0.1, 20),
)
def test_no_soft_loss_is_below_what_the_teacher_would_have(
    mine: list[float], theirs: list[float], temperature: float
) -> None:
    mask = torch.ones(1, 3)
    a, b = torch.tensor([mine]), torch.tensor([theirs])
    assert torch.isfinite(divergence(a, b, mask))
    assert divergence(a, b, mask) >= -1e-5
    least = soft_cross_entropy(b, b, mask, temperature)
    assert soft_cross_entropy(a, b, mask, temperature) >= least - 1e-4 * max(1, temperature**2)
