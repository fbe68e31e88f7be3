"""Check an output while it is made: `bottega serve` streams every answer through a `StreamGuard`.

Text is held back only while it may become something that must not be sent, so an answer without such things flows at
its own pace. What is only to be flagged never waits: it is looked for behind, in what was released.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

from bottega.guard.detectors import Detectors
from bottega.guard.scan import Found, Scanner
from bottega.guard.verdict import Action, Stage, Verdict, failed


@dataclass(frozen=True, slots=True)
class Piece:
    """Text to deliver for the source's characters [start, end): the same, or what stands for a finding."""

    text: str
    start: int
    end: int
    verdict: Verdict | None = None


class StreamGuard:
    """The check of one output, piece by piece; the same for every way to cut the text.

    Args:
        holding: what must not be sent.
        telling: what is sent and told.
        place: the text's name in verdicts, such as `output 0`.
        stage: for the verdicts.

    Attributes:
        blocked: something was found that ends the text; nothing more is released.
        width: text is held back by no more than this many characters.
    """

    def __init__(self, holding: Detectors, telling: Detectors, place: str, stage: Stage = "output") -> None:
        self._holder, self._teller, self._telling = Scanner(holding), Scanner(telling), telling
        self._place, self._stage = place, stage
        self._found: list[tuple[int, Verdict]] = []
        self._end = 0
        self.blocked = False
        self.width = holding.width

    @property
    def verdicts(self) -> list[Verdict]:
        """What was found so far, in the order of the text."""
        return [verdict for _, verdict in sorted(self._found, key=lambda pair: pair[0])]

    def push(self, text: str) -> list[Piece]:
        """Take the next characters and return what may be delivered now."""
        return self._pass(text, final=False)

    def finish(self) -> list[Piece]:
        """Return what was held back, now that the text has ended."""
        return self._pass("", final=True)

    def _pass(self, text: str, final: bool) -> list[Piece]:
        if self.blocked:
            return []
        began = perf_counter()
        pieces: list[Piece] = []
        try:
            for part in self._holder.feed(text, final):
                if part.found is None:
                    self._tell(part.text, began)
                    pieces.append(Piece(part.text, part.start, part.end))
                else:
                    pieces.append(self._keep(part.start, part.end, part.found, began))
                self._end = part.end
            if final and not self.blocked:
                self._tell("", began, final=True)
        except Exception as error:  # whatever went wrong, what could not be checked is not sent
            self.blocked = True
            verdict = failed("stream", self._stage, error, self._place, _since(began))
            self._found.append((self._end, verdict))
            return [Piece("", self._end, self._end, verdict)]
        return pieces

    def _keep(self, start: int, end: int, found: Found, began: float) -> Piece:
        """Return the piece that stands for a finding; what follows is told apart from what came before."""
        self._tell("", began, final=True)
        self._teller = Scanner(self._telling, end)
        verdict = self._verdict(found, began)
        self.blocked = found.action == Action.BLOCK
        return Piece("" if self.blocked or start == end else f"[redacted: {found.detector.category}]",
                     start, end, verdict)

    def _tell(self, text: str, began: float, final: bool = False) -> None:
        for part in self._teller.feed(text, final):
            if part.found is not None:
                self._verdict(part.found, began)

    def _verdict(self, found: Found, began: float) -> Verdict:
        detector = found.detector
        verdict = Verdict(detector.check, detector.category, found.action, self._stage,
                          f"{_HOW[found.action]} {detector.what}",
                          f"{self._place}, characters {found.start}-{found.end}", found.digest, _since(began))
        self._found.append((found.start, verdict))
        return verdict


_HOW = {Action.FLAG: "the text contains", Action.REDACT: "left out of the text:",
        Action.ASK: "a person must decide about", Action.BLOCK: "the text ends before"}


def _since(began: float) -> float:
    return (perf_counter() - began) * 1000
