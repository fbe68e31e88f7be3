"""Which models the workshop serves under which names, and each one loaded once: `bottega serve` prints the list."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bottega.core.bundle import ANSWERING, META, Bundle, bundles
from bottega.core.errors import BottegaError, InputError, NotFoundError, suggest
from bottega.core.files import MANIFEST
from bottega.core.progress import say
from bottega.workshop import registry
from bottega.workshop.store import Store

if TYPE_CHECKING:
    from bottega.generation.batcher import Batcher
    from bottega.generation.delivery import Maker

DEFAULT_ALIAS = "assistant"
_LOOK_AGAIN = 1.0  # seconds
_MAKES = {"text": "texts", "image": "pictures", "table": "tables", "graph": "graphs"}
_ASK = {"text": "ask it at /v1/chat/completions, or name another model",
        "image": "ask it at /v1/images/generations, or name a model of texts",
        "table": "ask it at /v1/tables/generations, or name a model of texts",
        "graph": "ask it at /v1/graphs/generations, or name a model of texts"}
_LOADED = 4  # models kept in memory; the one that was idle longest makes room


@dataclass(frozen=True)
class Served:
    """A name that can be asked for, and the model it stands for now.

    Attributes:
        id: the name to ask for: an alias or a model's own name.
        name: the model's name; `digest` that of its bundle.
        alias: whether `id` is an alias.
        answers: whether the model was tuned to answer conversations.
        created: when the model was made, in seconds since 1970.
        context: tokens that a prompt with its output may have.
        medium: `text`, `image`, `table` or `graph`.
    """

    id: str
    name: str
    digest: str
    alias: bool
    answers: bool
    created: int
    context: int
    objective: str
    path: Path
    medium: str = "text"


class Models:
    """The models of one workshop.

    Args:
        home: the workshop's folder.
        store: its store.
        only: names to serve; None serves all.
        slots, queue: of each model's batcher or easel.

    Attributes:
        home: the workshop's folder.
    """

    def __init__(self, home: Path, store: Store, *, only: list[str] | None = None, slots: int = 64,
                 queue: int = 256) -> None:
        self.home, self._store, self._only, self._slots, self._queue = home, store, only, slots, queue
        # when a folder was written, and what it holds; without that, when its neighbours changed: a base may come back
        self._known: dict[Path, tuple[float, Served | None, float]] = {}
        self._served: dict[str, Served] = {}
        self._loaded: dict[str, Maker] = {}  # by digest, the one used last at the end
        self._loading: dict[str, asyncio.Task[Maker]] = {}
        self._lock = threading.Lock()
        self._looked: float | None = None  # when `refresh` ran last

    def refresh(self) -> None:
        """Look at the models' folder and the aliases again.

        The first time there is a model that answers and no alias, the newest becomes `assistant`. An alias whose model
        was made again under its name follows it; one whose model is gone is left out until the model is back.

        Raises:
            NotFoundError: one of the names to serve is not there at the start.
        """
        with self._lock:
            self._looked = time.monotonic()
            found = {served.name: served for path in bundles(self.home / "models")
                     if (served := self._look(path)) is not None}
            aliases = registry.aliases(self._store)
            answering = [served for served in found.values() if served.answers]
            if not aliases and answering:
                newest = max(answering, key=lambda served: served.created)
                registry.point(self._store, DEFAULT_ALIAS, newest.name, newest.digest, actor="workshop",
                               reason="the first model that answers")
                aliases = registry.aliases(self._store)
            named: dict[str, Served] = {}
            for alias in aliases.values():
                served = found.get(alias.model)
                if served is None:
                    continue
                if served.digest != alias.model_digest:
                    registry.point(self._store, alias.name, served.name, served.digest, actor="workshop",
                                   reason="the model of this name was made again")
                named[alias.name] = replace(served, id=alias.name, alias=True)
            everything = {**found, **named}
            if self._only is not None:
                first = not self._served
                unknown = [name for name in self._only if name not in everything]
                if unknown and first:
                    raise NotFoundError(f"unknown model '{unknown[0]}'", fix=suggest(unknown[0], everything))
                everything = {name: everything[name] for name in self._only if name in everything}
            self._served = everything

    def add(self, path: Path, *, alias: str | None = None) -> Served:
        """Serve one model folder, wherever it lies, by its own name or by an alias.

        Raises:
            InputError, CorruptError: it is no model, or damaged.
        """
        found = self._read(path)
        if alias is not None:
            found = replace(found, id=alias, alias=True)
        self._served[found.id] = found
        return found

    def _look(self, path: Path) -> Served | None:
        """Return a model folder as it is served by its own name; None and a warning when it cannot be."""
        stamp = max((path / name).stat().st_mtime for name in (META, MANIFEST) if (path / name).is_file())
        known, beside = self._known.get(path), path.parent.stat().st_mtime
        if known is not None and known[0] == stamp and (known[1] is not None or known[2] == beside):
            return known[1]
        served = None
        try:
            served = self._read(path)
            served = None if served.objective == "reward" else served  # a judge writes nothing
        except BottegaError as error:
            say(f"warning: {path.name} is not served: {error.problem}")
        self._known[path] = (stamp, served, beside)
        return served

    def _read(self, path: Path) -> Served:
        """Verify a model folder and note it in the store.

        Raises:
            InputError, CorruptError: see `add`.
        """
        bundle = Bundle.open(path)
        if "adapter" in bundle.meta:
            from bottega.families.bases import base_of

            base_of(bundle)  # without it nothing can be made
        objective = str(bundle.meta.get("objective") or "")
        made = int(datetime.fromisoformat(bundle.lineage.made).timestamp())
        answers = bool(bundle.meta.get("answers", objective in ANSWERING))
        served = Served(bundle.name, bundle.name, bundle.digest, False, answers, made,
                        int(bundle.meta.get("context", 0)), objective, path,
                        str(bundle.meta.get("codec", "text")))
        registry.register(self._store, name=served.name, digest=served.digest, path=path.resolve(),
                          family=str(bundle.meta["family"]), objective=objective, answers=served.answers,
                          meta={"metrics": bundle.meta.get("metrics", {}), "context": served.context})
        return served

    def served(self) -> list[Served]:
        """Return what can be asked for now: aliases, then models that answer, then the rest; newest first.

        May look at the folder and the store, and verify new models: keep it off an event loop.
        """
        if self._looked is not None and time.monotonic() - self._looked > _LOOK_AGAIN:
            self.refresh()
        return self._sorted()

    def _sorted(self) -> list[Served]:
        return sorted(self._served.values(), key=lambda s: (not s.alias, not s.answers, -s.created, s.id))

    def resolve(self, model: str | None, medium: str | None = "text") -> Served:
        """Return what a name stands for now; without a name, the first of `served` of this medium (None: any).

        Other processes make models and move aliases, so the folder and the store are looked at again each second.

        Raises:
            NotFoundError: nothing of this name is served; the message names the nearest.
            InputError: the named model makes something else.
        """
        if self._looked is not None and (model not in self._served or time.monotonic() - self._looked > _LOOK_AGAIN):
            self.refresh()
        if not model:
            fitting = [served for served in self._sorted() if medium in (None, served.medium)]
            if not fitting:
                kind = f"no model of {_MAKES[medium]}" if medium in ("image", "table", "graph") else "no model"
                raise NotFoundError(f"the workshop holds {kind}", where=str(self.home),
                                    fix="run 'bottega demo', or train one with 'bottega train'")
            return fitting[0]
        if model not in self._served:
            raise NotFoundError(f"unknown model '{model[:100]}'", fix=suggest(model[:100], self._served))
        found = self._served[model]
        if medium is not None and found.medium != medium:
            raise InputError(f"'{model}' makes {_MAKES[found.medium]}, not {_MAKES[medium]}", where="model",
                             fix=_ASK[found.medium])
        return found

    async def engine(self, served: Served) -> Batcher:
        """Return the batcher of a model of texts; loads it at first use.

        Raises:
            CorruptError, InputError: the bundle cannot be loaded, or makes no texts.
        """
        from bottega.generation.batcher import Batcher

        loaded = await self.maker(served)
        if not isinstance(loaded, Batcher):
            raise InputError(f"'{served.id}' makes {_MAKES[served.medium]}, not texts", where="model",
                             fix=_ASK[served.medium])
        return loaded

    async def maker(self, served: Served) -> Maker:
        """Return what makes a model's outputs; loads it at first use.

        Raises:
            CorruptError, InputError, MissingExtraError: the bundle cannot be loaded.
        """
        digest = served.digest
        if digest in self._loaded:
            self._loaded[digest] = self._loaded.pop(digest)
            return self._loaded[digest]
        if digest not in self._loading:
            self._loading[digest] = asyncio.create_task(self._load(served))
        return await asyncio.shield(self._loading[digest])  # who leaves meanwhile does not stop it for the others

    async def _load(self, served: Served) -> Maker:
        try:
            maker = await asyncio.to_thread(self._open, served)
            idle = [digest for digest, other in self._loaded.items() if not other.running and not other.waiting]
            for digest in idle[:max(0, len(self._loaded) + 1 - _LOADED)]:
                await asyncio.to_thread(self._loaded.pop(digest).close)
            self._loaded[served.digest] = maker
            return maker
        finally:
            del self._loading[served.digest]

    def _open(self, served: Served) -> Maker:
        from bottega.generation.batcher import Batcher
        from bottega.generation.easel import Easel
        from bottega.generation.engine import Engine
        from bottega.generation.graphs import GraphEngine
        from bottega.generation.pictures import PictureEngine, open_pictures
        from bottega.generation.tables import TableEngine

        kinds: dict[str, Callable[[Path], Engine | PictureEngine | TableEngine | GraphEngine]] = {
            "image": open_pictures, "table": TableEngine.open, "graph": GraphEngine.open}
        engine = kinds.get(served.medium, Engine.open)(served.path)
        if engine.model_digest != served.digest:
            raise InputError(f"the model '{served.name}' was made again a moment ago", fix="ask again")
        if isinstance(engine, Engine):
            return Batcher(engine, slots=self._slots, queue=self._queue)
        return Easel(engine, slots=self._slots, queue=self._queue)

    def loaded(self) -> dict[str, Maker]:
        """Return what makes the loaded models' outputs, by bundle digest."""
        return dict(self._loaded)

    async def close(self, *, drain: bool) -> None:
        """Put all models away."""
        for maker in [self._loaded.pop(digest) for digest in list(self._loaded)]:
            await asyncio.to_thread(maker.close, drain=drain)
