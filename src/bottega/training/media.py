"""What differs between media on the way from a recipe to a model; `run.make` walks it for all.

`bottega train recipes/digits-vae.yaml` uses `Pictures`, `bottega train recipes/python-lm.yaml` uses `Texts`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from bottega import families, objectives
from bottega.codecs.image import ImageCodec, PictureSpec
from bottega.codecs.text import TextCodec
from bottega.core.bundle import Bundle
from bottega.core.errors import BottegaError, DataError, RecipeError
from bottega.core.files import atomic_dir, digest_json, verify_manifest
from bottega.core.progress import say, timed
from bottega.core.recipe import Recipe
from bottega.core.request import Message, Request
from bottega.core.validate import validate
from bottega.data.dataset import Dataset
from bottega.data.pack import pack
from bottega.data.pictures.dataset import PictureDataset
from bottega.data.pictures.prepare import prepare_pictures
from bottega.data.pipeline import prepare
from bottega.families.base import Generator
from bottega.objectives.base import Objective
from bottega.training import picture_look, picture_report, reward_report, text_objectives
from bottega.training.beside import Beside
from bottega.training.media_graphs import Graphs
from bottega.training.media_tables import Tables
from bottega.training.picture_models import build_pictures, text_encoder_of
from bottega.training.sizes import Sizes
from bottega.training.starting import check_base, started

# objective → kind of records it reads
_KINDS = {"pretrain": "text", "sft": "chat", "distil": "chat", "dpo": "preference", "orpo": "preference",
          "reward": "preference", "kto": "rating", "grpo": "chat", "ppo": "chat"}


class Medium(Protocol):
    """One way to bring data into a model."""

    def check(self, recipe: Recipe, base: Bundle | None, home: Path) -> None:
        """Find faults of a recipe before any work.

        Raises:
            RecipeError: parts do not fit each other.
        """

    def dataset(self, recipe: Recipe, base: Bundle | None, home: Path) -> Any:
        """Prepare the data, for a base as its codec sees them.

        Raises:
            DataError: it is empty, or of a kind that the objective cannot read.
        """

    def codec(self, recipe: Recipe, dataset: Any, base: Bundle | None, home: Path) -> Any:
        """Return the codec; it has a `digest` and a `kind`."""

    def save_codec(self, codec: Any, folder: Path, recipe: Recipe) -> None:
        """Write the codec's files into a bundle."""

    def generator(self, recipe: Recipe, codec: Any, base: Bundle | None, home: Path) -> Generator:
        """Return the base's generator, or a new one with weights drawn from the seed."""

    def objective(self, recipe: Recipe, dataset: Any, codec: Any, generator: Any, base: Bundle | None, chosen: Sizes,
                  settings: Any, home: Path) -> Objective:
        """Return the objective with its data attached."""

    def sampler(self, recipe: Recipe, generator: Any, codec: Any, dataset: Any, run: Path) -> Callable[[int], str]:
        """Return a function that shows what the model makes after a step, in a text for the terminal.

        Args:
            recipe: what is made.
            generator: while it is trained.
            codec, dataset: its data.
            run: folder of the run, for what no terminal shows.
        """

    def finish(self, recipe: Recipe, generator: Any, codec: Any, dataset: Any, base: Bundle | None, home: Path, *,
               resume: bool) -> Beside | None:
        """Do to a trained model what its training cannot, before it is written; return what was trained beside it."""

    def report(self, bundle: Bundle, dataset: Any, home: Path) -> None:
        """Write what people should see of a finished model into its run, and say where it is."""


