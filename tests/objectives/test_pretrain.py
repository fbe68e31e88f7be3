import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bottega.core.errors import DataError, RecipeError
from bottega.core.recipe import ObjectiveSpec
from bottega.families.base import Batch, Config, Generator, Loss
from bottega.objectives import objective_class, settings
from bottega.objectives.pretrain import Pretrain, Settings

VOCAB, CONTEXT = 300, 32


class Rows:
    """Packed tokens in memory."""

    def __init__(self, train: int = 2000, validation: int = 300) -> None:
        rng = np.random.default_rng(0)
        self.splits = {"train": rng.integers(0, 256, train).astype(np.uint16),
                       "validation": rng.integers(0, 256, validation).astype(np.uint16)}

    def tokens(self, split: str) -> np.ndarray:
        return self.splits[split]


class Uniform(Generator):
    """Gives every token the same probability."""

    family = "uniform"
    Config = Config
    understands = frozenset()

    def __init__(self) -> None:
        super().__init__(Config())
        self.logits = nn.Parameter(torch.zeros(VOCAB))

    def loss(self, batch: Batch, player: str = "model") -> Loss:
        targets = batch["targets"].flatten()
        total = F.cross_entropy(self.logits.expand(len(targets), VOCAB), targets, reduction="sum")
        return Loss(total, torch.tensor(len(targets)))


def make(rows: Rows | None = None, **changes) -> Pretrain:
    plain = {"context": CONTEXT, "batch_tokens": 6 * CONTEXT, "micro_batch": 4, "seed": 5, "validation_tokens": 128,
             **changes}
    return Pretrain(Uniform(), rows or Rows(), np.where(np.arange(VOCAB) < 256, 1, 0), **plain)


def test_batches_are_windows_of_neighbouring_tokens():
    objective = make()
    micro = objective.batch(0)
    assert [tuple(batch["tokens"].shape) for batch in micro] == [(4, CONTEXT), (2, CONTEXT)]
    text = Rows().tokens("train").tolist()
    for batch in micro:
        assert batch["tokens"].dtype == batch["targets"].dtype == torch.int64
        for inputs, targets in zip(batch["tokens"].tolist(), batch["targets"].tolist(), strict=True):
            window = [*inputs, targets[-1]]
            assert inputs[1:] == targets[:-1]
            assert any(text[i:i + CONTEXT + 1] == window for i in range(len(text) - CONTEXT))


def test_a_step_is_a_pure_function_of_seed_and_step():
    one, two, other = make(), make(), make(seed=6)
    two.batch(3)
    for a, b, c in zip(one.batch(9), two.batch(9), other.batch(9), strict=True):
        assert torch.equal(a["tokens"], b["tokens"])
        assert not torch.equal(a["tokens"], c["tokens"])


def test_an_epoch_visits_every_window_once_and_the_next_in_another_order():
    objective = make(batch_tokens=CONTEXT)
    epochs = [[int(objective._starts(e * objective.windows + i)[0]) for i in range(objective.windows)] for e in (0, 1)]
    for starts in epochs:
        assert len({start // CONTEXT for start in starts}) == objective.windows
        assert len({start % CONTEXT for start in starts}) == 1
        assert max(starts) + CONTEXT + 1 <= 2000
    assert epochs[0] != epochs[1]


def test_bits_per_byte_of_a_uniform_model_is_known():
    objective = make()
    objective.generator.eval()
    totals, weight = {"loss": 0.0, "bytes": 0.0}, 0.0
    for batch in objective.validation():
        loss = objective.loss(batch)
        totals["loss"] += float(loss.total.detach())
        totals["bytes"] += float(loss.metrics["bytes"])
        weight += float(loss.weight)
    figures = objective.summarise(totals, weight)
    assert next(iter(figures)) == "bits_per_byte"
    assert weight == 128
    assert figures["bits_per_byte"] == pytest.approx(math.log2(VOCAB), rel=1e-5)
    assert figures["perplexity"] == pytest.approx(VOCAB, rel=1e-4)


def test_validation_is_fixed_and_spread_over_the_split():
    objective = make(validation_tokens=64)
    first, again = list(objective.validation()), list(objective.validation())
    assert all(torch.equal(a["tokens"], b["tokens"]) for a, b in zip(first, again, strict=True))
    held_out = Rows().tokens("validation")
    assert first[0]["tokens"][0].tolist() == held_out[:CONTEXT].tolist()
    assert first[0]["tokens"][1].tolist() == held_out[4 * CONTEXT:5 * CONTEXT].tolist()


def test_a_short_validation_split_is_one_short_window():
    assert next(make(Rows(validation=10)).validation())["tokens"].shape == (1, 9)


def test_splits_that_are_too_short_are_clear_errors():
    with pytest.raises(DataError, match=r"20 tokens, one window needs 33[\s\S]*lower training.context"):
        make(Rows(train=20))
    with pytest.raises(DataError, match=r"validation split is empty[\s\S]*raise data.validation"):
        make(Rows(validation=1))


def test_gap_filling_rearranges_a_share_of_windows_and_loses_nothing_but_the_room():
    marks = (290, 291, 292, 293, 294)
    objective = make(settings=Settings(fim=0.5), gap_tokens=marks, batch_tokens=20 * CONTEXT, micro_batch=20)
    plain = make(batch_tokens=20 * CONTEXT, micro_batch=20)
    changed = 0
    for row, original in zip(*(o.batch(0)[0]["tokens"].tolist() for o in (objective, plain)), strict=True):
        if row == original:
            continue
        changed += 1
        assert row[:2] == [290, 291]
        suffix, middle = row.index(292), row.index(293)
        whole = row[2:suffix] + row[middle + 1:] + row[suffix + 1:middle]
        assert whole == original[:len(whole)]
    assert 3 <= changed <= 17
    assert objective.batch(0)[0]["targets"][:, -1].tolist().count(294) == changed
    again = make(settings=Settings(fim=0.5), gap_tokens=marks, batch_tokens=20 * CONTEXT, micro_batch=20)
    assert torch.equal(again.batch(0)[0]["tokens"], objective.batch(0)[0]["tokens"])


def test_the_registry_checks_kinds_and_keys():
    assert objective_class("pretrain") is Pretrain
    assert settings(ObjectiveSpec(kind="pretrain", fim=0.5)).fim == 0.5
    with pytest.raises(RecipeError, match="did you mean 'pretrain'"):
        settings(ObjectiveSpec(kind="pretrian"))
    with pytest.raises(RecipeError, match="did you mean 'fim'"):
        settings(ObjectiveSpec(kind="pretrain", fmi=0.5))
    with pytest.raises(RecipeError, match="fim"):
        settings(ObjectiveSpec(kind="pretrain", fim=2))
