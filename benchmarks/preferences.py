"""Reward models and DPO on preferences of real people. `BOTTEGA_DATA=… python benchmarks/preferences.py`.

A small language model is pretrained on plain text without any preference. Then, for each of three folds of the prompts
(a seed each): tuned on the chosen answers of the other folds, a reward model trained on their pairs, and judged on the
pairs of the fold, which neither has seen, beside the rule that takes the longer or the shorter answer. Every pair is
held out exactly once. Then DPO on the pairs of fold 1, judged on prompts of fold 0 by a reward model that learned from
fold 2 alone. Finished stages are kept in `--folder` and reused. Writes the section `preferences` of RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _preference_data import FOLDS, Pair, pairs, text
from _report import machine, update

from bottega.codecs.text import TextCodec
from bottega.core.bundle import Bundle
from bottega.core.files import write_json
from bottega.core.recipe import Recipe
from bottega.core.request import Controls, Message, Request
from bottega.evaluation.calibration import Calibration, calibrate, length_rule
from bottega.evaluation.statistics import Figure, rate
from bottega.families import load
from bottega.families.reward import RewardModel, rewards
from bottega.generation.engine import Engine
from bottega.objectives.orpo import ORPO
from bottega.training.loop import validate
from bottega.training.run import make

HARMLESS = ("hh-harmless",)
SMALL = ("pandalm", "finegrained-qa", "llama-factory")
CONTEXT, BATCH = 192, 4096
PROMPTS = 300
LOSS = 0.10  # nats a token that DPO may cost on held-out chosen answers
# Of reward models, chosen by log loss on 30 % of the pairs of folds 1 and 2: after one pass they learn pairs by heart.
REWARD = {"kind": "reward", "centre": 0.01, "dropout": 0.1}
EPOCHS, RATES, DECAY = 1.0, (0.006, 0.003), 0.3
TUNING = (0.01, 0.01)  # rates of sft


def cut(codec: TextCodec, found: Iterable[Pair]) -> list[dict[str, Any]]:
    """Return rows that fit the context: the oldest turns are left out; a pair that does not fit by then is, too."""
    rows = []
    for pair in found:
        turns, longest = pair.turns(), max(len(codec.encode(answer)) for answer in (pair.chosen, pair.rejected))
        while len(turns) > 1 and len(codec.encode_chat(turns)) + longest + 2 > CONTEXT:
            turns = turns[1:]
        if len(codec.encode_chat(turns)) + longest + 2 <= CONTEXT:
            rows.append({**pair.plain(), "messages": turns, "source": pair.source})
    return rows


def steps(codec: TextCodec, rows: Sequence[dict[str, Any]], keys: Sequence[str], epochs: float) -> int:
    """Return optimiser steps of some passes over rows."""
    length = [len(codec.encode_chat([*row["messages"], {"role": "assistant", "content": row[key]}]))
              for row in rows for key in keys]
    return max(1, round(epochs * sum(length) / BATCH))


def stage(folder: Path, name: str, rows: Sequence[dict[str, Any]], base: str, objective: dict[str, Any], count: int,
          rates: tuple[float, float], seed: int, decay: float = 0.1) -> Bundle:
    """Make one model through the same door as `bottega train`."""
    source = folder / "rows" / f"{name}.jsonl"
    source.parent.mkdir(parents=True, exist_ok=True)
    if objective["kind"] == "sft":
        rows = [{"messages": [*row["messages"], {"role": "assistant", "content": row["chosen"]}]} for row in rows]
    keys = ("messages", "chosen", "rejected")
    source.write_text("".join(json.dumps({key: row[key] for key in keys if key in row}, ensure_ascii=False) + "\n"
                              for row in rows), encoding="utf-8")
    return make(Recipe.model_validate({
        "name": name, "base": base, "seed": seed, "objective": objective,
        "data": {"sources": [str(source)], "near_duplicates": 0, "exact_duplicates": False, "validation": 0.05},
        "training": {"budget": {"steps": count}, "context": CONTEXT, "batch_tokens": BATCH,
                     "micro_batch": BATCH // CONTEXT, "learning_rate": rates[0], "learning_rate_rest": rates[1],
                     "weight_decay": decay, "precision": "bf16", "compile": "off", "sample_every": 0,
                     "validate_every": 0.5, "checkpoint_every": 50}}),
        home=folder / "workshop", resume=True, report=False)


def backbone(folder: Path, data: Path) -> Bundle:
    """Pretrain a small language model on plain text."""
    source = folder / "text.jsonl"
    if not source.is_file():
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text("".join(json.dumps({"text": part}, ensure_ascii=False) + "\n"
                                  for part in text(data) if part.strip()), encoding="utf-8")
    return make(Recipe.model_validate({
        "name": "backbone", "data": {"sources": [str(source)], "near_duplicates": 0, "validation": 0.01},
        "codec": {"vocab_size": 4096}, "generator": {"family": "transformer", "depth": 3},
        "objective": {"kind": "pretrain"},
        "training": {"budget": {"tokens": 2_000_000}, "context": 512, "batch_tokens": 4096,
                     "validation_tokens": 32768, "sample_every": 0, "precision": "bf16", "compile": "off",
                     "checkpoint_every": 100}}), home=folder / "workshop", resume=True)


def judged(bundle: Bundle, rows: Sequence[dict[str, Any]]) -> Any:
    """Return the rewards of chosen and rejected answers, [n, 2]."""
    talks = [[*row["messages"], {"role": "assistant", "content": row[key]}]
             for row in rows for key in ("chosen", "rejected")]
    return np.array(rewards(RewardModel.load(bundle.path), TextCodec.load(bundle.path), talks)).reshape(-1, 2)


def lengths(rows: Sequence[dict[str, Any]]) -> list[list[int]]:
    """Return characters of chosen and rejected answers."""
    return [[len(row["chosen"]), len(row["rejected"])] for row in rows]


def rules(train: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return for each source which length won more often in training."""
    return {source: length_rule(lengths([row for row in train if row["source"] == source]))
            for source in {row["source"] for row in train}}


