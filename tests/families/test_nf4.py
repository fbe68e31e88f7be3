"""Four bits a weight: the levels of the paper, bounded error, a seventh of the memory, exact gradients."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bottega.core.errors import InputError
from bottega.families.quantised import BLOCK, NF4, levels

# appendix E of arXiv 2305.14314
PUBLISHED = [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
             -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
             0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0]


def test_the_levels_are_those_of_the_paper():
    assert levels().tolist() == pytest.approx(PUBLISHED, abs=1e-6)


@pytest.mark.parametrize("shape", [(96, 64), (7, 5), (8, 3, 3, 3), (1, 1)])
def test_every_number_becomes_the_nearest_level_of_its_block(shape: tuple[int, ...]):
    torch.manual_seed(0)
    weight = torch.randn(shape)
    held = NF4.of(weight)
    made = held.numbers()
    assert made.shape == weight.shape
    flat, known = weight.flatten(), levels()
    for first in range(0, len(flat), BLOCK):
        block = flat[first:first + BLOCK]
        near = (block.unsqueeze(1) - known * block.abs().max()).abs().min(1).values
        assert torch.allclose((made.flatten()[first:first + BLOCK] - block).abs(), near, atol=1e-6)


def test_normal_weights_lose_a_tenth_and_take_a_seventh():
    torch.manual_seed(0)
    weight = torch.randn(512, 256) * 0.05
    held = NF4.of(weight)
    error = float((held.numbers() - weight).norm() / weight.norm())
    assert error < 0.1  # measured 0.096
    size = held.codes.numel() * held.codes.element_size() + held.scales.numel() * held.scales.element_size()
    assert weight.numel() * 4 / size == pytest.approx(32 / 4.5, rel=1e-3)


def test_a_block_of_zeros_stays_zero_and_what_is_not_finite_is_refused():
    assert not NF4.of(torch.zeros(3, 64)).numbers().any()
    with pytest.raises(InputError, match="not finite"):
        NF4.of(torch.tensor([[1.0, float("nan")]]))


def test_a_product_has_the_gradient_of_the_rounded_weight_and_keeps_none_of_it():
    torch.manual_seed(0)
    held = NF4.of(torch.randn(48, 64))
    x = torch.randn(5, 64, requires_grad=True)
    kept: list[int] = []

    def remember(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        out = held.used_by(lambda weight: F.linear(x, weight), "cpu")
    assert held.numbers().numel() not in kept
    out.square().sum().backward()
    plain = x.detach().clone().requires_grad_()
    F.linear(plain, held.numbers()).square().sum().backward()
    assert torch.equal(x.grad, plain.grad)  # type: ignore[arg-type]


def test_a_convolution_has_second_gradients():
    torch.manual_seed(0)
    held, x = NF4.of(torch.randn(4, 3, 3, 3)), torch.randn(2, 3, 6, 6, requires_grad=True)

    def slope(product: torch.Tensor) -> torch.Tensor:
        (first,) = torch.autograd.grad(product.pow(3).sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), x)[0]

    ours = slope(held.used_by(lambda weight: F.conv2d(x, weight, padding=1), "cpu"))
    assert torch.allclose(ours, slope(F.conv2d(x, held.numbers(), padding=1)), rtol=1e-5, atol=1e-4)


def test_autocast_rounds_the_weight_like_any_other():
    torch.manual_seed(0)
    held, x = NF4.of(torch.randn(16, 64)), torch.randn(3, 64)
    layer = nn.Linear(64, 16, bias=False)
    with torch.no_grad():
        layer.weight.copy_(held.numbers())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(held.used_by(lambda weight: F.linear(x, weight), "cpu"), layer(x))