class Texts:
    """Texts, conversations and preferences."""

    def check(self, recipe: Recipe, base: Bundle | None, home: Path) -> None:
        """See `Medium.check`."""
        if base is not None:
            check_base(recipe, base)
        if base is None:
            families.family_class(recipe.generator.family).Config.derive(
                recipe.generator.depth, recipe.codec.vocab_size, recipe.training.context, recipe.generator.overrides)
        elif recipe.training.context > int(base.meta.get("context", recipe.training.context)):
            raise RecipeError(f"training.context {recipe.training.context} is longer than the base's "
                              f"{base.meta['context']}", where="training.context",
                              fix=f"use {base.meta['context']} or less, or train a base with a longer context")
        if base is not None and base.meta["objective"] == "reward" and recipe.objective.kind != "reward":
            raise RecipeError(f"the base '{base.name}' is a reward model: it cannot learn to write", where="base",
                              fix="name a language model")
        family = str(base.meta["family"]) if base else recipe.generator.family
        if family == "reward":
            return
        if family == "transformers":
            raise RecipeError(f"'{recipe.base}' runs by the transformers library and cannot be trained here",
                              where="base", fix="import a Llama, Mistral, Qwen2, Qwen3 or Gemma, which are native")
        recipe.controls.require(families.family_class(family).understands, family)

    def dataset(self, recipe: Recipe, base: Bundle | None, home: Path) -> Dataset:
        """See `Medium.dataset`."""
        dataset = prepare(recipe.data, home=home, seed=recipe.seed)
        wanted = _KINDS.get(recipe.objective.kind, "text")
        if dataset.kind != wanted:
            raise DataError(f"objective '{recipe.objective.kind}' reads {wanted} records, these sources hold "
                            f"{dataset.kind} records", where=f"data.sources: {', '.join(recipe.data.sources)}",
                            fix="choose other sources or another objective")
        return dataset

    def codec(self, recipe: Recipe, dataset: Dataset, base: Bundle | None, home: Path) -> TextCodec:
        """Return the base's or the teacher's codec, or one trained on the training split, kept in the workshop."""
        known = base or text_objectives.teacher_of(recipe, home)
        if known is not None:
            return TextCodec.load(known.path)
        spec = recipe.codec
        folder = home / "codecs" / digest_json([dataset.digest, spec.model_dump()])[:16]
        if folder.is_dir():
            try:
                verify_manifest(folder)
                return TextCodec.load(folder)
            except BottegaError as error:
                say(f"warning: the codec is made again: {error.problem}")
        with timed(f"training a codec of {spec.vocab_size} tokens"), atomic_dir(folder, replace=True) as temporary:
            TextCodec.train(dataset.texts("train"), spec.vocab_size).save(temporary)
        return TextCodec.load(folder)

    def save_codec(self, codec: TextCodec, folder: Path, recipe: Recipe) -> None:
        """See `Medium.save_codec`."""
        codec.save(folder, recipe.training.context)

    def generator(self, recipe: Recipe, codec: TextCodec, base: Bundle | None, home: Path) -> Generator:
        """See `Medium.generator`."""
        if base is not None:
            return text_objectives.start(recipe, base)
        torch.manual_seed(recipe.seed)
        special = {"bos": codec.bos, "eos": codec.eos, "pad": codec.pad, "end": codec.end_of_turn}
        return families.build(recipe.generator, vocab_size=codec.vocab_size, context=recipe.training.context,
                              special=special)

    def objective(self, recipe: Recipe, dataset: Dataset, codec: TextCodec, generator: Any, base: Bundle | None,
                  chosen: Sizes, settings: Any, home: Path) -> Objective:
        """See `Medium.objective`."""
        spec, kind = recipe.training, recipe.objective.kind
        common: dict[str, Any] = {"context": spec.context, "batch_tokens": chosen.batch_tokens,
                                  "micro_batch": chosen.micro_batch, "seed": recipe.seed,
                                  "validation_tokens": spec.validation_tokens, "settings": settings}
        build = objectives.objective_class(kind)
        objective: Objective
        if kind == "pretrain":
            shards = pack(dataset, codec.encode_batch, codec_digest=codec.digest, vocab_size=codec.vocab_size,
                          bos=codec.bos, home=home)
            lengths = np.array([len(codec.token_bytes(token)) for token in range(codec.vocab_size)])
            # nothing but the marks, in order; not every imported tokenizer has them
            marks = codec.encode_fim_document("", "", "") if getattr(settings, "fim", 0) else []
            objective = build(generator, shards, lengths, gap_tokens=marks, **common)
        elif kind in text_objectives.REFERENCED:
            assert base is not None
            objective = text_objectives.referenced(recipe, generator, codec, dataset, base, settings, home, common)
        elif kind == "distil":
            objective = text_objectives.taught(recipe, generator, codec, dataset, home, common)
        elif kind in ("grpo", "ppo"):
            assert base is not None
            objective = text_objectives.rewarded(recipe, generator, codec, dataset, base, home, common)
        else:
            objective = build(generator, codec, dataset, **common)
        return objective

    def sampler(self, recipe: Recipe, generator: Any, codec: TextCodec, dataset: Dataset,
                run: Path) -> Callable[[int], str]:
        """Return a function that writes a short text."""
        if recipe.objective.kind == "reward":
            return lambda _: "a reward model writes nothing"
        talk = recipe.objective.kind in objectives.TALKING
        prompts = recipe.evaluation.prompts or ["How can you help me?" if talk else "The"]
        count = 0

        def sample(_: int) -> str:
            nonlocal count
            from bottega.generation.engine import Engine

            prompt = prompts[count % len(prompts)]
            count += 1
            engine = Engine(generator, codec, controls=recipe.controls, model_digest="", lineage={}, answers=talk)
            short = {"max_tokens": 40, "seed": recipe.seed, "n": None, "best_of": None}
            controls = recipe.controls.model_copy(update=short)
            request = Request(messages=[Message(role="user", content=prompt)], controls=controls) if talk else \
                Request(prompt=prompt, controls=controls)
            return f"{prompt} → {engine.generate(request).outputs[0].text!r}"

        return sample

    def finish(self, recipe: Recipe, generator: Any, codec: TextCodec, dataset: Dataset, base: Bundle | None,
               home: Path, *, resume: bool) -> None:
        """Do nothing."""

    def report(self, bundle: Bundle, dataset: Dataset, home: Path) -> None:
        """Write the page of a reward model; others are shown by the demo's report and `bottega explain`."""
        if bundle.meta["objective"] == "reward":
            say(f"report: {reward_report.write(bundle, dataset, home)}")


