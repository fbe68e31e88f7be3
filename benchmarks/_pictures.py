"""What the benchmarks of pictures share: models made by the command line, drawing, judging, sheets, cells of tables.

Used by pictures_quality.py, real_pictures.py and images.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bottega.codecs.image import ImageCodec
from bottega.core.bundle import Bundle
from bottega.core.files import write_atomic
from bottega.core.recipe import Recipe
from bottega.evaluation.picture_prompts import Answers
from bottega.evaluation.picture_sheet import contact_sheet
from bottega.evaluation.statistics import Figure
from bottega.families import picture_family
from bottega.families.pictures import PictureGenerator
from bottega.training.media import MEDIA
from bottega.training.picture_look import Data, Wishes

Pixels = NDArray[np.uint8]
_BAND = 12  # pixels of paper between real and made


def recipe_of(recipe: str, overrides: Sequence[str]) -> Recipe:
    """Return a shipped recipe with overrides, as `bottega train` reads it."""
    from bottega.core.home import recipe_path

    return Recipe.load(recipe_path(recipe), list(overrides))


def train(recipe: str, overrides: Sequence[str], home: Path) -> Bundle:
    """Train a shipped recipe by `bottega train` in a process of its own; a finished model of it is taken as it is.

    Raises:
        subprocess.CalledProcessError: the command failed; it said why.
    """
    name = recipe_of(recipe, overrides).name
    command = [sys.executable, "-m", "bottega", "train", f"recipes/{recipe}.yaml", *overrides]
    subprocess.run(command, env={**os.environ, "BOTTEGA_HOME": str(home)}, stdout=subprocess.DEVNULL, check=True)
    return Bundle.open(home / "models" / name)


def prepared(recipe: str, overrides: Sequence[str], home: Path) -> Data:
    """Return the pictures of a recipe."""
    data: Data = MEDIA["image"].dataset(recipe_of(recipe, overrides), None, home)
    return data


def opened(bundle: Bundle) -> PictureGenerator:
    """Load a model of pictures."""
    return picture_family(str(bundle.meta["family"])).load(bundle.path)


def captioned(data: Data, places: NDArray[np.int64]) -> Wishes:
    """Ask for what the captions of held-out pictures say, also where they have classes."""
    captions = data.captions("validation")
    names = [captions[place] for place in places]
    text = torch.tensor(data.codec.encode_texts(names), dtype=torch.int64).reshape(len(places), -1)
    return Wishes(torch.full((len(places),), -1), text, names, places)


def asked(given: Answers, places: NDArray[np.int64]) -> Answers:
    """Return the answers of some pictures."""
    return {question: [each[place] for place in places] for question, each in given.items()}


Encode = Callable[[Tensor], tuple[Tensor, Tensor]]
Decode = Callable[[Tensor], Tensor]


@torch.no_grad()
def bound(encode: Encode, decode: Decode, images: Tensor, variance: float, draws: int = 16) -> dict[str, float]:
    """Return the evidence bound (nats a picture) and the reconstruction error of an autoencoder on pictures.

    log p(x) >= E_q[log N(x; decode(z), variance)] - KL(q(z|x) | N(0, 1)), q = N(mean, exp(logvar)) (Kingma and Welling
    2014, equation 3 and appendix B), the expectation over 16 draws a picture.

    Args:
        encode: pictures to mean and log-variance of their codes.
        decode: codes to pictures.
        images: float [n, C, H, W] in [-1, 1].
        variance: of the decoder.
        draws: codes a picture.

    Returns:
        `bound`, `kl`, and `mse`, the squared error a pixel of what the mean code decodes to.
    """
    mean, logvar = encode(images)
    rng, numbers = torch.Generator().manual_seed(0), images[0].numel()
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).flatten(1).sum(1).mean()
    noisy = torch.stack([(decode(mean + torch.randn(mean.shape, generator=rng) * (0.5 * logvar).exp()) - images)
                         .square().mean() for _ in range(draws)]).mean()
    fit = -0.5 * numbers * (np.log(2 * np.pi * variance) + float(noisy) / variance)
    return {"bound": float(fit - kl), "kl": float(kl), "noisy": float(noisy),
            "mse": float((decode(mean) - images).square().mean())}


def principal(train: NDArray[np.float64], test: NDArray[np.float64], size: int) -> dict[str, float]:
    """Return held-out log-likelihood (nats a picture) and reconstruction error of a PCA with `size` numbers.

    The likelihood is that of the probabilistic PCA (Tipping and Bishop 1999): a linear autoencoder, its bound tight.

    Args:
        train, test: pictures [n, numbers].
        size: of the code.
    """
    from sklearn.decomposition import PCA

    found = PCA(size).fit(train)
    back = found.inverse_transform(found.transform(test))
    return {"bound": float(found.score(test)), "mse": float(np.square(back - test).mean())}


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run the block with so many threads of PyTorch."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


def save_sheet(path: Path, real: Pixels, made: Pixels, names: Sequence[str] | None = None, columns: int = 6) -> None:
    """Write real pictures (left) and made ones (right), a name under each; bytes as small as PNG makes them."""
    cell = 96 if names else 56
    left, right = (contact_sheet(side, columns, names, cell=cell) for side in (real, made))
    band = np.full((*left.shape[:2], _BAND), 250, dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, ImageCodec.png(np.concatenate([left, band, right], axis=2)))
    size = path.stat().st_size
    if size > 150_000:
        print(f"warning: {path} has {size / 1000:.0f} kB", file=sys.stderr)


def cell(figure: Figure | Mapping[str, Any], percent: bool = False) -> str:
    """Return a figure with its 95 % interval, for a table."""
    scale, digits = (100, 1) if percent else (1, 2)
    return (f"{figure['value'] * scale:.{digits}f} [{figure['low'] * scale:.{digits}f}, "
            f"{figure['high'] * scale:.{digits}f}]")


@dataclass(frozen=True)
class Row:
    """A measured figure of one seed.

    Attributes:
        value: what was measured.
        percent: shown as a share.
        beside: what it is to be compared with.
        target: what was wanted, in words.
        met: whether it was reached; None where nothing was wanted.
    """

    value: float
    percent: bool = False
    beside: str = ""
    target: str = ""
    met: bool | None = None

    def shown(self) -> str:
        return f"{100 * self.value:.1f} %" if self.percent else f"{self.value:.4g}"


def seed_table(measured: Mapping[int, Mapping[str, Row]]) -> list[str]:
    """Return a table with a row a figure and a column a seed."""
    lines = ["| figure | " + " | ".join(f"seed {seed}" for seed in measured) + " | beside | wanted | met |",
             "|---|" + "--:|" * len(measured) + "---|---|---|"]
    for name, first in next(iter(measured.values())).items():
        rows = [found[name] for found in measured.values()]
        met = "" if first.met is None else "in all seeds" if all(row.met for row in rows) else \
            f"in {sum(bool(row.met) for row in rows)} of {len(rows)}"
        cells = " | ".join(row.shown() for row in rows)
        lines.append(f"| {name} | {cells} | {first.beside} | {first.target} | {met} |")
    return lines
