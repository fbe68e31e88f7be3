"""Pictures from any diffusers pipeline (Stable Diffusion, SDXL, SD3, Flux …); `bottega import DIR --name NAME`.

`pytest tests/generation/test_diffusers.py` runs tiny ones. Nothing is ever fetched: the folder holds all. The pipeline
keeps its own scheduler and guidance, so that pictures are those that other programs draw with it. Pictures are drawn
one by one, each from its own seed, so that none depends on what is drawn beside it.
"""

from __future__ import annotations

import inspect
import os
import queue
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bottega.codecs.pixels import Pixels, redrawn, refit, to_image, whole
from bottega.core.bundle import Bundle
from bottega.core.errors import BottegaError, ControlError, CorruptError, InputError, MissingExtraError
from bottega.core.request import Controls, Request
from bottega.generation.backends import preview
from bottega.generation.backends.diffusers_folder import LORAS, PIPELINE, parts
from bottega.generation.pictures import PictureEngine, PicturePlan, generators, sides
from bottega.generation.signature import origin

_WHITE = (255, 255, 255)
_STRENGTH, _STRENGTH_MASKED = 0.6, 1.0  # as our own diffusion models have them


class DiffusersPictures(PictureEngine):
    """An imported pipeline.

    Args:
        pipeline: a loaded text-to-image (or unconditional) pipeline.
        controls, model_digest, lineage: see `PictureEngine`.
    """

    family = "diffusers"
    at_once = 1
    takes_turns = False  # a pipeline's scheduler remembers where one picture is

    def __init__(self, pipeline: Any, *, controls: Controls, model_digest: str, lineage: dict[str, Any]) -> None:
        super().__init__(controls=controls, model_digest=model_digest, lineage=lineage)
        self._pipeline = pipeline
        self._with_image, self._with_mask = _from_pipe("AutoPipelineForImage2Image", pipeline), \
            _from_pipe("AutoPipelineForInpainting", pipeline)
        takes = set(inspect.signature(pipeline.__call__).parameters)
        self._reads = "prompt" in takes
        understood = {"seed", "n", "steps"} | {name for name in ("guidance_scale", "negative_prompt") if name in takes}
        understood |= {"size"} if "height" in takes else set()
        understood |= {"strength"} if self._with_image else set()
        self.understands = frozenset(understood)
        self.factor, self.size = _factor(pipeline), _size(pipeline)
        self._preview = preview.Preview(pipeline)

    @classmethod
    def open(cls, bundle: Bundle) -> DiffusersPictures:
        """Load a verified bundle.

        Raises:
            MissingExtraError: diffusers (or peft, for LoRAs) is not installed.
            InputError: the installed diffusers has no such pipeline, or cannot load it.
        """
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when diffusers is imported
        try:
            from diffusers import DiffusionPipeline
        except ImportError:
            raise MissingExtraError("hub", "imported pipelines of pictures") from None
        folder = bundle.path / PIPELINE
        missing = {name: None for name, (library, _) in parts(folder).items() if library is None}
        try:
            pipeline = DiffusionPipeline.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, low_cpu_mem_usage=False, **missing)
            for lora in sorted((bundle.path / LORAS).glob("*.safetensors")):
                pipeline.load_lora_weights(bundle.path / LORAS, weight_name=lora.name, adapter_name=lora.stem,
                                           local_files_only=True)
        except Exception as error:  # diffusers raises nearly anything on a folder that it does not understand
            if "peft" in str(error).lower():
                raise MissingExtraError("hub", "LoRAs of imported pipelines") from None
            raise InputError(f"diffusers cannot load {folder}: {str(error)[:300]}",
                             fix="try the folder with diffusers itself, then import it again") from error
        pipeline.set_progress_bar_config(disable=True)
        lineage = origin(bundle)
        if torch.cuda.is_available():  # a pipeline without a decoder gives its last tensor to numpy, which has no bf16
            half = getattr(pipeline, "vae", None) is not None
            pipeline = pipeline.to("cuda", torch.bfloat16 if half else torch.float32)
        return cls(pipeline, controls=bundle.controls, model_digest=bundle.digest,
                   lineage=lineage)

    def check(self, request: Request, controls: Controls) -> None:
        """See `PictureEngine.check`."""
        if request.toward is not None:
            raise InputError("an imported pipeline cannot walk between two prompts", where="toward",
                             fix="leave the second prompt out")
        if request.prompt and not self._reads:
            raise InputError("this pipeline draws without words", fix="leave the prompt empty")
        for name, text in (("prompt", request.prompt), ("negative_prompt", controls.negative_prompt)):
            self._check_length(name, text or "")
        for name, pipeline, given in (("image", self._with_image, request.image),
                                      ("mask", self._with_mask, request.mask)):
            if given is not None and pipeline is None:
                raise InputError(f"a {type(self._pipeline).__name__} cannot draw from {name} and prompt", where=name,
                                 fix=f"leave the {name} out")
        if controls.size is not None:
            height, width = sides(controls.size)
            if height % self.factor or width % self.factor:
                near = "x".join(str(max(1, round(side / self.factor)) * self.factor) for side in (width, height))
                raise ControlError(f"size {controls.size} is not a multiple of {self.factor}", where="size",
                                   fix=f"take {near}")
        strength = controls.strength
        if request.image is not None and strength and controls.steps and controls.steps * strength < 1:
            raise ControlError(f"strength {strength} of {controls.steps} steps is not one step", where="strength",
                               fix="raise steps or strength")
        if request.image is not None:
            self._given(request, controls)

    def _check_length(self, name: str, text: str) -> None:
        """Refuse a text that no text encoder reads to its end: cut words would be lost without a sign."""
        read = self._lengths(text)
        if read and all(length > limit for length, limit in read.values()):
            length, limit = max(read.values(), key=lambda one: one[1])
            raise InputError(f"the {name} has {length} tokens, this pipeline reads {limit}", where=name,
                             fix="shorten it")

    def _lengths(self, text: str) -> dict[str, tuple[int, int]]:
        """Return tokens of a text, and how many are read, for each tokenizer."""
        found = {}
        for name in ("tokenizer", "tokenizer_2", "tokenizer_3"):
            tokenizer = getattr(self._pipeline, name, None)
            if tokenizer is not None and text:
                found[name] = (len(tokenizer(text, truncation=False).input_ids), min(tokenizer.model_max_length, 512))
        return found

    def sign(self, plan: PicturePlan) -> dict[str, Any]:
        """See `PictureEngine.sign`; also says which text encoders see only the beginning of the prompt."""
        import diffusers

        cut = [name for name, (length, limit) in self._lengths(plan.request.prompt or "").items() if length > limit]
        return {**super().sign(plan), "diffusers": diffusers.__version__, **({"cut_for": cut} if cut else {})}

    def frames(self, request: Request, controls: Controls, numbers: range) -> Iterator[list[Pixels | None]]:
        """See `PictureEngine.frames`. Previews are a linear reading of the latents, a picture is decoded once."""
        assert len(numbers) == 1
        wish, keep = self._wish(request, controls), None
        pipeline = self._pipeline
        if request.image is not None:
            picture, mask = self._given(request, controls)
            if controls.strength == 0:
                yield [picture]
                return
            pipeline = self._with_image if mask is None else self._with_mask
            wish["image"] = to_image(picture)
            wish["strength"] = controls.strength or (_STRENGTH if mask is None else _STRENGTH_MASKED)
            if mask is not None:
                wish["mask_image"], keep = Image.fromarray(mask.astype(np.uint8) * 255), (picture, mask)
        (wish["generator"],) = generators(controls.seed or 0, numbers)
        for made in self._run(pipeline, wish):
            if keep is not None and made is not None:  # the decoder moves every pixel a little: what is kept, is kept
                made = np.where(keep[1], made, keep[0])
            yield [made]

    def _wish(self, request: Request, controls: Controls) -> dict[str, Any]:
        wish: dict[str, Any] = {"output_type": "np"}
        if self._reads:
            wish["prompt"] = request.prompt or ""
        if controls.steps is not None:
            wish["num_inference_steps"] = controls.steps
        for name in ("guidance_scale", "negative_prompt"):
            if getattr(controls, name) is not None:
                wish[name] = getattr(controls, name)
        if "size" in self.understands:
            wish["height"], wish["width"] = self._shape(request, controls)
        return wish

    def _shape(self, request: Request, controls: Controls) -> tuple[int, int]:
        """Return height and width: what is asked for, the given picture's proportions, or the pipeline's own."""
        if controls.size is not None:
            return sides(controls.size)
        if request.image is None:
            return self.size
        height, width = whole(request.image).shape[1:]
        scale = min(1.0, (self.size[0] * self.size[1] / (height * width)) ** 0.5)
        return (max(1, round(height * scale / self.factor)) * self.factor,
                max(1, round(width * scale / self.factor)) * self.factor)

    def _given(self, request: Request, controls: Controls) -> tuple[Pixels, NDArray[np.bool_] | None]:
        """Return the picture to start from, uint8 [3, H, W], and where to redraw it, bool [H, W]."""
        assert request.image is not None
        height, width = self._shape(request, controls)
        picture = refit(whole(request.image), 3, height, width, "crop", _WHITE)
        mask = None if request.mask is None else redrawn(request.mask, request.image, height, width, "crop")
        return picture, mask

    def _run(self, pipeline: Any, wish: dict[str, Any]) -> Iterator[Pixels | None]:
        """Run a pipeline in a thread, so that its steps can be seen while it works and it can be left at any of them.

        Raises:
            BottegaError: the pipeline failed, or made something that is no picture.
        """
        news: queue.Queue[Pixels | Exception | None] = queue.Queue()
        left = threading.Event()

        def seen(pipe: Any, step: int, time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            if left.is_set():
                raise _Left
            shape = (wish["height"], wish["width"]) if "height" in wish else self.size
            frame = self._preview.frame(tensors.get("latents"), shape)
            if frame is not None:
                news.put(frame)
            return {}

        def work() -> None:
            try:
                with torch.inference_mode():
                    news.put(_finished(pipeline(**wish)))
            except Exception as error:
                news.put(error)
            finally:
                done.set()

        if "callback_on_step_end" in inspect.signature(pipeline.__call__).parameters:
            wish["callback_on_step_end"] = seen
        done = threading.Event()
        thread = threading.Thread(target=work, name="pipeline", daemon=True)
        thread.start()
        try:
            while not (done.is_set() and news.empty()):
                try:
                    found = news.get(timeout=0.1)
                except queue.Empty:
                    continue
                if isinstance(found, BottegaError):
                    raise found
                if isinstance(found, Exception):
                    raise BottegaError(f"the pipeline failed: {str(found)[:300] or type(found).__name__}",
                                       fix="change prompt, size or steps; try the folder with diffusers itself")
                yield found
        finally:
            left.set()
            thread.join()


class _Left(Exception):
    """Nobody waits for the picture any more."""


def _finished(output: Any) -> Pixels | None:
    """Return the picture of a pipeline's output, None when its safety checker held it back.

    Raises:
        CorruptError: it holds numbers that are not finite; a black picture would hide that.
    """
    image = np.asarray(output.images[0], np.float32)
    if not np.isfinite(image).all():
        raise CorruptError("the pipeline made numbers that are not finite",
                           fix="use another size or fewer steps; half precision may be too coarse for this model")
    flagged = getattr(output, "nsfw_content_detected", None)
    if flagged and flagged[0]:
        return None
    image = image[..., None] if image.ndim == 2 else image
    pixels: Pixels = np.rint(image.clip(0, 1) * 255).astype(np.uint8).transpose(2, 0, 1)
    return np.ascontiguousarray(pixels)


def _from_pipe(kind: str, pipeline: Any) -> Any:
    """Return the same parts as another kind of pipeline, None where there is none."""
    import diffusers

    try:
        other = getattr(diffusers, kind).from_pipe(pipeline)
    except (ValueError, AttributeError, TypeError):
        return None
    other.set_progress_bar_config(disable=True)
    return other


def _factor(pipeline: Any) -> int:
    """Return what height and width must be multiples of."""
    factor = int(getattr(pipeline, "vae_scale_factor", 1) or 1)
    network = getattr(pipeline, "transformer", None)
    if network is not None:
        packed = 2 if hasattr(pipeline, "_pack_latents") else 1
        factor *= max(packed, int(getattr(network.config, "patch_size", 1) or 1))
    return factor


def _size(pipeline: Any) -> tuple[int, int]:
    """Return height and width of a picture that nobody gave a size."""
    network = getattr(pipeline, "transformer", None) or getattr(pipeline, "unet", None)
    config = getattr(network, "config", None)
    own: Any = getattr(pipeline, "default_sample_size", None) or getattr(config, "sample_size", 64)
    scale = int(getattr(pipeline, "vae_scale_factor", 1) or 1)
    height, width = (own, own) if isinstance(own, int) else (own[0], own[1])
    return int(height) * scale, int(width) * scale
