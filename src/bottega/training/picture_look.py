"""What a model of pictures draws for people to look at: a sheet, how a picture came to be, walks through codes.

`bottega train recipes/digits-vae.yaml` keeps a sheet of each look in runs/NAME/samples, and `bottega evaluate` draws
here. Every picture has a seed and a number of its own, so that two looks differ by the model alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from bottega.codecs.image import ImageCodec
from bottega.core.files import write_atomic
from bottega.core.progress import track
from bottega.core.request import Controls
from bottega.data.pictures.dataset import PictureDataset
from bottega.evaluation.picture_report import Drawn
from bottega.evaluation.picture_sheet import contact_sheet, denoising_strip
from bottega.families.pictures import PictureGenerator
from bottega.generation.pictures import generators

Pixels: TypeAlias = NDArray[np.uint8]
Data: TypeAlias = PictureDataset[ImageCodec]
SAMPLES = "samples"  # folder of a run
_KEPT = 10           # sheets that are kept while a model trains
_AT_ONCE = 64        # pictures drawn together
_ROWS, _COLUMNS = 12, 8
_STRIP = 10          # steps that are shown
_WALKS = 6           # dimensions of a code that are shown
_MEASURED = 512       # pictures that tell which dimensions are in use
_CAPTIONED = 128     # pixels of a picture that has a caption under it


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is asked of a model, a row a picture.

    Attributes:
        labels: int64 [n], -1 for no class.
        text: int64 [n, T], 0 for padding.
        names: the same in words.
        places: int64 [n], the held-out picture that each wish was taken from.
    """

    labels: torch.Tensor
    text: torch.Tensor
    names: list[str]
    places: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.names)

    def part(self, rows: slice) -> Wishes:
        """Return some of them."""
        return Wishes(self.labels[rows], self.text[rows], self.names[rows], self.places[rows])


def wishes(data: Data, places: NDArray[np.int64]) -> Wishes:
    """Ask for the classes of held-out pictures, or where there are none for what their captions say."""
    codec = data.codec
    empty = [0] * codec.text_length
    if codec.classes:
        labels = data.labels("validation")[places]
        names = [codec.classes[label] if label >= 0 else "" for label in labels]
        text = [empty] * len(places)
    else:
        labels = np.full(len(places), -1, dtype=np.int64)
        captions = data.captions("validation")
        names = [captions[place] for place in places]
        text = codec.encode_texts(names) if codec.vocab else [empty] * len(places)
    return Wishes(torch.from_numpy(labels), torch.tensor(text, dtype=torch.int64).reshape(len(places), -1), names,
                  places)


