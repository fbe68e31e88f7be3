"""Recurrences over time with exact gradients: the linear scan of minGRU and the loop of a GRU.

Both take a state to start from and forget it where a document starts. Times are in [B, T, state]; arithmetic on states
is fp32 whatever the dtype of the matrices.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def _scan(decay: Tensor, drive: Tensor, state: Tensor) -> Tensor:
    """Solve h_t = decay_t · h_{t-1} + drive_t in about 2 sqrt(T) steps, each over all blocks at once."""
    batch, length, width = drive.shape
    size = max(1, math.isqrt(length))
    blocks = -(-length // size)
    if pad := blocks * size - length:
        decay, drive = (torch.nn.functional.pad(x, (0, 0, 0, pad)) for x in (decay, drive))
    decays = list(decay.view(batch, blocks, size, width).unbind(2))
    states = list(drive.view(batch, blocks, size, width).unbind(2))
    for step in range(1, size):  # inside every block, as if it started from zero
        states[step] = torch.addcmul(states[step], decays[step], states[step - 1])
        decays[step] = decays[step] * decays[step - 1]
    carries = []
    for block in range(blocks):  # what each block inherits
        carries.append(state)
        state = torch.addcmul(states[-1][:, block], decays[-1][:, block], state)
    out = torch.stack(states, 2).addcmul_(torch.stack(decays, 2), torch.stack(carries, 1).unsqueeze(2))
    return out.view(batch, blocks * size, width)[:, :length]


class _LinearScan(torch.autograd.Function):
    """`_scan` with its adjoint, which is the same scan run backwards."""

    @staticmethod
    def forward(ctx: Any, decay: Tensor, drive: Tensor, state: Tensor) -> Tensor:
        out = _scan(decay, drive, state)
        ctx.save_for_backward(decay, state, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """g_t = grad_t + decay_{t+1} g_{t+1}; d drive = g, d decay = g_t h_{t-1}, d state = decay_0 g_0."""
        decay, state, out = ctx.saved_tensors
        after = torch.cat((decay[:, 1:], torch.zeros_like(decay[:, :1])), dim=1)
        flow = _scan(after.flip(1), grad.flip(1), torch.zeros_like(state)).flip(1)
        before = torch.cat((state.unsqueeze(1), out[:, :-1]), dim=1)
        return flow * before, flow, decay[:, 0] * flow[:, 0]


def linear_scan(decay: Tensor, drive: Tensor, state: Tensor) -> Tensor:
    """Return all h_t = decay_t · h_{t-1} + drive_t, fp32 [B, T, state].

    A blocked form of the parallel scan for linear recurrences (Blelloch 1990; Martin & Cundy 2018, arXiv 1709.04057).
    Unlike the scan in log space (Heinsen 2023, arXiv 2311.06281) it takes drives of either sign and a decay of exactly
    zero, which is how a document forgets the one before it.

    Args:
        decay, drive: fp32 [B, T, state].
        state: fp32 [B, state], h before the first step.
    """
    if drive.shape[1] == 1:
        return torch.addcmul(drive, decay, state.unsqueeze(1))
    out: Tensor = _LinearScan.apply(decay, drive, state)  # type: ignore[no-untyped-call]
    return out


# Two opaque operators: torch.compile would otherwise unroll every time step into its own code.
@torch.library.custom_op("bottega::gru", mutates_args=())
def _gru(gates: Tensor, weight: Tensor, state: Tensor, keep: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return states [B, T, S], and for the backward pass the activations [T, 4, B, S] and the states before [T, B, S].

    `keep` [B, T] is 0 where the state is forgotten before the step, or empty: never.
    """
    width, length = state.shape[1], gates.shape[1]
    inputs = gates.transpose(0, 1).float().contiguous()
    turned = weight.to(gates.dtype).t()
    kept = keep.t().unsqueeze(2) if keep.numel() else None
    acts = inputs.new_empty(length, 4, *state.shape)
    before = inputs.new_empty(length, *state.shape)
    out = inputs.new_empty(state.shape[0], length, width)
    hidden = state.float()
    for step in range(length):
        if kept is not None:
            hidden = hidden * kept[step]
        before[step] = hidden
        inner = (hidden.to(gates.dtype) @ turned).float()
        reset, update = (inputs[step, :, :2 * width] + inner[:, :2 * width]).sigmoid_().chunk(2, dim=1)
        inner_new = inner[:, 2 * width:]
        new = torch.addcmul(inputs[step, :, 2 * width:], reset, inner_new).tanh_()
        hidden = torch.lerp(new, hidden, update)
        torch.stack((reset, update, new, inner_new), out=acts[step])
        out[:, step] = hidden
    return out, acts, before


