"""The glass box as a picture and as data."""

import json

from rich.console import Console

from bottega.core.request import Controls, Request
from bottega.generation.engine import Engine
from bottega.generation.explain import as_data, render, render_outputs

REQUEST = Request(prompt="The cat", alternatives=3, controls=Controls(seed=1, max_tokens=5, temperature=0.7, top_k=9))


def printed(picture: object) -> str:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(picture)
    return console.export_text()


def test_picture_shows_text_probabilities_rivals_and_controls(engine: Engine) -> None:
    result = engine.generate(REQUEST)
    picture = printed(render(result))
    assert f"seed {result.seed}" in picture
    for step in result.outputs[0].steps:
        assert f"{step.probability:.1%}" in picture
    assert "top_k 9: removed" in picture
    assert "temperature 0.7: entropy" in picture


def test_data_is_json_with_every_step(engine: Engine) -> None:
    data = json.loads(json.dumps(as_data(engine.generate(REQUEST))))
    steps = data["outputs"][0]["steps"]
    assert len(steps) == 5
    assert 0 < steps[0]["probability"] <= 1
    assert len(steps[0]["alternatives"]) == 3
    assert data["lineage"]["controls"]["top_k"] == 9


def test_a_scored_answer_and_several_outputs_are_shown(engine: Engine) -> None:
    assert "one" in printed(render_outputs([engine.score("x", "one two", alternatives=2)]))
    several = Request(prompt="x", controls=Controls(n=2, max_tokens=3, seed=1))
    assert "mean log-probability" in printed(render_outputs(engine.generate(several).outputs))
