"""A diffusers pipeline folder becomes a model of the workshop: `bottega import DIR --name NAME` runs it.

A folder from elsewhere is hostile until checked: only safetensors weights are taken (pickles can run code when they are
read), no Python files, and only parts whose classes come from diffusers and transformers. What else lies there is left.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bottega.core.bundle import Bundle
from bottega.core.errors import InputError
from bottega.core.files import link_or_copy, read_json, sha256_file
from bottega.core.lineage import UNKNOWN_LICENCE, Licence, Lineage

INDEX, PIPELINE, LORAS = "model_index.json", "pipeline", "loras"
_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle", ".msgpack", ".h5")
_LIBRARIES = ("diffusers", "transformers", "stable_diffusion")  # the last: of diffusers, for its safety checker
_PLAIN = (".json", ".safetensors", ".txt", ".model", ".md", "")  # configurations, weights, tokenizers, cards


def parts(folder: Path) -> dict[str, tuple[str | None, str | None]]:
    """Return the parts that a pipeline's index names, with library and class; (None, None) for one left out.

    Raises:
        InputError: not a pipeline folder, or a part's class is of another library.
    """
    if not (folder / INDEX).is_file():
        raise InputError(f"{folder} is not a diffusers pipeline", where=str(folder / INDEX),
                         fix="give a folder with model_index.json, as DiffusionPipeline.save_pretrained writes it, or "
                             "with config.json, as a model of text has it")
    index = read_json(folder / INDEX)
    if not isinstance(index, dict) or not isinstance(index.get("_class_name"), str):
        raise InputError(f"{folder / INDEX} names no pipeline class", fix="save the pipeline again with diffusers")
    found: dict[str, tuple[str | None, str | None]] = {}
    for name, value in index.items():
        if name.startswith("_") or not (isinstance(value, list) and len(value) == 2):
            continue
        library, kind = value
        if library is not None and library not in _LIBRARIES:
            raise InputError(f"part '{name}' is of {str(library)[:60]!r}: code of others is not run", where=INDEX,
                             fix="use a pipeline whose parts come from diffusers and transformers")
        found[name] = (library, kind)
    return found


def wanted(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return what a pipeline needs of its folder, and what is left behind; relative paths.

    Needed are the index, the card and the licence, and in the parts' folders configurations, tokenizers and safetensors
    weights. Published folders hold more: other formats of the same weights, single-file checkpoints, sample pictures.

    Raises:
        InputError: a part has only weights that can run code when they are read, a link leads nowhere, no weights.
    """
    taken, left = list[Path](), list[Path]()
    known = {name for name, (library, _) in parts(folder).items() if library is not None}
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder)
        if any(part.startswith(".") for part in inner.parts) or path.is_dir():
            continue  # hidden: caches of download tools
        if path.is_symlink() and not path.resolve().is_file():
            raise InputError(f"{inner} is a link that leads nowhere", where=str(folder), fix="copy the file itself")
        needed = inner.parts[0] in known and path.suffix in _PLAIN if len(inner.parts) > 1 else \
            inner.name == INDEX or inner.suffix in (".md", ".txt", "")
        (taken if needed else left).append(inner)
    with_weights = {path.parent for path in taken if path.suffix == ".safetensors"}
    for path in left:
        if path.suffix in _PICKLES and path.parts[0] in known and path.parent not in with_weights:
            raise InputError(f"{path} holds weights that can run code when they are read", where=str(folder),
                             fix="save the pipeline with safe_serialization=True")
    if not with_weights:
        raise InputError(f"{folder} holds no weights", fix="save the pipeline with safe_serialization=True")
    return taken, left


def import_pipeline(folder: Path, target: Path, *, loras: list[Path], licence: str | None = None) -> Bundle:
    """Make a bundle of a pipeline folder; its files are linked where the disk allows, else copied.

    Args:
        folder: as `DiffusionPipeline.save_pretrained` writes it.
        target: the bundle's folder, which must not be there.
        loras: LoRA files (.safetensors) that are laid over it.
        licence: SPDX name of the pipeline's licence; None is unknown.

    Raises:
        InputError: the folder or a file cannot be taken; see `parts` and `wanted`.
    """
    known = parts(folder)
    taken, _ = wanted(folder)
    for lora in loras:
        if not lora.is_file() or lora.suffix != ".safetensors":
            raise InputError(f"{lora} is no LoRA file", fix="give a .safetensors file in the layout of diffusers")
    if len({lora.stem for lora in loras}) < len(loras):
        raise InputError("two LoRA files have the same name", fix="rename one")
    kind = str(read_json(folder / INDEX)["_class_name"])
    left_out = sorted(name for name, (library, _) in known.items() if library is None)

    def write(made: Path) -> None:
        for inner in taken:
            link_or_copy(folder / inner, made / PIPELINE / inner)
        for lora in loras:
            link_or_copy(lora, made / LORAS / lora.name)

    meta: dict[str, Any] = {"family": "diffusers", "codec": "image", "objective": "pictures", "pipeline": kind,
                            "left_out": left_out, "loras": [lora.stem for lora in loras], "controls": {}, "metrics": {}}
    digests = {inner.as_posix(): sha256_file(folder / inner) for inner in taken}

    def lineage(content: str) -> Lineage:
        return Lineage(kind="model", name=target.name, content=content, step="import",
                       parameters={"source": folder.resolve().name, "pipeline": kind, "files": digests,
                                   "loras": [lora.name for lora in loras]},
                       licences=[Licence(spdx=licence or UNKNOWN_LICENCE, evidence="stated at import" if licence else
                                         "nobody said")])

    card = (f"# {target.name}\n\nA `{kind}` of diffusers, imported from `{folder.resolve().name}`"
            f"{' with the LoRAs ' + ', '.join(meta['loras']) if loras else ''}. Licence: "
            f"{licence or 'not stated; find out before you use its pictures'}.\n")
    return Bundle.create(target, meta=meta, lineage=lineage, write=write, card=card, replace=False)
