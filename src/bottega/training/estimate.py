"""What a run will take, said before it starts: `bottega estimate recipes/python-lm.yaml depth=8`.

Nothing is prepared or trained for it: the model is built without memory, the machine's matrix-product peak is measured
once, and the share of it that training reaches is remembered from earlier runs (an assumption before the first).
"""

from __future__ import annotations

import resource
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bottega.core import gpu
from bottega.core.bundle import Bundle, find_bundle
from bottega.core.energy import CORE_WATTS
from bottega.core.recipe import Recipe
from bottega.families.adapters import is_adapted
from bottega.families.base import Generator
from bottega.training.display import duration
from bottega.training.optim import hidden_matrices
from bottega.training.peak import Notebook
from bottega.training.sizes import Sizes, item_sizes, sizes
from bottega.training.starting import check_adapter, put_adapter, shape, started

if TYPE_CHECKING:
    from bottega.training.loop import TrainResult

_UTILISATION = 0.35  # of the peak, before any run was seen on this machine
_RUNTIME_BYTES = 650e6  # Python with PyTorch, Arrow and the codec loaded; measured 600 to 700 MB
_GPU_SHARE = (0.4, 1.0)  # of its power limit that a GPU in training draws
# bytes a parameter of what kinds may keep beside the trained model: a frozen one, a value network
_FROZEN = {"dpo": 4, "kto": 4, "distil": 4, "grpo": 4, "ppo": 20}
_BF16_PARAMETERS = 2e6  # under this many, casting costs more than faster products give back


