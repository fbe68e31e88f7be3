"""From sources to a prepared dataset: read → extract → normalise → measure → dedupe → decide → split → write.

    bottega data prepare recipes/text-lm.yaml data.sources=[my/folder]

Every step is a pure function of its inputs' digests and its settings, and done once (`store`): a second run reuses
what is there, a changed rule repeats only the decisions and what they touch, a new file only its slice. A run that is
killed goes on where it stopped, and ends with the same digest.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bottega.core.energy import CostMeter
from bottega.core.errors import BottegaError, CorruptError, DataError, Interrupted
from bottega.core.files import MANIFEST, atomic_dir, digest_json, file_table, read_json, write_json
from bottega.core.lineage import LINEAGE, UNKNOWN_LICENCE, Licence, Lineage, Parent, merge_licences
from bottega.core.progress import say, track
from bottega.core.recipe import DataSpec
from bottega.data import decide as judge
from bottega.data.builtin import BUILTIN
from bottega.data.card import make_card
from bottega.data.dataset import CARD, Dataset, documents_digest
from bottega.data.dedupe import Banding, find_clusters
from bottega.data.extract import Skips
from bottega.data.pool import Pool, default_jobs
from bottega.data.rules import rules_of
from bottega.data.sources import Slice, plan
from bottega.data.store import Done, Steps
from bottega.data.write import merge

_GROUP_CHARACTERS = 32 << 20  # text a file of the dataset holds at most, in whole slices
_ALONE = 2 << 20              # input bytes below which starting workers costs more than it saves


@dataclass(frozen=True, slots=True)
class _Read:
    """A slice that was read: where it came from and its finished steps."""

    source: str
    text: Done
    measure: Done | None
    overlap: Done | None

    @property
    def rows(self) -> int:
        return int(self.text.facts["rows"])


def prepare(spec: DataSpec, *, home: Path, seed: int = 0, jobs: int | None = None) -> Dataset:
    """Prepare a dataset, reusing every step that was finished before.

    Args:
        spec: the recipe's data part.
        home: the workshop; datasets lie in its data folder.
        seed: recorded in the lineage. The split does not depend on it, so that runs with several seeds are compared
            on the same held-out documents.
        jobs: worker processes (default: one a processor, at most 8); the result does not depend on it.

    Raises:
        InputError: a source is not there.
        RecipeError: a rule is not valid.
        DataError: nothing is left, or the sources hold different kinds of data; counts and the fix are named.
        MissingExtraError: a hub source without the `hub` extra.
        ResourceError: the disk is full or a worker died.
        Interrupted: Ctrl-C; what was finished is kept.
    """
    rules_of(spec)  # refuse a bad rule before any work
    meter = CostMeter()
    try:
        return _prepare(spec, home, seed, jobs or default_jobs(), meter)
    except KeyboardInterrupt:
        raise Interrupted("data preparation was stopped", where=str(home / "data"),
                          fix="run the same command again: it goes on where it stopped") from None


def _prepare(spec: DataSpec, home: Path, seed: int, jobs: int, meter: CostMeter) -> Dataset:
    steps, skips = Steps(home), Skips()
    steps.sweep()
    with Pool(home, jobs) as pool:
        pieces = plan(spec.sources, skips)
        forbidden = _forbidden(spec, steps, pool)
        read = _read(pieces, spec, pool, forbidden)
        for piece in read:
            skips.add(piece.text.facts)
        _tell(skips)
        rows = min(sum(piece.rows for piece in read), spec.limit or 1 << 62)
        if not rows:
            raise _nothing(spec, skips, {}, 0)
        clusters = _clusters(read, spec, steps, home)
        texts, measures, overlaps = _paths(read)
        decisions = judge.decide(spec, texts, measures, overlaps, clusters.path, rows)
        judge.check(decisions)
        dropped = {name: int(count) for name, count in zip(
            decisions.reasons, np.bincount(decisions.reason[decisions.reason >= 0], minlength=len(decisions.reasons)),
            strict=True) if count}
        if sum(dropped.values()) == rows:
            raise _nothing(spec, skips, dropped, rows)
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(spec.sources[0]).name).strip("-.") or "data"
        tasks = list(_write_tasks(read, decisions, steps, measures))
        key = digest_json([spec.model_dump(mode="json"), [task["key"] for task in tasks], skips.facts()])
        path = home / "data" / f"{name}-{key[:12]}"
        if path.is_dir():
            try:
                return Dataset.open(path)
            except CorruptError as error:
                say(f"preparing again: {error.problem}")
        alone = sum(piece.text.facts["characters"] for piece in read) < _ALONE
        written = list(track(pool.map(tasks, alone=alone), "writing documents", total=len(tasks)))
    counts: dict[str, Any] = {"dropped": {}}
    for step in written:
        merge(counts, step["facts"])
    _check(counts, decisions, rows)
    facts = {"kind": _kind(counts["kinds"]), "unit": decisions.unit, "duplicates": clusters.facts}
    with atomic_dir(path, replace=True) as folder:
        for number, step in enumerate(written):
            _link(Path(step["path"]), folder / f"documents-{number:05}.parquet")
        files = file_table(folder)
        digest = documents_digest(files)
        write_json(folder / CARD, make_card(name, spec, files, digest, counts, skips.facts(), facts))
        born = _born(spec.sources)
        Lineage(kind="dataset", name=name, content=digest, step="prepare", seed=seed,
                parents=[Parent(kind=each.kind, name=each.name, digest=each.digest) for each in born],
                parameters=spec.model_dump(mode="json"), cost=meter.read(), licences=merge_licences(
                    [*_licences(spec, counts), *(licence for each in born for licence in each.licences)])).save(folder)
    return Dataset.open(path)


def _read(pieces: list[Slice], spec: DataSpec, pool: Pool, forbidden: Done | None) -> list[_Read]:
    """Extract and measure slices, in their order; with a limit only as many as are needed for it."""
    banding = Banding.of(spec.near_duplicates)
    tasks = [{"do": "read", "slice": piece.plain(), "text_field": spec.text_field, "licence": spec.licence,
              "limit": spec.limit, "banding": [banding.bands, banding.rows] if banding else None, "measure": True,
              "forbidden": [str(forbidden.path), forbidden.sha256] if forbidden else None} for piece in pieces]
    alone = spec.limit is not None or (all(piece.kind != "builtin" for piece in pieces)
                                       and sum(piece.bytes for piece in pieces) < _ALONE)
    found: list[_Read] = []
    rows = 0
    for piece, answer in zip(pieces, track(pool.map(tasks, alone=alone), "reading", total=len(tasks)), strict=False):
        done = {part: Done(Path(entry["path"]), entry["sha256"], entry["facts"]) for part, entry in answer.items()}
        found.append(_Read(piece.source, done["text"], done.get("measure"), done.get("overlap")))
        rows += found[-1].rows
        if spec.limit is not None and rows >= spec.limit:
            break
    return found


def _forbidden(spec: DataSpec, steps: Steps, pool: Pool) -> Done | None:
    """Return the word sequences of the `decontaminate` sources, or None when there are none."""
    if not spec.decontaminate:
        return None
    from bottega.data.measure import sequence_slice

    skips = Skips()
    tasks = [{"do": "read", "slice": piece.plain(), "text_field": spec.text_field, "licence": spec.licence,
              "limit": None, "banding": None, "measure": False, "forbidden": None}
             for piece in plan(spec.decontaminate, skips)]
    texts = [answer["text"] for answer in pool.map(tasks)]
    for text in texts:
        skips.add(text["facts"])
    _tell(skips)
    if not sum(text["facts"]["rows"] for text in texts):
        raise DataError("the decontaminate sources hold no text", where="data.decontaminate",
                        fix="check their paths and data.text_field, or leave them out")
    key = Steps.key("sequences", [text["sha256"] for text in texts], {})
    return steps.make("sequences", key, lambda path: sequence_slice([Path(text["path"]) for text in texts], path))


def _paths(read: list[_Read]) -> tuple[list[Path], list[Path], list[Path]]:
    return ([piece.text.path for piece in read], [piece.measure.path for piece in read if piece.measure],
            [piece.overlap.path for piece in read if piece.overlap])


def _clusters(read: list[_Read], spec: DataSpec, steps: Steps, home: Path) -> Done:
    texts, measures, _ = _paths(read)
    key = Steps.key("dedupe", [piece.measure.sha256 for piece in read if piece.measure], {"near": spec.near_duplicates})
    counts = [piece.rows for piece in read]
    return steps.make("dedupe", key, lambda path: find_clusters(texts, measures, counts, spec.near_duplicates,
                                                                home / "data" / "steps" / "dedupe", path))


def _write_tasks(read: list[_Read], decisions: judge.Decisions, steps: Steps,
                 measures: list[Path]) -> Iterable[dict[str, Any]]:
    """Yield one task for each file of the dataset: whole slices, grouped by a fixed amount of text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    ids = pa.chunked_array([chunk for file in measures for chunk in pq.read_table(file, columns=["id"])["id"].chunks],
                           type=pa.binary(16))
    group: list[_Read] = []
    start = end = characters = 0
    for place, piece in enumerate(read):
        group.append(piece)
        end = min(end + piece.rows, len(decisions.reason))
        characters += piece.text.facts["characters"]
        if characters < _GROUP_CHARACTERS and place < len(read) - 1:
            continue
        if end > start:
            yield _write_task(group, decisions, steps, start, end, ids)
        group, start, characters = [], end, 0


