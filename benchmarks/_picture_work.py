"""What images.py compares with: the pictures, the judge, our training loop and the peers' process, a turn for each."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _pictures import Pixels, prepared, recipe_of

from bottega.codecs.image import ImageCodec
from bottega.core.files import write_json
from bottega.core.recipe import Budget, Recipe
from bottega.evaluation.picture_distances import frechet_distance
from bottega.evaluation.picture_features import Judge, train_judge
from bottega.families.pictures import PictureGenerator
from bottega.objectives.pictures import PictureTraining
from bottega.training.loop import train
from bottega.training.picture_look import Wishes
from bottega.training.picture_models import build_pictures
from bottega.training.picture_scores import answers

HERE = Path(__file__).parent
POINTS, BATCH = 4, 64
SETS = {"digits": ("digits", 8, 1, 2), "mnist": ("mnist_png/mnist_png.zip", 28, 1, 3)}  # source, size, channels, depth


class Unlabelled:
    """Pictures without classes and captions (what the objective calls a dataset)."""

    def __init__(self, train: Pixels, test: Pixels) -> None:
        self.splits = {"train": train, "validation": test}

    def images(self, split: str) -> Pixels:
        return self.splits[split]

    def labels(self, split: str) -> Any:
        return np.full(len(self.splits[split]), -1, dtype=np.int64)

    def captions(self, split: str) -> list[str]:
        return [""] * len(self.splits[split])


@dataclass
class Contestant:
    """Who runs and how; `results` gathers one outcome a repeat."""

    name: str
    run: Callable[[int], dict[str, Any]]
    results: list[dict[str, Any]] = field(default_factory=list)

    def median(self, read: Callable[[dict[str, Any]], float]) -> float:
        return statistics.median(read(result) for result in self.results)


class Work:
    """The pictures, the judge and the peers' process.

    Attributes:
        codec: ours, without classes and words.
        diffusion, vae: our recipes.
        floor: Fréchet distance of other real pictures, as many as are drawn.
    """

    def __init__(self, args: argparse.Namespace, home: Path) -> None:
        source, size, channels, depth = SETS[args.data]
        where = source if source == "digits" else str(args.place / source)
        common = [f"data.sources=[{where}]", f"codec={{kind: image, size: {size}, channels: {channels}}}"]
        self.diffusion = recipe_of("symbols-diffusion", [*common, f"generator.depth={depth}"])
        self.vae = recipe_of("digits-vae", [*common, f"generator.depth={max(1, depth - 1)}"])
        data = prepared("digits-vae", common, home)
        pictures, held_out = (np.asarray(data.images(split)) for split in ("train", "validation"))
        self.train, self.test = pictures, held_out[:1000]
        self.codec = ImageCodec(channels, size, size)
        known = answers(data)
        assert known is not None
        taught, wanted = known
        self.judge: Judge = train_judge(pictures, taught, held_out=(held_out, wanted),
                                        steps=100 if args.quick else 1200)
        self.reference = self.judge.features(self.test)
        self.drawn, self.args, self.home = min(args.drawn, len(pictures)), args, home
        others = held_out[1000:] if len(held_out) >= 1000 + self.drawn else pictures
        self.floor = self.frechet(others[np.random.default_rng(0).permutation(len(others))[:self.drawn]])

    def frechet(self, made: Pixels) -> float:
        return frechet_distance(self.reference, self.judge.features(made))

    def generator(self, recipe: Recipe, seed: int) -> Any:
        torch.manual_seed(seed)
        return build_pictures(recipe, self.codec, self.home)

    def ours(self, recipe: Recipe, seed: int, minutes: float) -> tuple[PictureGenerator, dict[str, Any]]:
        """Train ours with its public loop; validation and checkpoints are on its clock."""
        model = self.generator(recipe, seed)
        objective = PictureTraining(model, self.codec, Unlabelled(self.train, self.test), batch=BATCH,
                                    micro_batch=BATCH, seed=seed)
        spec = recipe.training.model_copy(update={"budget": Budget(minutes=minutes), "sample_every": 0})
        began = time.process_time()
        with tempfile.TemporaryDirectory(dir=self.home) as run:
            result = train(objective, spec, run=Path(run), seed=seed, cache=self.home / "cache")
        return model, {"parameters": model.config.derived()["parameters"], "seconds": result.seconds,
                       "cpu_seconds": time.process_time() - began, "images": result.tokens}

    def peer(self, name: str, seed: int, minutes: float, options: Mapping[str, float]) -> tuple[dict[str, Any], Path]:
        """Run a peer in its own process; return its outcome and the folder of what it drew."""
        out = Path(tempfile.mkdtemp(dir=self.home))
        command = [sys.executable, str(HERE / "_picture_peers.py"), name, str(self.home / "task"), str(seed),
                   str(minutes), str(out), json.dumps(dict(options))]
        count = str(self.args.threads)
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True,
                              env={**os.environ, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count})
        return dict(json.loads(done.stdout.splitlines()[-1])), out

    def write_task(self, parameters: int, latent: int) -> None:
        """Write what the peers read."""
        folder = self.home / "task"
        folder.mkdir()
        np.save(folder / "train.npy", self.train)
        np.save(folder / "test.npy", self.test)
        write_json(folder / "task.json", {"size": self.codec.height, "channels": self.codec.channels, "batch": BATCH,
                                          "parameters": parameters, "latent": latent, "drawn": self.drawn,
                                          "points": POINTS})


def nothing(count: int) -> Wishes:
    """Return so many wishes for nothing in particular."""
    empty = torch.zeros(count, 0, dtype=torch.int64)
    return Wishes(torch.full((count,), -1), empty, [""] * count, np.zeros(count, dtype=np.int64))


def in_turn(contestants: list[Contestant], repeats: int) -> None:
    """Run everybody once a repeat, another one first each time."""
    for repeat in range(repeats):
        turn = repeat % len(contestants)
        for one in [*contestants[turn:], *contestants[:turn]]:
            one.results.append(one.run(repeat))
            shown = {key: round(value, 3) for key, value in one.results[-1].items() if isinstance(value, int | float)}
            print(f"repeat {repeat}, {one.name}: {json.dumps(shown)}", file=sys.stderr, flush=True)
