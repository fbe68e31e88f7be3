"""A real server process to talk to: `python -m bottega serve` on a free port, with a workshop of its own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai

from bottega.workshop.store import Store

START = 60.0  # seconds; a busy machine is slow


@dataclass
class Running:
    """A server under way."""

    process: subprocess.Popen[str]
    url: str
    models: list[str]
    home: Path

    def client(self, **options: Any) -> openai.OpenAI:
        return openai.OpenAI(**{"base_url": f"{self.url}/v1", "api_key": "none", "max_retries": 0, "timeout": 60,
                                **options})

    def async_client(self, **options: Any) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(**{"base_url": f"{self.url}/v1", "api_key": "none", "max_retries": 0, "timeout": 60,
                                     **options})

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(self.url + path, timeout=30, **options)

    def post(self, path: str, content: Any, **options: Any) -> httpx.Response:
        return httpx.post(self.url + path, json=content, timeout=60, **options)

    @contextmanager
    def store(self) -> Iterator[Store]:
        """The server's store, opened by the test too."""
        opened = Store.open(self.home)
        try:
            yield opened
        finally:
            opened.close()

    def figure(self, name: str, **labels: str) -> float:
        """The sum of a metric over all samples that have the labels."""
        total = 0.0
        for line in self.get("/metrics").text.splitlines():
            if line.startswith((f"{name} ", f"{name}{{")) and all(f'{k}="{v}"' in line for k, v in labels.items()):
                total += float(line.rsplit(" ", 1)[1])
        return total


def wait_for(true: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def bottega(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "BOTTEGA_HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-m", "bottega", *arguments], env=environment, text=True,
                          capture_output=True, timeout=START, check=False)


@contextmanager
def serving(home: Path, *options: str, grace: float | None = None) -> Iterator[Running]:
    """Start a server and end it afterwards; its log must show no fault of its own.

    `grace` replaces the time that it gives to what runs when it stops.
    """
    program = ["-m", "bottega"] if grace is None else [
        "-c", f"import bottega.cli, bottega.server.run as run; run.GRACE = {grace}; bottega.cli.main()"]
    environment = {**os.environ, "BOTTEGA_HOME": str(home), "OMP_NUM_THREADS": "1"}
    log = home / "server.log"
    with log.open("w") as errors:
        process = subprocess.Popen([sys.executable, *program, "serve", "--port", "0", "--json", *options],
                                   env=environment, text=True, stdout=subprocess.PIPE, stderr=errors)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, log.read_text()[-3000:]
            told = json.loads(line)
            yield Running(process, told["url"], told["models"], home)
        finally:
            process.kill()
            process.wait()
    assert "Traceback" not in log.read_text(), log.read_text()[-3000:]
