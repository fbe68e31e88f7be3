"""Pictures drawn by our own families (vae, gan, diffusion); `pytest tests/generation/test_pictures.py` draws some."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor

from bottega.codecs.image import ImageCodec
from bottega.codecs.pixels import Pixels, redrawn
from bottega.core.bundle import Bundle
from bottega.core.errors import ControlError, InputError, suggest
from bottega.core.request import Controls, Request
from bottega.families.bases import open_generator
from bottega.families.pictures import PictureGenerator
from bottega.generation.pictures import PictureEngine, generators, sides
from bottega.generation.signature import origin


class NativePictures(PictureEngine):
    """A model of one of our families.

    Args:
        generator: the model.
        codec: its codec.
        controls, model_digest, lineage: see `PictureEngine`.
    """

    def __init__(self, generator: PictureGenerator, codec: ImageCodec, *, controls: Controls, model_digest: str,
                 lineage: dict[str, Any]) -> None:
        super().__init__(controls=controls, model_digest=model_digest, lineage=lineage)
        self.codec, self.generator = codec, generator.eval()
        self.family, self.understands = generator.family, generator.understands | {"size"}
        self.size = (codec.height, codec.width)

    @classmethod
    def open(cls, bundle: Bundle) -> NativePictures:
        """Load a verified bundle.

        Raises:
            InputError, CorruptError: as in `open_pictures`.
        """
        generator = cast(PictureGenerator, open_generator(bundle, "cuda" if torch.cuda.is_available() else "cpu"))
        lineage = origin(bundle)
        return cls(generator, ImageCodec.load(bundle.path), controls=bundle.controls, model_digest=bundle.digest,
                   lineage=lineage)

    def check(self, request: Request, controls: Controls) -> None:
        """See `PictureEngine.check`."""
        if controls.size is not None and sides(controls.size) != self.size:
            own = f"{self.size[1]}x{self.size[0]}"
            raise ControlError(f"this model draws {own}, not {controls.size}", where="size",
                               fix=f"leave size out or say {own}; train with codec.size for another")
        for text in (request.prompt, request.toward, controls.negative_prompt):
            self._condition(text or "")
        if request.image is not None and type(self.generator).redraw is PictureGenerator.redraw:
            raise InputError(f"a {self.family} model cannot start from a picture", where="image",
                             fix="leave the picture out, or take a diffusion model or a vae")
        if request.mask is not None and not self.generator.masks:
            raise InputError(f"a {self.family} model sees a picture as a whole and cannot redraw a part of it",
                             where="mask", fix="leave the mask out, or take a diffusion model")
        if request.toward is not None and type(self.generator).blend is PictureGenerator.blend:
            raise InputError(f"a {self.family} model cannot walk between two prompts", where="toward",
                             fix="leave the second prompt out")
        self._given(request, 1)

    def frames(self, request: Request, controls: Controls, numbers: range) -> Iterator[list[Pixels | None]]:
        """See `PictureEngine.frames`."""
        for made in self._drawn(request, controls, numbers):
            yield list(self.codec.to_pixels(made))

    def _drawn(self, request: Request, controls: Controls, numbers: range) -> Iterator[Tensor]:
        seed, count = controls.seed or 0, len(numbers)
        if request.toward is not None:
            ends = [self._condition(request.prompt or ""), self._condition(request.toward)]
            yield from self.generator.blend(*_batch(ends), generators(seed, range(2)), count, controls=controls)
            return
        rng = generators(seed, numbers)
        labels, text = _batch([self._condition(request.prompt or "")] * count)
        images, mask = self._given(request, count)
        away = self._away(controls)
        if images is not None:
            hole = {} if mask is None else {"mask": mask}
            yield from self.generator.redraw(images, labels, text, rng, controls=controls, **hole, **away)
        else:
            yield from self.generator.draw(labels, text, rng, controls=controls, **away)

    def _condition(self, prompt: str) -> tuple[int, list[int]]:
        """Return class and words of a prompt: the name of a class, a caption, or nothing."""
        codec, wanted = self.codec, prompt.strip()
        if wanted in codec.classes:
            return codec.classes.index(wanted), [0] * codec.text_length
        if not wanted:
            return -1, [0] * codec.text_length
        if not codec.vocab:
            known = f"it knows {', '.join(codec.classes[:20])}" if codec.classes else "it draws without words"
            raise InputError(f"this model knows no '{wanted[:60]}'; {known}", fix=suggest(wanted, codec.classes))
        unknown = codec.unknown_words(wanted)
        if unknown:
            raise InputError(f"this model never read the word '{unknown[0][:60]}'",
                             fix=suggest(unknown[0], codec.words[2:]))
        return -1, codec.encode_text(wanted)

    def _away(self, controls: Controls) -> dict[str, Any]:
        """Return the words to stay away from, for a family that understands them."""
        if not controls.negative_prompt:
            return {}
        return {"negative": torch.tensor(self._condition(controls.negative_prompt)[1], dtype=torch.int64)}

    def _given(self, request: Request, count: int) -> tuple[Tensor | None, Tensor | None]:
        """Return the picture to start from `count` times, and the mask bool [count, 1, H, W], as far as given."""
        if request.image is None:
            return None, None
        codec = self.codec
        image = codec.to_tensor(codec.decode_file(request.image)).expand(count, -1, -1, -1)
        if request.mask is None:
            return image, None
        hole = torch.from_numpy(redrawn(request.mask, request.image, codec.height, codec.width, codec.fit))
        return image, hole.expand(count, 1, -1, -1)


def _batch(conditions: list[tuple[int, list[int]]]) -> tuple[Tensor, Tensor]:
    """Return classes int64 [B] and words int64 [B, T]."""
    labels, words = zip(*conditions, strict=True)
    return (torch.tensor(labels, dtype=torch.int64),
            torch.tensor(words, dtype=torch.int64).reshape(len(conditions), -1))
