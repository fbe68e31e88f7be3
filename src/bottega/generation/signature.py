"""What engines of pictures, tables and graphs share: opening a bundle of their kind, and signing what they make."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch

from bottega.core.bundle import Bundle
from bottega.core.errors import InputError
from bottega.core.files import digest_json
from bottega.core.lineage import code_digest
from bottega.core.request import Controls, Request


class Settled(Protocol):
    """A settled request."""

    @property
    def request(self) -> Request:
        """With the settled controls."""

    @property
    def controls(self) -> Controls:
        """The settled controls."""

    @property
    def seed(self) -> int:
        """That makes the same again."""


def bundle_of(model: Path | Bundle, codec: str, makes: str) -> Bundle:
    """Return a verified bundle that has this kind of codec.

    Args:
        model: a bundle or its folder.
        codec: kind of codec, such as `table`.
        makes: what such a model is of, for the message, such as `a table`.

    Raises:
        InputError: no such folder, not a bundle, or one of another kind.
        CorruptError: a file does not match the manifest.
    """
    bundle = model if isinstance(model, Bundle) else Bundle.open(model)
    if bundle.meta.get("codec") != codec:
        raise InputError(f"{bundle.path} is a model of {bundle.meta.get('codec', 'text')}, not of {makes}",
                         fix=f"choose a model of {makes}; see 'bottega models'")
    return bundle


def origin(bundle: Bundle) -> dict[str, Any]:
    """Return where a model came from: name, path and the digest of its lineage."""
    return {"name": bundle.name, "path": str(bundle.path), "lineage": bundle.lineage.digest}


def signature(lineage: dict[str, Any], model: str, plan: Settled) -> dict[str, Any]:
    """Return what makes the outputs of a request again: model, digest of the request, settled controls, code.

    Args:
        lineage: of the model, as `origin` returns it.
        model: digest of its bundle.
        plan: the settled request.
    """
    return {**lineage, "model": model,
            "request": digest_json(plan.request.model_dump(mode="json", exclude_none=True)),
            "controls": plan.controls.model_dump(mode="json", exclude_none=True), "seed": plan.seed,
            "code": code_digest(), "torch": str(torch.__version__)}
