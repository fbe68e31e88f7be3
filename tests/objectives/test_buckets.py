"""Rows of like length together: nothing lost, little padding, an order that only seed and step decide."""

import os
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bottega import families
from bottega.codecs.text import TextCodec
from bottega.core.errors import Interrupted
from bottega.core.recipe import Budget, GeneratorSpec, TrainingSpec
from bottega.families.base import Batch, TokenGenerator
from bottega.objectives.buckets import Buckets
from bottega.objectives.sft import SFT, Settings
from bottega.training.loop import train
from bottega.training.metrics import read_history
from tests.objectives.test_chat import Memory, model


@given(st.lists(st.integers(1, 96), min_size=1, max_size=80), st.integers(1, 400), st.integers(1, 12),
       st.integers(0, 9))
def test_an_epoch_holds_each_row_once(lengths: list[int], tokens: int, count: int, seed: int) -> None:
    buckets = Buckets(lengths, 96, tokens, count)
    assert len(buckets.widths) <= count
    for epoch in (0, 3):
        batches = [buckets.batch(seed, step) for step in range(epoch * len(buckets), (epoch + 1) * len(buckets))]
        assert sorted(row for _, rows in batches for row in rows) == list(range(len(lengths)))
        assert all(lengths[row] <= width for width, rows in batches for row in rows)
        assert all(width * len(rows) <= max(tokens, width) for width, rows in batches)
        padded = sum(width * len(rows) for width, rows in batches)
        assert buckets.padding == pytest.approx(1 - sum(lengths) / padded)


def test_short_rows_are_not_padded_to_the_context() -> None:
    draw = random.Random(1)
    lengths = [min(512, int(draw.lognormvariate(4, 0.7)) + 1) for _ in range(2000)]
    buckets = Buckets(lengths, 512, 4096, 8)
    assert buckets.padding < 0.35
    assert buckets.padding < 0.45 * (1 - sum(lengths) / (512 * len(lengths)))
    sizes = Counter(width * len(rows) for width, rows in (buckets.batch(0, step) for step in range(len(buckets))))
    assert sum(count for size, count in sizes.items() if size < 3500) <= 1  # only the last one may be short


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    buckets = Buckets([length % 60 + 1 for length in range(600)], 64, 256, 8)
    steps = range(len(buckets))
    epochs = [[buckets.batch(seed, step + offset) for step in steps]
              for seed, offset in ((0, 0), (0, len(buckets)), (1, 0), (0, 0))]
    assert epochs[0] == epochs[3]
    assert epochs[0] != epochs[1]
    assert epochs[0] != epochs[2]
    together = [{frozenset(rows) for _, rows in epoch} for epoch in epochs]
    assert len(together[0] & together[1]) < 0.5 * len(buckets)  # rows meet others in the next epoch


def chats(codec: TextCodec, count: int) -> Memory:
    """Conversations of several turns and many lengths."""
    draw = random.Random(2)
    words = ["kettle", "order", "refund", "please", "Rome", "4821", "yes", "no"]
    rows = [{"source": "made", "messages": [
        {"role": role, "content": " ".join(draw.choices(words, k=draw.randrange(1, 12)))}
        for _ in range(draw.randrange(1, 4)) for role in ("user", "assistant")]} for _ in range(count)]
    return Memory(rows, rows[:10])


@pytest.fixture(scope="module")
def codec() -> TextCodec:
    return TextCodec.train(["kettle order refund please Rome 4821 yes no"] * 50, 320)


def small(codec: TextCodec, family: str) -> TokenGenerator:
    if family == "transformer":
        return model(codec)
    torch.manual_seed(0)
    cell = {"cell": family.removeprefix("recurrent-")} if "-" in family else {}
    return families.build(GeneratorSpec.model_validate({"family": "recurrent", "depth": 2, "width": 64, **cell}),
                          vocab_size=codec.vocab_size, context=192,
                          special={"bos": codec.bos, "eos": codec.eos, "pad": codec.pad})


