"""The controls that Create shows, from the typed `Controls`: ranges come from the type, the words are here.

`pytest tests/browser/test_parts.py` checks every slider against the type.
"""

from __future__ import annotations

from dataclasses import dataclass

from annotated_types import Ge, Gt, Le, Lt

from bottega.core.request import Controls

# name: label, what it does in plain words, step, top of the slider (None: a plain number field)
Words = dict[str, tuple[str, str, float, float | None]]
TEXT: Words = {
    "temperature": ("Temperature", "0 always takes the likeliest word; higher is more surprising.", 0.05, 2.0),
    "top_p": ("Top-p", "Choose only among the likeliest words that together reach this share.", 0.01, 1.0),
    "top_k": ("Top-k", "Choose only among this many likeliest words; 0 is no limit.", 1, 100),
    "min_p": ("Min-p", "Leave out words less likely than this share of the likeliest one.", 0.01, 1.0),
    "repetition_penalty": ("Repetition penalty", "Above 1 makes words already seen less likely.", 0.05, 2.0),
    "presence_penalty": ("Presence penalty", "Above 0 pushes towards words not used yet.", 0.1, 2.0),
    "frequency_penalty": ("Frequency penalty", "Above 0 pushes away from words used often.", 0.1, 2.0),
    "max_tokens": ("Longest answer", "Stop after this many tokens (about ¾ of a word each).", 1, None),
}
PICTURES: Words = {
    "n": ("Pictures", "How many to draw at once; each has a number of its own.", 1, 16),
    "steps": ("Steps", "More steps take longer and draw more carefully.", 1, 50),
    "guidance_scale": ("Guidance", "How closely a picture follows its words; 1 is the model's own range.", 0.1, 10),
    "temperature": ("Temperature", "0 draws the most typical picture; higher varies more.", 0.05, 2.0),
    "strength": ("Strength", "How much of a given picture is made anew: 0 keeps it, 1 keeps nothing.", 0.05, 1.0),
}
_COMMON = ("temperature", "top_p", "max_tokens")


@dataclass(frozen=True, slots=True)
class Control:
    """One control as the page shows it; `low` and `high` bound its slider, `more` puts it under "More"."""

    name: str
    label: str
    help: str
    step: float
    low: float
    high: float | None
    whole: bool
    more: bool


def controls(words: Words) -> list[Control]:
    """Return the controls of a panel, with the ranges the type allows."""
    shown = []
    for name, (label, help, step, top) in words.items():
        field = Controls.model_fields[name]
        low = next((float(bound.ge if isinstance(bound, Ge) else bound.gt)  # type: ignore[arg-type]
                    for bound in field.metadata if isinstance(bound, Ge | Gt)), 0.0)
        limit = next((float(bound.le if isinstance(bound, Le) else bound.lt)  # type: ignore[arg-type]
                      for bound in field.metadata if isinstance(bound, Le | Lt)), None)
        high = None if top is None else top if limit is None else min(top, limit)
        whole = field.annotation == int | None
        if any(isinstance(bound, Gt) for bound in field.metadata):
            low += step
        shown.append(Control(name, label, help, step, max(low, -top) if top else low, high, whole,
                             more=name not in _COMMON))
    return shown
