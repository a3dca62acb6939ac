"""Computing in bfloat16 with float32 weights, and in memory that is kept."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from dynamic_tinybert.train.arithmetic import FastDropout, InBfloat16, speed_up_dropout


def test_a_model_computes_in_bfloat16_and_learns_in_float32() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.LayerNorm(8), torch.nn.Linear(8, 2))
    seen = []
    model[1].register_forward_hook(lambda _module, inputs, output: seen.append((inputs[0].dtype, output.dtype)))
    x = torch.randn(4, 8)
    found = InBfloat16(model)(x.bfloat16())
    assert seen == [(torch.bfloat16, torch.bfloat16)]
    assert torch.allclose(found.float(), model(x), atol=0.05)
    found.float().square().sum().backward()
    low = [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]
    assert {gradient.dtype for gradient in low} == {torch.float32}
    model.zero_grad()
    model(x).square().sum().backward()
    for mine, weight in zip(low, model.parameters(), strict=True):
        assert weight.grad is not None
        assert (mine - weight.grad).norm() < 0.05 * weight.grad.norm()
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_drops_at_its_rate_and_keeps_the_mean(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    states = torch.ones(201, 999, dtype=dtype).T.requires_grad_()
    found = FastDropout(0.3)(states)
    assert found.shape == states.shape
    assert found.dtype == dtype
    assert found.unique().tolist() == pytest.approx([0.0, 1 / 0.7], rel=0.004 if dtype == torch.bfloat16 else 1e-4)
    assert (found == 0).float().mean().item() == pytest.approx(0.3, abs=0.005)
    for one in (found.T, found):  # no row and no column is dropped more often than another
        assert (one == 0).float().mean(1).std().item() < 0.05
    found.sum().backward()
    assert states.grad is not None
    assert torch.equal(states.grad, found)
    assert not torch.equal(FastDropout(0.3)(states), found)
    torch.manual_seed(0)
    assert torch.equal(FastDropout(0.3)(states), found)


def test_dropout_of_nothing_and_of_everything() -> None:
    states = torch.ones(3, 5)
    assert torch.equal(FastDropout(0.5).eval()(states), states)
    assert torch.equal(FastDropout(0.0)(states), states)
    assert torch.equal(FastDropout(1.0)(states), torch.zeros(3, 5))
    assert FastDropout(0.5)(torch.ones(0, 5)).shape == (0, 5)


def test_all_dropout_of_a_model_is_replaced_as_it_was() -> None:
    inner = torch.nn.Sequential(torch.nn.Dropout(0.2), torch.nn.ReLU()).eval()
    model = torch.nn.Sequential(inner, torch.nn.Dropout(0.4))
    speed_up_dropout(model)
    assert isinstance(inner[0], FastDropout)
    assert isinstance(model[1], FastDropout)
    assert (inner[0].p, inner[0].training, model[1].p, model[1].training) == (0.2, False, 0.4, True)


_KEEPS = """
import resource
from dynamic_tinybert.train.arithmetic import keep_freed_memory
import torch
possible = keep_freed_memory()
def step():
    x = torch.ones(64 << 20, dtype=torch.uint8)
step()
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(possible, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc is on Linux")
def test_memory_that_a_step_frees_is_not_asked_of_the_system_again() -> None:
    """64 MiB are 16,384 pages: asked for at each of ten steps they would be 163,840, and now and then they move."""
    ran = subprocess.run([sys.executable, "-c", _KEEPS], capture_output=True, text=True, check=True)
    possible, faults = ran.stdout.split()
    if possible == "False":
        pytest.skip("this C library is not glibc")
    assert int(faults) < 50_000


_RETURNS = """
from pathlib import Path
from dynamic_tinybert.train.arithmetic import keep_freed_memory, return_freed_memory
import torch
possible = keep_freed_memory()
held = lambda: int(Path("/proc/self/statm").read_text().split()[1])
kept = [torch.ones(8 << 20, dtype=torch.uint8) for _ in range(40)]
last = torch.ones(1000)  # above them, so that the heap cannot simply end earlier
full = held()
del kept
print(possible, return_freed_memory(0.99), held() > full / 2, return_freed_memory(0.0), held() / full)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc is on Linux")
def test_memory_is_given_back_when_the_process_holds_too_much() -> None:
    ran = subprocess.run([sys.executable, "-c", _RETURNS], capture_output=True, text=True, check=True)
    possible, early, kept, late, left = ran.stdout.split()
    if possible == "False":
        pytest.skip("this C library is not glibc")
    assert (early, kept, late) == ("False", "True", "True")
    assert float(left) < 0.7
