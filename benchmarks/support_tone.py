"""Does fine-tuning on a service desk's dialogues teach its tone and its work? `python benchmarks/support_tone.py`

A small language model is trained on stories and instructions (children_stories, instruct_small: no desk in them), then
tuned on generic instructions, and tuned on the desk's dialogues (sgd_dialogues, training part, one service each), the
last with several seeds. All share the tokenizer of the first. Judged on turns of the test part, with the true turns
before them: loss a token of the desk's, and whether a greedy answer does what the annotators say (see
`_support_dialogues`). Test services that occur in training and those that do not are told apart.

Needs BOTTEGA_DATA. Models are kept in `--folder` and used again. Writes the section `support_tone` of RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from _report import machine, update
from _support_dialogues import Case, Dialogue, Judge, dialogues, named

CONTEXT = 1024
FIGURES = {"call": "a call is made where one is due", "method": "the right method is called",
           "slots": "with the right slots", "arguments": "and every value right",
           "no call": "no call where words are due", "acts": "the reply does the right acts (judge)",
           "asked": "asks for a slot that is missing (judge)", "values": "values named, of those due"}


def rows_of(path: Path, rows: list[dict[str, Any]]) -> str:
    """Write rows as JSONL unless they are there; return the path."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def generic(data: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return texts to train a language model on, and the instructions among them."""
    texts = []
    for archive in sorted((data / "children_stories").glob("*.zip")):
        with zipfile.ZipFile(archive) as packed:
            texts += [packed.read(name).decode("utf-8", "replace") for name in sorted(packed.namelist())
                      if name.endswith(".md") and not name.endswith("README.md")]
    asked = []
    for name in ("llamafactory_alpaca_en_demo", "gpteacher_roleplay"):
        asked += json.loads((data / "instruct_small" / f"{name}.json").read_text(encoding="utf-8"))
    texts += ["\n\n".join(filter(None, (row["instruction"], row["input"], row["output"]))) for row in asked]
    return [{"text": text} for text in texts], asked


def make(folder: Path, name: str, source: str, kind: str, steps: int, seed: int, base: str | None = None) -> Any:
    """Train a model by the ordinary path, or return the one that is there."""
    from bottega.core.recipe import Recipe
    from bottega.training.run import make as train

    plain: dict[str, Any] = {
        "name": name, "seed": seed, "base": base, "data": {"sources": [source], "licence": "unknown"},
        "codec": {"vocab_size": 2048}, "objective": {"kind": kind}, "evaluation": {},
        "training": {"budget": {"steps": steps}, "context": CONTEXT, "batch_tokens": 2048, "validate_every": 1.0,
                     "validation_tokens": 8192, "sample_every": 0, "precision": "bf16", "compile": "off"}}
    if base is None:
        plain["generator"] = {"family": "transformer", "depth": 3, "width": 128, "head_dim": 32, "heads": 4,
                              "kv_heads": 4, "intermediate": 344}
    return train(Recipe.model_validate(plain), home=folder, resume=False)


def losses(bundle: Any, chosen: list[Dialogue]) -> list[tuple[float, int]]:
    """Return the nats and the number of tokens that the desk says in each dialogue that fits the context."""
    import torch

    from bottega import families
    from bottega.codecs.text import TextCodec
    from bottega.data.turns import messages
    from bottega.families.base import IGNORED, token_logprobs
    from bottega.objectives.chat import packed_batch, row

    generator, codec = families.load(bundle.path).eval(), TextCodec.load(bundle.path)
    rows = [row(codec, messages(dialogue.messages)) for dialogue in chosen]
    rows = [each for each in rows if each.length <= CONTEXT]
    found = []
    with torch.no_grad():
        for first in range(0, len(rows), 8):
            part = rows[first:first + 8]
            batch = packed_batch(part, [[n] for n in range(len(part))], max(each.length for each in part), codec.pad)
            logs = token_logprobs(generator, batch)
            known = (batch["targets"] != IGNORED).sum(-1)
            found += [(-float(total), int(count)) for total, count in zip(logs.sum(-1), known, strict=True)]
    return found


