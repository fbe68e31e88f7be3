"""Adapters as PEFT keeps them: adapter_config.json and adapter_model.safetensors, with PEFT's own names of tensors.

`peft.PeftModel.from_pretrained(model, folder)` reads what is written here for a model of texts, and what PEFT wrote is
read here (`pytest tests/families/test_peft.py`). A third file, changed.safetensors, is ours: what training changes
besides the adapter, such as the measured spread of a picture model's errors; a transformer has nothing of the kind.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bottega.core.errors import CorruptError, InputError
from bottega.core.files import read_json, write_atomic, write_json
from bottega.core.recipe import AdapterSpec
from bottega.families.adapters import Adapted, adapt, adapted

if TYPE_CHECKING:
    from bottega.families.base import Generator

CONFIG, WEIGHTS, CHANGED = "adapter_config.json", "adapter_model.safetensors", "changed.safetensors"
_PREFIX = "base_model.model."
_ENDS = {"lora_A.weight": "lora_A", "lora_B.weight": "lora_B", "lora_magnitude_vector": "magnitude",
         "lora_embedding_A": "lora_A", "lora_embedding_B": "lora_B"}
# settings of PEFT under which the weights mean something else than ours; the values that are fine
_FINE: dict[str, tuple[Any, ...]] = {
    "bias": ("none", None), "modules_to_save": (None, []), "rank_pattern": (None, {}), "alpha_pattern": (None, {}),
    "fan_in_fan_out": (False, None), "lora_bias": (False, None), "layer_replication": (None, []),
    "target_parameters": (None, []), "trainable_token_indices": (None, [], {}), "use_qalora": (False, None),
    "init_lora_weights": (True, False, None, "gaussian", "orthogonal", "eva")}

Small = dict[str, dict[str, Tensor]]  # module → part of `adapters.PARTS` → tensor


def values(model: Generator) -> Small:
    """Return an adapted model's adapters by the names of the trained modules, with the values that make new data."""
    inside = adapted(model)
    drawing = {live: copies[-1] for live, copies in model.copies.items()}
    others = tuple(f"{path}." for copies in model.copies.values() for path in copies)
    found: Small = {}
    for name in inside:
        if name.startswith(others):
            continue
        live = next((one for one in drawing if name.startswith(f"{one}.")), None)
        source = inside[name if live is None else drawing[live] + name.removeprefix(live)]
        found[name] = {part: tensor.detach().cpu() for part, tensor in source.named_parameters(recurse=False)
                       if part in ("lora_A", "lora_B", "magnitude")}
    return found


def spec_of(small: Small, spec: AdapterSpec, base: str, task: str | None) -> dict[str, Any]:
    """Return adapter_config.json.

    Args:
        small: the adapters; their names say the targets.
        spec: what was asked for.
        base: name or path of the base model.
        task: PEFT's task type.
    """
    return {"peft_type": "LORA", "task_type": task, "base_model_name_or_path": base, "r": spec.rank,
            "lora_alpha": spec.alpha, "lora_dropout": spec.dropout, "target_modules": sorted(small), "bias": "none",
            "use_dora": spec.kind == "dora", "use_rslora": spec.rslora, "fan_in_fan_out": False,
            "init_lora_weights": True, "modules_to_save": None, "rank_pattern": {}, "alpha_pattern": {},
            "inference_mode": True}


def write_adapter(folder: Path, model: Generator, spec: AdapterSpec, *, base: str, plain: Generator) -> None:
    """Write an adapted model's adapter, and what else differs from its base, into a folder.

    Args:
        folder: exists.
        model: adapted.
        spec: its adapter.
        base: name of the base model, for other programs.
        plain: the base as it was.

    Raises:
        ResourceError: the disk is full.
    """
    small = values(model)
    tensors: dict[str, Tensor] = {}
    for name, parts in small.items():
        table = isinstance(model.get_submodule(name), nn.Embedding)
        ends = {part: end for end, part in _ENDS.items() if ("embedding" in end) == table or part == "magnitude"}
        tensors |= {f"{_PREFIX}{name}.{ends[part]}": tensor.contiguous() for part, tensor in parts.items()}
    # with a task PEFT asks for methods that only classes of transformers have
    write_json(folder / CONFIG, spec_of(small, spec, base, "CAUSAL_LM" if model.family == "transformer" else None))
    write_atomic(folder / WEIGHTS, lambda path: save_file(tensors, path, metadata={"format": "pt"}))
    now = model.state_dict()
    changed = {name: now[name].detach().cpu().clone() for name, tensor in plain.state_dict().items()
               if name in now and not torch.equal(now[name].cpu(), tensor.cpu())}
    if changed:
        write_atomic(folder / CHANGED, lambda path: save_file(changed, path, metadata={"format": "pt"}))


