"""Each control against its closed form, and draws that depend on nothing but seed, output and position."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bottega.core.request import Controls
from bottega.generation.sampling import History, Settings, adjust, draw, stages, uniform

DRAWS = 20_000
LOGITS = torch.tensor([[2.0, 1.5, 1.0, 0.2, 0.0, -0.5, -1.0, -3.0, 1.4, -7.0]])


def draws(logits: Tensor, setting: Settings, count: int = DRAWS) -> Tensor:
    chances = torch.tensor([uniform(7, 0, position) for position in range(count)], dtype=torch.float64)
    return draw(logits.expand(count, -1), setting, chances)[0]


def assert_drawn_from(tokens: Tensor, chance: Tensor) -> None:
    """Pearson's chi-square below its quantile at 1 - 1e-5 (Wilson & Hilferty 1931); nothing outside the support."""
    counts = torch.bincount(tokens, minlength=len(chance)).double()
    assert counts[chance == 0].sum() == 0
    expected = chance[chance > 0].double() * len(tokens)
    degrees = len(expected) - 1
    if degrees == 0:
        return
    statistic = float(((counts[chance > 0] - expected) ** 2 / expected).sum())
    assert statistic < degrees * (1 - 2 / (9 * degrees) + 4.265 * math.sqrt(2 / (9 * degrees))) ** 3


def renormalised(chance: Tensor, keep: list[int]) -> Tensor:
    out = torch.zeros_like(chance)
    out[keep] = chance[keep]
    return out / out.sum()


PLAIN = LOGITS[0].double().softmax(0)


@pytest.mark.parametrize(("setting", "expected"), [
    (Settings(), PLAIN),
    (Settings(temperature=0.5), (LOGITS[0].double() * 2).softmax(0)),
    (Settings(temperature=2.0), (LOGITS[0].double() / 2).softmax(0)),
    (Settings(top_k=3), renormalised(PLAIN, [0, 1, 8])),
    (Settings(top_k=1), renormalised(PLAIN, [0])),
    (Settings(top_p=0.7), renormalised(PLAIN, [0, 1, 8])),  # 0.37 + 0.23 + 0.20
    (Settings(top_p=1e-9), renormalised(PLAIN, [0])),
    (Settings(min_p=math.exp(-1.05)), renormalised(PLAIN, [0, 1, 2, 8])),
    (Settings(top_k=4, top_p=0.8, min_p=0.5), renormalised(PLAIN, [0, 1, 8])),
    (Settings(bias=((0, -100.0), (7, 5.0))), (LOGITS[0].double() + torch.tensor(
        [-math.inf, 0, 0, 0, 0, 0, 0, 5, 0, 0])).softmax(0)),
    (Settings(bias=((4, 100.0), (5, 100.0))), renormalised(PLAIN, [4, 5])),
])
def test_draws_follow_the_closed_form(setting: Settings, expected: Tensor) -> None:
    assert_drawn_from(draws(adjust(LOGITS, setting, None, None), setting), expected)


def test_penalties_follow_their_formulas() -> None:
    history = History([0, 3], 10)
    for token in (1, 1, 6):
        history.add(token)
    setting = Settings(repetition=2.0, presence=0.5, frequency=0.25)
    wanted = LOGITS[0].clone()
    wanted[[0, 1, 3]] /= 2
    wanted[6] *= 2
    wanted[1] -= 0.5 + 2 * 0.25
    wanted[6] -= 0.5 + 0.25
    assert torch.allclose(adjust(LOGITS, setting, [history], None)[0], wanted)
    assert setting.penalties == "repetition_penalty 2, presence_penalty 0.5, frequency_penalty 0.25"


@given(seed=st.integers(0, 1000), temperature=st.sampled_from([0.3, 1.0, 1.7]), top_k=st.sampled_from([0, 1, 7, 600]),
       top_p=st.sampled_from([0.05, 0.5, 0.95, 0.9999, 1.0]), min_p=st.sampled_from([0.0, 0.01, 0.3]),
       width=st.sampled_from([9, 700, 3000]), spread=st.sampled_from([0.1, 2.0, 8.0]))
@settings(max_examples=60, deadline=None)
def test_the_fast_draw_has_the_probability_that_the_plain_stages_give(
        seed: int, temperature: float, top_k: int, top_p: float, min_p: float, width: int, spread: float) -> None:
    logits = torch.randn(3, width, generator=torch.Generator().manual_seed(seed)) * spread
    setting = Settings(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    chances = torch.tensor([uniform(seed, 0, row) for row in range(3)], dtype=torch.float64)
    tokens, probabilities = draw(logits, setting, chances)
    final = logits
    for _, final in stages(logits, setting, None, None):  # noqa: B007 (the last one is what we want)
        pass
    wanted = final.softmax(-1).gather(1, tokens.unsqueeze(1)).squeeze(1)
    assert torch.allclose(probabilities, wanted, rtol=1e-3, atol=1e-6)


def test_top_p_beyond_the_first_candidates_falls_back_to_all() -> None:
    flat = torch.zeros(1, 5000) + torch.linspace(0, 1e-3, 5000)
    setting = Settings(top_p=0.9)
    tokens = draws(flat, setting, 3000)
    assert int(tokens.min()) >= 499  # the least probable tenth is never drawn
    assert (tokens < 4400).any()
    assert len(tokens.unique()) > 1500


def test_a_row_draws_the_same_alone_and_in_a_batch() -> None:
    logits = torch.randn(16, 3000) * 3
    chances = torch.rand(16, dtype=torch.float64)
    for setting in (Settings(), Settings(top_p=0.9), Settings(top_k=40, min_p=0.05), Settings(temperature=0)):
        together = draw(logits, setting, chances)
        for row in range(16):
            alone = draw(logits[row:row + 1], setting, chances[row:row + 1])
            assert int(alone[0]) == int(together[0][row])
            assert float(alone[1]) == float(together[1][row])


def test_uniform_numbers_are_even_and_unrelated() -> None:
    numbers = torch.tensor([[[uniform(s, o, p) for p in range(64)] for o in range(8)] for s in range(40)],
                           dtype=torch.float64)
    assert float(numbers.min()) >= 0
    assert float(numbers.max()) < 1
    assert_drawn_from((numbers.flatten() * 16).long(), torch.full((16,), 1 / 16))
    pairs = (numbers[..., :-1] * 4).long() * 4 + (numbers[..., 1:] * 4).long()
    assert_drawn_from(pairs.flatten(), torch.full((16,), 1 / 16))
    across = (numbers[:, :-1] * 4).long() * 4 + (numbers[:, 1:] * 4).long()
    assert_drawn_from(across.flatten(), torch.full((16,), 1 / 16))
    assert len(numbers.unique()) == numbers.numel()


def test_controls_become_settings() -> None:
    controls = Controls(temperature=0.0, top_k=5, logit_bias={"a": 1.0, "b": -100})
    assert Settings.of(controls, {"a": 4, "b": 2}.__getitem__) == Settings(temperature=0, top_k=5,
                                                                           bias=((2, -100), (4, 1.0)))
