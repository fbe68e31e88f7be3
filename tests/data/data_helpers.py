"""Texts that are unlike each other, and a look at all rows: shared by the data tests."""

import multiprocessing
import random
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from bottega.core.recipe import DataSpec
from bottega.data.dataset import Dataset
from bottega.data.pipeline import prepare
from bottega.data.signals import language

language("Load the language model once, so that forked processes have it.")

WORDS = [a + b + c for a in ("ba", "di", "ko", "lu", "me", "ra", "so", "ti", "ve", "nu", "pla", "gri")
         for b in ("n", "r", "st", "l", "m", "ck") for c in ("a", "e", "in", "or", "us", "ing", "y")]


def prose(seed: int, words: int = 120) -> str:
    """Return made-up sentences that share nothing with those of another seed."""
    draw = random.Random(seed)
    sentences = []
    while words > 0:
        count = draw.randint(6, 14)
        sentences.append(" ".join(draw.choice(WORDS) for _ in range(count)).capitalize() + ".")
        words -= count
    return " ".join(sentences)


def everything(dataset: Dataset) -> list[dict[str, Any]]:
    """Return all rows, kept and dropped, with origin, reason and split."""
    return list(dataset.scan(["origin", "document", "kind", "text", "split", "keep", "reason", "cluster",
                              "cluster_size", "id", "licence", "format", "language", "overlap"]))


def _prepare(answer: Connection, source: Path, evaluation: Path, home: Path) -> None:
    answer.send("ready")
    spec = DataSpec(sources=[str(source)], decontaminate=[str(evaluation)])
    answer.send(prepare(spec, home=home, jobs=1).digest)


def prepare_apart(source: Path, evaluation: Path, home: Path, kill_after: float | None = None) -> str | None:
    """Prepare in a process of its own and return the digest, or None when it was killed (-9) after some seconds.

    The process is forked from one that has done nothing but import, so that little time goes into starting.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["data_helpers", "pyarrow.parquet", "bottega.data.measure", "bottega.data.write",
                                    "bottega.data.extract", "rensa"])
    with pytest.MonkeyPatch.context() as patch:  # before Python 3.13 the server finds its preloads by this alone
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        forkserver.ensure_running()
    ours, theirs = context.Pipe()
    process = context.Process(target=_prepare, args=(theirs, source, evaluation, home))
    process.start()
    theirs.close()
    assert ours.recv() == "ready"
    try:
        if kill_after is not None and not ours.poll(kill_after):
            process.kill()
        return str(ours.recv())
    except EOFError:
        return None
    finally:
        process.join()
