"""The autoencoder: shapes, a bound that falls on held-out digits, codes that can be walked, bytes that stay."""

from pathlib import Path
from typing import Any

import pytest
import torch

from bottega.core.errors import CorruptError, InputError, RecipeError
from bottega.core.files import read_json, write_json
from bottega.core.request import Controls
from bottega.families.pictures import drop_captions
from bottega.families.vae import VAE, VAEConfig

from .digits import COLOUR, FACTS, agreement, colours, digits, generators, held_out, take_steps

NO_TEXT = torch.zeros(1, 0, dtype=torch.int64)


def make(facts: dict[str, Any] = FACTS, **overrides: Any) -> VAE:
    """A small fresh model whose blocks are alive (they start as the identity)."""
    model = VAE(VAEConfig.derive(1, facts, overrides))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("conv_out.weight"):
                weight.normal_(std=0.05)
    return model.eval()


@pytest.fixture(scope="module")
def trained() -> VAE:
    torch.manual_seed(0)
    model = VAE(VAEConfig.derive(1, FACTS, {}))
    take_steps(model, digits()[0], 250, rate=1e-2)
    return model


@pytest.mark.parametrize(("facts", "overrides", "code"), [
    (FACTS, {}, (8,)), (FACTS, {"spatial": True}, (4, 4, 4)), ({**FACTS, "size": (12, 8)}, {"blocks": 2}, (8,)),
    (COLOUR, {}, (16,)), (COLOUR, {"spatial": True, "latent": 3}, (3, 8, 8)), ({**COLOUR, "vocab": 0}, {}, (16,)),
])
def test_pictures_of_any_shape_go_there_and_back(facts: dict[str, Any], overrides: dict[str, Any],
                                                 code: tuple[int, ...]) -> None:
    model = make(facts, **overrides)
    images = torch.rand(3, facts["channels"], *facts["size"]) * 2 - 1
    labels, text = torch.tensor([0, -1, 9]), torch.zeros(3, facts["text_length"], dtype=torch.int64)
    mean, logvar = model.encode(images, labels, text)
    assert mean.shape == logvar.shape == (3, *code) == (3, *model.config.latent_shape)
    assert model.decode(mean, labels, text).shape == images.shape
    loss = model.loss({"images": images, "labels": labels, "text": text})
    assert loss.total.isfinite()
    assert int(loss.weight) == 3


@pytest.mark.parametrize(("size", "near"), [((9, 9), "8x8"), ((8, 15), "8x16"), ((30, 32), "32x32"), ((1, 1), "2x2")])
def test_odd_sizes_are_refused_with_the_nearest_one(size: tuple[int, int], near: str) -> None:
    with pytest.raises(RecipeError, match=near):
        VAEConfig.derive(2, {**FACTS, "size": size}, {"patch": 2, "levels": 2} if size == (30, 32) else {})


@pytest.mark.parametrize(("size", "patch", "levels"), [
    ((8, 8), 1, 1), ((16, 24), 1, 2), ((28, 28), 2, 1), ((32, 32), 2, 2), ((36, 32), 2, 1), ((64, 64), 2, 3),
    ((128, 96), 4, 2),
])
def test_levels_follow_the_size(size: tuple[int, int], patch: int, levels: int) -> None:
    config = VAEConfig.derive(2, {**FACTS, "size": size}, {})
    assert (config.patch, config.levels) == (patch, levels)


def test_keys_are_checked() -> None:
    with pytest.raises(RecipeError, match="did you mean 'latent'"):
        VAEConfig.derive(2, FACTS, {"latents": 3})
    with pytest.raises(RecipeError, match="'classes' of a vae is decided by the pictures"):
        VAEConfig.derive(2, FACTS, {"classes": 3})
    with pytest.raises(InputError, match=r"give \[B, 1, 8, 8\]"):
        make().loss(colours(2))


def test_the_held_out_bound_falls(trained: VAE) -> None:
    fresh = make()
    before, after = held_out(fresh), held_out(trained)
    assert before - after > 80, (before, after)  # 5.6 against 103 nats a picture, seed 0
    assert 0.01 < float(trained.variance) < 0.1


def test_drawn_digits_have_the_wanted_class(trained: VAE) -> None:
    labels = torch.arange(10).repeat(10)
    made = list(trained.draw(labels, NO_TEXT.expand(100, 0), generators(100), controls=Controls()))
    assert len(made) == 1
    assert agreement(made[0], labels) > 0.65  # 0.80, seed 0