@_gru.register_fake
def _(gates: Tensor, weight: Tensor, state: Tensor, keep: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    batch, length, width = gates.shape[0], gates.shape[1], state.shape[1]
    shapes = ((batch, length, width), (length, 4, batch, width), (length, batch, width))
    out, acts, before = (gates.new_empty(shape, dtype=torch.float32) for shape in shapes)
    return out, acts, before


@torch.library.custom_op("bottega::gru_backward", mutates_args=())
def _gru_backward(grad: Tensor, weight: Tensor, acts: Tensor, before: Tensor, keep: Tensor,
                  narrow: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of gates [B, T, 3S], weight and first state; `narrow` multiplies matrices in bf16."""
    length, _, batch, width = acts.shape
    dtype = torch.bfloat16 if narrow else torch.float32
    matrix = weight.to(dtype)
    kept = keep.t().unsqueeze(2) if keep.numel() else None
    to_gates, to_inner = (acts.new_empty(length, batch, 3 * width) for _ in range(2))
    flow = acts.new_zeros(batch, width)
    for step in range(length - 1, -1, -1):
        reset, update, new, inner_new = acts[step].unbind(0)
        total = grad[:, step] + flow
        to_new = total * (1 - update) * (1 - new * new)
        to_update = total * (before[step] - new) * update * (1 - update)
        to_reset = to_new * inner_new * reset * (1 - reset)
        torch.cat((to_reset, to_update, to_new), dim=1, out=to_gates[step])
        torch.cat((to_reset, to_update, to_new * reset), dim=1, out=to_inner[step])
        flow = torch.addcmul((to_inner[step].to(dtype) @ matrix).float(), total, update)
        if kept is not None:
            flow = flow * kept[step]
    to_weight = to_inner.flatten(0, 1).to(dtype).t() @ before.flatten(0, 1).to(dtype)
    return to_gates.transpose(0, 1).contiguous(), to_weight.to(weight.dtype), flow


@_gru_backward.register_fake
def _(grad: Tensor, weight: Tensor, acts: Tensor, before: Tensor, keep: Tensor,
      narrow: bool) -> tuple[Tensor, Tensor, Tensor]:
    length, _, batch, width = acts.shape
    return acts.new_empty(batch, length, 3 * width), torch.empty_like(weight), acts.new_empty(batch, width)


def _remember(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, Tensor], output: tuple[Tensor, Tensor, Tensor]) -> None:
    gates, weight, state, keep = inputs
    ctx.save_for_backward(weight, output[1], output[2], keep)
    ctx.gates_dtype, ctx.state_dtype = gates.dtype, state.dtype


def _back(ctx: Any, grad: Tensor, _acts: Tensor, _before: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
    weight, acts, before, keep = ctx.saved_tensors
    to_gates, to_weight, to_state = _gru_backward(grad, weight, acts, before, keep,
                                                  ctx.gates_dtype == torch.bfloat16)
    return to_gates.to(ctx.gates_dtype), to_weight, to_state.to(ctx.state_dtype), None


torch.library.register_autograd("bottega::gru", _back, setup_context=_remember)


def gru_scan(gates: Tensor, weight: Tensor, state: Tensor, keep: Tensor | None) -> Tensor:
    """Return all states of a GRU, fp32 [B, T, state] (Cho et al. 2014, arXiv 1406.1078, in torch.nn.GRU's form).

    r, u = sigmoid(gates_r,u + W_r,u h); n = tanh(gates_n + r · W_n h); h' = (1 - u) · n + u · h. The gradient of W is
    one product over all steps, where autograd would add up one matrix a step.

    Args:
        gates: [B, T, 3 · state], W_x x + b in the order reset, update, new; its dtype is that of the matrix products.
        weight: [3 · state, state].
        state: [B, state], h before the first step.
        keep: fp32 [B, T], 0 where the state is forgotten before that step, else 1; None: never.
    """
    out: Tensor = _gru(gates, weight, state, gates.new_empty(0) if keep is None else keep)[0]
    return out
