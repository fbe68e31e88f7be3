"""From a request to signed pictures: `bottega generate "a red star" --model symbols-diffusion` ends here.

A picture depends on the seed, its number and the request alone, not on what is made beside it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from bottega.codecs.image import ImageCodec
from bottega.core.bundle import Bundle
from bottega.core.errors import InputError, suggest
from bottega.core.files import digest_json
from bottega.core.lineage import code_digest
from bottega.core.request import Controls, Output, Request, Result, Step
from bottega.families import picture_family
from bottega.families.pictures import PictureGenerator
from bottega.generation.sampling import uniform

_AT_ONCE = 16  # pictures made together


class PictureEngine:
    """One model of pictures, ready to draw.

    Args:
        generator: the model.
        codec: its codec.
        controls: defaults that came with the model.
        model_digest: digest of the bundle.
        lineage: where the model came from; goes into every result.
    """

    def __init__(self, generator: PictureGenerator, codec: ImageCodec, *, controls: Controls, model_digest: str,
                 lineage: dict[str, Any]) -> None:
        self.codec, self.model_digest, self.lineage = codec, model_digest, lineage
        self.controls = controls.over(Controls(n=1))
        self._generator = generator.eval()

    @classmethod
    def open(cls, model: Path | Bundle) -> PictureEngine:
        """Verify a bundle and load it.

        Raises:
            InputError: no such folder, not a bundle, or not a model of pictures.
            CorruptError: a file does not match the manifest.
        """
        bundle = model if isinstance(model, Bundle) else Bundle.open(model)
        if bundle.meta.get("codec") != "image":
            raise InputError(f"{bundle.path} is a model of {bundle.meta.get('codec', 'text')}, not of pictures",
                             fix="choose a model of pictures; see 'bottega models'")
        generator = picture_family(str(bundle.meta["family"])).load(bundle.path)
        if torch.cuda.is_available():
            generator = generator.cuda()
        lineage = {"name": bundle.name, "path": str(bundle.path), "lineage": bundle.lineage.digest}
        return cls(generator, ImageCodec.load(bundle.path), controls=bundle.controls, model_digest=bundle.digest,
                   lineage=lineage)

    def stream(self, request: Request) -> Iterator[Step]:
        """Yield previews and pictures, uint8 [C, H, W] in `Step.data`; `finish` is set on the last of each output.

        Raises:
            ControlError: the family does not understand a control.
            InputError: the model knows no such class, or reads fewer words.
        """
        return self._draw(request, self._settle(request))

    def generate(self, request: Request) -> Result:
        """Make a request's pictures; the last step of each output holds it.

        Raises:
            ControlError, InputError: as in `stream`.
        """
        controls, start = self._settle(request), time.perf_counter()
        outputs = [Output() for _ in range(controls.n or 1)]
        for step in self._draw(request, controls):
            outputs[step.output].steps.append(step)
            outputs[step.output].finish = step.finish or ""
        wish = {"prompt": request.prompt, "controls": controls.model_dump(mode="json", exclude_none=True)}
        lineage = {**self.lineage, "model": self.model_digest, "request": digest_json(wish), **wish,
                   "code": code_digest(), "torch": str(torch.__version__)}
        return Result(outputs=outputs, prompt_tokens=0, new_tokens=len(outputs), seed=controls.seed or 0,
                      seconds=time.perf_counter() - start, model=self.model_digest, lineage=lineage)

    def _settle(self, request: Request) -> Controls:
        """Return the controls that a request is made with, its seed chosen."""
        request.controls.require(self._generator.understands, self._generator.family)
        if request.prompt is None or request.suffix is not None:
            raise InputError("a model of pictures takes one line of text", fix="give a prompt, which may be empty")
        controls = request.controls.over(self.controls)
        return controls if controls.seed is not None else \
            controls.model_copy(update={"seed": secrets.randbits(53)})

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

    def _draw(self, request: Request, controls: Controls) -> Iterator[Step]:
        label, words = self._condition(request.prompt or "")
        seed, count = controls.seed or 0, controls.n or 1
        for first in range(0, count, _AT_ONCE):
            numbers = range(first, min(first + _AT_ONCE, count))
            rng = [torch.Generator().manual_seed(int(uniform(seed, number, 0) * 2**53)) for number in numbers]
            labels = torch.full((len(numbers),), label, dtype=torch.int64)
            text = torch.tensor([words] * len(numbers), dtype=torch.int64).reshape(len(numbers), -1)
            before = None
            index = 0
            for frame in self._generator.draw(labels, text, rng, controls=controls, **self._away(controls)):
                if before is not None:
                    yield from self._steps(before, numbers, index, last=False)
                    index += 1
                before = frame
            assert before is not None
            yield from self._steps(before, numbers, index, last=True)

    def _away(self, controls: Controls) -> dict[str, Any]:
        """Return the words to stay away from, for a family that understands them."""
        if not controls.negative_prompt:
            return {}
        return {"negative": torch.tensor(self._condition(controls.negative_prompt)[1], dtype=torch.int64)}

    def _steps(self, frames: torch.Tensor, numbers: range, index: int, *, last: bool) -> Iterator[Step]:
        pixels = self.codec.to_pixels(frames)
        for place, number in enumerate(numbers):
            yield Step(output=number, index=index, kind="frame", data=pixels[place], finish="end" if last else None)
