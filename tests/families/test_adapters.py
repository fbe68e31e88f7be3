"""LoRA and DoRA on small models of every family: nothing changes at first, merged is unmerged, the base is shared."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bottega.core.errors import InputError
from bottega.core.recipe import AdapterSpec
from bottega.families import adapters
from bottega.families.adapter_files import put_on, read_adapter, values, write_adapter
from bottega.families.base import Generator, TokenGenerator
from bottega.families.diffusion import Diffusion
from bottega.families.diffusion_network import DiffusionConfig
from bottega.families.gan import GAN, GANConfig
from bottega.families.graph import GraphConfig, GraphGenerator
from bottega.families.quantised import NF4
from bottega.families.tabular import Tabular, TabularConfig
from bottega.families.vae import VAE, VAEConfig
from tests.families.conftest import SPECIAL, VOCAB

FACTS = {"channels": 1, "size": (8, 8), "classes": 3, "vocab": 0, "text_length": 0}
IMAGES = {"images": torch.zeros(4, 1, 8, 8), "labels": torch.tensor([0, 1, 2, -1]),
          "text": torch.zeros(4, 0, dtype=torch.int64)}
ROWS = {"codes": torch.tensor([[0, 2, 1], [1, 0, 0], [1, 1, 1], [0, 0, 1]]), "places": torch.full((4, 3), 0.5),
        "visible": torch.tensor([[True, False, False]])}
GRAPHS = {"nodes": torch.tensor([[0, 1, 0], [1, 1, 0]]), "edges": torch.tensor([
    [[0, 1, 0], [1, 0, 1], [0, 1, 0]], [[0, 1, 0], [1, 0, 0], [0, 0, 0]]]), "sizes": torch.tensor([3, 2])}
TOKENS = {"tokens": torch.randint(VOCAB, (2, 12), generator=torch.Generator().manual_seed(1)),
          "targets": torch.randint(VOCAB, (2, 12), generator=torch.Generator().manual_seed(2))}

Case = tuple[Callable[[], Generator], dict[str, torch.Tensor]]


def _alive(model: Generator) -> Generator:
    """Fresh models have zero output layers, which would hide mistakes."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        for live, copies in model.copies.items():
            for path in copies:
                model.get_submodule(path).load_state_dict(model.get_submodule(live).state_dict())
    return model.eval()


def _tokens(family: str, **keys: Any) -> Callable[[], Generator]:
    def made() -> Generator:
        from bottega.core.recipe import GeneratorSpec
        from bottega.families import build

        return _alive(build(GeneratorSpec(family=family, depth=2, width=32, **keys), vocab_size=VOCAB, context=64,
                            special=SPECIAL))
    return made


def _picture(family: Any, config: Any, **keys: Any) -> Callable[[], Generator]:
    return lambda: _alive(family(config.derive(1, FACTS, keys)))


def _table() -> Generator:
    facts = {"sizes": [2, 3, 2], "ordered": [False] * 3, "missing": [False] * 3, "shares": [.5, .5, .4, .3, .3, .5, .5]}
    model = Tabular(TabularConfig.derive(1, facts, {"width": 16}))
    model.fit_base([(ROWS["codes"], ROWS["places"])])
    return _alive(model)


CASES: dict[str, Case] = {
    "transformer": (_tokens("transformer", head_dim=8), TOKENS),
    "gru": (_tokens("recurrent", cell="gru"), TOKENS),
    "mingru": (_tokens("recurrent", cell="mingru"), TOKENS),
    "vae": (_picture(VAE, VAEConfig), IMAGES),
    "gan": (_picture(GAN, GANConfig), IMAGES),
    "unet": (_picture(Diffusion, DiffusionConfig, denoiser="unet"), IMAGES),
    "dit": (_picture(Diffusion, DiffusionConfig, denoiser="dit"), IMAGES),
    "tabular": (_table, ROWS),
    "graph": (lambda: _alive(GraphGenerator(GraphConfig.derive(
        1, {"kinds": 2, "types": 1, "largest": 4}, {"width": 16}))), GRAPHS),
}
KINDS = [AdapterSpec(rank=3), AdapterSpec(kind="dora", rank=3), AdapterSpec(rank=4, quantise="nf4", rslora=True),
         AdapterSpec(kind="dora", rank=2, quantise="nf4")]


