"""The recipe: one typed YAML file that says what to make. `bottega train recipes/python-lm.yaml depth=6` reads one.

Parts that belong to a family or an objective (`generator`, `objective`) are checked here for shape and by the
family or objective itself for meaning, before any work starts.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ConfigDict, Field, field_validator, model_validator

from bottega.core.bundle import NAME
from bottega.core.errors import InputError, RecipeError, suggest
from bottega.core.request import Controls
from bottega.core.validate import Strict, validate


class DataSpec(Strict):
    """Where the data comes from and what is kept of it (step 1).

    Attributes:
        sources: paths (folder or file), built-in names (`python-docs`, `python-stdlib`, `python-docs-qa`,
            `support-desk`, …) or `hf:OWNER/NAME` for a Hugging Face dataset.
        licence: SPDX expression of the user's own files; `unknown` propagates to the model card.
        validation: share of documents held out, chosen by a hash of each document's id.
        languages: ISO 639-1 codes to keep; empty keeps all.
        rules: reason → expression over the signals of `bottega data signals`; a row for which it is true is tagged
            as dropped. Merged over the defaults; null switches a default rule off.
        exact_duplicates: drop all but one of byte-equal (after normalisation) documents.
        near_duplicates: Jaccard similarity of word 5-grams from which documents count as copies; 0 is off.
        decontaminate: sources whose 13-word sequences must not appear in training text.
        text_field: name of the text column in JSONL, CSV and Parquet files.
        limit: stop after this many documents, for trying things out.
    """

    sources: list[str] = Field(min_length=1)
    licence: str = "unknown"
    validation: float = Field(default=0.02, gt=0, lt=0.9)
    languages: list[str] = []
    rules: dict[str, str | None] = {}
    exact_duplicates: bool = True
    near_duplicates: float = Field(default=0.8, ge=0, le=1)
    decontaminate: list[str] = []
    text_field: str = "text"
    limit: int | None = Field(default=None, ge=1)

    @field_validator("sources", "decontaminate", mode="before")
    @classmethod
    def _many(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value  # brackets are magic characters in some shells


class CodecSpec(Strict):
    """How raw data becomes tensors (step 6). A recipe with a `base` model uses that model's codec.

    Attributes:
        kind: the medium: `text`, `image`, `table` or `graph`. Keys of pictures: size, channels, fit, background,
            text_length; of tables: columns, names, rules, codes, protect, links, entity, order,
            texts; of graphs: rule, largest.
        vocab_size: of text: tokens of the byte-pair encoding learned from the training split, reserved ones included.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: Literal["text", "image", "table", "graph"] = "text"
    vocab_size: int = Field(default=4096, ge=300, le=262144)

    @model_validator(mode="after")
    def _own_keys(self) -> CodecSpec:
        if self.kind == "text" and self.model_extra:
            name = next(iter(self.model_extra))
            raise ValueError(f"a text codec has no key '{name}'; {suggest(name, ['kind', 'vocab_size'])}")
        return self

    @property
    def overrides(self) -> dict[str, Any]:
        """Keys besides `kind` and `vocab_size`, for the codec itself to check."""
        return dict(self.model_extra or {})


class GeneratorSpec(Strict):
    """The architecture. `depth` derives the rest; any key of the family's Config may be given beside it.

    Attributes:
        family: `transformer` or `recurrent`; of pictures `vae`, `gan` or `diffusion`; of tables `tabular`; of
            graphs `graph`.
        depth: layers; the one dial from which the family derives the rest.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    family: str = "transformer"
    depth: int = Field(default=4, ge=1, le=200)

    @property
    def overrides(self) -> dict[str, Any]:
        """Keys besides `family` and `depth`, for the family's own Config to check."""
        return dict(self.model_extra or {})


class ObjectiveSpec(Strict):
    """What training minimises. Keys besides `kind` are checked by the objective itself.

    Attributes:
        kind: `pretrain` (texts), `sft` or `distil` (conversations), `dpo`, `orpo` or `reward` (preferences), `kto`
            (ratings), `pictures`, `tables` or `graphs`.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: str = "pretrain"

    @property
    def overrides(self) -> dict[str, Any]:
        """Keys besides `kind`, for the objective's own settings to check."""
        return dict(self.model_extra or {})


