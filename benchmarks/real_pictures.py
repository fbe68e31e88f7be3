"""Real pictures: handwritten digits by class, emoji by name, game tiles by name; made ones beside real ones.

    BOTTEGA_DATA=/path/to/data python benchmarks/real_pictures.py --minutes 5 --sheets docs/img
    python benchmarks/real_pictures.py --quick               # two minutes, to see that everything runs; writes nothing

Shipped recipes with other `data.sources`, `codec.size` and depth, as a user would set them, trained by `bottega train`
in a process of their own for equal minutes on all cores. BOTTEGA_DATA holds mnist_png/mnist_png.zip,
twemoji/twemoji_png_32_and_72.zip and crawl_tiles/crawl_tiles_nov2015_png.zip; a set that is not there is left out.
Models are kept in `--folder` and taken as they are while recipe and pictures are the same: remove the folder after a
change of the code. Writes the section `real_pictures` of RESULTS.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _pictures import Pixels, asked, captioned, cell, opened, prepared, save_sheet, train
from _report import machine, update
from numpy.typing import NDArray

from bottega.core.bundle import Bundle
from bottega.core.request import Controls
from bottega.evaluation.picture_features import Judge, train_judge
from bottega.evaluation.picture_prompts import Answers
from bottega.evaluation.pictures import judge_pictures
from bottega.training.picture_look import Data, draw_all, wishes
from bottega.training.picture_scores import answers

SHOWN, MOST_DRAWN = 20, 1000
COLUMNS = {"frechet": "Fréchet", "kernel": "kernel", "precision": "precision %", "recall": "recall %",
           "coverage": "coverage %", "told_apart": "told apart %", "nearest": "nearest", "copies": "copies %",
           "shows class": "class right %"}
_SHARES = ("precision", "recall", "coverage", "told_apart", "copies", "shows class")
RECIPES = {"vae": "digits-vae", "gan": "digits-gan", "diffusion": "symbols-diffusion"}


@dataclass(frozen=True)
class Set:
    """A set of real pictures, and the families that learn it with their depth.

    Attributes:
        title: for the table.
        source: below BOTTEGA_DATA, as `data.sources` takes it.
        codec: size and channels.
        depths: family → depth: a step of 64 digits takes 0.18 core-seconds of diffusion, 0.36 of the GAN, 0.07 of
            the VAE, so that five minutes on two cores are about 3,400, 1,700 and 8,600 steps at best.
        by_caption: pictures are asked for by caption also where they have classes.
    """

    title: str
    source: str
    codec: tuple[int, int]
    depths: dict[str, int]
    by_caption: bool = False

    def overrides(self, data: Path, family: str, name: str, minutes: float) -> list[str]:
        """Return what a user would write behind `bottega train RECIPE`."""
        size, channels = self.codec
        return [f"name={name}", f"data.sources=[{data / self.source}]", "data.validation=0.1", f"codec.size={size}",
                f"codec.channels={channels}", f"generator.depth={self.depths[family]}",
                f"training.budget={{minutes: {minutes:g}}}"]


SETS = {
    "mnist": Set("MNIST, 28x28 grey, by class", "mnist_png/mnist_png.zip", (28, 1),
                 {"diffusion": 3, "gan": 2, "vae": 2}),
    "twemoji": Set("Twemoji, 32x32, by name", "twemoji/twemoji_png_32_and_72.zip/32", (32, 3), {"diffusion": 3}),
    "tiles": Set("Crawl tiles, 32x32, by name", "crawl_tiles/crawl_tiles_nov2015_png.zip", (32, 3),
                 {"diffusion": 3, "gan": 2}, by_caption=True),
}


def archive(data: Path, source: str) -> Path:
    """Return the archive that a source lies in."""
    return data / (source.split(".zip")[0] + ".zip")


def judge_of(data: Data, steps: int, bar: float) -> tuple[Judge, Answers | None, Answers | None]:
    """Return a judge and the answers it was taught: classes where it can be believed with them, else none."""
    pictures, held_out = np.asarray(data.images("train")), np.asarray(data.images("validation"))
    known = answers(data)
    if known is not None:
        taught, wanted = known
        judge = train_judge(pictures, taught, held_out=(held_out, wanted), steps=steps, bar=bar)
        if judge.accuracy["class"]["value"] >= bar:
            return judge, taught, wanted
        print(f"the judge gets {judge.accuracy['class']['value']:.1%} of the classes right: pictures are compared by "
              "their pixels", file=sys.stderr, flush=True)
    return train_judge(pictures, None), None, None


def measure(data: Data, judged: tuple[Judge, Answers | None, Answers | None], made: Pixels,
            places: NDArray[np.int64], two_sample: int) -> dict[str, Any]:
    """Return the scores of made pictures."""
    judge, taught, wanted = judged
    found: dict[str, Any] = judge_pictures(
        data.images("train"), data.images("validation"), made, train_labels=taught, test_labels=wanted,
        asked=None if wanted is None else asked(wanted, places), judge=judge, count=MOST_DRAWN,
        two_sample_steps=two_sample)
    return found


def ways(family: str) -> dict[str, Controls]:
    """Return how a model draws for the table: a diffusion model with its recipe's guidance and without."""
    return {family: Controls()} if family != "diffusion" else \
        {"diffusion": Controls(), "diffusion, guidance 1": Controls(guidance_scale=1.0)}