def _write_task(group: list[_Read], decisions: judge.Decisions, steps: Steps, start: int, end: int,
                ids: Any) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    part = slice(start, end)
    reason = decisions.reason[part]
    names = np.array([*decisions.reasons, None], dtype=object)
    table = pa.table({
        "split": pa.array(np.where(decisions.held_out[part], "validation", "train").astype(object), pa.string()),
        "keep": reason < 0, "reason": pa.array(names[reason], pa.string()),
        "cluster": pa.array([key.hex() for key in ids.take(pa.array(decisions.cluster[part])).to_pylist()]),
        "cluster_size": decisions.cluster_size[part], "cut": decisions.cut[part]})
    digest = hashlib.sha256()
    for column in table.to_pydict().values():
        digest.update(repr(column).encode())
    inputs = [done.sha256 for piece in group for done in (piece.text, piece.measure, piece.overlap) if done]
    sources = [piece.source for piece in group]
    texts, measures, overlaps = _paths(group)

    def write(path: Path) -> dict[str, Any]:
        pq.write_table(table, path, compression="zstd")
        return {"rows": len(table)}

    chosen = steps.make("decide", Steps.key("decide", [digest.hexdigest()], {}), write)
    return {"do": "write", "key": Steps.key("write", [*inputs, digest.hexdigest()], {"sources": sources}),
            "texts": list(map(str, texts)), "measures": list(map(str, measures)),
            "overlaps": list(map(str, overlaps)), "sources": sources, "decisions": str(chosen.path)}


