"""`bottega export`: folders that transformers loads, GGUF files that llama.cpp loads, Modelfiles for Ollama."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from bottega.cli import app
from bottega.codecs.pretrained import PretrainedCodec
from bottega.codecs.text import TextCodec
from bottega.core.bundle import Bundle
from bottega.core.errors import InputError
from bottega.core.request import Controls, Request
from bottega.families import load
from bottega.generation.engine import Engine
from bottega.generation.export.gguf import _neighbours
from bottega.generation.export.ollama import _stop, go_template
from bottega.generation.export.vocabulary import template_of
from tests import pretrained
from tests.cli.conftest import bottega
from tests.generation.small import TEXTS, model

transformers = pytest.importorskip("transformers")
TOKENS = 64
PROMPTS = ["The cat sat on the mat", "def area(radius):\n    return", "It's  1,234 o'clock;\n\ncafé 猫"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BOTTEGA_HOME", str(tmp_path / "workshop"))
    return tmp_path / "workshop"


def run(*arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, [*arguments, "--json"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def taken(kind: str, folder: Path, **changes: Any) -> Any:
    """Import a model whose window, if it has one, is wider than what is compared; return transformers' own."""
    if kind in ("mistral", "qwen2"):
        changes = {"sliding_window": 128, **changes}
    theirs = pretrained.write(kind, folder, **changes)
    run("import", str(folder), "--name", kind, "--licence", "MIT")
    return theirs


def ours(path: Path) -> Path:
    """A model in our own layout, as training leaves it, without its training."""
    codec = TextCodec.train(TEXTS, 400)
    generator = model(codec, context=256)
    with torch.no_grad():  # reserved tokens are never the most probable
        generator.head_weight[list(codec.special.values())] = 0

    def write(folder: Path) -> None:
        generator.save(folder)
        codec.save(folder, 256)

    from bottega.core.lineage import Licence, Lineage

    meta = {"family": "transformer", "codec": "text", "objective": "sft", "context": 256,
            "controls": {"temperature": 0.7, "stop": ["\n\n"], "max_tokens": 50}}
    Bundle.create(path, meta=meta, write=write, card="# own\n", lineage=lambda content: Lineage(
        kind="model", name="own", content=content, step="sft", licences=[Licence(spdx="CC0-1.0")]))
    return path


@pytest.mark.parametrize("kind", pretrained.KINDS)
@torch.no_grad()
def test_a_folder_is_what_transformers_loads(kind: str, home: Path, tmp_path: Path) -> None:
    theirs = taken(kind, tmp_path / "in", sliding_window=pretrained.WINDOW)
    run("export", kind, "--to", "hf", "-o", str(tmp_path / "out"))
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    text = torch.randint(0, 400, (2, 60), generator=torch.Generator().manual_seed(0))
    assert type(again) is type(theirs)
    assert (again(text).logits - theirs(text).logits).abs().max() <= 1e-4
    assert torch.equal(load(tmp_path / "out")(text), load(home / "models" / kind)(text))
    before, after = (transformers.AutoTokenizer.from_pretrained(tmp_path / name) for name in ("in", "out"))
    for prompt in PROMPTS:
        assert before.encode(prompt) == after.encode(prompt)
    run("export", kind, "--to", "hf", "--dtype", "bf16", "-o", str(tmp_path / "half"))
    half = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "half")
    assert half.dtype == torch.bfloat16
    assert (tmp_path / "half/model.safetensors").stat().st_size < (tmp_path / "out/model.safetensors").stat().st_size


def test_rows_of_query_and_key_become_neighbours() -> None:
    rows = torch.arange(16.0).view(16, 1)  # two heads of 8: halves 0-3 and 4-7
    assert _neighbours(rows, 8).flatten().tolist() == [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]


