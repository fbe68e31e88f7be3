"""A generator's folder: config.json and model.safetensors, written and read the same way by every family.

Folders of others may come in shards (model.safetensors.index.json) and in half precision.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from bottega.core.errors import CorruptError, InputError
from bottega.core.files import read_json, write_atomic, write_json

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_COMPUTED = ("rotary_emb.inv_freq",)  # old folders hold it; it follows from config.json


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


def weight_files(folder: Path) -> list[Path]:
    """Return the files that hold a folder's weights: one, or those that the index of a sharded model names.

    Raises:
        InputError: there is none, or only one in a form that can run code when it is read.
        CorruptError: the index is damaged, or names a file that is not there or not in this folder.
    """
    index = folder / INDEX
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not index.is_file():
        unsafe = sorted(path.name for path in folder.glob("pytorch_model*.bin")) if folder.is_dir() else []
        if unsafe:
            raise InputError(f"{folder} has its weights in {unsafe[0]}, which can run code when it is read",
                             fix="save the model with safe_serialization=True, or take a copy with .safetensors")
        raise InputError(f"{folder / WEIGHTS} is not there", fix="check the path")
    found = read_json(index)
    places = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(places, dict) or not places:
        raise CorruptError(f"{index} names no weights", where=str(folder), fix="restore it")
    files: list[Path] = []
    for name in sorted(set(map(str, places.values()))):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise CorruptError(f"{index} names '{name[:100]}', which is no weights file of this folder",
                               fix="restore it")
        if not (folder / name).is_file():
            raise CorruptError(f"{folder / name} is not there, and {INDEX} names it", where=str(folder),
                               fix="get the whole folder")
        files.append(folder / name)
    return files


def read_weights(folder: Path, model: nn.Module, *, skip: frozenset[str] = frozenset()) -> None:
    """Fill a model from model.safetensors or the shards of model.safetensors.index.json, in the model's own dtypes.

    One tensor at a time is in memory beside the model.

    Args:
        folder: where the files are.
        model: takes the weights.
        skip: names that need not be in the files and are passed over when they are.

    Raises:
        InputError: there is no weights file.
        CorruptError: one cannot be read, or a tensor is missing, unknown or of another shape; the message names it.
    """
    files = weight_files(folder)
    wanted = {name: tensor for name, tensor in model.state_dict().items() if name not in skip}
    seen: set[str] = set()
    for path in files:
        try:
            with safe_open(path, framework="pt") as stored, torch.no_grad():
                for name in sorted(stored.keys()):
                    if name in skip or name.endswith(_COMPUTED):
                        continue
                    _fill(path, wanted, name, stored.get_tensor(name))
                    seen.add(name)
        except (SafetensorError, ValueError, OSError) as error:
            raise CorruptError(f"{path} cannot be read: {error}", fix="restore it or make the model again") from error
    if absent := sorted(wanted.keys() - seen):
        raise _fault(files[0] if len(files) == 1 else folder, f"has no tensor '{absent[0]}'")


def _fill(path: Path, wanted: dict[str, Tensor], name: str, stored: Tensor) -> None:
    if name not in wanted:
        raise _fault(path, f"has a tensor '{name}' that the architecture does not know")
    if stored.shape != wanted[name].shape:
        raise _fault(path, f"has '{name}' as {list(stored.shape)}, config.json asks for {list(wanted[name].shape)}")
    wanted[name].copy_(stored)


def _fault(path: Path, what: str) -> CorruptError:
    return CorruptError(f"{path} {what}", where=str(path.parent), fix="restore the folder or make the model again")
