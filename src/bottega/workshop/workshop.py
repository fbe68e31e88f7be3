"""A workshop with its doors open: models, guard, store and the one way through them; `bottega serve` opens one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bottega.core.errors import InputError
from bottega.core.validate import validate
from bottega.guard.guard import Guard
from bottega.guard.policy import Policy
from bottega.workshop import settings
from bottega.workshop.commission import Commission
from bottega.workshop.models import Models
from bottega.workshop.store import Store


@dataclass
class Workshop:
    """Everything that the doors (HTTP, studio, command line) need."""

    home: Path
    store: Store
    models: Models
    guard: Guard
    commission: Commission

    @classmethod
    def open(cls, home: Path, *, database: str | None = None, only: list[str] | None = None, slots: int = 64,
             queue: int = 256, scan: bool = True) -> Workshop:
        """Open the store, find the models, set up the guard.

        Args:
            home: the workshop's folder.
            database: URL of the store; None: the SQLite file in `home`.
            only: names of models and aliases to serve; None: all.
            slots, queue: of each model's batcher.
            scan: look for models now; else they are found when asked for, or given by `Models.add`.

        Raises:
            BottegaError: the store cannot be opened, or a name is unknown.
        """
        store = Store.open(home, database)
        try:
            guard = Guard(validate(Policy, settings.get(store, "guard"), where="setting guard", error=InputError))
            models = Models(home, store, only=only, slots=slots, queue=queue)
            if scan:
                models.refresh()
        except BaseException:
            store.close()
            raise
        return cls(home, store, models, guard, Commission(models, guard, store))

    async def close(self, grace: float = 30.0) -> None:
        """Finish what is under way for at most `grace` seconds, then put everything away."""
        await self.commission.drain(grace)
        await self.models.close(drain=False)
        self.store.close()
