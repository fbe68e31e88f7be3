"""Pictures at equal minutes and equal size: ours against the diffusers training example, its pipeline, and pythae.

    python benchmarks/images.py --data digits --minutes 3 --repeats 3 --threads 1
    BOTTEGA_DATA=/path/to/data python benchmarks/images.py --data mnist --minutes 4
    python benchmarks/images.py --quick                     # two minutes, to see that everything runs; writes nothing

Nobody is told the classes: the example knows none. All contestants have the same pictures and threads and run in turn;
one judge, trained on real pictures, looks at all. Peers run in an environment of their own:

    python3 -m venv .venv-bench && .venv-bench/bin/pip install -e .[test] -r benchmarks/requirements.txt
    .venv-bench/bin/python benchmarks/images.py

Writes the section `images DATA` of RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _picture_peers import FEW, STEPS, ddim, unet
from _picture_work import BATCH, POINTS, SETS, Contestant, Work, in_turn, nothing
from _pictures import bound, principal, threads
from _report import machine, update

from bottega.core.request import Controls
from bottega.evaluation.picture_network import as_floats
from bottega.training.picture_look import draw_all

SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)  # of the minutes, a run of ours each: a run is planned for its own length
RATES = (5e-4, 1e-3, 2e-3)  # tried for the tuned example
VAE_TRIALS = tuple({"learning_rate": rate, "beta": beta} for rate in (1e-3, 3e-3) for beta in (0.003, 0.01, 0.03))


def diffusion(work: Work, minutes: float) -> list[str]:
    """Training of diffusion models: quality at equal minutes, and our time to the peers' quality."""
    def ours(share: float) -> Callable[[int], dict[str, Any]]:
        def run(seed: int) -> dict[str, Any]:
            model, result = work.ours(work.diffusion, seed, minutes * share)
            made = draw_all(model, work.codec, nothing(work.drawn), Controls(), seed)
            return {**result, "end": work.frechet(made)}

        return run

    def example(options: Mapping[str, float], length: float = minutes) -> Callable[[int], dict[str, Any]]:
        def run(seed: int) -> dict[str, Any]:
            result, out = work.peer("ddpm", seed, length, options)
            points = range(len(result["curve"]))
            seen = [work.frechet(np.load(out / f"{point}-{STEPS}.npy")) for point in points]
            few = work.frechet(np.load(out / f"{points[-1]}-{FEW}.npy"))
            # a step longer than a quarter of the time skips points, which happens under --quick only
            return {**result, "points": [math.nan] * (POINTS - len(seen)) + seen, "end": seen[-1], "few": few}

        return run

    trials = {rate: example({"learning_rate": rate, "points": 1}, minutes / 3)(99)["end"]
              for rate in (RATES[:1] if work.args.quick else RATES)}
    best = min(trials, key=lambda rate: trials[rate])
    mine = [Contestant(f"Bottega, {share:g} of the minutes" if share < 1 else "Bottega", ours(share))
            for share in reversed(SHARES)]
    peers = [Contestant("diffusers example, its settings", example({})),
             Contestant(f"diffusers example, tuned (batch {BATCH}, {best:g})", example({"learning_rate": best}))]
    in_turn([*mine, *peers], work.args.repeats)
    quarters = [f"{100 * (point + 1) // POINTS} %" for point in range(POINTS - 1)]
    lines = [f"| | parameters | images/s | CPU s | {' | '.join(quarters)} | end | end, {FEW} steps | our time to its "
             "end | ratio |", "|---|--:|--:|--:|" + "--:|" * (POINTS - 1) + "--:|--:|--:|--:|"]
    for one in [*mine, *peers]:
        peer, end = one in peers, one.median(lambda r: r["end"])
        curve = [f"{one.median(lambda r, p=point: r['points'][p]):.2f}" if peer else "" for point in range(POINTS - 1)]
        reach, ratio = "", ""
        if peer:
            times = [share for share, run in zip(SHARES, reversed(mine), strict=True)
                     if run.median(lambda r: r["end"]) <= end]
            reach = f"{min(times) * minutes * 60:.0f} s" if times else "not reached"
            ratio = f"{1 / min(times):.0f}x or more" if times else "–"
        few = one.median(lambda r: r["few"]) if peer else end
        low, high = (pick(r["end"] for r in one.results) for pick in (min, max))
        lines.append(f"| {one.name} | {work_done(one)} | {' | '.join(curve)} | {end:.2f} ({low:.2f}–{high:.2f}) | "
                     f"{few:.2f} | {reach} | {ratio} |")
    settings = "; ".join(f"{one.name}: `{json.dumps(one.results[0]['settings'])}`" for one in peers)
    return [f"### Diffusion: Fréchet distance at {minutes:g} minutes", "",
            f"Medians of {work.args.repeats} seeds (lowest to highest), {work.drawn} pictures drawn each time: ours by "
            f"its default of {FEW} steps, the example's by DDIM with {STEPS} and with {FEW}. Other real pictures score "
            f"{work.floor:.2f}. Ours pays for validation and checkpoints, the peers' clock stops while they draw. A "
            "run of ours is planned for its length, so that shorter ones are runs of their own; the ratio is the "
            "whole time over that of the shortest run that is as good.", "", *lines, "", f"Settings: {settings}.", ""]


