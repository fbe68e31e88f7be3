"""Several adapters of one base at once: each gets its own outputs, and the base is in memory once."""

import gc
import queue
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bottega.codecs.text import TextCodec
from bottega.core.bundle import Bundle
from bottega.core.lineage import Lineage
from bottega.core.recipe import AdapterSpec
from bottega.core.request import Controls, Request, Result
from bottega.families import adapters
from bottega.families.adapter_files import write_adapter
from bottega.families.bases import load_generator, open_generator
from bottega.generation import adapted
from bottega.generation.batcher import Batcher
from bottega.generation.engine import Engine
from bottega.generation.fast import FastTransformer
from bottega.generation.linear import supports_fp16
from bottega.training.adapter_bundles import add_adapter, merge_adapter
from tests.generation.small import model

half = pytest.mark.skipif(not supports_fp16(), reason="fp32 rows may differ in the last digit between batches")
TOKENS = list(range(8, 40))
ATTENTION = ["q_proj", "v_proj"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def add(home: Path, codec: TextCodec) -> Callable[..., Bundle]:
    """Return a function that makes an adapter of a base and gives it values as after training."""
    def base_of(family: str, options: dict[str, Any]) -> Bundle:
        path = home / "models" / family
        if path.is_dir():
            return Bundle.open(path)

        def write(folder: Path) -> None:
            model(codec, family, **options).save(folder)
            codec.save(folder, 96)

        return Bundle.create(path, meta={"family": family, "codec": "text", "objective": "pretrain", "context": 96},
                             write=write, card="", lineage=lambda content: Lineage(
                                 kind="model", name=family, content=content, step="pretrain"))

    def made(name: str, spec: AdapterSpec, seed: int, family: str = "transformer", **options: Any) -> Bundle:
        base = base_of(family, options)
        plain = load_generator(base)
        changed = load_generator(base)
        adapters.adapt(changed, spec)
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in changed.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.15)
        folder = home / "made" / name
        folder.mkdir(parents=True)
        write_adapter(folder, changed, spec, base=base.name, plain=plain)
        bundle = add_adapter(folder, base, name, home)
        if spec.quantise:
            meta = {**bundle.meta, "adapter": {**bundle.meta["adapter"], "quantise": spec.quantise}}
            bundle = Bundle.create(bundle.path, meta=meta, card="", lineage=lambda content: bundle.lineage,
                                   write=lambda place: [(place / file.name).write_bytes(file.read_bytes())
                                                        for file in bundle.path.iterdir()] and None)
        return bundle
    return made


def logits(engine: Engine) -> torch.Tensor:
    return engine._runner.all_logits(TOKENS)


@pytest.mark.parametrize(("dtype", "close"), [("fp32", 1e-4), pytest.param("fp16", 0.03, marks=half),
                                              ("int8", 0.8)])
@pytest.mark.parametrize("spec", [AdapterSpec(), AdapterSpec(kind="dora", rank=3), AdapterSpec(targets=ATTENTION),
                                  AdapterSpec(quantise="nf4")], ids=str)
def test_a_base_with_an_adapter_beside_it_is_the_merged_model(add: Any, home: Path, dtype: str, close: float,
                                                              spec: AdapterSpec):
    one, two = add("one", spec, 1), add("two", spec, 2)
    engines = [Engine.open(bundle, dtype) for bundle in (one, two)]
    whole = Engine.open(merge_adapter(one, "whole", home), dtype)
    assert float((logits(engines[0]) - logits(whole)).abs().max()) < close
    assert float((logits(engines[0]) - logits(engines[1])).abs().max()) > 1
    runners = [engine._runner for engine in engines]
    assert all(isinstance(runner, FastTransformer) for runner in runners)
    assert runners[0]._kept is runners[1]._kept is not None


def test_the_base_itself_shares_the_packed_weights_and_is_not_changed(add: Any, home: Path):
    add("one", AdapterSpec(), 1)
    plain = Engine.open(home / "models" / "transformer", "fp32")
    before = logits(plain)
    one = Engine.open(home / "models" / "one", "fp32")
    assert one._runner._kept is plain._runner  # type: ignore[attr-defined]
    assert float((logits(one) - before).abs().max()) > 1
    assert torch.equal(logits(plain), before)


def test_the_packed_weights_go_when_nobody_uses_them(add: Any, home: Path):
    for name in ("one", "two"):
        add(name, AdapterSpec(), len(name))
    held = [Engine.open(home / "models" / name, "fp32") for name in ("one", "two")]
    gc.collect()
    before = len(adapted._packed)
    assert before >= 1
    held.pop()
    gc.collect()
    assert len(adapted._packed) == before
    held.pop()
    gc.collect()
    assert len(adapted._packed) == before - 1


@pytest.mark.parametrize("quantise", [None, "nf4"])
def test_any_other_family_shares_the_tensors_themselves(add: Any, quantise: Any):
    spec = AdapterSpec(quantise=quantise)
    one, two = (open_generator(add(name, spec, seed, "recurrent")) for name, seed in (("one", 1), ("two", 2)))
    places = [{name: tensor.data_ptr() for name, tensor in generator.state_dict().items()
               if name.rsplit(".", 1)[-1] not in adapters.PARTS} for generator in (one, two)]
    assert places[0] == places[1]
    x = torch.tensor([TOKENS])
    assert float((one(x) - two(x)).detach().abs().max()) > 0.5


def test_an_adapter_of_other_parts_has_weights_of_its_own(add: Any, home: Path):
    bundle = add("one", AdapterSpec(targets=["lm_head", "q_proj"]), 1, tied=False)
    engine = Engine.open(bundle, "fp32")
    assert engine._runner._kept is None  # type: ignore[attr-defined]
    merged = Engine.open(merge_adapter(bundle, "whole", home), "fp32")
    assert torch.allclose(logits(engine), logits(merged), atol=1e-5)


@half
def test_interleaved_requests_for_different_adapters_get_the_bytes_they_get_alone(add: Any, home: Path):
    names = ["transformer", "one", "two", "three"]
    for number, spec in enumerate([AdapterSpec(), AdapterSpec(kind="dora"), AdapterSpec(rank=2, targets=ATTENTION)]):
        add(names[1 + number], spec, number + 1)
    prompts = ["The cat", "one two", "def ", '{"name"']
    asked = [(names[number % 4], Request(prompt=prompts[number // 4 % 4], controls=Controls(
        seed=number // 4, max_tokens=24))) for number in range(48)]
    random.Random(0).shuffle(asked)
    alone: list[str] = []
    for name, request in asked:
        engine = Engine.open(home / "models" / name)
        alone.append(engine.generate(request).outputs[0].text)
    batchers = {name: Batcher(Engine.open(home / "models" / name)) for name in names}
    ends: list[queue.Queue[Any]] = [queue.Queue() for _ in asked]

    def ask(first: int) -> None:
        for place in range(first, len(asked), 6):
            name, request = asked[place]

            def deliver(steps: Any, end: Any, place: int = place) -> None:
                if end is not None:
                    ends[place].put(end)

            batchers[name].submit(batchers[name].prepare(request, deliver))

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results = [end.get(timeout=120) for end in ends]
    for batcher in batchers.values():
        batcher.close()
    assert all(isinstance(result, Result) for result in results)
    assert [result.outputs[0].text for result in results] == alone
    assert len(set(alone)) > 40  # the four do answer differently
