"""Small models with weights that are all alive: fresh ones have zero output matrices, which hides mistakes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from bottega.core.recipe import GeneratorSpec
from bottega.families import build
from bottega.families.base import TokenGenerator

VOCAB, CONTEXT = 160, 64
SPECIAL = {"bos": 150, "eos": 151, "pad": 152, "unk": 153, "end": 158, "user": 155}


@pytest.fixture(autouse=True)
def same_draws() -> None:
    torch.manual_seed(0)


@pytest.fixture
def make() -> Callable[..., TokenGenerator]:
    """Build a model in evaluation mode from generator keys."""
    def build_alive(family: str = "transformer", depth: int = 2, **overrides: Any) -> TokenGenerator:
        spec = GeneratorSpec(family=family, depth=depth, **overrides)
        model = build(spec, vocab_size=VOCAB, context=CONTEXT, special=SPECIAL)
        with torch.no_grad():
            for weight in model.parameters():
                noise = torch.randn_like(weight)
                weight.copy_(1 + 0.2 * noise if weight.ndim == 1 else noise * weight.shape[1] ** -0.5)
        return model.eval()
    return build_alive
