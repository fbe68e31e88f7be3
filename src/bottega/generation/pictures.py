"""A loaded model of pictures, whatever made it: `bottega generate "a red star" --model symbols-diffusion` asks one.

`NativePictures` (native_pictures.py) draws with our families, `backends/diffusers.py` with a diffusers pipeline. A
picture depends on the seed, its number and the request alone, not on what is made beside it.
"""

from __future__ import annotations

import re
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bottega.codecs.pixels import Pixels
from bottega.core.bundle import Bundle
from bottega.core.errors import ControlError, InputError
from bottega.core.request import Controls, Output, Request, Result, Step
from bottega.generation.sampling import uniform
from bottega.generation.signature import signature

_SIZE = re.compile(r"(\d+)x(\d+)")


@dataclass(frozen=True)
class PicturePlan:
    """A settled request of pictures.

    Attributes:
        request: with the settled controls.
        seed: that makes the same bytes again.
        wanted: pictures to make.
        prompt: tokens read: none are counted for pictures.
    """

    request: Request
    seed: int
    wanted: int
    prompt: tuple[int, ...] = ()

    @property
    def controls(self) -> Controls:
        """The settled controls."""
        return self.request.controls


class PictureEngine(ABC):
    """One model of pictures, ready to draw.

    Attributes:
        family: for messages.
        understands: names of the controls that the model obeys.
        size: height and width in pixels of a picture that is asked for without `size`.
        controls: defaults that came with the model.
        model_digest: digest of the bundle.
        lineage: where the model came from; goes into every result.
    """

    family: str
    understands: frozenset[str]
    size: tuple[int, int]
    at_once = 16  # pictures made together
    takes_turns = True  # whether requests may be drawn step by step in turns

    def __init__(self, *, controls: Controls, model_digest: str, lineage: dict[str, Any]) -> None:
        self.model_digest, self.lineage = model_digest, lineage
        self.controls = controls.over(Controls(n=1))

    @abstractmethod
    def frames(self, request: Request, controls: Controls, numbers: range) -> Iterator[list[Pixels | None]]:
        """Yield previews of the pictures of these numbers, then the pictures, uint8 [C, H, W] each.

        A picture that a check of the model's own holds back is None.

        Args:
            request: what is wanted; it passed `check`.
            controls: settled.
            numbers: of the request's pictures; with `toward` all of them.
        """

    @abstractmethod
    def check(self, request: Request, controls: Controls) -> None:
        """Refuse what cannot be drawn, before any work.

        Raises:
            ControlError, InputError: naming the value and what to do.
        """

    def settle(self, request: Request) -> Controls:
        """Return the controls that a request is made with, its seed chosen.

        Raises:
            ControlError: the model does not understand a control.
            InputError: the model cannot draw what is asked.
        """
        request.controls.require(self.understands, self.family)
        if request.prompt is None or request.suffix is not None:
            raise InputError("a model of pictures takes one line of text", fix="give a prompt, which may be empty")
        controls = request.controls.over(self.controls)
        if request.toward is not None and (controls.n or 1) < 2:
            raise InputError("a walk to a second prompt needs at least two pictures", where="toward", fix="set n")
        self.check(request, controls)
        return controls if controls.seed is not None else \
            controls.model_copy(update={"seed": secrets.randbits(53)})

    def plan(self, request: Request) -> PicturePlan:
        """Settle a request.

        Raises:
            ControlError, InputError: as in `settle`.
        """
        controls = self.settle(request)
        assert controls.seed is not None
        return PicturePlan(request.model_copy(update={"controls": controls}), controls.seed, controls.n or 1)

    def steps(self, plan: PicturePlan) -> Iterator[list[Step]]:
        """Yield what each call of the network made: a preview of some pictures, or (with `finish`) the pictures.

        A step's data is uint8 [C, H, W].
        """
        together = plan.wanted if plan.request.toward is not None else self.at_once
        for first in range(0, plan.wanted, together):
            numbers = range(first, min(first + together, plan.wanted))
            before, index = None, 0
            for frame in self.frames(plan.request, plan.controls, numbers):
                if before is not None:
                    yield _steps(before, numbers, index, last=False)
                    index += 1
                before = frame
            assert before is not None
            yield _steps(before, numbers, index, last=True)

    def stream(self, request: Request) -> Iterator[Step]:
        """Yield previews and pictures, uint8 [C, H, W] in `Step.data`; `finish` is set on the last of each output.

        Raises:
            ControlError, InputError: as in `settle`.
        """
        for steps in self.steps(self.plan(request)):
            yield from steps

    def generate(self, request: Request) -> Result:
        """Make a request's pictures; the last step of each output holds it.

        Raises:
            ControlError, InputError: as in `settle`.
        """
        plan, start = self.plan(request), time.perf_counter()
        made = [step for steps in self.steps(plan) for step in steps]
        return self.result(plan, made, time.perf_counter() - start)

    def result(self, plan: PicturePlan, steps: list[Step], seconds: float) -> Result:
        """Sign what was made."""
        outputs = [Output() for _ in range(plan.wanted)]
        for step in steps:
            outputs[step.output].steps.append(step)
            outputs[step.output].finish = step.finish or ""
        return Result(outputs=outputs, prompt_tokens=0, new_tokens=len(outputs), seed=plan.seed, seconds=seconds,
                      model=self.model_digest, lineage=self.sign(plan))

    def sign(self, plan: PicturePlan) -> dict[str, Any]:
        """Return what makes a request's pictures again: model, digest of the request, settled controls, code."""
        return signature(self.lineage, self.model_digest, plan)


def _steps(pictures: list[Pixels | None], numbers: range, index: int, *, last: bool) -> list[Step]:
    return [Step(output=number, index=index, kind="frame", data=picture,
                 finish=None if not last else "filtered" if picture is None else "end")
            for picture, number in zip(pictures, numbers, strict=True)]


def generators(seed: int, numbers: range) -> list[torch.Generator]:
    """Return a source of chance on the CPU for each of a request's pictures."""
    return [torch.Generator().manual_seed(int(uniform(seed, number, 0) * 2**53)) for number in numbers]


def sides(size: str) -> tuple[int, int]:
    """Return height and width of the control `size`, which says WIDTHxHEIGHT.

    Raises:
        ControlError: a side is 0.
    """
    match = _SIZE.fullmatch(size)
    if match is None or not (int(match[1]) and int(match[2])):
        raise ControlError(f"size '{size}' is no size", fix="write WIDTHxHEIGHT in pixels, such as 32x32")
    return int(match[2]), int(match[1])


def open_pictures(model: Path | Bundle) -> PictureEngine:
    """Verify a bundle and load it.

    Raises:
        InputError: no such folder, not a bundle, or not a model of pictures.
        CorruptError: a file does not match the manifest.
        MissingExtraError: it needs a library that is not installed.
    """
    bundle = model if isinstance(model, Bundle) else Bundle.open(model)
    if bundle.meta.get("codec") != "image":
        raise InputError(f"{bundle.path} is a model of {bundle.meta.get('codec', 'text')}, not of pictures",
                         fix="choose a model of pictures; see 'bottega models'")
    if bundle.meta["family"] == "diffusers":
        from bottega.generation.backends.diffusers import DiffusersPictures

        return DiffusersPictures.open(bundle)
    from bottega.generation.native_pictures import NativePictures

    return NativePictures.open(bundle)