def answers(bundle: Any, cases: list[Case], tokens: int) -> list[str]:
    """Return the greedy answer to each case."""
    from bottega.core.request import Controls, Message, Request
    from bottega.data.turns import messages
    from bottega.generation.engine import Engine

    engine = Engine.open(bundle)
    controls = Controls(temperature=0, max_tokens=tokens, seed=0)
    wishes = [Request(messages=[Message(role=turn["role"], content=turn["content"]) for turn in messages(case.before)],
                      controls=controls) for case in cases]
    return [result.outputs[0].text for result in engine.generate_many(wishes)]


def checks(cases: list[Case], replies: list[str], judge: Judge) -> dict[str, list[float]]:
    """Return each figure's hits, one a case that it applies to."""
    from bottega.core.tool_text import read_calls

    found: dict[str, list[float]] = {name: [] for name in FIGURES}
    read = judge.read(replies, cases)
    for case, reply, (acts, asked) in zip(cases, replies, read, strict=True):
        calls = read_calls(reply)[1]
        if case.call is None:
            found["no call"].append(float("<tool_call>" not in reply))
            found["acts"].append(float(acts == case.acts))
            if case.asked & judge.slots:
                found["asked"].append(float(asked in case.asked))
            if case.values:
                found["values"].append(named(reply, case.values))
            continue
        method, arguments = case.call
        made = calls[0] if calls else None
        right = made is not None and made.name == method
        found["call"].append(float(made is not None))
        found["method"].append(float(right))
        found["slots"].append(float(right and made is not None and set(made.arguments) == set(arguments)))
        found["arguments"].append(float(right and made is not None and made.arguments == arguments))
    return found