class Held:
    """Held-out rewards of all folds, each source judged beside its own rule."""

    def __init__(self) -> None:
        self.rewards: list[Any] = []
        self.rows: list[dict[str, Any]] = []
        self.signs: list[int] = []
        self.folds: list[dict[str, Any]] = []

    def add(self, fold: int, scores: Any, held: Sequence[dict[str, Any]], rule: dict[str, str]) -> None:
        """Take one fold."""
        self.rewards.append(scores)
        self.rows += held
        self.signs += [1 if rule[row["source"]] == "longer" else -1 for row in held]
        part = self.of(scores, held, self.signs[-len(held):])
        self.folds.append({"fold": fold, "accuracy": part.accuracy, "length": part.length, "rules": rule})

    @staticmethod
    def of(scores: Any, rows: Sequence[dict[str, Any]], signs: Sequence[int]) -> Calibration:
        """Judge; lengths are turned round where the shorter answer is the rule."""
        sizes = np.array(lengths(rows)) * np.array(signs)[:, None]
        return calibrate(scores, sizes, rule="longer", prompts=[row["messages"][0]["content"] for row in rows],
                         sources=[row["source"] for row in rows])

    def all(self) -> Calibration:
        """Judge all folds together."""
        return self.of(np.concatenate(self.rewards), self.rows, self.signs)


def reward_models(folder: Path, codec: TextCodec, everything: Sequence[Pair], sources: Sequence[str], label: str,
                  folds: Sequence[int], most: int | None = None) -> dict[str, Any]:
    """Train and judge a reward model a fold."""
    held, cpu = Held(), 0.0
    for fold in folds:
        mine = [pair for pair in everything if pair.source in sources]
        train = cut(codec, (pair for pair in mine if pair.fold != fold))
        if most is not None:  # of one source with many pairs a question
            order = np.random.default_rng(fold).permutation(len(train))
            kept: dict[str, int] = {}
            chosen = []
            for number in order:
                source = train[number]["source"]
                kept[source] = kept.get(source, 0) + 1
                if kept[source] <= most:
                    chosen.append(train[number])
            train = chosen
        test = cut(codec, (pair for pair in mine if pair.fold == fold))
        tuned = stage(folder, f"sft-{label}-{fold}", train, "backbone", {"kind": "sft"},
                      steps(codec, train, ["chosen"], 1), TUNING, fold)
        model = stage(folder, f"reward-{label}-{fold}", train, tuned.name, REWARD,
                      steps(codec, train, ["chosen", "rejected"], EPOCHS), RATES, fold, DECAY)
        cpu += tuned.lineage.cost.cpu_seconds + model.lineage.cost.cpu_seconds
        held.add(fold, judged(model, test), test, rules(train))
        print(json.dumps(held.folds[-1]), flush=True)
    return {**held.all().plain(), "folds": held.folds, "cpu_seconds": cpu}


