"""How often a reward model is right on held-out pairs, and how far its probabilities can be believed.

`bottega evaluate MODEL` shows it of a reward model, `bottega train` with `kind: reward` writes it into the run. Beside
the model stands the simplest rule that could explain it: take the longer (or the shorter) answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import bottega
from bottega.core.files import write_atomic, write_json
from bottega.evaluation.charts import Series, line_chart
from bottega.evaluation.report import visible
from bottega.evaluation.statistics import Figure, rate

_BINS = 10
_DRAWS = 2000


@dataclass(frozen=True, slots=True)
class Bin:
    """Pairs of about equal confidence: how many, the mean probability given to the favourite, how often it was right.

    Attributes:
        n: pairs.
        said: mean predicted probability that the favourite is preferred, 0.5..1.
        right: share of pairs in which it was.
    """

    n: int
    said: float
    right: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """What held-out pairs say of a reward model.

    Attributes:
        accuracy: the chosen answer has the higher reward; ties count as half.
        length: the same of the rule `longer` or `shorter`, whichever was right more often in training (`rule`).
        gain: accuracy less that of the rule; the interval is a bootstrap over prompts (Efron 1979).
        log_loss: mean -log of the probability of what people chose, nats; log 2 knows nothing.
        error: expected calibration error (Naeini et al. 2015; Guo et al. 2017, arXiv 1706.04599, equation 3), over
            bins of equal size.
        bins: reliability, ascending confidence.
        reward_length: Spearman's correlation of reward and length over all answers.
        prefers_longer: share of pairs in which the longer answer has the higher reward.
        sources: accuracy and that of the rule by source, where pairs say where they come from.
    """

    accuracy: Figure
    length: Figure
    rule: str
    gain: Figure
    log_loss: float
    error: float
    bins: list[Bin]
    reward_length: float
    prefers_longer: float
    sources: dict[str, dict[str, Figure]] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return lines for a terminal."""
        def share(figure: Figure) -> str:
            return f"{figure['value']:.1%} [{figure['low']:.1%}, {figure['high']:.1%}]"

        rows = [f"accuracy                 {share(self.accuracy)} of {self.accuracy['n']} held-out pairs",
                f"take the {self.rule:8} answer  {share(self.length)}",
                f"gain over that rule      {share(self.gain)}",
                f"log loss                 {self.log_loss:.4f} nats (0.6931 knows nothing)",
                f"calibration error        {self.error:.1%}",
                f"reward and length        correlation {self.reward_length:+.2f}, prefers the longer answer in "
                f"{self.prefers_longer:.0%} of pairs"]
        rows += [f"  {name:22} {share(part['accuracy'])} of {part['accuracy']['n']}, by length {share(part['length'])}"
                 for name, part in self.sources.items()]
        return [*rows, "said → right             " + "  ".join(f"{one.said:.0%}→{one.right:.0%}" for one in self.bins)]


def _right(lead: Any) -> Any:
    """Return 1 where the lead is above zero, one half where there is none, else 0."""
    return (np.sign(lead) + 1) / 2


def length_rule(lengths: ArrayLike) -> str:
    """Return which answer the better rule takes: `longer` or `shorter`, by the chosen and rejected lengths [n, 2]."""
    array = np.asarray(lengths, float)
    return "longer" if _right(array[:, 0] - array[:, 1]).mean() >= 0.5 else "shorter"


def calibrate(rewards: ArrayLike, lengths: ArrayLike, *, rule: str, prompts: Sequence[str],
              sources: Sequence[str] = ()) -> Calibration:
    """Judge rewards of held-out pairs.

    Args:
        rewards: [n, 2], of the chosen and of the rejected answer.
        lengths: [n, 2], in any unit.
        rule: `longer` or `shorter`, found on training pairs (`length_rule`).
        prompts: what each pair answers, [n]: pairs of one prompt are drawn together.
        sources: where each pair comes from, [n], or nothing.

    Raises:
        ValueError: there are no pairs.
    """
    scores, sizes = np.asarray(rewards, float), np.asarray(lengths, float)
    if not len(scores):
        raise ValueError("no pairs")
    lead = scores[:, 0] - scores[:, 1]
    right = _right(lead)
    by_length = _right((sizes[:, 0] - sizes[:, 1]) * (1 if rule == "longer" else -1))
    confidence = 1 / (1 + np.exp(-np.abs(lead)))
    order = np.argsort(confidence, kind="stable")
    bins = [Bin(len(part), float(confidence[part].mean()), float(right[part].mean()))
            for part in np.array_split(order, min(_BINS, len(order)))]
    longer = scores[np.arange(len(scores)), sizes.argmax(1)] > scores[np.arange(len(scores)), sizes.argmin(1)]
    parts = {}
    for name in sorted(set(sources)) if len(set(sources)) > 1 else []:
        here = np.array([source == name for source in sources])
        parts[name] = {"accuracy": _share(right[here]), "length": _share(by_length[here])}
    return Calibration(
        accuracy=_share(right), length=_share(by_length), rule=rule, gain=_paired(right - by_length, prompts),
        log_loss=float(np.logaddexp(0, -lead).mean()),
        error=sum(one.n * abs(one.said - one.right) for one in bins) / len(lead), bins=bins,
        reward_length=_spearman(scores.ravel(), sizes.ravel()), prefers_longer=float(longer.mean()), sources=parts)


def _share(values: Any) -> Figure:
    return rate(float(values.sum()), len(values))


def _paired(values: Any, prompts: Sequence[str]) -> Figure:
    """Return a mean whose interval is drawn over prompts, seeded."""
    _, numbers = np.unique(np.asarray(prompts, object).astype(str), return_inverse=True)
    sums, counts = np.bincount(numbers, values), np.bincount(numbers)
    draws = np.random.default_rng(0).integers(0, len(sums), (_DRAWS, len(sums)))
    means = sums[draws].sum(1) / counts[draws].sum(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Figure(value=float(np.mean(values)), low=float(low), high=float(high), n=len(values))


def _spearman(one: Any, other: Any) -> float:
    """Return Spearman's rank correlation, ties at their mean rank; 0 where one side is constant."""
    def ranks(values: Any) -> Any:
        _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
        return (np.cumsum(counts) - (counts - 1) / 2)[places]

    left, right = ranks(one), ranks(other)
    if left.std() == 0 or right.std() == 0:
        return 0.0
    return float(np.corrcoef(left, right)[0, 1])


def write_page(found: Calibration, path: Path, *, title: str, facts: dict[str, str]) -> Path:
    """Write a page, and the figures as JSON beside it (same name, `.json`); return the page's path.

    Raises:
        ResourceError: the disk is full.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(loader=PackageLoader("bottega.evaluation"), autoescape=True, undefined=StrictUndefined,
                        trim_blocks=True, lstrip_blocks=True)
    points = [(one.said, one.right) for one in found.bins]
    believed = [(said, said) for said, _ in points]
    chart = line_chart([Series("this model", points, dots=True), Series("as said", believed)], title=(
        "How often the favourite was right, by how sure the model was"), x="said", y="right")
    page = pages.get_template("reward.html.j2").render(found=found, chart=chart, title=title, facts=facts,
                                                       version=bottega.__version__)
    write_json(path.with_suffix(".json"), {"title": title, "facts": facts, **found.plain()})
    write_atomic(path, visible(page))
    return path
