"""Scikit-learn's 8x8 digits as batches, and a few steps of the real training step over any picture family."""

from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from bottega.families.base import Batch
from bottega.families.pictures import PictureGenerator
from bottega.training.optim import Optimiser
from bottega.training.step import Outcome, seed_step, take

FACTS = {"channels": 1, "size": (8, 8), "classes": 10, "vocab": 0, "text_length": 0}
COLOUR = {"channels": 3, "size": (32, 32), "classes": 0, "vocab": 40, "text_length": 6}


@cache
def digits() -> tuple[Batch, Batch]:
    """Return 1,397 digits to learn from and 400 held out."""
    data = load_digits()
    images = torch.from_numpy(data.images).float().unsqueeze(1) / 8 - 1
    labels = torch.from_numpy(data.target).long()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))

    def part(rows: Tensor) -> Batch:
        return {"images": images[rows], "labels": labels[rows], "text": torch.zeros(len(rows), 0, dtype=torch.int64)}

    return part(order[:1397]), part(order[1397:])


def colours(count: int) -> Batch:
    """Return pictures of one colour each with a caption of three words."""
    chance = torch.Generator().manual_seed(0)
    shades = torch.rand(count, 3, 1, 1, generator=chance) * 2 - 1
    return {"images": shades.expand(count, 3, 32, 32).contiguous(), "labels": torch.full((count,), -1),
            "text": torch.randint(1, 40, (count, 6), generator=chance) * (torch.arange(6) < 3)}


def take_steps(model: PictureGenerator, data: Batch, steps: int, *, rate: float, batch: int = 64, first: int = 0,
               total: int | None = None) -> list[dict[str, Outcome]]:
    """Train as the loop does, the rate falling linearly to 0; return what each player saw at each step."""
    model.train()
    players = {name: Optimiser(model, parameters, kind="adamw", learning_rate=rate, learning_rate_rest=rate,
                               weight_decay=0.0, dtype=torch.float32, betas=model.betas)
               for name, parameters in model.players().items()}
    seen = []
    for step in range(first, first + steps):
        chance = torch.Generator().manual_seed(step)
        rows = torch.randint(0, len(data["images"]), (batch,), generator=chance)
        seed_step(0, step)
        model.before_step(step / (total or steps))
        seen.append({name: take(model.loss, [{key: value[rows] for key, value in data.items()}], name, optimiser,
                                model=model, precision="fp32", clip=1.0, share=1 - step / (total or steps),
                                device=torch.device("cpu")) for name, optimiser in players.items()})
        model.after_step(step)
    model.eval()
    return seen


def generators(count: int) -> list[torch.Generator]:
    """Return one source of chance a picture."""
    return [torch.Generator().manual_seed(100 + number) for number in range(count)]


@torch.no_grad()
def held_out(model: PictureGenerator) -> float:
    """Return the validation loss a held-out digit."""
    loss = model.eval().loss(digits()[1])
    return float(loss.total / loss.weight)


def agreement(images: Tensor, labels: Tensor) -> float:
    """Return the share of pictures whose nearest learned digit has the wanted class."""
    known = digits()[0]
    nearest = torch.cdist(images.flatten(1), known["images"].flatten(1)).argmin(1)
    return float((known["labels"][nearest] == labels).float().mean())