def work_done(one: Contestant) -> str:
    """Return parameters, speed and processor time, for a table."""
    return (f"{one.results[0]['parameters'] / 1e6:.2f}M | {one.median(lambda r: r['images'] / r['seconds']):,.0f} | "
            f"{one.median(lambda r: r['cpu_seconds']):.0f}")


def autoencoders(work: Work, minutes: float) -> list[str]:
    """Variational autoencoders at equal minutes, with codes of one size and one formula."""
    latent = work.generator(work.vae, 0).config.latent
    images, few = as_floats(work.test), as_floats(work.train[:2000])

    def ours(seed: int) -> dict[str, Any]:
        model, result = work.ours(work.vae, seed, minutes)
        vae: Any = model
        variance = bound(vae.encode, vae.decode, few, 1.0)["noisy"]
        return {**result, **bound(vae.encode, vae.decode, images, variance)}

    def peer(options: Mapping[str, float], length: float = minutes) -> Callable[[int], dict[str, Any]]:
        return lambda seed: work.peer("vae", seed, length, options)[0]

    trials = [(peer(options, minutes / 3)(99)["bound"], number, options)
              for number, options in enumerate(VAE_TRIALS[:1] if work.args.quick else VAE_TRIALS)]
    best = max(trials)[2]
    everybody = [Contestant("Bottega", ours), Contestant("pythae VAE, its defaults", peer({})),
                 Contestant(f"pythae BetaVAE, tuned ({json.dumps(best)})", peer(best))]
    in_turn(everybody, work.args.repeats)
    flat = [pixels.reshape(len(pixels), -1) / 127.5 - 1 for pixels in (work.train[:20_000], work.test)]
    linear = principal(flat[0], flat[1], latent)
    lines = ["| | parameters | images/s | CPU s | bound, nats a picture | reconstruction error |",
             "|---|--:|--:|--:|--:|--:|"]
    lines += [f"| {one.name} | {work_done(one)} | {one.median(lambda r: r['bound']):.2f} | "
              f"{one.median(lambda r: r['mse']):.5f} |" for one in everybody]
    lines.append(f"| *PCA of {latent}* | | | | {linear['bound']:.2f} | {linear['mse']:.5f} |")
    return [f"### Autoencoder: {len(work.test):,} held-out pictures after {minutes * 60:.0f} seconds", "",
            f"Codes of {latent} numbers, no classes, values from -1 to 1; the decoder's variance is the squared error "
            f"of training pictures for everybody, 16 codes drawn a picture. Medians of {work.args.repeats} seeds. "
            "Higher bounds and lower errors are better.", "", *lines, ""]


