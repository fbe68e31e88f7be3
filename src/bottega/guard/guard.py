"""The checks in their order, before the model and after it: `bottega serve` and the studio share one `Guard`.

A check that cannot finish blocks. Verdicts join by the strictest action; none of them repeats what was found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

from bottega.guard.blocked import blocked
from bottega.guard.detectors import Detector, Detectors
from bottega.guard.hidden import reveal
from bottega.guard.labels import Context, Label, Span, Trust
from bottega.guard.pii import PII
from bottega.guard.policy import CHECKS, Policy
from bottega.guard.roles import forged
from bottega.guard.secrets import SECRETS
from bottega.guard.sizes import mend, too_much
from bottega.guard.stream import StreamGuard
from bottega.guard.verdict import FAILED, Action, Stage, Verdict, failed, fingerprint, join
from bottega.guard.whole import duplicates, not_json

_MOST_TOLD = 50  # findings of one kind told apart in one message; the rest is counted
_PLACES = ("prompt", "suffix", "text")

Check = Callable[[Context], tuple[Context, list[Verdict]]]


@dataclass(slots=True)
class Inspection:
    """What became of an input.

    Attributes:
        context: the spans as the model shall see them.
        verdicts: what was found; `where` counts characters after hidden ones were taken out.
        action: the strictest action among the verdicts.
        milliseconds: how long each check took, in the order in which they ran.
    """

    context: Context
    verdicts: list[Verdict] = field(default_factory=list)
    action: Action = Action.ALLOW
    milliseconds: dict[str, float] = field(default_factory=dict)


class Guard:
    """Checks of inputs and outputs under one policy; may be shared by threads.

    Args:
        policy: what differs from the defaults.
    """

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        registered = blocked(self.policy.blocked_strings)
        personal, secret = self._parted(PII, "input"), self._parted(SECRETS, "input")
        self._checks: list[tuple[str, Check]] = [
            ("sizes", self._sizes), ("hidden", self._hidden), ("roles", self._roles),
            ("secrets", lambda context: self._detect(context, secret)),
            ("pii", lambda context: self._detect(context, personal)),
        ]
        self._registered = self._parted([registered], "output")
        self._output = self._parted([registered, *SECRETS, *PII], "output")

    @property
    def categories(self) -> tuple[str, ...]:
        """Every category that can be found."""
        return (*CHECKS, FAILED)

    def check_input(self, context: Context) -> Inspection:
        """Run the checks in order over what a model is about to read; the first BLOCK ends them.

        Args:
            context: the messages, or the prompt and its suffix.
        """
        result = Inspection(context)
        for name, check in self._checks:
            began = perf_counter()
            try:
                result.context, found = check(result.context)
            except Exception as error:  # fail closed, whatever went wrong
                found = [failed(name, "input", error)]
            took = result.milliseconds[name] = (perf_counter() - began) * 1000
            result.verdicts += [replace(verdict, milliseconds=took) for verdict in found]
            result.action = join(result.verdicts)
            if result.action == Action.BLOCK:
                break
        return result

    def stream(self, output: int = 0) -> StreamGuard:
        """Return the check of one output that is about to be made.

        Args:
            output: its number among the outputs of the request.
        """
        return StreamGuard(*self._output, f"output {output}")

    def check_outputs(self, texts: Sequence[str], *, expects_json: bool = False) -> list[Verdict]:
        """Check finished outputs as a whole: format, length, duplicates.

        Args:
            texts: the outputs of one request.
            expects_json: each must be valid JSON.
        """
        found: list[Verdict] = []
        checks: list[tuple[str, Callable[[], list[tuple[str, int, str]]]]] = [
            ("format", lambda: [("not-json", index, reason) for index, text in enumerate(texts)
                                if expects_json and (reason := not_json(text))]),
            ("length", lambda: [("too-long-output", index, f"{len(text)} characters, more than "
                                 f"{self.policy.max_output_characters}") for index, text in enumerate(texts)
                                if len(text) > self.policy.max_output_characters]),
            ("duplicates", lambda: [("duplicate", index, f"duplicate of output {first}")
                                    for index, first in duplicates(texts)]),
        ]
        for name, check in checks:
            began = perf_counter()
            try:
                told = check()
            except Exception as error:  # fail closed, whatever went wrong
                found.append(failed(name, "output", error, milliseconds=(perf_counter() - began) * 1000))
                continue
            took = (perf_counter() - began) * 1000
            for category, index, reason in told:
                if action := self.policy.action(category, Action.FLAG):
                    found.append(Verdict(name, category, action, "output", reason, f"output {index}",
                                         fingerprint(texts[index]), took))
        return found

    def moderate(self, text: str) -> list[Verdict]:
        """Run every check of inputs and the registered strings over one text and return what was found."""
        inspection = self.check_input((Span(text, Label(Trust.UNTRUSTED), "text"),))
        if inspection.action == Action.BLOCK:
            return inspection.verdicts
        return inspection.verdicts + self._detect(inspection.context, self._registered)[1]

    def _parted(self, detectors: Sequence[Detector], stage: Stage) -> tuple[Detectors, Detectors]:
        """Return the detectors whose findings leave the text, and those whose findings are only told."""
        chosen = [(detector, self.policy.action(
            detector.category, detector.output if stage == "output" else Action.FLAG)) for detector in detectors]
        # nobody has read an output yet, so it can wait for a person; an input is asked about as it is
        told = (Action.FLAG,) if stage == "output" else (Action.FLAG, Action.ASK)
        return (Detectors([entry for entry in chosen if entry[1] not in (Action.ALLOW, *told)]),
                Detectors([entry for entry in chosen if entry[1] in told]))

    def _sizes(self, context: Context) -> tuple[Context, list[Verdict]]:
        fault = too_much([len(span.text) for span in context], self.policy.max_messages,
                         self.policy.max_input_characters)
        verdicts = []
        if fault and (action := self.policy.action(fault[0], Action.BLOCK)):
            verdicts.append(Verdict("sizes", fault[0], action, "input", fault[1]))
            if action == Action.BLOCK:
                return context, verdicts

        def broken(text: str) -> tuple[str, str]:
            mended, count = mend(text)
            return mended, f"{count} characters were no text (NUL or half a surrogate pair)" if count else ""

        mended, told = self._rewrite(context, "broken-text", broken)
        return mended, verdicts + told

    def _hidden(self, context: Context) -> tuple[Context, list[Verdict]]:
        def shown(text: str) -> tuple[str, str]:
            clean, removed = reveal(text)
            counts = ", ".join(f"{count} {kind}" for kind, count in sorted(removed.items()))
            return clean, f"hidden characters: {counts}" if removed else ""

        return self._rewrite(context, "hidden-text", shown)

    def _rewrite(self, context: Context, category: str,
                 change: Callable[[str], tuple[str, str]]) -> tuple[Context, list[Verdict]]:
        """Apply a change to every span; it returns the new text and, if something was wrong, what."""
        spans, verdicts = list(context), []
        action = self.policy.action(category, Action.REDACT)
        for index, span in enumerate(context):
            text, reason = change(span.text)
            if not reason or action == Action.ALLOW:
                continue
            verdicts.append(Verdict(CHECKS[category], category, action, "input", reason, _place(index, span),
                                    fingerprint(span.text)))
            if action == Action.REDACT:
                spans[index] = replace(span, text=text)
        return tuple(spans), verdicts

    def _roles(self, context: Context) -> tuple[Context, list[Verdict]]:
        action = self.policy.action("role-token", Action.FLAG)
        verdicts = []
        for index, span in enumerate(context):
            if action and (places := forged(span.text)):
                start, end = places[0]
                verdicts.append(Verdict(
                    "roles", "role-token", action, "input",
                    f"{len(places)} times text that looks like a role token; it stays ordinary text",
                    f"{_place(index, span)}, characters {start}-{end}", fingerprint(span.text[start:end])))
        return context, verdicts

    def _detect(self, context: Context, parted: tuple[Detectors, Detectors]) -> tuple[Context, list[Verdict]]:
        spans, verdicts = list(context), []
        for index, span in enumerate(context):
            scan = StreamGuard(*parted, _place(index, span), "input")
            pieces = scan.push(span.text) + scan.finish()
            told = scan.verdicts
            verdicts += _first_of_each(told)
            if any(piece.verdict for piece in pieces) and not scan.blocked:
                spans[index] = replace(span, text="".join(piece.text for piece in pieces))
        return tuple(spans), verdicts


def _place(index: int, span: Span) -> str:
    return span.role if span.role in _PLACES else f"message {index}"


def _first_of_each(verdicts: list[Verdict]) -> list[Verdict]:
    """Return the first findings of each kind; the last one returned says how many more there are."""
    counts = Counter(verdict.category for verdict in verdicts)
    seen: Counter[str] = Counter()
    told = []
    for verdict in verdicts:
        seen[verdict.category] += 1
        more = counts[verdict.category] - _MOST_TOLD
        if seen[verdict.category] == _MOST_TOLD and more > 0:
            verdict = replace(verdict, reason=f"{verdict.reason}, and {more} more like it")
        if seen[verdict.category] <= _MOST_TOLD:
            told.append(verdict)
    return told
