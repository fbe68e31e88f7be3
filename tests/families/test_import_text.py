"""Models of transformers' own config classes, read into the native transformer: the same logits in every way of use."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bottega import families
from bottega.core.errors import CorruptError, InputError
from bottega.families.transformer import Transformer
from bottega.generation.linear import supports_fp16
from bottega.generation.runner import make_runner
from tests import pretrained

pytest.importorskip("transformers")
NEAR = 1e-4
TEXT = torch.randint(0, 400, (3, 90), generator=torch.Generator().manual_seed(1))  # longer than the windows


def both(kind: str, folder: Path, **changes: Any) -> tuple[Any, Transformer]:
    theirs = pretrained.write(kind, folder, **changes)
    ours = families.load(folder)
    assert isinstance(ours, Transformer)
    return theirs, ours


@pytest.mark.parametrize("kind", pretrained.KINDS)
@torch.no_grad()
def test_logits_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    theirs, ours = both(kind, tmp_path)
    assert ours.config.parameters() == sum(p.numel() for p in ours.parameters()) == theirs.num_parameters()
    wanted = theirs(TEXT).logits
    assert wanted.argmax(-1).unique().numel() > 40  # no constant model
    assert (ours(TEXT) - wanted).abs().max() <= NEAR
    runner = make_runner(ours, "fp32")
    assert (runner.all_logits(TEXT[0].tolist()) - wanted[0]).abs().max() <= NEAR


@pytest.mark.parametrize("kind", pretrained.KINDS)
@torch.no_grad()
def test_cached_decoding_agrees_beyond_the_window(kind: str, tmp_path: Path) -> None:
    theirs, ours = both(kind, tmp_path)
    wanted = theirs(TEXT).logits
    cache, at = ours.new_cache(3, 90), 0
    for size in (30, 17, 1, 1, 40, 1):  # a prompt longer than the window, pieces, single tokens
        made = ours(TEXT[:, at:at + size], cache=cache)
        assert (made - wanted[:, at:at + size]).abs().max() <= NEAR
        at += size
    assert at == 90
    # rows of different lengths in one batch: in the cache, and in the engine's arenas
    sizes = [40, 3, 25]
    ragged, runner = ours.new_cache(3, 90), make_runner(ours, "fp32")
    padded = torch.stack([torch.cat((TEXT[row, :size], TEXT.new_zeros(40 - size))) for row, size in enumerate(sizes)])
    made = ours(padded, cache=ragged, counts=torch.tensor(sizes))
    rows, first = runner.rows(), list[torch.Tensor]()
    for row, size in enumerate(sizes):
        assert (made[row, size - 1] - wanted[row, size - 1]).abs().max() <= NEAR
        reading = runner.read(TEXT[row, :size].tolist())
        while reading.remaining:
            runner.advance([reading])
        first.append(rows.add(reading, 1, 60))
    fast = torch.stack(first)
    for step in range(48):
        right = torch.stack([wanted[row, size + step - 1] for row, size in enumerate(sizes)])
        assert (fast - right).abs().max() <= NEAR
        token = torch.stack([TEXT[row, size + step] for row, size in enumerate(sizes)])
        fast = rows.step(token)
        slow = ours(token[:, None], cache=ragged)[:, 0]
        assert (slow - fast).abs().max() <= NEAR


@pytest.mark.parametrize("kind", pretrained.KINDS)
@torch.no_grad()
def test_packed_documents_do_not_see_each_other(kind: str, tmp_path: Path) -> None:
    theirs, ours = both(kind, tmp_path)
    segments = torch.tensor([[1] * 50 + [2] * 40])
    packed = ours(TEXT[:1], segments=segments)
    for part in (slice(0, 50), slice(50, 90)):
        assert (packed[:, part] - theirs(TEXT[:1, part]).logits).abs().max() <= NEAR


@pytest.mark.parametrize("kind", pretrained.KINDS)
@torch.no_grad()
def test_what_is_saved_is_read_by_transformers_and_by_us(kind: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    theirs, ours = both(kind, tmp_path / "in")
    ours.save(tmp_path / "out")
    again, back = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval(), families.load(tmp_path / "out")
    assert type(again) is type(theirs)
    assert again.generation_config.eos_token_id == [theirs.config.eos_token_id]
    wanted = theirs(TEXT).logits
    assert (again(TEXT).logits - wanted).abs().max() <= NEAR
    assert torch.equal(back(TEXT), ours(TEXT))
    kept = {"special", "layout"}
    assert back.config.model_dump(exclude=kept) == ours.config.model_dump(exclude=kept)


@pytest.mark.parametrize("kind", pretrained.KINDS)
def test_gradients_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    theirs, ours = both(kind, tmp_path)
    targets = TEXT.roll(-1, 1)
    ours.train()
    loss = ours.loss({"tokens": TEXT, "targets": targets})
    (loss.total / loss.weight).backward()  # type: ignore[no-untyped-call]
    logits = theirs(TEXT).logits
    wanted = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    wanted.backward()  # type: ignore[no-untyped-call]
    assert (loss.total / loss.weight - wanted).abs() <= 1e-5
    grads = {name: p.grad for name, p in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        known = grads[name]
        assert parameter.grad is not None
        assert known is not None
        assert (parameter.grad - known).abs().max() <= 1e-4 * known.abs().max() + 1e-6, name


@pytest.mark.parametrize("rope", [
    {"rope_type": "linear", "factor": 3.0}, {"rope_type": "dynamic", "factor": 2.0},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
    {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 32, "beta_fast": 16.0, "beta_slow": 2.0,
     "truncate": False, "mscale": 0.7, "mscale_all_dim": 0.9},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "attention_factor": 1.3},
    pretrained.LLAMA3_ROPE])
@torch.no_grad()
def test_every_scaling_of_rotary_positions(rope: dict[str, Any], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    rope = {"rope_theta": 10_000.0, **rope}
    theirs, ours = both("smollm", tmp_path / "in", rope_parameters=rope)
    wanted = theirs(TEXT).logits
    assert (ours(TEXT) - wanted).abs().max() <= NEAR
    assert (make_runner(ours, "fp32").all_logits(TEXT[0].tolist()) - wanted[0]).abs().max() <= NEAR
    ours.save(tmp_path / "out")
    assert (AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()(TEXT).logits - wanted).abs().max() <= NEAR
    old = json.loads((tmp_path / "in/config.json").read_text())  # the spelling of transformers 4
    del old["rope_parameters"]
    named = {("type" if name == "rope_type" else name): value for name, value in rope.items() if name != "rope_theta"}
    (tmp_path / "in/config.json").write_text(json.dumps({**old, "rope_theta": 10_000.0, "rope_scaling": named}))
    assert torch.equal(families.load(tmp_path / "in")(TEXT), ours(TEXT))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_shards_in_half_precision(dtype: torch.dtype, tmp_path: Path) -> None:
    theirs, ours = both("llama", tmp_path, shards=True, dtype=dtype)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert not (tmp_path / "model.safetensors").exists()
    assert ours.head_weight.dtype == torch.float32
    assert (ours(TEXT) - theirs(TEXT).logits).abs().max() <= NEAR  # theirs was rounded, then widened
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    index["weight_map"]["model.norm.weight"] = "../model.safetensors"
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CorruptError, match="no weights file of this folder"):
        families.load(tmp_path)
    next(tmp_path.glob("*-00002-*")).unlink()
    index["weight_map"]["model.norm.weight"] = "model-00001-of-00001.safetensors"
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CorruptError, match="names it"):
        families.load(tmp_path)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    pretrained.write("smollm", tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="can run code"):
        families.load(tmp_path)


@pytest.mark.parametrize("kind", ["mistral", "qwen2", "gemma"])
@pytest.mark.skipif(not supports_fp16(), reason="no half-precision product in this torch build")
def test_a_row_does_not_see_its_batch(kind: str, tmp_path: Path) -> None:
    """Windows and biases change nothing of it: in fp16 a row's bits are the same alone and among others."""
    _, ours = both(kind, tmp_path)
    runner = make_runner(ours, "fp16")

    def decode(prompts: list[list[int]]) -> list[torch.Tensor]:
        rows, logits = runner.rows(), list[torch.Tensor]()
        for prompt in prompts:
            reading = runner.read(prompt)
            while reading.remaining:
                runner.advance([reading])
            logits.append(rows.add(reading, 1, 40))
        seen = [torch.stack(logits)]
        for _ in range(40):
            seen.append(rows.step(seen[-1].argmax(-1)))
        return seen

    alone = decode([TEXT[0, :30].tolist()])
    among = decode([TEXT[1, :70].tolist(), TEXT[0, :30].tolist(), TEXT[2, :5].tolist()])
    assert all(torch.equal(one[0], other[1]) for one, other in zip(alone, among, strict=True))


def test_what_the_family_lacks_is_named_with_the_way_out(tmp_path: Path) -> None:
    pretrained.write("gemma", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change in ({"model_type": "gemma2"}, {"quantization_config": {"quant_method": "fp8"}}):
        (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(InputError, match=r"gemma2|quantised"):
            Transformer.load(tmp_path)
