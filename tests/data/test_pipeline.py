"""What a preparation promises: the same digest after any interruption, nothing stale, flat memory, honest counts."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from data_helpers import everything, prepare_apart, prose

from bottega.core.errors import CorruptError, InputError, ResourceError
from bottega.core.files import read_json
from bottega.data import pipeline
from bottega.data.dataset import Dataset
from bottega.data.inspect import samples, signals, summary

Make = Callable[..., Dataset]

_CHILD = """
import sys
from pathlib import Path
from bottega.core.recipe import DataSpec
from bottega.data.pipeline import prepare
import pyarrow.parquet, rensa, bottega.data.measure, bottega.data.write
spec = DataSpec(sources=[sys.argv[1]], decontaminate=[sys.argv[2]])
print("ready", flush=True)
dataset = prepare(spec, home=Path(sys.argv[3]), jobs=int(sys.argv[4]))
print(dataset.digest, flush=True)
"""


def child(*arguments: object) -> subprocess.Popen[str]:
    def hear() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell without job control lets background work ignore it

    return subprocess.Popen([sys.executable, "-c", _CHILD, *map(str, arguments)], text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, preexec_fn=hear)


def write_rows(folder: Path, files: int, rows: int, words: int = 60) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        lines = [json.dumps({"text": prose(number * rows + row, words)}) for row in range(rows)]
        (folder / f"part{number:02}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.slow
def test_killed_at_twenty_random_moments_it_ends_with_the_same_digest(tmp_path: Path) -> None:
    """Seventeen kills of the process that does all the work itself, three of one with two workers."""
    source, evaluation = write_rows(tmp_path / "source", 8, 25), tmp_path / "eval.txt"
    evaluation.write_text(prose(7, 40))
    started = time.monotonic()
    expected = prepare_apart(source, evaluation, tmp_path / "undisturbed")
    seconds = time.monotonic() - started
    assert expected is not None
    draw = random.Random(3)
    kills = homes = 0
    while kills < 17:
        home = tmp_path / f"home{homes}"
        homes += 1
        while kills < 17:  # one home is killed again and again until a run gets through
            said = prepare_apart(source, evaluation, home, kill_after=draw.random() * seconds * 0.6)
            if said is not None:
                assert said == expected
                break
            kills += 1
        assert prepare_apart(source, evaluation, home) == expected
    for _ in range(3):
        run = child(source, evaluation, tmp_path / "workers", 2)
        assert run.stdout is not None
        run.stdout.readline()
        time.sleep(draw.random() * 2 * seconds)
        run.send_signal(signal.SIGKILL)
        run.communicate()
    assert prepare_apart(source, evaluation, tmp_path / "workers") == expected


def test_ctrl_c_stops_cleanly_and_goes_on(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "source", 24, 40)
    (tmp_path / "eval.txt").write_text(prose(7, 40))
    run = child(source, tmp_path / "eval.txt", tmp_path / "home", 2)
    assert run.stdout is not None
    run.stdout.readline()
    run.send_signal(signal.SIGINT)
    run.communicate()
    assert run.returncode != 0
    finish = child(source, tmp_path / "eval.txt", tmp_path / "home", 1)
    assert len(finish.communicate()[0].split()[-1]) == 64


def test_the_number_of_workers_changes_nothing(tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_ALONE", 0)
    source = write_rows(tmp_path / "source", 5, 20)
    one = make(source, jobs=1, at=tmp_path / "one")
    two = make(source, jobs=3, at=tmp_path / "two")
    assert one.digest == two.digest
    assert one.path.name == two.path.name


def steps(home: Path, name: str) -> dict[str, int]:
    """Return the finished outputs of a step with their dates."""
    return {path.name: path.stat().st_mtime_ns for path in (home / "data" / "steps" / name).rglob("*.parquet")}


def test_a_second_run_reuses_and_a_changed_rule_repeats_only_the_decisions(tmp_path: Path, make: Make,
                                                                           home: Path) -> None:
    source = write_rows(tmp_path / "source", 3, 20)
    first = make(source)
    before = {name: steps(home, name) for name in ("extract", "measure", "dedupe", "write")}
    assert make(source).digest == first.digest
    assert {name: steps(home, name) for name in before} == before
    changed = make(source, rules={"long": "words > 62"})
    assert changed.digest != first.digest
    assert changed.path != first.path
    assert 0 < changed.card["bottega"]["stages"]["dropped"]["long"] < 60
    for name in ("extract", "measure", "dedupe"):
        assert steps(home, name) == before[name]
    assert Dataset.open(first.path).digest == first.digest


def test_an_added_file_and_an_added_row_are_noticed(tmp_path: Path, make: Make, home: Path) -> None:
    source = write_rows(tmp_path / "source", 3, 10)
    first = make(source)
    before = steps(home, "extract")
    (source / "part00b.jsonl").write_text(json.dumps({"text": prose(999)}) + "\n")
    second = make(source)
    assert second.digest != first.digest
    assert second.card["bottega"]["stages"]["rows"] == 31
    after = steps(home, "extract")
    assert len(after) == len(before) + 1
    assert before.items() <= after.items()
    with (source / "part02.jsonl").open("a") as file:
        file.write(json.dumps({"text": prose(1000)}) + "\n")
    assert make(source).card["bottega"]["stages"]["rows"] == 32
    assert len(steps(home, "extract")) == len(after) + 1
    ids = {row["origin"]: (row["id"], row["split"]) for row in everything(first)}
    assert ids.items() <= {row["origin"]: (row["id"], row["split"]) for row in everything(second)}.items()


def test_a_damaged_step_is_made_again_and_a_damaged_dataset_is_refused(tmp_path: Path, make: Make, home: Path) -> None:
    source = write_rows(tmp_path / "source", 2, 10)
    first = make(source)
    for name in ("extract", "measure", "dedupe", "write"):
        for path in (home / "data" / "steps" / name).rglob("*.parquet"):
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)  # the dataset's files are the same files under a second name
    with pytest.raises(CorruptError, match="documents-00000"):
        Dataset.open(first.path)
    assert make(source).digest == first.digest
    assert Dataset.open(first.path).count("train") > 0


@pytest.mark.slow
def test_memory_does_not_grow_with_the_input(tmp_path: Path) -> None:
    """Five times the rows, and a five times longer text file (18 MB more), within 60 MB of the same peak: holding the
    texts with their words would take twice that."""
    program = ("import resource, sys; from pathlib import Path; from bottega.core.recipe import DataSpec; "
               "from bottega.data.pipeline import prepare; "
               "prepare(DataSpec(sources=[sys.argv[1]]), home=Path(sys.argv[2]), jobs=1); "
               "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)")
    base = [prose(seed, 400) for seed in range(60)]
    peaks = []
    for scale in (1, 5):
        folder = tmp_path / f"source{scale}"
        folder.mkdir()
        draw = random.Random(1)
        with (folder / "rows.jsonl").open("w") as rows, (folder / "one.txt").open("w") as text:
            for _ in range(900 * scale):
                words = draw.choice(base).split()
                draw.shuffle(words)
                rows.write(json.dumps({"text": " ".join(words)}) + "\n")
                text.write(" ".join(words) + ("\n" if draw.random() < 0.1 else " "))
        done = subprocess.run([sys.executable, "-c", program, folder, tmp_path / f"home{scale}"], text=True,
                              stdout=subprocess.PIPE, check=True)
        peaks.append(int(done.stdout) / 1024)
    assert peaks[1] < peaks[0] + 60, peaks


def test_counts_add_up_and_files_are_what_the_card_says(tmp_path: Path, make: Make) -> None:
    source = write_rows(tmp_path / "source", 3, 20)
    (source / "copy.txt").write_text(prose(5, 60))
    (source / "junk.bin").write_bytes(b"\0\1\2" * 100)
    dataset = make(source, licence="CC-BY-4.0", rules={"long": "words > 65"})
    card = dataset.card["bottega"]
    stages = card["stages"]
    rows = everything(dataset)
    assert stages["read"] == stages["rows"] + 1
    assert stages["rows"] == len(rows) == stages["kept"] + sum(stages["dropped"].values()) == 61  # no end held out
    assert sum(row["keep"] for row in rows) == stages["kept"] == dataset.count("train") + dataset.count("validation")
    assert all((row["reason"] is None) == row["keep"] for row in rows)
    for row in rows:
        if row["reason"] in ("exact-duplicate", "near-duplicate"):
            assert any(other["keep"] and other["cluster"] == row["cluster"] for other in rows)
    files = {entry["name"]: entry for entry in dataset.card["distribution"] if entry["@type"] == "cr:FileObject"}
    manifest = read_json(dataset.path / "manifest.json")["files"]
    assert {name: entry["sha256"] for name, entry in files.items()} == {
        name: entry["sha256"] for name, entry in manifest.items() if name.startswith("documents-")}
    assert dataset.card["license"] == "CC-BY-4.0"
    assert dataset.lineage.content == dataset.digest
    assert dataset.lineage.licences[0].spdx == "CC-BY-4.0"
    assert summary(dataset)["kept"] == stages["kept"]


def test_samples_show_what_was_dropped(tmp_path: Path, make: Make) -> None:
    source = write_rows(tmp_path / "source", 2, 20)
    dataset = make(source, rules={"long": "words > 65"})
    long = samples(dataset, reason="long", kept=None, n=3, seed=1)
    assert len(long) == 3
    assert all(row["reason"] == "long" and row["words"] > 65 and not row["keep"] for row in long)
    assert long == samples(dataset, reason="long", kept=None, n=3, seed=1)
    assert all(row["keep"] for row in samples(dataset, reason=None, kept=True, n=50, seed=0))
    assert len(samples(dataset, reason=None, kept=None, n=50, seed=0)) == 40
    with pytest.raises(InputError, match="did you mean 'long'"):
        samples(dataset, reason="lang", kept=None, n=1, seed=0)
    assert "words" in signals()


def test_the_split_follows_documents_and_honours_what_is_forced(tmp_path: Path, make: Make) -> None:
    folder = write_rows(tmp_path / "many", 1, 300, 20)
    dataset = make(folder, validation=0.1)
    assert 15 <= dataset.count("validation") <= 50
    assert dataset.card["bottega"]["held_out_unit"] == "document"
    single = tmp_path / "single.txt"
    single.write_text("\n".join(prose(seed, 100) for seed in range(30)))
    dataset = make(single)
    assert dataset.card["bottega"]["held_out_unit"] == "tail"
    train, held = "".join(dataset.texts("train")), "".join(dataset.texts("validation"))
    assert train + held == single.read_text()
    assert 0.01 < len(held) / len(train) < 0.06
    long = tmp_path / "long.txt"
    long.write_text("\n".join(prose(seed, 100) for seed in range(3000)))
    dataset = make(long, validation=0.1)
    assert dataset.card["bottega"]["held_out_unit"] == "part"
    assert 0 < dataset.count("validation") < 10
    one = tmp_path / "one.txt"
    one.write_text("Only a few words.")
    assert make(one).count("train") == 1


def test_a_limit_stops_early(tmp_path: Path, make: Make) -> None:
    source = write_rows(tmp_path / "source", 4, 20)
    dataset = make(source, limit=30)
    assert dataset.card["bottega"]["stages"]["rows"] == 30
    assert make("python-docs", limit=5).card["bottega"]["stages"]["rows"] == 5


def test_the_same_folder_elsewhere_gives_the_same_dataset(tmp_path: Path, make: Make) -> None:
    one, two = (write_rows(tmp_path / place / "source", 2, 10) for place in ("here", "there"))
    assert make(one, at=tmp_path / "a").digest == make(two, at=tmp_path / "b").digest
    both = make(one, two)
    assert both.card["bottega"]["stages"]["dropped"] == {"exact-duplicate": 20}
    with pytest.raises(InputError, match="given twice"):
        make(one, one)


def test_a_full_disk_is_a_clear_error_and_nothing_is_lost(tmp_path: Path, make: Make) -> None:
    """On a small file system of its own; needs the right to mount one."""
    source = write_rows(tmp_path / "source", 4, 200)
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(small)], capture_output=True,
                             check=False) if shutil.which("mount") else None
    if mounted is None or mounted.returncode:
        pytest.skip("no right to mount a small file system here")
    try:
        with pytest.raises(ResourceError, match="disk is full"):
            make(source, at=small / "home")
        subprocess.run(["mount", "-o", "remount,size=20m", str(small)], check=True)
        assert make(source, at=small / "home").digest == make(source).digest
        assert not list((small / "home").rglob("*.tmp-*"))
    finally:
        subprocess.run(["umount", str(small)], check=False)


def test_real_stories(real_data: Path, tmp_path: Path, make: Make) -> None:
    """A folder of children's stories as it comes: nearly all is kept, copies are found, a few are held out."""
    archive = real_data / "children_stories" / "pratham_books_en_md.zip"
    if not archive.is_file():
        pytest.skip("children_stories is not among the data sets")
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(tmp_path / "stories")
    card = make(tmp_path / "stories", languages=["en"]).card["bottega"]
    assert card["stages"]["rows"] > 350
    assert card["stages"]["kept"] > 0.97 * card["stages"]["rows"]
    assert 0 < card["splits"]["validation"]["rows"] < 40
