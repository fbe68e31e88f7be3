"""card.json of a set of pictures or of a table, in the words of Croissant 1.1. `bottega data prepare` writes it."""

from __future__ import annotations

from typing import Any

from bottega.core.recipe import DataSpec

_CONTEXT = {"@vocab": "https://schema.org/", "sc": "https://schema.org/", "cr": "http://mlcommons.org/croissant/",
            "dct": "http://purl.org/dc/terms/", "conformsTo": "dct:conformsTo", "recordSet": "cr:recordSet",
            "field": "cr:field", "dataType": {"@id": "cr:dataType", "@type": "@vocab"}, "source": "cr:source",
            "fileObject": "cr:fileObject", "extract": "cr:extract", "column": "cr:column"}
_FIELDS = {
    "origin": ("sc:Text", "where it was read"), "source": ("sc:Text", "the recipe's source"),
    "sha256": ("sc:Text", "digest of the file; of drawn pictures of the pixels"),
    "label": ("sc:Integer", "index into the classes, -1 for none"), "class": ("sc:Text", "name of the class"),
    "caption": ("sc:Text", "what it shows"), "split": ("sc:Text", "train or validation; empty when dropped"),
    "keep": ("sc:Boolean", "false: dropped, for `reason`"), "reason": ("sc:Text", "why it was dropped"),
    "licence": ("sc:Text", "SPDX expression")}


def make_card(name: str, spec: DataSpec, files: dict[str, dict[str, Any]], digest: str,
              facts: dict[str, Any], *, kind: str = "pictures", rows: str = "rows.parquet",
              fields: dict[str, tuple[str, str]] | None = None) -> dict[str, Any]:
    """Return the content of card.json.

    Args:
        name: of the dataset.
        spec: the recipe's data part.
        files: bytes and SHA-256 of the files by name.
        digest: of the content.
        facts: counts and facts that stand under `bottega`, `licences` among them.
        kind: of data: `pictures` or `table`.
        rows: name of the file that `fields` are columns of.
        fields: column → type and meaning; by default those of pictures.
    """
    kinds = {".npy": "application/octet-stream", ".json": "application/json",
             ".parquet": "application/vnd.apache.parquet"}
    return {
        "@context": _CONTEXT, "@type": "sc:Dataset", "conformsTo": "http://mlcommons.org/croissant/1.1", "name": name,
        "description": f"{facts['stages']['kept']} {'rows' if kind == 'table' else kind} prepared by Bottega from "
                       f"{', '.join(spec.sources)}",
        "license": " AND ".join(f"({one})" if " " in one else one for one in facts["licences"]) or "unknown",
        "distribution": [
            {"@type": "cr:FileObject", "@id": file, "name": file, "contentUrl": file, "sha256": entry["sha256"],
             "contentSize": f"{entry['bytes']} B", "encodingFormat": kinds[file[file.rindex("."):]]}
            for file, entry in files.items()],
        "recordSet": [{"@type": "cr:RecordSet", "@id": "rows", "name": "rows", "field": [
            {"@type": "cr:Field", "@id": f"rows/{column}", "name": column, "description": meaning, "dataType": of,
             "source": {"fileObject": {"@id": rows}, "extract": {"column": column}}}
            for column, (of, meaning) in (fields or _FIELDS).items()]}],
        "bottega": {"digest": digest, "kind": kind, "spec": spec.model_dump(mode="json"), **facts},
    }
