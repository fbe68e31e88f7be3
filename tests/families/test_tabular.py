"""The copula base and the any-order network on top of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from bottega.codecs.table import TableCodec
from bottega.core.errors import RecipeError
from bottega.core.recipe import AdapterSpec
from bottega.core.table import Table
from bottega.data.tables.infer import infer
from bottega.families.adapters import adapt, adapted
from bottega.families.tabular import Tabular, TabularConfig
from bottega.generation.table_sampler import Sampler
from bottega.objectives.tables import TableTraining
from bottega.training.optim import Optimiser
from bottega.training.step import seed_step, take
from tests.whole_column import whole_column


def crossed(count: int, seed: int = 0) -> Table:
    """Return rows whose `sign` is decided by two numbers together, which no covariance sees."""
    draw = np.random.default_rng(seed)
    x, y = draw.normal(size=count), draw.normal(size=count)
    z = 0.8 * x + 0.6 * draw.normal(size=count)
    names = np.where(x * y > 0, "same", "opposite")
    data, schema = infer(pa.table({"x": x, "y": y, "z": z, "sign": names}), {}, "test")
    return Table(schema, data)


class Split:
    """Both splits of a table as codes."""

    def __init__(self, codec: TableCodec, train: Table, held: Table) -> None:
        self._parts = {"train": codec.encode(train), "validation": codec.encode(held)}

    def codes(self, split: str) -> np.ndarray:
        return self._parts[split][0]

    def places(self, split: str) -> np.ndarray:
        return self._parts[split][1]


def build(codec: TableCodec, **keys: object) -> Tabular:
    torch.manual_seed(0)
    codings = [latent.coding for latent in codec.latents]
    facts = {"sizes": codec.sizes, "ordered": [coding.column.ordered for coding in codings],
             "missing": [coding.missing for coding in codings],
             "shares": [share for coding in codings for share in coding.share],
             "spikes": [spike for coding in codings for spike in coding.spikes]}
    return Tabular(TabularConfig.derive(1, facts, {"width": 64, **keys}))


def trained(steps: int, count: int = 3000) -> tuple[Tabular, TableCodec, TableTraining, float]:
    train, held = crossed(count), crossed(1000, seed=1)
    codec = TableCodec.of({"codes": 16}).learn(train)
    model = build(codec)
    objective = TableTraining(model, Split(codec, train, held), batch=128, micro_batch=128, seed=0)
    first = judge(model, objective)
    optimiser = Optimiser(model, objective.players()["model"], kind="adamw", learning_rate=5e-3,
                          learning_rate_rest=5e-3, weight_decay=0.1, dtype=torch.float32)
    model.train()
    for step in range(steps):
        seed_step(0, step)
        take(objective.loss, objective.batch(step), "model", optimiser, model=model, precision="fp32", clip=1.0,
             share=1 - step / steps, device=torch.device("cpu"))
        model.after_step(step)
    return model.eval(), codec, objective, first


@torch.no_grad()
def judge(model: Tabular, objective: TableTraining) -> float:
    model.eval()
    losses = [objective.loss(batch) for batch in objective.validation()]
    totals, weight = sum(float(loss.total) for loss in losses), sum(float(loss.weight) for loss in losses)
    return objective.summarise({"loss": totals}, weight)["nats"]


def test_the_network_learns_what_the_base_cannot() -> None:
    model, codec, objective, first = trained(400)
    last = judge(model, objective)
    assert last < first - 0.25  # of 9.4 nats a row; the sign alone holds 0.69 once both numbers are known
    codes, places = (torch.from_numpy(part) for part in codec.encode(crossed(1000, seed=2)))
    visible = torch.tensor([True, True, True, False])
    _, _, logits = whole_column(model, 3, codes.long(), model.base.encode(codes.long(), places), visible)
    _, _, plain = whole_column(model, 3, codes.long(), model.base.encode(codes.long(), places), visible, plain=True)
    right, base = ((found.argmax(1) == codes[:, 3]).float().mean() for found in (logits, plain))
    assert right > 0.85
    assert base < 0.6


def test_it_keeps_the_base_when_training_does_harm() -> None:
    model, _, objective, first = trained(0, count=40)
    with torch.no_grad():
        for weight in model.average.shadow.parameters():
            weight.normal_(std=2.0)
    assert judge(model, objective) > first
    assert float(model.best_loss) == first
    assert not model.best.head.weight.any()
    for _ in range(8):
        judge(model, objective)
    assert model.settled


def test_conditioning_is_that_of_a_gaussian() -> None:
    codec = TableCodec.of({}).learn(crossed(6000))
    base = build(codec).base
    codes, places = (torch.from_numpy(part) for part in codec.encode(crossed(6000)))
    base.fit([(codes.long(), places)])
    features = base.encode(codes.long(), places)
    whole = np.cov(features.double().numpy().T, bias=True)
    assert np.allclose(base.covariance.numpy(), whole, atol=1e-5)
    means, spread = base.conditional(features, torch.tensor([True, True, False, False]))
    z = base.columns[2][0]
    weights = np.linalg.solve(whole[:2, :2], whole[:2, z])
    expected = (features[:, :2].double().numpy() - base.mean[:2].numpy()) @ weights + float(base.mean[z])
    assert np.abs(means[:, z].numpy() - expected).max() < 0.02
    assert float(spread[z]) == pytest.approx(np.sqrt(whole[z, z] - whole[:2, z] @ weights), abs=0.02)
    assert torch.equal(means[:, :2], features[:, :2])


@torch.no_grad()
@pytest.mark.parametrize("plain", [True, False])
def test_a_column_of_many_zeros_keeps_its_zeros_and_their_links(plain: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=4000)
    y = np.where(0.8 * x + 0.6 * rng.normal(size=4000) > 1.5, np.exp(6 + 0.5 * rng.normal(size=4000)), 0.0)
    data, schema = infer(pa.table({"x": x, "y": y}), {}, "test")
    table = Table(schema, data)
    codec = TableCodec.of({}).learn(table)
    model = build(codec).eval()
    codes, places = (torch.from_numpy(part) for part in codec.encode(table))
    model.base.fit([(codes.long(), places)])
    if not plain:  # the network says nothing that is worth a word, so that the codes are scored and the base decides
        model.best.head.bias.fill_(1e-7)
    sampler = Sampler(model, [latent.coding.forbidden for latent in codec.latents])
    drawn = [sampler.draw(256, 1, chunk) for chunk in range(16)]
    made = codec.decode(np.concatenate([one.codes for one in drawn]), np.concatenate([one.places for one in drawn]),
                        rng=rng)
    high, low = made.values("x") > 1, made.values("x") < 0
    some = made.values("y") > 0
    assert some.mean() == pytest.approx((y > 0).mean(), abs=0.02)  # by the spread of its feature: none
    assert some[high].mean() == pytest.approx((y[x > 1] > 0).mean(), abs=0.1)
    assert some[low].mean() == pytest.approx((y[x < 0] > 0).mean(), abs=0.02)
    assert np.median(made.values("y")[some]) == pytest.approx(np.median(y[y > 0]), rel=0.15)


@torch.no_grad()
def test_what_is_made_is_seen_as_what_is_learned_from() -> None:
    rng = np.random.default_rng(0)
    data, schema = infer(pa.table({"hours": rng.choice([20, 38, 40, 60], 2000, p=[0.1, 0.1, 0.6, 0.2]),
                                   "pay": np.round(rng.normal(3000, 500, 2000), 2)}), {}, "test")
    table = Table(schema, data)
    codec = TableCodec.of({}).learn(table)
    model = build(codec).eval()
    codes, places = (torch.from_numpy(part) for part in codec.encode(table))
    model.base.fit([(codes.long(), places)])
    drawn = Sampler(model, [[], []]).draw(256, 0, 0)
    again = codec.encode(codec.decode(drawn.codes, drawn.places, rng=rng))
    assert np.array_equal(again[0][:, 0], drawn.codes[:, 0])
    assert (drawn.places[:, 0] == 0.5).all()  # a spike has no inside
    means = model.base.mean.float().expand(256, -1)
    spread = model.base.covariance.diagonal().sqrt().float()
    found, inside, features = model.base.number(0, means, spread, torch.rand(256))
    assert torch.equal(features, model.base.encode_column(0, found, inside))
    assert torch.allclose(torch.bincount(found, minlength=4) / 256, torch.tensor([0.1, 0.1, 0.6, 0.2]), atol=0.1)


@torch.no_grad()
def test_a_model_from_before_spikes_were_kept_reads_its_base_as_it_was_trained() -> None:
    codec = TableCodec.of({}).learn(crossed(3000))
    now = build(codec)
    old = Tabular(TabularConfig(**{**now.config.model_dump(), "spikes": []}))
    codes, places = (torch.from_numpy(part) for part in codec.encode(crossed(3000)))
    old.base.fit([(codes.long(), places)])
    means = torch.full((1, old.base.features), 0.3)
    spread = torch.full((old.base.features,), 0.6)
    edges = torch.cat([old.base.low[:codec.sizes[0]], old.base.high[codec.sizes[0] - 1:codec.sizes[0]]])
    below = torch.special.ndtr((edges - 0.3) / 0.6)
    expected = (below[1:] - below[:-1]).clamp_min(1e-5).log()
    assert torch.allclose(old.base.column_logits(0, means, spread)[0], expected, atol=1e-4)


def test_hidden_columns_are_not_looked_at() -> None:
    model, codec, _, _ = trained(20, count=400)
    codes, places = (torch.from_numpy(part) for part in codec.encode(crossed(100, seed=3)))
    codes = codes.long()
    visible = torch.tensor([True, False, False, True])
    other = codes.clone()
    other[:, 1:3] = (other[:, 1:3] + 5) % 16
    one = whole_column(model, 1, codes, model.base.encode(codes, places), visible)[2]
    two = whole_column(model, 1, other, model.base.encode(other, places), visible)[2]
    assert torch.equal(one, two)


def test_a_batch_in_parts_is_the_same_as_one(tmp_path: Path) -> None:
    model, codec, objective, _ = trained(20, count=400)
    batch = objective.batch(7)[0]
    model.eval()
    whole = objective.loss(batch)
    rows = len(batch["codes"]) // len(batch["visible"])
    parts = [objective.loss({"codes": batch["codes"][i * rows:(i + 1) * rows], "visible": batch["visible"][i:i + 1],
                             "places": batch["places"][i * rows:(i + 1) * rows]}) for i in range(len(batch["visible"]))]
    assert float(whole.total) == pytest.approx(sum(float(part.total) for part in parts), rel=1e-5)
    model.save(tmp_path)
    again = Tabular.load(tmp_path)
    features = model.base.encode(batch["codes"], batch["places"])
    for column in range(4):
        visible = torch.ones(4, dtype=torch.bool)
        visible[column] = False
        assert torch.equal(whole_column(model, column, batch["codes"], features, visible)[2],
                           whole_column(again, column, batch["codes"], features, visible)[2])
    assert codec.sizes == again.config.sizes


def test_an_adapter_on_the_last_layer_leaves_out_what_it_should() -> None:
    torch.manual_seed(0)
    facts = {"sizes": [3, 4], "ordered": [True, False], "missing": [False, False],
             "shares": [0.2, 0.3, 0.5, *[0.25] * 4], "spikes": [False] * 7}
    model = Tabular(TabularConfig.derive(1, facts, {"width": 32, "drop": 0.0, "forget": 0.0}))
    adapt(model, AdapterSpec(kind="lora", rank=4, alpha=8, dropout=0.5, targets=["head"]))
    for part in adapted(model).values():
        torch.nn.init.normal_(part.lora_B)
    batch = {"codes": torch.randint(0, 3, (8, 2)), "places": torch.rand(8, 2),
             "visible": torch.tensor([[True, False]])}
    losses = [float(model.train().loss(batch).total) for _ in range(3)]
    assert len(set(losses)) == 3  # dropout draws anew; by the merged weight all would be alike


def test_facts_cannot_be_given() -> None:
    with pytest.raises(RecipeError, match="'sizes' of a tabular model"):
        TabularConfig.derive(2, {}, {"sizes": [3]})
    with pytest.raises(RecipeError, match="unknown key 'widht'"):
        TabularConfig.derive(2, {"sizes": [2], "ordered": [False], "missing": [False], "shares": [0.5, 0.5]},
                             {"widht": 3})
