"""From a recipe to a bundle, on the documentation that comes with every Python."""

import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from test_checkpoint import flip

from bottega import families
from bottega.core.bundle import Bundle
from bottega.core.errors import CorruptError, DataError, InputError, RecipeError
from bottega.core.files import sha256_file
from bottega.core.recipe import Recipe
from bottega.training.estimate import estimate
from bottega.training.metrics import read_history
from bottega.training.run import make

# Bits a byte on held-out documentation. A model that knew only how often each byte occurs would need about 4.5.
THRESHOLD = 2.4


def recipe(name: str = "small", steps: int = 12, **changes) -> Recipe:
    training = {"budget": {"steps": steps}, "context": 64, "batch_tokens": 1024, "precision": "fp32", "compile": "off",
                "validation_tokens": 8192, "sample_every": 0, **changes.pop("training", {})}
    return Recipe.model_validate({
        "name": name, "data": {"sources": ["python-docs"], "limit": 200}, "codec": {"vocab_size": 800},
        "generator": {"depth": 1}, "training": training, **changes})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workshop")


@pytest.fixture(scope="module")
def small(home: Path) -> Bundle:
    return make(recipe(), home=home)


@pytest.mark.slow
def test_compiled_equals_eager(home: Path, small: Bundle):
    bundle = make(recipe("compiled", training={"compile": "on"}), home=home)
    if not bundle.meta["choices"]["compiled"]:
        pytest.skip(bundle.meta["choices"]["reasons"]["compile"])
    eager, compiled = (read_history(home / "runs" / name) for name in ("small", "compiled"))
    assert [line["loss"] for line in compiled[1:]] == pytest.approx([line["loss"] for line in eager[1:]], rel=1e-3)
    assert list((home / "cache" / "compiled").iterdir())


@pytest.mark.slow
def test_a_short_real_training_predicts_held_out_documentation(home: Path):
    bundle = make(recipe("docs", 80, data={"sources": ["python-docs"]}, generator={"depth": 2},
                         codec={"vocab_size": 1024}, training={"batch_tokens": 2048}), home=home)
    assert bundle.meta["metrics"]["bits_per_byte"] < THRESHOLD


def test_the_bundle_tells_what_it_is_and_where_it_came_from(home: Path, small: Bundle):
    assert {"family", "codec", "objective", "derived", "recipe", "metrics", "context", "controls"} <= small.meta.keys()
    assert next(iter(small.meta["metrics"])) == "bits_per_byte"
    lineage = small.lineage
    assert [parent.kind for parent in lineage.parents] == ["dataset"]
    assert {licence.spdx for licence in lineage.licences} == {"PSF-2.0"}
    assert lineage.parameters["choices"]["precision"] == "fp32"
    assert lineage.cost.cpu_seconds > 0
    card = (small.path / "README.md").read_text()
    assert "PSF-2.0" in card
    assert "bits_per_byte" in card
    assert "Wh" in card
    resolved = json.loads((home / "runs" / "small" / "resolved.json").read_text())
    assert resolved["truth"]["tokens"]["true"] == 12 * 1024
    assert resolved["estimate"]["parameters"] == sum(p.numel() for p in families.load(small.path).parameters())
    assert resolved["truth"]["memory_bytes"]["true"] > 1e7  # of a GPU: the tensors alone


def test_an_identical_recipe_is_reused_at_once(home: Path, small: Bundle, capsys: pytest.CaptureFixture[str]):
    again = make(recipe(), home=home)
    assert again.digest == small.digest
    assert "unchanged" in capsys.readouterr().err


def test_the_same_recipe_makes_the_same_weights(home: Path, small: Bundle):
    twin = make(recipe("twin"), home=home)
    assert sha256_file(twin.path / "model.safetensors") == sha256_file(small.path / "model.safetensors")
    other = make(recipe("other", seed=1), home=home)
    assert sha256_file(other.path / "model.safetensors") != sha256_file(small.path / "model.safetensors")


def test_samples_on_the_way_change_no_weight(home: Path, small: Bundle, capsys: pytest.CaptureFixture[str]):
    bundle = make(recipe("sampled", training={"sample_every": 0.25}, evaluation={"prompts": ["The list"]}), home=home)
    assert capsys.readouterr().err.count("The list → ") == 3
    assert sha256_file(bundle.path / "model.safetensors") == sha256_file(small.path / "model.safetensors")


def test_a_changed_recipe_is_trained_again_unless_the_name_is_kept(home: Path, small: Bundle):
    with pytest.raises(InputError, match="exists already"):
        make(recipe(steps=5), home=home, replace=False)
    assert Bundle.open(small.path).digest == small.digest


