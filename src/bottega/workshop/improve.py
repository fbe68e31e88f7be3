"""The closed loop: feedback → preferences → a challenger → a comparison → a person's decision; `bottega improve ALIAS`.

    home/improvements/<id>/recipe.yaml   what the challenger is made from, as `bottega train` reads it
                           log.txt       what the process said that a server started

Every stage is written to the store before the next begins. Whatever ends the process, the same id goes on: the recipe
is kept, training resumes from its checkpoint, and only a decision of a person moves the alias.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from bottega.core.bundle import Bundle
from bottega.core.errors import BottegaError, CorruptError, InputError, Interrupted, NotFoundError, suggest
from bottega.core.files import clear_disk_errors, write_atomic
from bottega.core.progress import say, timed
from bottega.core.recipe import Recipe
from bottega.workshop import improvements, preferences, registry
from bottega.workshop.improvements import Improvement
from bottega.workshop.models import Models, Served
from bottega.workshop.registry import AliasInfo
from bottega.workshop.store import Store

if TYPE_CHECKING:
    from bottega.workshop.workshop import Workshop

UNFINISHED = ("exporting", "training", "comparing")
_STARTING = timedelta(seconds=30)  # a process just started may not hold its lock yet
_PATIENCE = 60.0  # seconds to wait for another that begins an improvement


def improve(workshop_home: Path, store: Store, alias: str, *, actor: str, minutes: float | None = None,
            improvement_id: str | None = None) -> Improvement:
    """Make a challenger for an alias from feedback, compare both, and wait for a decision.

    Args:
        workshop_home: the workshop.
        store: its store.
        alias: whose model is to be improved.
        actor: who wants it.
        minutes: of training; None: as many steps as fit the number of pairs.
        improvement_id: go on with this one. Without it, an unfinished one of the alias goes on, else a new one begins.

    Returns:
        The improvement, in status `waiting`; one that is waiting or decided is returned as it is.

    Raises:
        NotFoundError: no such alias or improvement.
        InputError: too few preferences, another process is at work on it, or the model continues text only.
        Interrupted: stopped by the user; the same id goes on.
        BottegaError: training or comparing failed; the improvement is `failed` and says why.
    """
    with _alone(workshop_home / "improvements" / "lock", patience=_PATIENCE):
        found = _chosen(store, alias, improvement_id) or _begin(workshop_home, store, alias, actor)
    if found.status in ("waiting", "approved", "rejected"):
        return found
    with _alone(_folder(workshop_home, found) / "lock", patience=1.0):  # whoever only looks has it for a moment
        try:
            return _work(workshop_home, store, improvements.get(store, found.id), actor, minutes)
        except Interrupted as stop:
            raise Interrupted(f"improvement {found.id}: {stop.problem}", where=stop.where,
                              fix=f"go on with: bottega improve {alias} --id {found.id}") from stop
        except Exception as error:
            said = str(error) if isinstance(error, BottegaError) else f"{type(error).__name__}: {error}"
            improvements.update(store, found.id, actor=actor, status="failed", error=said)
            raise


def start_improvement(workshop: Workshop, alias: str, actor: str) -> str:
    """Begin an improvement in a process of its own, which outlives this one, and return its id.

    Raises:
        NotFoundError: no such alias.
        InputError: one of this alias is under way, or there are too few preferences.
    """
    with _alone(workshop.home / "improvements" / "lock", patience=_PATIENCE):  # two clicks at once start one
        open_one = _unfinished(workshop.store, alias)
        if open_one is not None and (_locked(workshop.home, open_one)
                                     or datetime.now(UTC) - open_one.updated < _STARTING):
            raise InputError(f"an improvement of '{alias}' is under way: {open_one.id}, {open_one.status}",
                             fix="wait until it is done")
        found = open_one or _begin(workshop.home, workshop.store, alias, actor)
    _spawn(workshop, found)
    return found.id


def resume_improvements(workshop: Workshop) -> list[str]:
    """Go on with what a stop of the machine left unfinished; return the ids. A server calls it when it starts."""
    resumed = []
    for found in improvements.listed(workshop.store):
        if found.status in UNFINISHED and not _locked(workshop.home, found):
            _spawn(workshop, found)
            resumed.append(found.id)
    return resumed


def approve(store: Store, improvement_id: str, actor: str, reason: str = "") -> None:
    """Let the alias stand for the challenger from now on; the decision and the move are one transaction.

    Raises:
        NotFoundError: no such improvement.
        InputError: it does not wait for a decision, or the alias has moved to another model since.
        CorruptError: the challenger's folder is damaged or was made again.
    """
    found = improvements.get(store, improvement_id)
    _check_waiting(found)
    _check_challenger(store, found)  # reads the whole model, so before it is our turn to write
    with store.write() as session:
        _check_alias(registry.alias(session, found.alias), found)
        improvements.change(session, found.id, actor=actor, status="approved", decided_by=actor, reason=reason)
        registry.move(session, found.alias, found.challenger, str(found.challenger_digest), actor=actor,
                      reason=f"improvement {found.id}" + (f": {reason}" if reason else ""))


def reject(store: Store, improvement_id: str, actor: str, reason: str = "") -> None:
    """Leave the alias as it is; the challenger stays in the workshop under its own name.

    Raises:
        NotFoundError: no such improvement.
        InputError: it does not wait for a decision.
    """
    found = improvements.get(store, improvement_id)
    _check_waiting(found)
    improvements.update(store, found.id, actor=actor, status="rejected", decided_by=actor, reason=reason)


def _work(home: Path, store: Store, found: Improvement, actor: str, minutes: float | None) -> Improvement:
    """Do what is left to do, stage by stage."""
    from bottega.training.run import make
    from bottega.workshop.challenger import challenger_recipe
    from bottega.workshop.compare import compare

    def note(**changes: object) -> None:
        improvements.update(store, found.id, actor=actor, **changes)

    champion = _champion(home, found)
    file = _folder(home, found) / "recipe.yaml"
    if not file.is_file():
        note(status="exporting", error="")
        pairs = preferences.export(store, home, preferences.rated_models(store, found.alias))
        note(dataset=pairs.plain())
        recipe = challenger_recipe(found.challenger, champion, pairs, minutes=minutes)
        write_atomic(file, yaml.safe_dump(recipe.plain(), sort_keys=False, allow_unicode=True))
    pairs = preferences.PreferenceSet.open(Path(improvements.get(store, found.id).dataset["path"]))
    say(f"{found.id}: {pairs.pairs} pairs to learn from, {pairs.held_out} held out, in {pairs.path}")
    note(status="training", error="")
    bundle = make(Recipe.load(file), home=home, resume=True, replace=False)
    Models(home, store).add(bundle.path)
    note(status="comparing", challenger_digest=bundle.digest)
    with timed(f"comparing {champion.name} and {bundle.name}"):
        suites = champion.meta.get("recipe", {}).get("evaluation", {}).get("suites", [])
        comparison = compare(champion.path, bundle.path, pairs.rows(preferences.HELD_OUT), suites)
    note(status="waiting", comparison=comparison)
    return improvements.get(store, found.id)


def _chosen(store: Store, alias: str, improvement_id: str | None) -> Improvement | None:
    """Return the improvement that was named, or the unfinished one of the alias."""
    if improvement_id is None:
        return _unfinished(store, alias)
    found = improvements.get(store, improvement_id)
    if found.alias != alias:
        raise InputError(f"improvement {found.id} is of '{found.alias}', not of '{alias}'",
                         fix=f"bottega improve {found.alias} --id {found.id}")
    return found


def _begin(home: Path, store: Store, alias: str, actor: str) -> Improvement:
    """Note a new improvement, unless it is plain that nothing can come of it."""
    champion = _served(home, store, alias)
    preferences.divide(preferences.collect(store, preferences.rated_models(store, alias)))
    taken = {found.challenger for found in improvements.listed(store)}
    taken |= {path.name for room in ("models", "runs") for path in home.glob(f"{room}/*")}
    number = next(n for n in range(1, len(taken) + 2) if f"{alias}-{n}" not in taken)
    return improvements.create(store, alias=alias, champion=champion.name, champion_digest=champion.digest,
                               challenger=f"{alias}-{number}", actor=actor)


def _served(home: Path, store: Store, alias: str) -> Served:
    """Return the model an alias stands for."""
    models = Models(home, store)
    models.refresh()
    aliases = [served.id for served in models.served() if served.alias]
    if alias not in aliases:
        raise NotFoundError(f"there is no alias '{alias[:100]}'",
                            fix=f"{suggest(alias[:100], aliases)}; make one with 'bottega alias NAME MODEL'")
    champion = models.resolve(alias)
    if not champion.answers:
        raise InputError(f"'{alias}' stands for {champion.name}, which continues text and does not answer",
                         fix="point it at a model made with 'objective: {kind: sft}' or dpo")
    return champion


def _champion(home: Path, found: Improvement) -> Bundle:
    """Return the champion's bundle as it was when the improvement began."""
    champion = Bundle.open(home / "models" / found.champion)
    if champion.digest != found.champion_digest:
        raise CorruptError(f"{found.champion} was made again after improvement {found.id} had begun",
                           where=str(champion.path), fix=f"start a new one: bottega improve {found.alias}")
    return champion


