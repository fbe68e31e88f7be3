"""What the NVIDIA driver's own library counts: energy and power limit of the GPUs this process computes on.

`python -c "import torch; from bottega.core import gpu; torch.zeros(1, device='cuda'); print(gpu.joules())"` shows it.
Called through ctypes because the library comes with every driver; nothing is asked before PyTorch has used a GPU.
"""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache
from typing import Any


def joules() -> float | None:
    """Return joules drawn by the GPUs in use since the driver was loaded, other programs' share included.

    None when no GPU is in use or its driver does not count (the counter exists since the Volta generation).
    """
    found = [_read("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong, handle) for handle in _handles()]
    known = [one for one in found if one is not None]
    return sum(known) / 1e3 if known and len(known) == len(found) else None


def watts_limit() -> float | None:
    """Return the power in watts that the GPUs in use may draw together, None when it is not known."""
    found = [_read("nvmlDeviceGetEnforcedPowerLimit", ctypes.c_uint, handle) for handle in _handles()]
    known = [one for one in found if one is not None]
    return sum(known) / 1e3 if known and len(known) == len(found) else None


@lru_cache(maxsize=1)
def _library() -> Any:
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        return library if library.nvmlInit_v2() == 0 else None
    except (OSError, AttributeError):
        return None


def _handles() -> list[ctypes.c_void_p]:
    """Return the driver's handle of each GPU that PyTorch uses; by UUID, since PyTorch may number them otherwise."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized() or _library() is None:
        return []
    handles = []
    for index in range(torch.cuda.device_count()):
        handle, uuid = ctypes.c_void_p(), f"GPU-{torch.cuda.get_device_properties(index).uuid}"
        if _library().nvmlDeviceGetHandleByUUID(uuid.encode(), ctypes.byref(handle)) != 0:
            return []
        handles.append(handle)
    return handles


def _read(function: str, kind: Any, handle: ctypes.c_void_p) -> float | None:
    value = kind()
    call = getattr(_library(), function, None)
    return float(value.value) if call is not None and call(handle, ctypes.byref(value)) == 0 else None