def test_resuming_under_another_recipe_says_what_changed(home: Path):
    make(recipe("changing"), home=home)
    with pytest.raises(RecipeError, match=r"training\.learning_rate was None, is 0\.01"):
        make(recipe("changing", training={"learning_rate": 0.01}), home=home, resume=True)


def test_a_finished_run_resumed_makes_the_bundle_again(home: Path, small: Bundle):
    first = make(recipe("lost"), home=home)
    weights = sha256_file(first.path / "model.safetensors")
    shutil.rmtree(first.path)
    assert sha256_file(make(recipe("lost"), home=home, resume=True).path / "model.safetensors") == weights


def test_sixty_random_bit_flips_in_a_bundle_are_all_refused_by_file_name(small: Bundle, tmp_path: Path):
    rng = random.Random(23)
    for trial in range(60):
        copy = tmp_path / f"{trial}"
        shutil.copytree(small.path, copy)
        file, place, bit = flip(copy, rng)
        with pytest.raises(CorruptError) as caught:
            Bundle.open(copy)
        assert file.name in str(caught.value), (file, place, bit)
        shutil.rmtree(copy)


def test_the_recurrent_family_runs_on_the_same_loop(home: Path):
    bundle = make(recipe("rnn", 4, generator={"family": "recurrent", "depth": 1}), home=home)
    assert bundle.meta["family"] == "recurrent"


def test_gap_filling_trains(home: Path):
    bundle = make(recipe("gaps", 3, objective={"kind": "pretrain", "fim": 0.5}), home=home)
    assert bundle.meta["recipe"]["objective"]["fim"] == 0.5


def test_faults_are_found_before_any_work(tmp_path: Path):
    home = tmp_path / "empty"
    with pytest.raises(RecipeError, match="names none"):
        make(recipe(objective={"kind": "dpo"}), home=home)
    with pytest.raises(RecipeError, match="unknown key 'fmi'"):
        make(recipe(objective={"kind": "pretrain", "fmi": 1}), home=home)
    with pytest.raises(RecipeError, match="unknown objective"):
        make(recipe(objective={"kind": "pretend"}), home=home)
    with pytest.raises(RecipeError, match="widht"):
        make(recipe(generator={"depth": 1, "widht": 64}), home=home)
    with pytest.raises(InputError, match="unknown model 'nobody'"):
        make(recipe(base="nobody"), home=home)
    assert not home.exists()


def test_a_model_cannot_be_its_own_base(home: Path, small: Bundle):
    with pytest.raises(RecipeError, match="its own base"):
        make(recipe(base="small"), home=home)


def test_data_of_the_wrong_kind_is_refused(home: Path, small: Bundle, tmp_path: Path):
    chats = tmp_path / "chats.jsonl"
    chat = {"messages": [{"role": "user", "content": "What is open?"}, {"role": "assistant", "content": "A function."}]}
    chats.write_text("\n".join(json.dumps(chat | {"id": i}) for i in range(20)))
    data = {"sources": [str(chats)], "exact_duplicates": False, "near_duplicates": 0}
    with pytest.raises(DataError, match="reads text records, these sources hold chat"):
        make(recipe("wrong", data=data), home=home)


def test_continued_pretraining_starts_from_its_base(home: Path, small: Bundle):
    bundle = make(recipe("further", 2, base="small"), home=home)
    assert [parent.kind for parent in bundle.lineage.parents] == ["dataset", "model"]
    start, end = families.load(small.path), families.load(bundle.path)
    assert torch.dist(start.head_weight, end.head_weight) < 0.5 * start.head_weight.norm()


def test_an_estimate_needs_no_data(tmp_path: Path):
    guess = estimate(recipe(generator={"depth": 12}, training={"budget": {"tokens": 10**9}}), home=tmp_path)
    assert guess.parameters > 1e7
    assert guess.tokens == 10**9
    assert guess.flops_per_token > 6 * guess.matrices
    assert 0 < guess.kwh_low < guess.kwh_high
    assert json.dumps(guess.plain())
    for word in ("parameters", "FLOP", "GB", "tokens/s", "kWh", "width"):
        assert word in guess.table()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "workshop"] or \
        [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_a_base_with_a_shorter_context_is_refused(home: Path, small: Bundle):
    longer = Recipe.model_validate({"name": "longer", "base": small.name, "objective": {"kind": "sft"},
                                    "data": {"sources": ["support-desk"], "near_duplicates": 0},
                                    "training": {"budget": {"steps": 1}, "context": 4096}})
    with pytest.raises(RecipeError, match="longer than the base's"):
        make(longer, home=home)
