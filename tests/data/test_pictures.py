"""What preparing pictures promises: every file is used or named, equal inputs make equal sets, nothing leaks."""

import errno
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from picture_helpers import Make, Set, by_origin, fill, png, shape

from bottega.codecs.image import ImageCodec
from bottega.core.errors import BottegaError, CorruptError, DataError, InputError, RecipeError, ResourceError
from bottega.core.files import TEMPORARY, verify_manifest
from bottega.core.recipe import DataSpec
from bottega.data.pictures import prepare as preparing
from bottega.data.pictures.captions import name_words
from bottega.data.pictures.dataset import PictureDataset
from bottega.data.pictures.prepare import prepare_pictures


@pytest.fixture
def make(home: Path) -> Make:
    def run(*sources: Path | str, picture: dict[str, Any] | None = None, **settings: Any) -> Set:
        spec = DataSpec(sources=[str(source) for source in sources], **settings)
        return prepare_pictures(spec, shape(**(picture or {})), home=home)

    return run


def archive(path: Path, files: dict[str, Any]) -> Path:
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, png(content) if isinstance(content, int) else content)
    return path


ANIMALS = {f"{kind}/{kind}_{number}.png": 10 * place + number
           for place, kind in enumerate(("cats", "dogs")) for number in range(6)}


def test_a_folder_of_classes_becomes_a_set(tmp_path: Path, make: Make) -> None:
    dataset = make(fill(tmp_path / "animals", ANIMALS), licence="CC0-1.0", validation=0.3)
    assert dataset.codec.classes == ["cats", "dogs"]
    assert dataset.size("train") + dataset.size("validation") == 12
    assert dataset.size("validation") > 0
    images = dataset.images("train")
    assert (images.dtype, images.shape[1:]) == (np.uint8, (3, 8, 8))
    assert isinstance(images, np.memmap)
    assert dataset.labels("train").dtype == np.int64
    assert len(dataset.labels("train")) == len(dataset.captions("train")) == len(images)
    for split in ("train", "validation"):
        for image, label, caption, origin in zip(dataset.images(split), dataset.labels(split),
                                                 dataset.captions(split), dataset.origins(split), strict=True):
            name = origin.removeprefix("animals/")
            assert np.array_equal(image, dataset.codec.decode_file(png(ANIMALS[name])))
            assert name.startswith(dataset.codec.classes[label])
            assert caption == dataset.codec.classes[label]  # the words of the file name
    assert dataset.card["bottega"]["stages"] == {"read": 12, "skipped": {}, "rows": 12, "dropped": {}, "kept": 12}
    assert dataset.card["license"] == "CC0-1.0"
    assert dataset.lineage.kind == "dataset"
    assert dataset.lineage.licences[0].spdx == "CC0-1.0"
    assert dataset.lineage.content == dataset.digest
    assert not list(dataset.path.glob("*.raw"))