def show(data: Data, made: Pixels, places: NDArray[np.int64], path: Path) -> None:
    """Write some made pictures beside the real ones that were asked for; a caption under each where there are some."""
    captions = [data.captions("validation")[place] for place in places]
    first = np.arange(min(SHOWN if any(captions) else 2 * SHOWN, len(places)))
    if not any(captions):
        first = first[np.argsort(data.labels("validation")[places[first]], kind="stable")]
    names = [captions[row] for row in first] if any(captions) else None
    save_sheet(path, np.asarray(data.images("validation"))[places[first]], made[first], names, 4 if names else 6)


def rows(scores: dict[str, dict[str, Any]]) -> list[str]:
    """Return the table of a set: a row a way of drawing, then real pictures and a Gaussian of pixels."""
    first = next(iter(scores.values()))["scores"]
    columns = {name: title for name, title in COLUMNS.items() if name in first}
    lines = ["| | " + " | ".join(columns.values()) + " |", "|---|" + "--:|" * len(columns)]
    lines += [f"| {way} | " + " | ".join(cell(found["scores"][name]["made"], name in _SHARES) for name in columns)
              + " |" for way, found in scores.items()]
    return lines + [f"| *{kind}* | " + " | ".join(cell(first[name][kind], name in _SHARES) for name in columns) + " |"
                    for kind in ("real", "gaussian")]


def about(data: Data, judge: Judge, counts: dict[str, Any]) -> str:
    """Return what was read and what could not be, and how the judge sees."""
    facts = data.card["bottega"]
    lost = {**facts["stages"]["skipped"], **facts["stages"]["dropped"]}
    left = ", ".join(f"{reason} {count}" for reason, count in lost.items()) or "none"
    seen = f"the judge reads {judge.accuracy['class']['value']:.1%} of real held-out classes" if judge.accuracy else \
        "the judge has no labels and compares the 64 main directions of the pixels"
    real = "other held-out pictures" if counts["real_from"] == "held_out" else "training pictures"
    text = (f"{facts['stages']['read']:,} pictures read, left out: {left}; {counts['train']:,} for training, "
            f"{counts['held_out']:,} held out, {counts['compared']:,} of each kind compared; `real` are {real}; "
            f"{seen}.")
    return text if judge.accuracy else text + (" A Gaussian of pixels has their means and covariances, so that its "
                                               "Fréchet distance is that of real ones here and says nothing.")