def aligned(folder: Path, codec: TextCodec, everything: Sequence[Pair], epochs: float) -> dict[str, Any]:
    """Train DPO on fold 1 from the model tuned on folds 1 and 2, a judge on fold 2, and compare on fold 0."""
    mine = [pair for pair in everything if pair.source in HARMLESS]
    parts = [cut(codec, (pair for pair in mine if pair.fold == fold)) for fold in range(FOLDS)]
    keys = ("chosen", "rejected")
    base = f"sft-{HARMLESS[0]}-0"
    judge = stage(folder, "judge", parts[2], base, REWARD, steps(codec, parts[2], keys, EPOCHS), RATES, 0, DECAY)
    policy = stage(folder, "dpo", parts[1], base, {"kind": "dpo", "beta": 0.1, "sft_weight": 0.2},
                   steps(codec, parts[1], keys, epochs), (0.001, 0.001), 0)
    tuned = Bundle.open(folder / "workshop" / "models" / base)
    prompts = [row["messages"] for row in parts[0]
               if len(codec.encode_chat(row["messages"])) <= CONTEXT - 66][:PROMPTS]
    answers = {}
    for bundle in (tuned, policy):
        engine = Engine.open(bundle)
        requests = [Request(messages=[Message.model_validate(turn) for turn in turns],
                            controls=Controls(seed=number, max_tokens=64, temperature=0.7))
                    for number, turns in enumerate(prompts)]
        answers[bundle.name] = [result.outputs[0].text for result in engine.generate_many(requests)]
    model = RewardModel.load(judge.path)
    scores = {name: np.array(rewards(model, codec, [[*turns, {"role": "assistant", "content": said}] for turns, said in
                                                    zip(prompts, texts, strict=True)]))
              for name, texts in answers.items()}
    before, after = scores[tuned.name], scores[policy.name]
    wins = rate(float((np.sign(after - before) + 1).sum() / 2), len(prompts))
    sizes = {name: np.array([len(codec.encode(said)) for said in texts]) for name, texts in answers.items()}
    fair = sizes[policy.name] >= sizes[tuned.name]  # shorter answers have the higher reward here, whatever they say
    likelihood = {}
    for bundle in (tuned, policy):
        watched = ORPO(load(bundle.path), codec, _Memory(parts[1][:2], parts[0]), context=CONTEXT, batch_tokens=BATCH,
                       micro_batch=BATCH // CONTEXT, seed=0, validation_tokens=10**7)
        likelihood[bundle.name] = validate(watched, "fp32", torch.device("cpu"))
    found = judged(judge, parts[0])
    loss = likelihood[tuned.name]["chosen"] - likelihood[policy.name]["chosen"]
    return {"win_rate": wins, "prompts": len(prompts), "judge_accuracy": rate(float((found[:, 0] > found[:, 1]).sum()),
                                                                            len(found)),
            "reward": {name: float(values.mean()) for name, values in scores.items()},
            "length": {name: float(values.mean()) for name, values in sizes.items()},
            "win_rate_not_shorter": rate(float((np.sign(after - before)[fair] + 1).sum() / 2), int(fair.sum())),
            "chosen_logprob": {name: figures["chosen"] for name, figures in likelihood.items()},
            "preferred": {name: figures["accuracy"] for name, figures in likelihood.items()},
            "likelihood_loss": loss, "cpu_seconds": judge.lineage.cost.cpu_seconds + policy.lineage.cost.cpu_seconds,
            "samples": [{"prompt": turns[-1]["content"], **{name: texts[n] for name, texts in answers.items()}}
                        for n, turns in enumerate(prompts[:5])]}


class _Memory:
    """A dataset held in memory."""

    def __init__(self, train: Sequence[dict[str, Any]], validation: Sequence[dict[str, Any]]) -> None:
        self._splits = {"train": train, "validation": validation}

    def rows(self, split: str) -> Iterable[dict[str, Any]]:
        """Return the rows of a split."""
        return iter(self._splits[split])


def share(figure: Figure) -> str:
    """Return a share with its interval."""
    return f"{figure['value']:.1%} [{figure['low']:.1%}, {figure['high']:.1%}]"


def table(results: dict[str, Any]) -> str:
    """Return the section of RESULTS.md."""
    cpu = sum(part.get("cpu_seconds", 0.0) for part in results.values() if isinstance(part, dict))
    lines = ["## Preferences of people", "",
             f"On {machine()}; {results['parameters'] / 1e6:.1f} million parameters, {cpu / 60:.0f} CPU minutes in "
             f"all, of which {results['backbone']['cpu_seconds'] / 60:.0f} of pretraining. Three folds by first "
             "message, a seed each, every pair held out once; 95 % intervals, of the gain by bootstrap over prompts. "
             "`by length` takes the longer or shorter answer, whichever won more often in the training folds of its "
             f"source. Turns and answers are cut to {CONTEXT} tokens by leaving out the oldest turns; pairs that do not"
             " fit are left out.", "",
             "| held-out pairs | n | reward model | by length | gain | log loss | calibration error | folds |",
             "|---|---|---|---|---|---|---|---|"]
    for label in ("hh-harmless", "small"):
        part = results.get(label)
        if part is None:
            continue
        folds = ", ".join(f"{fold['accuracy']['value']:.1%}" for fold in part["folds"])
        lines.append(f"| {'preference_small' if label == 'small' else label} | {part['accuracy']['n']:,} | "
                     f"**{share(part['accuracy'])}** | {share(part['length'])} | {share(part['gain'])} | "
                     f"{part['log_loss']:.4f} | {part['error']:.1%} | {folds} |")
        lines += [f"| – {name} | {source['accuracy']['n']:,} | {share(source['accuracy'])} | {share(source['length'])} "
                  "| | | | |" for name, source in part["sources"].items()]
    part = results.get("dpo")
    if part is not None:
        tuned, policy = list(part["reward"])
        reward, size, said = (part[name] for name in ("reward", "length", "chosen_logprob"))
        lines += ["", (
            f"DPO on the harmless pairs of one fold: answers to {part['prompts']} held-out prompts (temperature 0.7, "
            f"at most 64 tokens) win **{share(part['win_rate'])}** against those of the tuned model it starts from, by "
            "a reward model that learned from another fold (right on "
            f"{share(part['judge_accuracy'])} of held-out pairs). Mean reward {reward[tuned]:+.2f} → "
            f"{reward[policy]:+.2f}, length {size[tuned]:.0f} → {size[policy]:.0f} tokens; of the "
            f"{part['win_rate_not_shorter']['n']} answers that are not shorter {share(part['win_rate_not_shorter'])} "
            "win. Held-out chosen answers "
            f"cost {part['likelihood_loss']:+.3f} nats a token more ({-said[tuned]:.3f} → {-said[policy]:.3f}; at most "
            f"{LOSS:.2f} was allowed); chosen has the higher odds in {part['preferred'][tuned]:.1%} → "
            f"{part['preferred'][policy]:.1%}.")]
    return "\n".join(lines)


def main() -> None:
    """Train, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("workshop/preferences"))
    parser.add_argument("--only", choices=("hh", "small", "dpo"), nargs="+", default=["hh", "small", "dpo"])
    parser.add_argument("--folds", type=int, nargs="+", default=list(range(FOLDS)), help="fewer only make the models")
    options = parser.parse_args()
    if "BOTTEGA_DATA" not in os.environ:
        parser.error("set BOTTEGA_DATA to the folder of the data")
    data = Path(os.environ["BOTTEGA_DATA"])
    everything = pairs(data)
    base = backbone(options.folder, data)
    codec = TextCodec.load(base.path)
    place = options.folder / "results.json"
    results: dict[str, Any] = json.loads(place.read_text()) if place.is_file() else {}
    results |= {"parameters": base.meta["derived"]["parameters"],
                "backbone": {**base.meta["metrics"], "cpu_seconds": base.lineage.cost.cpu_seconds}}
    if "hh" in options.only:
        results["hh-harmless"] = reward_models(options.folder, codec, everything, HARMLESS, HARMLESS[0], options.folds)
    if "small" in options.only:
        results["small"] = reward_models(options.folder, codec, everything, SMALL, "small", options.folds, 600)
    if "dpo" in options.only and len(options.folds) == FOLDS:
        results["dpo"] = aligned(options.folder, codec, everything, 2)
    if len(options.folds) < FOLDS:
        return
    assert all(math.isfinite(value) for value in results["backbone"].values())
    write_json(place, results)
    section = table(results)
    update("preferences", section)
    print(section)


if __name__ == "__main__":
    main()
