"""The generators: one file an architecture, one interface (base.py).

`build` makes a fresh model from a recipe's generator part, `load` reads one from a folder (a reward model is read by
`reward.RewardModel.load`).
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from bottega.core.bundle import Bundle
from bottega.core.errors import CorruptError, InputError, RecipeError, suggest
from bottega.core.files import read_json

if TYPE_CHECKING:
    from bottega.core.recipe import GeneratorSpec
    from bottega.families.base import TokenGenerator
    from bottega.families.graph import GraphGenerator
    from bottega.families.pictures import PictureGenerator
    from bottega.families.tabular import Tabular

# family → module and class; imported when asked for
FAMILIES: dict[str, tuple[str, str]] = {
    "transformer": ("bottega.families.transformer", "Transformer"),
    "recurrent": ("bottega.families.recurrent", "Recurrent"),
}
PICTURE_FAMILIES: dict[str, tuple[str, str]] = {
    "vae": ("bottega.families.vae", "VAE"),
    "gan": ("bottega.families.gan", "GAN"),
    "diffusion": ("bottega.families.diffusion", "Diffusion"),
}
TABLE_FAMILIES: dict[str, tuple[str, str]] = {"tabular": ("bottega.families.tabular", "Tabular")}
GRAPH_FAMILIES: dict[str, tuple[str, str]] = {"graph": ("bottega.families.graph", "GraphGenerator")}
_BY_MODEL_TYPE = {"qwen3": "transformer", "llama": "transformer", "mistral": "transformer", "qwen2": "transformer",
                  "gemma": "transformer", "bottega-recurrent": "recurrent"}


def family_class(name: str) -> type[TokenGenerator]:
    """Return the class of a family.

    Raises:
        RecipeError: there is no such family; the message suggests the nearest name.
    """
    if name not in FAMILIES:
        raise RecipeError(f"unknown family '{name}'", where="generator.family", fix=suggest(name, FAMILIES))
    module, attribute = FAMILIES[name]
    found: type[TokenGenerator] = getattr(import_module(module), attribute)
    return found


def picture_family(name: str) -> type[PictureGenerator]:
    """Return the class of a family of pictures.

    Raises:
        RecipeError: there is no such family; the message suggests the nearest name.
    """
    if name not in PICTURE_FAMILIES:
        raise RecipeError(f"'{name}' is not a family of pictures", where="generator.family",
                          fix=suggest(name, PICTURE_FAMILIES))
    module, attribute = PICTURE_FAMILIES[name]
    found: type[PictureGenerator] = getattr(import_module(module), attribute)
    return found


def table_family(name: str) -> type[Tabular]:
    """Return the class of a family of tables.

    Raises:
        RecipeError: there is no such family; the message suggests the nearest name.
    """
    if name not in TABLE_FAMILIES:
        raise RecipeError(f"'{name}' is not a family of tables", where="generator.family",
                          fix=suggest(name, TABLE_FAMILIES))
    module, attribute = TABLE_FAMILIES[name]
    found: type[Tabular] = getattr(import_module(module), attribute)
    return found


def graph_family(name: str) -> type[GraphGenerator]:
    """Return the class of a family of graphs.

    Raises:
        RecipeError: there is no such family; the message suggests the nearest name.
    """
    if name not in GRAPH_FAMILIES:
        raise RecipeError(f"'{name}' is not a family of graphs", where="generator.family",
                          fix=suggest(name, GRAPH_FAMILIES))
    module, attribute = GRAPH_FAMILIES[name]
    found: type[GraphGenerator] = getattr(import_module(module), attribute)
    return found


def build(spec: GeneratorSpec, *, vocab_size: int, context: int, special: dict[str, int]) -> TokenGenerator:
    """Make a fresh model; weights are drawn from torch's global generator, so seed it first.

    Args:
        spec: family, depth and overrides of the family's Config.
        vocab_size: of the codec.
        context: tokens a sequence.
        special: ids of reserved tokens by name (bos, eos, pad, end), kept in the model's config.

    Raises:
        RecipeError: unknown family or key, or a bad value.
    """
    family = family_class(spec.family)
    keep = {name: number for name, number in special.items() if name in ("bos", "eos", "pad", "end")}
    config = family.Config.derive(spec.depth, vocab_size, context, spec.overrides, keep)
    return family(config)


def load(folder: Path) -> TokenGenerator:
    """Read a model from a bundle, a checkpoint or a folder of Hugging Face's form; fp32, evaluation mode.

    An adapter's bundle gives its base with the adapter merged into it.

    Raises:
        InputError: no config.json, an architecture that is not ours, or a reward model.
        CorruptError: the files do not fit each other.
    """
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        from bottega.families.bases import load_generator, writes_nothing

        bundle = Bundle.open(folder)
        if bundle.meta["family"] == "reward":
            raise writes_nothing(folder)
        merged: TokenGenerator = load_generator(bundle)  # type: ignore[assignment]
        return merged
    config = read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise CorruptError(f"{folder / 'config.json'} is not a JSON object", fix="restore it")
    if any(str(name).endswith("ForSequenceClassification") for name in config.get("architectures") or []):
        from bottega.families.bases import writes_nothing

        raise writes_nothing(folder)
    kind = config.get("model_type")
    if kind not in _BY_MODEL_TYPE:
        raise InputError(f"model_type {kind!r} is not one of ours", where=str(folder / "config.json"),
                         fix=suggest(str(kind), _BY_MODEL_TYPE))
    return family_class(_BY_MODEL_TYPE[kind]).load(folder)
