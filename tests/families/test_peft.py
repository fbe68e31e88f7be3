"""Adapters to PEFT and back: the same folder gives the same logits in both programs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bottega.core.errors import CorruptError, InputError
from bottega.core.recipe import AdapterSpec
from bottega.families import adapters, load
from bottega.families.adapter_files import CONFIG, WEIGHTS, put_on, read_adapter, write_adapter
from bottega.families.base import TokenGenerator
from tests.families.conftest import VOCAB

peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")
TOKENS = torch.randint(VOCAB, (2, 20), generator=torch.Generator().manual_seed(1))
SPECS = [AdapterSpec(), AdapterSpec(kind="dora", rank=4, alpha=4), AdapterSpec(rank=16, rslora=True),
         AdapterSpec(targets=["q_proj", "v_proj"], rank=2)]


@pytest.fixture
def base(make: Callable[..., TokenGenerator], tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    make(width=64, head_dim=16).save(folder)
    return folder


def moved(model: Any, parts: tuple[str, ...]) -> None:
    """Give adapters values as after training."""
    torch.manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(part in name for part in parts):
                parameter.mul_(1.1).add_(torch.randn_like(parameter) * 0.05)


def adapted_folder(base: Path, spec: AdapterSpec, folder: Path) -> torch.Tensor:
    """Write one of our adapters and return its logits."""
    model = load(base)
    adapters.adapt(model, spec)
    moved(model, adapters.PARTS)
    folder.mkdir(exist_ok=True)
    write_adapter(folder, model, spec, base=str(base), plain=load(base))
    logits: torch.Tensor = model(TOKENS).detach()
    return logits


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_peft_reads_ours(base: Path, tmp_path: Path, spec: AdapterSpec):
    ours = adapted_folder(base, spec, tmp_path / "adapter")
    assert {file.name for file in (tmp_path / "adapter").iterdir()} == {CONFIG, WEIGHTS}
    theirs = peft.PeftModel.from_pretrained(transformers.AutoModelForCausalLM.from_pretrained(base),
                                            tmp_path / "adapter")
    with torch.no_grad():
        assert float((theirs(TOKENS).logits - ours).abs().max()) < 1e-5
        assert float((load(base)(TOKENS) - ours).abs().max()) > 0.1


@pytest.mark.parametrize("options", [
    {}, {"use_dora": True}, {"use_rslora": True, "r": 3}, {"target_modules": "all-linear"},
    {"target_modules": r".*layers\.1\..*_proj"}], ids=str)
def test_ours_reads_peft(base: Path, tmp_path: Path, options: dict[str, Any]):
    settings = {"r": 5, "lora_alpha": 11, "target_modules": ["q_proj", "down_proj"], **options}
    model = peft.get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(base), peft.LoraConfig(
        task_type="CAUSAL_LM", **settings))
    moved(model, ("lora_A", "lora_B", "lora_magnitude"))
    model.save_pretrained(tmp_path / "adapter")
    with torch.no_grad():
        theirs = model.eval()(TOKENS).logits
    spec, small = read_adapter(tmp_path / "adapter")
    ours = load(base).requires_grad_(False)
    plain = ours(TOKENS)
    put_on(ours, spec, small)
    ours.requires_grad_(False)
    assert float((ours(TOKENS) - theirs).abs().max()) < 1e-5
    assert float((plain - theirs).abs().max()) > 0.1
    adapters.merge(ours)
    ours.requires_grad_(False)
    assert float((ours(TOKENS) - theirs).abs().max()) < 1e-5


@pytest.mark.parametrize("cell", ["mingru", "gru"])
@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_peft_wraps_a_recurrent_model(make: Callable[..., TokenGenerator], tmp_path: Path, cell: str, kind: str):
    """transformers knows no such model, so PEFT gets our module; a gru's scan reads its matrix: it must be merged."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    folder = tmp_path / "base"
    folder.mkdir()
    make("recurrent", width=32, cell=cell).save(folder)
    ours = adapted_folder(folder, AdapterSpec(kind=kind, rank=4), tmp_path / "adapter")
    with pytest.raises(ValueError, match="bottega-recurrent"):
        transformers.AutoModelForCausalLM.from_pretrained(folder)
    theirs = peft.PeftModel.from_pretrained(load(folder), tmp_path / "adapter").eval()
    with torch.no_grad():
        beside = float((theirs(TOKENS) - ours).abs().max())
        for layer in theirs.modules():
            if isinstance(layer, BaseTunerLayer):
                layer.merge()
        assert float((theirs(TOKENS) - ours).abs().max()) < 1e-4
        assert float((load(folder)(TOKENS) - ours).abs().max()) > 0.1
    assert (beside < 1e-4) == (cell == "mingru")


