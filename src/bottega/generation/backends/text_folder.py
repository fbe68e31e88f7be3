"""A folder with a causal language model becomes a model of the workshop: `bottega import DIR` runs it.

A folder from elsewhere is hostile until checked: safetensors weights only (pickles can run code when they are read), no
Python files, and only the files named here. Weights and configuration are kept byte for byte.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import yaml

from bottega.codecs.pretrained import PretrainedCodec
from bottega.codecs.text import TextCodec
from bottega.core.bundle import Bundle
from bottega.core.errors import BottegaError, InputError
from bottega.core.files import link_or_copy, read_json, sha256_file
from bottega.core.lineage import UNKNOWN_LICENCE, Licence, Lineage
from bottega.core.request import Controls
from bottega.families.transformer_hf import config_from_hf, lacking, read_generation
from bottega.families.weights import INDEX, WEIGHTS, read_config, weight_files
from bottega.generation.backends.transformers import context_of

Backend = Literal["auto", "native", "transformers"]
_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
          "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")
_PAPERS = ("LICENSE", "LICENCE", "NOTICE", "USE_POLICY")
_CONTROLS = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


def wanted(folder: Path) -> list[Path]:
    """Return the files that are taken.

    Raises:
        InputError: no configuration, no tokenizer.json, no safetensors weights, or a link that leads nowhere.
        CorruptError: the index of the weights is damaged.
    """
    read_config(folder)
    if not (folder / "tokenizer.json").is_file():
        raise InputError(f"{folder} has no tokenizer.json", where=str(folder),
                         fix="write one with transformers: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)")
    weights = weight_files(folder)
    index = [folder / INDEX] if weights[0].name != WEIGHTS else []
    papers = [path for path in sorted(folder.iterdir()) if path.name.upper().startswith(_PAPERS) and path.is_file()]
    return [*(folder / name for name in _FILES if (folder / name).is_file()), *index, *weights, *papers]


def import_text(folder: Path, target: Path, *, source: str, backend: Backend = "auto", licence: str | None = None,
                revision: str = "") -> Bundle:
    """Make a bundle of a folder; weights are linked where the disk allows, else copied.

    Args:
        folder: as `save_pretrained` writes it.
        target: the bundle's folder, which must not be there.
        source: where it came from, for its papers.
        backend: `native`: our transformer; `transformers`: the library; `auto`: native where it has all parts.
        licence: SPDX name; None: what the folder's card says.
        revision: of the source.

    Raises:
        InputError: the folder cannot be taken, or a part is lacking with `native`.
        CorruptError: a file of it is damaged.
    """
    taken, data = wanted(folder), read_config(folder)
    native = backend != "transformers" and (backend == "native" or not lacking(data))
    meta: dict[str, Any] = {"family": "transformer" if native else "transformers", "codec": "text",
                            "objective": "import", "source": source, "metrics": {}}
    if native:
        config = config_from_hf(data, str(folder), read_generation(folder))
        meta |= {"context": config.context, "derived": config.derived()}
    else:
        meta |= {"context": _context(folder), "derived": {"architecture": (data.get("architectures") or ["?"])[0]}}
    codec = TextCodec.load(folder)
    meta["answers"] = codec.has_template if isinstance(codec, PretrainedCodec) else \
        read_config(folder).get("bottega") is not None
    meta["controls"] = _controls(folder)
    said = licence or _licence(folder)
    digests = {path.name: sha256_file(path) for path in taken}
    evidence = "stated at import" if licence else "the source's model card" if said else "nobody said"

    def lineage(content: str) -> Lineage:
        return Lineage(kind="model", name=target.name, content=content, step="import",
                       parameters={"source": source, "revision": revision, "backend": meta["family"],
                                   "files": digests},
                       licences=[Licence(spdx=said or UNKNOWN_LICENCE, evidence=evidence)])

    def write(made: Path) -> None:
        for path in taken:
            take: Callable[[Path, Path], Any] = link_or_copy if path.suffix == ".safetensors" else shutil.copyfile
            take(path.resolve(), made / path.name)

    return Bundle.create(target, meta=meta, lineage=lineage, write=write, replace=False,
                         card=_card(target.name, source, meta, said))


def _context(folder: Path) -> int:
    """Return the context by the configuration class that knows the architecture's names.

    Raises:
        InputError: transformers has no such architecture.
    """
    try:
        from transformers import AutoConfig

        return context_of(AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
                          .get_text_config())
    except ImportError as error:
        from bottega.core.errors import MissingExtraError

        raise MissingExtraError("hub", "a model that is not native") from error
    except Exception as error:
        raise InputError(f"transformers does not know this model: {str(error)[:200]}", where=str(folder),
                         fix="a model that needs code of its own cannot be imported") from error


def _controls(folder: Path) -> dict[str, Any]:
    """Return the sampling that the model's makers advise; greedy where they say so."""
    said = read_generation(folder)
    if said.get("do_sample") is False:
        return {"temperature": 0.0}
    found: dict[str, Any] = {}
    for name in _CONTROLS:
        try:
            Controls.parse({name: said.get(name)})
        except BottegaError:
            continue  # out of our range
        if isinstance(said.get(name), (int, float)):
            found[name] = said[name]
    return found


def _licence(folder: Path) -> str | None:
    """Return the licence of the folder's own card, None where it names none."""
    card = folder / "README.md"
    try:
        text = card.read_text(encoding="utf-8") if card.is_file() else ""
        front = yaml.safe_load(text.split("---")[1]) if text.startswith("---") else {}
    except (OSError, ValueError, IndexError, yaml.YAMLError):
        return None
    named = front.get("license") if isinstance(front, dict) else None
    if named == "other" and isinstance(front.get("license_name"), str):
        named = front["license_name"]
    known = {"apache-2.0": "Apache-2.0", "mit": "MIT", "cc-by-4.0": "CC-BY-4.0", "bsd-3-clause": "BSD-3-Clause"}
    return known.get(named, named[:100]) if isinstance(named, str) else None


def _card(name: str, source: str, meta: dict[str, Any], licence: str | None) -> str:
    facts = ", ".join(f"{key} {value}" for key, value in meta["derived"].items() if not isinstance(value, dict))
    front = yaml.safe_dump({"library_name": "transformers", "pipeline_tag": "text-generation", "base_model": source,
                            "tags": ["bottega", meta["family"], "import"]}, sort_keys=False)
    return (f"---\n{front}---\n\n# {name}\n\nImported from `{source}`; its weights and tokenizer are those files, byte "
            f"for byte (lineage.json has their digests). Licence: "
            f"{licence or 'not stated; find out before you use its texts'}.\n\n## Intended use\n\nWhat its makers say "
            "of it. Its output can be wrong or harmful; a person answers for what is done with it.\n\n## Model\n\n"
            f"- {meta['family']}, context {meta['context']}: {facts}\n")


def folder_of(path: Path) -> str:
    """Return what a folder holds: `pipeline`, `text`, or "" for neither.

    Raises:
        CorruptError: its configuration is not JSON.
    """
    if (path / "model_index.json").is_file():
        return "pipeline"
    config = read_json(path / "config.json") if (path / "config.json").is_file() else None
    return "text" if isinstance(config, dict) else ""
