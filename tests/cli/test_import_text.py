"""`bottega import` of models of text: folders of others generate, chat, are served, trained further, and refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from bottega.cli import app
from bottega.core.bundle import Bundle
from bottega.core.errors import BottegaError, InputError, RecipeError
from bottega.core.recipe import Recipe
from bottega.core.request import Controls, Message, Request
from bottega.generation.engine import Engine
from bottega.training.run import make
from tests import pretrained

transformers = pytest.importorskip("transformers")
Import = Callable[..., Any]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BOTTEGA_HOME", str(tmp_path / "workshop"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "workshop"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--json"])


def taken(*arguments: str) -> dict[str, Any]:
    done = run("import", *arguments)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def greedy(theirs: Any, prompt: list[int], count: int) -> list[int]:
    made = theirs.generate(torch.tensor([prompt]), max_new_tokens=count, min_new_tokens=count, do_sample=False,
                           eos_token_id=None, pad_token_id=0, attention_mask=torch.ones(1, len(prompt)))
    return [int(token) for token in made[0, len(prompt):]]


@pytest.mark.parametrize("kind", pretrained.KINDS)
def test_an_imported_model_writes_what_transformers_writes(kind: str, home: Path, tmp_path: Path) -> None:
    source = tmp_path / f"a {kind}"
    theirs = pretrained.write(kind, source, shards=kind == "qwen2")
    (source / "README.md").write_text("---\nlicense: apache-2.0\n---\n# From elsewhere\n")
    (source / "modeling_evil.py").write_text("raise SystemExit\n")
    told = taken(str(source), "--name", kind)
    assert told["backend"] == "transformer"
    assert told["licences"] == ["Apache-2.0"]
    assert told["answers"]
    bundle = Bundle.open(home / "models" / kind)
    names = {path.name for path in bundle.path.iterdir()}
    assert "modeling_evil.py" not in names
    assert bundle.lineage.step == "import"
    files = bundle.lineage.parameters["files"]
    assert {"config.json", "tokenizer.json", "tokenizer_config.json"} <= files.keys() <= names
    engine = Engine.open(bundle, dtype="fp32")
    peer = transformers.AutoTokenizer.from_pretrained(source)
    controls = Controls(temperature=0, max_tokens=40, top_k=0, top_p=1.0)
    made = engine.generate(Request(prompt="The cat sat", controls=controls)).outputs[0]
    assert made.tokens == greedy(theirs, peer.encode("The cat sat"), 40)
    ask = [Message(role="user", content="my kettle")]
    made = engine.generate(Request(messages=ask, controls=controls)).outputs[0]
    prompt = peer.apply_chat_template([{"role": "user", "content": "my kettle"}], add_generation_prompt=True,
                                      return_dict=False)
    assert made.tokens == greedy(theirs, prompt, 40)
    shape = Request(prompt="", controls=Controls(max_tokens=60, seed=1, format={"regex": "[a-c]{4} [0-9]{3}"}))
    text = engine.generate(shape).outputs[0].text
    assert len(text) == 8
    assert set(text[:4]) <= set("abc")


FOREIGN = {
    "gpt2": lambda v: transformers.GPT2Config(vocab_size=v, n_embd=64, n_layer=2, n_head=4, n_positions=128),
    "neox": lambda v: transformers.GPTNeoXConfig(vocab_size=v, hidden_size=64, num_hidden_layers=2, rotary_pct=0.5,
                                                 num_attention_heads=4, intermediate_size=96,
                                                 max_position_embeddings=128),
    "phi": lambda v: transformers.PhiConfig(vocab_size=v, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
                                            intermediate_size=96, max_position_embeddings=128),
    "gemma2": lambda v: transformers.Gemma2Config(vocab_size=v, hidden_size=64, num_hidden_layers=2, head_dim=16,
                                                  num_attention_heads=4, num_key_value_heads=2, sliding_window=16,
                                                  intermediate_size=96, max_position_embeddings=128),
    "mamba": lambda v: transformers.MambaConfig(vocab_size=v, hidden_size=32, num_hidden_layers=2, state_size=8),
}


def foreign(kind: str, folder: Path) -> Any:
    tokenizer = pretrained.byte_level(pretrained.GPT2_PIECES, ["<|endoftext|>"])
    size = tokenizer.get_vocab_size()
    torch.manual_seed(0)
    ends = {"eos_token_id": size - 1, "bos_token_id": size - 1, "pad_token_id": size - 1}
    config = FOREIGN[kind](size)
    for name, value in ends.items():
        setattr(config, name, value)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    pretrained.widen(model, [size - 1])
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>"}))
    return model


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_not_native_runs_by_transformers(kind: str, home: Path, tmp_path: Path) -> None:
    theirs = foreign(kind, tmp_path / "in")
    told = taken(str(tmp_path / "in"), "--name", kind, "--licence", "MIT")
    assert told["backend"] == "transformers"
    assert not told["answers"]
    engine = Engine.open(home / "models" / kind)
    controls = Controls(temperature=0, max_tokens=24)
    prompts = ["The cat sat on the mat", "x", "one two three four five six seven eight nine ten one two three"]
    requests = [Request(prompt=text, controls=controls) for text in prompts]
    together = engine.generate_many(requests)
    for request, text, result in zip(requests, prompts, together, strict=True):
        wanted = greedy(theirs, engine.codec.encode(text), 24)
        assert result.outputs[0].tokens == wanted
        assert engine.generate(request).outputs[0].tokens == wanted
    several = Request(prompt="one", controls=Controls(n=3, seed=5, max_tokens=10, temperature=5), alternatives=2)
    result = engine.generate(several)
    assert [output.tokens for output in engine.generate(several).outputs] == [o.tokens for o in result.outputs]
    assert len({tuple(output.tokens) for output in result.outputs}) == 3
    assert len(result.outputs[0].steps[0].alternatives) == 2
    scored = engine.score("The cat", " sat on").steps
    ids = engine.codec.encode("The cat") + engine.codec.encode(" sat on")
    with torch.no_grad():
        logits = theirs(torch.tensor([ids])).logits[0].log_softmax(-1)
    first = len(engine.codec.encode("The cat"))
    assert scored[0].logprob == pytest.approx(float(logits[first - 1, ids[first]]), abs=1e-3)
    assert len(engine.embed("a text")[0]) == (32 if kind == "mamba" else 64)


def test_what_runs_by_transformers_is_not_trained(home: Path, tmp_path: Path) -> None:
    foreign("gpt2", tmp_path / "in")
    taken(str(tmp_path / "in"), "--name", "gpt2")
    with pytest.raises(RecipeError, match="cannot be trained here"):
        make(Recipe.model_validate({"name": "x", "base": "gpt2", "data": {"sources": ["builtin:support-desk"]},
                           "objective": {"kind": "sft"}, "training": {"context": 64}}), home=home)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["qwen2", "gemma"])
def test_an_imported_model_learns_to_answer(kind: str, home: Path, tmp_path: Path) -> None:
    """From a narrow random start, 40 steps take at least 1 nat off the held-out loss; the result stays what it was."""
    pretrained.write(kind, tmp_path / "in", seed=None)
    taken(str(tmp_path / "in"), "--name", "base")
    rows = [{"messages": [{"role": "user", "content": f"say {a} {b}"}, {"role": "assistant", "content": f"{b} {a}"}]}
            for a in ("cat", "mat", "one", "two", "ten") for b in ("rain", "five", "six", "new", "today")]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    bundle = make(Recipe.model_validate({
        "name": "tuned", "base": "base", "objective": {"kind": "sft"},
        "data": {"sources": [str(tmp_path / "chats.jsonl")], "validation": 0.2, "near_duplicates": 0},
        "training": {"budget": {"steps": 40}, "context": 64, "batch_tokens": 512, "precision": "fp32",
                     "compile": "off", "sample_every": 0}}), home=home)
    first = json.loads((home / "runs/tuned/metrics.jsonl").read_text().splitlines()[0])
    assert bundle.meta["metrics"]["loss"] < first["validation"]["loss"] - 1
    theirs = transformers.AutoModelForCausalLM.from_pretrained(bundle.path)
    assert type(theirs).__name__ == {"qwen2": "Qwen2ForCausalLM", "gemma": "GemmaForCausalLM"}[kind]
    engine = Engine.open(bundle, dtype="fp32")
    assert engine.answers
    turns = [{"role": "user", "content": "say cat rain"}]
    wanted = transformers.AutoTokenizer.from_pretrained(bundle.path).apply_chat_template(
        turns, add_generation_prompt=True, return_dict=False)
    assert engine.codec.encode_chat(turns, True) == wanted
    with torch.no_grad():
        assert (engine._runner.all_logits(wanted) - theirs(torch.tensor([wanted])).logits[0]).abs().max() < 1e-4


def test_what_cannot_be_taken_is_said_and_leaves_nothing(home: Path, tmp_path: Path) -> None:
    pretrained.write("smollm", tmp_path / "in")
    for source, says in (("nowhere", "is not a folder"), ("hf:no/such-model", "cannot be fetched"),
                         ("no/such-model", "cannot be fetched"), ("hf:../x", "is not a folder")):
        with pytest.raises(InputError, match=says):
            taken(source, "--name", "x")
    config = json.loads((tmp_path / "in/config.json").read_text())
    own = {**config, "model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}
    (tmp_path / "in/config.json").write_text(json.dumps(own))
    (tmp_path / "in/own.py").write_text("open('/tmp/ran', 'w')\n")
    with pytest.raises(InputError, match="does not know this model"):
        taken(str(tmp_path / "in"), "--name", "x")
    (tmp_path / "in/config.json").write_text(json.dumps(config))
    weights = tmp_path / "in/model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    with pytest.raises(BottegaError, match="cannot be read"):
        taken(str(tmp_path / "in"), "--name", "x")
    weights.write_bytes(whole)
    (tmp_path / "in/tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"no tokenizer\.json"):
        taken(str(tmp_path / "in"), "--name", "x")
    with pytest.raises(InputError, match="native"):
        taken(str(tmp_path / "in"), "--backend", "natve")
    assert not list((home / "models").glob("*")) if (home / "models").exists() else True