@dataclass(slots=True)
class Estimate:
    """What a run is expected to take.

    Attributes:
        parameters: all weights; `matrices`: those that Muon moves.
        flops_per_token: of training, forward and backward.
        memory_bytes: peak of the process; of the GPU's memory where one is used.
        tokens_per_second, tokens, steps, seconds: of the training loop.
        kwh_low, kwh_high: energy.
        precision: assumed; the run times both.
        utilisation: share of the machine's peak that is reached, and `source`, where it comes from.
        sizes: tokens (pictures) a step and rows a forward pass.
        item: what is counted, `token`, `picture`, `row` or `graph`.
        derived: what the family derived from `depth`.
        adapter: of a recipe with an adapter, `trained` and `all` parameters, bytes that the base takes, numbers that it
            holds in four bits, and bytes that are saved beside training all of it.
    """

    name: str
    parameters: int
    matrices: int
    flops_per_token: float
    memory_bytes: float
    tokens_per_second: float
    tokens: int
    steps: int
    seconds: float
    kwh_low: float
    kwh_high: float
    precision: str
    peak: float
    utilisation: float
    source: str
    sizes: Sizes
    derived: dict[str, Any] = field(default_factory=dict)
    item: str = "token"
    adapter: dict[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return asdict(self)

    def table(self) -> str:
        """Return lines for people."""
        rows = {
            "parameters": f"{self.parameters:,} ({self.matrices:,} in hidden matrices)",
            "compute": f"{self.flops_per_token:.3g} FLOP a {self.item}, "
                       f"{self.flops_per_token * self.tokens:.3g} in all",
            "memory": f"{self.memory_bytes / 1e9:.2f} GB at the peak",
            "step": f"{self.sizes.batch_tokens:,} {self.item}s, {self.sizes.micro_batch} "
                    f"{'sequence' if self.item == 'token' else self.item}s a forward pass ({self.sizes.reason})",
            "speed": f"{self.tokens_per_second:,.0f} {self.item}s/s: {self.utilisation:.0%} ({self.source}) of the "
                     f"{self.peak / 1e9:.0f} GFLOP/s measured here in {self.precision}",
            "training": f"{duration(self.seconds)}, {self.steps:,} steps, {self.tokens:,} {self.item}s",
            "energy": f"{self.kwh_low * 1000:.2f}-{self.kwh_high * 1000:.2f} Wh "
                      f"({self.kwh_low:.2g}-{self.kwh_high:.2g} kWh)",
        }
        if self.adapter:
            made = self.adapter
            share = made["trained"] / made["all"]
            rows["parameters"] = f"{made['trained']:,} of {made['all']:,} are trained ({share:.2%})"
            rows["memory"] += f", {made['saved_bytes'] / 1e6:,.1f} MB less than to train all weights"
        if self.derived:
            rows["derived"] = ", ".join(f"{key} {value}" for key, value in self.derived.items())
        return "\n".join([f"{self.name}: before anything runs", *(f"  {key:11} {text}" for key, text in rows.items())])


def memory(generator: Generator, recipe: Recipe, vocab: int, micro_tokens: int, precision: str) -> float:
    """Return the expected peak memory of training in bytes.

    Weights and gradients 4 bytes a parameter each; Muon 4 and AdamW 8 a parameter it moves; a frozen
    reference or teacher 4, a value network 16. Beside an adapter the base takes its weights alone, and they are the
    reference's and the value network's too. Activations: every matrix product keeps its input and output, and norms
    and activation functions half as much again, in the precision's bytes. Logits: 2048 tokens at a time, twice, in
    fp32. Plus the runtime.
    """
    matrices = hidden_matrices(generator)
    total = sum(p.numel() for p in generator.parameters())
    inner = sum(p.numel() for p in generator.parameters() if id(p) in matrices)
    moments = 4 * inner + 8 * (total - inner) if recipe.training.optimizer == "muon" else 8 * total
    frozen = _FROZEN.get(recipe.objective.kind, 0) * total
    elements = 1.5 * sum(sum(p.shape) for p in generator.parameters() if id(p) in matrices)
    activations = elements * micro_tokens * (2 if precision == "bf16" else 4)
    casts = 2 * total if precision == "bf16" else 0
    states = 8 * total + moments
    if is_adapted(generator):
        small = shape(generator)
        states = 16 * small["trained"] + small["base_bytes"]
        frozen = {"distil": 4 * small["all"], "ppo": 16 * small["trained"]}.get(recipe.objective.kind, 0)
    logits = min(micro_tokens, 2048) * vocab * 8
    return _RUNTIME_BYTES + states + frozen + activations + casts + logits


def estimate(recipe: Recipe, *, home: Path, generator: Generator | None = None,
             recorded: Sizes | None = None) -> Estimate:
    """Return what a recipe would take on this machine.

    Args:
        recipe: what to make.
        home: the workshop (for the base model and for what the machine taught us).
        generator: the model when it exists already; else one is built on the meta device.
        recorded: sizes of the run that is resumed.

    Raises:
        RecipeError: a key of the generator is unknown or does not fit.
        InputError: the base model is not there.
    """
    spec, notebook = recipe.training, Notebook(home / "cache")
    generator = generator if generator is not None else _model(recipe, home)
    tables = [m.num_embeddings for m in generator.modules() if isinstance(m, torch.nn.Embedding)]
    small = shape(generator) if is_adapted(generator) else {}
    total = small["all"] if small else sum(p.numel() for p in generator.parameters())
    matrices = hidden_matrices(generator)
    precision = spec.precision
    if precision == "auto":
        faster = notebook.peak("bf16") > 1.5 * notebook.peak("fp32")
        precision = "bf16" if faster and total >= _BF16_PARAMETERS else "fp32"
    flops = 3 * generator.flops_per_item(spec.context) * (4 / 3 if recipe.objective.kind in _FROZEN else 1)
    seen = notebook.get("utilisation", generator.family, recipe.objective.kind, precision)
    utilisation = float(seen) if isinstance(seen, float) else _UTILISATION
    peak = notebook.peak(precision)
    speed = utilisation * peak / flops
    item = {"image": "picture", "table": "row", "graph": "graph"}.get(recipe.codec.kind, "token")
    fresh = sizes(spec, speed, on_gpu=torch.cuda.is_available()) if item == "token" else \
        item_sizes(spec, recipe.codec.kind)
    chosen = recorded or fresh
    budget = spec.budget
    if budget.minutes is not None:
        tokens = int(speed * budget.minutes * 60)
    else:
        tokens = budget.tokens if budget.tokens is not None else (budget.steps or 0) * chosen.batch_tokens
    seconds = budget.minutes * 60 if budget.minutes is not None else tokens / speed
    hours, threads = seconds / 3600, torch.get_num_threads()
    low, high = (hours * (threads * core + share * (gpu.watts_limit() or 0.0)) / 1000
                 for core, share in zip(CORE_WATTS, _GPU_SHARE, strict=True))
    derived = getattr(generator.config, "derived", None)
    held = 16 * small["trained"] + small["base_bytes"] if small else 16 * total  # weights, gradients, two moments
    if small:
        inner = sum(p.numel() for p in generator.parameters() if id(p) in matrices) + small["in_four_bits"]
        alone = 16 * (total - small["trained"]) - (4 * inner if item == "token" and spec.optimizer == "muon" else 0)
        small["saved_bytes"] = alone - held
    return Estimate(
        name=recipe.name, parameters=total,
        matrices=sum(p.numel() for p in generator.parameters() if id(p) in matrices),
        flops_per_token=flops,
        memory_bytes=_RUNTIME_BYTES + held if item != "token" else
        memory(generator, recipe, max(tables, default=0), chosen.micro_batch * spec.context, precision),
        tokens_per_second=speed, tokens=tokens, steps=max(1, tokens // chosen.batch_tokens), seconds=seconds,
        kwh_low=low, kwh_high=high, precision=precision, peak=peak, utilisation=utilisation,
        source="seen in earlier runs" if seen else "assumed before the first run", sizes=chosen,
        derived=dict(derived()) if callable(derived) else {}, item=item, adapter=small)


def truth(guess: Estimate, result: TrainResult, *, family: str, kind: str, home: Path) -> dict[str, Any]:
    """Return what the run took beside what was expected, and remember the share of peak it reached.

    Args:
        guess: the estimate.
        result: the finished run.
        family: of the generator; kind: of the objective.
        home: the workshop.
    """
    notebook, precision = Notebook(home / "cache"), str(result.choices.get("precision", guess.precision))
    reached = result.tokens_per_second * guess.flops_per_token / notebook.peak(precision)
    if result.seconds > 10 and result.steps >= 10:  # shorter runs measure the start-up
        notebook.put(min(0.9, float(reached)), "utilisation", family, kind, precision)
    used = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else \
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"tokens_per_second": {"expected": guess.tokens_per_second, "true": result.tokens_per_second},
            "seconds": {"expected": guess.seconds, "true": result.seconds},
            "tokens": {"expected": guess.tokens, "true": result.tokens},
            "memory_bytes": {"expected": guess.memory_bytes, "true": used},
            "watt_hours": {"expected": [guess.kwh_low * 1000, guess.kwh_high * 1000],
                           "true": [result.cost.energy_wh_low, result.cost.energy_wh_high]},
            "utilisation": {"expected": guess.utilisation, "true": reached}}


def _model(recipe: Recipe, home: Path) -> Generator:
    """Return the recipe's model: its base with the adapter, or a new one without memory."""
    from bottega import families

    if recipe.base:
        base = Bundle.open(find_bundle(recipe.base, home / "models"))
        check_adapter(recipe, base)
        generator = started(base)
        put_adapter(generator, recipe)
        return generator
    check_adapter(recipe, None)
    if recipe.codec.kind == "image":
        from bottega.codecs.image import ImageCodec, PictureSpec
        from bottega.core.validate import validate
        from bottega.training.picture_models import build_pictures

        shape = validate(PictureSpec, recipe.codec.overrides, where="codec")
        with torch.device("meta"):
            return build_pictures(recipe, ImageCodec.of(shape), home)  # classes and words are not known yet
    if recipe.codec.kind == "table":
        from bottega.codecs.table import TableCodec
        from bottega.training.media_tables import build_table

        return build_table(recipe, TableCodec.of({}))  # neither are columns
    if recipe.codec.kind == "graph":
        from bottega.codecs.graph import GraphCodec
        from bottega.training.media_graphs import build_graphs

        with torch.device("meta"):
            return build_graphs(recipe, GraphCodec.of(recipe.codec.overrides))  # nor are types
    with torch.device("meta"):
        return families.build(recipe.generator, vocab_size=recipe.codec.vocab_size, context=recipe.training.context,
                              special={"bos": 0, "eos": 1, "pad": 2, "end": 3})