def test_a_picture_is_the_same_alone_and_among_others(trained: VAE) -> None:
    labels = torch.arange(7)
    together = next(trained.draw(labels, NO_TEXT.expand(7, 0), generators(7), controls=Controls()))
    for row in range(7):
        alone = next(trained.draw(labels[row:row + 1], NO_TEXT, generators(7)[row:row + 1], controls=Controls()))
        assert torch.equal(alone[0], together[row])
    again = next(trained.draw(labels, NO_TEXT.expand(7, 0), generators(7), controls=Controls()))
    assert torch.equal(again, together)
    assert together.abs().max() <= 1


def test_temperature_zero_draws_the_middle_of_a_class(trained: VAE) -> None:
    labels = torch.tensor([3, 3])
    made = next(trained.draw(labels, NO_TEXT.expand(2, 0), generators(2), controls=Controls(temperature=0)))
    assert torch.equal(made[0], made[1])


def test_what_the_model_does_not_have_is_refused(trained: VAE) -> None:
    with pytest.raises(InputError, match="class number 10 is not one of this model's 10"):
        next(trained.draw(torch.tensor([10]), NO_TEXT, generators(1), controls=Controls()))
    with pytest.raises(InputError, match="it knows no word"):
        next(trained.draw(torch.tensor([1]), torch.tensor([[5]]), generators(1), controls=Controls()))
    with pytest.raises(InputError, match="do not fit"):
        next(trained.draw(torch.tensor([1, 2]), NO_TEXT, generators(1), controls=Controls()))


def test_walks_begin_and_end_at_the_pictures(trained: VAE) -> None:
    images, labels = digits()[1]["images"][:2], digits()[1]["labels"][:2]
    seen = trained.decode(trained.encode(images, labels)[0], labels).clamp(-1, 1)
    walk = trained.interpolate(images[0], images[1], 5, labels=labels)
    torch.testing.assert_close(walk[[0, -1]], seen)
    steps = (walk[1:] - walk[:-1]).flatten(1).norm(dim=1)
    assert steps.max() < 0.7 * (walk[-1] - walk[0]).norm()  # it walks, and does not jump
    with pytest.raises(InputError):
        trained.interpolate(images[0], images[1], 1)


def test_variations_go_from_the_picture_to_a_new_one(trained: VAE) -> None:
    images, labels = digits()[1]["images"][:5], digits()[1]["labels"][:5]
    near, mid, far = (trained.vary(images, strength, generators(5), labels=labels) for strength in (0.0, 0.3, 1.0))
    torch.testing.assert_close(near, trained.decode(trained.encode(images, labels)[0], labels).clamp(-1, 1))
    torch.testing.assert_close(far, next(trained.draw(labels, NO_TEXT.expand(5, 0), generators(5),
                                                      controls=Controls())))
    assert (mid - near).norm() < (far - near).norm()
    with pytest.raises(InputError):
        trained.vary(images, 1.5, generators(5))


def test_redrawing_is_variation_by_strength(trained: VAE) -> None:
    images, labels = digits()[1]["images"][:3], digits()[1]["labels"][:3]
    for strength in (0.0, 0.4):
        (made,) = trained.redraw(images, labels, NO_TEXT.expand(3, 0), generators(3),
                                 controls=Controls(strength=strength))
        assert torch.equal(made, trained.vary(images, strength, generators(3), labels=labels))
    (usual,) = trained.redraw(images, labels, NO_TEXT.expand(3, 0), generators(3), controls=Controls())
    assert not torch.equal(usual, made)
    with pytest.raises(InputError, match="cannot redraw a part"):
        next(trained.redraw(images, labels, NO_TEXT.expand(3, 0), generators(3), controls=Controls(),
                            mask=torch.ones(3, 1, 8, 8, dtype=torch.bool)))
    with pytest.raises(InputError, match="do not fit this vae"):
        next(trained.redraw(images[:, :, :4], labels, NO_TEXT.expand(3, 0), generators(3), controls=Controls()))


def test_a_blend_walks_between_two_drawn_pictures(trained: VAE) -> None:
    labels, text = torch.tensor([1, 8]), NO_TEXT.expand(2, 0)
    (walk,) = trained.blend(labels, text, generators(2), 5, controls=Controls())
    ends = next(trained.draw(labels, text, generators(2), controls=Controls()))
    assert torch.equal(walk[[0, -1]], ends)
    steps = (walk[1:] - walk[:-1]).flatten(1).norm(dim=1)
    assert 0 < steps.min() <= steps.max() < 0.8 * (walk[-1] - walk[0]).norm()
    for ends_given, count in ((1, 5), (2, 1)):
        with pytest.raises(InputError, match="a way between"):
            next(trained.blend(labels[:ends_given], text[:ends_given], generators(ends_given), count,
                               controls=Controls()))


