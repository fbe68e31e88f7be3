"""The generators of tables.py, each run in a process and an environment of its own.

    python benchmarks/_table_peers.py GENERATOR FOLDER SEED     # reads train.parquet, writes GENERATOR.parquet
    python benchmarks/_table_peers.py quality FOLDER GENERATOR  # SDMetrics' QualityReport of GENERATOR.parquet

FOLDER/kinds.json says which columns are numbers and which are categories. Library defaults, one thread, as many rows
as there are to train on. The last line printed is JSON: processor-seconds of fitting and of sampling, imports left
out; or the two scores of QualityReport.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAME = "table"
EPOCHS = 300  # CTGAN's and TVAE's default, given by name so that it cannot change


def seconds() -> float:
    """Return processor-seconds of this process and its children so far."""
    return sum(os.times()[:4])


def metadata(folder: Path) -> dict[str, Any]:
    """Return the columns as SDV and SDMetrics name their kinds."""
    kinds = json.loads((folder / "kinds.json").read_text())
    return {"columns": {name: {"sdtype": kind} for name, kind in kinds.items()}}


def sdv(folder: Path, seed: int, which: str) -> tuple[Callable[[], None], Callable[[], Any]]:
    """Return fit and sample of one of SDV's synthesizers (version 2: tables come and go in a dict)."""
    import numpy as np
    import pandas as pd
    import torch
    from sdv.metadata import Metadata
    from sdv.single_table import CTGANSynthesizer, GaussianCopulaSynthesizer, TVAESynthesizer

    np.random.seed(seed)
    torch.manual_seed(seed)
    train = pd.read_parquet(folder / "train.parquet")
    about = Metadata.load_from_dict({"tables": {NAME: metadata(folder)}, "relationships": []})
    model = {"copula": lambda: GaussianCopulaSynthesizer(about),
             "ctgan": lambda: CTGANSynthesizer(about, epochs=EPOCHS, enable_gpu=False),
             "tvae": lambda: TVAESynthesizer(about, epochs=EPOCHS, enable_gpu=False)}[which]()
    return lambda: model.fit({NAME: train}), lambda: model.sample(len(train))[NAME]


def mostly(folder: Path, seed: int) -> tuple[Callable[[], None], Callable[[], Any]]:
    """Return fit and sample of MOSTLY AI's TabularARGN, at its defaults."""
    import pandas as pd
    from mostlyai.engine import TabularARGN, set_random_state

    set_random_state(seed)
    train = pd.read_parquet(folder / "train.parquet")
    model = TabularARGN(device="cpu", verbose=0)
    return lambda: model.fit(train), lambda: model.sample(n_samples=len(train))


def bottega(folder: Path, seed: int) -> tuple[Callable[[], None], Callable[[], Any]]:
    """Return fit and sample of ours, at its defaults: a table goes in, no kinds are told."""
    import pyarrow.parquet as pq

    from bottega import tables
    from bottega.training import run  # noqa: F401  what fitting imports, torch among it

    rows, made = pq.ParquetFile(folder / "train.parquet").metadata.num_rows, []
    home = Path(tempfile.mkdtemp(dir=folder))

    def fit() -> None:
        made.append(tables.fit(folder / "train.parquet", seed=seed, home=home))

    return fit, lambda: made[0].sample(rows, seed=seed).data


def generate(name: str, folder: Path, seed: int) -> dict[str, float]:
    """Fit and sample, write the rows, and return processor-seconds of both."""
    import torch

    torch.set_num_threads(1)
    fit, sample = bottega(folder, seed) if name == "bottega" else mostly(folder, seed) if name == "mostly" else \
        sdv(folder, seed, name)
    began = seconds()
    fit()
    fitted = seconds()
    rows = sample()
    done = seconds()
    if hasattr(rows, "to_parquet"):
        rows.to_parquet(folder / f"{name}.parquet", index=False)
    else:
        import pyarrow.parquet as pq

        pq.write_table(rows, folder / f"{name}.parquet")
    return {"fit": fitted - began, "sample": done - fitted}


def quality(folder: Path, name: str) -> dict[str, float]:
    """Return SDMetrics' column shapes and pair trends of a generator's rows against the training rows.

    Since version 0.30 the report averages only pairs that are clearly linked in the real table. Missing categories are
    made None in both tables: it takes pandas' NA, which MOSTLY AI's rows hold, for a level of its own (.77 for .83).
    """
    import pandas as pd
    from sdmetrics.reports.single_table import QualityReport

    report = QualityReport()
    train, made = (pd.read_parquet(folder / f"{part}.parquet") for part in ("train", name))
    about = metadata(folder)
    for column, kind in about["columns"].items():
        if kind["sdtype"] == "categorical":
            for table in (train, made):
                table[column] = table[column].astype(object).where(table[column].notna(), None)
    report.generate(train, made, about, verbose=False)
    values = report.get_properties().set_index("Property")["Score"]
    return {"shapes": float(values["Column Shapes"]), "trends": float(values["Column Pair Trends"])}


if __name__ == "__main__":
    if sys.argv[1] == "quality":
        found = quality(Path(sys.argv[2]), sys.argv[3])
    else:
        found = generate(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
    print(json.dumps(found))