def test_what_is_unchanged_is_reused_and_a_change_is_seen(tmp_path: Path, make: Make,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    source = fill(tmp_path / "animals", ANIMALS)
    first = make(source)
    with monkeypatch.context() as patch:
        patch.setattr(preparing, "_read", lambda *_: pytest.fail("it was prepared again"))
        assert make(source).path == first.path
    assert make(source, picture={"size": 9}).path != first.path
    assert make(source, validation=0.5).path != first.path
    fill(source, {"cats/another.png": 99})
    changed = make(source)
    assert changed.digest != first.digest
    assert changed.size("train") + changed.size("validation") == 13


def test_equal_inputs_make_equal_sets_anywhere(tmp_path: Path) -> None:
    found = []
    for place in ("here", "there"):
        spec = DataSpec(sources=[str(fill(tmp_path / place / "animals", ANIMALS))])
        found.append(prepare_pictures(spec, shape(), home=tmp_path / place / "workshop", seed=len(found)).digest)
    assert found[0] == found[1]


def test_a_damaged_set_is_made_again(tmp_path: Path, make: Make) -> None:
    source = fill(tmp_path / "animals", ANIMALS)
    first = make(source)
    file = first.path / "images-train.npy"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(CorruptError, match=r"images-train\.npy"):
        PictureDataset.open(first.path, ImageCodec)
    again = make(source)
    assert again.digest == first.digest
    verify_manifest(again.path)


def test_opening_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a prepared set"):
        PictureDataset.open(tmp_path, ImageCodec)


def test_bad_files_are_named_and_the_rest_is_used(tmp_path: Path, make: Make,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    dataset = make(fill(tmp_path / "mixed", {
        **ANIMALS, "cats/cut.png": png(50)[:120], "cats/letter.png": "Dear Sir", "cats/nothing.png": b"",
        "cats/scan.tiff": b"II*\0", "cats/more.zip": b"PK", ".hidden.png": 51, "README.md": "hello"}))
    assert dataset.card["bottega"]["stages"]["skipped"] == {
        "damaged": 1, "empty": 1, "not-a-picture": 1, "unsupported-format": 2}
    assert dataset.card["bottega"]["stages"]["kept"] == 12
    said = capsys.readouterr().err
    assert "mixed/cats/cut.png" in said
    assert "truncated" in said
    assert "not a picture" in said


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    source = fill(tmp_path / "animals", ANIMALS)
    whole = Path.open

    def locked(self: Path, *arguments: Any, **options: Any) -> Any:
        if self.name == "cats_0.png":
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return whole(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", locked)
    assert make(source).card["bottega"]["stages"]["skipped"] == {"unreadable": 1}


def test_an_empty_folder_is_an_error_that_says_so(tmp_path: Path, make: Make, home: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no picture to use"):
        make(tmp_path / "empty")
    with pytest.raises(DataError, match="not-a-picture 2") as caught:
        make(fill(tmp_path / "letters", {"a.png": "a", "b.png": "b"}))
    assert "letters/" in caught.value.where
    with pytest.raises(DataError, match=r"only one picture to use; left out: exact-duplicate 1"):
        make(fill(tmp_path / "one", {"1.png": 1, "2.png": 1}))
    assert not list((home / "data").glob("*"))


@pytest.mark.parametrize(("source", "error", "words"), [
    ("nowhere", InputError, "not there"), ("digts", InputError, "did you mean 'digits'"),
    ("hf:someone/pictures", InputError, "Parquet"), ("text.md", DataError, "no source of pictures"),
    ("broken.zip", DataError, "zip archive")])
def test_a_source_that_is_none_is_refused(tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch, source: str,
                                          error: type[BottegaError], words: str) -> None:
    monkeypatch.chdir(fill(tmp_path / "in", {"text.md": "hello", "broken.zip": "PK no"}))
    with pytest.raises(error, match=words):
        make(source)
    with pytest.raises(InputError, match="twice"):
        make("digits", "digits")


@pytest.mark.parametrize("settings", [{"rules": {"short": "words < 5"}}, {"languages": ["en"]},
                                      {"decontaminate": ["digits"]}])
def test_settings_about_texts_are_refused(make: Make, settings: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="pictures have no"):
        make("digits", **settings)


def test_copies_are_dropped_and_stay_on_one_side(tmp_path: Path, make: Make) -> None:
    files = {f"{number}.png": number for number in range(40)} | {f"copy-{number}.png": number for number in range(40)}
    files |= {"captions.csv": "file_name,text\n" + "".join(f"copy-{n}.png,again {n}\n" for n in range(20))}
    dataset = make(fill(tmp_path / "copies", files), validation=0.3)
    assert dataset.card["bottega"]["stages"]["dropped"] == {"exact-duplicate": 20}  # another caption is no copy
    sides: dict[bytes, set[str]] = {}
    for split in ("train", "validation"):
        for image in dataset.images(split):
            sides.setdefault(image.tobytes(), set()).add(split)
    assert len(sides) == 40
    assert all(len(side) == 1 for side in sides.values())
    kept = make(tmp_path / "copies", exact_duplicates=False)
    assert kept.card["bottega"]["stages"]["kept"] == 80


def test_a_limit_stops_early(tmp_path: Path, make: Make) -> None:
    dataset = make(fill(tmp_path / "animals", ANIMALS), limit=5)
    assert dataset.size("train") + dataset.size("validation") == 5
    assert dataset.codec.classes == ["cats", "dogs"]  # not the first in the alphabet only


def test_a_split_that_the_source_states_is_kept(tmp_path: Path, make: Make) -> None:
    files = {f"train/{n % 2}/{n}.png": n for n in range(8)} | {f"val/{n % 2}/{n}.png": 20 + n for n in range(4)}
    fill(tmp_path / "stated", {**files, "val/0/copy.png": 0, "test/0/1.png": 30})
    dataset = make(tmp_path / "stated")
    assert (dataset.size("train"), dataset.size("validation")) == (8, 4)
    assert dataset.card["bottega"]["stages"]["dropped"] == {"also-in-train": 1, "test-split": 1}
    assert dataset.codec.classes == ["0", "1"]
    assert dataset.codec.vocab == 0  # numbers are no captions
    one_side = make(fill(tmp_path / "oneside", {f"train/{n}.png": n for n in range(8)}))
    assert one_side.size("validation") >= 1
    vehicles = make(fill(tmp_path / "vehicles", {f"{kind}/{n}.png": n + 50 * (kind == "bus")
                                                 for kind in ("train", "bus") for n in range(4)}))
    assert vehicles.codec.classes == ["bus", "train"]


def test_captions_come_from_text_files_and_a_missing_one_is_named(tmp_path: Path, make: Make,
                                                                  capsys: pytest.CaptureFixture[str]) -> None:
    dataset = make(fill(tmp_path / "said", {"a.png": 1, "a.txt": "\ufeffA red\n  star. ", "b.png": 2,
                                            "b.txt": "Ein Stern", "c.png": 3}))
    rows = by_origin(dataset)
    assert {name: row["caption"] for name, row in rows.items()} == {
        "a.png": "A red star.", "b.png": "Ein Stern", "c.png": ""}
    assert dataset.card["bottega"]["captions"] == {"with": 2, "without": 1, "shortened": 0}
    assert "used without a caption (missing-caption) said/c.png" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["captions.csv", "metadata.csv", "metadata.jsonl", "captions.parquet"])
def test_captions_come_from_a_table(tmp_path: Path, make: Make, name: str) -> None:
    rows: list[dict[str, str]] = [{"file_name": "in/a.png", "text": "a red star, said \"so\"", "label": "x"},
                                  {"file_name": "in/a.png", "text": "the same again", "label": "x"},
                                  {"file_name": "in/b.png", "text": "a blue moon", "label": "y"},
                                  {"file_name": "../outside.png", "text": "no", "label": "x"},
                                  {"file_name": "/etc/passwd", "text": "no", "label": "x"}, {"text": "which?"}]
    text: str | bytes
    if name.endswith("parquet"):
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), sink)
        text = sink.getvalue()
    elif name.endswith("jsonl"):
        text = "\n".join(map(json.dumps, rows)) + "\nnot json\n"
    else:
        text = "file_name,text,label\n" + "".join(
            ",".join('"' + row.get(key, "").replace('"', '""') + '"' for key in ("file_name", "text", "label")) + "\n"
            for row in rows)
    fill(tmp_path, {"outside.png": 9})
    dataset = make(fill(tmp_path / "table", {"in/a.png": 1, "in/b.png": 2, name: text}))
    both = {split: list(zip(dataset.captions(split), dataset.labels(split), strict=True))
            for split in ("train", "validation")}
    assert sorted(both["train"] + both["validation"]) == [
        ("a blue moon", 1), ('a red star, said "so"', 0), ("the same again", 0)]
    assert dataset.card["bottega"]["stages"]["skipped"] == {
        "malformed": 2 if name.endswith("jsonl") else 1, "unknown-file": 2}


def test_parquet_captions_keep_the_class_names_of_datasets_in_a_zip_too(tmp_path: Path, make: Make) -> None:
    features = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    schema = pa.schema([("file_name", pa.string()), ("text", pa.string()), ("label", pa.int64())],
                       metadata={"huggingface": json.dumps(features)})
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([{"file_name": f"{n}.png", "text": f"number {n}", "label": n % 2}
                                         for n in range(6)], schema=schema), sink)
    files = {**{f"{n}.png": n for n in range(6)}, "metadata.parquet": sink.getvalue()}
    for source in (fill(tmp_path / "hub", files), archive(tmp_path / "hub.zip", files)):
        dataset = make(source)
        assert dataset.codec.classes == ["cat", "dog"]
        assert {(row["class"], row["caption"]) for row in by_origin(dataset).values()} == {
            ("dog" if n % 2 else "cat", f"number {n}") for n in range(6)}
        assert dataset.card["bottega"]["stages"]["skipped"] == {}


