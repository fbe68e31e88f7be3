"""What a medium trains beside its generator, into the same bundle: a table's model of text. `run.make` writes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bottega.core.energy import Cost


@dataclass(frozen=True)
class Beside:
    """A trained part of a model.

    Attributes:
        write: writes its folder into a bundle.
        name: of the part in the bundle's meta, with `facts`: JSON of what it is and how good.
        line: the same in a line, for the model card.
        cost_before: of its training in earlier processes.
    """

    write: Callable[[Path], None]
    name: str
    facts: dict[str, Any]
    line: str
    cost_before: Cost
