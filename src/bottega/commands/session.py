"""The command line's own door to the workshop: one model, asked the same way as through HTTP, in this process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from bottega.commands.common import model_path
from bottega.core.request import Request, Result

if TYPE_CHECKING:
    from bottega.workshop.job import Done, Order
    from bottega.workshop.lane import Delta

T = TypeVar("T")


class Session:
    """A context in which one model can be asked; everything made is guarded and recorded.

    Args:
        model: alias, name in the workshop or path of a model folder; None: the newest model.
        medium: without a model, only those that make this.

    Raises:
        BottegaError: there is no such model, or the workshop's store cannot be opened.

    Attributes:
        engine: the loaded model: `Engine` of texts or `PictureEngine`.
        done: how the last `stream` ended, when it was followed to its end.
    """

    def __init__(self, model: str | None, medium: str | None = None) -> None:
        from bottega.core.home import workshop
        from bottega.workshop import registry
        from bottega.workshop.workshop import Workshop

        self.workshop = Workshop.open(workshop(), database=os.environ.get("BOTTEGA_DATABASE") or None, scan=False)
        self._runner = asyncio.Runner()
        try:
            alias = registry.aliases(self.workshop.store).get(model) if model else None
            self.served = self.workshop.models.add(model_path(alias.model if alias else model, medium),
                                                   alias=alias.name if alias else None)
            self.engine: Any = self._run(self.workshop.models.maker(self.served)).engine
            self.done: Done | None = None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Abandon what is under way and put everything away."""
        self._run(self.workshop.close(grace=0.0))
        self._runner.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def make(self, request: Request) -> Result:
        """Make a request's outputs, best first.

        Raises:
            BottegaError: as in `Commission.make`.
        """
        result = self._run(self.workshop.commission.make(self._order(request))).result
        result.outputs.sort(key=lambda output: -output.score)
        return result

    def stream(self, request: Request, *, previews: bool = False) -> Iterator[Delta]:
        """Yield what a request makes as it is made; leaving early, or Ctrl-C, stops it and keeps what was made.

        Args:
            request: what is wanted.
            previews: yield pictures as they grow, too.

        Raises:
            BottegaError: as in `Commission.open`, or it failed on the way.
        """
        self.done = None
        job = self._run(self.workshop.commission.open(self._order(request, previews=previews)))
        deltas = aiter(job)
        try:
            while (delta := self._run(_next(deltas))) is not None:
                yield delta
            self.done = job.done
        finally:
            self._run(job.cancel())

    def _order(self, request: Request, *, previews: bool = False) -> Order:
        from bottega.workshop.job import Order

        medium: Any = self.served.medium
        return Order(self.served.id, request, door="cli", medium=medium, previews=previews)


async def _next(deltas: Any) -> Delta | None:
    found: Delta | None = await anext(deltas, None)
    return found