def _check_waiting(found: Improvement) -> None:
    if found.status != "waiting":
        done = f" by {found.decided_by}" if found.decided_by else ""
        raise InputError(f"improvement {found.id} does not wait for a decision: it is {found.status}{done}",
                         fix="see 'bottega improve --list'")


def _check_alias(current: AliasInfo | None, found: Improvement) -> None:
    """Refuse a decision about another champion than the one that was compared."""
    if current is None or current.model_digest != found.champion_digest:
        raise InputError(f"'{found.alias}' stands for {current.model if current else 'nothing'} by now, and this "
                         f"challenger was compared with {found.champion}",
                         fix=f"start a new one with 'bottega improve {found.alias}', or point it by hand: "
                             f"bottega alias {found.alias} {found.challenger}")


def _check_challenger(store: Store, found: Improvement) -> None:
    """Refuse a decision about another challenger than the one that was compared."""
    path = registry.model(store, str(found.challenger_digest)).path
    if Bundle.open(path).digest != found.challenger_digest:
        raise CorruptError(f"{found.challenger} is not what was compared any more", where=str(path),
                           fix=f"start a new one: bottega improve {found.alias}")


def _unfinished(store: Store, alias: str) -> Improvement | None:
    return next((found for found in improvements.listed(store, alias) if found.status in UNFINISHED), None)


