"""Rules that every row of a table keeps, written as short texts: `codec: {kind: table, rules: ["admit <= discharge"]}`.

    admit <= discharge       an order (<, <=, >, >= between two columns)
    0 <= age <= 120          a range (one or two bounds; a date in quotes)
    total == a + 2 * b       a formula of + - * / over columns and numbers
    city -> country          each value of the first has one of the second
    (make, model)            only combinations that were seen
    unique (code)            no two rows alike in these columns

A name that is no plain word stands in backquotes. A text is parsed and walked, never executed.
`pytest tests/codecs/test_table.py` exercises it.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bottega.core.errors import InputError, RecipeError, suggest
from bottega.core.table import Schema, Table

Form = Literal["order", "range", "formula", "function", "combination", "unique"]
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
_COMPARE: dict[type[ast.cmpop], str] = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "=="}
_QUOTED = re.compile(r"`([^`]+)`")
_SLACK = 1e-9  # of a formula's value: sums of decimals are not exact
_FIX = 'write one such as "admit <= discharge", "0 <= age <= 120", "total == a + b", "city -> country", ' \
       '"(make, model)" or "unique (code)"'
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        text: as written.
        form: which of the six.
        columns: what it is about: the two of an order (the smaller first), the one of a range, the result of a formula
            and then its parts, what a function goes from and to, the members of a combination or of a unique key.
        strict: of an order: equal is not enough.
        low, high: of a range, None for no bound; `open_low`, `open_high`: the bound itself is not allowed.
        tree: of a formula.
    """

    text: str
    form: Form
    columns: list[str]
    strict: bool = False
    low: float | None = None
    high: float | None = None
    open_low: bool = False
    open_high: bool = False
    tree: ast.expr | None = field(default=None, compare=False, repr=False)
    names: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    def value(self, columns: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return a formula's result for each row, NaN where a part is missing or a division is by 0."""
        assert self.tree is not None
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.asarray(_evaluate(self.tree, self.names, columns), np.float64)
        found = np.broadcast_to(found, next(iter(columns.values())).shape).copy()
        found[~np.isfinite(found)] = np.nan
        return found

    def broken(self, table: Table) -> Mask:
        """Return which rows break the rule, bool [N]. A missing value breaks none.

        A function or combination is judged by what most rows of this very table say; `Mapping` of the codec by what
        the training rows said.
        """
        if self.form == "range":
            return self._outside(table.values(self.columns[0]))
        if self.form == "order":
            small, large = (table.values(name) for name in self.columns)
            found: Mask = small >= large if self.strict else small > large
            return found
        if self.form == "formula":
            parts = {name: table.values(name) for name in self.columns[1:]}
            want, have = self.value(parts), table.values(self.columns[0])
            unit = 10.0 ** -(table.schema.column(self.columns[0]).decimals or 0) / 2 * (1 + 1e-6)
            loose = unit if table.schema.column(self.columns[0]).decimals is not None else 0.0
            off: Mask = np.abs(want - have) > np.maximum(_SLACK * np.maximum(np.abs(want), 1.0), loose)
            return off
        keys = [table.codes(name)[0].astype(np.int64) for name in self.columns]
        if self.form == "unique":
            _, first = np.unique(np.stack(keys), axis=1, return_index=True)
            again = np.ones(len(table), bool)
            again[first] = False
            whole: Mask = again & ~np.any([key < 0 for key in keys], axis=0)
            return whole
        if self.form == "function":
            return _not_most(keys[0], keys[1])
        return np.zeros(len(table), bool)

    def _outside(self, values: NDArray[np.float64]) -> Mask:
        below = np.zeros(len(values), bool) if self.low is None else \
            values <= self.low if self.open_low else values < self.low
        above = np.zeros(len(values), bool) if self.high is None else \
            values >= self.high if self.open_high else values > self.high
        found: Mask = below | above
        return found


def _not_most(key: NDArray[np.int64], value: NDArray[np.int64]) -> Mask:
    """Return which rows hold another value than most rows of the same key."""
    pairs, place, count = np.unique(np.stack([key, value]), axis=1, return_inverse=True, return_counts=True)
    best: dict[int, tuple[int, int]] = {}
    for (left, right), rows in zip(pairs.T.tolist(), count.tolist(), strict=True):
        best[left] = max(best.get(left, (0, 0)), (rows, right))
    wrong = np.array([best[left][1] != right for left, right in pairs.T.tolist()])
    found: Mask = wrong[place.reshape(-1)] & (key >= 0)
    return found


def parse(text: str, schema: Schema) -> Rule:
    """Read a rule about a table's columns.

    Raises:
        RecipeError: it is no rule, or compares what cannot be compared; an unknown column is named with the nearest.
    """
    names: dict[str, str] = {}

    def word(match: re.Match[str]) -> str:
        names[f"column_{len(names)}"] = match[1]
        return f"column_{len(names) - 1}"

    body = _QUOTED.sub(word, text.strip())
    plain = {word: word for word in re.findall(r"[A-Za-z_]\w*", body)}
    names = {**plain, **names}
    for pattern, form in ((r"unique\s*\((.+)\)", "unique"), (r"unique\s+(\w+)", "unique"), (r"\((.+,.+)\)",
                          "combination"), (r"(\w+)\s*->\s*(\w+)", "function")):
        match = re.fullmatch(pattern, body)
        if match:
            members = [part.strip() for group in match.groups() for part in group.split(",")]
            columns = [_column(names.get(member, member), schema, text) for member in members]
            return Rule(text, form, columns)  # type: ignore[arg-type]
    try:
        tree = ast.parse(body, mode="eval").body
    except (SyntaxError, ValueError, RecursionError):
        raise RecipeError(f"'{text}' is not a rule of a table", where="codec.rules", fix=_FIX) from None
    if not isinstance(tree, ast.Compare) or any(type(one) not in _COMPARE for one in tree.ops):
        raise RecipeError(f"'{text}' is not a rule of a table", where="codec.rules", fix=_FIX)
    signs, sides = [_COMPARE[type(one)] for one in tree.ops], [tree.left, *tree.comparators]
    if signs == ["=="]:
        return _formula(text, sides, names, schema)
    if "==" in signs or len(signs) > 2:
        raise RecipeError(f"'{text}' compares too much at once", where="codec.rules", fix="write one rule for each")
    if len(signs) == 1 and all(isinstance(side, ast.Name) for side in sides):
        small, large = (_column(names[side.id], schema, text) for side in sides)  # type: ignore[attr-defined]
        small, large = (large, small) if signs[0].startswith(">") else (small, large)
        _ordered(schema, [small, large], text)
        if (schema.column(small).kind == "datetime") != (schema.column(large).kind == "datetime"):
            raise RecipeError(f"'{text}' compares a time with a number", where="codec.rules",
                              fix="compare like with like")
        return Rule(text, "order", [small, large], strict="=" not in signs[0])
    return _range(text, signs, sides, names, schema)


def _range(text: str, signs: list[str], sides: list[ast.expr], names: dict[str, str], schema: Schema) -> Rule:
    places = [index for index, side in enumerate(sides) if isinstance(side, ast.Name)]
    if len(places) != 1:
        raise RecipeError(f"'{text}' is not a rule of a table", where="codec.rules", fix=_FIX)
    name = _column(names[sides[places[0]].id], schema, text)  # type: ignore[attr-defined]
    _ordered(schema, [name], text)
    bounds: dict[str, Any] = {}
    for index, sign in enumerate(signs):
        left, right = sides[index], sides[index + 1]
        bound = _number(right if index == places[0] else left, text)
        upper = sign.startswith("<") == (index == places[0])
        bounds["high" if upper else "low"] = bound
        bounds["open_high" if upper else "open_low"] = "=" not in sign
    return Rule(text, "range", [name], **bounds)


def _formula(text: str, sides: list[ast.expr], names: dict[str, str], schema: Schema) -> Rule:
    if not isinstance(sides[0], ast.Name):
        sides = sides[::-1]
    if not isinstance(sides[0], ast.Name):
        raise RecipeError(f"'{text}' has no single column on one side", where="codec.rules",
                          fix='write "total == a + b"')
    parts = list(dict.fromkeys(names[node.id] for node in ast.walk(sides[1]) if isinstance(node, ast.Name)))
    result = names[sides[0].id]
    columns = [_column(name, schema, text) for name in [result, *parts]]
    _ordered(schema, columns, text)
    if not parts or result in parts:
        raise RecipeError(f"'{text}' must give one column from others", where="codec.rules",
                          fix='write "total == a + b"')
    allowed = (ast.BinOp, ast.UnaryOp, ast.USub, ast.Name, ast.Load, ast.Constant, *_OPERATORS)
    for node in ast.walk(sides[1]):
        wrong = isinstance(node, ast.Constant) and not isinstance(node.value, int | float)
        if wrong or not isinstance(node, allowed):
            raise RecipeError(f"'{text}' uses more than + - * / over columns and numbers", where="codec.rules",
                              fix='write "total == a + 2 * b"')
    return Rule(text, "formula", columns, tree=sides[1], names=names)


def _evaluate(node: ast.expr, names: dict[str, str], columns: dict[str, NDArray[np.float64]]) -> Any:
    if isinstance(node, ast.BinOp):
        return _OPERATORS[type(node.op)](_evaluate(node.left, names, columns), _evaluate(node.right, names, columns))
    if isinstance(node, ast.UnaryOp):
        return -_evaluate(node.operand, names, columns)
    if isinstance(node, ast.Name):
        return columns[names[node.id]]
    assert isinstance(node, ast.Constant)
    value: Any = node.value  # a number: `_formula` lets nothing else through
    return float(value)


def _column(name: str, schema: Schema, text: str) -> str:
    try:
        return schema.column(name).name
    except InputError:
        raise RecipeError(f"'{text}' names a column '{name}' that is not there", where="codec.rules",
                          fix=suggest(name, schema.names)) from None


def _ordered(schema: Schema, columns: list[str], text: str) -> None:
    for name in columns:
        if not schema.column(name).ordered:
            raise RecipeError(f"'{text}' needs numbers or times, '{name}' is a {schema.column(name).kind}",
                              where="codec.rules", fix=f"leave it out, or say codec.columns={{{name}: number}}")


def _number(node: ast.expr, text: str) -> float:
    value: Any = None
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        value = -node.operand.value if isinstance(node.operand.value, int | float) else None
    elif isinstance(node, ast.Constant):
        value = seconds(node.value) if isinstance(node.value, str) else node.value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RecipeError(f"'{text}' has a bound that is no number and no date", where="codec.rules",
                          fix='write "0 <= age <= 120" or "admit >= \'2020-01-31\'"')
    return float(value)


def seconds(text: str) -> float | None:
    """Return seconds since 1970 of an ISO date or time, None when it is none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