@pytest.mark.parametrize("options", [{}, {"use_dora": True}], ids=str)
def test_ours_reads_peft_s_of_a_recurrent_model(make: Callable[..., TokenGenerator], tmp_path: Path,
                                                options: dict[str, Any]):
    model, ours = make("recurrent", width=32), make("recurrent", width=32)
    ours.load_state_dict(model.state_dict())
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=3, target_modules=["in_proj", "down_proj"], **options))
    moved(wrapped, ("lora_A", "lora_B", "lora_magnitude"))
    wrapped.save_pretrained(tmp_path / "adapter")
    put_on(ours, *read_adapter(tmp_path / "adapter"))
    with torch.no_grad():
        assert float((ours(TOKENS) - wrapped.eval()(TOKENS)).abs().max()) < 1e-4


def test_a_table_goes_to_peft_and_back(make: Callable[..., TokenGenerator], tmp_path: Path):
    folder = tmp_path / "untied"
    folder.mkdir()
    make(width=64, head_dim=16, tied=False).save(folder)
    ours = adapted_folder(folder, AdapterSpec(rank=3, targets=["embed_tokens", "v_proj"]), tmp_path / "adapter")
    theirs = peft.PeftModel.from_pretrained(transformers.AutoModelForCausalLM.from_pretrained(folder),
                                            tmp_path / "adapter")
    with torch.no_grad():
        assert float((theirs(TOKENS).logits - ours).abs().max()) < 1e-5


@pytest.mark.parametrize(("key", "value", "words"), [
    ("peft_type", "LOHA", "type LOHA"), ("bias", "all", "bias"), ("modules_to_save", ["lm_head"], "modules_to_save"),
    ("rank_pattern", {"q_proj": 2}, "rank_pattern"), ("init_lora_weights", "pissa", "init_lora_weights")])
def test_what_we_cannot_do_is_named(base: Path, tmp_path: Path, key: str, value: Any, words: str):
    folder = tmp_path / "adapter"
    adapted_folder(base, SPECS[0], folder)
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, key: value}))
    with pytest.raises(InputError, match=words):
        read_adapter(folder)


def test_damaged_and_foreign_folders_are_named(base: Path, tmp_path: Path):
    folder = tmp_path / "adapter"
    with pytest.raises(InputError, match=CONFIG):
        read_adapter(tmp_path)
    adapted_folder(base, SPECS[0], folder)
    tensors, config = load_file(folder / WEIGHTS), (folder / CONFIG).read_text()
    first = next(iter(tensors))

    def write(changed: dict[str, torch.Tensor]) -> None:
        save_file(changed, folder / WEIGHTS)

    write({name: tensor for name, tensor in tensors.items() if name != first})
    with pytest.raises(CorruptError, match="lacks"):
        read_adapter(folder)
    write({**tensors, "base_model.model.lm_head.weight": torch.ones(2)})
    with pytest.raises(InputError, match=r"lm_head\.weight"):
        read_adapter(folder)
    write({})
    with pytest.raises(CorruptError, match="holds no adapter"):
        read_adapter(folder)
    (folder / WEIGHTS).write_bytes(b"not a tensor")
    with pytest.raises(CorruptError, match="cannot be read"):
        read_adapter(folder)
    (folder / WEIGHTS).unlink()
    (folder / "adapter_model.bin").write_bytes(b"a pickle")
    with pytest.raises(InputError, match="pickle is not read"):
        read_adapter(folder)
    (folder / CONFIG).write_text(config.replace('"r": 8', '"r": -8'))
    with pytest.raises(CorruptError, match="out of range"):
        read_adapter(folder)


def test_an_adapter_of_another_base_is_refused(base: Path, make: Callable[..., TokenGenerator], tmp_path: Path):
    folder = tmp_path / "adapter"
    adapted_folder(base, SPECS[0], folder)
    spec, small = read_adapter(folder)
    with pytest.raises(InputError, match=r"fits a weight of \[.*this base's is"):
        put_on(make(width=32, head_dim=16), spec, small)
    with pytest.raises(InputError, match=r"which|has not"):
        put_on(make(width=64, head_dim=16, depth=1), spec, small)
    with pytest.raises(InputError, match="has not"):
        put_on(make("recurrent"), spec, small)
    with pytest.raises(InputError, match="config asks for"):
        put_on(load(base), spec.model_copy(update={"rank": 4}), small)