def test_a_parquet_of_pictures_named_like_a_table_is_still_read_as_pictures(tmp_path: Path, make: Make) -> None:
    (tmp_path / "hub").mkdir()
    pq.write_table(pa.table({"image": [png(n) for n in range(6)], "text": ["red"] * 6}),
                   tmp_path / "hub" / "metadata.parquet")
    assert make(tmp_path / "hub").card["bottega"]["stages"]["kept"] == 6


def latin(text: str) -> pa.Array:
    """A column of text that is no UTF-8, as some writers leave it in Parquet."""
    data = text.encode("latin-1")
    return pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(np.array([0, len(data)], np.int32)),
                                                  pa.py_buffer(data)])


def test_text_that_is_no_utf8_in_parquet_is_named_and_the_rest_is_used(tmp_path: Path, make: Make) -> None:
    folder = fill(tmp_path / "latin", ANIMALS)
    pq.write_table(pa.table({"file_name": ["a.png"], "text": latin("caf\xe9")}), folder / "metadata.parquet")
    pq.write_table(pa.table({"image": [png(90)], "text": latin("caf\xe9")}), folder / "pictures.parquet")
    stages = make(folder).card["bottega"]["stages"]
    assert (stages["skipped"], stages["kept"]) == ({"malformed": 1, "damaged": 1}, len(ANIMALS))


