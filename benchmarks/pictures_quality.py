"""The shipped recipes of pictures over several seeds, measured against what was wanted of them.

    python benchmarks/pictures_quality.py --seeds 0 1 2 --sheets docs/img
    python benchmarks/pictures_quality.py --quick            # a minute, to see that everything runs; writes nothing

Each model is trained by `bottega train RECIPE` in a process of its own, with the recipe's budget on all cores, one
after the other. One judge a dataset looks at all seeds. Models are kept in `--folder` and taken as they are while
recipe and pictures are the same: remove the folder after a change of the code. Writes the section `pictures_quality`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _pictures import Pixels, Row, asked, bound, opened, prepared, principal, save_sheet, seed_table, train
from _report import machine, update
from numpy.typing import NDArray

from bottega.core.bundle import Bundle
from bottega.core.request import Controls
from bottega.data.pictures.scenes import HELD_OUT, attributes
from bottega.evaluation.picture_features import Judge, train_judge
from bottega.evaluation.picture_network import as_floats
from bottega.evaluation.pictures import judge_pictures
from bottega.training.metrics import read_history
from bottega.training.picture_look import Data, draw_all, wishes
from bottega.training.picture_scores import answers

GUIDANCES, STEPS = (1.0, 1.5, 2.0, 3.0), (4, 8, 16, 50)
FEW = 4  # steps that the recipe takes
WANTED = {"name": 0.9, "colour": 0.95, "place": 0.85}  # of unseen combinations
ATTRIBUTES = ("name", "colour", "place", "size", "ground")
CONFIDENT = 0.9
_GENERAL = ("frechet", "kernel", "precision", "recall", "coverage", "told_apart", "nearest", "copies")
_SHARES = ("precision", "recall", "coverage", "told_apart", "copies")


class Bench:
    """What all seeds of a recipe are measured with.

    Args:
        recipe: name of the shipped recipe.
        home: workshop of the benchmark.
        overrides: of the recipe.
        count: pictures drawn for a figure.
        judge_steps: training of the judge.
    """

    def __init__(self, recipe: str, home: Path, overrides: list[str], count: int, judge_steps: int) -> None:
        self.recipe, self.home, self.overrides, self.count = recipe, home, overrides, count
        self.data: Data = prepared(recipe, overrides, home)
        self.train, self.test = np.asarray(self.data.images("train")), np.asarray(self.data.images("validation"))
        known = answers(self.data)
        assert known is not None
        self.train_answers, self.test_answers = known
        self.judge: Judge = train_judge(self.train, self.train_answers, held_out=(self.test, self.test_answers),
                                        steps=judge_steps)
        for name, figure in self.judge.accuracy.items():
            print(f"{recipe}: the judge gets {figure['value']:.1%} of '{name}' right on real held-out pictures",
                  file=sys.stderr, flush=True)

    def make(self, seed: int) -> Bundle:
        """Train a seed, or take the model that is there."""
        overrides = [*self.overrides, f"name={self.recipe}-{seed}", f"seed={seed}"]
        return train(self.recipe, overrides, self.home)

    def general(self, made: Pixels, places: NDArray[np.int64], two_sample: int) -> dict[str, Row]:
        """Return the scores that fit every family, each beside real pictures and a Gaussian of pixels."""
        found = judge_pictures(self.train, self.test, made, train_labels=self.train_answers,
                               test_labels=self.test_answers, asked=asked(self.test_answers, places), judge=self.judge,
                               two_sample_steps=two_sample)["scores"]
        rows = {}
        for name in _GENERAL:
            if name in found:
                share = name in _SHARES
                real, gaussian = (Row(found[name][kind]["value"], share).shown() for kind in ("real", "gaussian"))
                beside = f"real {real}, Gaussian {gaussian}"
                rows[name.replace("_", " ")] = Row(found[name]["made"]["value"], share, beside)
        return rows

    def draw(self, bundle: Bundle, places: NDArray[np.int64], controls: Controls | None = None) -> Pixels:
        """Return pictures of what the held-out ones at these places show, as requests for it get them."""
        return draw_all(opened(bundle), self.data.codec, wishes(self.data, places),
                        (controls or Controls()).over(bundle.controls), 0)

    def places(self, count: int, first: int = 0, last: int | None = None) -> NDArray[np.int64]:
        """Return held-out pictures in random order, each once before any twice; `first` and `last` bound them."""
        pool = np.arange(first, len(self.test) if last is None else last)
        order = np.random.default_rng(0)
        return np.concatenate([order.permutation(pool) for _ in range(-(-count // len(pool)))])[:count]


def vae(bench: Bench, bundle: Bundle, two_sample: int) -> tuple[dict[str, Row], Pixels, NDArray[np.int64]]:
    """Held-out bound and reconstruction beside those of PCA with codes of the same size."""
    model: Any = opened(bundle)
    images, labels = as_floats(bench.test), torch.from_numpy(bench.data.labels("validation"))
    text = torch.tensor(bench.data.codec.encode_texts(bench.data.captions("validation")))
    found = bound(lambda x: model.encode(x, labels, text), lambda z: model.decode(z, labels, text), images,
                  float(model.variance))
    flat, held = ((pixels.reshape(len(pixels), -1) / 127.5 - 1) for pixels in (bench.train, bench.test))
    size = int(np.prod(model.config.latent_shape))
    plain = principal(flat, held, size)
    known, wanted = bench.data.labels("train"), bench.data.labels("validation")
    centres = np.stack([flat[known == label].mean(0) for label in range(len(bench.data.codec.classes))])
    told = principal(flat - centres[known], held - centres[wanted], size)
    places = bench.places(bench.count)
    made = bench.draw(bundle, places)

    def beside(key: str) -> str:
        return f"PCA of {size}: {plain[key]:.4g}; told the class: {told[key]:.4g}"

    best = {"bound": max(plain["bound"], told["bound"]), "mse": min(plain["mse"], told["mse"])}
    return {
        "held-out bound (nats a picture)": Row(found["bound"], False, beside("bound"), "above both",
                                               found["bound"] > best["bound"]),
        "reconstruction error (squared, of -1 to 1)": Row(found["mse"], False, beside("mse"), "below both",
                                                          found["mse"] < best["mse"]),
        "class read as asked": _class_row(bench, made, places),
        **bench.general(made, places, two_sample)}, made, places


def gan(bench: Bench, bundle: Bundle, two_sample: int) -> tuple[dict[str, Row], Pixels, NDArray[np.int64]]:
    """Classes covered and read with confidence."""
    places = bench.places(bench.count)
    made = bench.draw(bundle, places)
    chances, truly = _chances(bench, made), _chances(bench, bench.test)
    wanted = bench.data.labels("validation")[places]
    read = chances.argmax(1)
    classes = len(bench.data.codec.classes)
    covered = sum((read == label).sum() >= 0.5 * (wanted == label).sum() for label in range(classes))
    sure = float((chances[np.arange(len(made)), wanted] >= CONFIDENT).mean())
    real = float((truly[np.arange(len(truly)), bench.data.labels("validation")] >= CONFIDENT).mean())
    warned = opened(bundle).warnings(read_history(bench.home / "runs" / bundle.name))
    for warning in warned:
        print(f"{bundle.name} warns: {warning}", file=sys.stderr, flush=True)
    return {
        "classes covered (read at least half as often as asked)": Row(covered, False, f"of {classes}", "all",
                                                                      covered == classes),
        f"read as the asked class with confidence {CONFIDENT}": Row(sure, True, f"real {real:.1%}", "at least 90 %",
                                                                    sure >= 0.9),
        "warnings of collapse or imbalance": Row(len(warned), False, "", "none", not warned),
        "class read as asked": _class_row(bench, made, places),
        **bench.general(made, places, two_sample)}, made, places


def diffusion(bench: Bench, bundle: Bundle, two_sample: int) -> tuple[dict[str, Row], Pixels, NDArray[np.int64]]:
    """What is shown of captions with unseen combinations, and what fewer steps cost.

    Guidance is chosen on captions of the first half of the held-out pictures, everything is reported on the second.
    """
    half = len(bench.test) // 2
    tuning = bench.places(bench.count // 2, last=half)

    def shown(controls: Controls, places: NDArray[np.int64]) -> tuple[Pixels, dict[str, float]]:
        made = bench.draw(bundle, places, controls)
        given = asked(bench.test_answers, places)
        return made, {name: figure["value"] for name, figure in bench.judge.grade(made, given).items()}

    tried = {}
    for scale in GUIDANCES:
        figures = shown(Controls(guidance_scale=scale), tuning)[1]
        tried[scale] = sum(figures[name] for name in ATTRIBUTES) / len(ATTRIBUTES)
        print(f"{bundle.name}: guidance {scale:g} shows {tried[scale]:.1%}", file=sys.stderr, flush=True)
    best = max(GUIDANCES, key=lambda scale: tried[scale])
    places = bench.places(bench.count, first=half)
    drawn = {steps: shown(Controls(guidance_scale=best, steps=steps), places) for steps in STEPS}
    few, many = drawn[FEW], drawn[50]
    rows = {"guidance chosen": Row(best, False, ", ".join(f"{scale:g}: {mean:.1%}" for scale, mean in tried.items()))}
    for name in ATTRIBUTES:
        target = WANTED.get(name)
        rows[f"{name} right, {FEW} steps"] = Row(
            few[1][name], True, f"judge on real pictures {bench.judge.accuracy[name]['value']:.1%}",
            f"at least {target:.0%}" if target else "", few[1][name] >= target if target else None)
    rows[f"unseen marks right in name, colour and size, {FEW} steps"] = Row(
        _unseen(bench, few[0], places), True, f"real {_unseen(bench, bench.test, np.arange(len(bench.test))):.1%}")
    general = {steps: bench.general(made, places, two_sample if steps == FEW else 0)
               for steps, (made, _) in drawn.items()}
    for steps in STEPS:
        rows[f"Fréchet, {steps} steps"] = general[steps]["frechet"]
    for steps in STEPS:
        rows[f"whole caption right, {steps} steps"] = Row(drawn[steps][1]["whole"], True)
    ratio = general[FEW]["frechet"].value / max(general[50]["frechet"].value, 1e-9)
    kept = min(few[1][name] / max(many[1][name], 1e-9) for name in ATTRIBUTES)
    rows[f"Fréchet of {FEW} steps / of 50"] = Row(ratio, False, "", "at most 1.05", ratio <= 1.05)
    rows[f"lowest attribute of {FEW} steps / of 50"] = Row(kept, True, "", "at least 95 %", kept >= 0.95)
    return {**rows, **{name: row for name, row in general[FEW].items() if name != "frechet"}}, few[0], places


def _class_row(bench: Bench, made: Pixels, places: NDArray[np.int64]) -> Row:
    given = asked(bench.test_answers, places)
    return Row(bench.judge.grade(made, given)["class"]["value"], True,
               f"judge on real pictures {bench.judge.accuracy['class']['value']:.1%}")


@torch.no_grad()
def _chances(bench: Bench, pictures: Pixels) -> NDArray[np.float64]:
    """Return the judge's probability of each class, its columns in the order of the codec's classes: [n, classes]."""
    network: Any = bench.judge.network
    found = torch.softmax(network(as_floats(pictures))[0].double(), 1).numpy()
    return np.asarray(found[:, [bench.judge.questions["class"].index(name) for name in bench.data.codec.classes]])


def _unseen(bench: Bench, pictures: Pixels, places: NDArray[np.int64]) -> float:
    """Return the share of marks of combinations unseen in training whose name, colour and size are seen as asked."""
    seen = bench.judge.predict(pictures)
    captions = bench.data.captions("validation")
    right = []
    for number, place in enumerate(places):
        for mark in attributes(captions[place]):
            if (mark["name"], mark["colour"], mark["place"]) in HELD_OUT:
                right.append(all(seen[f"{mark['place']} {key}"][number] == mark[key]
                                 for key in ("name", "colour", "size")))
    return float(np.mean(right))


Measure = Callable[[Bench, Bundle, int], tuple[dict[str, Row], Pixels, NDArray[np.int64]]]
RECIPES: dict[str, tuple[Measure, int]] = {"digits-vae": (vae, 500), "digits-gan": (gan, 500),
                                           "symbols-diffusion": (diffusion, 1000)}  # measure, pictures drawn


def show(bench: Bench, made: Pixels, places: NDArray[np.int64], path: Path) -> None:
    """Write the first pictures of a seed beside the real ones that were asked for."""
    captions = [bench.data.captions("validation")[place] for place in places]
    first = np.arange(min(24 if any(captions) else 48, len(places)))
    if bench.data.codec.classes:
        first = first[np.argsort(bench.data.labels("validation")[places[first]], kind="stable")]
    names = [captions[row] for row in first] if any(captions) else None
    save_sheet(path, bench.test[places[first]], made[first], names, 4 if names else 6)


def main() -> None:
    """Train the seeds, measure and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, help="of each training, instead of the recipe's")
    parser.add_argument("--folder", type=Path, default=Path("workshop/pictures-quality"))
    parser.add_argument("--sheets", type=Path, help="folder for a contact sheet of each recipe's first seed")
    parser.add_argument("--quick", action="store_true", help="seconds of training, few pictures; results only printed")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.minutes, args.folder = args.seeds[:1], 0.1, args.folder.with_name("pictures-quick")
    overrides = [] if args.minutes is None else [f"training.budget={{minutes: {args.minutes:g}}}"]
    lines = [f"`python benchmarks/pictures_quality.py --seeds {' '.join(map(str, args.seeds))}` on {machine()}, "
             f"{torch.get_num_threads()} threads. `beside` is of the first seed where it depends on the model's own "
             "pictures. Sheets: real on the left, made on the right."]
    for recipe in args.recipes:
        measure, count = RECIPES[recipe]
        bench = Bench(recipe, args.folder, overrides, 100 if args.quick else count, 200 if args.quick else 1200)
        bench.judge.bar = 0.0 if args.quick else bench.judge.bar
        measured, facts = {}, []
        for seed in args.seeds:
            bundle = bench.make(seed)
            began = time.perf_counter()
            measured[seed], made, places = measure(bench, bundle, 20 if args.quick else 300)
            facts.append(bundle.meta["training"])
            print(f"{bundle.name}: measured in {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
            if args.sheets and seed == args.seeds[0]:
                show(bench, made, places, args.sheets / f"{recipe}.png")
        parameters = sum(p.numel() for p in opened(bundle).parameters())
        seconds, steps = (", ".join(f"{fact[key]:.0f}" for fact in facts) for key in ("seconds", "steps"))
        read = ", ".join(f"{name} {figure['value']:.1%}" for name, figure in bench.judge.accuracy.items())
        lines += ["", f"### {recipe}", "",
                  f"{parameters:,} parameters in the file; {seconds} seconds of training, {steps} steps. "
                  f"{len(bench.train):,} training and {len(bench.test):,} held-out pictures, {bench.count} drawn. "
                  f"The judge on real held-out pictures: {read}.", "", *seed_table(measured)]
    text = "## The shipped recipes of pictures\n\n" + "\n".join(lines)
    print(text)
    if not args.quick:
        update("pictures_quality", text)


if __name__ == "__main__":
    main()
