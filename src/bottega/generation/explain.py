"""What happened inside a generation: `bottega explain "…"` shows each token's probability, its rivals, each control.

A request made with `alternatives` above 0 carries all of it in its steps; here it becomes a picture or plain data.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from bottega.core.request import Output, Result, Step

if TYPE_CHECKING:
    from rich.console import RenderableType

# lowest probability → colour; a glance shows where the model was sure
_COLOURS = ((0.9, "green"), (0.5, "yellow"), (0.1, "dark_orange"), (0.0, "red"))


def as_data(result: Result) -> dict[str, Any]:
    """Return a result as JSON-ready data, every step included."""
    return {
        "outputs": [{"text": output.text, "finish": output.finish, "score": output.score,
                     "steps": [_step(step) for step in output.steps]} for output in result.outputs],
        "prompt_tokens": result.prompt_tokens, "new_tokens": result.new_tokens, "seed": result.seed,
        "seconds": result.seconds, "model": result.model, "lineage": result.lineage,
    }


def _step(step: Step) -> dict[str, Any]:
    data = dataclasses.asdict(step)
    for foreign in ("kind", "data"):
        del data[foreign]
    return data


def render(result: Result) -> RenderableType:
    """Return a result as a picture for the terminal: coloured text, a table a token, the facts that make it again."""
    from rich.console import Group
    from rich.text import Text

    facts = Text(f"seed {result.seed} · {result.prompt_tokens} tokens read, {result.new_tokens} made in "
                 f"{result.seconds:.2f} s · model {result.model[:12] or '(unsaved)'}", style="dim")
    return Group(render_outputs(result.outputs), facts)


def render_outputs(outputs: list[Output]) -> RenderableType:
    """Return outputs as coloured text, each followed by its table of steps."""
    from rich.console import Group
    from rich.text import Text

    legend = Text("probability of each token: ", style="dim")
    for least, colour in _COLOURS:
        legend.append(f" ≥ {least:.0%} " if least else " less ", style=colour)
    parts: list[RenderableType] = [legend]
    for number, output in enumerate(outputs, 1):
        if len(outputs) > 1:
            parts.append(Text(f"── {number} · mean log-probability {output.score:.3f}", style="bold"))
        parts += [_coloured(output), _table(output)]
    return Group(*parts)


def _colour(step: Step) -> str:
    chance = _own(step)
    return next(colour for least, colour in _COLOURS if chance >= least)


def _own(step: Step) -> float:
    """Return the probability that the model itself gave the token."""
    from math import exp

    return exp(step.logprob) if step.logprob is not None else 0.0


def _coloured(output: Output) -> RenderableType:
    from rich.text import Text

    text = Text()
    for step in output.steps:
        text.append(step.text, style=_colour(step))
    return text


def _table(output: Output) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in ("token", "model", "drawn from", "instead: model → after controls", "what the controls did"):
        table.add_column(name, justify="right" if name in ("model", "drawn from") else "left", overflow="fold")
    for step in output.steps:
        rivals = "  ".join(f"{_shown(other.text)} {_percent(other.logprob)} → {other.probability:.1%}"
                           for other in step.alternatives)
        name = _shown(step.token_text) if step.token_text else f"<{step.finish or 'end'}>"
        table.add_row(Text(name, style=_colour(step)), f"{_own(step):.1%}", f"{step.probability or 0.0:.1%}",
                      Text(rivals), Text("; ".join(step.changes), style="dim"))
    return table


def _shown(text: str) -> str:
    return repr(text)[1:-1].replace(" ", "␣") if text else "<reserved>"


def _percent(logprob: float) -> str:
    from math import exp

    return f"{exp(logprob):.1%}"
