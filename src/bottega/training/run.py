"""From a recipe to a finished model: data, codec, packing, generator, objective, training, bundle.

`bottega train RECIPE` is this file. Every stage is named by a digest of what goes into it and reused when unchanged.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import bottega
from bottega import objectives
from bottega.core.bundle import META, Bundle, find_bundle
from bottega.core.energy import CostMeter
from bottega.core.errors import BottegaError, InputError, RecipeError
from bottega.core.files import MANIFEST, digest_json, read_json, write_json
from bottega.core.lineage import LINEAGE, Lineage, Parent, merge_licences
from bottega.core.progress import say
from bottega.core.recipe import Recipe
from bottega.core.request import Controls
from bottega.evaluation.table_verdict import last_verdict
from bottega.families.adapter_files import write_adapter
from bottega.families.base import Generator
from bottega.families.bases import adapter_meta, load_generator, with_head
from bottega.training.beside import Beside
from bottega.training.card import model_card
from bottega.training.estimate import estimate, truth
from bottega.training.loop import RESOLVED, TrainResult, train
from bottega.training.media import MEDIA
from bottega.training.picture_models import latents_of, text_encoder_of
from bottega.training.sizes import Sizes
from bottega.training.starting import check_adapter, put_adapter
from bottega.training.text_objectives import advisor_of

if TYPE_CHECKING:
    pass

# Settings of the loop that change what is shown or kept, not the weights: a run may be resumed under others.
_HARMLESS = frozenset({"checkpoint_every", "keep_checkpoints", "sample_every"})


@dataclass(slots=True)
class _Parts:
    """What a run is made of."""

    recipe: Recipe
    dataset: Any
    codec: Any
    base: Bundle | None
    latents: Bundle | None
    text_encoder: Bundle | None
    advisor: Bundle | None  # distil's teacher, or the judge of a reward
    settings: Any

    def facts(self) -> dict[str, Any]:
        """Return the identity of the run: what the weights depend on."""
        recipe = self.recipe.plain()
        training = {key: value for key, value in recipe["training"].items() if key not in _HARMLESS}
        flat = {f"{room}.{key}": value for room, part in
                (("generator", recipe["generator"] if self.base is None else {}), ("training", training),
                 ("objective", {"kind": self.recipe.objective.kind, **self.settings.model_dump(mode="json")}))
                for key, value in part.items()}
        return {**flat, "seed": self.recipe.seed, "data": self.dataset.digest, "codec": self.codec.digest,
                "base": self.base.digest if self.base else None,
                **({"adapter": recipe["adapter"]} if self.recipe.adapter else {}),
                **({"latents": self.latents.digest} if self.latents else {}),
                **({"text_encoder": self.text_encoder.digest} if self.text_encoder else {}),
                **({"advisor": self.advisor.digest} if self.advisor else {}), "bottega": bottega.__version__}


def make(recipe: Recipe, *, home: Path, resume: bool = False, replace: bool = True, reuse: bool = True,
         report: bool = True) -> Bundle:
    """Make the model of a recipe, or return it when it is there already and nothing changed.

    Args:
        recipe: what to make.
        home: the workshop; the model ends in `home/models/NAME`, the run in `home/runs/NAME`.
        resume: go on from the last checkpoint of this run.
        replace: swap out another model of the same name; without it that is an error.
        reuse: return an existing model of the same recipe and data as it is.
        report: write the page of the finished model into its run.

    Raises:
        RecipeError: parts of the recipe do not fit each other, or a resume under another recipe.
        InputError: the base model is not there, or the name is taken and `replace` is false.
        DataError: the data is empty or of a kind the objective cannot read.
        Interrupted: stopped by the user; `resume` goes on.
        DivergedError, CorruptError, ResourceError: see `loop.train`.
    """
    meter = CostMeter()
    settings = objectives.settings(recipe.objective)  # faults in the recipe are found before any work
    kind, target, run = recipe.objective.kind, home / "models" / recipe.name, home / "runs" / recipe.name
    if kind in objectives.NEEDS_BASE and not recipe.base:
        raise RecipeError(f"objective '{kind}' starts from a finished model and the recipe names none", where="base",
                          fix="add 'base: NAME'; see 'bottega models'")
    base = Bundle.open(find_bundle(recipe.base, home / "models")) if recipe.base else None
    medium = MEDIA[recipe.codec.kind]
    medium.check(recipe, base, home)
    check_adapter(recipe, base)
    if base is not None and base.path.resolve() == target.resolve():
        raise RecipeError(f"the model '{recipe.name}' cannot be its own base", where="base", fix="give another name")
    dataset = medium.dataset(recipe, base, home)
    codec = medium.codec(recipe, dataset, base, home)
    parts = _Parts(recipe, dataset, codec, base, latents_of(recipe, home), text_encoder_of(recipe, home),
                   advisor_of(recipe, home), settings)
    facts = parts.facts()
    if target.exists():
        finished = _unchanged(target, digest_json(facts)) if reuse else None
        if finished is not None:
            say(f"{recipe.name}: unchanged")
            return _relabelled(finished, recipe, base, home)
        if not replace:
            raise InputError(f"a model named '{recipe.name}' exists already", where=str(target),
                             fix="give the recipe another name")
        say(f"{recipe.name}: takes the place of another model of this name; give it another name to keep both")
    generator = medium.generator(recipe, codec, base, home)
    put_adapter(generator, recipe)
    generator = generator.to("cuda") if torch.cuda.is_available() else generator
    recorded = read_json(run / RESOLVED).get("sizes") if resume and (run / RESOLVED).is_file() else None
    guess = estimate(recipe, home=home, generator=generator, recorded=Sizes(**recorded) if recorded else None)
    say(guess.table())
    objective = medium.objective(recipe, dataset, codec, generator, base, guess.sizes, settings, home)
    result = train(objective, recipe.training, run=run, seed=recipe.seed, resume=resume, facts=facts,
                   sample=medium.sampler(recipe, generator, codec, dataset, run), cache=home / "cache",
                   notes={"sizes": guess.plain()["sizes"], "estimate": guess.plain()})
    beside = medium.finish(recipe, generator, codec, dataset, base, home, resume=resume)
    compared = truth(guess, result, family=generator.family, kind=kind, home=home)
    write_json(run / RESOLVED, {**read_json(run / RESOLVED), "truth": compared})
    told = {name.replace("token", guess.item): pair for name, pair in compared.items() if name != "watt_hours"}
    say("expected / true: " + ", ".join(f"{name} {pair['expected']:.3g} / {pair['true']:.3g}"
                                        for name, pair in told.items()))
    bundle = _bundle(parts, generator, result, guess.derived, digest_json(facts), target, meter, beside)
    if not report:
        return bundle
    try:
        medium.report(bundle, dataset, home)
    except BottegaError as error:  # a full disk, for instance: the model is finished all the same
        say(f"warning: no report: {error.problem}")
    return bundle


def _unchanged(target: Path, facts: str) -> Bundle | None:
    """Return the bundle in `target` when it verifies and was made from the same facts."""
    try:
        found = Bundle.open(target)
    except BottegaError as error:
        say(f"warning: the model in {target} cannot be reused: {error.problem}")
        return None
    return found if found.meta.get("facts") == facts else None


def _relabelled(finished: Bundle, recipe: Recipe, base: Bundle | None, home: Path) -> Bundle:
    """Return a finished bundle with the recipe's parts that no weight depends on (controls, description) up to date."""
    meta = {**finished.meta, "recipe": recipe.plain(), "controls": _controls(recipe, base)}
    if meta == finished.meta:
        return finished
    say(f"{recipe.name}: its weights are kept, its controls or description are new")
    old, path = finished.lineage, finished.path
    verdict = last_verdict(home, finished.digest)

    def write(folder: Path) -> None:
        ours = shutil.ignore_patterns(META, LINEAGE, MANIFEST, "README.md")
        shutil.copytree(path, folder, ignore=lambda at, names: ours(at, names) if Path(at) == path else set(),
                        dirs_exist_ok=True)

    made = Bundle.create(path, meta=meta, card=(path / "README.md").read_text(encoding="utf-8"), write=write,
                         lineage=lambda content: old.model_copy(update={"content": content, "parameters": {
                             **old.parameters, "recipe": recipe.plain()}}))
    if verdict is not None:  # another description is no way past the release gate
        verdict.about(made.name, made.digest).keep(home)
    return made


