"""The sandbox: code that is right, wrong and hostile, run for real."""

import contextlib
import os
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from bottega.guard.sandbox import run_python

RIGHT = "def add(a, b):\n    return a + b"
LINUX = sys.platform == "linux" and os.uname().machine in ("x86_64", "aarch64")


def test_right_and_wrong_code() -> None:
    assert run_python(RIGHT, "assert add(1, 2) == 3").passed
    wrong = run_python(RIGHT, "assert add(1, 2) == 4")
    assert not wrong.passed
    assert wrong.reason == "AssertionError"
    assert not run_python("def add(", "").passed
    assert run_python("print('é')", "").output == "é"


@pytest.mark.parametrize("code", ["import sys; sys.exit(0)", "import os; os._exit(0)", "raise SystemExit"])
def test_leaving_early_is_no_pass(code: str) -> None:
    assert run_python(code, "assert False").reason == "ended before the tests did"


def test_printing_a_word_is_no_pass() -> None:
    assert not run_python("print('passed'); raise SystemExit", "assert False").passed


def test_an_endless_loop_is_stopped() -> None:
    began = time.perf_counter()
    ran = run_python("while True: pass", seconds=1.0)
    assert ran.reason == "stopped after 1 s"
    assert time.perf_counter() - began < 10


def test_a_big_allocation_fails() -> None:
    assert run_python("x = bytearray(4 << 30)").reason == "MemoryError"


def test_a_big_file_and_endless_output_fail() -> None:
    code = "while True:\n    {}"
    assert not run_python("f = open('a', 'wb')\n" + code.format("f.write(b'x' * 1000000)"), megabytes=128).passed
    ran = run_python(code.format("print('x' * 1000)"), megabytes=128)
    assert not ran.passed
    assert len(ran.output) <= 64 * 1024


def test_it_sees_no_environment_and_leaves_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOTTEGA_SECRET", "hush")
    ran = run_python("import os\nopen('a', 'w').write('1')\nprint(os.getcwd(), os.environ.get('BOTTEGA_SECRET'))")
    assert ran.passed
    folder, secret = ran.output.split()
    assert secret == "None"
    assert not Path(folder).exists()


@pytest.mark.skipif(not LINUX, reason="seccomp is Linux's")
def test_no_network_no_process_no_signal() -> None:
    ran = run_python("")
    assert "seccomp" in ran.contained
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.2)
    port, reached = server.getsockname()[1], list[object]()

    def listen() -> None:
        with contextlib.suppress(TimeoutError):
            reached.append(server.accept())

    listener = threading.Thread(target=listen)
    listener.start()
    for code in (f"import socket; socket.create_connection(('127.0.0.1', {port}))", "import os; os.fork()",
                 "import subprocess; subprocess.run(['id'])", "import os; os.execv('/bin/sh', ['sh'])",
                 "import os; os.kill(os.getppid(), 0)",
                 "import ctypes; assert ctypes.CDLL(None).ptrace(0, 0, 0, 0) == 0"):
        ran = run_python(code)
        assert not ran.passed, code
        assert "PermissionError" in ran.reason or "Assertion" in ran.reason or "not permitted" in ran.output, ran
    listener.join()
    assert not reached
    server.close()


@pytest.mark.skipif(not LINUX, reason="seccomp is Linux's")
def test_a_fork_bomb_makes_no_process() -> None:
    ran = run_python("import os\ncount = 0\nwhile count < 1000:\n    try:\n        os.fork()\n    except OSError:\n"
                     "        count += 1\nprint(count)", seconds=5)
    assert ran.output == "1000"


def test_no_file_outside_where_landlock_is(tmp_path: Path) -> None:
    if "landlock" not in run_python("").contained:
        pytest.skip("this kernel has no Landlock: the sandbox can read what its user can")
    secret = tmp_path / "secret"
    secret.write_text("hush")
    for code in (f"print(open({str(secret)!r}).read())", f"open({str(tmp_path / 'new')!r}, 'w')",
                 f"import os; os.remove({str(secret)!r})", f"import os; os.listdir({str(tmp_path)!r})",
                 "open('/proc/self/environ').read()", "open('/etc/passwd').read()"):
        ran = run_python(code)
        assert not ran.passed, code
        assert "hush" not in ran.output
    assert secret.read_text() == "hush"
    assert not (tmp_path / "new").exists()
