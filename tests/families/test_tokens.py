"""What every token generator promises, tried on each family."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from bottega import families
from bottega.core.errors import CorruptError, InputError, RecipeError
from bottega.core.recipe import GeneratorSpec
from bottega.families.base import IGNORED, TokenGenerator, token_logprobs

from .conftest import CONTEXT, SPECIAL, VOCAB

Make = Callable[..., TokenGenerator]
SHAPES: list[dict[str, Any]] = [
    {}, {"kv_heads": 1, "heads": 4, "head_dim": 32}, {"tied": False, "heads": 3, "kv_heads": 3, "head_dim": 16},
    {"qk_norm": False}, {"family": "recurrent", "cell": "gru"}, {"family": "recurrent", "cell": "mingru"},
    {"family": "recurrent", "cell": "mingru", "state": 24, "tied": False},
]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "-".join(map(str, shape.values())) or "plain")


def tokens(rows: int, length: int) -> torch.Tensor:
    return torch.randint(0, VOCAB, (rows, length))


@each_shape
@torch.no_grad()
def test_a_prompt_in_pieces_equals_the_whole(make: Make, shape: dict[str, Any]) -> None:
    model, text = make(**shape), tokens(3, 31)
    whole = model(text)
    cache = model.new_cache(3, 40)
    parts = [model(text[:, :9], cache=cache), *(model(text[:, i:i + 1], cache=cache) for i in range(9, 14)),
             model(text[:, 14:], cache=cache)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=5e-5)
    assert cache.lengths.tolist() == [31, 31, 31]


@each_shape
@torch.no_grad()
def test_rows_of_different_length(make: Make, shape: dict[str, Any]) -> None:
    model, text, counts = make(**shape), tokens(4, 30), torch.tensor([5, 11, 1, 8])
    whole = model(text)
    cache = model.new_cache(4, 20)
    first = model(text[:, :11], cache=cache, counts=counts)
    for row, count in enumerate(counts.tolist()):
        torch.testing.assert_close(first[row, :count], whole[row, :count], rtol=0, atol=5e-5)
    assert torch.isfinite(first).all()
    # one token each, then a second piece in which one row has nothing to say
    for step, more in ((1, None), (3, torch.tensor([3, 0, 2, 1]))):
        at = cache.lengths.tolist()
        piece = torch.stack([text[row, start:start + step] for row, start in enumerate(at)])
        out = model(piece, cache=cache, counts=more)
        for row, start in enumerate(at):
            real = step if more is None else int(more[row])
            torch.testing.assert_close(out[row, :real], whole[row, start:start + real], rtol=0, atol=5e-5)
    assert cache.lengths.tolist() == [9, 12, 4, 10]


@each_shape
@torch.no_grad()
def test_rows_are_picked_and_forked(make: Make, shape: dict[str, Any]) -> None:
    model, text = make(**shape), tokens(3, 12)
    cache = model.new_cache(3, 16)
    model(text[:, :7], cache=cache, counts=torch.tensor([7, 4, 6]))
    fork = cache.select(torch.tensor([2, 0, 2]))
    assert fork.lengths.tolist() == [6, 7, 6]
    out = model(torch.stack([text[2, 6:8], text[0, 7:9], text[1, :2]]), cache=fork)
    torch.testing.assert_close(out[0], model(text[2:3, :8])[0, 6:], rtol=0, atol=5e-5)
    torch.testing.assert_close(out[1], model(text[:1, :9])[0, 7:], rtol=0, atol=5e-5)
    other = torch.cat((text[2, :6], text[1, :2])).unsqueeze(0)
    torch.testing.assert_close(out[2], model(other)[0, 6:], rtol=0, atol=5e-5)
    assert cache.lengths.tolist() == [7, 4, 6], "the original is untouched"
    again = model(text[:, 7:8], cache=cache)
    torch.testing.assert_close(again[0, 0], model(text[:1, :8])[0, 7], rtol=0, atol=5e-5)


@each_shape
def test_packed_equals_unpacked(make: Make, shape: dict[str, Any]) -> None:
    model = make(**shape)
    lengths = [5, 1, 12, 14]
    documents = [tokens(1, length) for length in lengths]
    targets = [tokens(1, length) for length in lengths]
    segments = torch.repeat_interleave(torch.arange(4), torch.tensor(lengths)).unsqueeze(0)
    packed = {"tokens": torch.cat(documents, 1), "targets": torch.cat(targets, 1), "segments": segments}
    positions = torch.cat([torch.arange(length) for length in lengths]).unsqueeze(0)
    loss = model.loss(packed)
    apart = [model.loss({"tokens": text, "targets": wanted}) for text, wanted in zip(documents, targets, strict=True)]
    torch.testing.assert_close(loss.total, sum(one.total for one in apart))
    torch.testing.assert_close(model.loss({**packed, "positions": positions}).total, loss.total)
    assert int(loss.weight) == sum(lengths)
    weights = list(model.parameters())
    mine = torch.autograd.grad(loss.total, weights)
    theirs = torch.autograd.grad(sum(one.total for one in apart), weights)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@each_shape
def test_loss_and_logprobs_equal_the_textbook(make: Make, shape: dict[str, Any],
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bottega.families.score._SLICE", 7 * VOCAB)  # several slices, the last one short
    model, text, targets = make(**shape), tokens(3, 12), tokens(3, 12)
    targets[0, :5] = targets[2, -1] = IGNORED
    batch = {"tokens": text, "targets": targets}
    table = F.log_softmax(model(text), -1)
    known = targets != IGNORED
    expected = torch.where(known, table.gather(2, targets.clamp_min(0).unsqueeze(2)).squeeze(2), 0.0)
    scores, loss = token_logprobs(model, batch), model.loss(batch)
    torch.testing.assert_close(scores, expected)
    torch.testing.assert_close(loss.total, -expected.sum())
    assert scores.dtype == loss.total.dtype == torch.float32
    assert int(loss.weight) == int(known.sum())
    weights, uneven = list(model.parameters()), torch.rand(3, 12)
    naive = torch.autograd.grad((expected * uneven).sum(), weights, retain_graph=True)
    for one, other in zip(torch.autograd.grad((scores * uneven).sum(), weights), naive, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    for one, other in zip(torch.autograd.grad(loss.total / 7, weights),
                          torch.autograd.grad(-expected.sum() / 7, weights), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(model.loss(batch).total, loss.total)


@each_shape
def test_a_batch_without_targets_weighs_nothing(make: Make, shape: dict[str, Any]) -> None:
    model = make(**shape)
    loss = model.loss({"tokens": tokens(2, 5), "targets": torch.full((2, 5), IGNORED)})
    loss.total.backward()
    assert (loss.total.item(), loss.weight.item()) == (0.0, 0)
    assert all(weight.grad is None or bool((weight.grad == 0).all()) for weight in model.parameters())


@each_shape
def test_gradients_reach_every_weight_in_fp32_and_in_bf16(make: Make, shape: dict[str, Any]) -> None:
    model, batch = make(**shape), {"tokens": tokens(4, 20), "targets": tokens(4, 20)}
    exact = torch.autograd.grad(model.loss(batch).total, list(model.parameters()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model.loss(batch)
    assert loss.total.dtype == torch.float32
    narrow = torch.autograd.grad(loss.total, list(model.parameters()))
    for one, other in zip(exact, narrow, strict=True):
        assert torch.isfinite(one).all()
        assert bool(one.abs().sum() > 0)
        assert F.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.98


@each_shape
@torch.no_grad()
def test_a_bf16_copy_decodes(make: Make, shape: dict[str, Any]) -> None:
    model, text = make(**shape), tokens(2, 10)
    exact = model(text)
    narrow = model.to(torch.bfloat16)
    cache = narrow.new_cache(2, 10)
    steps = [narrow(text[:, first:end], cache=cache) for first, end in ((0, 6), (6, 7), (7, 8), (8, 10))]
    out = torch.cat(steps, 1)
    assert out.dtype == torch.bfloat16
    assert F.cosine_similarity(out.float().flatten(), exact.flatten(), dim=0) > 0.99


@each_shape
@torch.no_grad()
def test_save_and_load_are_inverse(make: Make, shape: dict[str, Any], tmp_path: Path) -> None:
    model, text = make(**shape), tokens(2, 9)
    model.save(tmp_path)
    again = families.load(tmp_path)
    assert type(again) is type(model)
    assert again.config == model.config
    assert torch.equal(again(text), model(text))
    assert not again.training
    assert model.config.special == {name: SPECIAL[name] for name in ("bos", "eos", "pad", "end")}
    expected = sum(weight.numel() for weight in model.parameters())
    assert model.config.parameters() == model.config.derived()["parameters"] == expected


@each_shape
def test_a_fresh_model_knows_nothing_and_learns(shape: dict[str, Any]) -> None:
    spec = GeneratorSpec(**{"depth": 2, **shape})
    model = families.build(spec, vocab_size=VOCAB, context=CONTEXT, special=SPECIAL)
    text = tokens(4, 24)
    batch = {"tokens": text, "targets": text.roll(-1, 1)}
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = model.loss(batch)
        (loss.total / loss.weight).backward()
        optimizer.step()
        losses.append((loss.total / loss.weight).item())
    assert abs(losses[0] - torch.tensor(float(VOCAB)).log()) < 0.3
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("family", ["transformer", "recurrent"])
def test_flops_count_the_matrices(family: str) -> None:
    model = families.build(GeneratorSpec(family=family, depth=3), vocab_size=VOCAB, context=CONTEXT, special={})
    matrices = sum(w.numel() for name, w in model.named_parameters() if w.ndim == 2 and "embed" not in name)
    least = 2 * (matrices + VOCAB * 192)
    grows = model.flops_per_item(512) - model.flops_per_item(256)
    assert model.flops_per_item(1) == least + (4 * 3 * 192 if family == "transformer" else 0)
    assert grows == (4 * 3 * 192 * 128 if family == "transformer" else 0)


def test_bad_settings_name_the_key_and_the_fix() -> None:
    def build(**keys: Any) -> None:
        families.build(GeneratorSpec(**keys), vocab_size=VOCAB, context=CONTEXT, special={})

    for keys, problem in (
        ({"family": "transfomer"}, "did you mean 'transformer'"), ({"widht": 64}, "did you mean 'width'"),
        ({"kv_heads": 3}, r"kv_heads: 3[\s\S]*divisor of heads \(4\)"), ({"width": "wide"}, "width: 'wide'"),
        ({"head_dim": 33}, "head_dim: 33"), ({"heads": 0}, "heads: 0"), ({"vocab_size": 5}, r"codec\.vocab_size"),
        ({"context": 5}, r"training\.context"), ({"special": {}}, "codec"), ({"rope_theta": -1.0}, "rope_theta"),
        ({"family": "recurrent", "cell": "lstm"}, "cell: 'lstm'"), ({"family": "recurrent", "heads": 2}, "'heads'"),
    ):
        with pytest.raises(RecipeError, match=problem):
            build(**keys)


def test_what_derives_from_an_override_follows_it() -> None:
    from bottega.families.recurrent import Recurrent
    from bottega.families.transformer import Transformer

    config = Transformer.Config.derive(4, VOCAB, CONTEXT, {"width": 96, "head_dim": 16})
    assert (config.heads, config.kv_heads, config.intermediate) == (6, 3, 256)
    assert Transformer.Config.derive(4, VOCAB, CONTEXT).derived() == {
        "vocab_size": VOCAB, "context": CONTEXT, "depth": 4, "width": 256, "head_dim": 64, "heads": 4, "kv_heads": 2,
        "intermediate": 704, "rope_theta": 10_000.0, "norm_eps": 1e-6, "qk_norm": True, "tied": True,
        "parameters": 2_992_896}
    assert Recurrent.Config.derive(2, VOCAB, CONTEXT, {"cell": "gru"}).derived()["state"] == 128
    assert Recurrent.Config.derive(2, VOCAB, CONTEXT).derived()["state"] == 256


@pytest.mark.parametrize("family", ["transformer", "recurrent"])
def test_damaged_folders_are_refused_by_name(make: Make, family: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json"):
        families.load(tmp_path)
    model = make(family)
    model.save(tmp_path)
    config, weights = (tmp_path / "config.json").read_text(), (tmp_path / "model.safetensors").read_bytes()
    for text, error in (("[]", CorruptError), ("{}", InputError), ('{"model_type": "gpt2"}', InputError),
                        (config.replace(f'"vocab_size": {VOCAB}', '"vocab_size": 161'), CorruptError),
                        (config.replace('"vocab_size"', '"size"'), CorruptError)):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(error):
            families.load(tmp_path)
    (tmp_path / "config.json").write_text(config)
    for data in (weights[:-5], b"", b"junk"):
        (tmp_path / "model.safetensors").write_bytes(data)
        with pytest.raises(CorruptError, match=r"model\.safetensors"):
            families.load(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model\.safetensors"):
        families.load(tmp_path)


def test_a_cache_has_its_limits(make: Make) -> None:
    model = make()
    cache = model.new_cache(2, 8)
    with torch.no_grad():
        model(tokens(2, 8), cache=cache)
        with pytest.raises(InputError, match="row 0 of the cache would hold 9 tokens"):
            model(tokens(2, 1), cache=cache)
        cache.lengths = torch.tensor([8, 5])  # taken back
        model(tokens(2, 1), cache=cache, counts=torch.tensor([0, 1]))
    assert cache.lengths.tolist() == [8, 6]
    for family in ("transformer", "recurrent"):
        other = make(family)
        with pytest.raises(InputError, match="segments"):
            other(tokens(1, 2), cache=other.new_cache(1, 4), segments=torch.zeros(1, 2, dtype=torch.int64))