def throughput(work: Work, repeats: int) -> list[str]:
    """Images a second of drawing, random weights, networks of equal size."""
    ours = work.generator(work.diffusion, 0).eval()
    model = unet(work.codec.height, work.codec.channels, ours.config.derived()["parameters"]).eval()

    def mine(batch: int, exact: bool) -> None:
        rng, wished = [torch.Generator().manual_seed(row) for row in range(batch)], nothing(batch)
        list(ours.draw(wished.labels, wished.text, rng, controls=Controls(steps=FEW), exact=exact))

    ways: dict[str, Callable[[int], object]] = {
        f"Bottega, {FEW} steps, bytes that can be made again (default)": lambda batch: mine(batch, True),
        f"Bottega, {FEW} steps, the whole batch at once": lambda batch: mine(batch, False),
        f"diffusers DDIM, {STEPS} steps": lambda batch: ddim(model, batch, STEPS, 0),
        f"diffusers DDIM, {FEW} steps": lambda batch: ddim(model, batch, FEW, 0)}
    cases = [(count, batch) for count in sorted({1, os.cpu_count() or 1}) for batch in (1, 16)]
    speeds: dict[tuple[str, int, int], list[float]] = {}
    for repeat in range(repeats + 1):  # the first is a warm-up
        for count, batch in cases:
            for name, way in ways.items():
                with threads(count):
                    began = time.perf_counter()
                    way(batch)
                    if repeat:
                        speeds.setdefault((name, count, batch), []).append(batch / (time.perf_counter() - began))
    size = sum(p.numel() for p in model.parameters())
    lines = ["| images/s | " + " | ".join(f"{count} thread{'s' * (count > 1)}, batch {batch}" for count, batch in cases)
             + " |", "|---|" + "--:|" * len(cases)]
    lines += [f"| {name} | " + " | ".join(f"{statistics.median(speeds[name, *case]):,.1f}" for case in cases) + " |"
              for name in ways]
    own = ours.config.derived()["parameters"]
    return ["### Drawing", "", f"Networks of {own / 1e6:.2f}M (ours) and {size / 1e6:.2f}M parameters, random weights, "
            f"medians of {repeats} repeats in turn.", "", *lines, ""]


def main() -> None:
    """Run the three parts and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=list(SETS), default="digits")
    parser.add_argument("--minutes", type=float, default=3, help="of each training of a diffusion model")
    parser.add_argument("--vae-minutes", type=float, default=0.5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of training, for everybody")
    parser.add_argument("--drawn", type=int, default=500, help="pictures drawn for a figure")
    parser.add_argument("--quick", action="store_true", help="seconds of training; results only printed")
    place = os.environ.get("BOTTEGA_DATA")
    parser.add_argument("--place", type=Path, default=Path(place) if place else None, help="instead of BOTTEGA_DATA")
    args = parser.parse_args()
    if args.data == "mnist" and (args.place is None or not (args.place / SETS["mnist"][0]).is_file()):
        parser.error("no mnist_png/mnist_png.zip: set BOTTEGA_DATA or give --place")
    if args.quick:
        args.minutes, args.vae_minutes, args.repeats, args.drawn = 0.1, 0.05, 1, 60
    with tempfile.TemporaryDirectory() as folder, threads(args.threads):
        work = Work(args, Path(folder))
        network = work.generator(work.diffusion, 0).config.derived()["parameters"]
        work.write_task(network, work.generator(work.vae, 0).config.latent)
        parts = [*diffusion(work, args.minutes), *autoencoders(work, args.vae_minutes),
                 *throughput(work, 2 if args.quick else 7)]
        head = [f"## Pictures against diffusers and pythae: {args.data}", "",
                f"`python benchmarks/images.py --data {args.data} --minutes {args.minutes:g} --vae-minutes "
                f"{args.vae_minutes:g} --repeats {args.repeats} --threads {args.threads}` on {machine()}. "
                f"{len(work.train):,} training pictures of {work.codec.height} x {work.codec.width}; the judge reads "
                f"{work.judge.accuracy['class']['value']:.1%} of held-out classes. Load average at the end: "
                f"{', '.join(f'{load:.1f}' for load in os.getloadavg())}.", ""]
    text = "\n".join([*head, *parts])
    print(text)
    if not args.quick:
        update(f"images {args.data}", text)


if __name__ == "__main__":
    main()
