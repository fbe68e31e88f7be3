"""Fine-tuning by adapters from recipes: every family learns, keeps its base to the bit, resumes to the bit."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bottega import families, objectives
from bottega.core.bundle import Bundle
from bottega.core.errors import CorruptError, DataError, InputError, Interrupted, RecipeError
from bottega.core.files import sha256_file
from bottega.core.recipe import Recipe
from bottega.families import adapters
from bottega.families.adapter_files import CHANGED, CONFIG, WEIGHTS
from bottega.families.bases import load_generator, open_generator
from bottega.training import loop
from bottega.training.adapter_bundles import merge_adapter
from bottega.training.checkpoint import model_tensors
from bottega.training.estimate import estimate
from bottega.training.media import MEDIA
from bottega.training.metrics import read_history
from bottega.training.run import make
from bottega.training.sizes import Sizes

_LOOP = {"precision": "fp32", "compile": "off", "sample_every": 0, "validate_every": 0.5, "optimizer": "adamw"}
# family → share by which the held-out loss of new data must fall; they fell by 0.11, 0.13, 0.36, 0.9, 0.3, 0.37, 0.65
FALLS = {"transformer": 0.05, "recurrent": 0.05, "vae": 0.2, "gan": 0.3, "diffusion": 0.1, "tabular": 0.2, "graph": 0.3}
TEXTS = ("transformer", "recurrent")
PICTURES = ("vae", "gan", "diffusion")


def base_recipe(family: str, home: Path) -> dict[str, Any]:
    """Return what the base is made from."""
    name, depth = f"{family}-base", {"family": family, "depth": 1}
    if family in TEXTS:
        return {"name": name, "data": {"sources": ["python-docs"], "limit": 60}, "codec": {"vocab_size": 500},
                "generator": depth, "training": {**_LOOP, "context": 64, "batch_tokens": 1024, "budget": {"steps": 50},
                                                 "validation_tokens": 2048, "optimizer": "muon"}}
    if family in PICTURES:
        return {"name": name, "data": {"sources": ["digits"], "validation": 0.2, "limit": 200},
                "codec": {"kind": "image", "size": 8, "channels": 1}, "objective": {"kind": "pictures"},
                "generator": depth, "training": {**_LOOP, "batch": 16, "budget": {"steps": 25}}}
    if family == "tabular":
        return {"name": name, "data": {"sources": [table(home, 0)], "validation": 0.2}, "codec": {"kind": "table"},
                "generator": {**depth, "width": 32}, "objective": {"kind": "tables"},
                "training": {**_LOOP, "batch": 64, "budget": {"steps": 40}, "learning_rate": 0.003}}
    return {"name": name, "data": {"sources": ["communities"], "validation": 0.2, "limit": 40},
            "codec": {"kind": "graph"}, "generator": {**depth, "width": 24}, "objective": {"kind": "graphs"},
            "training": {**_LOOP, "batch": 8, "budget": {"steps": 15}, "learning_rate": 0.003}}


def recipe(family: str, home: Path, name: str, steps: int = 30, **adapter: Any) -> Recipe:
    """Return a recipe that adapts the base to other data."""
    made = base_recipe(family, home)
    made |= {"name": name, "base": f"{family}-base", "adapter": {"rank": 4, **adapter},
             "codec": {"kind": made["codec"].get("kind", "text")}, "data": {**made["data"], "sources": {
                 "tabular": [table(home, 1)], "graph": ["trees"]}.get(family, ["python-stdlib"])}}
    if family in PICTURES:
        made["data"] = {"sources": [pictures(home)], "validation": 0.2}
    made["training"] = {**made["training"], "budget": {"steps": steps}, "learning_rate": 0.01, "checkpoint_every": 4}
    return Recipe.model_validate(made)


def table(home: Path, shift: int) -> str:
    """Write rows of three columns; `shift` turns their connections round."""
    path, draw = home / f"rows-{shift}.csv", np.random.default_rng(shift)
    rows = ["age,city,score"]
    for _ in range(300):
        age = int(draw.normal(40 + 5 * shift, 10))
        city = draw.choice(["rome", "milan", "turin"], p=[.1, .2, .7] if shift else [.6, .3, .1])
        score = age * (1 if city == "rome" else -1) * (-0.5 if shift else 1)
        rows.append(f"{age},{city},{score + draw.normal():.2f}")
    path.write_text("\n".join(rows), encoding="utf-8")
    return str(path)


def pictures(home: Path) -> str:
    """Draw 60 grey rings, which no digit is."""
    folder, draw = home / "rings", np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for number in range(60):
        picture = np.zeros((8, 8), np.uint8)
        x, y = draw.integers(0, 4, 2)
        picture[y:y + 4, x:x + 4] = draw.integers(120, 255)
        picture[y + 1:y + 3, x + 1:x + 3] = draw.integers(0, 60)
        Image.fromarray(picture).save(folder / f"{number}.png")
    return str(folder)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workshop")


@pytest.fixture(scope="module")
def made(home: Path) -> Callable[..., tuple[Bundle, Bundle]]:
    """Return base and adapter of a family, each made once."""
    known: dict[str, tuple[Bundle, Bundle]] = {}

    def find(family: str) -> tuple[Bundle, Bundle]:
        if family not in known:
            base = make(Recipe.model_validate(base_recipe(family, home)), home=home, report=False)
            known[family] = base, make(recipe(family, home, f"{family}-lora"), home=home, report=False)
        return known[family]
    return find


def held_out(model: Any, bundle: Bundle, base: Bundle, home: Path) -> dict[str, float]:
    """Return the held-out figures of a model on an adapter's own data."""
    told = Recipe.model_validate(bundle.meta["recipe"])
    medium = MEDIA[told.codec.kind]
    data = medium.dataset(told, base, home)
    codec = medium.codec(told, data, base, home)
    rows = told.training.batch or 1024
    model.begin_again()
    sizes = Sizes(rows, 16 if told.codec.kind == "text" else rows, "")
    objective = medium.objective(told, data, codec, model, base, sizes, objectives.settings(told.objective), home)
    return loop.validate(objective, "fp32", torch.device("cpu"))


