"""The studio's Python without a browser: its controls are the typed ones, its columns are whole."""

import math

import pytest

from bottega.core.request import Controls
from bottega.studio.controls import PICTURES, TEXT, controls
from bottega.studio.inside import columns
from bottega.studio.studio import number, size


def test_every_slider_stays_in_what_the_type_allows() -> None:
    for control in controls(TEXT) + controls(PICTURES):
        for value in (control.low, control.high):
            if value is not None:
                Controls.parse({control.name: int(value) if control.whole else value})


def test_a_position_keeps_the_chosen_token_and_sums_up() -> None:
    others = [{"token": 1, "text": " dog", "logprob": math.log(0.5), "probability": 0.75},
              {"token": 2, "text": " cow", "logprob": math.log(0.1), "probability": 0.0}]
    position = columns({"token": 3, "token_text": " cat", "text": " cat", "logprob": math.log(0.2),
                        "probability": 0.25, "alternatives": others})
    assert [(row["text"], row["chosen"]) for row in position["rows"]] == [
        (" dog", False), (" cat", True), (" cow", False)]
    assert position["rest"] == {"model": pytest.approx(0.2), "after": pytest.approx(0.0)}


def test_figures_for_people() -> None:
    assert [number(value) for value in (2558144, 0.88889, 3.0, 12345.6, True, "x", math.inf)] == [
        "2,558,144", "0.8889", "3", "12,346", "True", "x", "–"]
    assert [size(value) for value in (12, 4_200, 10_500_000)] == ["12 B", "4.2 kB", "10.5 MB"]
