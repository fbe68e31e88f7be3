"""A loaded model of graphs: `bottega generate molecules-graph --rows 100 -o new.smi`.

Graphs come in chunks. Every finished one is checked against the model's rule; one that breaks it is drawn again, so
that what comes out keeps it, and the number is the one that was asked for.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from bottega.codecs.graph import GraphCodec
from bottega.core.bundle import Bundle
from bottega.core.errors import ControlError, InputError
from bottega.core.files import digest_json
from bottega.core.graph import Graph
from bottega.core.request import Controls, Output, Request, Result, Step
from bottega.families.bases import open_generator
from bottega.families.graph import GraphGenerator
from bottega.generation.graph_sampler import GraphSampler, Limits
from bottega.generation.signature import bundle_of, origin, signature

CHUNK = 64      # graphs drawn together
_GRAPHS = 10    # when nobody says how many
_HOPELESS = 50  # chunks in a row without one graph that passes, after which it is given up


@dataclass(frozen=True)
class GraphPlan:
    """A settled request of graphs.

    Attributes:
        request: with the settled controls.
        seed: that makes the same graphs again.
        rows: how many graphs.
        wanted: outputs: one list of graphs.
        prompt: tokens read: none.
    """

    request: Request
    seed: int
    rows: int
    wanted: int = 1
    prompt: tuple[int, ...] = ()

    @property
    def controls(self) -> Controls:
        """The settled controls."""
        return self.request.controls


class GraphEngine:
    """One model of graphs.

    Args:
        model: in evaluation mode.
        codec: of its types and its rule.
        controls: defaults that came with the model.
        model_digest: digest of the bundle.
        lineage: where the model came from.

    Attributes:
        understands: controls it obeys.
    """

    family = "graph"
    understands = GraphGenerator.understands
    at_once = 1
    takes_turns = True

    def __init__(self, model: GraphGenerator, codec: GraphCodec, *, controls: Controls, model_digest: str,
                 lineage: dict[str, Any]) -> None:
        self.model, self.codec = model, codec
        self.model_digest, self.lineage, self.controls = model_digest, lineage, controls

    @classmethod
    def open(cls, model: Path | Bundle) -> GraphEngine:
        """Verify a bundle and load it.

        Raises:
            InputError: no such folder, not a bundle, or not a model of graphs.
            CorruptError: a file does not match the manifest.
        """
        bundle = bundle_of(model, "graph", "graphs")
        loaded = cast(GraphGenerator, open_generator(bundle, "cuda" if torch.cuda.is_available() else "cpu"))
        return cls(loaded, GraphCodec.load(bundle.path), controls=bundle.controls, model_digest=bundle.digest,
                   lineage=origin(bundle))

    def plan(self, request: Request) -> GraphPlan:
        """Settle a request.

        Raises:
            ControlError: an unknown control, or more nodes than the model can make.
            InputError: a prompt, a picture or a conversation.
        """
        request.controls.require(self.understands, self.family)
        if request.messages is not None or request.prompt or request.suffix is not None or request.of_pictures:
            raise InputError("a model of graphs takes no text", where="prompt", fix="leave it empty")
        controls = request.controls.over(self.controls)
        if controls.nodes is not None and controls.nodes > self.codec.largest:
            raise ControlError(f"nodes is {controls.nodes}, but the largest graph the model was shown has "
                               f"{self.codec.largest}", where="nodes", fix=f"ask for 1 to {self.codec.largest}")
        if controls.seed is None:
            controls = controls.model_copy(update={"seed": secrets.randbits(53)})
        assert controls.seed is not None
        return GraphPlan(request.model_copy(update={"controls": controls}), controls.seed, controls.rows or _GRAPHS)

    def steps(self, plan: GraphPlan) -> Iterator[list[Step]]:
        """Yield chunks of graphs: `text` holds a line for each, `data` the graphs; the last one says `finish`.

        Raises:
            ControlError: no graph that was drawn keeps the rule.
        """
        left = plan.rows
        for index, graphs in enumerate(self.chunks(plan)):
            left -= len(graphs)
            text = "".join(self.codec.text(graph) + "\n" for graph in graphs)
            yield [Step(output=0, index=index, kind="row", text=text, data=graphs, finish=None if left else "end")]

    def chunks(self, plan: GraphPlan) -> Iterator[list[Graph]]:
        """Yield the graphs of a plan, at most `CHUNK` at a time.

        Raises:
            ControlError: as in `steps`.
        """
        sampler, left, chunk, empty = self.sampler(plan.controls), plan.rows, 0, 0
        while left:
            drawn = self.draw(sampler, plan.seed, chunk)
            chunk += 1
            good = [graph for graph in drawn if self._passes(graph, plan.controls.nodes)][:left]
            empty = 0 if good else empty + 1
            if empty >= _HOPELESS:
                asked = f" with {plan.controls.nodes} nodes" if plan.controls.nodes else ""
                raise ControlError(f"none of {empty * CHUNK:,} graphs{asked} keeps the rule '{self.codec.rule}'",
                                   where="nodes", fix="ask for another number of nodes, or train longer")
            left -= len(good)
            if good:
                yield good

    def sampler(self, controls: Controls, *, free: bool = False) -> GraphSampler:
        """Return a sampler under some controls; `free`: without the limits of the rule, to see what was learned."""
        device = self.model.best_loss.device
        limits = self.codec.limits()
        kept = Limits() if free else Limits(
            limits.connected, limits.one, *(None if numbers is None else torch.tensor(numbers, device=device)
                                            for numbers in (limits.capacity, limits.order)))
        return GraphSampler(self.model, kept, size=controls.nodes,
                            temperature=1.0 if controls.temperature is None else controls.temperature)

    def draw(self, sampler: GraphSampler, seed: int, chunk: int) -> list[Graph]:
        """Return the graphs of a chunk as they come, whether they keep the rule or not."""
        rng = torch.Generator().manual_seed(int.from_bytes(
            bytes.fromhex(digest_json([seed, chunk])[:15].zfill(16)), "big"))
        drawn = sampler.draw(CHUNK, rng)
        found = []
        for nodes, edges, size in zip(drawn.nodes.cpu().numpy(), drawn.edges.cpu().numpy(), drawn.sizes.tolist(),
                                      strict=True):
            found.append(self.codec.decode(nodes[:size], edges[:size, :size]))
        return found

    def _passes(self, graph: Graph, nodes: int | None) -> bool:
        return not self.codec.broken(graph) and (nodes is None or len(graph) == nodes)

    def sample(self, count: int, *, seed: int = 0, nodes: int | None = None,
               temperature: float | None = None) -> list[Graph]:
        """Return graphs that keep the rule; see `Controls` for what can be asked.

        Raises:
            ControlError: as in `plan` and `steps`.
        """
        given = {"rows": count, "seed": seed, "nodes": nodes, "temperature": temperature}
        controls = Controls.parse({name: value for name, value in given.items() if value is not None})
        return [graph for graphs in self.chunks(self.plan(Request(prompt="", controls=controls))) for graph in graphs]

    def result(self, plan: GraphPlan, steps: list[Step], seconds: float) -> Result:
        """Sign what was made."""
        return Result(outputs=[Output(steps=steps, text="".join(step.text for step in steps), finish="end")],
                      prompt_tokens=0, new_tokens=plan.rows, seed=plan.seed, seconds=seconds, model=self.model_digest,
                      lineage=self.sign(plan))

    def generate(self, request: Request) -> Result:
        """Make the graphs of a request; each step of the output holds some.

        Raises:
            ControlError, InputError: as in `plan` and `steps`.
        """
        plan, start = self.plan(request), time.perf_counter()
        made = [step for steps in self.steps(plan) for step in steps]
        return self.result(plan, made, time.perf_counter() - start)

    def sign(self, plan: GraphPlan) -> dict[str, Any]:
        """Return what makes the graphs again: model, digest of the request, settled controls, code."""
        return signature(self.lineage, self.model_digest, plan)