@pytest.mark.parametrize("features", ['{"info": {"features": ["label"]}}', "[" * 100_000], ids=["list", "deep"])
def test_class_names_of_no_known_shape_are_none(tmp_path: Path, make: Make, features: str) -> None:
    folder = fill(tmp_path / "odd", ANIMALS)
    table = pa.table([pa.array([next(iter(ANIMALS))]), pa.array(["a star"]), pa.array(["a moon"])],
                     names=["file_name", "text", "text"])
    pq.write_table(table.replace_schema_metadata({"huggingface": features}), folder / "metadata.parquet")
    assert make(folder).card["bottega"]["stages"]["skipped"] == {}


def test_a_table_that_names_its_column_of_files_twice_is_read(tmp_path: Path, make: Make) -> None:
    folder, name = fill(tmp_path / "twice", ANIMALS), next(iter(ANIMALS))
    pq.write_table(pa.table([pa.array([name]), pa.array([name]), pa.array(["a star"])],
                            names=["file_name", "file_name", "text"]), folder / "metadata.parquet")
    dataset = make(folder)
    assert "a star" in [*dataset.captions("train"), *dataset.captions("validation")]


def test_a_table_of_another_shape_is_named(tmp_path: Path, make: Make) -> None:
    dataset = make(fill(tmp_path / "odd", {**ANIMALS, "captions.csv": "name;words\na.png;a star\n"}))
    assert dataset.card["bottega"]["stages"]["skipped"] == {"malformed": 1}