def random_wishes(data: Data, n: int, seed: int) -> Wishes:
    """Return n wishes as the held-out pictures would have them, in random order; all of them once before any twice."""
    count = data.size("validation")
    order = np.random.default_rng([seed, 3])
    places = np.concatenate([order.permutation(count) for _ in range(-(-n // count))])[:n]
    return wishes(data, places.astype(np.int64))


def sheet_wishes(data: Data, rows: int = _ROWS, columns: int = _COLUMNS) -> Wishes:
    """Return a row of wishes a class; without classes one for each of some held-out pictures, spread evenly."""
    count = data.size("validation")
    if not data.codec.classes or bool((data.labels("validation") < 0).all()):  # of a base that knows some
        few = min(count, rows * columns // (4 if data.codec.vocab else 1))
        return wishes(data, np.arange(few, dtype=np.int64) * count // few)
    labels = data.labels("validation")
    first = [np.flatnonzero(labels == label) for label in range(len(data.codec.classes))]
    chosen = [places[0] for places in first if len(places)][:rows]
    return wishes(data, np.repeat(np.array(chosen, dtype=np.int64), columns))


def frames(generator: PictureGenerator, codec: ImageCodec, wished: Wishes, controls: Controls, seed: int,
           first: int = 0) -> Iterator[Pixels]:
    """Yield previews, then the pictures of wishes, uint8 [n, C, H, W].

    Args:
        generator: in evaluation mode.
        codec: of its pictures.
        wished: what to draw.
        controls: those that the family understands.
        seed: picture k is drawn from chance of (seed, first + k) alone.
        first: number of the first picture.
    """
    rng = generators(seed, range(first, first + len(wished)))
    for made in generator.draw(wished.labels, wished.text, rng, controls=controls):
        yield codec.to_pixels(made)


def draw_all(generator: PictureGenerator, codec: ImageCodec, wished: Wishes, controls: Controls, seed: int,
             title: str = "") -> Pixels:
    """Return a picture of every wish, uint8 [n, C, H, W], with a bar where there is a title."""
    starts = range(0, len(wished), _AT_ONCE)
    parts = []
    for start in track(starts, title) if title else starts:
        *_, last = frames(generator, codec, wished.part(slice(start, start + _AT_ONCE)), controls, seed, start)
        parts.append(last)
    return np.concatenate(parts)


def sheet(generator: PictureGenerator, data: Data, controls: Controls, seed: int) -> Drawn:
    """Draw a contact sheet: a row a class; or held-out pictures, each with what is made of its caption beside it.

    Of a vae made for another generator held-out pictures and what their codes keep of them: codes that nobody learned
    to draw are no pictures.
    """
    from bottega.families.vae import VAE

    if isinstance(generator, VAE) and generator.config.spatial:
        return _kept_by_codes(generator, data, seed)
    wished = sheet_wishes(data)
    made = draw_all(generator, data.codec, wished, controls, seed)
    if data.codec.classes:
        pixels, about = contact_sheet(made, _COLUMNS, wished.names), "a row a class"
    elif data.codec.vocab:
        real = np.asarray(data.images("validation")[wished.places])
        pairs = np.stack([real, made], axis=1).reshape(-1, *made.shape[1:])
        names = [name for caption in wished.names for name in ("real", caption or "(no caption)")]
        pixels = contact_sheet(pairs, _COLUMNS, names, cell=_CAPTIONED)
        about = "held-out pictures, each with what the model makes of its caption to the right"
    else:
        pixels, about = contact_sheet(made, _COLUMNS), "drawn without a wish"
    return Drawn("What it draws", f"{about}; seed {seed}, not picked by hand", data.codec.png(pixels))


def _kept_by_codes(vae: Any, data: Data, seed: int) -> Drawn:
    """Return a sheet of held-out pictures, spread evenly, each with its code decoded again to the right."""
    count = data.size("validation")
    few = min(count, _ROWS * _COLUMNS // 4)
    real = np.asarray(data.images("validation")[np.arange(few, dtype=np.int64) * count // few])
    images = data.codec.to_tensor(real).to(vae.device)
    again = data.codec.to_pixels(vae.vary(images, 0.0, generators(seed, range(few))))
    pairs = np.stack([real, again], axis=1).reshape(-1, *real.shape[1:])
    pixels = contact_sheet(pairs, _COLUMNS, ["real", "its code"] * few)
    return Drawn("What its codes keep", "held-out pictures, each with what its code keeps of it to the right; a "
                 "diffusion model with generator.latents draws new codes", data.codec.png(pixels))


def looks(generator: PictureGenerator, data: Data, controls: Controls, seed: int) -> list[Drawn]:
    """Return everything that can be shown of a finished model: the sheet, and what its family has besides."""
    from bottega.families.vae import VAE

    found = [sheet(generator, data, controls, seed)]
    if generator.family == "diffusion":
        wished = sheet_wishes(data)
        few = wished.part(slice(None, None, max(1, len(wished) // _COLUMNS))).part(slice(_COLUMNS))
        steps = list(frames(generator, data.codec, few, controls, seed))
        strip = denoising_strip(steps, _STRIP)
        found.append(Drawn("How a picture comes to be", f"what the model expects to see at each of {len(steps)} steps: "
                           + ", ".join(dict.fromkeys(name or "no wish" for name in few.names)),
                           data.codec.png(strip)))
    if isinstance(generator, VAE):
        found += _walks(generator, data)
    return found


def _walks(vae: Any, data: Data) -> list[Drawn]:
    """Return the way from one held-out picture to another, and one picture with each used dimension of its code moved.
    """
    codec, count = data.codec, data.size("validation")
    places = np.array([0, count // 5, 2 * count // 5, 3 * count // 5, 4 * count // 5, count - 1])
    wished = wishes(data, places)
    images = codec.to_tensor(np.asarray(data.images("validation")[places]))
    ways = []
    for one in range(0, len(places), 2):
        pair = wished.part(slice(one, one + 2))
        ways.append(vae.interpolate(images[one], images[one + 1], _COLUMNS, labels=pair.labels, text=pair.text))
    drawn = [Drawn("Between two pictures", "held-out pictures at both ends, as the model sees them",
                   codec.png(contact_sheet(codec.to_pixels(torch.cat(ways)), _COLUMNS)))]
    if not float(vae.spread.max()):
        vae.measure_latents([{"images": codec.to_tensor(np.asarray(data.images("validation")[:_MEASURED]))}])
    active = vae.latents()["active"][:_WALKS]
    if active:
        first, values = wished.part(slice(1)), torch.linspace(-2, 2, _COLUMNS)
        moved = torch.cat([vae.traverse(images[0], dimension, values, labels=first.labels, text=first.text)
                           for dimension in active])
        about = f"one picture, a row a dimension of its code ({', '.join(map(str, active))}; the most used first), "
        drawn.append(Drawn("What a code means", f"{about}moved from -2 to 2",
                           codec.png(contact_sheet(codec.to_pixels(moved), _COLUMNS))))
    return drawn


def sampler(generator: PictureGenerator, data: Data, controls: Controls, seed: int,
            run: Path) -> Callable[[int], str]:
    """Return a function that draws a sheet of what the model draws after a step, and says where it is."""
    def sample(step: int) -> str:
        folder = run / SAMPLES
        path = folder / f"{step:08d}.png"
        write_atomic(path, sheet(generator, data, controls, seed).png)
        for old in sorted(folder.glob("*.png"))[:-_KEPT]:
            old.unlink()
        return f"what it draws now: {path}"

    return sample
