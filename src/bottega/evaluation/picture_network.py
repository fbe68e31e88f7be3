"""The small network behind the judges of pictures, and how it is fitted; `pytest tests/evaluation/test_pictures.py`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from bottega.core.progress import track
from bottega.evaluation.picture_distances import Pixels

FEATURES = 64
WIDTH = 32  # maps of a judge's first convolution
BATCH = 64
_CROP = 16  # cells of a soft crop


@contextmanager
def seeded(seed: int) -> Iterator[torch.Generator]:
    """Run the block on its own random state, and leave the caller's as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


def as_floats(pictures: Pixels) -> Tensor:
    """Return uint8 pictures as float32 from -1 to 1."""
    return torch.from_numpy(np.array(pictures)).float() / 127.5 - 1


class Network(nn.Module):
    """Convolutions to a grid of at most 8 x 8, a soft crop of it for each place, and an answer to each question.

    The first convolution's stride brings any picture to at most 16 x 16, so that a step costs about the same at all
    sizes. Batch normalisation, not a picture's own: a pale picture must stay pale in the features. A place has its
    own weights only for where it looks, all else is shared, so that a sign learned on the left is known on the right.

    Args:
        shape: channels, height, width.
        questions: e.g. "class", or "left colour": the attribute "colour" of the place "left".
        answers: attribute → how many answers it has.
        maps: width of the convolutions.
    """

    def __init__(self, shape: Sequence[int], questions: Sequence[str], answers: Mapping[str, int], maps: int) -> None:
        super().__init__()
        channels, height, width = shape
        factor = max(1, math.ceil(max(height, width) / 16))
        layers: list[nn.Module] = []
        for inside, outside, reach, stride in ((channels, maps, factor, factor), (maps, 2 * maps, 1, 2),
                                               (2 * maps, 2 * maps, 1, 1)):
            layers += [nn.Conv2d(inside, outside, 2 * reach + 1, stride, reach, bias=False),
                       nn.BatchNorm2d(outside), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        cells = math.ceil(math.ceil(height / factor) / 2) * math.ceil(math.ceil(width / factor) / 2)
        parts = [question.rpartition(" ") for question in questions]
        places = sorted({place for place, _, _ in parts})
        self.asked = [(places.index(place), list(answers).index(attribute)) for place, _, attribute in parts]
        self.crops = nn.Parameter(torch.randn(len(places), _CROP, cells) / math.sqrt(cells))
        self.look = nn.Linear(_CROP * 2 * maps, FEATURES)
        self.heads = nn.ModuleList(nn.Linear(FEATURES, count) for count in answers.values())

    def _places(self, pictures: Tensor) -> Tensor:
        """Return what is seen at each place: [n, places, 64]."""
        grid = self.body(pictures).flatten(2)
        return torch.as_tensor(self.look(torch.einsum("ncx,pmx->npmc", grid, self.crops).flatten(2)))

    def embed(self, pictures: Tensor) -> Tensor:
        """Return features [n, places * 64] of float pictures."""
        return self._places(pictures).flatten(1)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Return the logits [n, answers] of each question."""
        seen = F.dropout(F.relu(self._places(pictures)), 0.2, self.training)
        return [self.heads[attribute](seen[:, place]) for place, attribute in self.asked]


class Projection(nn.Module):
    """The (at most 64) directions in which unlabelled pictures differ most; it answers no question."""

    def __init__(self, directions: Tensor) -> None:
        super().__init__()
        self.register_buffer("directions", directions)

    @staticmethod
    def of(pictures: Tensor) -> Projection:
        """Find the directions of float pictures [n, C, H, W]."""
        flat = pictures.flatten(1)
        return Projection(torch.svd_lowrank(flat - flat.mean(0), q=min(FEATURES, *flat.shape), niter=4)[2])

    def embed(self, pictures: Tensor) -> Tensor:
        """Return features [n, at most 64] of float pictures."""
        return pictures.flatten(1) @ torch.as_tensor(self.directions)


def fit(network: Network, pictures: Pixels, targets: NDArray[np.int64], steps: int, order: torch.Generator,
         title: str) -> None:
    """Train on answers [n, questions] (-1: not asked): AdamW, a tenth of the steps of warm-up, cosine to zero."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1.0, (step + 1) / (0.1 * steps + 1))
                                                 * 0.5 * (1 + math.cos(math.pi * step / steps)))
    wanted, batch = torch.from_numpy(targets), min(BATCH, len(pictures))
    waiting = torch.empty(0, dtype=torch.int64)
    network.train()
    for _ in track(range(steps), title):
        if len(waiting) < batch:
            waiting = torch.cat([waiting, torch.randperm(len(pictures), generator=order)])
        chosen, waiting = waiting[:batch], waiting[batch:]
        answers = wanted[chosen]
        losses = [F.cross_entropy(logits, answers[:, index], ignore_index=-1, reduction="sum")
                  for index, logits in enumerate(network(as_floats(pictures[chosen.numpy()])))]
        optimiser.zero_grad()
        (torch.stack(losses).sum() / (answers >= 0).sum().clamp(min=1)).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    network.eval()
