"""From files, or a known distribution, to prepared graphs: read → check the rule → split → number → write.

    bottega data prepare recipes/molecules-graph.yaml data.sources=[my.smi]

A set is named by the digest of its input, its settings and the code, and reused while it verifies.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from bottega.core.energy import CostMeter
from bottega.core.errors import CorruptError, DataError, Interrupted, RecipeError
from bottega.core.files import atomic_dir, digest_json, file_table, remove_unfinished, sha256_file, write_json
from bottega.core.graph import Graph
from bottega.core.lineage import Licence, Lineage, code_digest, merge_licences
from bottega.core.progress import say, timed, track
from bottega.core.recipe import DataSpec
from bottega.data.dataset import CARD, SPLITS
from bottega.data.graphs.dataset import Codec, GraphDataset
from bottega.data.graphs.read import read_graphs
from bottega.data.graphs.synthetic import KINDS, synthetic
from bottega.data.pictures.card import make_card
from bottega.data.tables.dataset import content_digest

DRAWN = 500  # graphs of a known distribution, unless data.limit says how many
_FEWEST = 2

_Named = tuple[str, Graph]  # what decides the split of a graph comes first


def prepare_graphs(spec: DataSpec, codec: Codec, *, home: Path, seed: int = 0,
                   known: bool = False) -> GraphDataset[Codec]:
    """Prepare graphs, or return the set that was made from the same input and settings before.

    Args:
        spec: the recipe's data part. A source is a file (`data.graphs.read`) or one of `communities`, `grids` and
            `trees`; `limit` holds for each. `rules`, `languages` and `decontaminate` are about texts and must be empty.
        codec: that knows the settings only, `GraphCodec.of(settings)`.
        home: the workshop; datasets lie in its data folder.
        seed: recorded in the lineage; neither the graphs nor their split depend on it.
        known: the codec knows its types already: those of a model that is trained further. Graphs with others, or more
            nodes than its largest, are left out.

    Raises:
        InputError: a source is not there.
        RecipeError: a setting that graphs do not have, or molecules beside other graphs.
        DataError: too few graphs that can be used.
        ResourceError: the disk is full.
        Interrupted: Ctrl-C; nothing half done is left.
    """
    for setting, value in (("rules", spec.rules), ("languages", spec.languages), ("decontaminate", spec.decontaminate)):
        if value:
            raise RecipeError(f"graphs have no data.{setting}: {value}", where=f"data.{setting}",
                              fix="leave it out; the rule of graphs is codec.rule")
    try:
        return _prepare(spec, codec, home, seed, known)
    except KeyboardInterrupt:
        raise Interrupted("data preparation was stopped", where=str(home / "data"),
                          fix="run the same command again") from None


def _prepare(spec: DataSpec, codec: Codec, home: Path, seed: int, known: bool) -> GraphDataset[Codec]:
    meter = CostMeter()
    remove_unfinished(home / "data")
    inputs = [source if source in KINDS else _digest(Path(source)) for source in spec.sources]
    key = digest_json([spec.model_dump(mode="json"), codec.digest if known else codec.describe(), code_digest(),
                       np.__version__, inputs])
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(spec.sources[0]).stem).strip("-.") or "graphs"
    path = home / "data" / f"{name}-{key[:12]}"
    if path.is_dir():
        try:
            return GraphDataset.open(path, type(codec))
        except CorruptError as error:
            say(f"preparing again: {error.problem}")
    found, form, read = _read(spec)
    codec = codec if known else codec.learn([graph for graph, _ in found], form)
    parts: dict[Any, list[_Named]] = {split: [] for split in SPLITS}
    broken: Counter[str] = Counter()
    for graph, origin in track(found, "checking graphs", len(found)):
        reason, name = codec.broken(graph) or (codec.foreign(graph) if known else ""), origin
        if not reason and not origin:
            try:
                name = codec.key(graph)
            except DataError as error:  # one graph without a name must not cost all others
                reason = error.problem
        if reason:
            broken[re.sub(r"\d+", "#", reason)] += 1
            continue
        parts["validation" if _share(name) < spec.validation else "train"].append((name, graph))
    for reason, count in broken.most_common():
        say(f"{count} of {len(found)} graphs are left out: {reason}")
    kept = parts["train"] + parts["validation"]
    if len(kept) < _FEWEST:
        raise DataError(f"{', '.join(spec.sources)} holds {len(kept)} graphs that can be used, of {len(found)}",
                        where="data.sources", fix="give more, or another codec.rule or codec.largest")
    for few, many in (("validation", "train"), ("train", "validation")):
        if not parts[few]:
            parts[few], parts[many] = _moved(parts[many])
    codec = codec if known else codec.learn([graph for _, graph in kept], form)
    graphs = {split: [graph for _, graph in part] for split, part in parts.items()}
    with atomic_dir(path, replace=True) as folder:
        with timed(f"writing {len(kept):,} graphs"):
            for split in SPLITS:
                _write(folder, split, graphs[split], codec)
        codec.save(folder)
        files = file_table(folder)
        digest = content_digest(files)
        licences = [Licence(spdx="CC0-1.0" if source in KINDS else spec.licence, evidence="drawn by Bottega"
                            if source in KINDS else f"stated for {source}") for source in spec.sources]
        facts = {"codec": codec.describe(), "dropped": dict(broken),
                 "licences": sorted({licence.spdx for licence in licences}),
                 "stages": {"read": read, "kept": len(kept), "dropped": sum(broken.values())},
                 "splits": {split: {"graphs": len(graphs[split]), "nodes": sum(map(len, graphs[split])),
                                    "edges": sum(len(graph.edges) for graph in graphs[split])} for split in SPLITS}}
        fields = {"nodes": ("sc:Integer", "types of nodes, graph after graph")}
        write_json(folder / CARD, make_card(name, spec, files, digest, facts, kind="graphs", rows="nodes-train.npy",
                                            fields=fields))
        Lineage(kind="dataset", name=name, content=digest, step="prepare graphs", seed=seed,
                parameters={**spec.model_dump(mode="json"), "graph": codec.describe()},
                licences=merge_licences(licences), cost=meter.read()).save(folder)
    return GraphDataset.open(path, type(codec))


def _digest(path: Path) -> str:
    return sha256_file(path) if path.is_file() else ""  # what is not there is told by the reader


def _read(spec: DataSpec) -> tuple[list[tuple[Graph, str]], Any, int]:
    """Return the graphs, each with what decides its split (empty: the graph itself), their form, and lines read."""
    found: list[tuple[Graph, str]] = []
    forms, read = set(), 0
    for number, source in enumerate(spec.sources):
        if source in KINDS:
            graphs = synthetic(source, spec.limit or DRAWN, number)
            found += [(graph, f"{source} {place}") for place, graph in enumerate(graphs)]
            forms.add("graphs")
            read += len(graphs)
            continue
        with timed(f"reading {source}"):
            file = read_graphs(Path(source), limit=spec.limit)
        found += [(graph, "") for graph in file.graphs]
        forms.add(file.kind)
        read += len(file.graphs) + len(file.faults)
    if len(forms) > 1:
        raise RecipeError("molecules and other graphs cannot be learned together", where="data.sources",
                          fix="make a model of each")
    return found, forms.pop(), read


def _share(text: str) -> float:
    """Return a number from 0 to 1 that depends on a text alone: equal graphs are on one side of a split."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def _moved(graphs: list[_Named]) -> tuple[list[_Named], list[_Named]]:
    """Return the last graph with those equal to it, and the others; all equal: one of them, and the rest."""
    last = [one for one in graphs if one[0] == graphs[-1][0]]
    if len(last) == len(graphs):
        return graphs[-1:], graphs[:-1]
    return last, [one for one in graphs if one[0] != graphs[-1][0]]


def _write(folder: Path, split: str, graphs: list[Graph], codec: Any) -> None:
    coded = [codec.encode(graph) for graph in graphs]
    starts = np.zeros((len(coded) + 1, 2), np.int64)
    np.cumsum([(len(one.nodes), len(one.edges)) for one in coded], axis=0, out=starts[1:])
    for name, array in (("nodes", np.concatenate([one.nodes for one in coded])),
                        ("edges", np.concatenate([one.edges for one in coded])), ("starts", starts)):
        np.save(folder / f"{name}-{split}.npy", array, allow_pickle=False)
