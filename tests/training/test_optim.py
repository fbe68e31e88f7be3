import pytest
import tiny
import torch
from torch import nn

from bottega.families.diffusion import Diffusion
from bottega.training.optim import Muon, Optimiser, hidden_matrices, orthogonalise


@pytest.mark.parametrize("shape", [(3, 32, 96), (2, 96, 32)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_orthogonalised_matrices_have_singular_values_near_one(shape, dtype):
    torch.manual_seed(0)
    result = orthogonalise(torch.randn(shape) * 1e-3, dtype).float()
    values = torch.linalg.svdvals(result)
    assert result.shape == shape
    assert values.min() > 0.8
    assert values.max() < 1.2


def test_orthogonalised_matrix_keeps_the_singular_vectors():
    torch.manual_seed(1)
    u, _ = torch.linalg.qr(torch.randn(24, 24))
    v, _ = torch.linalg.qr(torch.randn(24, 24))
    matrix = (u * torch.linspace(0.05, 1.0, 24)) @ v.T
    nearest = u @ v.T
    assert torch.dist(orthogonalise(matrix[None])[0], nearest) / nearest.norm() < 0.15


def moved_as_apart(together: dict[str, nn.Parameter]) -> Muon:
    """Move parameters in one optimiser and copies of them each in one of its own, compare, and return the first."""
    alone = {name: nn.Parameter(p.detach().clone()) for name, p in together.items()}
    batched = Muon(together, learning_rate=0.1, weight_decay=0.1)
    single = [Muon({name: p}, learning_rate=0.1, weight_decay=0.1) for name, p in alone.items()]
    for _ in range(3):
        for name, p in together.items():
            p.grad = torch.randn_like(p)
            alone[name].grad = p.grad.clone()
        batched.step(1.0)
        for muon in single:
            muon.step(1.0)
    for name, p in together.items():
        torch.testing.assert_close(p, alone[name], rtol=1e-5, atol=1e-5)
    return batched


def test_batching_by_shape_changes_nothing():
    torch.manual_seed(2)
    together = {f"w{i}": nn.Parameter(torch.randn(16, 24)) for i in range(3)}
    moved_as_apart(together)


def test_embeddings_heads_and_vectors_are_not_for_muon():
    model = tiny.Tiny()
    chosen = hidden_matrices(model)
    names = {name for name, p in model.named_parameters() if id(p) in chosen}
    assert names == {"inner.0.weight", "inner.3.weight", "same.weight"}


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_state_round_trips_by_name(kind):
    def fresh() -> tuple[tiny.Tiny, Optimiser]:
        model = tiny.Tiny()
        return model, Optimiser(model, model.parameters(), kind=kind, learning_rate=0.02, learning_rate_rest=0.01,
                                weight_decay=0.1, dtype=torch.float32)

    def step(model: tiny.Tiny, optimiser: Optimiser, seed: int) -> None:
        torch.manual_seed(seed)
        for p in model.parameters():
            p.grad = torch.randn_like(p)
        optimiser.step(0.5)

    model, optimiser = fresh()
    step(model, optimiser, 0)
    other, second = fresh()
    second.restore({name: tensor.clone() for name, tensor in optimiser.tensors().items()})
    other.load_state_dict(model.state_dict())
    step(model, optimiser, 1)
    step(other, second, 1)
    assert tiny.digest(model) == tiny.digest(other)


def test_gradients_are_divided_by_weight_then_clipped():
    model = nn.Linear(4, 4, bias=False)
    optimiser = Optimiser(model, model.parameters(), kind="adamw", learning_rate=1, learning_rate_rest=1,
                          weight_decay=0, dtype=torch.float32)
    model.weight.grad = torch.full((4, 4), 8.0)
    assert optimiser.normalise(4.0, clip=1.0) == pytest.approx(8.0)
    assert model.weight.grad.norm() == pytest.approx(1.0, abs=1e-4)


def test_a_kernel_moves_as_the_matrix_of_its_output_channels():
    torch.manual_seed(0)
    kernel, matrix = nn.Parameter(torch.randn(6, 4, 3, 3)), nn.Parameter(torch.zeros(6, 36))
    matrix.data.copy_(kernel.data.view(6, 36))
    movers = [Muon({"w": parameter}, learning_rate=0.1) for parameter in (kernel, matrix)]
    for _ in range(3):
        kernel.grad = torch.randn_like(kernel)
        matrix.grad = kernel.grad.reshape(6, 36).clone()
        for mover in movers:
            mover.step(1.0)
    assert torch.equal(kernel.data.view(6, 36), matrix.data)
    assert movers[0].tensors()["w.momentum"].shape == (6, 36)


def test_a_layer_and_a_kernel_of_one_matrix_shape_move_together_as_they_do_apart():
    torch.manual_seed(0)
    model = nn.ModuleDict({"layer": nn.Linear(4, 6, bias=False), "kernel": nn.Conv2d(4, 6, 1, bias=False)})
    together = dict(model.named_parameters())
    both = moved_as_apart(together)
    assert len(both.groups) == 1
    kept = {name: tensor.clone() for name, tensor in both.tensors().items()}
    again = Muon(together, learning_rate=0.1)
    again.restore(kept)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in again.tensors().items())


def test_muon_moves_a_whole_u_net():
    """Its 1x1 shortcuts have the matrix shapes of its attention's layers."""
    facts = {"channels": 1, "size": (8, 8), "classes": 3, "vocab": 0, "text_length": 0}
    torch.manual_seed(0)
    model = Diffusion(Diffusion.Config.derive(2, facts, {"levels": 3, "blocks": 1}))
    optimiser = Optimiser(model, model.players()["model"], kind="muon", learning_rate=0.01, learning_rate_rest=0.01,
                          weight_decay=0.0, dtype=torch.float32)
    muon = optimiser.parts[0]
    assert isinstance(muon, Muon)
    assert any(len({p.dim() for p in group}) > 1 for group in muon.groups)
    batch = {"images": torch.rand(8, 1, 8, 8) * 2 - 1, "labels": torch.randint(3, (8,)),
             "text": torch.zeros(8, 0, dtype=torch.int64)}
    losses = []
    for step in range(60):
        torch.manual_seed(step % 3)
        model.zero_grad()
        loss = model.loss(batch)
        loss.total.backward()
        optimiser.normalise(float(loss.weight), 1.0)
        optimiser.step(1.0)
        losses.append(float(loss.total.detach()))
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])