def read_adapter(folder: Path) -> tuple[AdapterSpec, Small]:
    """Read an adapter folder of ours or of PEFT.

    Raises:
        InputError: a file is not there, it is no LoRA or DoRA, or it uses a setting that has no meaning here; named.
        CorruptError: a file cannot be read, or its tensors do not belong together.
    """
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder} holds no {CONFIG}: it is no adapter of PEFT", fix="check the path")
    config = read_json(folder / CONFIG)
    if not isinstance(config, dict):
        raise CorruptError(f"{folder / CONFIG} is not a JSON object", fix="restore it")
    if str(config.get("peft_type")).upper() != "LORA":
        raise InputError(f"an adapter of type {config.get('peft_type')} cannot be used", where=str(folder / CONFIG),
                         fix="LoRA and DoRA can")
    for key, fine in _FINE.items():
        if config.get(key) not in fine:
            raise InputError(f"an adapter with {key}: {config[key]!r} cannot be used", where=str(folder / CONFIG),
                             fix="merge it with PEFT's merge_and_unload, or train it without")
    try:
        spec = AdapterSpec(kind="dora" if config.get("use_dora") else "lora", rank=int(config["r"]),
                           alpha=float(config["lora_alpha"]), dropout=float(config.get("lora_dropout") or 0),
                           rslora=bool(config.get("use_rslora")))
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptError(f"{folder / CONFIG}: r, lora_alpha or lora_dropout is missing or out of range",
                           fix="restore it") from error
    small: Small = {}
    for key, tensor in _read(folder / WEIGHTS).items():
        name = key.removeprefix(_PREFIX)
        end = next((end for end in _ENDS if name.endswith(f".{end}")), None)
        if end is None and name.endswith(".lora_magnitude_vector.weight"):  # as older versions of PEFT wrote it
            end, name = "lora_magnitude_vector", name.removesuffix(".weight")
        if end is None:
            raise InputError(f"{folder / WEIGHTS} holds '{key}', which is no part of a LoRA", fix="check the file")
        small.setdefault(name.removesuffix(f".{end}"), {})[_ENDS[end]] = tensor.float()
    wanted = {"lora_A", "lora_B"} | ({"magnitude"} if spec.kind == "dora" else set())
    for name, parts in small.items():
        if parts.keys() != wanted:
            raise CorruptError(f"{folder / WEIGHTS}: '{name}' lacks or has too many of {', '.join(sorted(wanted))}",
                               fix="restore it")
    if not small:
        raise CorruptError(f"{folder / WEIGHTS} holds no adapter", fix="restore it")
    return spec, small


def put_on(model: Generator, spec: AdapterSpec, small: Small, *, where: str = "") -> None:
    """Put a read adapter on a plain model, in place, and on its averaged copies.

    Raises:
        InputError: a module is not there or has another shape: the adapter belongs to another base.
    """
    modules = dict(model.named_modules())
    for name, parts in small.items():
        module = modules.get(name)
        if module is None:
            raise InputError(f"the adapter is for a module '{name}' that this base has not", where=where,
                             fix="name the base it was made for")
        if isinstance(module, Adapted):
            continue  # of a base in four bits, whose shapes were checked when it was first used
        weight = getattr(module, "weight", None)
        if not isinstance(weight, Tensor):
            raise InputError(f"the adapter is for '{name}', which is no layer with a weight", where=where,
                             fix="name the base it was made for")
        _fits(name, weight, parts, isinstance(module, nn.Embedding), where)
    adapt(model, spec, list(small))
    inside = adapted(model)
    for name, parts in small.items():
        for live, copies in (*model.copies.items(), ("", ())):
            if name.startswith(live and f"{live}."):
                for place in (name, *(path + name.removeprefix(live) for path in copies)):
                    _fill(inside[place], parts)


def _fits(name: str, weight: Tensor, parts: dict[str, Tensor], table: bool, where: str) -> None:
    first, second = parts["lora_A"], parts["lora_B"]
    ends = (second.shape[0], first.shape[1:]) if not table else (first.shape[1], (second.shape[0],))
    length = parts["magnitude"].numel() if "magnitude" in parts else weight.shape[0]
    if (weight.shape[0], *weight.shape[1:]) != (ends[0], *ends[1]) or length != weight.shape[0]:
        raise InputError(f"the adapter's part for '{name}' fits a weight of {[ends[0], *ends[1]]}, this base's is "
                         f"{list(weight.shape)}", where=where, fix="name the base it was made for")


def _fill(module: Adapted, parts: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for part, tensor in parts.items():
            own = module.get_parameter(part)
            if own.numel() != tensor.numel():
                raise InputError(f"an adapter's {part} holds {list(tensor.shape)}, its config asks for "
                                 f"{list(own.shape)}", fix="restore the folder")
            own.copy_(tensor.view(own.shape))


def put_changed(model: nn.Module, folder: Path) -> None:
    """Give a model what else training changed, by new tensors: the base's are left alone."""
    if not (folder / CHANGED).is_file():
        return
    for name, tensor in _read(folder / CHANGED).items():
        path, _, last = name.rpartition(".")
        module = model.get_submodule(path)
        if last in module._parameters:
            old = module._parameters[last]
            assert old is not None
            module._parameters[last] = nn.Parameter(tensor.to(old.device), requires_grad=False)
        else:
            module._buffers[last] = tensor.to(module.get_buffer(last).device)


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"{path} is not there", fix="save the adapter as safetensors; a pickle is not read")
    try:
        return load_file(path)
    except (SafetensorError, ValueError) as error:
        raise CorruptError(f"{path} cannot be read: {error}", fix="restore it or make the adapter again") from error