@pytest.mark.parametrize("kind", [*pretrained.KINDS, "own"])
@pytest.mark.parametrize("dtype", ["f32", "f16", "q8_0"])
def test_a_gguf_file_holds_all_of_it(kind: str, dtype: str, home: Path, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf", reason="GGUF files need gguf: pip install 'bottega[gguf]'")
    if kind == "own":
        ours(home / "models/own")
    else:
        taken(kind, tmp_path / "in")
    told = run("export", kind, "--to", "gguf", "--dtype", dtype, "-o", str(tmp_path / "out"))
    assert {"README.md", "model.gguf"} <= set(told["files"])
    reader = gguf.GGUFReader(tmp_path / "out/model.gguf")
    generator = load(home / "models" / kind)
    weights = {t.name: gguf.dequantize(t.data, t.tensor_type) for t in reader.tensors}
    shapes = {tuple(weights["token_embd.weight"].shape), tuple(generator.head_weight.shape)}
    assert len(shapes) == 1
    count = sum(value.size for name, value in weights.items() if name != "rope_freqs.weight")
    assert count == generator.config.parameters()
    assert {t.tensor_type.name for t in reader.tensors if len(t.shape) == 2} <= {dtype.upper(), "F16"}
    near = {"f32": 0.0, "f16": 1e-3, "q8_0": 0.05}[dtype]
    embedding = generator.get_parameter("model.embed_tokens.weight").detach().numpy()
    assert abs(weights["token_embd.weight"] - embedding).max() <= near
    field = reader.get_field("tokenizer.chat_template")
    assert field is not None
    assert field.contents() == template_of(TextCodec.load(home / "models" / kind)).source


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*pretrained.KINDS, "own"])
def test_llama_cpp_writes_the_same(kind: str, home: Path, tmp_path: Path, record_property: Any) -> None:
    """Greedy text of 64 tokens from three prompts, the tokens of each prompt, and all logits of a text."""
    pytest.importorskip("gguf", reason="GGUF files need gguf: pip install 'bottega[gguf]'")
    llama = pytest.importorskip("llama_cpp", reason="llama.cpp is not here: pip install 'bottega[llamacpp]'")
    if kind == "own":
        ours(home / "models/own")
    else:
        taken(kind, tmp_path / "in")
    run("export", kind, "--to", "gguf", "--dtype", "f32", "-o", str(tmp_path / "out"))
    engine = Engine.open(home / "models" / kind, dtype="fp32")
    peer = llama.Llama(str(tmp_path / "out/model.gguf"), n_ctx=128, n_threads=1, verbose=False, logits_all=True,
                       type_k=0, type_v=0)  # keys and values in fp32, as ours
    controls = Controls(temperature=0, max_tokens=TOKENS, stop=None, n=1, top_k=0, top_p=1)
    worst, wandered = 0.0, set[int]()
    for prompt in PROMPTS:
        ids = engine._encode(Request(prompt=prompt))
        assert peer.tokenize(prompt.encode(), add_bos=bool(engine.codec.start), special=False) == ids
        output = engine.generate(Request(prompt=prompt, controls=controls)).outputs[0] if kind != "own" else \
            Engine(load(home / "models/own"), engine.codec, controls=controls, model_digest="", lineage={},
                   dtype="fp32").generate(Request(prompt=prompt)).outputs[0]
        assert len(output.tokens) == TOKENS
        made: list[int] = []
        peer.reset()
        for token in peer.generate(ids, temp=0.0, top_k=1, repeat_penalty=1.0):
            made.append(token)
            if len(made) == TOKENS:
                break
        assert made == output.tokens
        wandered |= set(made)
        assert peer.detokenize(made, prev_tokens=ids) == engine.codec.decode_bytes([*ids, *made])[
            len(engine.codec.decode_bytes(ids)):]
        whole = [*ids, *made][:-1]
        peer.reset()
        peer.eval(whole)
        theirs = torch.tensor(peer.scores[:len(whole)])
        worst = max(worst, float((theirs - engine._runner.all_logits(whole)).abs().max()))
    record_property("worst_logit", worst)
    print(f"{kind}: largest difference of a logit {worst:.2e}")
    assert worst < (2e-2 if kind == "gemma" else 2e-4)  # llama.cpp looks GELU up in a table of half precision
    assert len(wandered) > 12  # greedy texts are no constant loops


@pytest.mark.parametrize("kind", [*pretrained.KINDS, "own"])
def test_a_modelfile_writes_what_the_template_writes(kind: str, home: Path, tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="GGUF files need gguf: pip install 'bottega[gguf]'")
    if kind == "own":
        ours(home / "models/own")
    else:
        taken(kind, tmp_path / "in")
    told = run("export", kind, "--to", "ollama", "-o", str(tmp_path / "out"))
    assert {"Modelfile", "model.gguf"} <= set(told["files"])
    text = (tmp_path / "out/Modelfile").read_text()
    assert "FROM ./model.gguf" in text
    codec = TextCodec.load(home / "models" / kind)
    end = {"llama": "<|eot_id|>", "mistral": "</s>", "gemma": "<end_of_turn>", "own": "<|end|>"}.get(kind, "<|im_end|>")
    assert f'PARAMETER stop "{end}"' in text
    assert f"PARAMETER num_ctx {128 if kind in ('mistral', 'qwen2') else 256}" in text
    if kind == "own":
        assert "PARAMETER temperature 0.7\n" in text
        assert "PARAMETER num_predict 50\n" in text
    found = re.search(r'TEMPLATE """(.*?)"""', text, re.DOTALL)
    assert found is not None
    turns = [("user", "one {{ two"), ("assistant", "three"), ("user", "four")]
    wanted = template_of(codec).render([{"role": role, "content": said} for role, said in turns], prompt=True).text
    bos = next((name for name in ("<|begin_of_text|>", "<s>", "<bos>", "<|bos|>") if wanted.startswith(name)), "")
    assert _go(found[1], turns) == wanted.removeprefix(bos if codec.start else "")


