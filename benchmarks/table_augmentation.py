"""More of a rare class: trees trained on real rows and synthetic ones of Bottega or SMOTE, beside real rows alone.

    BOTTEGA_DATA=/path/to/data python benchmarks/table_augmentation.py --seeds 0 1 2 3 4 5 6 7 8 9
    python benchmarks/table_augmentation.py --quick          # breast cancer, two seeds; writes nothing

Needs imbalanced-learn (`requirements.txt`). Every seed splits the table, trains the generator on the training rows
alone and tests all arms, the same boosted trees on different rows, on the same held-out rows. Where a class is not rare
of itself, rows of it are left out, in training and test alike. Figures of each seed are kept in `--folder` and taken as
they are. The defaults of `bottega.tables.augment` were chosen on seeds 1000 to 1005. Writes `table_augmentation`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _report import machine, update
from _table_data import SETS, read_table
from numpy.typing import NDArray

from bottega import tables
from bottega.core.table import Table, join
from bottega.evaluation.statistics import Figure
from bottega.evaluation.table_augmentation import DRAWN, Rare, class_chances, convincing, f1, paired, rare

MOST_TESTED = 3000
ARMS = {"real": "real rows alone", "weighted": "real, class weights", "smote": "real + SMOTE, to a half",
        "smote-halfway": "real + SMOTE, halfway", "smote-picked": "real + SMOTE, halfway, picked",
        "plain": "real + Bottega, to a half, unpicked", "ours": "**real + Bottega (`augment`)**"}
AGAINST = {"real": "real alone", "weighted": "class weights", "smote": "SMOTE, to a half",
           "smote-halfway": "SMOTE, halfway", "smote-picked": "SMOTE, picked"}
SCORES = {"f1": "F1 at 0.5", "rated": "F1 at the class's rate", "precision": "average precision"}


@dataclass(frozen=True)
class Case:
    """A rare class.

    Attributes:
        target, level: the column and its class; the rarest one if None.
        most: training rows; half of all if None.
        thinned: the share that the class is brought down to, if any.
    """

    target: str
    level: str | None = None
    most: int | None = None
    thinned: float | None = None


CASES = {"adult": Case("income", ">50K", most=500), "mammography": Case("class", most=1500),
         "diamonds": Case("cut", "Fair", most=1000), "pima": Case("outcome", "1", thinned=0.1),
         "titanic": Case("survived", thinned=0.1), "breast-cancer": Case("diagnosis", thinned=0.1),
         "haberman": Case("status")}


def parts(name: str, data: Path | None, seed: int) -> tuple[Table, Table, Rare]:
    """Return rows to train on, rows to test on, and the class among the first."""
    case, table = CASES[name], read_table(name, data)
    keep = [column for column in table.schema.names if column not in SETS[name].twins]
    table = Table(table.schema.model_copy(update={"columns": [table.schema.column(column) for column in keep]}),
                  table.data.select(keep))
    of, rng = rare(table, case.target, case.level), np.random.default_rng(seed)
    codes, levels = table.codes(case.target)
    of_class = codes == levels.index(of.level)
    if case.thinned:
        kept = round((~of_class).sum() * case.thinned / (1 - case.thinned))
        some = rng.permutation(np.flatnonzero(of_class))[:kept]
        table = table.take(np.sort(np.concatenate([np.flatnonzero(~of_class), some])))
    order = rng.permutation(len(table))
    count = min(case.most or len(table), len(table) // 2)
    train, test = table.take(order[:count]), table.take(order[count:count + MOST_TESTED])
    return train, test, rare(train, of.target, of.level, test=test)


def smote(train: Table, of: Rare, count: int, seed: int) -> Table:
    """Return rows of the class as imbalanced-learn makes them, at its defaults.

    It takes no gaps: a missing category is a level of its own, a missing number the median.
    """
    import pyarrow as pa
    from imblearn.over_sampling import SMOTE, SMOTEN, SMOTENC

    names = [name for name in train.schema.names if name != of.target]
    columns, levels = [], {}
    for name in names:
        if train.schema.column(name).ordered:
            values = train.values(name)
            columns.append(np.where(np.isnan(values), np.nanmedian(values), values))
        else:
            codes, words = train.codes(name)
            levels[name] = [*words, None]
            columns.append(np.where(codes < 0, len(words), codes).astype(np.float64))
    codes, words = train.codes(of.target)
    truth = (codes == words.index(of.level)).astype(int)
    coded = [place for place, name in enumerate(names) if name in levels]
    asked = {"sampling_strategy": {1: of.support + count}, "random_state": seed, "k_neighbors": min(5, of.support - 1)}
    maker = SMOTE(**asked) if not coded else SMOTEN(**asked) if len(coded) == len(names) else SMOTENC(coded, **asked)
    made = maker.fit_resample(np.column_stack(columns), truth)[0][len(train):]
    found = {of.target: pa.array([of.level] * count, train.data[of.target].type)}
    for place, name in enumerate(names):
        kind = train.data[name].type
        found[name] = pa.array([levels[name][int(code)] for code in made[:, place]], kind) if name in levels else \
            pa.array(made[:, place]).cast(kind, safe=False)
    return Table(train.schema, pa.table({name: found[name] for name in train.schema.names}))


def measured(name: str, data: Path | None, seed: int) -> dict[str, dict[str, float]]:
    """Return arm → scores on one split."""
    train, test, of = parts(name, data, seed)
    some, half = of.missing(), of.missing(0.5)
    with tempfile.TemporaryDirectory() as home:
        model = tables.fit(train.data, name="rows", seed=seed, home=Path(home))
        ours = tables.augment(train.data, of.target, level=of.level, seed=seed, model=model)
        plain = model.sample(half, seed=seed, conditions={of.target: of.level})
    more = {"smote": smote(train, of, half, seed), "smote-halfway": smote(train, of, some, seed),
            "smote-picked": convincing(train, smote(train, of, DRAWN * some, seed), of, some, seed=seed),
            "plain": plain, "ours": ours}
    arms = {"real": train, "weighted": train,
            **{arm: join([train, Table(train.schema, made.data)]) for arm, made in more.items()}}
    truth, chances = class_chances(of, test, arms, seed, weighted=["weighted"])
    called = max(1, round(of.support / of.labelled * len(truth)))
    found = {arm: scored(chance, truth, called) for arm, chance in chances.items()}
    found["rows"] = {"train": len(train), "support": of.support, "test": len(test), "tested": int(truth.sum()),
                     "added": some}
    return found


def scored(chance: NDArray[np.float64], truth: NDArray[np.bool_], called: int) -> dict[str, float]:
    """Return F1 at a probability of one half, F1 when so many rows are called as the class's training share is of
    them, and average precision, which needs no threshold."""
    from sklearn.metrics import average_precision_score

    first = np.zeros(len(truth), bool)
    first[np.argsort(-chance, kind="stable")[:called]] = True
    return {"f1": f1(chance >= 0.5, truth), "rated": f1(first, truth),
            "precision": float(average_precision_score(truth, chance))}


def kept(name: str, arguments: argparse.Namespace, seed: int) -> dict[str, dict[str, float]]:
    """Return the scores of a split, measured now or before."""
    path = arguments.folder / f"{name}-{seed}.json"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(measured(name, arguments.data, seed)))
    found: dict[str, dict[str, float]] = json.loads(path.read_text())
    print(name, seed, {arm: round(scores["f1"], 3) for arm, scores in found.items() if arm in ARMS}, file=sys.stderr,
          flush=True)
    return found


def gain(found: list[dict[str, dict[str, float]]], against: str, score: str) -> Figure:
    """Return what ours gains over another arm, with its interval over the splits."""
    gains = np.array([one["ours"][score] - one[against][score] for one in found])
    return paired(gains, np.random.default_rng(0))


def signed(figure: Figure) -> str:
    """Return a difference with its interval, bold where that excludes zero."""
    text = f"{figure['value']:+.3f} ({figure['low']:+.3f} to {figure['high']:+.3f})"
    return f"**{text}**" if figure["low"] > 0 or figure["high"] < 0 else text


def pages(results: dict[str, list[dict[str, dict[str, float]]]], seeds: list[int]) -> str:
    """Return the section."""
    count = len(seeds)
    lines = ["## More of a rare class (table_augmentation.py)", "",
             f"`python benchmarks/table_augmentation.py --seeds {' '.join(map(str, seeds))}` on {machine()}, 1 thread. "
             f"Means over {count} splits of each table (standard deviation); the same boosted trees in all arms, "
             "tested on held-out real rows. The generator has seen training rows only. *To a half* fills the class up "
             "to half of the rows, SMOTE's default; *halfway* up to the middle between its own share and a half; "
             f"*picked* keeps of {DRAWN} times as many rows those that trees of the real rows most take for the class; "
             "`augment` is both. "
             "F1 at the class's rate calls as many test rows as the class's training share is of them: all arms then "
             "differ in ranking only. Differences are paired, with bootstrap intervals over splits; as splits of a "
             "table overlap, they speak of splits and trees, not of other tables. Bold: zero is outside.", ""]
    for score, title in SCORES.items():
        lines += [f"### {title}", "", "| | " + " | ".join(SETS[name].title for name in results) + " |",
                  f"|---|{'--:|' * len(results)}"]
        for arm, called in ARMS.items():
            cells = [f"{np.mean(values):.3f} ({np.std(values, ddof=1):.3f})" for values in
                     ([one[arm][score] for one in found] for found in results.values())]
            lines.append(f"| {called} | {' | '.join(cells)} |")
        for arm, called in AGAINST.items():
            cells = [signed(gain(found, arm, score)) for found in results.values()]
            lines.append(f"| *gain over {called}* | {' | '.join(cells)} |")
        lines.append("")
    won = []
    for arm, called in AGAINST.items():
        gains = [gain(found, arm, "f1") for found in results.values()]
        won.append(f"over {called} {sum(one['low'] > 0 for one in gains)} better and "
                   f"{sum(one['high'] < 0 for one in gains)} worse")
    lines += [f"F1 at 0.5, tables of {len(results)} whose interval leaves zero out: {'; '.join(won)}.", ""]
    rows = [f"{SETS[name].title} {CASES[name].target} = {found[0]['rows']['train']:.0f} training rows, "
            f"{np.mean([one['rows']['support'] for one in found]):.0f} of the class, "
            f"{np.mean([one['rows']['added'] for one in found]):.0f} added, {found[0]['rows']['test']:.0f} test rows, "
            f"{np.mean([one['rows']['tested'] for one in found]):.0f} of the class" for name, found in results.items()]
    return "\n".join([*lines, f"Rows: {'; '.join(rows).replace(' = ', ': ')}.", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("BOTTEGA_DATA"))
    parser.add_argument("--folder", type=Path, default=Path("workshop/augmentation-benchmark"))
    parser.add_argument("--tables", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(10)))
    parser.add_argument("--quick", action="store_true", help="breast cancer, two seeds; writes nothing")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.tables, arguments.seeds = ["breast-cancer"], [0, 1]
    arguments.data = Path(arguments.data) if arguments.data else None
    there = [name for name in arguments.tables if SETS[name].there(arguments.data)]
    results: dict[str, list[dict[str, dict[str, float]]]] = {name: [] for name in there}
    for seed in arguments.seeds:
        for name in there:
            results[name].append(kept(name, arguments, seed))
    text = pages(results, arguments.seeds)
    print(text)
    if not arguments.quick:
        update("table_augmentation", text)


if __name__ == "__main__":
    main()