class Budget(Strict):
    """How much training: exactly one of minutes, tokens, steps.

    Attributes:
        minutes: wall clock of the training loop.
        tokens: of training text, repeats counted.
        steps: of the optimiser.
    """

    minutes: float | None = Field(default=None, gt=0)
    tokens: int | None = Field(default=None, gt=0)
    steps: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one(self) -> Budget:
        if sum(value is not None for value in (self.minutes, self.tokens, self.steps)) != 1:
            raise ValueError("give exactly one of minutes, tokens, steps")
        return self


class TrainingSpec(Strict):
    """The loop (step 2). None means: derived from depth, data and machine, and printed.

    Attributes:
        budget: when to stop; the learning-rate schedule follows it.
        context: tokens a sequence.
        batch_tokens: tokens an optimiser step (of pictures: `batch`).
        batch: pictures, rows or graphs an optimiser step.
        micro_batch: sequences a forward pass; gradients accumulate to `batch_tokens`.
        optimizer: `muon` (matrices by Muon, the rest by AdamW) or `adamw`.
        learning_rate: peak rate of Muon's matrices (or of AdamW alone).
        learning_rate_rest: peak AdamW rate of embeddings and vectors when Muon is used.
        weight_decay: decoupled decay of matrices.
        warmup: share of the budget for the linear rise.
        decay: share of the budget for the linear fall to `final_rate` x peak.
        final_rate: learning rate at the end as a share of the peak.
        clip: largest gradient norm; 0 is off.
        precision: `auto` times a few real steps of each and writes the choice into the run.
        compile: torch.compile; `auto` when the estimate says it pays.
        validate_every: share of the budget between validations.
        validation_tokens: at most this many held-out tokens a validation.
        checkpoint_every: optimiser steps between checkpoints; None is about one a minute.
        keep_checkpoints: newest checkpoints that are kept; the one before the last is the fallback.
        sample_every: share of the budget between printed samples; 0 is off.
    """

    budget: Budget = Budget(minutes=3)
    context: int = Field(default=256, ge=8, le=131072)
    batch_tokens: int | None = Field(default=None, ge=8)
    batch: int | None = Field(default=None, ge=2)
    micro_batch: int | None = Field(default=None, ge=1)
    optimizer: Literal["muon", "adamw"] = "muon"
    learning_rate: float | None = Field(default=None, gt=0)
    learning_rate_rest: float | None = Field(default=None, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    warmup: float = Field(default=0.02, ge=0, le=0.5)
    decay: float = Field(default=0.4, ge=0, le=1)
    final_rate: float = Field(default=0.0, ge=0, le=1)
    clip: float = Field(default=1.0, ge=0)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    validate_every: float = Field(default=0.25, gt=0, le=1)
    validation_tokens: int = Field(default=65536, ge=1)
    checkpoint_every: int | None = Field(default=None, ge=1)
    keep_checkpoints: int = Field(default=2, ge=2)
    sample_every: float = Field(default=0.25, ge=0, le=1)

    @field_validator("compile", mode="before")
    @classmethod
    def _yaml_words(cls, value: Any) -> Any:
        return ("off", "on")[value] if isinstance(value, bool) else value  # YAML reads a bare on as true


class EvaluationSpec(Strict):
    """What is looked at besides the objective's own loss.

    Attributes:
        suites: suites of held-out cases the demo measures with; `bottega evaluate` lists them.
        prompts: what samples start from, while training and in the report.
        cases: held-out cases a suite.
    """

    suites: list[str] = []
    prompts: list[str] = []
    cases: int = Field(default=200, ge=1)


class AdapterSpec(Strict):
    """Fine-tuning by small matrices beside the base's frozen ones (`families/adapters.py`); needs a `base`.

    Attributes:
        kind: `lora`, or `dora`, which also learns a length for each output.
        rank: columns of the small matrices.
        alpha: their product counts alpha / rank times.
        dropout: share of the inputs that training hides from them.
        targets: `all` (every linear layer and convolution but the matrix of a vocabulary's logits), names of modules
            or last parts of them, or a regular expression of whole names.
        quantise: `nf4` holds the base's matrices in four bits.
        rslora: count the product alpha / √rank times, which larger ranks need.
    """

    kind: Literal["lora", "dora"] = "lora"
    rank: int = Field(default=8, ge=1, le=4096)
    alpha: float = Field(default=16.0, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: str | list[str] = "all"
    quantise: Literal["nf4"] | None = None
    rslora: bool = False

    @property
    def scale(self) -> float:
        """How often the product of the small matrices counts."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


class Recipe(Strict):
    """Everything needed to make one model.

    Attributes:
        name: of the model's folder in the workshop: letters, digits, `.`, `_`, `-`.
        description: one line for the model card.
        seed: of weights, data order and samples.
        base: name or path of the model that fine-tuning starts from.
        adapter: fine-tune by an adapter; without it all weights are trained.
        data: where the data comes from.
        codec: how it becomes tensors.
        generator: the architecture.
        objective: what is minimised.
        training: the loop.
        evaluation: what is looked at.
        controls: defaults of the finished model's generations.
    """

    name: str = Field(pattern=NAME)
    description: str = ""
    seed: int = Field(default=0, ge=0, lt=2**63)
    base: str | None = None
    adapter: AdapterSpec | None = None
    data: DataSpec
    codec: CodecSpec = CodecSpec()
    generator: GeneratorSpec = GeneratorSpec()
    objective: ObjectiveSpec = ObjectiveSpec()
    training: TrainingSpec = TrainingSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    controls: Controls = Controls()

    @staticmethod
    def load(path: str | Path, overrides: list[str] | None = None) -> Recipe:
        """Read a recipe file and apply `key.sub=value` overrides (values are YAML).

        Raises:
            InputError: the file is not there or is not text.
            RecipeError: not YAML, an unknown key (with the nearest right one) or a bad value.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            near = [str(p) for p in sorted(Path("recipes").glob("*.yaml"))]
            raise InputError(f"recipe {path} is not there", fix=suggest(str(path), near)) from None
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"recipe {path} cannot be read as text: {error}", fix="give a YAML file") from None
        try:
            data = yaml.load(text, _Loader)
        except yaml.YAMLError as error:
            raise RecipeError(f"not valid YAML: {' '.join(str(error).split())}", where=str(path),
                              fix="check indentation and colons near that line") from None
        if not isinstance(data, dict):
            raise RecipeError(f"a recipe is a mapping of keys, this is {type(data).__name__}", where=str(path),
                              fix="start with 'name: …' and 'data: …'")
        for override in overrides or []:
            _apply(data, override)
        return validate(Recipe, data, where=str(path))

    def plain(self) -> dict[str, Any]:
        """Return the recipe as JSON-ready data, without unset values."""
        return self.model_dump(mode="json", exclude_none=True)


class _Loader(yaml.SafeLoader):
    """Plain YAML without tags, in which a key given twice is an error and not a silent loss of the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            name = key.value
            if isinstance(name, str) and name in seen and name != "<<":
                raise yaml.constructor.ConstructorError(None, None, f"the key '{name}' is given twice", key.start_mark)
            if isinstance(name, str):
                seen.add(name)
        return super().construct_mapping(node, deep)


def _apply(data: dict[str, Any], override: str) -> None:
    """Set one `key.sub=value` in nested data."""
    key, sign, value = override.partition("=")
    if not sign or not key.strip():
        raise RecipeError(f"'{override}' is not an override", where="command line", fix="write key.sub=value")
    if key.strip() == "depth":
        key = "generator.depth"
    parts = key.strip().split(".")
    for part in parts[:-1]:
        inner = data.setdefault(part, {})
        if not isinstance(inner, dict):
            raise RecipeError(f"'{key}' reaches into '{part}', which is a plain value", where="command line",
                              fix=f"set {part}=… instead")
        data = inner
    if parts[-1] in ("minutes", "tokens", "steps") and parts[-2:-1] == ["budget"]:
        data.clear()  # the three exclude each other: the last one said wins
    try:
        said = yaml.safe_load(value)
    except yaml.YAMLError:
        said = value
    if isinstance(said, dict) and not value.lstrip().startswith("{"):
        said = value  # text with a colon in it
    data[parts[-1]] = said
