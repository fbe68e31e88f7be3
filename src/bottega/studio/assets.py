"""The studio's own scripts, styles and icons, held in memory; `bottega serve` sends them with the page.

One digest over all of them stands in their address, so a browser keeps them for ever and a new version is a new
address. Modules import each other by relative names, which stay below the same digest.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI
from starlette.responses import PlainTextResponse, Response

_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_FOR_EVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True)
class Assets:
    """All static files by name, with the address they are served below."""

    files: dict[str, bytes]
    base: str

    @staticmethod
    def load(folder: Path) -> Assets:
        """Read a folder's files (not its sub-folders)."""
        files = {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.suffix in _TYPES}
        digest = hashlib.sha256()
        for name, content in files.items():
            digest.update(name.encode() + b"\0" + content + b"\0")
        return Assets(files, f"/studio/static/{digest.hexdigest()[:16]}")

    def url(self, name: str) -> str:
        """Return the address of a file; a template naming a file that is not there fails at once (KeyError)."""
        return f"{self.base}/{name}" if self.files[name] else ""

    def add(self, app: FastAPI) -> None:
        """Serve the files; a name is looked up among those read, never opened as a path."""

        async def asset(name: str) -> Response:
            content = self.files.get(name)
            if content is None:
                return PlainTextResponse("no such file", status_code=404)
            kind = _TYPES[Path(name).suffix]
            return Response(content, headers={"Content-Type": kind, "Cache-Control": _FOR_EVER})

        app.add_api_route(f"{self.base}/{{name}}", asset, methods=["GET", "HEAD"], include_in_schema=False)
