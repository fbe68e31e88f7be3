"""Column after column gives what the whole computation gives."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from bottega.codecs.table import TableCodec
from bottega.core.table import Table
from bottega.data.tables.infer import infer
from bottega.families.tabular import Tabular, TabularConfig
from bottega.families.tabular_reading import Reading
from tests.whole_column import whole_column


def mixed(count: int, seed: int = 0) -> Table:
    """Return numbers with gaps and spikes, levels common and rare, and links among all of them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=count)
    y = np.where(rng.random(count) < 0.2, 0.0, x + rng.normal(size=count))
    level = np.array([f"v{i}" for i in rng.geometric(0.15, count).clip(1, 40)])
    gone = [None if draw < 0.1 else float(value) for draw, value in zip(rng.random(count), 2 * x - y, strict=True)]
    data = pa.table({"x": x, "y": y, "level": level, "gone": gone, "sign": np.where(x + y > 0, "up", "down")})
    data, schema = infer(data, {}, "test")
    return Table(schema, data)


@pytest.fixture(scope="module")
def model() -> tuple[Tabular, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    table = mixed(3000)
    codec = TableCodec.of({}).learn(table)
    codings = [latent.coding for latent in codec.latents]
    found = Tabular(TabularConfig.derive(2, {
        "sizes": codec.sizes, "ordered": [coding.column.ordered for coding in codings],
        "missing": [coding.missing for coding in codings],
        "shares": [share for coding in codings for share in coding.share],
        "spikes": [spike for coding in codings for spike in coding.spikes]}))
    codes, places = (torch.from_numpy(part) for part in codec.encode(table))
    found.base.fit([(codes.long(), places)])
    torch.nn.init.normal_(found.best.head.weight, std=0.1)
    return found.eval(), codes.long()[:64], places[:64]


@torch.no_grad()
@pytest.mark.parametrize("plain", [False, True])
def test_every_prefix_of_every_order_agrees(model: tuple[Tabular, torch.Tensor, torch.Tensor], plain: bool) -> None:
    whole, codes, places = model
    if plain:
        whole = Tabular(whole.config).eval()
        whole.base.load_state_dict(model[0].base.state_dict())
    count = codes.size(1)
    features = whole.base.encode(codes, places)
    for seed in range(4):
        reading = Reading(whole, whole.base, len(codes))
        assert reading.plain == plain
        visible = torch.zeros(count, dtype=torch.bool)
        for column in np.random.default_rng(seed).permutation(count).tolist():
            means, spread, logits = whole_column(whole, column, codes, features, visible)
            hidden = [one for place, own in enumerate(whole.base.columns) if not visible[place] for one in own]
            assert torch.allclose(reading.means[:, hidden], means[:, hidden], atol=2e-3)
            assert torch.allclose(reading.spread()[hidden], spread[hidden], atol=2e-3)
            assert torch.allclose(reading.logits(column).log_softmax(1).exp(), logits.log_softmax(1).exp(), atol=2e-3)
            reading.see(column, codes[:, column], places[:, column])
            visible[column] = True
        assert torch.allclose(reading.means, features, atol=1e-4)


@torch.no_grad()
def test_one_column_is_encoded_as_all_are(model: tuple[Tabular, torch.Tensor, torch.Tensor]) -> None:
    whole, codes, places = model
    features = whole.base.encode(codes, places)
    for column, own in enumerate(whole.base.columns):
        assert torch.equal(whole.base.encode_column(column, codes[:, column], places[:, column]), features[:, own])


@torch.no_grad()
def test_rows_can_be_taken_again(model: tuple[Tabular, torch.Tensor, torch.Tensor]) -> None:
    whole, codes, places = model
    reading = Reading(whole, whole.base, len(codes))
    reading.see(0, codes[:, 0], places[:, 0])
    before = reading.logits(1)
    chosen = torch.tensor([3, 3, 0])
    reading.take(chosen)
    assert torch.allclose(reading.logits(1), before[chosen], atol=1e-5)


@torch.no_grad()
def test_numbers_without_codes_have_the_chances_of_the_codes(
        model: tuple[Tabular, torch.Tensor, torch.Tensor]) -> None:
    whole, codes, places = model
    column = next(place for place, gone in enumerate(whole.base.missing) if gone and whole.base.ordered[place])
    reading = Reading(whole, whole.base, len(codes))
    reading.see(0, codes[:, 0], places[:, 0])
    count = 20_000
    reading.take(torch.zeros(count, dtype=torch.int64))
    found, inside, features = whole.base.number(column, reading.means, reading.spread(),
                                                (torch.arange(count) + 0.5) / count)
    assert torch.allclose(features, whole.base.encode_column(column, found, inside), atol=5e-3)
    share = torch.bincount(found, minlength=whole.base.sizes[column]) / count
    wanted = whole.base.column_logits(column, reading.means[:1], reading.spread())[0].softmax(0)
    assert torch.allclose(share, wanted, atol=2e-3)
    assert float(inside.min()) > 0
    assert float(inside.max()) < 1