def order(scores: dict[str, dict[str, Any]]) -> str:
    """Say whether diffusion < GAN < VAE holds in Fréchet distance, the better way of drawing for the first."""
    value = {way: found["scores"]["frechet"]["made"]["value"] for way, found in scores.items()}
    diffusion = min(value[way] for way in value if way.startswith("diffusion"))
    holds = diffusion < value["gan"] < value["vae"]
    return (f"Fréchet distance: diffusion {diffusion:.2f}, GAN {value['gan']:.2f}, VAE {value['vae']:.2f}: the order "
            f"diffusion < GAN < VAE {'holds' if holds else 'does not hold'}.")


def run(name: str, args: argparse.Namespace) -> list[str]:
    """Train and measure a set; return its part of the section."""
    one, two_sample = SETS[name], 20 if args.quick else 300
    families = [family for family in one.depths if family in args.families]

    def overrides(family: str) -> list[str]:
        return one.overrides(args.data, family, f"{name}-{family}", args.minutes)

    data = prepared(RECIPES[families[0]], overrides(families[0]), args.folder)
    judged = judge_of(data, 100 if args.quick else 1200, 0.0 if args.quick else 0.9)
    count = 60 if args.quick else min(MOST_DRAWN, data.size("validation"))
    places = np.random.default_rng(0).permutation(data.size("validation"))[:count]
    wished = (captioned if one.by_caption else wishes)(data, places)
    scores, facts = {}, []
    for family in families:
        bundle: Bundle = train(RECIPES[family], overrides(family), args.folder)
        model, did = opened(bundle), bundle.meta["training"]
        facts.append(f"{family} {bundle.meta['derived']['parameters'] / 1e6:.2f}M parameters, depth "
                     f"{one.depths[family]}, {did['steps']:,} steps in {did['seconds']:.0f} s")
        for number, (way, controls) in enumerate(ways(family).items()):
            began = time.perf_counter()
            made = draw_all(model, data.codec, wished, controls.over(bundle.controls), 0)
            drawn = time.perf_counter() - began
            scores[way] = measure(data, judged, made, places, two_sample)
            print(f"{name}, {way}: Fréchet {scores[way]['scores']['frechet']['made']['value']:.2f}; {count} drawn in "
                  f"{drawn:.0f} s", file=sys.stderr, flush=True)
            if args.sheets and not number:
                show(data, made, places, args.sheets / f"{name}-{family}.png")
    warnings = [f"- {way}: {warning}" for way, found in scores.items() for warning in found["warnings"]]
    counts = next(iter(scores.values()))["counts"]
    text = [f"### {one.title}", "", about(data, judged[0], counts), "", "; ".join(facts) + ".", "", *rows(scores), ""]
    text += [order(scores), ""] if name == "mnist" and len(families) == 3 else []
    return [*text, *warnings, *([""] if warnings else [])]


def main() -> None:
    """Train and measure each set and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--families", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--minutes", type=float, default=5, help="of each training")
    parser.add_argument("--folder", type=Path, default=Path("workshop/real-pictures"))
    parser.add_argument("--sheets", type=Path, help="folder for a contact sheet of each set and family")
    parser.add_argument("--quick", action="store_true", help="seconds of training, few pictures; results only printed")
    place = os.environ.get("BOTTEGA_DATA")
    parser.add_argument("--data", type=Path, default=Path(place) if place else None)
    args = parser.parse_args()
    if args.quick:
        args.minutes, args.folder = 0.1, args.folder.with_name("real-pictures-quick")
    if args.data is None or not args.data.is_dir():
        parser.error("no data: set BOTTEGA_DATA or give --data")
    lines = [f"`python benchmarks/real_pictures.py --minutes {args.minutes:g}` on {machine()}, "
             f"{torch.get_num_threads()} threads, one seed. In brackets 95 % intervals over pictures; how each score "
             "is measured: `evaluation/pictures.py`.", ""]
    for name in args.sets:
        if not archive(args.data, SETS[name].source).is_file():
            print(f"left out: {name}, {archive(args.data, SETS[name].source)} is not there", file=sys.stderr)
        elif set(SETS[name].depths) & set(args.families):
            lines += run(name, args)
    text = "## Real pictures\n\n" + "\n".join(lines)
    print(text)
    if not args.quick:
        update("real_pictures", text)


if __name__ == "__main__":
    main()
