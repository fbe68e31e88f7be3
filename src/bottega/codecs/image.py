"""Pictures to tensors and back, with the classes and the caption words a model knows. `bottega train` saves one.

A picture is uint8 [C, H, W] on disk and float32 in [-1, 1] for a model. Captions are split into lower-case words and
punctuation marks; index 0 pads, index 1 stands for any word that was not in the training captions.
"""

from __future__ import annotations

import io
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from PIL import Image, PngImagePlugin
from pydantic import Field, field_validator

from bottega.codecs.pixels import MAX_PIXELS, Fit, Pixels, decode, refit, to_image, whole
from bottega.core.errors import CorruptError, DataError, InputError
from bottega.core.files import digest_json, read_json, write_json
from bottega.core.validate import Strict, validate

if TYPE_CHECKING:
    from torch import Tensor

    from bottega.codecs.text import TextCodec

FILE = "image_codec.json"
PADDING, UNKNOWN = "<padding>", "<unknown>"  # no caption can hold these: "<" is a word of its own
MAX_WORDS = 8192
_CHUNK = "bottega"  # keyword of the PNG chunk that says how a picture was made
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|[^\w\s]|_")
_SIZE = re.compile(r"(\d{1,4})\s*[xX×]\s*(\d{1,4})")
_SMALLEST, _LARGEST = 4, 1024

Byte = Annotated[int, Field(ge=0, le=255)]


class PictureSpec(Strict):
    """How pictures are brought to one shape.

    Attributes:
        size: of a side, or "HEIGHTxWIDTH".
        channels: 3 (red, green, blue) or 1 (grey).
        fit: `crop` fills the frame and cuts what is over, `pad` shows all and fills up with the background,
            `stretch` ignores the proportions.
        background: red, green, blue under transparent parts and beside padded ones.
        text_length: most words of a caption that a model reads; fewer where no training caption needs so many.
            0 leaves captions out.
    """

    size: int | str = 32
    channels: Literal[1, 3] = 3
    fit: Fit = "crop"
    background: tuple[Byte, Byte, Byte] = (255, 255, 255)
    text_length: int = Field(default=32, ge=0, le=512)

    @field_validator("size")
    @classmethod
    def _within(cls, value: int | str) -> int | str:
        if not all(_SMALLEST <= side <= _LARGEST for side in _sides(value)):
            raise ValueError(f"give a side of {_SMALLEST} to {_LARGEST} pixels, or HEIGHTxWIDTH such as 32x48")
        return value

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return _sides(self.size)


def _sides(size: int | str) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    match = _SIZE.fullmatch(size.strip())
    return (int(match[1]), int(match[2])) if match else (int(size), int(size)) if size.strip().isdecimal() else (0, 0)


class _Saved(Strict):
    """The content of image_codec.json."""

    format: Literal[1] = 1
    kind: Literal["image"] = "image"
    channels: Literal[1, 3]
    height: int = Field(ge=1, le=_LARGEST)
    width: int = Field(ge=1, le=_LARGEST)
    fit: Fit
    background: tuple[Byte, Byte, Byte]
    classes: list[str]
    words: list[str] = Field(min_length=2, max_length=MAX_WORDS)
    text_length: int = Field(ge=0)
    tokenizer: str | None = None


