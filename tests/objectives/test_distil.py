"""Distillation: the loss against a slow one from its paper, and a student that comes nearer to its teacher."""

import math
from typing import Any

import pytest
import torch

from bottega.codecs.text import TextCodec
from bottega.families.base import IGNORED
from bottega.objectives.distil import Distil, Settings, divergence
from bottega.objectives.sft import SFT
from bottega.training.loop import validate
from tests.objectives.test_chat import CPU, codec, model, support, train  # noqa: F401

SIZES = {"context": 192, "batch_tokens": 1536, "micro_batch": 8, "seed": 0, "validation_tokens": 4096}


def by_hand(q: list[float], p: list[float], kind: str) -> float:
    """A divergence summed word by word."""
    def kl(one: list[float], other: list[float]) -> float:
        return sum(x * math.log(x / y) for x, y in zip(one, other, strict=True))

    middle = [(x + y) / 2 for x, y in zip(q, p, strict=True)]
    return {"forward": kl(q, p), "reverse": kl(p, q), "jsd": (kl(q, middle) + kl(p, middle)) / 2}[kind]


@pytest.mark.parametrize("kind", ["forward", "reverse", "jsd"])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_divergences_equal_their_formulas(kind: Any, temperature: float) -> None:
    torch.manual_seed(0)
    teacher, student = torch.randn(5, 7), torch.randn(5, 7)
    found = divergence(teacher, student, temperature, kind)
    wanted = [by_hand(*((row / temperature).softmax(-1).tolist() for row in rows), kind)
              for rows in zip(teacher, student, strict=True)]
    assert found.tolist() == pytest.approx(wanted, rel=1e-4)
    assert divergence(teacher, teacher, temperature, kind).abs().max() < 1e-6


def test_the_loss_and_its_gradient_equal_a_slow_one(codec: TextCodec, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr("bottega.objectives.distil._SLICE", 600 * 50)  # several slices in a batch
    student, teacher = model(codec, 1), model(codec, 2).eval()
    with torch.no_grad():
        for generator in (student, teacher):
            for parameter in generator.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.02)
    options = Settings(teacher="t", temperature=1.7, weight=0.3)
    objective = Distil(student, teacher, codec, support(20, 4), settings=options, **SIZES)
    batch = objective.batch(0)[0]
    loss = objective.loss(batch)
    loss.total.backward()
    found = {name: parameter.grad.clone() for name, parameter in student.named_parameters()}
    student.zero_grad()
    keys = {"positions": batch["positions"], "segments": batch["segments"]}
    ours, theirs = student(batch["tokens"], **keys), teacher(batch["tokens"], **keys).detach()
    known = batch["targets"] != IGNORED
    hard = torch.nn.functional.cross_entropy(ours[known], batch["targets"][known], reduction="sum")
    q = (theirs[known] / 1.7).softmax(-1)
    soft = (q * (q.log() - (ours[known] / 1.7).log_softmax(-1))).sum()
    wanted = 0.7 * hard + 0.3 * 1.7**2 * soft
    assert known.sum() > 100
    assert float(loss.total) == pytest.approx(float(wanted), rel=1e-4)
    wanted.backward()
    for name, parameter in student.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-3, atol=1e-4)
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_a_student_comes_near_its_teacher(codec: TextCodec) -> None:  # noqa: F811
    data = support(300, 40)
    taught = SFT(model(codec, 5), codec, data, **SIZES)
    train(taught, 40, 0.02)
    student = Distil(model(codec, 1), taught.generator.eval(), codec, data, settings=Settings(teacher="t", weight=1.0),
                     **SIZES)
    before = validate(student, "fp32", CPU)
    train(student, 40, 0.02)
    after = validate(student, "fp32", CPU)
    assert after["divergence"] < 0.5 * before["divergence"]
    assert after["token_accuracy"] > before["token_accuracy"] + 0.3  # the teacher's words, without the data's