def _check(counts: dict[str, Any], decisions: judge.Decisions, rows: int) -> None:
    """Verify that every row that was read is there, kept or dropped, in what was written.

    Raises:
        DataError: it is not; a fault of Bottega.
    """
    written, dropped = counts["rows"], sum(counts["dropped"].values())
    split_rows = sum(split["rows"] for split in counts["splits"].values())
    kept = int(np.count_nonzero(decisions.reason < 0))
    if (written, dropped, split_rows - counts["ends"]) != (rows, rows - kept, kept):
        raise DataError(f"{rows} rows were read but {written} written, {split_rows} of them kept",
                        where="data preparation", fix="this is a fault of Bottega: please report it with the recipe")


def _kind(kinds: dict[str, str]) -> str:
    if len(kinds) > 1:
        found = ", ".join(f"{kind} (for instance in {source})" for kind, source in sorted(kinds.items()))
        raise DataError(f"the sources mix kinds of data: {found}", where="data.sources",
                        fix="use sources of one kind; a recipe trains on text, on chats, on preferences or on ratings")
    return next(iter(kinds))


def _licences(spec: DataSpec, counts: dict[str, Any]) -> list[Licence]:
    own = any(source not in BUILTIN for source in spec.sources)
    return [Licence(spdx=name, evidence="stated in data.licence of the recipe" if own and name == spec.licence
                    and name != UNKNOWN_LICENCE else "" if name == UNKNOWN_LICENCE else "stated by the built-in source")
            for name in sorted(counts["licences"])]


def _born(sources: list[str]) -> list[Lineage]:
    """Return the birth certificates of sources that were themselves made here, such as exported feedback."""
    found = []
    for path in (Path(source).expanduser() for source in sources if source not in BUILTIN):
        folder = path if path.is_dir() else path.parent
        try:
            made = (folder / LINEAGE).is_file() and read_json(folder / MANIFEST)["files"]
            if made and (path == folder or path.name in made):
                found.append(Lineage.load(folder))
        except (BottegaError, KeyError, TypeError):
            continue  # files of the user's own under these names
    return found


def _tell(skips: Skips) -> None:
    for reason, count in sorted(skips.counts.items()):
        for place in skips.examples[reason]:
            say(f"skipped ({reason}) {place}")
        if count > len(skips.examples[reason]):
            say(f"skipped ({reason}) {count - len(skips.examples[reason])} more")


def _nothing(spec: DataSpec, skips: Skips, dropped: dict[str, int], rows: int) -> DataError:
    """Return the error for a dataset without a row, with what happened to all of them and the likeliest fix."""
    if dropped:
        reasons = ", ".join(f"{name} {count}" for name, count in sorted(dropped.items(), key=lambda item: -item[1]))
        most = max(dropped, key=lambda name: dropped[name])
        fix = ("give data that is not in the decontaminate sources" if most == "contaminated" else
               "check data.languages" if most == "language" else
               f"change or switch off the rule: data.rules.{most}=null")
        return DataError(f"all {rows} rows were dropped: {reasons}", where=", ".join(spec.sources), fix=fix)
    if skips.counts:
        reason = max(skips.counts, key=lambda name: (skips.counts[name], name))
        return DataError(f"nothing could be read: {', '.join(f'{name} {n}' for name, n in skips.counts.items())}; "
                         f"first {reason}: {skips.examples[reason][0]}", where=", ".join(spec.sources),
                         fix="name the column with data.text_field" if reason == "no-text"
                         else "give files of txt, md, html, pdf, docx, code, jsonl, csv or parquet")
    return DataError("the sources hold no files", where=", ".join(spec.sources),
                     fix="put txt, md, html, pdf, docx, code, jsonl, csv or parquet files there")


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the disk cannot."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
