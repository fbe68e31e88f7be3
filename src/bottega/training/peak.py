"""How fast this machine multiplies matrices: the limit that training speed is compared with.

`bottega estimate RECIPE` uses it before a run, the live display ("% of peak") during one.
"""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

import torch

from bottega.core.errors import BottegaError
from bottega.core.files import digest_json, read_json, write_json

_SIZE = 1024
_SECONDS = 0.15
_measured: dict[str, float] = {}  # precision → FLOP/s seen by this process


def machine() -> dict[str, Any]:
    """Return what decides the speed: processor or GPU, threads, library version."""
    if torch.cuda.is_available():
        return {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        model = next((line.split(":", 1)[1].strip() for line in info.read_text().splitlines()
                      if line.startswith("model name")), model)
    return {"device": model, "cores": os.cpu_count(), "threads": torch.get_num_threads(), "torch": torch.__version__}


def measure(dtype: torch.dtype) -> float:
    """Return floating-point operations a second of a square matrix product (the best of a few), measured now."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = _SIZE * 8 if device == "cuda" else _SIZE
    left = torch.randn(size, size, device=device).to(dtype)
    best, end = 0.0, time.perf_counter() + _SECONDS
    left @ left
    while best == 0.0 or time.perf_counter() < end:
        start = time.perf_counter()
        left @ left
        if device == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


class Notebook:
    """What this machine taught us, kept in `cache/machine.json`: peaks, choices, shares of peak reached.

    Args:
        cache: the workshop's cache folder.
    """

    def __init__(self, cache: Path) -> None:
        self.path = cache / f"machine-{digest_json(machine())[:12]}.json"
        try:
            self.notes: dict[str, Any] = read_json(self.path) if self.path.is_file() else {}
        except BottegaError:
            self.notes = {}  # only a cache: measured again

    def get(self, *key: str) -> Any:
        """Return a note, or None."""
        return self.notes.get("/".join(key))

    def put(self, value: Any, *key: str) -> None:
        """Keep a note."""
        self.notes = {**self.notes, "machine": machine(), "/".join(key): value}
        write_json(self.path, self.notes)

    def peak(self, precision: str) -> float:
        """Return the highest matrix-product speed ever seen here, in FLOP/s, for `fp32` or `bf16`.

        Measured once a process, because a machine that was busy the first time would keep a peak that is too low.
        """
        known = self.get("peak", precision) or 0.0
        if precision not in _measured:
            _measured[precision] = measure(torch.bfloat16 if precision == "bf16" else torch.float32)
        if _measured[precision] > 1.05 * known:
            self.put(_measured[precision], "peak", precision)
        return max(float(known), _measured[precision])
