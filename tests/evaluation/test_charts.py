"""Charts are well-formed, bounded in size and honest about their numbers."""

import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottega.evaluation.charts import Series, bars, line_chart, number, thin, ticks

ANY = st.floats(-1e300, 1e300) | st.sampled_from([math.nan, math.inf, -math.inf])
FINITE = st.floats(-1e9, 1e9)


@given(FINITE, st.floats(1e-6, 1e9))
def test_ticks_lie_inside_and_are_round(low: float, span: float) -> None:
    found = ticks(low, low + span)
    assert len(found) <= 12
    slack = 1e-6 * max(abs(low), span, 1.0)
    assert all(low - slack <= tick <= low + span + slack for tick in found)


@given(st.lists(st.tuples(ANY, ANY), max_size=500), st.integers(2, 50))
def test_thin_keeps_the_end_and_the_range(points: list[tuple[float, float]], most: int) -> None:
    clean = [p for p in points if math.isfinite(p[0]) and math.isfinite(p[1])]
    found = thin(points, most)
    assert len(found) <= most
    if clean:
        assert found[-1] == clean[-1]


@given(st.lists(st.tuples(st.floats(0, 1e6), FINITE), max_size=300), st.dictionaries(st.text(), FINITE, max_size=3))
def test_any_curve_is_well_formed_xml(points: list[tuple[float, float]], rules: dict[str, float]) -> None:
    rules = {"".join(c for c in name if c.isprintable()): value for name, value in rules.items()}
    figure = str(line_chart([Series("a <b>", points, dots=True)], title="t & u", x="min", y="nats", rules=rules))
    if not points:
        assert figure == ""
        return
    root = ET.fromstring(figure)
    assert "nan" not in figure
    assert len(root.findall(".//circle")) <= 240


def test_chart_names_its_values_for_those_who_cannot_see_it() -> None:
    figure = ET.fromstring(line_chart([Series("held out", [(0, 4.0), (1, 1.5)])], title="Bits per byte", x="minutes",
                                      y="", rules={"gzip": 2.25}))
    svg = figure.find("svg")
    assert svg is not None
    assert svg.get("aria-label") == "Bits per byte: held out from 4 to 1.5; gzip at 2.25"


def test_bars_escape_and_sort() -> None:
    table = str(bars({"few <i>": 2, "many": 10}, title="t"))
    assert table.index("many") < table.index("few &lt;i&gt;")
    assert "--w:20.0%" in table
    assert bars({}, title="t") == ""


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (1.23456, "1.23"), (1234, "1234"), (12345, "12.3k"),
                                             (7.2e6, "7.2M"), (3e9, "3G"), (math.nan, "–"), (math.inf, "–")])
def test_number(value: float, text: str) -> None:
    assert number(value) == text
