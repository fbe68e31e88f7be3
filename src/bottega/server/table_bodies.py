"""What clients may send to the route of tables; `tests/server/test_tables.py` sends it.

As in schemas.py, what cannot be obeyed is refused by name.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from bottega.core.request import Controls, Request
from bottega.server.errors import ApiError
from bottega.server.schemas import Body, Count, Number, Origin, as_controls

Form = Literal["json", "csv", "parquet", "jsonl"]
WHOLE = 100_000       # rows of an answer that is held in memory as a whole, about 20 MB of JSON at ten columns
STREAMED = 1_000_000  # rows of a stream: the recorded file grows in memory meanwhile, and a model's turn is not shared


class TableBody(Body):
    """Body of `POST /v1/tables/generations`; ranges are those of the controls (see `bottega generate --help`).

    Attributes:
        rows: to make; of a model of sequences or of two linked tables: entities, each of which comes with all its rows.
        seed: the same body makes the same rows again, in the same order.
        conditions: what every row holds, as texts ("age > 70"), or as column → value, list of values,
            {"min": …, "max": …}, or null for missing.
        balance: one column → level → share of the rows.
        fair: one column → another that it shall say nothing about.
        response_format: rows in JSON, or a file of that kind.
    """

    harmless: ClassVar[dict[str, tuple[Any, ...]]] = {"n": (1,)}

    model: str | None = None
    rows: Count = None
    seed: Count = None
    temperature: Number = None
    conditions: list[str] | dict[str, Any] | None = None
    balance: dict[str, dict[str, float]] | None = None
    fair: dict[str, str] | None = None
    response_format: Form | None = None
    stream: bool | None = None
    bottega: Origin = Origin()

    @property
    def most(self) -> int:
        """Rows that may be asked for."""
        return STREAMED if self.stream else WHOLE

    def wish(self) -> Request:
        """Return the request as the lower floors know it.

        Raises:
            ApiError: 400 that names the field, its value and what is allowed.
        """
        if self.stream and self.response_format == "parquet":
            raise ApiError(400, "a Parquet file comes whole; leave stream out, or ask for csv, jsonl or json",
                           param="response_format")
        if self.rows is not None:
            self.bounded(self.rows)
        wish = {name: getattr(self, name) for name in Controls.model_fields if hasattr(self, name)}
        return Request(prompt="", controls=as_controls(wish))

    def bounded(self, rows: int, each: float = 1.0) -> None:
        """Refuse more rows than are made at a time.

        Args:
            rows: that are asked for.
            each: rows of an entity on average, where `rows` counts entities.

        Raises:
            ApiError: 400.
        """
        if rows * each > self.most:
            what = f"{rows:,} are" if each == 1 else f"{rows:,} entities have about {rows * each:,.0f} rows,"
            more = "" if self.stream else f", or set stream to true for up to {STREAMED:,}"
            raise ApiError(400, f"rows: {what} more than {self.most:,} at a time; ask for fewer with several "
                                f"seeds{more}", param="rows")


NAMES = frozenset(TableBody.model_fields)