def bootstrap(values: list[float], weights: list[float] | None = None, *, draws: int = 2000) -> tuple[float, ...]:
    """Return a (weighted) mean and its 95 % interval over resampled cases."""
    data = np.asarray(values, dtype=float)
    weight = np.ones(len(data)) if weights is None else np.asarray(weights, dtype=float)
    picks = np.random.default_rng(0).integers(0, len(data), (draws, len(data)))
    means = data[picks].sum(1) / weight[picks].sum(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(data.sum() / weight.sum()), float(low), float(high)


def sample(chosen: list[Dialogue], judge: Judge, calls: int, replies: int) -> list[Case]:
    """Return cases of a part of the test: turns that call, and turns that speak, drawn once for all models."""
    draw = random.Random(0)
    cases = [case for dialogue in chosen for case in dialogue.cases]
    made, said = ([case for case in cases if (case.call is None) == spoken] for spoken in (False, True))
    return draw.sample(made, min(calls, len(made))) + draw.sample(said, min(replies, len(said)))


def fits(dialogue: Dialogue, codec: Any) -> bool:
    """Tell whether a whole dialogue fits the context, with room for an answer."""
    from bottega.data.turns import messages

    return len(codec.encode_chat(messages(dialogue.messages))) <= CONTEXT - 8


def main() -> None:
    """Train, judge and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=Path("workshop/support-tone"))
    parser.add_argument("--steps", type=int, nargs=3, default=[500, 80, 800], metavar=("BASE", "GENERIC", "DESK"))
    parser.add_argument("--cases", type=int, default=100, help="turns that call, and turns that speak, a part")
    parser.add_argument("--dialogues", type=int, default=100, help="of the test, a part")
    options = parser.parse_args()
    if "BOTTEGA_DATA" not in os.environ:
        parser.error("set BOTTEGA_DATA to the folder of the data")
    data = Path(os.environ["BOTTEGA_DATA"])
    folder = options.folder
    texts, asked = generic(data)
    train = list(dialogues(data, "train"))
    sources = {"texts": rows_of(folder / "texts.jsonl", texts), "generic": rows_of(folder / "generic.jsonl", asked),
               "desk": rows_of(folder / "desk.jsonl", [{"messages": each.messages} for each in train])}
    base = make(folder, "base", sources["texts"], "pretrain", options.steps[0], 0)
    models = {"language model": [base],
              "tuned on generic instructions": [make(folder, "generic", sources["generic"], "sft", options.steps[1], 0,
                                                     "base")],
              "tuned on the desk": [make(folder, f"desk-{seed}", sources["desk"], "sft", options.steps[2], seed, "base")
                                    for seed in options.seeds]}
    trained = sum(each.lineage.cost.cpu_seconds for made in models.values() for each in made)
    began = time.process_time()

    from bottega.codecs.text import TextCodec

    codec = TextCodec.load(base.path)
    judge = Judge([case for each in train for case in each.cases if case.call is None])
    services = {each.service for each in train}
    test = [each for each in dialogues(data, "test") if fits(each, codec)]
    draw = random.Random(0)
    parts = {name: draw.sample([each for each in test if (each.service in services) == seen], options.dialogues)
             for name, seen in (("services seen in training", True), ("services never seen", False))}
    size = base.meta["derived"]["parameters"]
    lines = [f"`python benchmarks/support_tone.py --steps {' '.join(map(str, options.steps))}` on {machine()}, "
             f"{base.meta['training']['tokens']:,} tokens of stories and instructions, then "
             f"{models['tuned on the desk'][0].meta['training']['tokens']:,} of desk dialogues a seed (context "
             f"{CONTEXT}, 2,048 tokens of vocabulary, {size:,} parameters); {{cpu}}. "
             f"The desk: {len(services)} services, {len(train):,} "
             "dialogues of one service each. Greedy answers to test turns after the true turns before them. Intervals: "
             "95 % bootstrap over dialogues (loss) or turns, of the first seed; ± is the standard deviation over "
             f"seeds {', '.join(map(str, options.seeds))}. `true replies` are the annotated replies put through the "
             "same judge: what it can see.", ""]
    for part, chosen in parts.items():
        cases = sample(chosen, judge, options.cases, options.cases)
        replies = {name: [answers(each, cases, 160) for each in made] for name, made in models.items()}
        (folder / f"answers-{part.split()[1]}.json").write_text(json.dumps(
            [{"said": case.said or case.call, **{name: found[0][n] for name, found in replies.items()}}
             for n, case in enumerate(cases)], indent=1))
        lines += table(part, chosen, cases, replies, models, judge)
    cpu = f"{trained / 60:.0f} + {(time.process_time() - began) / 60:.0f} CPU minutes to make and to judge"
    text = "\n".join(lines).replace("{cpu}", cpu)
    update("support_tone", "## A service desk's tone\n\n" + text)
    print(text)


def table(part: str, chosen: list[Dialogue], cases: list[Case], replies: dict[str, list[list[str]]],
          models: dict[str, list[Any]], judge: Judge) -> list[str]:
    """Return the lines of one part of the test."""
    spoken = [case.said for case in cases]
    top = checks(cases, spoken, judge)
    rows: dict[str, list[str]] = {"loss, nats a token": [], **{text: [] for text in FIGURES.values()}}
    for name, made in models.items():
        measured = [losses(each, chosen) for each in made]
        each_mean = [sum(nats for nats, _ in one) / sum(count for _, count in one) for one in measured]
        value, low, high = bootstrap([nats for nats, _ in measured[0]], [count for _, count in measured[0]])
        rows["loss, nats a token"].append(shown(value, low, high, each_mean, 1))
        hits = [checks(cases, found, judge) for found in replies[name]]
        for key, text in FIGURES.items():
            value, low, high = bootstrap(hits[0][key])
            rows[text].append(shown(value, low, high, [float(np.mean(one[key])) for one in hits], 100))
    counts = {text: len(top[key]) for key, text in FIGURES.items()}
    lines = [f"### {part[0].upper()}{part[1:]}", "",
             f"| | n | {' | '.join(models)} | true replies |", "|---|--:|" + "--:|" * (len(models) + 1)]
    for text, cells in rows.items():
        key = next((key for key, said in FIGURES.items() if said == text), None)
        ceiling = f"{100 * float(np.mean(top[key])):.1f} %" if key in ("acts", "asked", "values") else ""
        number = counts.get(text, len(losses(next(iter(models.values()))[0], chosen)))
        lines.append(f"| {text} | {number} | {' | '.join(cells)} | {ceiling} |")
    return [*lines, ""]


def shown(value: float, low: float, high: float, seeds: list[float], scale: int) -> str:
    """Return a figure with its interval and, of several seeds, their mean and deviation."""
    unit, digits = (" %", 1) if scale == 100 else ("", 3)
    text = f"{value * scale:.{digits}f}{unit} [{low * scale:.{digits}f}, {high * scale:.{digits}f}]"
    if len(seeds) < 2:
        return text
    return f"{text}; {np.mean(seeds) * scale:.{digits}f} ± {np.std(seeds, ddof=1) * scale:.{digits}f}{unit}"


if __name__ == "__main__":
    main()