def _go(template: str, turns: list[tuple[str, str]]) -> str:
    """What Go's text/template makes of the few forms that are written: range, if eq, .Content."""
    found = re.fullmatch(r"\{\{ range \.Messages \}\}(.*)\{\{ end \}\}(.*?)", template, re.DOTALL)
    assert found is not None
    parts = dict(re.findall(r'\{\{ if eq \.Role "(\w+)" \}\}(.*?)\{\{ end \}\}', found[1], re.DOTALL))
    return "".join(parts[role].replace("{{ .Content }}", said) for role, said in turns) + found[2]


def test_texts_with_quotes_are_written_without_escapes() -> None:
    assert [_stop(text) for text in ("</s>", "\n\n", 'say "')] == ['"</s>"', '"\n\n"', '"""say """"']
    with pytest.raises(InputError, match="three quotes"):
        _stop('"""')


def test_a_template_that_does_more_is_left_to_ollama() -> None:
    from bottega.codecs.chat_template import ChatTemplate

    counting = "{% for m in messages %}{{ loop.index }}{{ m.content }}{{ eos_token }}{% endfor %}"
    assert go_template(ChatTemplate(counting, {"eos_token": "</s>"}, ["</s>"], ["</s>"]), "") is None


@pytest.mark.parametrize(("change", "says"), [
    ({"attention_bias": True}, "attention_bias"), ({"rope_parameters": pretrained.LLAMA3_ROPE}, "llama3")])
def test_what_llama_cpp_lacks_is_said(change: dict[str, Any], says: str, home: Path, tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="GGUF files need gguf: pip install 'bottega[gguf]'")
    taken("qwen3", tmp_path / "in", **change)
    with pytest.raises(InputError, match=says):
        run("export", "qwen3", "--to", "gguf", "-o", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_window_becomes_the_context_and_is_told(home: Path, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf", reason="GGUF files need gguf: pip install 'bottega[gguf]'")
    taken("mistral", tmp_path / "in", sliding_window=pretrained.WINDOW)
    told = run("export", "mistral", "--to", "gguf", "-o", str(tmp_path / "out"))
    assert "24 tokens instead of 256" in told["notes"][0]
    field = gguf.GGUFReader(tmp_path / "out/model.gguf").get_field("llama.context_length")
    assert field is not None
    assert field.contents() == 24


def test_a_tokenizer_that_would_be_cut_otherwise_is_refused(home: Path, tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="GGUF files need gguf: pip install 'bottega[gguf]'")
    pretrained.write("smollm", tmp_path / "in")
    path = tmp_path / "in/tokenizer.json"
    data = json.loads(path.read_text())
    data["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\s+|\S+"
    path.write_text(json.dumps(data))
    run("import", str(tmp_path / "in"), "--name", "odd")
    with pytest.raises(InputError, match="cuts text"):
        run("export", "odd", "--to", "gguf", "-o", str(tmp_path / "out"))
    data["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = pretrained.GPT2_PIECES
    for change, says in (({"type": "Lowercase"}, "does not change text"), ({"type": "NFC"}, "")):
        path.write_text(json.dumps({**data, "normalizer": change}))
        run("import", str(tmp_path / "in"), "--name", change["type"])
        if says:
            with pytest.raises(InputError, match=says):
                run("export", change["type"], "--to", "gguf", "-o", str(tmp_path / "out"))
        else:
            assert "NFC" in run("export", change["type"], "--to", "gguf", "-o", str(tmp_path / "nfc"))["notes"][0]
    pretrained.write("mistral", tmp_path / "two")
    path = tmp_path / "two/tokenizer.json"
    data = json.loads(path.read_text())
    data["model"]["merges"] = data["model"]["merges"][::-1][:-3]
    path.write_text(json.dumps(data))
    run("import", str(tmp_path / "two"), "--name", "other")
    assert isinstance(TextCodec.load(home / "models/other"), PretrainedCodec)
    with pytest.raises(InputError, match="another order"):
        run("export", "other", "--to", "gguf", "-o", str(tmp_path / "out"))


def test_other_families_and_bad_wishes_are_refused_by_the_command(studio: tuple[Path, Path], tmp_path: Path) -> None:
    folder, workshop = studio
    recipe = (folder / "tiny.yaml").read_text().replace("name: tiny", "name: rnn").replace("transformer", "recurrent")
    (folder / "rnn.yaml").write_text(recipe)
    assert bottega("train", "rnn.yaml", "--json", home=workshop, cwd=folder).returncode == 0
    out = str(tmp_path / "out")
    for arguments, says in ((("rnn", "--to", "gguf", "-o", out), "recurrent"),
                            (("tiny", "--to", "ggfu", "-o", out), "did you mean 'gguf'"),
                            (("tiny", "--to", "hf", "--dtype", "q8_0", "-o", out), "q8_0"),
                            (("nothing", "--to", "hf", "-o", out), "unknown model")):
        done = bottega("export", *arguments, home=workshop, cwd=folder)
        assert done.returncode == 2
        assert says in done.stderr
        assert "Traceback" not in done.stderr
    done = bottega("export", "tiny", "--to", "hf", "-o", out, home=workshop, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert transformers.AutoModelForCausalLM.from_pretrained(out).config.model_type == "qwen3"
