"""A fresh model of pictures from a recipe, with the finished models that it stands on: an autoencoder, a text encoder.

`bottega train recipes/symbols-diffusion.yaml generator.latents=NAME generator.text_encoder=NAME` uses both;
`pytest tests/training/test_latents.py tests/training/test_text_encoder.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from bottega import families
from bottega.codecs.image import ImageCodec
from bottega.core.bundle import Bundle, find_bundle
from bottega.core.errors import InputError
from bottega.core.recipe import Recipe
from bottega.families.diffusion import Diffusion
from bottega.families.pictures import PictureGenerator
from bottega.families.transformer import Transformer
from bottega.families.vae import VAE


def build_pictures(recipe: Recipe, codec: ImageCodec, home: Path) -> PictureGenerator:
    """Return a fresh generator of a codec's pictures; weights are drawn from torch's global generator.

    Raises:
        RecipeError: unknown family or key, or a bad value.
        InputError: `generator.latents` names no autoencoder, or `generator.text_encoder` no transformer.
    """
    family = families.picture_family(recipe.generator.family)
    facts = {"channels": codec.channels, "size": (codec.height, codec.width), "classes": len(codec.classes),
             "vocab": codec.vocab, "text_length": codec.text_length if codec.vocab else 0}
    config: Any = family.Config
    keys, codes, reader = dict(recipe.generator.overrides), latents_of(recipe, home), text_encoder_of(recipe, home)
    with torch.device("cpu"):  # also where the rest is built without memory
        vae = VAE.load(codes.path) if codes else None
        encoder = Transformer.load(reader.path) if reader else None
    keys |= {"latents": vae.config} if vae else {}
    keys |= {"text_encoder": encoder.config} if encoder else {}
    model = family(config.derive(recipe.generator.depth, facts, keys))
    if isinstance(model, Diffusion) and model.device.type != "meta":
        if model.latents is not None and vae is not None:
            model.latents.load_state_dict(vae.state_dict())
        if model.text_encoder is not None and encoder is not None:
            model.text_encoder.model.load_state_dict(encoder.model.state_dict())
    return model


def latents_of(recipe: Recipe, home: Path) -> Bundle | None:
    """Return the autoencoder that a recipe of diffusion names in `generator.latents`.

    Raises:
        InputError: there is no such model, or it is no vae.
        CorruptError: its files do not verify.
    """
    name = recipe.generator.overrides.get("latents")
    if not isinstance(name, str) or recipe.codec.kind != "image" or recipe.generator.family != "diffusion":
        return None
    bundle = Bundle.open(find_bundle(name, home / "models"))
    if bundle.meta.get("family") != "vae":
        raise InputError(f"'{name}' is a model of family {bundle.meta.get('family')}, not a vae",
                         where="generator.latents", fix="name a vae trained with generator.spatial=true")
    return bundle


def text_encoder_of(recipe: Recipe, home: Path) -> Bundle | None:
    """Return the language model that a recipe of diffusion names in `generator.text_encoder`.

    Raises:
        InputError: there is no such model, or it is no native transformer.
        CorruptError: its files do not verify.
    """
    name = recipe.generator.overrides.get("text_encoder")
    if not isinstance(name, str) or recipe.codec.kind != "image" or recipe.generator.family != "diffusion":
        return None
    bundle = Bundle.open(find_bundle(name, home / "models"))
    if bundle.meta.get("family") != Transformer.family or bundle.meta.get("adapter"):
        what = "an adapter" if bundle.meta.get("adapter") else f"a model of family {bundle.meta.get('family')}"
        raise InputError(f"'{name}' is {what}, not a whole native transformer", where="generator.text_encoder",
                         fix="name a language model trained here, or one that 'bottega import' made native")
    return bundle
