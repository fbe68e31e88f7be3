"""The model card of a bundle: what it is for, what it was made from, how good it is and what it cost.

Written as `README.md` with the front matter that Hugging Face reads.
"""

from __future__ import annotations

from typing import Any

import yaml

from bottega.core.lineage import Lineage
from bottega.core.recipe import Recipe
from bottega.training.display import duration
from bottega.training.loop import TrainResult

_USES = {
    "pretrain": "Continuing text like the text it was trained on, and as a base for fine-tuning. It does not answer "
                "questions or follow instructions.",
    "sft": "Answering in the manner of the conversations it was trained on. Outside them its answers are unreliable.",
    "pictures": "Drawing pictures like those it was trained on, by class or caption. What it was not shown it cannot "
                "draw; look at its pictures before you use them.",
    "tables": "Making rows like those it was trained on, for tests, sharing and augmentation. Look at its report "
              "first: it says how much the rows give away.",
    "graphs": "Making graphs like those it was trained on. Only its rule is guaranteed: whether a molecule can be "
              "made or is harmless is not known.",
    "distil": "Answering in the manner of the teacher it learned from. Outside the conversations it was shown its "
              "answers are unreliable.",
    "reward": "Judging answers like those it was trained on: which of two to one question is better, not how good "
              "an answer is by itself. Its report says how often it is right and how far it can be believed.",
    "kto": "Answering in the manner of the answers that people liked. Outside them its answers are unreliable.",
    "orpo": "Answering in the manner preferred in its training pairs. Outside them its answers are unreliable.",
    "dpo": "Answering in the manner preferred in its training pairs. Outside them its answers are unreliable.",
}


def model_card(recipe: Recipe, lineage: Lineage, meta: dict[str, Any], result: TrainResult) -> str:
    """Return the card as Markdown.

    Args:
        recipe: what was made.
        lineage: parents, licences and cost.
        meta: content of `bottega.json`.
        result: the finished run.
    """
    known = sorted({licence.spdx for licence in lineage.licences})
    front: dict[str, Any] = {
        "library_name": "transformers" if meta["family"] == "transformer" else "bottega",
        "tags": ["bottega", meta["family"], meta["objective"]],
        "license": known[0].lower() if len(known) == 1 and known[0] not in ("unknown", "") else "other",
    }
    if meta["family"] in ("transformer", "recurrent"):
        front["pipeline_tag"] = "text-generation"
    if meta["codec"] == "image":
        front["pipeline_tag"] = "text-to-image" if meta["family"] == "diffusion" else "unconditional-image-generation"
    if recipe.base:
        front["base_model"] = recipe.base
    lines = ["---", yaml.safe_dump(front, sort_keys=False).strip(), "---", "", f"# {recipe.name}", ""]
    if recipe.description:
        lines += [recipe.description.strip(), ""]
    lines += ["## Intended use", "", _USES.get(meta["objective"], "See the description."), "",
              "Its output can be wrong or harmful; a person answers for what is done with it.", ""]
    unit = {"image": "pictures", "table": "rows", "graph": "graphs"}.get(meta["codec"], "tokens")
    reads = f", context: {meta['context']}" if unit == "tokens" else ""
    lines += ["## Model", "", f"- family: {meta['family']}, objective: {meta['objective']}{reads}"]
    lines += [f"- {key}: {value}" for key, value in meta.get("derived", {}).items()]
    lines += ["", "## Data and parents", ""]
    lines += [f"- {parent.kind} `{parent.name}` `{parent.digest[:16]}`" for parent in lineage.parents]
    lines += ["", "## Licences of what it was made from", ""]
    lines += [f"- {licence.spdx}: {licence.evidence or 'no evidence recorded'}" for licence in lineage.licences] or \
             ["- unknown"]
    lines += ["", "## Held-out metrics", "", "| metric | value |", "|---|---|"]
    lines += [f"| {name} | {value:.4g} |" for name, value in result.metrics.items()]
    cost = lineage.cost
    lines += ["", "## Training", "",
              f"- {result.steps:,} steps, {result.tokens:,} {unit} in {duration(result.seconds)} "
              f"({result.tokens_per_second:,.0f} {unit}/s)",
              f"- precision {result.choices.get('precision')}, "
              f"{'compiled' if result.choices.get('compiled') else 'eager'}, "
              f"learning rate {result.choices.get('learning_rate', 0):.4g}, seed {recipe.seed}",
              f"- energy {cost.energy_wh_low:.3g}-{cost.energy_wh_high:.3g} Wh ({cost.method})",
              "", "`lineage.json` holds the digests; `bottega lineage` prints them with their parents.", ""]
    return "\n".join(lines)
