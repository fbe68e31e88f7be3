"""An adapted model with its adapter off: the same numbers as the base loaded alone, in the same memory."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from bottega.core.recipe import AdapterSpec
from bottega.families import adapters
from bottega.families.adapter_off import with_new_adapter, without_adapter
from bottega.families.base import TokenGenerator
from tests.families.conftest import VOCAB

TOKENS = torch.randint(VOCAB, (2, 20), generator=torch.Generator().manual_seed(1))


def storages(model: torch.nn.Module) -> set[int]:
    return {tensor.data_ptr() for tensor in model.state_dict().values()}


@pytest.mark.parametrize("spec", [AdapterSpec(dropout=0.1), AdapterSpec(kind="dora"), AdapterSpec(quantise="nf4"),
                                  AdapterSpec(kind="dora", quantise="nf4"),
                                  AdapterSpec(targets=["q_proj", "embed_tokens"])], ids=str)
def test_without_its_adapter_a_model_is_the_base_and_takes_no_memory(make: Callable[..., TokenGenerator],
                                                                     spec: AdapterSpec):
    options: dict[str, Any] = {"tied": False}
    model = make(**options)
    with torch.no_grad():
        before = model(TOKENS)
    adapters.adapt(model, spec)
    with torch.no_grad():
        start = model(TOKENS)  # the adapter changes nothing yet
        for part in model.parameters():
            if part.requires_grad:
                part.add_(torch.randn_like(part) * 0.1)
        base = without_adapter(model)
        moved = model(TOKENS)
        assert torch.allclose(base(TOKENS), start, atol=1e-5)
        assert spec.quantise or torch.equal(base(TOKENS), before)
        assert float((moved - start).abs().max()) > 0.1
    assert storages(base) <= storages(model)
    assert not any(part.requires_grad for part in base.parameters())
    trained = [part for part in model.parameters() if part.requires_grad]
    assert trained
    assert adapters.adapted(model).keys() == adapters.adapted(with_new_adapter(model, spec, seed=1)).keys()


@pytest.mark.parametrize("quantise", [None, "nf4"])
def test_another_adapter_beside_learns_alone(make: Callable[..., TokenGenerator], quantise: Any):
    model, spec = make(), AdapterSpec(quantise=quantise)
    adapters.adapt(model, spec)
    other = with_new_adapter(model, spec, seed=7)
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    other.train()
    optimiser = torch.optim.SGD([part for part in other.parameters() if part.requires_grad], 1.0)
    before = other(TOKENS).detach()
    for _ in range(2):
        optimiser.zero_grad()
        other(TOKENS).square().mean().backward()
        optimiser.step()
    assert float((other(TOKENS) - before).detach().abs().max()) > 0
    assert all(torch.equal(tensor, kept[name]) for name, tensor in model.state_dict().items())
