"""Models fetched from the Hugging Face hub: `bottega import hf:OWNER/NAME`. Only weights that run no code."""

from __future__ import annotations

import re
from pathlib import Path

from bottega.core.errors import InputError, MissingExtraError

_ID = re.compile(r"(?:hf:)?([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)")
_WANTED = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.md", "LICENSE*", "LICENCE*", "NOTICE*"]
_LEFT = ["original/*", "onnx/*", "consolidated*", "*.fp16.*", "*.non_ema.*"]  # the same weights in other forms


def hub_id(source: str) -> str | None:
    """Return OWNER/NAME of a source that names a model of the hub, None when it cannot be one."""
    found = _ID.fullmatch(source)
    return found[1] if found and ".." not in source else None


def fetch(name: str, revision: str | None = None) -> Path:
    """Fetch a model, or reuse what was fetched, and return its folder; its last part is the commit.

    Args:
        name: OWNER/NAME.
        revision: commit, branch or tag; None is the newest.

    Raises:
        MissingExtraError: huggingface_hub is not installed.
        InputError: there is no network, no such model, or it may not be read.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtraError("hub", "fetching a model") from error
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=_WANTED, ignore_patterns=_LEFT,
                                      etag_timeout=10))
    except Exception as error:  # of the network, of the hub, of the disk
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200] if str(error).strip() else ''}"
        raise InputError(f"'{name}' cannot be fetched: {reason}", where="huggingface.co",
                         fix="check name, network and (for gated models) HF_TOKEN; or get the folder on another "
                         f"machine with 'hf download {name} --local-dir DIR' and import DIR") from error