def _controls(recipe: Recipe, base: Bundle | None) -> dict[str, Any]:
    """Return the model's default controls: the recipe's, then the base's."""
    return recipe.controls.over(base.controls if base else Controls()).model_dump(mode="json", exclude_none=True)


def _bundle(parts: _Parts, generator: Generator, result: TrainResult, derived: dict[str, Any], facts: str,
            target: Path, meter: CostMeter, beside: Beside | None) -> Bundle:
    """Write the finished model folder."""
    recipe, base = parts.recipe, parts.base
    if beside is not None:
        derived = {**derived, beside.name: beside.line}
    meta: dict[str, Any] = {
        "family": generator.family, "codec": parts.codec.kind, "objective": recipe.objective.kind, "derived": derived,
        "recipe": recipe.plain(), "metrics": result.metrics, "context": recipe.training.context,
        "controls": _controls(recipe, base),
        "choices": result.choices, "facts": facts,
        "training": {"steps": result.steps, "tokens": result.tokens, "seconds": result.seconds,
                     "tokens_per_second": result.tokens_per_second},
    }
    if beside is not None:
        meta[beside.name] = beside.facts
    if base is not None and recipe.adapter is not None:
        meta["adapter"] = adapter_meta(base, recipe.adapter)
    parents = [Parent(kind="dataset", name=", ".join(recipe.data.sources), digest=parts.dataset.lineage.digest)]
    licences = list(parts.dataset.lineage.licences)
    for model in (base, parts.latents, parts.text_encoder, parts.advisor):
        if model is not None:
            parents.append(Parent(kind="model", name=model.name, digest=model.lineage.digest))
            licences += model.lineage.licences
    cost = result.cost_before + meter.read()
    if beside is not None:
        cost = cost + beside.cost_before

    def lineage(content: str) -> Lineage:
        return Lineage(kind="model", name=recipe.name, content=content, parents=parents, step=recipe.objective.kind,
                       parameters={"recipe": recipe.plain(), "choices": result.choices}, seed=recipe.seed,
                       licences=merge_licences(licences), cost=cost)

    def write(folder: Path) -> None:
        if base is not None and recipe.adapter is not None:
            plain = with_head(load_generator(base), generator.family)
            write_adapter(folder, generator, recipe.adapter, base=base.name, plain=plain)
        else:
            generator.save(folder)
        MEDIA[recipe.codec.kind].save_codec(parts.codec, folder, recipe)
        if beside is not None:
            beside.write(folder)

    card = model_card(recipe, lineage(""), meta, result)
    bundle = Bundle.create(target, meta=meta, lineage=lineage, write=write, card=card)
    say(f"{recipe.name} is in {bundle.path} ({META}, README.md and lineage.json tell its story)")
    return bundle
