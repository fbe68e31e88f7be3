"""The controls as command-line options, written once for `generate`, `chat` and `explain`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from bottega.core.request import Controls

_OPTIONS: dict[str, tuple[Any, tuple[str, ...], str]] = {
    "temperature": (float, ("-t",), "0: always the most probable token; 1: the model's own spread."),
    "top_k": (int, (), "Keep the k most probable tokens (0: all)."),
    "top_p": (float, (), "Keep the smallest set of tokens whose probability reaches p."),
    "min_p": (float, (), "Keep tokens at least this share as probable as the best."),
    "repetition_penalty": (float, (), "Above 1: tokens already seen become less probable."),
    "presence_penalty": (float, (), "Subtracted once for a token already in the output."),
    "frequency_penalty": (float, (), "Subtracted for each time a token is in the output."),
    "logit_bias": (list[str], (), "TOKEN=NUMBER: -100 forbids, 100 forces (repeatable)."),
    "seed": (int, (), "Same seed, same model, same request: same bytes."),
    "max_tokens": (int, (), "At most this many new tokens."),
    "stop": (list[str], (), "End before this string (repeatable)."),
    "n": (int, ("-n",), "How many outputs."),
    "steps": (int, (), "Of pictures: denoising steps."),
    "sampler": (str, (), "Of pictures: euler, heun or dpm."),
    "guidance_scale": (float, (), "Of pictures: how closely the prompt is followed."),
    "negative_prompt": (str, (), "Of pictures: what to stay away from."),
    "strength": (float, (), "Of pictures with --image: 0 keeps it, 1 draws it all anew."),
    "size": (str, (), "Of pictures: WIDTHxHEIGHT, where the model can choose."),
    "rows": (int, (), "Of tables: how many rows; of sequences: entities, each with all its rows; of graphs: how many."),
    "nodes": (int, (), "Of graphs: nodes of each."),
    "where": (list[str], (), "Of tables: what every row holds, such as 'age > 70' (repeatable)."),
    "balance": (list[str], (), "Of tables: COLUMN:LEVEL=SHARE, such as income:high=0.5 (repeatable)."),
    "fair": (str, (), "Of tables: TARGET:GROUP, such as income:sex: the first says nothing about the second."),
    "best_of": (int, (), "Make this many, keep the n most probable."),
    "json_schema": (Path, (), "File with the JSON schema the output must match."),
    "regex": (str, (), "Regular expression the output must match."),
    "grammar": (Path, (), "File with the Lark grammar the output must match."),
}


def with_controls(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the control options; it receives those that were set as one `Controls` argument, `controls`."""
    # Controls is imported for type checks only, so its name is given a stand-in here.
    hints = get_type_hints(verb, localns={"Controls": object}, include_extras=True)
    own = [p.replace(annotation=hints[p.name])
           for p in inspect.signature(verb).parameters.values() if p.name != "controls"]
    extra = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[
            kind | None, typer.Option("--" + name.replace("_", "-"), *short, help=text, rich_help_panel="Controls")])
        for name, (kind, short, text) in _OPTIONS.items()
    ]

    def command(**values: Any) -> None:
        given = {name: values.pop(name) for name in _OPTIONS}
        verb(**values, controls=parse_controls({k: v for k, v in given.items() if v not in (None, [])}))

    command.__doc__, command.__name__ = verb.__doc__, verb.__name__
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + extra
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def parse_controls(values: dict[str, Any]) -> Controls:
    """Turn option values into checked controls.

    Raises:
        ControlError: a value is out of range or a bias is not TOKEN=NUMBER.
        InputError: a schema or grammar file is not there or not readable.
    """
    from bottega.core.errors import ControlError, InputError
    from bottega.core.files import read_json
    from bottega.core.request import Controls

    values = dict(values)
    shapes: dict[str, Any] = {}
    if "json_schema" in values:
        shapes["json_schema"] = read_json(Path(values.pop("json_schema")))
    if "regex" in values:
        shapes["regex"] = values.pop("regex")
    if "grammar" in values:
        path = Path(values.pop("grammar"))
        try:
            shapes["grammar"] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"grammar {path} cannot be read: {error}", fix="give a text file") from None
    if shapes:
        values["format"] = shapes
    if "logit_bias" in values:
        biases = {}
        for item in values["logit_bias"]:
            token, sign, number = item.rpartition("=")
            try:
                biases[token] = float(number)
            except ValueError:
                sign = ""
            if not sign or not token:
                raise ControlError(f"logit_bias: '{item}' is not TOKEN=NUMBER", where="command line",
                                   fix="for instance --logit-bias ' the=-5'")
        values["logit_bias"] = biases
    if "where" in values:
        values["conditions"] = values.pop("where")
    if "fair" in values:
        target, _, group = str(values["fair"]).partition(":")
        if not (target and group):
            raise ControlError(f"fair: '{values['fair']}' is not TARGET:GROUP", where="command line",
                               fix="for instance --fair income:sex")
        values["fair"] = {target: group}
    if "balance" in values:
        shares: dict[str, dict[str, float]] = {}
        for item in values["balance"]:
            place, _, number = item.rpartition("=")
            column, sign, level = place.partition(":")
            try:
                shares.setdefault(column, {})[level] = float(number)
            except ValueError:
                sign = ""
            if not sign:
                raise ControlError(f"balance: '{item}' is not COLUMN:LEVEL=SHARE", where="command line",
                                   fix="for instance --balance income:high=0.5 --balance income:low=0.5")
        values["balance"] = shares
    return Controls.parse(values, where="command line")