def test_asked_for_nothing_it_draws_any_class_and_varies_what_it_recognises(trained: VAE) -> None:
    nothing, text = torch.full((100,), -1), NO_TEXT.expand(100, 0)
    made = next(trained.draw(nothing, text, generators(100), controls=Controls()))
    drawn = trained.with_class(nothing, text, generators(100))
    assert drawn.unique().tolist() == list(range(10))
    assert torch.equal(made[:1], next(trained.draw(nothing[:1], text[:1], generators(1), controls=Controls())))
    assert trained.with_class(torch.tensor([-1, 4]), NO_TEXT.expand(2, 0), generators(2))[1] == 4
    read = trained.recognise(made)
    assert (read == digits()[0]["labels"][torch.cdist(made.flatten(1), digits()[0]["images"].flatten(1)).argmin(1)]
            ).float().mean() > 0.7
    images, labels = digits()[1]["images"][:50], digits()[1]["labels"][:50]
    known = trained.recognise(images)
    assert (known == labels).float().mean() > 0.8
    (varied,) = trained.redraw(images, nothing[:50], text[:50], generators(50), controls=Controls(strength=0.2))
    assert torch.equal(varied, trained.vary(images, 0.2, generators(50), labels=known))


def test_codes_are_measured_and_traversed(trained: VAE) -> None:
    train = digits()[0]
    facts = trained.measure_latents([train])
    codes = trained.encode(train["images"], train["labels"])[0] * trained.scaling_factor
    torch.testing.assert_close(codes.std(), torch.tensor(1.0))
    assert facts["shape"] == [8]
    assert len(facts["active"]) >= 4
    strongest = facts["active"][0]
    image, label = train["images"][0], train["labels"][:1]
    row = trained.traverse(image, strongest, torch.tensor([-2.0, 0.0, 2.0]), labels=label)
    assert row.shape == (3, 1, 8, 8)
    assert (row[2] - row[0]).norm() > 0.5
    with pytest.raises(InputError, match="no dimension 8"):
        trained.traverse(image, 8, torch.zeros(1))


def test_a_saved_model_draws_the_same(trained: VAE, tmp_path: Path) -> None:
    trained.save(tmp_path)
    loaded = VAE.load(tmp_path)
    assert loaded.config == trained.config
    assert not loaded.training
    labels = torch.tensor([4])
    one, other = (next(model.draw(labels, NO_TEXT, generators(1), controls=Controls())) for model in (trained, loaded))
    assert torch.equal(one, other)
    assert held_out(loaded) == held_out(trained)  # the learned variance is part of the file
    write_json(tmp_path / "config.json", {**read_json(tmp_path / "config.json"), "latent": 0})
    with pytest.raises(CorruptError, match="latent"):
        VAE.load(tmp_path)
    write_json(tmp_path / "config.json", {"model_type": "qwen3"})
    with pytest.raises(InputError, match="is not a vae"):
        VAE.load(tmp_path)


def test_the_weight_of_the_divergence_rises() -> None:
    model = make(warmup_steps=4, beta=2.0).train()
    batch = {key: value[:16] for key, value in digits()[0].items()}
    totals = []
    for _ in range(6):
        torch.manual_seed(0)
        with torch.no_grad():
            loss = model.loss(batch)
        totals.append((float(loss.total), float(loss.metrics["kl"])))
        model.steps += 1
    rises = [(total - totals[0][0]) / totals[0][1] for total, _ in totals]
    assert rises == pytest.approx([0, 0.5, 1, 1.5, 2, 2], rel=1e-3)
    bounds = [make(beta=beta) for beta in (1.0, 3.0)]  # what is held out is the bound itself
    bounds[1].load_state_dict(bounds[0].state_dict())
    assert held_out(bounds[0]) == held_out(bounds[1])


def test_a_fixed_variance_stays_and_edges_add_error() -> None:
    batch = {key: value[:32] for key, value in digits()[0].items()}
    model = make(variance=0.1)
    take_steps(model, batch, 3, rate=1e-3)
    assert float(model.variance) == pytest.approx(0.1)
    plain, edged = make(edges=0.0), make(edges=1.0)
    edged.load_state_dict(plain.state_dict())
    with torch.no_grad():
        made = plain.loss(batch)
        more = edged.loss(batch)
        assert float(more.metrics["mse"]) == float(made.metrics["mse"])
        assert more.total > made.total


