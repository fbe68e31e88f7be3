"""Adapters as models of the workshop: merged into their base, or taken in from PEFT.

`bottega adapter merge NAME --name NEW` and `bottega adapter add FOLDER --base MODEL --name NAME` are this file.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from bottega.core.bundle import META, Bundle, check_name, find_bundle
from bottega.core.energy import CostMeter
from bottega.core.errors import InputError
from bottega.core.files import MANIFEST
from bottega.core.lineage import LINEAGE, Licence, Lineage, Parent, merge_licences
from bottega.families.adapter_files import CHANGED, CONFIG, WEIGHTS, put_on, read_adapter
from bottega.families.bases import adapter_meta, base_of, is_adapter, load_generator

_OWN = frozenset({META, LINEAGE, MANIFEST, "README.md", CONFIG, WEIGHTS, CHANGED, "config.json",
                  "generation_config.json"})


def merge_adapter(bundle: Bundle, name: str, home: Path) -> Bundle:
    """Write W' = W + s·BA (or DoRA's) as a model that needs no base.

    Args:
        bundle: of an adapter.
        name: of the new model.
        home: the workshop.

    Raises:
        InputError: it is no adapter, its base is gone, or the name cannot be used.
        CorruptError: a file is damaged.
        ResourceError: the disk is full.
    """
    if not is_adapter(bundle):
        raise InputError(f"'{bundle.name}' is no adapter and has nothing to merge", fix="see 'bottega models'")
    target, meter, base = _target(name, home), CostMeter(), base_of(bundle)
    model = load_generator(bundle)
    meta = {key: value for key, value in bundle.meta.items() if key not in ("adapter", "facts")}
    old = bundle.lineage

    def write(folder: Path) -> None:
        model.save(folder)
        _codec_files(bundle.path, folder)

    about = f"The adapter '{bundle.name}' merged into its base '{base.name}': it computes the same and needs neither."
    return Bundle.create(
        target, meta=meta, write=write, replace=False, card=_card(name, base.name, meta["family"], about),
        lineage=lambda content: Lineage(
            kind="model", name=name, content=content, step="merge", seed=old.seed, licences=old.licences,
            parents=[Parent(kind="model", name=one.name, digest=one.lineage.digest) for one in (bundle, base)],
            parameters={"adapter": bundle.meta["adapter"]}, cost=meter.read()))


def add_adapter(folder: Path, base: Bundle, name: str, home: Path, *, licence: str | None = None,
                answers: bool = False) -> Bundle:
    """Take an adapter made by PEFT into the workshop.

    Args:
        folder: adapter_config.json and adapter_model.safetensors.
        base: the model it was made for.
        name: of the new model.
        home: the workshop.
        licence: SPDX name of the adapter's licence; None: unknown.
        answers: it was tuned on conversations, and answers like an assistant.

    Raises:
        InputError: no adapter, one that cannot be used or that does not fit the base, or a name that cannot be used.
        CorruptError: a file is damaged.
        ResourceError: the disk is full.
    """
    if is_adapter(base):
        raise InputError(f"'{base.name}' is an adapter itself", where="--base",
                         fix=f"merge it first: bottega adapter merge {base.name} --name NEW")
    target, meter = _target(name, home), CostMeter()
    spec, small = read_adapter(folder)
    put_on(load_generator(base), spec, small, where=str(folder))  # found out now, not when it is first used
    meta = {**{key: value for key, value in base.meta.items() if key not in ("facts", "metrics", "recipe", "training")},
            "adapter": adapter_meta(base, spec), **({"objective": "sft"} if answers else {})}

    def write(place: Path) -> None:
        for file in (CONFIG, WEIGHTS):
            shutil.copyfile(folder / file, place / file)
        _codec_files(base.path, place)

    given = Licence(spdx=licence or "unknown", evidence=f"stated for {folder.name}" if licence else "")
    return Bundle.create(
        target, meta=meta, write=write, replace=False,
        card=_card(name, base.name, meta["family"], f"An adapter made elsewhere, for the base '{base.name}'."),
        lineage=lambda content: Lineage(
            kind="model", name=name, content=content, step="add adapter",
            parents=[Parent(kind="model", name=base.name, digest=base.lineage.digest)],
            parameters={"adapter": meta["adapter"]}, licences=merge_licences([*base.lineage.licences, given]),
            cost=meter.read()))


def find_base(name: str, home: Path) -> Bundle:
    """Return a model of the workshop, verified.

    Raises:
        InputError, CorruptError: it is not there, or damaged.
    """
    return Bundle.open(find_bundle(name, home / "models"))


def _target(name: str, home: Path) -> Path:
    target = home / "models" / check_name(name)
    if target.exists():
        raise InputError(f"a model named '{name}' exists already", where=str(target), fix="give another --name")
    return target


def _codec_files(source: Path, folder: Path) -> None:
    """Copy what is neither weights nor about this very model, and the models inside it."""
    for file in source.iterdir():
        if file.is_dir():
            shutil.copytree(file, folder / file.name)
        if file.is_file() and file.name not in _OWN and ".safetensors" not in file.name:
            shutil.copy2(file, folder / file.name)


def _card(name: str, base: str, family: str, text: str) -> str:
    return f"---\nbase_model: {base}\ntags: [bottega, {family}]\n---\n\n# {name}\n\n{text}\n"
