"""Python code of strangers (a model's, for instance), run where it can do little. `pytest tests/guard/test_sandbox.py`.

A process of its own: `python -I` in an empty temporary folder, no environment, no open files but its pipes, limits on
processor time, memory, file size and processes, killed with all its descendants after a wall clock. On Linux (x86-64
and arm64) a seccomp filter (seccomp(2)) besides refuses sockets, tracing, namespaces, mounts, keys and signals to
others, and Landlock (landlock(7)), where the kernel has it, refuses all files but Python's own (to read) and the
temporary folder. `Ran.contained` names what held in a run.

It is a fence, not a wall: the kernel is shared, code runs as the same user, and where Landlock is absent it can read
what that user can read. Code that is meant to break out belongs in a virtual machine. And tests that run in the same
process as the code they test can be deceived by it: a reward that is worth cheating for needs held-out tests too.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bottega.guard import _sandbox_child

_MOST_OUTPUT = 64 * 1024
_CPU_MARGIN = 1  # seconds of processor time beyond the wall clock, for a process that forks


@dataclass(frozen=True, slots=True)
class Ran:
    """What happened to code.

    Attributes:
        passed: it ran to its end, tests and all.
        reason: why not, empty when passed.
        output: what it printed, the first 64 KiB.
        contained: the barriers that were up: `limits`, `seccomp`, `landlock`.
    """

    passed: bool
    reason: str
    output: str
    contained: tuple[str, ...] = ()


def run_python(code: str, tests: str = "", *, seconds: float = 5.0, megabytes: int = 512) -> Ran:
    """Run code and then tests in one fresh process; passed when neither raises and the process does not end early.

    Args:
        code: Python source.
        tests: Python source that follows, with `assert` for instance.
        seconds: wall clock.
        megabytes: address space; a file may be a tenth of it.
    """
    folder = tempfile.mkdtemp(prefix="bottega-sandbox-")
    word = secrets.token_hex(16)  # says that the end was reached; read and forgotten before the code begins
    task = "\n".join([word, str(len(code.encode())), str(int(seconds) + _CPU_MARGIN), str(megabytes), folder, ""])
    data = task.encode() + code.encode() + tests.encode()
    try:
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", Path(_sandbox_child.__file__).read_text(encoding="utf-8")],
                stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, cwd=folder, env={},
                start_new_session=True, close_fds=True)
            try:
                process.communicate(data, timeout=seconds)
                late = False
            except subprocess.TimeoutExpired:
                late = True
            finally:
                _end(process)
            output.seek(0)
            said = output.read(_MOST_OUTPUT).decode("utf-8", "replace")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    lines = said.splitlines()
    up = tuple(lines[0].split()[1:]) if lines and lines[0].startswith("contained") else ()
    text = "\n".join(line for line in lines[1:] if word not in line).removesuffix("\n")
    if late:
        return Ran(False, f"stopped after {seconds:g} s", text, up)
    if process.returncode < 0:
        return Ran(False, f"ended by {signal.Signals(-process.returncode).name}", text, up)
    if not lines or lines[-1] != word:
        return Ran(False, lines[-1][:200] if process.returncode and lines else "ended before the tests did", text, up)
    return Ran(True, "", text, up)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