class Pictures:
    """Pictures with classes and captions."""

    def check(self, recipe: Recipe, base: Bundle | None, home: Path) -> None:
        """See `Medium.check`."""
        if recipe.objective.kind != "pictures":
            raise RecipeError(f"pictures are not trained by objective '{recipe.objective.kind}'",
                              where="objective.kind", fix="write objective: {kind: pictures}")
        if base is not None:
            check_base(recipe, base)
            name = str(base.meta["family"])
            recipe.controls.require(families.picture_family(name).understands, name)
            return
        shape = validate(PictureSpec, recipe.codec.overrides, where="codec")
        with torch.device("meta"):
            build_pictures(recipe, ImageCodec.of(shape), home)
        family = families.picture_family(recipe.generator.family)
        recipe.controls.require(family.understands, recipe.generator.family)

    def dataset(self, recipe: Recipe, base: Bundle | None, home: Path) -> PictureDataset[ImageCodec]:
        """See `Medium.dataset`; its codec is the one that the model reads captions with."""
        if base is not None:
            known = ImageCodec.load(base.path)
            found = prepare_pictures(recipe.data, replace(known, tokenizer=None), home=home, seed=recipe.seed,
                                     known=True)
            return found if known.tokenizer is None else found.with_codec(known)
        shape = validate(PictureSpec, recipe.codec.overrides, where="codec")
        found = prepare_pictures(recipe.data, ImageCodec.of(shape), home=home, seed=recipe.seed)
        reader = text_encoder_of(recipe, home)
        if reader is None:
            return found
        captions = [*found.captions("train"), *found.captions("validation")]
        return found.with_codec(found.codec.read_by(TextCodec.load(reader.path), captions, int(reader.meta["context"])))

    def codec(self, recipe: Recipe, dataset: PictureDataset[ImageCodec], base: Bundle | None,
              home: Path) -> ImageCodec:
        """Return the codec that the dataset was prepared with."""
        return dataset.codec

    def save_codec(self, codec: ImageCodec, folder: Path, recipe: Recipe) -> None:
        """See `Medium.save_codec`."""
        codec.save(folder)

    def generator(self, recipe: Recipe, codec: ImageCodec, base: Bundle | None, home: Path) -> Generator:
        """See `Medium.generator`."""
        torch.manual_seed(recipe.seed)
        return build_pictures(recipe, codec, home) if base is None else started(base)

    def objective(self, recipe: Recipe, dataset: PictureDataset[ImageCodec], codec: ImageCodec, generator: Any,
                  base: Bundle | None, chosen: Sizes, settings: Any, home: Path) -> Objective:
        """See `Medium.objective`."""
        objective: Objective = objectives.objective_class("pictures")(
            generator, codec, dataset, batch=chosen.batch_tokens, micro_batch=chosen.micro_batch, seed=recipe.seed,
            fresh=base is None)
        return objective

    def sampler(self, recipe: Recipe, generator: Any, codec: ImageCodec, dataset: PictureDataset[ImageCodec],
                run: Path) -> Callable[[int], str]:
        """Return a function that draws a sheet into the run's folder."""
        return picture_look.sampler(generator, dataset, recipe.controls, recipe.seed, run)

    def finish(self, recipe: Recipe, generator: Any, codec: ImageCodec, dataset: PictureDataset[ImageCodec],
               base: Bundle | None, home: Path, *, resume: bool) -> None:
        """Do nothing."""

    def report(self, bundle: Bundle, dataset: PictureDataset[ImageCodec], home: Path) -> None:
        """Write the run's report.html."""
        say(f"report: {picture_report.write(bundle, dataset, home)}")


MEDIA: dict[str, Medium] = {"text": Texts(), "image": Pictures(), "table": Tables(), "graph": Graphs()}
