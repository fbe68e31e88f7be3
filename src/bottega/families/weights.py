"""A generator's folder: config.json and model.safetensors, written and read the same way by every family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from bottega.core.errors import CorruptError, InputError
from bottega.core.files import read_json, write_atomic, write_json

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def write_model(folder: Path, model: nn.Module, config: dict[str, Any], *, skip: frozenset[str] = frozenset()) -> None:
    """Write config.json and model.safetensors; tensors named in `skip` are left out.

    Raises:
        ResourceError: the disk is full.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
             if name not in skip}
    write_json(folder / CONFIG, config)
    # the entry "format" is what transformers asks for before it reads a file
    write_atomic(folder / WEIGHTS, lambda path: save_file(state, path, metadata={"format": "pt"}))


def read_config(folder: Path) -> dict[str, Any]:
    """Return the content of config.json.

    Raises:
        InputError: it is not there.
        CorruptError: it is not a JSON object.
    """
    config = read_json(folder / CONFIG)
    if not isinstance(config, dict):
        raise CorruptError(f"{folder / CONFIG} is not a JSON object", fix="restore it or make the model again")
    return config


def read_weights(folder: Path, model: nn.Module, *, skip: frozenset[str] = frozenset()) -> None:
    """Fill a model from model.safetensors, converted to the model's own dtypes.

    Args:
        folder: where the file is.
        model: takes the weights.
        skip: names that need not be in the file and are passed over when they are.

    Raises:
        InputError: there is no weights file.
        CorruptError: it cannot be read, or a tensor is missing, unknown or of another shape; the message names it.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        raise InputError(f"{path} is not there", fix="check the path")
    try:
        stored = load_file(path)
    except (SafetensorError, ValueError) as error:
        raise CorruptError(f"{path} cannot be read: {error}", fix="restore it or make the model again") from error
    wanted = {name: tensor for name, tensor in model.state_dict().items() if name not in skip}
    fault = ""
    for name in sorted(wanted.keys() | stored.keys() - skip):
        if name not in stored:
            fault = f"has no tensor '{name}'"
        elif name not in wanted:
            fault = f"has a tensor '{name}' that the architecture does not know"
        elif stored[name].shape != wanted[name].shape:
            fault = f"has '{name}' as {list(stored[name].shape)}, config.json asks for {list(wanted[name].shape)}"
        if fault:
            raise CorruptError(f"{path} {fault}", where=str(folder), fix="restore the folder or make the model again")
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(stored[name])
