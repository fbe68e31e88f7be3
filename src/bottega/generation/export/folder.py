"""What is exported, and the plainest form of it: a folder that transformers and vLLM load.

`bottega export MODEL --to hf -o FOLDER`
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from bottega import families
from bottega.codecs.text import TextCodec
from bottega.core.bundle import META, Bundle
from bottega.core.errors import InputError, suggest
from bottega.core.files import MANIFEST, atomic_dir, link_or_copy
from bottega.core.lineage import LINEAGE
from bottega.families.transformer import Transformer

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
_OURS = (META, LINEAGE, MANIFEST)


@dataclass(frozen=True)
class Exported:
    """A model of text ready to be written.

    Attributes:
        bundle: where it came from.
        generator: with all its weights.
        codec: its text codec.
    """

    bundle: Bundle
    generator: Transformer
    codec: TextCodec


def opened(bundle: Bundle) -> Exported:
    """Return a native model and its codec.

    Raises:
        InputError: the model is of another family or medium, which other programs cannot read.
        CorruptError: its files do not fit each other.
    """
    medium, family = bundle.meta.get("codec", "text"), bundle.meta["family"]
    if medium != "text":
        makes = {"image": "pictures", "table": "a table", "graph": "graphs"}.get(medium, medium)
        raise InputError(f"'{bundle.name}' is a model of {makes}, and no other program reads its form",
                         fix="use it here, or export a model of text")
    if family != Transformer.family:
        raise InputError(f"'{bundle.name}' is a {family} model, and no other program reads that architecture",
                         fix="export a transformer")
    if bundle.meta.get("adapter"):
        raise InputError(f"'{bundle.name}' is an adapter, not a whole model",
                         fix=f"run 'bottega adapter merge {bundle.name} --name NEW' and export that")
    generator = families.load(bundle.path)
    assert isinstance(generator, Transformer)
    return Exported(bundle, generator, TextCodec.load(bundle.path))


def export_folder(bundle: Bundle, target: Path, dtype: str = "f32") -> list[Path]:
    """Write a Hugging Face folder and return its files.

    A model that runs by transformers is such a folder already; its files are taken as they are.

    Args:
        bundle: the model.
        target: folder, which must not be there.
        dtype: `f32`, `f16` or `bf16`.

    Raises:
        InputError: see `opened`; no such dtype; the folder is there.
    """
    if dtype not in DTYPES:
        raise InputError(f"weights of a folder cannot be {dtype}", where="--dtype", fix=suggest(dtype, DTYPES))
    whole = None if bundle.meta["family"] == "transformers" else opened(bundle)
    with atomic_dir(target) as folder:
        if whole is None:
            for path in sorted(bundle.path.iterdir()):
                if path.name not in _OURS:
                    link_or_copy(path, folder / path.name)
        else:
            whole.generator.to(DTYPES[dtype]).save(folder)
            whole.codec.save(folder, whole.generator.config.context)
            papers(bundle, folder)
    return sorted(target.iterdir())


def papers(bundle: Bundle, folder: Path) -> None:
    """Give a folder the model's card and its licence texts."""
    for path in sorted(bundle.path.iterdir()):
        if path.name == "README.md" or path.name.upper().startswith(("LICENSE", "LICENCE", "NOTICE", "USE_POLICY")):
            shutil.copyfile(path, folder / path.name)