@dataclass(frozen=True)
class ImageCodec:
    """One shape of pictures, one set of classes, one vocabulary of captions.

    Attributes:
        channels: 1 or 3.
        height, width: pixels.
        fit, background: see `PictureSpec`.
        classes: names; a label is an index into them, -1 is none.
        words: caption vocabulary; a token is an index into it.
        text_length: tokens of an encoded caption; 0 when there are no captions.
        tokenizer: of an imported text encoder; captions are then written in its tokens + 1 and not in `words`.
    """

    kind: ClassVar[str] = "image"
    channels: int
    height: int
    width: int
    fit: Fit = "crop"
    background: tuple[int, int, int] = (255, 255, 255)
    classes: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=lambda: [PADDING, UNKNOWN])
    text_length: int = 0
    tokenizer: TextCodec | None = None

    @staticmethod
    def of(picture: PictureSpec) -> ImageCodec:
        """Return a codec that knows a shape but no classes and no words yet; `learn` adds them."""
        height, width = picture.sides
        return ImageCodec(picture.channels, height, width, picture.fit, picture.background,
                          text_length=picture.text_length)

    def learn(self, classes: list[str], captions: Iterable[str]) -> ImageCodec:
        """Return a codec of the same shape with these classes and the words of training captions, commonest first."""
        counts: Counter[str] = Counter()
        longest = 0
        if self.text_length:
            for caption in captions:
                words = split_words(caption)
                longest = max(longest, len(words))
                counts.update(words)
        common = sorted(counts, key=lambda word: (-counts[word], word))[:MAX_WORDS - 2]
        return replace(self, classes=list(classes), words=[PADDING, UNKNOWN, *common],
                       text_length=min(self.text_length, longest))

    def read_by(self, tokenizer: TextCodec, captions: Iterable[str], most: int) -> ImageCodec:
        """Return a codec that writes captions in a tokenizer's tokens, as many as the longest of these has.

        Raises:
            DataError: there is no caption, or one has more than `most` tokens.
        """
        longest = max((len(tokens) for tokens in tokenizer.encode_batch(list(dict.fromkeys(captions)))), default=0)
        if not 0 < longest <= most:
            problem = f"the longest caption has {longest} tokens, the text encoder reads {most}" if longest else \
                "there are no captions for the text encoder to read"
            raise DataError(problem, where="generator.text_encoder",
                            fix="lower codec.text_length" if longest else "give captions, or leave text_encoder out")
        return replace(self, tokenizer=tokenizer, text_length=longest)

    @property
    def vocab(self) -> int:
        """Number of tokens a caption is written in, 0 (padding) included; 0 when there are no captions."""
        known = self.tokenizer.vocab_size + 1 if self.tokenizer is not None else len(self.words)
        return known if self.text_length else 0

    @cached_property
    def _word_ids(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words) if number > 1}

    def decode_file(self, data: bytes) -> Pixels:
        """Return a picture file's first frame in this codec's shape, uint8 [C, H, W].

        Raises:
            PictureError: a `DataError` whose `reason` is `empty`, `too-large`, `not-a-picture` or `damaged`.
        """
        return decode(data, self.channels, self.height, self.width, self.fit, self.background)

    def fit_pixels(self, pixels: Pixels) -> Pixels:
        """Return uint8 [1 or 3, any height, any width] in this codec's shape.

        Raises:
            DataError: another type or shape.
        """
        return refit(pixels, self.channels, self.height, self.width, self.fit, self.background)

    @staticmethod
    def to_tensor(pixels: Pixels) -> Tensor:
        """Return uint8 of any shape as float32 in [-1, 1]."""
        import torch

        return torch.from_numpy(np.array(pixels, dtype=np.float32)).div_(127.5).sub_(1)

    @staticmethod
    def to_pixels(tensor: Tensor) -> Pixels:
        """Return floats as uint8: the inverse of `to_tensor`, rounded and clipped; not-a-number becomes mid grey."""
        import torch

        values = torch.nan_to_num(tensor.detach().to("cpu", torch.float32))
        pixels: Pixels = values.add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8).numpy()
        return pixels

    def encode_text(self, caption: str) -> list[int]:
        """Return `text_length` tokens of a caption, padded with 0; words that were never seen become 1.

        Raises:
            InputError: it has more words than that.
        """
        if self.tokenizer is not None:
            return self._tokens(self.tokenizer, caption)
        words = split_words(caption)
        if len(words) > self.text_length:
            fix = (f"use at most {self.text_length} words and punctuation marks" if self.text_length
                   else "leave the text out, or train with captions")
            raise InputError(f"the text has {len(words)} words and punctuation marks, this model reads "
                             f"{self.text_length}", where=caption[:80], fix=fix)
        return [self._word_ids.get(word, 1) for word in words] + [0] * (self.text_length - len(words))

    def _tokens(self, tokenizer: TextCodec, caption: str) -> list[int]:
        tokens = [number + 1 for number in tokenizer.encode(caption)]
        if len(tokens) > self.text_length:
            raise InputError(f"the text has {len(tokens)} tokens, this model reads {self.text_length}",
                             where=caption[:80], fix=f"use at most {self.text_length} tokens")
        return tokens + [0] * (self.text_length - len(tokens))

    def encode_texts(self, captions: Iterable[str]) -> list[list[int]]:
        """Return the tokens of many captions; see `encode_text`."""
        return [self.encode_text(caption) for caption in captions]

    def unknown_words(self, caption: str) -> list[str]:
        """Return the words of a caption that this codec has no token for; an imported tokenizer has one for all."""
        if self.tokenizer is not None:
            return []
        return [word for word in split_words(caption) if word not in self._word_ids]

    def shorten(self, caption: str) -> str:
        """Return the beginning of a caption that `encode_text` takes."""
        return shorten(caption, self.text_length)

    @staticmethod
    def png(pixels: Pixels, facts: dict[str, Any] | None = None) -> bytes:
        """Return a PNG file of uint8 [1 or 3, H, W]; the same picture and facts give the same bytes.

        Args:
            pixels: the picture.
            facts: JSON-ready data on how it was made, written into an iTXt chunk.

        Raises:
            DataError: another type or shape.
        """
        info = PngImagePlugin.PngInfo()
        if facts is not None:
            info.add_itxt(_CHUNK, json.dumps(facts, sort_keys=True, allow_nan=False))
        out = io.BytesIO()
        to_image(pixels).save(out, "PNG", pnginfo=info)
        return out.getvalue()

    @staticmethod
    def pixels_of(png: bytes) -> Pixels:
        """Return the pixels that `png` was given, uint8 [1 or 3, H, W].

        Raises:
            DataError: the bytes are not a picture.
        """
        return whole(png)

    @staticmethod
    def facts_of(png: bytes) -> dict[str, Any] | None:
        """Return what `png` wrote about how a picture was made; None where nothing (readable) is written.

        Raises:
            DataError: the bytes are not a PNG file.
        """
        try:
            image = Image.open(io.BytesIO(png), formats=("PNG",))
            if image.width * image.height > MAX_PIXELS:
                return None
            text = image.text.get(_CHUNK) if isinstance(image, PngImagePlugin.PngImageFile) else None
            facts = json.loads(text) if text else None
        except (ValueError, RecursionError):
            return None
        except Exception as error:  # Pillow's readers raise nearly anything on a file that is cut off or made up
            raise DataError(f"not a PNG file: {error}", fix="give a picture that Bottega delivered") from error
        return facts if isinstance(facts, dict) else None

    def describe(self) -> dict[str, Any]:
        """Return everything the codec knows as JSON-ready data."""
        own = asdict(replace(self, tokenizer=None))
        if self.tokenizer is None:
            del own["tokenizer"]  # what was made before there were any keeps its digest
        else:
            own["tokenizer"] = digest_json(self.tokenizer.data)
        return {"kind": self.kind, **own, "background": list(self.background)}

    @cached_property
    def digest(self) -> str:
        """SHA-256 over shape, classes and words: equal digests encode equally."""
        return digest_json(self.describe())

    def save(self, folder: Path) -> None:
        """Write image_codec.json, and the files of an imported tokenizer."""
        write_json(folder / FILE, {"format": 1, **self.describe()})
        if self.tokenizer is not None:
            self.tokenizer.save(folder)
            write_json(folder / "generation_config.json", {"eos_token_id": self.tokenizer.eos})  # some name none else

    @classmethod
    def load(cls, folder: Path) -> ImageCodec:
        """Read what `save` wrote.

        Raises:
            InputError: there is no image_codec.json.
            CorruptError: it is not one of ours, or its tokenizer is another one.
        """
        saved = validate(_Saved, read_json(folder / FILE), where=str(folder / FILE), error=CorruptError)
        if saved.words[:2] != [PADDING, UNKNOWN] or len(set(saved.words)) != len(saved.words):
            raise CorruptError(f"the words of {folder / FILE} are not a vocabulary", where=str(folder),
                               fix="restore the file or make the model again")
        return cls(**saved.model_dump(exclude={"format", "kind", "tokenizer"}),
                   tokenizer=_tokenizer(folder, saved.tokenizer) if saved.tokenizer else None)


def _tokenizer(folder: Path, digest: str) -> TextCodec:
    from bottega.codecs.text import TextCodec

    tokenizer = TextCodec.load(folder)
    if digest_json(tokenizer.data) != digest:
        raise CorruptError(f"the tokenizer in {folder} is not the one that {FILE} names", where=str(folder),
                           fix="restore the file or make the model again")
    return tokenizer


def split_words(caption: str) -> list[str]:
    """Return the lower-case words and punctuation marks of a caption."""
    return _WORD.findall(unicodedata.normalize("NFC", caption).lower())


def shorten(caption: str, words: int) -> str:
    """Return the beginning of a caption with at most so many words and punctuation marks."""
    caption = unicodedata.normalize("NFC", caption)
    ends = [0, *(match.end() for match in _WORD.finditer(caption))]
    if len(split_words(caption)) <= words:
        return caption
    ends = ends[:words + 1]
    while len(split_words(caption[:ends[-1]])) > words:  # a few capital letters have small forms of two marks
        ends.pop()
    return caption[:ends[-1]]
