"""The transformer against transformers' Qwen3 and Llama, and its CPU kernels against plain formulas."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from bottega import families
from bottega.core.errors import InputError
from bottega.families.attention import _attend, attend
from bottega.families.base import TokenGenerator
from bottega.families.blocks import document_mask, document_positions, rms_norm
from bottega.families.transformer import Transformer

from .conftest import SPECIAL, VOCAB

Make = Callable[..., TokenGenerator]
SHAPES: list[dict[str, Any]] = [
    {}, {"depth": 3, "heads": 4, "kv_heads": 1, "head_dim": 32, "width": 80},
    {"heads": 6, "kv_heads": 3, "tied": False}, {"qk_norm": False, "heads": 4, "kv_heads": 2, "head_dim": 16},
    {"rope_theta": 500.0, "norm_eps": 1e-3},
]


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_transformers_reads_the_folder_and_agrees(make: Make, shape: dict[str, Any], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = make(**shape)
    model.save(tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert type(theirs).__name__ == ("Qwen3ForCausalLM" if shape.get("qk_norm", True) else "LlamaForCausalLM")
    assert theirs.dtype == torch.float32
    assert theirs.num_parameters() == model.config.parameters()
    for length in (1, 50, 130):
        text = torch.randint(0, VOCAB, (2, length))
        assert (theirs(text).logits - model(text)).abs().max() <= 1e-4
    prompt = torch.randint(0, SPECIAL["bos"], (1, 7))  # transformers would mask a pad token
    assert theirs.generation_config.eos_token_id == [SPECIAL["end"], SPECIAL["eos"]]
    assert theirs.generation_config.pad_token_id == SPECIAL["pad"]
    expected = theirs.generate(prompt, max_new_tokens=30, min_new_tokens=30, do_sample=False,
                               eos_token_id=None)[0, 7:].tolist()
    cache, made = model.new_cache(1, 37), []
    piece = prompt
    for _ in range(30):
        piece = model(piece, cache=cache)[:, -1:].argmax(-1)
        made.append(int(piece))
    assert made == expected


@pytest.mark.parametrize("kind", ["Qwen3", "Llama"])
@torch.no_grad()
def test_a_folder_written_by_transformers_loads(kind: str, tmp_path: Path) -> None:
    import transformers

    config = getattr(transformers, f"{kind}Config")(
        vocab_size=90, hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=64, rope_theta=5000.0, bos_token_id=1,
        eos_token_id=2, tie_word_embeddings=kind == "Qwen3")
    theirs = transformers.AutoModelForCausalLM.from_config(config).eval()
    theirs.save_pretrained(tmp_path)
    model = families.load(tmp_path)
    text = torch.randint(0, 90, (2, 40))
    assert (theirs(text).logits - model(text)).abs().max() <= 1e-4
    assert model.config.special == {"bos": 1, "eos": 2}
    assert model.config.context == 64


def test_what_the_family_lacks_is_refused_by_name(make: Make, tmp_path: Path) -> None:
    make().save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for key, value, named in (("hidden_act", "gelu", "gelu"), ("mlp_bias", True, "mlp_bias"),
                              ("quantization_config", {"quant_method": "fp8"}, "quantised"),
                              ("rope_parameters", {"rope_type": "longrope", "factor": 4.0}, "longrope")):
        (tmp_path / "config.json").write_text(json.dumps({**config, key: value}))
        with pytest.raises(InputError, match=named):
            Transformer.load(tmp_path)


def _plain(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    groups = q.shape[2] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = q.transpose(1, 2) @ k.transpose(2, 3) * q.shape[3] ** -0.5
    causal = torch.ones(q.shape[1], q.shape[1], dtype=torch.bool).tril()
    seen = causal if mask is None else causal & mask
    return (scores.masked_fill(~seen, float("-inf")).softmax(-1) @ v).transpose(1, 2).flatten(2)


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (3, 1)])
@pytest.mark.parametrize("length", [2, 63, 64, 65, 150])
@pytest.mark.parametrize("masked", [False, True])
def test_block_attention_equals_the_formula(heads: int, kv_heads: int, length: int, masked: bool) -> None:
    inputs = [torch.randn(2, length, heads, 8), *(torch.randn(2, length, kv_heads, 8) for _ in range(2))]
    q, k, v = (x.double().requires_grad_() for x in inputs)
    mask = document_mask(torch.arange(length).mul(3).div(length, rounding_mode="floor").expand(2, length)) if masked \
        else None
    mine = attend(q, k.transpose(1, 2), v.transpose(1, 2), mask, causal=True)
    plain = _plain(q, k.transpose(1, 2), v.transpose(1, 2), mask)
    torch.testing.assert_close(mine, plain)
    flow = torch.randn_like(plain)
    for one, other in zip(torch.autograd.grad(mine, (q, k, v), flow), torch.autograd.grad(plain, (q, k, v), flow),
                          strict=True):
        torch.testing.assert_close(one, other)


def test_long_rows_leave_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = torch.randn(1, 40, 4, 8), torch.randn(1, 2, 40, 8), torch.randn(1, 2, 40, 8)
    mask = document_mask(torch.arange(40).div(15, rounding_mode="floor").unsqueeze(0))
    blocks = [attend(q, k, v, seen, causal=True) for seen in (None, mask)]
    monkeypatch.setattr("bottega.families.attention._LONGEST", 8)
    for one, seen in zip(blocks, (None, mask), strict=True):
        torch.testing.assert_close(attend(q, k, v, seen, causal=True), one)


def test_the_attention_operator_is_sound() -> None:
    q, k, v = (torch.randn(1, 2, n, 70, 4, requires_grad=True) for n in (2, 1, 1))
    torch.library.opcheck(_attend, (q, k[:, :, 0], v[:, :, 0], None))


@pytest.mark.parametrize("shape", [(3, 5, 16), (2, 4, 3, 8)])
def test_the_norm_equals_the_formula(shape: tuple[int, ...]) -> None:
    x, weight = torch.randn(shape, requires_grad=True), torch.rand(shape[-1], requires_grad=True)
    mine, plain = rms_norm(x, weight, 1e-3), F.rms_norm(x, shape[-1:], weight, 1e-3)
    torch.testing.assert_close(mine, plain)
    flow = torch.randn_like(plain)
    for one, other in zip(torch.autograd.grad(mine, (x, weight), flow), torch.autograd.grad(plain, (x, weight), flow),
                          strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(rms_norm(x, weight, 1e-3), plain)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert rms_norm(x, weight, 1e-3).dtype == torch.bfloat16


def test_positions_restart_with_each_document() -> None:
    segments = torch.tensor([[4, 4, 4, 9, 9, 4, 4], [0, 1, 2, 2, 2, 2, 3]])
    assert document_positions(segments).tolist() == [[0, 1, 2, 0, 1, 0, 1], [0, 0, 0, 1, 2, 3, 0]]


@pytest.mark.slow
def test_compiled_equals_eager(make: Make) -> None:
    model = make(depth=1, width=32, head_dim=16, intermediate=64)
    text = torch.randint(0, VOCAB, (2, 70))
    batch = {"tokens": text, "targets": text.roll(-1, 1)}
    batch["targets"][0, :9] = -100
    compiled = torch.compile(lambda batch: model.loss(batch).total, fullgraph=True)
    weights = list(model.parameters())
    mine, eager = compiled(batch), model.loss(batch).total
    torch.testing.assert_close(mine, eager)
    for one, other in zip(torch.autograd.grad(mine, weights), torch.autograd.grad(eager, weights), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
