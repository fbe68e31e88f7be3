"""What clients may send to the routes of pictures, under OpenAI's names; `tests/server/test_images.py` sends it.

As in schemas.py, what cannot be obeyed is refused by name.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema

from bottega.core.request import Controls, Request
from bottega.server.errors import ApiError
from bottega.server.schemas import Body, Count, Number, Origin, as_controls, refuse


def _file(value: Any) -> Any:
    if isinstance(value, list):
        raise refuse(f"one picture is taken, {len(value)} were given; send one", "")
    if value is not None and not isinstance(value, bytes):
        raise refuse("a picture is a file: a part of the form with a filename", "")
    return value


File = Annotated[bytes, BeforeValidator(_file),
                 WithJsonSchema({"type": "string", "contentMediaType": "application/octet-stream"})]


class ImageBody(Body):
    """What the three routes have in common; ranges are those of the controls (see `bottega generate --help`)."""

    harmless: ClassVar[dict[str, tuple[Any, ...]]] = {
        "background": ("auto", "opaque"), "complexity": (), "frame_count": (), "frame_duration_ms": (),
        "moderation": ("auto",), "output_compression": (100, "100"), "output_format": ("png",),
        "quality": ("auto", "standard"), "style": (), "svg": ()}

    model: str | None = None
    n: Count = None
    size: str | None = None
    response_format: Literal["b64_json", "url"] | None = None
    seed: Count = None
    steps: Count = None
    sampler: str | None = None
    guidance_scale: Number = None
    negative_prompt: str | None = None
    temperature: Number = None
    bottega: Origin = Origin()

    def controls(self) -> Controls:
        """Return the controls that are asked for.

        Raises:
            ApiError: 400 that names the field, its value and what is allowed.
        """
        wish = {name: getattr(self, name) for name in Controls.model_fields if hasattr(self, name)}
        wish["n"] = 1 if self.n is None else self.n
        wish["size"] = None if self.size == "auto" else self.size
        return as_controls(wish)


class StreamableBody(ImageBody):
    """Pictures that may come as events.

    Attributes:
        partial_images: how often each picture is shown while it grows.
    """

    stream: bool | None = None
    partial_images: Annotated[int, Field(ge=0, le=3)] | None = None

    def controls(self) -> Controls:
        """See `ImageBody.controls`."""
        if self.partial_images and not self.stream:
            raise ApiError(400, "partial_images is for streams only; set stream to true or leave it out",
                           param="partial_images")
        if self.stream and self.response_format == "url":
            raise ApiError(400, "a stream carries the pictures themselves; leave response_format out or stream",
                           param="response_format")
        return super().controls()


class GenerationBody(StreamableBody):
    """Body of `POST /v1/images/generations`.

    Attributes:
        toward: a second prompt; the n pictures walk from `prompt` to it.
    """

    prompt: str
    toward: str | None = None

    def wish(self) -> Request:
        """Return the request as the lower floors know it."""
        controls = self.controls()
        if self.toward is not None and (controls.n or 1) < 2:
            raise ApiError(400, "toward: a walk to a second prompt needs at least two pictures; set n", param="toward")
        return Request(prompt=self.prompt, toward=self.toward, controls=controls)


class EditBody(StreamableBody):
    """Body of `POST /v1/images/edits`.

    Attributes:
        image: to start from; its transparent parts are drawn anew when there is no mask.
        mask: of the image's size: its transparent parts (without any, its bright ones) are drawn anew.
        strength: how much is made anew; 0 keeps the image, 1 nothing of it.
    """

    harmless = {**ImageBody.harmless, "input_fidelity": ("low",), "markup": ()}

    image: File
    mask: File | None = None
    prompt: str
    strength: Number = None

    def wish(self, mask: bytes | None) -> Request:
        """Return the request as the lower floors know it."""
        return Request(prompt=self.prompt, image=self.image, mask=mask, controls=self.controls())


class VariationBody(ImageBody):
    """Body of `POST /v1/images/variations`; attributes as `EditBody`."""

    image: File
    strength: Number = None

    def wish(self) -> Request:
        """Return the request as the lower floors know it."""
        return Request(prompt="", image=self.image, controls=self.controls())


_MODELS: list[type[BaseModel]] = [GenerationBody, EditBody, VariationBody]
NAMES = frozenset(name for model in _MODELS for name in model.model_fields)
