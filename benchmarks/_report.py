"""Keep the sections of RESULTS.md: each benchmark replaces its own and leaves the others alone."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")
_HEAD = "# Benchmark results\n\nWritten by the scripts in this folder; a figure without its script is no claim.\n"


def update(section: str, markdown: str, path: Path = RESULTS) -> None:
    """Replace the text between `<!-- section:start -->` and `<!-- section:end -->`, or add it at the end."""
    from bottega.core.files import write_atomic

    block = f"<!-- {section}:start -->\n{markdown.strip()}\n<!-- {section}:end -->"
    text = path.read_text(encoding="utf-8") if path.is_file() else _HEAD
    found = re.compile(f"<!-- {re.escape(section)}:start -->.*?<!-- {re.escape(section)}:end -->", re.DOTALL)
    text = found.sub(lambda _: block, text) if found.search(text) else f"{text.rstrip()}\n\n{block}\n"
    write_atomic(path, text)


def machine() -> str:
    """Describe this computer in a line."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    import torch

    device = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{model}, {os.cpu_count()} cores{device}, {platform.system()}, torch {torch.__version__}"
