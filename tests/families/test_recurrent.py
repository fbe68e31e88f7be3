"""The recurrences against loops that anyone can check, and against torch.nn.GRU."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from bottega.families.base import TokenGenerator
from bottega.families.scans import _gru, gru_scan, linear_scan

from .conftest import VOCAB

Make = Callable[..., TokenGenerator]


@pytest.mark.parametrize("length", [1, 2, 7, 16, 17, 100])
def test_the_parallel_scan_equals_the_loop(length: int) -> None:
    decay, drive = torch.rand(2, length, 5).double(), torch.randn(2, length, 5).double()
    decay[:, length // 2] = 0  # a document starts
    state = torch.randn(2, 5).double()
    inputs = [x.requires_grad_() for x in (decay, drive, state)]
    hidden, loop = state, []
    for step in range(length):
        hidden = decay[:, step] * hidden + drive[:, step]
        loop.append(hidden)
    mine, plain = linear_scan(decay, drive, state), torch.stack(loop, 1)
    torch.testing.assert_close(mine, plain)
    flow = torch.randn_like(plain)
    for one, other in zip(torch.autograd.grad(mine, inputs, flow), torch.autograd.grad(plain, inputs, flow),
                          strict=True):
        torch.testing.assert_close(one, other)


def test_the_gru_equals_torch() -> None:
    theirs = torch.nn.GRU(5, 6, batch_first=True)
    with torch.no_grad():
        theirs.bias_hh_l0.zero_()
    x, state = torch.randn(3, 17, 5, requires_grad=True), torch.randn(3, 6, requires_grad=True)
    plain, _ = theirs(x, state.unsqueeze(0))
    mine = gru_scan(F.linear(x, theirs.weight_ih_l0, theirs.bias_ih_l0), theirs.weight_hh_l0, state, None)
    torch.testing.assert_close(mine, plain)
    flow, inputs = torch.randn_like(plain), (x, state, theirs.weight_ih_l0, theirs.weight_hh_l0, theirs.bias_ih_l0)
    for one, other in zip(torch.autograd.grad(mine, inputs, flow), torch.autograd.grad(plain, inputs, flow),
                          strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_forgetting_gru_equals_fresh_ones() -> None:
    gates, weight = torch.randn(2, 9, 12, requires_grad=True), torch.randn(12, 4, requires_grad=True)
    state, keep = torch.zeros(2, 4), torch.ones(2, 9)
    keep[:, 0] = keep[:, 5] = 0
    mine = gru_scan(gates, weight, state + 3, keep)
    apart = torch.cat([gru_scan(part, weight, state, None) for part in (gates[:, :5], gates[:, 5:])], 1)
    torch.testing.assert_close(mine, apart)
    flow = torch.randn_like(mine)
    for one, other in zip(torch.autograd.grad(mine, (gates, weight), flow),
                          torch.autograd.grad(apart, (gates, weight), flow), strict=True):
        torch.testing.assert_close(one, other)


def test_the_gru_operator_is_sound() -> None:
    gates, weight = torch.randn(2, 5, 12, requires_grad=True), torch.randn(12, 4, requires_grad=True)
    torch.library.opcheck(_gru, (gates, weight, torch.randn(2, 4, requires_grad=True), torch.ones(2, 5)))


@pytest.mark.parametrize("cell", ["gru", "mingru"])
def test_compiled_equals_eager(make: Make, cell: str) -> None:
    model = make("recurrent", depth=1, width=32, cell=cell)
    text = torch.randint(0, VOCAB, (2, 12))
    batch = {"tokens": text, "targets": text.roll(-1, 1), "segments": torch.arange(12).div(5).long().expand(2, 12)}
    # "aot_eager" traces forward and backward as the default does, and skips the C++ compiler
    compiled = torch.compile(lambda batch: model.loss(batch).total, fullgraph=True, backend="aot_eager")
    weights = list(model.parameters())
    mine, eager = compiled(batch), model.loss(batch).total
    torch.testing.assert_close(mine, eager)
    for one, other in zip(torch.autograd.grad(mine, weights), torch.autograd.grad(eager, weights), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cell", ["gru", "mingru"])
@torch.no_grad()
def test_the_state_has_one_size(make: Make, cell: str) -> None:
    model = make("recurrent", cell=cell)
    cache = model.new_cache(1, 4)
    for _ in range(3):
        model(torch.randint(0, VOCAB, (1, 50)), cache=cache)
    assert cache.lengths.tolist() == [150]