@pytest.mark.parametrize(("name", "words"), [
    ("a_red-star.png", "a red star"), ("grinning face.png", "grinning face"), ("boots_iron2.png", "boots iron"),
    ("cat (1).png", "cat"), ("0001.png", ""), ("IMG_2034.jpg", ""), ("3f786850e387550f.png", ""), ("DSC01.JPG", ""),
    ("日本の猫.png", "日本の猫"), ("décor.png", "décor"), ("a.png", "")])
def test_a_file_name_is_a_caption_where_it_has_words(name: str, words: str) -> None:
    assert name_words(name) == words


def test_long_captions_are_cut_to_what_is_encoded(tmp_path: Path, make: Make) -> None:
    files = {f"{n}.png": n for n in range(6)} | {f"{n}.txt": "one two three, four five" for n in range(6)}
    dataset = make(fill(tmp_path / "long", files), picture={"text_length": 4})
    assert set(dataset.captions("train")) == {"one two three,"}
    assert dataset.card["bottega"]["captions"]["shortened"] == 6
    assert len(dataset.codec.encode_text(dataset.captions("train")[0])) == 4


def test_a_zip_is_read_like_a_folder(tmp_path: Path, make: Make) -> None:
    folder = make(fill(tmp_path / "animals", ANIMALS))
    packed = make(archive(tmp_path / "animals.zip", {f"wrapped/{name}": seed for name, seed in ANIMALS.items()}))
    assert packed.codec == folder.codec
    assert np.array_equal(np.sort(packed.images("train").reshape(-1)), np.sort(folder.images("train").reshape(-1)))


def test_a_folder_inside_a_zip_is_a_source(tmp_path: Path, make: Make) -> None:
    path = archive(tmp_path / "icons.zip", {f"{size}/{n}.png": 10 * size + n for size in (3, 7) for n in range(4)})
    dataset = make(path / "7")
    assert dataset.card["bottega"]["sources"] == {"icons.zip/7": 4}
    assert dataset.card["bottega"]["stages"]["rows"] == 4
    with pytest.raises(DataError, match="no picture to use"):
        make(path / "8")


def test_names_in_a_zip_cannot_point_outside(tmp_path: Path, make: Make) -> None:
    evil = {name: 60 + place for place, name in enumerate((
        "../evil.png", "a/../../evil.png", "/tmp/evil.png", "C:/evil.png", "a\\..\\evil.png", "a//evil.png"))}
    before = set(tmp_path.rglob("*"))
    dataset = make(archive(tmp_path / "bad.zip", {**ANIMALS, **evil, "captions.csv": "file_name,text\n../evil.png,x\n",
                                                  "cats/../captions.csv": "x"}))
    assert dataset.card["bottega"]["stages"]["skipped"]["unsafe-name"] == 7
    assert dataset.card["bottega"]["stages"]["kept"] == 12
    assert not [path for path in set(tmp_path.rglob("*")) - before if "evil" in path.name]
    assert all("evil" not in name for name in by_origin(dataset))


