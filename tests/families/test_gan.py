"""The adversarial pair: who moves when, exact penalties, pictures that come nearer to held-out ones, the average."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bottega.core.errors import InputError, RecipeError
from bottega.core.request import Controls
from bottega.families.ema import EMA
from bottega.families.gan import GAN, GANConfig

from .digits import COLOUR, FACTS, agreement, colours, digits, generators, held_out, take_steps

NO_TEXT = torch.zeros(1, 0, dtype=torch.int64)


def make(facts: dict[str, Any] = FACTS, **overrides: Any) -> GAN:
    """A small fresh model whose blocks are alive (they start as the identity)."""
    model = GAN(GANConfig.derive(1, facts, overrides))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("conv_out.weight"):
                weight.normal_(std=0.05)
    model.ema.shadow.load_state_dict(model.generator.state_dict())
    return model.eval()


def batch(count: int) -> dict[str, Tensor]:
    return {key: value[:count] for key, value in digits()[0].items()}


@pytest.fixture(scope="module")
def trained() -> tuple[GAN, list[dict[str, Any]]]:
    torch.manual_seed(0)
    model = GAN(GANConfig.derive(1, FACTS, {"ema": 0.98}))
    seen = take_steps(model, digits()[0], 160, rate=2e-3, batch=32)
    return model, [{"step": step, "metrics": outcomes["discriminator"].metrics} for step, outcomes in enumerate(seen)]


@pytest.mark.parametrize(("facts", "overrides"), [
    (FACTS, {}), ({**FACTS, "size": (12, 8)}, {"blocks": 2}), (COLOUR, {}), ({**COLOUR, "vocab": 0}, {}),
])
def test_pictures_of_any_shape_are_made_and_scored(facts: dict[str, Any], overrides: dict[str, Any]) -> None:
    model = make(facts, **overrides)
    labels, text = torch.tensor([-1, -1, -1]), torch.zeros(3, facts["text_length"], dtype=torch.int64)
    made = next(model.draw(labels, text, generators(3), controls=Controls()))
    assert made.shape == (3, facts["channels"], *facts["size"])
    assert model.discriminator(made, labels, text).shape == (3,)
    for player in ("discriminator", "generator", "model"):
        loss = model.loss({"images": made, "labels": labels, "text": text}, player)
        assert loss.total.isfinite()
        assert int(loss.weight) == 3


def test_odd_sizes_and_keys_are_refused() -> None:
    with pytest.raises(RecipeError, match="8x16"):
        GANConfig.derive(2, {**FACTS, "size": (8, 15)}, {})
    with pytest.raises(RecipeError, match="did you mean 'gamma_final'"):
        GANConfig.derive(2, FACTS, {"gama_final": 1})
    with pytest.raises(RecipeError, match="'size' of a gan is decided by the pictures"):
        GANConfig.derive(2, FACTS, {"size": [8, 8]})
    with pytest.raises(InputError, match="there is no player 'critic'"):
        make().loss(batch(2), "critic")


def test_a_step_moves_its_own_player_only() -> None:
    model = make().train()
    before = copy.deepcopy(model.state_dict())
    players = model.players()
    assert list(players) == ["discriminator", "generator"]
    assert sum(map(len, players.values())) == len([p for p in model.parameters() if p.requires_grad])
    for player, parameters in players.items():
        model.zero_grad(set_to_none=True)
        model.loss(batch(8), player).total.backward()
        moved = {name for name, p in model.named_parameters() if p.grad is not None}
        assert all(name.startswith(player) for name in moved)
        assert len(moved) == len(parameters)
    assert all(p.requires_grad for parameters in players.values() for p in parameters)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    take_steps(model, digits()[0], 1, rate=1e-3, batch=8)
    moved = {name.split(".")[0] for name, tensor in model.state_dict().items() if not torch.equal(before[name], tensor)}
    assert moved == {"discriminator", "generator", "ema"}


def test_the_discriminators_loss_is_the_papers() -> None:
    model = make(gamma=0.7)
    images = digits()[0]["images"][:8]
    labels = digits()[0]["labels"][:8]
    torch.manual_seed(5)
    loss = model.loss({"images": images, "labels": labels}, "discriminator")
    torch.manual_seed(5)
    made = model.generator(torch.randn(8, 32), labels, None)
    plain = torch.zeros(())
    for row in range(8):
        one, other = (x[row:row + 1].detach().clone().requires_grad_() for x in (images, made))
        real, fake = (model.discriminator(x, labels[row:row + 1], None) for x in (one, other))
        slopes = [torch.autograd.grad(score.sum(), x, create_graph=True)[0].square().sum()
                  for score, x in ((real, one), (fake, other))]
        plain = plain + F.softplus(-(real - fake)).sum()
        if row < 2:  # one of four has its slope measured
            plain = plain + 4 * 0.7 / 2 * (slopes[0] + slopes[1])
    torch.testing.assert_close(loss.total, plain)
    weights = list(model.discriminator.parameters())
    for mine, theirs in zip(torch.autograd.grad(loss.total, weights), torch.autograd.grad(plain, weights), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)


def test_the_generators_loss_is_the_mirror() -> None:
    model = make()
    images, labels = digits()[0]["images"][:4], digits()[0]["labels"][:4]
    torch.manual_seed(5)
    loss = model.loss({"images": images, "labels": labels}, "generator")
    torch.manual_seed(5)
    made = model.generator(torch.randn(4, 32), labels, None)
    lead = model.discriminator(made, labels, None) - model.discriminator(images, labels, None)
    torch.testing.assert_close(loss.total, F.softplus(-lead).sum())


def test_the_penalty_fades() -> None:
    model = make(gamma=1.0, gamma_final=0.1)
    seen = []
    for progress in (0, 0.5, 1, 1.01):
        model.before_step(progress)
        seen.append(model.gamma())
    assert seen == pytest.approx([1.0, 0.55, 0.1, 0.1])


def test_the_energy_distance_equals_a_loop() -> None:
    model = make()
    real, labels = digits()[1]["images"][:5], digits()[1]["labels"][:5]
    loss = model.loss({"images": real, "labels": labels})
    z = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    made = model.ema.shadow(z, labels, None)
    pairs = [(i, j) for i in range(5) for j in range(5) if i != j]

    def mean(a: Tensor, b: Tensor) -> float:
        return sum(float((a[i] - b[j]).norm()) for i, j in pairs) / len(pairs) / 8

    slow = 2 * mean(real, made) - mean(real, real) - mean(made, made)
    assert float(loss.total.detach() / loss.weight) == pytest.approx(slow, rel=1e-3)


def test_made_digits_come_nearer_to_held_out_ones(trained: tuple[GAN, list[dict[str, Any]]]) -> None:
    model, _ = trained
    torch.manual_seed(0)
    before, after = held_out(GAN(model.config)), held_out(model)
    assert after < 0.05 * before, (before, after)  # 0.006 against 0.56, seed 0


def test_made_digits_have_the_wanted_class(trained: tuple[GAN, list[dict[str, Any]]]) -> None:
    labels = torch.arange(10).repeat(10)
    made = next(trained[0].draw(labels, NO_TEXT.expand(100, 0), generators(100), controls=Controls()))
    assert agreement(made, labels) > 0.8  # 0.95, seed 0


def test_a_picture_is_the_same_alone_and_among_others(trained: tuple[GAN, list[dict[str, Any]]]) -> None:
    model, labels = trained[0], torch.arange(7)
    together = next(model.draw(labels, NO_TEXT.expand(7, 0), generators(7), controls=Controls()))
    for row in range(7):
        alone = next(model.draw(labels[row:row + 1], NO_TEXT, generators(7)[row:row + 1], controls=Controls()))
        assert torch.equal(alone[0], together[row])
    assert together.abs().max() <= 1


def test_a_blend_walks_between_two_drawn_pictures(trained: tuple[GAN, list[dict[str, Any]]]) -> None:
    model, labels, text = trained[0], torch.tensor([1, 8]), NO_TEXT.expand(2, 0)
    (walk,) = model.blend(labels, text, generators(2), 5, controls=Controls())
    assert torch.equal(walk[[0, -1]], next(model.draw(labels, text, generators(2), controls=Controls())))
    steps = (walk[1:] - walk[:-1]).flatten(1).norm(dim=1)
    assert 0 < steps.min() <= steps.max() < 0.9 * (walk[-1] - walk[0]).norm()
    with pytest.raises(InputError, match="a way between 1 pictures"):
        next(model.blend(labels[:1], text[:1], generators(1), 5, controls=Controls()))


def test_a_saved_model_draws_the_same_and_trains_on(trained: tuple[GAN, list[dict[str, Any]]], tmp_path: Path) -> None:
    model = trained[0]
    model.save(tmp_path)
    loaded = GAN.load(tmp_path)
    assert loaded.config == model.config
    labels = torch.tensor([4, 7])
    one, other = (next(m.draw(labels, NO_TEXT.expand(2, 0), generators(2), controls=Controls()))
                  for m in (model, loaded))
    assert torch.equal(one, other)
    for name, tensor in loaded.discriminator.state_dict().items():
        assert torch.equal(tensor, model.discriminator.state_dict()[name])
    for mine, average in zip(loaded.generator.parameters(), model.ema.shadow.parameters(), strict=True):
        assert torch.equal(mine, average)
    take_steps(loaded, digits()[0], 1, rate=1e-3, batch=4)


def test_the_state_dict_is_all_that_a_resumed_run_needs() -> None:
    torch.manual_seed(0)
    one = make()
    take_steps(one, digits()[0], 3, rate=1e-3, batch=8)
    other = GAN(one.config)
    other.load_state_dict(one.state_dict())
    for model in (one, other):
        take_steps(model, digits()[0], 2, rate=1e-3, batch=8, first=3, total=5)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_captions_change_what_is_made_and_how_it_scores() -> None:
    model, pictures = make(COLOUR), colours(2)
    z, image = torch.zeros(2, 64), pictures["images"][:1].expand(2, 3, 32, 32)
    made = model.generator(z, None, pictures["text"])
    assert not torch.allclose(made[0], made[1])
    scores = model.discriminator(image, None, pictures["text"])
    assert abs(float((scores[0] - scores[1]).detach())) > 1e-4


def test_the_log_of_a_good_run_has_no_warning(trained: tuple[GAN, list[dict[str, Any]]]) -> None:
    history = trained[1]
    assert set(history[0]["metrics"]) == {"balance", "r1", "r2", "diversity"}
    assert GAN.warnings(history) == []
    assert GAN.warnings([]) == []
    assert GAN.warnings([{"step": 0, "validation": {}}]) == []


@pytest.mark.parametrize(("fault", "words"), [
    ({"diversity": 0.01}, "nearly one picture"), ({"balance": 0.999}, "the discriminator tells"),
    ({"balance": 0.2}, "wrong about 80%"), ({"r2": 1000.0}, "steep"),
])
def test_a_bad_run_gets_advice(fault: dict[str, float], words: str) -> None:
    line = {"balance": 0.6, "r1": 0.5, "r2": 0.5, "diversity": 0.5, **fault}
    advice = GAN.warnings([{"step": step, "metrics": line} for step in range(50)])
    assert len(advice) == 1
    assert words in advice[0]


def test_missing_classes_get_advice() -> None:
    line = {"balance": 0.6, "r1": 0.5, "r2": 0.5, "diversity": 0.5}
    history = [{"step": step, "metrics": line} for step in range(50)]
    good, bad = ({"step": 500, "validation": {"covered": share, "covered_real": 0.9}} for share in (0.8, 0.3))
    assert GAN.warnings([*history, bad, good]) == []
    assert "30% of the held-out pictures" in GAN.warnings([*history, good, bad])[0]
    assert GAN.warnings([*history, {**bad, "step": 100}]) == []  # too early to tell


def test_a_class_made_as_another_lowers_the_coverage(trained: tuple[GAN, list[dict[str, Any]]]) -> None:
    model = copy.deepcopy(trained[0])

    def covered() -> tuple[float, float]:
        loss = model.loss({key: value[:200] for key, value in digits()[1].items()})
        return float(loss.metrics["covered"]) / 200, float(loss.metrics["covered_real"]) / 200

    made, real = covered()
    assert made > 0.7
    assert real > 0.85
    with torch.no_grad():
        table = model.ema.shadow.condition.labels.weight
        table[[3, 4, 5]] = table[[4, 5, 3]].clone()
    assert covered()[0] < made - 0.2
    assert covered()[1] == real


def test_a_collapsed_generator_shows_in_diversity() -> None:
    model = make()
    alive = float(model.loss(batch(32), "discriminator").metrics["diversity"]) / 32
    with torch.no_grad():
        model.generator.weights.weight[:, :model.config.latent] = 0  # what is drawn no longer matters
    collapsed = float(model.loss(batch(32), "discriminator").metrics["diversity"]) / 32
    assert alive > 0.05
    assert collapsed == 0


def test_under_the_compiler_it_stays_eager() -> None:
    model = make()
    compiled = torch.compile(model.loss)
    for player in model.players():
        torch.manual_seed(0)
        mine = compiled(batch(4), player).total
        mine.backward()
        torch.manual_seed(0)
        assert torch.equal(mine, model.loss(batch(4), player).total)


def test_work_is_counted() -> None:
    model = make()
    assert model.config.derived()["parameters"] == sum(p.numel() for p in model.parameters() if p.requires_grad)
    one, double = (make(width=width).flops_per_item() for width in (32, 64))
    assert 3.5 < double / one < 4  # convolutions cost width times width


def test_the_average_equals_a_slow_one() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average = EMA(module, limit=0.5)
    slow = {name: weight.detach().double() for name, weight in module.named_parameters()}
    for update in range(12):
        with torch.no_grad():
            for weight in module.parameters():
                weight.add_(torch.randn_like(weight))
        module(torch.randn(4, 3))
        average.update(module)
        decay = min(0.5, (1 + update) / (10 + update))
        slow = {name: decay * slow[name] + (1 - decay) * weight.detach().double()
                for name, weight in module.named_parameters()}
    assert int(average.updates) == 12
    for name, weight in average.shadow.named_parameters():
        torch.testing.assert_close(weight.double(), slow[name], rtol=1e-5, atol=1e-6)
        assert not weight.requires_grad
    for mine, live in zip(average.shadow.buffers(), module.buffers(), strict=True):
        assert torch.equal(mine, live)
    again = EMA(module, limit=0.5)
    again.load_state_dict(average.state_dict())
    for mine in (average, again):
        mine.update(module)
    for one, other in zip(average.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)
