"""Many streams at once: `bottega serve`, `transformers serve` and a plain `generate` server on the same weights.

    python benchmarks/serve.py workshop/models/python-assistant-dpo             # two minutes of 64 streams; RESULTS.md
    python benchmarks/serve.py workshop/models/python-assistant-dpo --quick     # seconds, to see that it runs

Each server is a real process that is asked over HTTP for streamed chat answers, first by one client, then by 64 that
ask again as soon as they are answered. All get the same questions and seeds. The clients run in this process, on the
same cores. For ours it is also checked that every text is the one that is made alone, and that memory stays flat.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from _report import machine, update

QUESTIONS = ["Hello, I am Ana. The kettle arrived broken, order 4821, it came last week. What now?",
             "This is Leo. I no longer want the desk, my order 7305, delivered 2 months ago. Can you help?",
             "The lamp came in the wrong colour. My order is 1177, it arrived yesterday. I am Mia.",
             "What does os.path.join do?"]
SEEDS = 64  # of each question
MOST_TOKENS = 100


@dataclass
class Load:
    """What the clients saw."""

    seconds: float = 0.0
    tokens: int = 0
    answers: int = 0
    errors: list[str] = field(default_factory=list)
    first: list[float] = field(default_factory=list)  # seconds to the first text
    texts: dict[int, str] = field(default_factory=dict)
    changed: int = 0  # answers that were another text than the first of the same question and seed

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


async def ask(url: str, model: str, number: int, load: Load) -> None:
    """Stream one answer over a connection of its own and note what came."""
    place = urlsplit(url)
    body = json.dumps({"model": model, "stream": True, "stream_options": {"include_usage": True}, "temperature": 1.0,
                       "max_tokens": MOST_TOKENS, "seed": number // len(QUESTIONS),
                       "messages": [{"role": "user", "content": QUESTIONS[number % len(QUESTIONS)]}]}).encode()
    start = time.perf_counter()
    writer, text = None, list[str]()
    try:
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n" \
               f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        status = (await reader.readline()).split()[1]
        tokens, first = 0, None
        async for line in reader:
            if not line.startswith(b"data: {"):
                continue
            chunk = json.loads(line[6:])
            if "error" in chunk:
                raise RuntimeError(str(chunk["error"]))
            if chunk.get("usage"):
                tokens = chunk["usage"]["completion_tokens"]
            for choice in chunk["choices"]:
                if content := choice["delta"].get("content"):
                    first = first or time.perf_counter() - start
                    text.append(content)
        if status != b"200":
            raise RuntimeError(f"status {status.decode()}")
        if not tokens:
            raise RuntimeError("the stream ended without its usage")
    except asyncio.CancelledError:
        load.tokens += len(text)  # what came of an answer that was cut off
        raise
    except (OSError, RuntimeError, ValueError) as error:
        load.errors.append(str(error))
        return
    finally:
        if writer is not None:
            writer.close()
    load.answers += 1
    load.tokens += tokens
    load.first.append(first or time.perf_counter() - start)
    whole = "".join(text)
    load.changed += load.texts.setdefault(number, whole) != whole


async def clients(url: str, model: str, count: int, seconds: float, texts: dict[int, str] | None = None,
                  wait: bool = True) -> Load:
    """Let `count` clients ask one question after another for some seconds; answers begun are awaited, or cut off."""
    load, start, numbers = Load(texts=dict(texts or {})), time.perf_counter(), iter(range(10**9))

    async def client() -> None:
        while time.perf_counter() - start < seconds:
            await ask(url, model, next(numbers) % (len(QUESTIONS) * SEEDS), load)

    tasks = [asyncio.create_task(client()) for _ in range(count)]
    await asyncio.wait(tasks, timeout=None if wait else seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    load.seconds = time.perf_counter() - start
    return load


def memory(process: subprocess.Popen[str]) -> float:
    """Return a process's resident memory in MB."""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextmanager
def ours(bundle: Path) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    with tempfile.TemporaryDirectory() as home:
        shutil.copytree(bundle, Path(home) / "models" / bundle.name)
        command = [sys.executable, "-m", "bottega", "serve", "--port", "0", "--json"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True,
                                   env={**os.environ, "BOTTEGA_HOME": home})
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())["url"], bundle.name
        finally:
            process.terminate()
            process.wait(60)


