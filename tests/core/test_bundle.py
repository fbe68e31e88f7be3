"""A bundle is written whole, opens only when every file matches, and is found by name or path."""

from pathlib import Path

import pytest

from bottega.core.bundle import META, Bundle, find_bundle
from bottega.core.errors import ControlError, CorruptError, InputError
from bottega.core.files import write_json, write_manifest
from bottega.core.lineage import Lineage


def _create(path: Path, weights: bytes = b"weights", **meta: object) -> Bundle:
    return Bundle.create(
        path, meta={"family": "transformer", "controls": {"temperature": 0.5}, **meta},
        lineage=lambda content: Lineage(kind="model", name=path.name, content=content, step="train"),
        write=lambda folder: (folder / "model.safetensors").write_bytes(weights) and None, card="# card")


def test_create_open_replace(tmp_path: Path) -> None:
    bundle = _create(tmp_path / "models" / "m")
    assert bundle.name == "m"
    assert bundle.controls.temperature == 0.5
    assert (bundle.path / "README.md").read_text() == "# card"
    again = Bundle.open(bundle.path)
    assert again.digest == bundle.digest
    content = again.lineage.content
    other = _create(bundle.path, b"other")
    assert other.digest != bundle.digest
    assert other.lineage.content != content


def test_content_of_the_lineage_does_not_depend_on_time(tmp_path: Path) -> None:
    assert _create(tmp_path / "a").lineage.content == _create(tmp_path / "b").lineage.content


def test_a_failed_write_keeps_the_old_bundle(tmp_path: Path) -> None:
    before = _create(tmp_path / "m")

    def fail(folder: Path) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        Bundle.create(tmp_path / "m", meta={"family": "x"}, card="", write=fail,
                      lineage=lambda content: Lineage(kind="model", name="m", content=content, step="train"))
    assert Bundle.open(tmp_path / "m").digest == before.digest


@pytest.mark.parametrize("name", ["model.safetensors", META, "lineage.json", "README.md", "manifest.json"])
def test_a_flipped_bit_is_refused_by_name(tmp_path: Path, name: str) -> None:
    bundle = _create(tmp_path / "m")
    content = bytearray((bundle.path / name).read_bytes())
    content[len(content) // 2] ^= 4
    (bundle.path / name).write_bytes(content)
    with pytest.raises(CorruptError, match=name):
        Bundle.open(bundle.path)


def test_open_what_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a model folder"):
        Bundle.open(tmp_path / "nowhere")
    with pytest.raises(InputError, match="not a Bottega bundle"):
        Bundle.open(tmp_path)
    write_json(tmp_path / META, {"no": "family"})
    with pytest.raises(CorruptError, match="never finished"):
        Bundle.open(tmp_path)
    write_manifest(tmp_path)
    with pytest.raises(CorruptError, match="does not name a family"):
        Bundle.open(tmp_path)


def test_bad_default_controls_are_a_control_error(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="temperature"):
        _ = _create(tmp_path / "m", controls={"temperature": -1}).controls


def test_find(tmp_path: Path) -> None:
    models = tmp_path / "models"
    with pytest.raises(InputError, match="no models yet"):
        find_bundle("python-lm", models)
    _create(models / "python-lm")
    assert find_bundle("python-lm", models) == models / "python-lm"
    assert find_bundle(str(models / "python-lm"), tmp_path / "elsewhere") == models / "python-lm"
    with pytest.raises(InputError, match="did you mean 'python-lm'"):
        find_bundle("python-ml", models)
