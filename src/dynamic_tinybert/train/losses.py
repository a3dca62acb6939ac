"""Loss functions of training. None of them counts padding."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dynamic_tinybert.train.features import NO_SPAN

_TINY = 1e-6
_NEVER = -1e4  # a logit with probability 0, within float16's range


def log_probabilities(logits: Tensor, mask: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the log-softmax over the tokens that are not padding, in float32.

    Args:
        logits: Start or end logits, `[batch, tokens]`.
        mask: 1 for a token and 0 for padding, `[batch, tokens]`.
        temperature: The logits are divided by it.
    """
    return (logits.float() / temperature).masked_fill(mask == 0, _NEVER).log_softmax(-1)


def span_loss(start: Tensor, end: Tensor, mask: Tensor, spans: Tensor) -> Tensor:
    """Return half the negative log of the summed probability of all correct spans; the mean over a batch.

    With one span, this is the mean of the cross-entropies of start and end. With several spans, it is half the negative
    log of the marginal likelihood of Clark and Gardner (2018), over spans as pairs.

    Args:
        start: Start logits, `[batch, tokens]`.
        end: End logits, likewise.
        mask: 1 for a token and 0 for padding, `[batch, tokens]`.
        spans: First and last token of each correct span, `[batch, spans, 2]`, padded with `NO_SPAN`.
    """
    there = spans[..., 0] != NO_SPAN
    at = spans.clamp(min=0)
    both = log_probabilities(start, mask).gather(1, at[..., 0]) + log_probabilities(end, mask).gather(1, at[..., 1])
    return -both.masked_fill(~there, -math.inf).logsumexp(-1).mean() / 2


def soft_cross_entropy(student: Tensor, teacher: Tensor, mask: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the cross-entropy of a student's distribution against a teacher's; the mean over a batch.

    The temperature T softens both, and the loss is multiplied by T squared, so that its gradient keeps its size (Hinton
    et al., 2015).

    Args:
        student: Logits, `[batch, tokens]`.
        teacher: Logits, likewise; they get no gradient.
        mask: 1 for a token and 0 for padding, `[batch, tokens]`.
        temperature: T.
    """
    goal = log_probabilities(teacher.detach(), mask, temperature).exp()
    return -(goal * log_probabilities(student, mask, temperature)).sum(-1).mean() * temperature**2


def stored_cross_entropy(
    student: Tensor, index: Tensor, value: Tensor, mask: Tensor, temperature: float = 1.0
) -> Tensor:
    """Return `soft_cross_entropy` against the greatest logits of a teacher; other tokens have probability 0.

    Args:
        student: Logits, `[batch, tokens]`.
        index: The tokens of the teacher's greatest logits, `[batch, k]`.
        value: These logits, `[batch, k]`.
        mask: 1 for a token and 0 for padding, `[batch, tokens]`.
        temperature: T.
    """
    goal = (value.float() / temperature).softmax(-1)
    return -(goal * log_probabilities(student, mask, temperature).gather(1, index)).sum(-1).mean() * temperature**2


def divergence(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of a student's distribution from a teacher's, in nats.

    It is the loss of in-place distillation (Kim and Cho, 2020): a sub-model learns from the full model.

    Args:
        student: Logits, `[batch, tokens]`.
        teacher: Logits, likewise; they get no gradient.
        mask: 1 for a token and 0 for padding, `[batch, tokens]`.
    """
    goal = log_probabilities(teacher.detach(), mask)
    return (goal.exp() * (goal - log_probabilities(student, mask))).sum(-1).mean()


def significance_loss(votes: Tensor, spans: Tensor) -> Tensor:
    """Return the negative log of the share of the attention that answers receive, so that significance is learned.

    Drop-and-restore chooses tokens by the attention that they receive, and this choice has no gradient. This loss has
    one: in each layer, it rewards attention to the first and last tokens of correct spans that were not dropped before.
    Attention to the first token of the window does not count, since that token always stays.

    Args:
        votes: The attention that each token received, `[layers, batch, tokens]`, 0 for padding and dropped tokens.
        spans: First and last token of each correct span, `[batch, spans, 2]`, padded with `NO_SPAN`. A span at 0 means
            that there is no answer; such a row does not count.

    Returns:
        The mean over layers, over first and last tokens, and over the rows whose answer is left; 0 if there are none.
    """
    there = spans[..., 0] > 0
    wanted = torch.zeros(2, *votes.shape[1:], dtype=votes.dtype, device=votes.device)  # first tokens, last tokens
    wanted.scatter_(2, spans.clamp(min=0).permute(2, 0, 1), there.to(votes.dtype).expand(2, *there.shape))
    votes = torch.cat([torch.zeros_like(votes[..., :1]), votes[..., 1:]], -1)
    got = (votes[:, None] * wanted).sum(-1) / votes.sum(-1).clamp(min=_TINY)[:, None]
    alive = got.detach() > 0
    return -(got.clamp(min=_TINY).log() * alive).sum() / alive.sum().clamp(min=1)


def hidden_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Return the mean squared error of states, over the tokens of a batch that are not padding.

    Args:
        student: States, `[batch, tokens, hidden]`, projected to the teacher's width.
        teacher: States, likewise.
        mask: 1 for a token and 0 for padding, `[batch, tokens]`.
    """
    error = (student.float() - teacher.detach().float()).square().mean(-1)
    return (error * mask).sum() / mask.sum()


def score_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Return the mean squared error of attention scores before the softmax, over heads and token pairs.

    Source: Jiao et al. (2020).

    Args:
        student: Scores, `[batch, heads, tokens, tokens]`.
        teacher: Scores, likewise.
        mask: 1 for a token and 0 for padding, `[batch, tokens]`.
    """
    pairs = mask[:, :, None] * mask[:, None, :]
    error = (student.float() - teacher.detach().float()).square().mean(1)
    return (error * pairs).sum() / pairs.sum()


def relation_loss(student: Tensor, teacher: Tensor, mask: Tensor, heads: int) -> Tensor:
    """Return the divergence of the self-attention relations of MiniLMv2 (Wang et al., 2021), in nats.

    The relations of a token are the softmax of the scaled products of its vector with those of all tokens that are not
    padding. They are compared head by head, so the hidden sizes may differ. The loss is the mean over tokens and heads.

    Args:
        student: Queries, keys or values, `[batch, tokens, hidden]`.
        teacher: The same of the teacher, with its own hidden size.
        mask: 1 for a token and 0 for padding, `[batch, tokens]`.
        heads: The number of relation heads; both hidden sizes are multiples of it.
    """
    mine, goal = _relations(student, mask, heads), _relations(teacher.detach(), mask, heads)
    each = (goal.exp() * (goal - mine)).sum(-1).mean(1)
    return (each * mask).sum() / mask.sum()


def _relations(x: Tensor, mask: Tensor, heads: int) -> Tensor:
    """Return the log-probabilities of each token's relations, `[batch, heads, tokens, tokens]`."""
    split = x.unflatten(-1, (heads, -1)).transpose(1, 2).float()
    scores = split @ split.transpose(-1, -2) / math.sqrt(split.shape[-1])
    return torch.log_softmax(scores.masked_fill(mask[:, None, None, :] == 0, _NEVER), -1)