def gradients(generator: TokenGenerator, objective: Any, batches: list[Batch]) -> tuple[float, dict[str, torch.Tensor]]:
    """Return the summed loss of batches and the gradient of each parameter."""
    generator.zero_grad(set_to_none=True)
    total = 0.0
    for batch in batches:
        loss = objective.loss(batch)
        loss.total.backward()
        total += float(loss.total.detach())
    return total, {name: p.grad.clone() for name, p in generator.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", ["transformer", "recurrent", "recurrent-gru"])
def test_packed_equals_unpacked_in_loss_and_gradient(codec: TextCodec, family: str) -> None:
    data = chats(codec, 40)
    generator = small(codec, family).train()
    with torch.no_grad():  # at the start many output matrices are zero, which would hide a leak
        for parameter in generator.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    found = []
    for options in (Settings(), Settings(pack=False), Settings(pack=False, buckets=1)):
        objective = SFT(generator, codec, data, context=192, batch_tokens=192, micro_batch=1, seed=0,
                        validation_tokens=1000, settings=options)
        steps = len(objective._buckets) if objective._buckets else len(objective._bins)
        batches = [batch for step in range(steps) for batch in objective.batch(step)]
        found.append((gradients(generator, objective, batches), sum(batch["tokens"].numel() for batch in batches)))
    (loss, slopes), _ = found[0]
    for (other, others), _ in found[1:]:
        assert other == pytest.approx(loss, rel=1e-5)
        assert others.keys() == slopes.keys()
        for name, slope in slopes.items():
            assert torch.allclose(others[name], slope, rtol=1e-3, atol=1e-4 * float(slope.abs().max())), name
    packed, bucketed, whole = (tokens for _, tokens in found)
    assert packed < whole
    assert bucketed < 0.6 * whole


def test_a_token_of_a_packed_row_sees_nothing_of_its_neighbours(codec: TextCodec) -> None:
    """Changing one conversation changes no logit of the others in its row, in both families."""
    data = chats(codec, 40)
    for family in ("transformer", "recurrent"):
        generator = small(codec, family).eval()
        with torch.no_grad():
            for parameter in generator.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
        batch = SFT(generator, codec, data, context=192, batch_tokens=192, micro_batch=1, seed=0,
                    validation_tokens=1000).batch(0)[0]
        changed = {name: tensor.clone() for name, tensor in batch.items()}
        first = batch["segments"][0] == 1
        assert 0 < int(first.sum()) < int((batch["segments"][0] > 0).sum())
        changed["tokens"][0, first] = codec.encode("x")[0]
        with torch.no_grad():
            before, after = (generator.hidden(each["tokens"], positions=each["positions"], segments=each["segments"])
                             for each in (batch, changed))
        assert torch.allclose(before[0, ~first], after[0, ~first], atol=1e-5)
        assert not torch.allclose(before[0, first], after[0, first], atol=1e-2)


def test_a_batch_is_a_function_of_the_step(codec: TextCodec) -> None:
    one, two = (SFT(small(codec, "transformer"), codec, chats(codec, 60), context=192, batch_tokens=384, micro_batch=2,
                    seed=5, validation_tokens=1000, settings=Settings(pack=False)) for _ in range(2))
    for step in (9, 0, 40):
        for left, right in zip(one.batch(step), two.batch(step), strict=True):
            assert all(torch.equal(left[key], right[key]) for key in left)


def test_a_stopped_run_goes_on_to_the_same_bits_and_learns(codec: TextCodec, tmp_path: Path) -> None:
    """Real training in buckets: stopped by Ctrl-C and resumed it equals the whole run; held-out loss falls by a nat."""
    data = chats(codec, 60)
    spec = TrainingSpec(budget=Budget(steps=24), context=192, precision="fp32", compile="off", learning_rate=0.02,
                        learning_rate_rest=0.02)

    class Stops(SFT):
        def batch(self, step: int) -> list[Batch]:
            if step == 9:
                os.kill(os.getpid(), signal.SIGINT)
            return super().batch(step)

    def run(kind: type[SFT], name: str, resume: bool) -> dict[str, torch.Tensor]:
        objective = kind(small(codec, "transformer"), codec, data, context=192, batch_tokens=384, micro_batch=1, seed=5,
                         validation_tokens=2000, settings=Settings(pack=False))
        train(objective, spec, run=tmp_path / name, seed=5, resume=resume)
        return objective.generator.state_dict()

    whole = run(SFT, "whole", False)
    with pytest.raises(Interrupted):
        run(Stops, "stopped", False)
    again = run(SFT, "stopped", True)
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    looks = [line["validation"]["loss"] for line in read_history(tmp_path / "whole") if "validation" in line]
    assert looks[-1] < looks[0] - 1