@pytest.mark.parametrize("family", FALLS)
def test_an_adapter_learns_new_data_and_leaves_its_base_alone(family: str, home: Path, made: Any):
    base, bundle = made(family)
    looks = [line["validation"] for line in read_history(home / "runs" / bundle.name) if line.get("validation")]
    name = next(key for key in ("loss", "nats") if key in looks[0])
    assert looks[-1][name] < (1 - FALLS[family]) * looks[0][name]
    assert Bundle.open(base.path).digest == base.digest  # every file, to the bit
    assert not (bundle.path / "model.safetensors").exists()
    assert [parent.name for parent in bundle.lineage.parents if parent.kind == "model"] == [base.name]
    saved = (bundle.path / WEIGHTS).stat().st_size
    assert saved < 0.5 * (base.path / "model.safetensors").stat().st_size


@pytest.mark.parametrize("family", FALLS)
def test_what_is_loaded_computes_what_was_trained_and_merged_computes_the_same(family: str, home: Path, made: Any):
    base, bundle = made(family)
    figures = bundle.meta["metrics"]
    if "best" in figures:  # what is kept are the best weights of the run
        figures = {"nats": figures["best"], "best": figures["best"]}
    loaded = held_out(open_generator(bundle), bundle, base, home)
    if family == "tabular":  # its last biases are calibrated at the end, after the last look
        assert loaded == pytest.approx(figures, rel=0.1)
    else:
        assert {name: loaded[name] for name in figures} == figures
    merged = merge_adapter(bundle, f"{family}-merged", home)
    assert held_out(load_generator(merged), bundle, base, home) == pytest.approx(loaded, rel=1e-4)
    alone = load_generator(merged).state_dict()
    assert not any(part in name for name in alone for part in (*adapters.PARTS, "frozen"))
    plain = load_generator(base).state_dict()
    assert alone.keys() == plain.keys()
    assert any(not torch.equal(alone[name], plain[name]) for name in alone)


