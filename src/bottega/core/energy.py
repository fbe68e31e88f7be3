"""What a piece of work cost: seconds, CPU seconds and watt-hours, written into every lineage.

Energy is read from the processor's own counter (RAPL) where the system lets us; elsewhere it is a range of CPU
seconds times a stated power per busy core, and says so. A GPU in use adds what its driver counted.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from bottega.core import gpu

_RAPL = Path("/sys/class/powercap/intel-rapl:0/energy_uj")
# Watts of one busy core with its share of memory and board: a thrifty laptop and a loaded server socket.
CORE_WATTS = (4.0, 12.0)


class Cost(BaseModel):
    """The price of a finished step. Times in seconds, energy in watt-hours with a low and a high bound."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    energy_wh_low: float = 0.0
    energy_wh_high: float = 0.0
    method: str = "none"

    def __add__(self, other: Cost) -> Cost:
        """Add two costs; the method of the dearer one is kept."""
        return Cost(
            seconds=self.seconds + other.seconds,
            cpu_seconds=self.cpu_seconds + other.cpu_seconds,
            energy_wh_low=self.energy_wh_low + other.energy_wh_low,
            energy_wh_high=self.energy_wh_high + other.energy_wh_high,
            method=self.method if self.seconds >= other.seconds else other.method,
        )


def _read_rapl() -> float | None:
    """Return the package energy counter in joules, or None where it cannot be read."""
    try:
        return int(_RAPL.read_text()) / 1e6
    except (OSError, ValueError):
        return None


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


class CostMeter:
    """Measures from its creation; `read()` may be called any number of times."""

    def __init__(self) -> None:
        self._start, self._cpu, self._joules = time.perf_counter(), _cpu_seconds(), _read_rapl()
        self._gpu = gpu.joules()

    def read(self) -> Cost:
        """Return the cost since creation, this process and its finished children included."""
        seconds, cpu = time.perf_counter() - self._start, _cpu_seconds() - self._cpu
        joules = _read_rapl()
        if joules is not None and self._joules is not None and joules >= self._joules:
            low = high = (joules - self._joules) / 3600
            method = "RAPL package counter"
        else:
            low, high = (cpu * watts / 3600 for watts in CORE_WATTS)
            method = f"CPU seconds x {CORE_WATTS[0]:g}-{CORE_WATTS[1]:g} W a core"
        drawn = gpu.joules()
        self._gpu = drawn if self._gpu is None else self._gpu  # a GPU first used after this meter began
        if drawn is not None and self._gpu is not None:
            more = (drawn - self._gpu) / 3600
            low, high, method = low + more, high + more, f"{method} + the GPU's energy counter"
        return Cost(seconds=seconds, cpu_seconds=cpu, energy_wh_low=low, energy_wh_high=high, method=method)
