"""A recipe, small picture files and a quick way to run many commands, for the tests of pictures at the command line."""

import io
import signal
import struct
import subprocess
import zlib
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bottega.cli import main

RECIPE = """
name: NAME
data: {sources: [SOURCE], validation: 0.25}
codec: {kind: image, size: 8}
generator: {family: diffusion, depth: 1}
objective: {kind: pictures}
training: {budget: {steps: 2}, batch: 8, optimizer: adamw, weight_decay: 0, precision: fp32, compile: "off",
           sample_every: 0}
"""


def command(*arguments: str, home: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `bottega …` in this process, as `tests.cli.conftest.bottega` does in a second one: many take a second."""
    out, told, code = io.StringIO(), io.StringIO(), 0
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(told):
            patch.setenv("BOTTEGA_HOME", str(home))
            patch.chdir(cwd)
            patch.setattr("sys.argv", ["bottega", *arguments])
            try:
                main()
            except SystemExit as end:
                code = int(end.code or 0)
    finally:
        signal.signal(signal.SIGINT, before)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), told.getvalue())


def save(path: Path, pixels: NDArray[np.generic], mode: str | None = None, **options: object) -> Path:
    """Write an array [H, W] or [H, W, channels] of 8 bits a number, or uint16, as a picture file of the path's kind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = pixels if pixels.dtype == np.uint16 else pixels.astype(np.uint8)
    Image.fromarray(plain, mode).save(path, **options)
    return path


def bomb(path: Path, side: int = 12_000) -> Path:
    """Write a whole, valid PNG of side x side black pixels in some kilobytes."""
    rows = zlib.compressobj()
    packed = b"".join(rows.compress(bytes(1 + side // 8)) for _ in range(side)) + rows.flush()
    parts = (b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)), (b"IDAT", packed), (b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts))
    return path