@contextmanager
def peer(command: list[str], model: str, port: int) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(command, text=True, env=environment, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            load = Load()
            asyncio.run(ask(url, model, 0, load))
            if load.answers:
                break
            assert process.poll() is None, f"{command[0]} ended"
            time.sleep(0.2)
        yield process, url, model
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def measure(process: subprocess.Popen[str], url: str, model: str, seconds: float, streams: int,
            repeats: int, wait: bool) -> dict[str, Any]:
    """One client and many, in turn; the most seconds go to the many. Without `wait` answers are cut off at the end."""
    async def run() -> dict[str, Any]:
        await clients(url, model, 1, 1)  # whatever is made at the first use
        alone: dict[int, str] = {}
        singles, manies, sizes = [], [], []
        for _ in range(repeats):
            singles.append(await clients(url, model, 1, max(2.0, seconds / 10), alone))
            alone.update(singles[-1].texts)
            begin = memory(process)
            manies.append(await clients(url, model, streams, seconds / repeats, alone, wait))
            sizes.append((begin, memory(process)))
        one, many = (statistics.median(load.rate for load in loads) for loads in (singles, manies))
        first = sorted(late for load in manies for late in load.first) or [float("nan")]
        return {"one": one, "many": many, "answers": sum(load.answers for load in manies),
                "errors": [error for load in (*singles, *manies) for error in load.errors],
                "changed": sum(load.changed for load in manies),
                "first alone": statistics.median(late for load in singles for late in load.first),
                "first p50": first[len(first) // 2], "first p99": first[int(len(first) * 0.99)], "memory": sizes}
    return asyncio.run(run())


def row(name: str, found: dict[str, Any], base: dict[str, Any]) -> str:
    one, many = found["one"], found["many"]
    waits = " | ".join(f"{1e3 * found[key]:.0f}" for key in ("first alone", "first p50", "first p99"))
    return f"| {name} | {one:.0f} | {many:.0f} | {many / one:.1f} | {waits} | {found['answers']} | " \
           f"{len(found['errors'])} | {base['many'] / many:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="a model tuned to answer, for instance of 'bottega demo'")
    parser.add_argument("--seconds", type=float, default=120, help="of many streams, for each server")
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3, help="turns of one and of many within these seconds")
    parser.add_argument("--peers", nargs="*", default=["generate"], help="generate, 'transformers serve'")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    seconds, repeats = (6.0, 1) if options.quick else (options.seconds, options.repeats)
    bundle = options.bundle.resolve()
    plain = Path(__file__).with_name("_generate_server.py")
    contestants = {
        "ours": lambda: ours(bundle),
        "generate": lambda: peer([sys.executable, str(plain), str(bundle), "8493"], bundle.name, 8493),
        "transformers serve": lambda: peer(
            [str(Path(sys.executable).with_name("transformers")), "serve", "--host", "127.0.0.1", "--port", "8494",
             "--continuous-batching", "--device", "cpu"], str(bundle), 8494)}
    found: dict[str, dict[str, Any]] = {}
    for name in ("ours", *options.peers):
        with contestants[name]() as (process, url, model):
            # a peer gets one turn: what it did not finish when it was cut off would slow the next
            turns = (seconds, options.streams, repeats, True) if name == "ours" else \
                (seconds / repeats, options.streams, 1, False)
            found[name] = measure(process, url, model, *turns)
        print(name, json.dumps(found[name]), flush=True)
    lines = [f"One client and {options.streams}, {seconds:.0f} s of many for ours, {seconds / repeats:.0f} s for a "
             f"peer; {bundle.name}, streamed "
             f"chat answers of at most {MOST_TOKENS} tokens at temperature 1; servers and clients share the cores.", "",
             "| server | one, tokens/s | many, tokens/s | many / one | first text alone, ms | p50 of many, ms | "
             "p99 of many, ms | answers | errors | ours / it |", "|---|---|---|---|---|---|---|---|---|---|",
             *(row(name, entry, found["ours"]) for name, entry in found.items()), "",
             f"Ours: {found['ours']['changed']} of {found['ours']['answers']} answers among many differ from the text "
             "of the same question and seed before; resident memory before and after each turn of many: "
             + ", ".join(f"{begin:.0f} → {end:.0f} MB" for begin, end in found["ours"]["memory"]) + "."]
    print("\n".join(lines))
    if not options.quick:
        update("serve", "\n".join(["## Serving many streams (serve.py)", "", machine() + ".", "", *lines]))


if __name__ == "__main__":
    main()
