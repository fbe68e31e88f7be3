"""Diffusion: shapes and checks, conditions, determinism, and what a few seconds of training on digits bring."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bottega.core.errors import ControlError, InputError, RecipeError
from bottega.core.request import Controls
from bottega.families import flow
from bottega.families.conditions import ConditionEncoder
from bottega.families.diffusion import Diffusion

from .digits import COLOUR, FACTS, agreement, digits, generators, held_out, take_steps

SQUARES = {"channels": 3, "size": (8, 8), "classes": 0, "vocab": 4, "text_length": 2}
PLAIN = Controls(guidance_scale=1.0)
SHAPES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (FACTS, {}), (FACTS, {"denoiser": "dit"}), (COLOUR, {}), (COLOUR, {"denoiser": "dit", "patch": 4}),
    ({**COLOUR, "classes": 3}, {"levels": 3, "blocks": 1}), ({**FACTS, "classes": 0}, {}),
    ({**FACTS, "size": (16, 28)}, {"objective": "meanflow"}), (FACTS, {"denoiser": "dit", "objective": "meanflow"}),
]


def alive(facts: dict[str, Any], **overrides: Any) -> Diffusion:
    """A small model with weights that are all alive: fresh ones have zero output matrices."""
    torch.manual_seed(0)
    model = Diffusion(Diffusion.Config.derive(2, facts, overrides))
    with torch.no_grad():
        for weight in model.denoiser.parameters():
            weight += 0.1 * torch.randn_like(weight)
    model.average.shadow.load_state_dict(model.denoiser.state_dict())
    return model.eval()


def some(model: Diffusion, count: int) -> dict[str, Tensor]:
    """A batch of noise pictures with conditions the model knows."""
    config, chance = model.config, torch.Generator().manual_seed(3)
    return {"images": torch.rand(count, config.channels, *config.size, generator=chance) * 2 - 1,
            "labels": torch.randint(-1, config.classes, (count,), generator=chance) if config.classes
            else torch.full((count,), -1),
            "text": torch.randint(0, max(1, config.vocab), (count, config.text_length), generator=chance)}


def last(steps: Any) -> Tensor:
    *_, made = steps
    assert isinstance(made, Tensor)
    return made


@pytest.fixture(scope="module")
def trained() -> Diffusion:
    """A U-Net of 0.2 million weights after 300 steps of 48 on 8x8 digits."""
    torch.manual_seed(0)
    model = Diffusion(Diffusion.Config.derive(2, FACTS))
    take_steps(model, digits()[0], 300, rate=3e-3, batch=48)
    return model


@pytest.mark.parametrize(("facts", "overrides"), SHAPES)
def test_every_weight_learns_and_pictures_have_their_shape(facts: dict[str, Any], overrides: dict[str, Any]) -> None:
    model = alive(facts, **overrides)
    batch = some(model, 8)
    model.train()
    loss = model.loss(batch)
    loss.total.backward()
    assert int(loss.weight) == 8
    assert float(loss.total.detach()) > 0
    lazy = {name for name, p in model.denoiser.named_parameters() if p.grad is None or not p.grad.any()}
    assert not lazy
    model.eval()
    steps = list(model.draw(batch["labels"][:3], batch["text"][:3], generators(3), controls=Controls(steps=3)))
    assert len(steps) == 3
    assert all(step.shape == (3, model.config.channels, *model.config.size) for step in steps)
    assert all(float(step.abs().max()) <= 1 for step in steps)
    assert model.flops_per_item() > 1e6
    assert model.config.derived()["parameters"] == sum(p.numel() for p in model.denoiser.parameters())


def test_sizes_and_keys_that_cannot_be_are_refused() -> None:
    for size, near in (((9, 9), "8x8"), ((31, 32), "32x32"), ((7, 8), "8x8")):
        with pytest.raises(RecipeError, match=near):
            Diffusion.Config.derive(2, {**FACTS, "size": size})
    with pytest.raises(RecipeError, match="multiples of 5"):
        Diffusion.Config.derive(2, FACTS, {"denoiser": "dit", "patch": 5})
    with pytest.raises(RecipeError, match="decided by the pictures"):
        Diffusion.Config.derive(2, FACTS, {"classes": 3})
    with pytest.raises(RecipeError, match="did you mean 'denoiser'"):
        Diffusion.Config.derive(2, FACTS, {"denoisr": "dit"})
    with pytest.raises(RecipeError, match="must divide"):
        Diffusion.Config.derive(2, FACTS, {"head": 7})
    assert Diffusion.Config.derive(3, {**FACTS, "size": (28, 28)}).patch == 2
    assert Diffusion.Config.derive(3, {**FACTS, "size": (28, 28)}, {"denoiser": "dit"}).patch == 7


@pytest.mark.parametrize(("facts", "overrides"), SHAPES)
def test_a_picture_has_the_same_bytes_alone_among_three_and_among_sixteen(facts: dict[str, Any],
                                                                          overrides: dict[str, Any]) -> None:
    model = alive(facts, **overrides)
    batch = some(model, 16)
    negative = batch["text"][6] if model.config.vocab else None
    for scale in (1.0, 2.0):
        def drawn(rows: list[int], exact: bool = True, scale: float = scale) -> Tensor:
            rng = [torch.Generator().manual_seed(100 + row) for row in rows]
            return last(model.draw(batch["labels"][rows], batch["text"][rows], rng, negative=negative, exact=exact,
                                   controls=Controls(steps=2, guidance_scale=scale)))

        together = drawn(list(range(16)))
        for rows in ([0], [13], [15, 2, 7]):
            assert torch.equal(drawn(rows), together[rows])
        assert float((drawn(list(range(16)), exact=False) - together).abs().max()) < 1e-3
        assert float((together[0] - together[1]).abs().max()) > 0.1


@pytest.mark.parametrize("overrides", [{}, {"denoiser": "dit", "objective": "meanflow"}])
def test_a_saved_model_draws_the_same(overrides: dict[str, Any], tmp_path: Path) -> None:
    model = alive(COLOUR, **overrides)
    take_steps(model, some(model, 16), 2, rate=1e-2, batch=16)
    model.save(tmp_path)
    again = Diffusion.load(tmp_path)
    assert again.config == model.config
    batch = some(model, 2)
    ours, theirs = (last(one.draw(batch["labels"], batch["text"], generators(2), controls=Controls(steps=2)))
                    for one in (model, again))
    assert torch.equal(ours, theirs)
    for live, averaged in zip(again.denoiser.parameters(), model.average.shadow.parameters(), strict=True):
        assert torch.equal(live, averaged)


def test_the_average_follows_the_live_weights() -> None:
    model = alive(FACTS)
    start = [p.clone() for p in model.averaged.parameters()]
    take_steps(model, digits()[0], 1, rate=1e-2)
    for before, live, now in zip(start, model.denoiser.parameters(), model.averaged.parameters(), strict=True):
        assert torch.allclose(now, 0.1 * before + 0.9 * live, atol=1e-6)


def test_held_out_loss_is_the_same_each_time_and_training_loss_is_not() -> None:
    model = alive(FACTS)
    assert held_out(model) == held_out(model)
    model.train()
    first, second = (float(model.loss(some(model, 8)).total.detach()) for _ in range(2))
    assert first != second


@torch.no_grad()
def test_a_caption_is_read_in_order_and_padding_is_not_read() -> None:
    torch.manual_seed(0)
    encode = ConditionEncoder(4, 20, 5, 48, 32, 2)
    for weight in encode.parameters():
        weight += 0.2 * torch.randn_like(weight)
    labels = torch.tensor([1, 1, 1, 1])
    text = torch.tensor([[3, 7, 9, 0, 0], [9, 7, 3, 0, 0], [3, 7, 9, 2, 0], [3, 7, 9, 0, 0]])
    states = encode(labels, text, torch.tensor([False, False, False, True]))
    short = encode(labels[:1], text[:1, :3])
    assert torch.allclose(states.vector[:1], short.vector, atol=1e-5)
    assert states.words is not None
    assert short.words is not None
    assert torch.allclose(states.words[:1, :4], short.words, atol=1e-5)
    assert not states.words[:1, 4:].any()
    for other in (1, 2, 3):
        assert float((states.vector[0] - states.vector[other]).abs().max()) > 1e-2
    free = encode(torch.tensor([-1]), torch.zeros(1, 5, dtype=torch.int64))
    assert torch.allclose(states.vector[3:], free.vector, atol=1e-6)


def test_conditions_and_pictures_that_do_not_fit_are_refused() -> None:
    model, text = alive(FACTS), torch.zeros(1, 0, dtype=torch.int64)
    with pytest.raises(InputError, match="class number 10"):
        next(model.draw(torch.tensor([10]), text, generators(1), controls=PLAIN))
    with pytest.raises(ControlError, match="no words"):
        next(model.draw(torch.tensor([1]), text, generators(1), controls=Controls(), negative=torch.tensor([3])))
    for wrong in (torch.zeros(1, 1, 8, 9), torch.zeros(1, 3, 8, 8), torch.zeros(2, 1, 8, 8)):
        with pytest.raises(InputError, match="do not fit"):
            next(model.redraw(wrong, torch.tensor([1]), text, generators(1), controls=PLAIN))
    with pytest.raises(InputError, match="mask"):
        next(model.redraw(torch.zeros(1, 1, 8, 8), torch.tensor([1]), text, generators(1), controls=PLAIN,
                          mask=torch.ones(1, 1, 4, 4)))
    with pytest.raises(InputError, match="two"):
        next(model.blend(torch.tensor([1]), text, generators(1), 4, controls=PLAIN))


def test_training_on_digits_lowers_the_held_out_loss(trained: Diffusion) -> None:
    torch.manual_seed(0)
    assert held_out(trained) < 0.25 * held_out(Diffusion(trained.config))


def test_guidance_makes_digits_agree_more_with_their_class(trained: Diffusion) -> None:
    labels = torch.arange(200) % 10
    text = torch.zeros(200, 0, dtype=torch.int64)
    share = {scale: agreement(last(trained.draw(labels, text, generators(200), exact=False,
                                                controls=Controls(guidance_scale=scale))), labels)
             for scale in (0.0, 1.0, 2.5)}
    assert share[0.0] < 0.3
    assert share[1.0] > 0.6
    assert share[2.5] > share[1.0] + 0.05
    assert share[2.5] > 0.9


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpm"])
def test_eight_steps_come_close_to_many(trained: Diffusion, sampler: flow.Sampler) -> None:
    labels, text = torch.arange(20) % 10, torch.zeros(20, 0, dtype=torch.int64)

    def made(steps: int, how: flow.Sampler) -> Tensor:
        return last(trained.draw(labels, text, generators(20), controls=Controls(steps=steps, sampler=how),
                                 exact=False))

    many = made(128, "euler")
    distance = {steps: float((made(steps, sampler) - many).square().mean().sqrt()) for steps in (2, 8, 32)}
    assert distance[32] < distance[8] < distance[2]
    assert distance[8] < 0.2  # of a range of 2
    assert float((many - many.roll(10, 0)).square().mean().sqrt()) > 0.3  # two pictures of one class


def test_a_hole_is_filled_and_the_rest_keeps_its_values(trained: Diffusion) -> None:
    real = digits()[1]
    images, labels = real["images"][:50], real["labels"][:50]
    mask = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    mask[..., 4:, :] = True
    text = torch.zeros(50, 0, dtype=torch.int64)
    filled = last(trained.redraw(images, labels, text, generators(50), controls=PLAIN, mask=mask, exact=False))
    assert torch.equal(filled[..., :4, :], images[..., :4, :])
    blank = torch.where(mask, torch.zeros(()), images)
    near, far = ((one - images)[..., 4:, :].square().mean() for one in (filled, blank))
    assert float(near) < 0.7 * float(far)
    assert agreement(filled, labels) > 0.8


def test_strength_says_how_much_is_kept(trained: Diffusion) -> None:
    real = digits()[1]
    images, labels, text = real["images"][:30], real["labels"][:30], real["text"][:30]
    far = [float((last(trained.redraw(images, labels, text, generators(30), exact=False,
                                      controls=Controls(strength=strength))) - images).square().mean())
           for strength in (0.0, 0.3, 0.6, 1.0)]
    assert far[0] == 0
    assert far == sorted(far)
    assert far[3] > 3 * far[1]


def test_a_way_between_two_pictures_begins_and_ends_with_them(trained: Diffusion) -> None:
    labels, text = torch.tensor([0, 7]), torch.zeros(2, 0, dtype=torch.int64)
    ends = last(trained.draw(labels, text, generators(2), controls=Controls()))
    way = last(trained.blend(labels, text, generators(2), 9, controls=Controls()))
    assert way.shape == (9, 1, 8, 8)
    assert torch.allclose(way[0], ends[0], atol=1e-6)
    assert torch.allclose(way[8], ends[1], atol=1e-6)
    jumps = (way[1:] - way[:-1]).square().mean((1, 2, 3)).sqrt()
    assert float(jumps.max()) < 0.8 * float((ends[1] - ends[0]).square().mean().sqrt())


def squares(count: int, seed: int) -> dict[str, Tensor]:
    """Two squares of different colours side by side; the caption is "left colour, right colour" (words 1 to 3)."""
    chance = torch.Generator().manual_seed(seed)
    text = torch.randint(1, 4, (count, 2), generator=chance)
    images = torch.full((count, 3, 8, 8), -1.0)
    for row, (left, right) in enumerate(text.tolist()):
        images[row, left - 1, 1:7, 0:4] = 1
        images[row, right - 1, 1:7, 4:8] = 1
    return {"images": images, "labels": torch.full((count,), -1), "text": text}


def painter(steps: int, **overrides: Any) -> Diffusion:
    """A model that has seen squares and their captions."""
    torch.manual_seed(0)
    model = Diffusion(Diffusion.Config.derive(2, SQUARES, overrides))
    take_steps(model, squares(512, 0), steps, rate=3e-3, batch=32)
    return model


@pytest.fixture(scope="module")
def transformer() -> Diffusion:
    """A DiT of 0.3 million weights after 150 steps on squares."""
    return painter(150, denoiser="dit")


@pytest.mark.parametrize("denoiser", ["dit", "unet"])
def test_captions_are_followed_in_their_order(denoiser: str, transformer: Diffusion) -> None:
    model = transformer if denoiser == "dit" else painter(300, blocks=1)
    wanted = squares(45, 1)
    made = last(model.draw(wanted["labels"], wanted["text"], generators(45), controls=Controls(), exact=False))
    found = torch.stack([made[:, :, 2:6, :4].mean((2, 3)).argmax(1), made[:, :, 2:6, 4:].mean((2, 3)).argmax(1)], 1)
    assert float((found + 1 == wanted["text"]).all(1).float().mean()) > 0.9


def test_a_negative_caption_is_kept_away_from(transformer: Diffusion) -> None:
    free, unwanted = torch.zeros(40, 2, dtype=torch.int64), torch.tensor([1, 1])
    red = {}
    for name, negative in (("free", None), ("kept away", unwanted)):
        made = last(transformer.draw(torch.full((40,), -1), free, generators(40), negative=negative, exact=False,
                                     controls=Controls(guidance_scale=2.0)))
        red[name] = float((made[:, 0, 2:6] > 0).float().mean())
    assert red["kept away"] < 0.5 * red["free"]


@pytest.mark.parametrize("overrides", [{}, {"denoiser": "dit"}])
def test_the_mean_velocity_s_change_is_its_slope_along_the_path(overrides: dict[str, Any]) -> None:
    model = alive({**COLOUR, "size": (8, 8)}, objective="meanflow", **overrides).double()
    batch = some(model, 3)
    states = model.denoiser.encode(batch["labels"], batch["text"])
    states = states._replace(vector=states.vector.double())
    x, noise = batch["images"].double(), torch.randn(3, 3, 8, 8, dtype=torch.float64)
    torch.manual_seed(5)
    t = torch.tensor([0.5, 0.7, 0.9], dtype=torch.float64)
    errors = model._whole_steps(x, noise, t, states)
    torch.manual_seed(5)
    other = flow.logit_normal(flow.stratified(3, None, x.device), 0.0, 1.0)
    start, span, tiny = torch.maximum(t, other), (t - other).abs(), 1e-5

    def mean_velocity(shift: float) -> Tensor:
        at = start + shift
        z = flow.mix(x, noise, at)
        return flow.velocity(z, model.denoiser(z, at, span + shift, states), at)

    with torch.no_grad():
        change = (mean_velocity(tiny) - mean_velocity(-tiny)) / (2 * tiny)
        target = (noise - x) - span.view(-1, 1, 1, 1) * change
        assert torch.allclose(errors, (mean_velocity(0) - target).square().mean((1, 2, 3)), rtol=1e-4)


def test_a_mean_flow_draws_in_one_step() -> None:
    model = painter(150, denoiser="dit", objective="meanflow")
    wanted = squares(45, 1)
    made = list(model.draw(wanted["labels"], wanted["text"], generators(45), controls=Controls(steps=1), exact=False))
    assert len(made) == 1
    assert float((made[0] - wanted["images"]).square().mean()) < 0.05
