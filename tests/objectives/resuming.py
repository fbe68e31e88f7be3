"""One check for every objective: a run stopped by Ctrl-C and resumed has the bits of a whole one."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bottega.core.errors import Interrupted
from bottega.core.recipe import TrainingSpec
from bottega.families.base import Batch
from bottega.training import loop
from bottega.training.checkpoint import model_tensors


def stopped_equals_whole(build: Callable[[], Any], folder: Path, **training: Any) -> Any:
    """Train six steps at once, and again with a stop at step 2; return the objective of the whole run."""
    spec = TrainingSpec.model_validate({"budget": {"steps": 6}, "context": 192, "precision": "fp32", "compile": "off",
                                        **training})
    whole = build()
    loop.train(whole, spec, run=folder / "whole", seed=1)
    stopped = build()
    usual = stopped.batch

    def stops(step: int) -> list[Batch]:
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return list(usual(step))

    stopped.batch = stops
    with pytest.raises(Interrupted):
        loop.train(stopped, spec, run=folder / "run", seed=1)
    resumed = build()
    loop.train(resumed, spec, run=folder / "run", seed=1, resume=True)
    wanted = model_tensors(whole.generator)
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in model_tensors(resumed.generator).items())
    return whole