def fresh(name: str) -> Generator:
    torch.manual_seed(2)
    return CASES[name][0]()


def loss(model: Generator, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    torch.manual_seed(5)
    return model.eval().loss(batch).total


def moved(model: Generator) -> Generator:
    """Give the adapters, in every copy of a network, values as after training."""
    torch.manual_seed(4)
    for name, parts in values(model).items():
        drawn = {part: tensor * 1.2 + (0 if part == "magnitude" else 0.1 * torch.randn_like(tensor))
                 for part, tensor in parts.items()}
        places = [name] + [path + name.removeprefix(live) for live, copies in model.copies.items()
                           if name.startswith(f"{live}.") for path in copies]
        with torch.no_grad():
            for place in places:
                for part, tensor in drawn.items():
                    model.get_submodule(place).get_parameter(part).copy_(tensor)
    return model


@pytest.mark.parametrize("spec", KINDS, ids=lambda spec: f"{spec.kind}-{spec.quantise or 'fp32'}")
@pytest.mark.parametrize("name", CASES)
def test_an_adapter_begins_as_nothing_and_merged_equals_unmerged(name: str, spec: AdapterSpec):
    batch = CASES[name][1]
    plain, model = fresh(name), fresh(name)
    before = loss(plain, batch)
    adapters.adapt(model, spec)
    found = adapters.adapted(model)
    assert found
    if spec.quantise is None:
        assert torch.allclose(loss(model, batch), before, rtol=1e-5)
    moved(model)
    changed = loss(model, batch)
    assert not torch.allclose(changed, before, rtol=1e-4)
    adapters.merge(model)
    assert {n: p.shape for n, p in model.state_dict().items()} == {n: p.shape for n, p in plain.state_dict().items()}
    assert torch.allclose(loss(model, batch), changed, rtol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_only_adapters_are_trained_and_gradients_reach_all_of_them(name: str):
    batch = CASES[name][1]
    model, kept = fresh(name), fresh(name).state_dict()
    adapters.adapt(model, AdapterSpec(kind="dora", rank=2))
    moved(model).train()
    seen = set[str]()
    names = {id(p): n for n, p in model.named_parameters()}
    for player in model.players():
        torch.manual_seed(0)
        model.zero_grad()
        model.loss(batch, player).total.backward()
        for parameter in model.players()[player]:
            if parameter.requires_grad and parameter.grad is not None:
                seen.add(names[id(parameter)])
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert all(n.rsplit(".", 1)[-1] in adapters.PARTS for n in trained)
    lost = {n for n in trained - seen if not n.startswith("latents")}
    assert len(lost) <= len(trained) // 4, lost  # layers that this small batch does not use
    for n, tensor in model.state_dict().items():
        plain = n.replace(".frozen", ".weight")
        if plain in kept and "variance" not in n and "seen" not in n:
            assert torch.equal(tensor, kept[plain]), n


def test_the_weight_of_an_adapted_layer_is_what_acts(make: Callable[..., TokenGenerator]):
    model = make("recurrent", cell="gru")
    adapters.adapt(model, AdapterSpec(rank=2))
    moved(model)
    layer = model.get_submodule("layers.0.cell.in_proj")
    x = torch.randn(3, layer.in_features)
    assert torch.allclose(layer(x), x @ layer.weight.T, atol=1e-5)  # type: ignore[operator]
    assert isinstance(layer, nn.Linear)


def test_dropout_hides_inputs_of_the_adapter_in_training_only(make: Callable[..., TokenGenerator]):
    model = make()
    adapters.adapt(model, AdapterSpec(rank=2, dropout=0.5))
    moved(model)
    first = loss(model, TOKENS)
    assert torch.equal(first, loss(model, TOKENS))
    model.train()
    torch.manual_seed(1)
    one = model.loss(TOKENS).total
    torch.manual_seed(2)
    assert not torch.equal(one, model.loss(TOKENS).total)
    torch.manual_seed(1)
    assert torch.equal(one, model.loss(TOKENS).total)


def test_a_copy_shares_the_base_and_not_the_adapter(make: Callable[..., TokenGenerator]):
    model = make()
    other = adapters.shared_copy(model)
    adapters.adapt(other, AdapterSpec())
    before = loss(model, TOKENS)
    changed = loss(moved(other), TOKENS)
    assert not torch.equal(before, changed)
    assert torch.equal(loss(model, TOKENS), before)
    mine, theirs = model.get_submodule("model.layers.0.mlp.up_proj"), other.get_submodule("model.layers.0.mlp.up_proj")
    assert mine.weight.data_ptr() == theirs.frozen.data_ptr()


def test_averaged_copies_hold_the_base_once():
    model = fresh("unet")
    before = sum(p.numel() for p in model.parameters())
    adapters.adapt(model, AdapterSpec(rank=1))
    small = sum(p.numel() for n, p in model.named_parameters() if n.rsplit(".", 1)[-1] in adapters.PARTS)
    assert sum(p.numel() for p in model.parameters()) - small == before // 2


def test_all_means_every_layer_but_the_vocabulary(make: Callable[..., TokenGenerator]):
    for tied in (True, False):
        model = make(tied=tied)
        names = adapters.choose(model, "all")
        assert len(names) == 7 * 2
        assert "lm_head" not in names


def test_targets_are_names_their_ends_or_a_pattern(make: Callable[..., TokenGenerator]):
    model = make()
    assert len(adapters.choose(model, ["q_proj", "v_proj"])) == 4
    assert adapters.choose(model, ["model.layers.1.mlp.up_proj"]) == ["model.layers.1.mlp.up_proj"]
    assert len(adapters.choose(model, r"model\.layers\.0\..*")) == 7
    for wrong, words in ((["q_prj"], "q_proj"), ("nothing.*", "no linear layer"), ("(", "no regular expression"),
                         (["embed_tokens"], "shares its weight")):
        with pytest.raises(InputError, match=words):
            adapters.choose(model, wrong)


def test_a_table_can_be_adapted_where_asked(make: Callable[..., TokenGenerator], tmp_path: Path):
    model, plain = make(tied=False), make(tied=False)
    with torch.no_grad():
        plain.load_state_dict(model.state_dict())
    spec = AdapterSpec(rank=2, targets=["embed_tokens", "q_proj"], quantise="nf4")
    adapters.adapt(model, spec)
    assert sum(isinstance(module, NF4) for module in model.modules()) == 2  # a table stays as it is
    changed = loss(moved(model), TOKENS)
    write_adapter(tmp_path, model, spec, base="base", plain=plain)
    again = adapters.shared_copy(plain)
    read, small = read_adapter(tmp_path)
    put_on(again, read.model_copy(update={"quantise": "nf4"}), small)
    assert torch.equal(loss(again, TOKENS), changed)
    adapters.merge(again)
    assert torch.allclose(loss(again, TOKENS), changed, rtol=1e-5)
    with pytest.raises(InputError, match="is a table"):
        adapters.adapt(make(tied=False), AdapterSpec(kind="dora", targets=["embed_tokens"]))


def test_the_first_matrix_depends_on_seed_and_name_alone(make: Callable[..., TokenGenerator]):
    def drawn(seed: int) -> torch.Tensor:
        torch.manual_seed(99)
        model = make()
        torch.rand(7)
        adapters.adapt(model, AdapterSpec(), seed=seed)
        return model.get_parameter("model.layers.0.mlp.up_proj.lora_A").detach()

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
