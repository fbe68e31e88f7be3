"""card.json: what is in a dataset, in the words of Croissant 1.1, with the counts of every stage beside them.

Croissant (MLCommons) is JSON-LD that other tools read; what it has no word for stands under `bottega`.
`bottega data prepare` writes it.
"""

from __future__ import annotations

from typing import Any

from bottega.core.recipe import DataSpec
from bottega.data.rules import rules_of
from bottega.data.signals import SIGNALS

_CONTEXT = {"@vocab": "https://schema.org/", "sc": "https://schema.org/", "cr": "http://mlcommons.org/croissant/",
            "dct": "http://purl.org/dc/terms/", "conformsTo": "dct:conformsTo", "recordSet": "cr:recordSet",
            "field": "cr:field", "dataType": {"@id": "cr:dataType", "@type": "@vocab"}, "source": "cr:source",
            "fileSet": "cr:fileSet", "fileObject": "cr:fileObject", "extract": "cr:extract", "column": "cr:column",
            "includes": "cr:includes"}
_FIELDS = {
    "id": "identity of the row, derived from its origin", "origin": "where it was read",
    "document": "origin of the document it is a part of", "source": "the recipe's source",
    "kind": "text, chat, preference or rating", "text": "the text; of the other kinds canonical JSON",
    "licence": "SPDX expression", "split": "train or validation", "keep": "false: dropped, for `reason`",
    "reason": "the rule that dropped it", "cluster": "id of the first of its copies",
    "cluster_size": "copies of it, itself included", "meta": "JSON of further facts", **SIGNALS}
_TYPES = {"keep": "sc:Boolean", "cluster_size": "sc:Integer"}
_TEXT = frozenset(("id", "origin", "document", "source", "kind", "text", "licence", "split", "reason", "cluster",
                   "meta", "format", "language"))


def make_card(name: str, spec: DataSpec, files: dict[str, dict[str, Any]], digest: str, counts: dict[str, Any],
              skipped: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """Return the content of card.json.

    Args:
        name: of the dataset.
        spec: the recipe's data part.
        files: bytes and SHA-256 of the Parquet files by name.
        digest: of the documents.
        counts: what was counted while writing (`write.Tally.facts`, merged).
        skipped: counts and examples of files and rows that could not be read.
        facts: `kind`, `unit` of the split and facts of the copies.
    """
    dropped = dict(sorted(counts["dropped"].items(), key=lambda item: -item[1]))
    kept = counts["rows"] - sum(dropped.values()) + counts["ends"]
    licences = dict(sorted(counts["licences"].items()))
    parquet = {"encodingFormat": "application/vnd.apache.parquet"}
    return {
        "@context": _CONTEXT, "@type": "sc:Dataset", "conformsTo": "http://mlcommons.org/croissant/1.1", "name": name,
        "description": f"{kept} rows prepared by Bottega from {', '.join(spec.sources)}",
        "license": " AND ".join(_grouped(licence) for licence in licences) or "unknown",
        "inLanguage": sorted(code for code in counts["languages"] if len(code) == 2),
        "distribution": [
            *({"@type": "cr:FileObject", "@id": file, "name": file, "contentUrl": file, "sha256": entry["sha256"],
               "contentSize": f"{entry['bytes']} B", **parquet} for file, entry in files.items()),
            {"@type": "cr:FileSet", "@id": "documents", "includes": "documents-*.parquet", **parquet}],
        "recordSet": [{"@type": "cr:RecordSet", "@id": "rows", "name": "rows", "field": [
            {"@type": "cr:Field", "@id": f"rows/{column}", "name": column, "description": meaning,
             "dataType": _TYPES.get(column, "sc:Text" if column in _TEXT else "sc:Float"),
             "source": {"fileSet": {"@id": "documents"}, "extract": {"column": column}}}
            for column, meaning in _FIELDS.items()]}],
        "bottega": {
            "digest": digest, "kind": facts["kind"], "spec": spec.model_dump(mode="json"),
            "rules": {rule.reason: rule.expression for rule in rules_of(spec)},
            "stages": {"read": counts["rows"] + sum(skipped["skipped"].values()), "skipped": skipped["skipped"],
                       "rows": counts["rows"], "dropped": dropped, "held_out_ends": counts["ends"], "kept": kept},
            "skipped_examples": skipped["examples"], "splits": counts["splits"], "held_out_unit": facts["unit"],
            "duplicates": facts["duplicates"], "sources": counts["sources"], "licences": licences,
            "languages": dict(sorted(counts["languages"].items(), key=lambda item: -item[1]))},
    }


def _grouped(licence: str) -> str:
    return f"({licence})" if " " in licence else licence