def test_micro_batches_add_up() -> None:
    model = make().train()
    batch = {key: value[:16] for key, value in digits()[0].items()}
    with torch.no_grad():
        model.encoder.head.bias[8:] = -20  # no noise: draws would differ between one batch and two
        whole = model.loss(batch)
        parts = [model.loss({key: value[rows] for key, value in batch.items()}) for rows in (slice(8), slice(8, 16))]
        for one, other in [(whole.total, sum(p.total for p in parts)),
                           *((whole.metrics[key], sum(p.metrics[key] for p in parts)) for key in whole.metrics)]:
            torch.testing.assert_close(one, torch.as_tensor(other), rtol=1e-4, atol=1e-2)


def test_the_state_dict_is_all_that_a_resumed_run_needs() -> None:
    torch.manual_seed(0)
    one = VAE(VAEConfig.derive(1, FACTS, {}))
    take_steps(one, digits()[0], 4, rate=1e-3)
    other = VAE(VAEConfig.derive(1, FACTS, {}))
    other.load_state_dict(one.state_dict())
    for model in (one, other):
        take_steps(model, digits()[0], 2, rate=1e-3, first=4, total=6)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_a_map_of_codes_is_made_without_conditions() -> None:
    model, batch = make({**COLOUR, "classes": 3}, spatial=True), colours(2)
    plain = model.encode(batch["images"])[0]
    assert torch.equal(model.encode(batch["images"], torch.tensor([1, 2]), batch["text"])[0], plain)
    assert torch.equal(model.decode(plain, torch.tensor([1, 2]), batch["text"]), model.decode(plain))
    assert not any("condition" in name for name, _ in model.named_parameters())
    (varied,) = model.redraw(batch["images"], torch.tensor([-1, 2]), batch["text"], generators(2), controls=Controls())
    assert varied.shape == batch["images"].shape
    nothing = torch.zeros(2, 6, dtype=torch.int64)
    (made,) = model.draw(torch.tensor([-1, -1]), nothing, generators(2), controls=Controls())
    assert made.shape == batch["images"].shape
    for labels, text in ((torch.tensor([-1, 2]), nothing), (torch.tensor([-1, -1]), batch["text"])):
        with pytest.raises(InputError, match="neither class nor caption"):
            next(model.draw(labels, text, generators(2), controls=Controls()))
        with pytest.raises(InputError, match="neither class nor caption"):
            next(model.blend(labels, text, generators(2), 3, controls=Controls()))


def test_captions_change_what_is_drawn() -> None:
    model, batch = make(COLOUR), colours(2)
    z = torch.zeros(2, 16)
    made = model.decode(z, batch["labels"], batch["text"])
    assert not torch.allclose(made[0], made[1])
    padded = torch.cat([batch["text"][:, :3], torch.zeros(2, 3, dtype=torch.int64)], 1)
    torch.testing.assert_close(model.decode(z, batch["labels"], padded), made)  # padding says nothing


def test_captions_are_left_out_at_times_and_classes_never() -> None:
    assert make(COLOUR).config.drop == 0.1
    assert make({**COLOUR, "classes": 3}).config.drop == make().config.drop == 0
    torch.manual_seed(0)
    text = drop_captions(torch.ones(400, 6, dtype=torch.int64), 0.25)
    assert text is not None
    assert set(text.sum(1).tolist()) == {0, 6}
    assert 70 < int((text.sum(1) == 0).sum()) < 130


def test_work_is_counted() -> None:
    model = make({**FACTS, "classes": 0}, width=8, levels=1)
    convolutions = sum(2 * part.weight.numel() * places for part, places in [
        (model.encoder.stem, 64), (model.encoder.blocks[0].conv_in, 64), (model.encoder.blocks[0].conv_out, 64),
        (model.encoder.downs[0], 16), (model.encoder.head, 1), (model.decoder.stem, 1), (model.decoder.ups[0], 64),
        (model.decoder.blocks[0].conv_in, 64), (model.decoder.blocks[0].conv_out, 64), (model.decoder.head, 64)])
    assert model.flops_per_item() == convolutions
    assert model.config.derived()["parameters"] == sum(p.numel() for p in model.parameters())


def test_half_precision_gives_nearly_the_same_bound() -> None:
    model, batch = make(), {key: value[:32] for key, value in digits()[0].items()}
    with torch.no_grad():
        plain = model.loss(batch).total
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = model.loss(batch).total
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, plain, rtol=0.02, atol=1)
