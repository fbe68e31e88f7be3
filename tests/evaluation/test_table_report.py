"""The page about a table is well-formed, escaped, and has its JSON beside it."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bottega.core.table import Table
from bottega.evaluation.table_charts import distributions, heat_map
from bottega.evaluation.table_report import write_page
from bottega.evaluation.table_shapes import compare
from bottega.evaluation.tables import judge_table
from tests.evaluation.test_tables import people, table


class Adults:
    text = "age >= 18 <b>"

    def broken(self, rows: Table) -> NDArray[np.bool_]:
        return np.asarray(rows.values("age") < 18)


def test_page_and_json(tmp_path: Path) -> None:
    real, made = people(80, 0), people(80, 1)
    scores = judge_table(made, real, people(80, 2), seed=0, quick=True, rules=[Adults()])
    path = write_page(scores, real, made, tmp_path / "table.html", title="People & <co>", facts={"model": "none"})
    page = path.read_text()
    assert "People &amp; &lt;co&gt;" in page
    assert "age &gt;= 18 &lt;b&gt;" in page
    assert "<script" not in page
    found = json.loads((tmp_path / "table.json").read_text())
    assert found["broken"][0]["rows"] == int((made.values("age") < 18).sum())
    assert found["refused"] == []


def test_charts_are_well_formed() -> None:
    one = table(a=[1.0, 1.0, None], b=["<x>", None, "y"], c=[None, None, None])
    for figure in [*distributions(one, one), heat_map(compare(one, one).pairs, ["a", "b", "c"])]:
        ET.fromstring(figure)
