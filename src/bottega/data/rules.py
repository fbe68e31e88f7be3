"""Which rows are dropped and why: named expressions over signals, evaluated for whole columns.

    data:
      rules:
        too-short: "format == 'prose' and words < 20"     # a rule of one's own
        repetitive: null                                  # a default rule switched off

Only names of signals, numbers, strings, comparisons, `in`, + - * / and and/or/not are allowed; an expression is parsed
to a tree and walked, never executed. `bottega data signals` lists the names.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bottega.core.errors import RecipeError, suggest
from bottega.core.recipe import DataSpec
from bottega.data.signals import SIGNALS, TEXT_SIGNALS

# Careful on purpose: each is true only for what is hardly ever wanted, and prose rules leave code and chat alone.
DEFAULTS: dict[str, str] = {
    "empty": "chars == 0 or (format == 'prose' and alphabetic_ratio + digit_ratio == 0)",
    "too-long": "longest_run > 20000",
    "contaminated": "overlap > 0",
    "repetitive": "format == 'prose' and lines >= 10 and duplicate_line_chars > 0.5",
    "repeated-phrase": "format == 'prose' and words >= 100 and (top_2gram > 0.3 or top_4gram > 0.35)",
    "not-language": "format == 'prose' and chars >= 400 and (alphabetic_ratio < 0.4 or mean_word_length > 25)",
    "generated-code": "format == 'code' and (mean_line_length > 250 or alphabetic_ratio < 0.15) and chars >= 1000",
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}

Columns = Mapping[str, NDArray[Any]]
Evaluate = Callable[[Columns], Any]


class Rule:
    """A checked expression. Calling it with columns gives a boolean array: true where the row is to be dropped.

    Raises:
        RecipeError: not an expression, an unknown signal (with the nearest right one) or operands that do not fit.
    """

    def __init__(self, reason: str, expression: str) -> None:
        self.reason, self.expression = reason, expression
        self._where = f"data.rules.{reason}"
        try:
            tree = ast.parse(expression.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError) as error:
            raise RecipeError(f"'{expression}' is not an expression: {error}", where=self._where,
                              fix="write for instance: words < 20 and format == 'prose'") from None
        kind, self._evaluate = self._build(tree)
        if kind != "truth":
            raise RecipeError(f"'{expression}' is a {kind}, not a condition", where=self._where,
                              fix="compare it with something, for instance: words < 20")

    def __call__(self, columns: Columns) -> NDArray[np.bool_]:
        """Return bool [rows] for columns of equal length."""
        rows = len(next(iter(columns.values())))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.broadcast_to(np.asarray(self._evaluate(columns), dtype=bool), (rows,))

    def _refuse(self, node: ast.AST, fix: str) -> RecipeError:
        return RecipeError(f"'{ast.unparse(node)}' is not allowed in a rule", where=self._where, fix=fix)

    def _build(self, node: ast.expr) -> tuple[str, Evaluate]:
        """Return what a node gives (`number`, `text` or `truth`) and the function that computes it."""
        match node:
            case ast.Name(id=name) if name in SIGNALS:
                return ("text" if name in TEXT_SIGNALS else "number"), lambda columns: columns[name]
            case ast.Name(id=name):
                raise RecipeError(f"unknown signal '{name}'", where=self._where, fix=suggest(name, SIGNALS))
            case ast.Constant(value=bool()):
                value = node.value
                return "truth", lambda columns: value
            case ast.Constant(value=int() | float() | str()):
                constant = node.value
                return ("text" if isinstance(constant, str) else "number"), lambda columns: constant
            case ast.BoolOp(op=op, values=values):
                parts = [self._typed(value, "truth") for value in values]
                join = np.logical_and if isinstance(op, ast.And) else np.logical_or
                return "truth", lambda columns: _fold(join, [part(columns) for part in parts])
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                inner = self._typed(operand, "truth")
                return "truth", lambda columns: np.logical_not(inner(columns))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                negated = self._typed(operand, "number")
                return "number", lambda columns: -negated(columns)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                a, b, combine = self._typed(left, "number"), self._typed(right, "number"), _ARITHMETIC[type(op)]
                return "number", lambda columns: combine(np.asarray(a(columns), dtype=float), b(columns))
            case ast.Compare():
                return "truth", self._comparison(node)
        raise self._refuse(node, "use signals, numbers, strings, comparisons, in, + - * / and and/or/not")

    def _typed(self, node: ast.expr, wanted: str) -> Evaluate:
        kind, evaluate = self._build(node)
        if kind != wanted:
            raise self._refuse(node, f"a {wanted} is needed there, this is a {kind}")
        return evaluate

    def _comparison(self, node: ast.Compare) -> Evaluate:
        tests: list[Evaluate] = []
        left = node.left
        for op, right in zip(node.ops, node.comparators, strict=True):
            tests.append(self._membership(left, op, right) if isinstance(op, ast.In | ast.NotIn)
                         else self._order(node, left, op, right))
            left = right
        return lambda columns: _fold(np.logical_and, [test(columns) for test in tests])

    def _order(self, node: ast.expr, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Evaluate:
        kind, a = self._build(left)
        b = self._typed(right, kind)
        if type(op) not in _COMPARE or kind == "truth" or (kind == "text" and not isinstance(op, ast.Eq | ast.NotEq)):
            raise self._refuse(node, "texts are compared with ==, != and in; numbers also with < <= > >=")
        compare = _COMPARE[type(op)]
        return lambda columns: compare(np.asarray(a(columns)), np.asarray(b(columns)))

    def _membership(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Evaluate:
        kind, a = self._build(left)
        if not isinstance(right, ast.Tuple | ast.List | ast.Set) or not all(
                isinstance(item, ast.Constant) and (isinstance(item.value, str) == (kind == "text"))
                for item in right.elts):
            raise self._refuse(right, f"write a list of {kind}s, for instance ('en', 'de')")
        values: list[Any] = [item.value for item in right.elts if isinstance(item, ast.Constant)]
        invert = isinstance(op, ast.NotIn)
        return lambda columns: np.isin(np.asarray(a(columns)), values, invert=invert)


def _fold(join: Callable[[Any, Any], Any], parts: list[Any]) -> Any:
    result = parts[0]
    for part in parts[1:]:
        result = join(result, part)
    return result


def rules_of(spec: DataSpec) -> list[Rule]:
    """Return the rules of a recipe in their order: defaults, the language rule, then the recipe's own.

    Raises:
        RecipeError: a rule is not valid, or null is given for a name that is no default.
    """
    merged: dict[str, str | None] = dict(DEFAULTS)
    if spec.languages:
        known = tuple(code.lower() for code in spec.languages)
        merged["language"] = f"format != 'code' and words >= 5 and language_score >= 0.5 and language not in {known!r}"
    for reason, expression in spec.rules.items():
        if expression is None and reason not in merged:
            raise RecipeError(f"there is no default rule '{reason}' to switch off", where=f"data.rules.{reason}",
                              fix=suggest(reason, merged))
        merged[reason] = expression
    return [Rule(reason, expression) for reason, expression in merged.items() if expression is not None]


def used_signals(rules: list[Rule]) -> list[str]:
    """Return the signals that some rule names, in the order of `SIGNALS`."""
    names = {node.id for rule in rules for node in ast.walk(ast.parse(rule.expression.strip(), mode="eval"))
             if isinstance(node, ast.Name)}
    return [name for name in SIGNALS if name in names]


