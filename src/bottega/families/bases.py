"""Models of any family from their bundles, adapters on their bases; a base is in memory once for all its adapters.

An adapter's bundle names its base by digest. It is looked for where the bundle lies, in the workshop's models, and at
the path where it was; `pytest tests/training/test_adapter_training.py` moves and changes one.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from bottega.core.bundle import Bundle, bundles
from bottega.core.errors import BottegaError, CorruptError, InputError
from bottega.core.recipe import AdapterSpec
from bottega.families.adapter_files import put_changed, put_on, read_adapter
from bottega.families.adapters import adapt, merge, shared_copy

if TYPE_CHECKING:
    from bottega.families.base import Generator

_lock = threading.Lock()
_loaded: WeakValueDictionary[tuple[Any, ...], Generator] = WeakValueDictionary()  # bases that adapters stand on


@dataclass(frozen=True)
class Standing:
    """What a model made by `open_generator` stands on: the base in memory, and a key that is equal for equal ones."""

    base: Generator
    key: tuple[Any, ...]


def is_adapter(bundle: Bundle) -> bool:
    """Whether a bundle holds an adapter and no weights of its own."""
    return isinstance(bundle.meta.get("adapter"), dict)


def adapter_meta(base: Bundle, spec: AdapterSpec) -> dict[str, Any]:
    """Return what an adapter's bundle says of it in `bottega.json`, under `adapter`."""
    return {"base": base.name, "base_digest": base.digest, "base_path": str(base.path.resolve()),
            **spec.model_dump(mode="json")}


def base_of(bundle: Bundle) -> Bundle:
    """Return the verified base of an adapter's bundle.

    Raises:
        InputError: it is gone, or another model has its name now.
        CorruptError: it is damaged.
    """
    said = bundle.meta["adapter"]
    name, digest = str(said.get("base")), said.get("base_digest")
    named = [bundle.path.parent / name, Path(str(said.get("base_path", "")))]
    fault: BottegaError | None = None
    changed = False
    for path in dict.fromkeys([*named, *bundles(bundle.path.parent)]):
        if path.resolve() == bundle.path.resolve() or not path.is_dir():
            continue
        try:
            found = Bundle.open(path)
        except BottegaError as error:
            fault = error if path in named and fault is None else fault
            continue
        if found.digest == digest:
            return found
        changed = changed or path in named
    if isinstance(fault, CorruptError):
        raise CorruptError(f"the base '{name}' of the adapter '{bundle.name}' is damaged: {fault.problem}",
                           where=str(named[0]), fix="restore it: an adapter cannot be used without its base")
    what = "was made again since and is another model" if changed else "is not there"
    raise InputError(f"the base '{name}' of the adapter '{bundle.name}' {what}", where=str(bundle.path.parent),
                     fix=f"bring back the model with the digest {str(digest)[:12]}…, or train the adapter again; a "
                         "merged model ('bottega adapter merge') needs no base")


def load_generator(bundle: Bundle) -> Generator:
    """Load a bundle as a plain model of its own, an adapter merged into its base; fp32, evaluation mode.

    Raises:
        InputError, CorruptError: a file is missing or damaged; an adapter's base is gone.
    """
    if is_adapter(bundle):
        model = _adapted(bundle, with_head(_load(base_of(bundle)), str(bundle.meta["family"])))
        merge(model)
        return model.eval()
    return _load(bundle)


def open_generator(bundle: Bundle, device: str = "cpu") -> Generator:
    """Load a bundle to make new data with; adapters of one base share its tensors, so change none of them.

    Raises:
        InputError, CorruptError: as in `load_generator`; a reward model makes nothing.
    """
    if bundle.meta["family"] == "reward":
        raise writes_nothing(bundle.path)
    base, spec, names = bundle, None, None
    if is_adapter(bundle):
        base, spec, names = base_of(bundle), adapter_spec(bundle), list(read_adapter(bundle.path)[1])
    packed = spec is not None and spec.quantise is not None
    key = (base.digest, device, frozenset(names) if packed and names else None)
    with _lock:
        kept = _loaded.get(key)
        if kept is None:
            kept = _load(base)
            if packed and spec is not None:
                adapt(kept, spec, names)  # holds it in four bits; the adapters themselves are put on copies
            _loaded[key] = kept = kept.to(device).eval()
    model: Generator = shared_copy(kept)
    if spec is not None:
        model = _adapted(bundle, model).to(device).eval()
    model.__dict__["stands_on"] = Standing(kept, key)  # not a part of the model: it keeps the base in memory
    return model


def writes_nothing(path: Path) -> InputError:
    """Return the error for a reward model where one that writes is wanted."""
    return InputError(f"{path.name} is a reward model: it scores answers and writes none", where=str(path),
                      fix="name a language model here; reward models are judges")


def with_head(model: Generator, family: str) -> Generator:
    """Return a base in the form that an adapter of a family stands on: for a reward model with a head, at zero."""
    from bottega.families.reward import RewardModel

    if family != RewardModel.family or isinstance(model, RewardModel):
        return model
    return RewardModel(model)  # type: ignore[arg-type]


def adapter_spec(bundle: Bundle) -> AdapterSpec:
    """Return the adapter of a bundle.

    Raises:
        CorruptError: its description is damaged.
    """
    said = {key: value for key, value in bundle.meta["adapter"].items() if key in AdapterSpec.model_fields}
    try:
        return AdapterSpec.model_validate(said)
    except ValueError as error:
        raise CorruptError(f"{bundle.path}: the adapter's description is damaged", fix="make it again") from error


def _adapted(bundle: Bundle, model: Generator) -> Generator:
    spec, small = read_adapter(bundle.path)
    put_on(model, spec.model_copy(update={"quantise": adapter_spec(bundle).quantise}), small, where=str(bundle.path))
    put_changed(model, bundle.path)
    return model


def _load(bundle: Bundle) -> Generator:
    """Load a bundle with weights of its own by the class of its family."""
    from bottega import families

    if is_adapter(bundle):
        raise InputError(f"'{bundle.name}' is an adapter and cannot be the base of another", where=str(bundle.path),
                         fix=f"merge it first: bottega adapter merge {bundle.name} --name NEW")
    name = str(bundle.meta["family"])
    if name == "reward":
        from bottega.families.reward import RewardModel

        return RewardModel.load(bundle.path)
    for known, find in ((families.PICTURE_FAMILIES, families.picture_family),
                        (families.TABLE_FAMILIES, families.table_family),
                        (families.GRAPH_FAMILIES, families.graph_family)):
        if name in known:
            return find(name).load(bundle.path)
    return families.load(bundle.path)