def test_an_archive_with_a_bomb_a_password_and_damage_is_read_around(tmp_path: Path, make: Make,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w") as packed:
        for name, seed in ANIMALS.items():
            packed.writestr(name, png(seed))
        packed.writestr("bomb.png", b"\0" * (65 << 20), zipfile.ZIP_DEFLATED)
        packed.writestr("damaged.png", png(70))
        packed.writestr("locked.png", png(71))
    data = bytearray(path.read_bytes())
    start = data.index(png(70))
    data[start + 60] ^= 255
    where = data.rindex(b"locked.png") - 46
    data[where + 8] |= 1  # the flag for "encrypted" in the directory at the end
    path.write_bytes(data)
    assert path.stat().st_size < 1 << 20
    assert make(path).card["bottega"]["stages"]["skipped"] == {"damaged": 1, "encrypted": 1, "too-large": 1}


def test_parquet_with_image_bytes_is_read(tmp_path: Path, make: Make) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    schema = pa.schema([("image", kind), ("label", pa.int64()), ("caption", pa.string())],
                       metadata={"huggingface": json.dumps(features)})
    (tmp_path / "hub").mkdir()
    for split, seeds in (("train", range(6)), ("test", range(6, 9))):
        rows = [{"image": {"bytes": png(seed), "path": None}, "label": seed % 2, "caption": f"number {seed}"}
                for seed in seeds]
        rows += [{"image": {"bytes": None, "path": "x"}, "label": 0, "caption": ""}]
        pq.write_table(pa.Table.from_pylist(rows, schema=schema),
                       tmp_path / "hub" / f"{split}-00000-of-00001.parquet")
    (tmp_path / "hub" / "broken.parquet").write_bytes(b"PAR1 no")
    pq.write_table(pa.table({"text": ["no pictures"]}), tmp_path / "hub" / "texts.parquet")
    dataset = make(tmp_path / "hub")
    assert (dataset.size("train"), dataset.size("validation")) == (6, 3)
    assert dataset.codec.classes == ["cat", "dog"]
    assert dataset.labels("train").tolist() == [0, 1] * 3
    assert dataset.captions("validation") == ["number 6", "number 7", "number 8"]
    assert dataset.card["bottega"]["stages"]["skipped"] == {"damaged": 1, "empty": 2, "malformed": 1}


def test_parquet_of_plain_bytes_is_one_file(tmp_path: Path, make: Make) -> None:
    path = tmp_path / "plain.parquet"
    pq.write_table(pa.table({"picture": [png(seed) for seed in range(6)], "text": ["red"] * 6,
                             "label": ["b", "a", "", None, "b", "a"],
                             "split": ["train"] * 4 + ["validation"] * 2}), path)
    dataset = make(path)
    assert dataset.labels("train").tolist() == [1, 0, -1, -1]
    assert dataset.labels("validation").tolist() == [1, 0]


def test_several_sources_make_one_set(tmp_path: Path, make: Make) -> None:
    dataset = make(fill(tmp_path / "animals", ANIMALS), archive(tmp_path / "more.zip", {f"{n}.png": 80 + n
                                                                                       for n in range(4)}))
    assert dataset.card["bottega"]["sources"] == {"animals": 12, "more.zip": 4}
    assert -1 in np.concatenate([dataset.labels("train"), dataset.labels("validation")])


def test_a_full_disk_leaves_nothing(tmp_path: Path, make: Make, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(preparing, "_write", full)
    with pytest.raises(ResourceError, match="disk is full"):
        make(fill(tmp_path / "animals", ANIMALS))
    assert not list((home / "data").glob("*"))


def test_a_killed_preparation_leaves_nothing_that_is_used(tmp_path: Path, make: Make, home: Path) -> None:
    source = fill(tmp_path / "animals", ANIMALS)
    code = ("import os, sys\nfrom pathlib import Path\nfrom bottega.core.recipe import DataSpec\n"
            "from bottega.codecs.image import ImageCodec, PictureSpec\nfrom bottega.data.pictures import prepare\n"
            "prepare._write = lambda *_: os.kill(os.getpid(), 9)\n"
            "prepare.prepare_pictures(DataSpec(sources=[sys.argv[1]]), ImageCodec.of(PictureSpec(size=8)),"
            " home=Path(sys.argv[2]))\n")
    killed = subprocess.run([sys.executable, "-c", code, str(source), str(home)], check=False)
    assert killed.returncode == -9
    left = list((home / "data").iterdir())
    assert [TEMPORARY in path.name for path in left] == [True]
    dataset = make(source)
    assert [path.name for path in (home / "data").iterdir()] == [dataset.path.name]
    shutil.rmtree(dataset.path)
    assert make(source).digest == dataset.digest