@pytest.mark.parametrize("family", FALLS)
def test_a_run_that_was_stopped_ends_with_the_same_adapter(family: str, home: Path, made: Any,
                                                           monkeypatch: pytest.MonkeyPatch):
    made(family)
    change = {"kind": "dora", "dropout": 0.2}
    whole = make(recipe(family, home, f"{family}-whole", 9, **change), home=home, report=False)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "take", _stop_after(13 if family == "gan" else 6, loop.take))  # two players, two calls
        with pytest.raises(Interrupted):
            make(recipe(family, home, f"{family}-parts", 9, **change), home=home, report=False)
    parts = make(recipe(family, home, f"{family}-parts", 9, **change), home=home, report=False, resume=True)
    for file in (WEIGHTS, CHANGED):
        assert (whole.path / file).is_file() == (parts.path / file).is_file()
        if (whole.path / file).is_file():
            assert sha256_file(whole.path / file) == sha256_file(parts.path / file)


def _stop_after(calls: int, real: Callable[..., Any]) -> Callable[..., Any]:
    count = 0

    def stopping(*arguments: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count > calls:
            raise Interrupted("stopped", fix="")
        return real(*arguments, **options)
    return stopping


def test_a_checkpoint_holds_the_adapter_alone(home: Path, made: Any):
    base, bundle = made("transformer")
    *_, last = sorted((home / "runs" / bundle.name / "checkpoints").glob("step-*"))
    small = (last / "model.safetensors").stat().st_size
    assert small < 0.2 * (base.path / "model.safetensors").stat().st_size
    model = load_generator(base)
    adapters.adapt(model, Recipe.model_validate(bundle.meta["recipe"]).adapter)
    assert {name.rsplit(".", 1)[-1] for name in model_tensors(model)} == {"lora_A", "lora_B"}


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_four_bits_learn_too_and_load_as_they_were_trained(kind: str, home: Path, made: Any):
    base, _ = made("transformer")
    bundle = make(recipe("transformer", home, f"nf4-{kind}", kind=kind, quantise="nf4"), home=home, report=False)
    looks = [line["validation"]["loss"] for line in read_history(home / "runs" / bundle.name) if
             line.get("validation")]
    assert looks[-1] < 0.95 * looks[0]
    assert held_out(open_generator(bundle), bundle, base, home) == bundle.meta["metrics"]
    merged = merge_adapter(bundle, f"nf4-{kind}-merged", home)
    assert held_out(load_generator(merged), bundle, base, home) == pytest.approx(bundle.meta["metrics"], rel=1e-4)


def test_an_estimate_says_what_is_trained_and_saved(home: Path, made: Any):
    made("transformer")
    plain = recipe("transformer", home, "guessed")
    guess = estimate(plain, home=home)
    model = open_generator(Bundle.open(home / "models" / "transformer-lora"))
    assert guess.adapter["trained"] == sum(p.numel() for p in adapter_parts(model))
    assert guess.parameters == sum(p.numel() for p in model.parameters())
    assert "are trained" in guess.table()
    assert "less than to train all weights" in guess.table()
    full = estimate(plain.model_copy(update={"adapter": None}), home=home)
    assert full.memory_bytes - guess.memory_bytes == pytest.approx(guess.adapter["saved_bytes"], rel=0.05)
    packed = estimate(recipe("transformer", home, "guessed", quantise="nf4"), home=home)
    assert packed.parameters == guess.parameters
    assert packed.adapter["saved_bytes"] > guess.adapter["saved_bytes"]


def adapter_parts(model: Any) -> list[torch.Tensor]:
    return [p for name, p in model.named_parameters() if name.rsplit(".", 1)[-1] in adapters.PARTS]


def test_faults_of_a_recipe_are_found_before_any_work(home: Path, made: Any):
    made("transformer")
    made("vae")
    good = recipe("transformer", home, "wrong")
    for change, error, words in (
            ({"base": None}, RecipeError, "names none"),
            ({"base": "gone"}, InputError, "unknown model"),
            ({"base": "transformer-lora"}, RecipeError, "is an adapter itself"),
            ({"adapter": good.adapter.model_copy(update={"targets": ["q_prj"]})}, RecipeError, "q_prj")):
        with pytest.raises(error, match=words):
            make(good.model_copy(update=change), home=home, report=False)
    pictures_of = recipe("vae", home, "wrong")
    with pytest.raises(RecipeError, match="is a model of text"):
        make(pictures_of.model_copy(update={"base": "transformer-base"}), home=home, report=False)
    shaped = pictures_of.model_copy(update={"codec": pictures_of.codec.model_copy(update={"size": 16})})
    with pytest.raises(RecipeError, match=r"codec\.size is decided by the base"):
        make(shaped, home=home, report=False)


@pytest.mark.parametrize(("key", "value", "words"), [
    ("rank", 0, "rank"), ("alpha", 0, "alpha"), ("dropout", 1, "dropout"), ("kind", "lorra", "kind"),
    ("quantise", "int8", "quantise"), ("ranks", 4, "rank")])
def test_a_wrong_adapter_is_refused_by_name(key: str, value: Any, words: str, tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps({"name": "wrong", "base": "python-lm", "data": {"sources": ["python-docs"]},
                                "adapter": {key: value}}), encoding="utf-8")
    with pytest.raises(RecipeError, match=words):
        Recipe.load(path)


def test_a_full_fine_tuning_of_pictures_starts_from_the_base_too(home: Path, made: Any):
    base, _ = made("vae")
    whole = recipe("vae", home, "vae-all").model_copy(update={"adapter": None})
    bundle = make(whole, home=home, report=False)
    looks = [line["validation"]["loss"] for line in read_history(home / "runs" / "vae-all") if line.get("validation")]
    assert looks[-1] < 0.8 * looks[0]
    assert load_generator(bundle).state_dict().keys() == load_generator(base).state_dict().keys()


def test_new_data_that_the_base_cannot_read_is_named(home: Path, made: Any):
    made("tabular")
    path = home / "odd.csv"
    path.write_text("age,town\n" + "\n".join(f"{age},rome" for age in range(40)), encoding="utf-8")
    wrong = recipe("tabular", home, "odd")
    with pytest.raises(DataError, match="lacks the column 'city'"):
        make(wrong.model_copy(update={"data": wrong.data.model_copy(update={"sources": [str(path)]})}), home=home)


def test_the_base_of_an_adapter_is_found_by_its_content(home: Path, made: Any, tmp_path: Path):
    """Moved it is found, changed or gone it is named."""
    base, bundle = made("recurrent")
    other = tmp_path / "models"
    shutil.copytree(base.path, other / "another-name")
    shutil.copytree(bundle.path, other / bundle.name)
    meta = json.loads((bundle.path / "bottega.json").read_text())
    assert meta["adapter"]["base_path"] == str(base.path.resolve())
    hidden = base.path.rename(tmp_path / "away")
    try:
        moved = Bundle.open(other / bundle.name)
        assert open_generator(moved).family == "recurrent"  # under another name, beside the adapter
        with pytest.raises(InputError, match="is not there"):
            open_generator(bundle)
        with pytest.raises(InputError, match="is not there"):
            families.load(bundle.path)
        shutil.copytree(home / "models" / "transformer-base" if (home / "models" / "transformer-base").is_dir() else
                        bundle.path, base.path)
        with pytest.raises(InputError, match="is another model"):
            open_generator(bundle)
        shutil.rmtree(base.path)
        shutil.copytree(hidden, base.path)
        file = base.path / "model.safetensors"
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(bytes(data))
        with pytest.raises(CorruptError, match="is damaged"):
            open_generator(bundle)
    finally:
        shutil.rmtree(base.path, ignore_errors=True)
        hidden.rename(base.path)


def test_a_damaged_adapter_is_refused(made: Any, tmp_path: Path):
    _, bundle = made("recurrent")
    copy = tmp_path / "copy"
    shutil.copytree(bundle.path, copy)
    data = bytearray((copy / WEIGHTS).read_bytes())
    data[-3] ^= 1
    (copy / WEIGHTS).write_bytes(bytes(data))
    with pytest.raises(CorruptError, match=WEIGHTS):
        Bundle.open(copy)
    assert json.loads((bundle.path / CONFIG).read_text())["peft_type"] == "LORA"