def _folder(home: Path, found: Improvement) -> Path:
    return home / "improvements" / found.id


@contextmanager
def _alone(lock: Path, *, patience: float = 0.0) -> Iterator[None]:
    """Hold a lock that ends with the process, however it ends.

    Raises:
        InputError: another process held it for `patience` seconds.
    """
    until = time.monotonic() + patience
    with clear_disk_errors(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("w")
    with file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise InputError("another process is at work on this improvement", where=str(lock.parent),
                                     fix="wait until it is done; see 'bottega improve --list'") from None
                time.sleep(0.02)
        yield


def _locked(home: Path, found: Improvement) -> bool:
    """Whether a living process is at work on an improvement."""
    try:
        with _alone(_folder(home, found) / "lock"):
            return False
    except InputError:
        return True


def _spawn(workshop: Workshop, found: Improvement) -> None:
    """Start a process that goes on with an improvement and outlives this one."""
    folder = _folder(workshop.home, found)
    folder.mkdir(parents=True, exist_ok=True)
    # The address of the database may hold a password, which a command line would show to everyone on the machine.
    own = {"BOTTEGA_HOME": str(workshop.home.resolve()), "BOTTEGA_DATABASE": workshop.store.url}
    command = [sys.executable, "-m", "bottega", "improve", found.alias, "--id", found.id, "--json"]
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                                   env={**os.environ, **own})
    threading.Thread(target=process.wait, daemon=True).start()  # so that no zombie is left when it ends
