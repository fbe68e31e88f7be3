"""Which declared rules the steps of a sequence keep by construction. `pytest tests/codecs/test_table_steps.py`.

What is constant for an entity is drawn once, what varies is drawn row by row. A rule can be built into the codes when
it computes one from columns of the same draw, or of an earlier one; an order or a range across draws is kept by drawing
again; nothing keeps the rest, which is refused.
"""

from __future__ import annotations

from bottega.codecs.table_rules import Rule
from bottega.core.errors import RecipeError
from bottega.core.table_sequences import Layout


def of_steps(rule: Rule, layout: Layout) -> bool:
    """Return whether the codes of steps keep a rule; if not, it is kept by drawing again.

    Raises:
        RecipeError: neither can keep it.
    """
    if rule.form in ("range", "unique"):
        return rule.form == "range" and rule.columns[0] in layout.wide_schema.names
    told = {*layout.constant, *(name for name in layout.varying if name not in layout.units)}
    once = [name in layout.constant for name in rule.columns]
    computed = once if rule.form == "combination" else [once[1] if rule.form in ("order", "function") else once[0]]
    # what is computed for the entity may not come from what varies
    if told.issuperset(rule.columns) and (all(once) or not any(computed)):
        return True
    if rule.form == "order":
        return False
    raise RecipeError(f"'{rule.text}' ties what is the same in all rows of a '{layout.entity}' to what varies, or is "
                      "about when a row is", where="codec.rules",
                      fix="state it about columns that both vary or are both the same, or leave it out")
