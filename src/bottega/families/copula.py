"""The base of `tabular`: one Gaussian over features of all columns, conditioned in closed form.

Fitted in a fraction of a second; exact for any subset of visible columns. `pytest tests/families/test_tabular.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

_LEVELS = 32      # of a column that have a feature of their own: the commonest
RIDGE = 1e-3      # of a feature's variance, added before solving: the levels of a column add up to one
_FLOOR = 1e-5     # smallest probability of a code
_SHRINK_ROWS = 5000  # above them the covariance is taken as it is
_EDGE = 4.0       # normal scores end here


class Copula(nn.Module):
    """Mean and covariance of the features, and what they say of codes.

    A number has one feature, its normal score (0 where missing), and one for missing; a column of levels has one for
    each of its commonest levels, missing among them. A column that is nearly always zero has features that hardly
    spread, whatever its codes: what the Gaussian says of them is read against what it says when nothing is seen.

    Args:
        sizes, ordered, missing, shares, spikes: see `TabularConfig`.
        alone: whether the shares are those of the rows it is fitted to, and of no others beside them. Where they are
            not, and in models from before spikes were kept, the Gaussian is read as it is.

    Attributes:
        features: their number F.
        mean: float64 [F]; covariance: float64 [F, F].
    """

    mean: Tensor
    covariance: Tensor
    starts: Tensor
    low: Tensor
    high: Tensor
    score: Tensor
    log_share: Tensor
    of_level: Tensor
    spike: Tensor
    with_feature: Tensor
    number_columns: Tensor
    number_features: Tensor
    _feature: Tensor

    def __init__(self, sizes: Sequence[int], ordered: Sequence[bool], missing: Sequence[bool],
                 shares: Sequence[float], spikes: Sequence[bool] = (), *, alone: bool = True) -> None:
        super().__init__()
        self.sizes, self.ordered, self.missing = list(sizes), list(ordered), list(missing)
        self.alone = alone and bool(spikes)
        spikes = spikes or [False] * sum(sizes)
        starts, low, high, score, first = [], [], [], [], 0
        self.columns: list[list[int]] = []    # features of each column
        self.level_feature: list[int] = []    # feature of each code, -1 for none
        at = 0
        for size, by_value, gone in zip(sizes, ordered, missing, strict=True):
            share = torch.tensor(shares[at:at + size], dtype=torch.float64)
            starts.append(at)
            shown = size - gone if by_value else size
            mass = share[:shown] / share[:shown].sum().clamp_min(1e-12) if by_value else torch.zeros(size).double()
            upper = mass.cumsum(0)
            lower = upper - mass
            z_low, z_high = _score(lower), _score(upper)
            low += [*z_low.tolist(), *[0.0] * (size - len(z_low))]
            high += [*z_high.tolist(), *[0.0] * (size - len(z_high))]
            middle = (_density(z_low) - _density(z_high)) / mass.clamp_min(1e-12)
            score += [*middle.clamp(-_EDGE, _EDGE).tolist(), *[0.0] * (size - len(z_low))]
            if by_value:
                own = [first] + [first + 1] * gone
                self.level_feature += [-1] * shown + [first + 1] * gone
                self.columns.append(list(range(first, first + 1 + gone)))
                first += len(own)
            else:
                kept = set(torch.argsort(share, descending=True)[:_LEVELS].tolist()) if size > 1 else set()
                places = {code: first + index for index, code in enumerate(sorted(kept))}
                self.level_feature += [places.get(code, -1) for code in range(size)]
                self.columns.append(list(places.values()))
                first += len(places)
            at += size
        self.features = first
        self.register_buffer("starts", torch.tensor(starts), persistent=False)
        self.register_buffer("low", torch.tensor(low, dtype=torch.float32), persistent=False)
        self.register_buffer("high", torch.tensor(high, dtype=torch.float32), persistent=False)
        self.register_buffer("score", torch.tensor(score, dtype=torch.float32), persistent=False)
        self.register_buffer("spike", torch.tensor(list(spikes), dtype=torch.bool), persistent=False)
        self.register_buffer("log_share", torch.tensor(shares).clamp_min(_FLOOR).log().float(), persistent=False)
        self.register_buffer("mean", torch.zeros(first, dtype=torch.float64))
        self.register_buffer("covariance", torch.eye(first, dtype=torch.float64))
        self._index()

    def _index(self) -> None:
        """Lay out which code belongs to which feature, for whole batches at once."""
        numbers = [place for place, by_value in enumerate(self.ordered) if by_value]
        layout = {"of_level": [feature for feature in self.level_feature if feature >= 0],
                  "with_feature": [code for code, feature in enumerate(self.level_feature) if feature >= 0],
                  "number_columns": numbers, "number_features": [self.columns[place][0] for place in numbers],
                  "_feature": self.level_feature}
        for name, values in layout.items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.int64), persistent=False)

    def encode(self, codes: Tensor, places: Tensor) -> Tensor:
        """Return features float32 [B, F] of codes int64 [B, D] and places float32 [B, D]."""
        flat = codes + self.starts
        found = torch.zeros(codes.size(0), self.features, device=codes.device)
        found[:, self.number_features] = self._value(flat[:, self.number_columns], places[:, self.number_columns])
        owner = torch.full((len(self.level_feature),), self.features, device=codes.device)
        owner[self.with_feature] = self.of_level
        wide = torch.cat([found, found.new_zeros(codes.size(0), 1)], 1)
        wide.scatter_(1, owner[flat], 1.0)  # codes without a feature fall into the column that is cut off
        return wide[:, :-1]

    def encode_column(self, column: int, codes: Tensor, places: Tensor) -> Tensor:
        """Return the features of one column, float32 [B, its features], of codes int64 [B] and places float32 [B]."""
        own, start = self.columns[column], int(self.starts[column])
        found = torch.zeros(codes.size(0), len(own), device=codes.device)
        if self.ordered[column]:
            found[:, 0] = self._value(codes + start, places)
        if len(own) > self.ordered[column]:
            feature = self._feature[start:start + self.sizes[column]][codes]
            some = (feature >= 0).nonzero()[:, 0]
            found[some, feature[some] - own[0]] = 1.0
        return found

    def _value(self, flat: Tensor, inside: Tensor) -> Tensor:
        """Return the normal scores of codes counted through all columns, and places in them, float32."""
        below, above = _mass(self.low[flat]), _mass(self.high[flat])
        exact = _score(below + (above - below) * inside)
        # a spike has no inside: its middle stands for it
        return torch.where(inside == 0.5, self.score[flat], exact.clamp(-_EDGE, _EDGE))

    def place(self, column: int, codes: Tensor, means: Tensor, spread: Tensor, draw: Tensor, low: Tensor,
              high: Tensor) -> Tensor:
        """Return places float32 [B] drawn inside the intervals of codes, by the Gaussian cut to them.

        Args:
            column: an ordered one.
            codes: int64 [B].
            means, spread: of `conditional`: [B, F] and [F].
            draw: float32 [B], even in [0, 1).
            low, high: float32 [B], the part of the interval that is allowed, in places.
        """
        flat = codes + self.starts[column]
        mean, sd = self._latent(means, spread, column)
        below, above = _mass(self.low[flat]), _mass(self.high[flat])
        width = (above - below).clamp_min(1e-9)
        from_, to = (_mass((_score(below + width * part) - mean) / sd) for part in (low, high))
        z = mean + sd * _score(from_ + (to - from_) * draw)
        found = (_mass(z) - below) / width
        # far out in a tail the masses are all alike: there the place is even
        found = torch.where((to - from_).abs() < 1e-5, low + (high - low) * draw, found)
        found = torch.minimum(torch.maximum(found, low), high).clamp(1e-3, 1 - 1e-3)
        return torch.where(self.spike[flat], 0.5, found)

    def number(self, column: int, means: Tensor, spread: Tensor, draw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return codes int64 [B], places float32 [B] and features float32 [B, its features] of an ordered column.

        They are drawn by the Gaussian, without a look at the chances of the codes.

        Args:
            column: an ordered one.
            means, spread: of `conditional`: [B, F] and [F].
            draw: float32 [B], even in [0, 1).
        """
        start, shown, own = int(self.starts[column]), self.sizes[column] - self.missing[column], self.columns[column]
        there = 1 - means[:, own[1]].clamp(_FLOOR, 1 - _FLOOR) if self.missing[column] else torch.ones_like(draw)
        mean, sd = self._latent(means, spread, column)
        z = mean + sd * _score(draw / there)
        codes = torch.searchsorted(self.high[start:start + shown - 1].contiguous(), z.contiguous())
        below, above = _mass(self.low[start + codes]), _mass(self.high[start + codes])
        places = ((_mass(z) - below) / (above - below).clamp_min(1e-9)).clamp(1e-3, 1 - 1e-3)
        gone, spike = draw >= there, self.spike[start + codes]
        seen = torch.where(spike, self.score[start + codes], z.clamp(-_EDGE, _EDGE)).masked_fill(gone, 0.0)
        features = torch.stack([seen, gone.float()][:len(own)], 1)
        return torch.where(gone, shown, codes), torch.where(gone | spike, 0.5, places), features

    def _latent(self, means: Tensor, spread: Tensor, column: int) -> tuple[Tensor, Tensor]:
        """Return mean and spread of the normal scores behind the feature of a number.

        The score's density is the standard normal, whose masses are the codes' shares, times what was seen makes of the
        feature: N(mean, spread) over N(usual mean, usual spread) (Bayes). Where nothing is seen the codes keep their
        shares, and where a feature spreads as a score does, mean and spread are its own.

        Args:
            means, spread: of `conditional`, [B, F] and [F].
            column: an ordered one.

        Returns:
            float32 [B] and a scalar.
        """
        feature = self.columns[column][0]
        mean, sd = means[:, feature], spread[feature].clamp_min(1e-3)
        if not self.alone:
            return mean, sd
        weight = 1 / self.covariance[feature, feature].clamp_min(1e-6).float()
        seen = 1 / sd.square()
        whole = (1 + seen - weight).clamp_min(1.0)  # what is seen adds to what is known
        mean = (mean * seen - self.mean[feature].float() * weight) / whole
        return mean.clamp(-2 * _EDGE, 2 * _EDGE), whole.rsqrt().clamp_min(1e-3)

    @torch.no_grad()
    def fit(self, batches: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Take mean and covariance of rows given as (codes, places) batches; shrunk where rows are few."""
        rows, total = 0, torch.zeros(self.features, dtype=torch.float64, device=self.mean.device)
        square = torch.zeros(self.features, self.features, dtype=torch.float64, device=self.mean.device)
        fourth = 0.0
        for codes, places in batches:
            found = self.encode(codes, places).double()
            rows, total = rows + len(found), total + found.sum(0)
            square = square + found.T @ found
        mean = total / max(rows, 1)
        covariance = square / max(rows, 1) - mean[:, None] * mean
        if 1 < rows <= _SHRINK_ROWS:
            for codes, places in batches:
                centred = self.encode(codes, places).double() - mean
                fourth += float((centred.square().sum(1).square()).sum())
            covariance = _shrunk(covariance, rows, fourth)
        self.mean.copy_(mean)
        self.covariance.copy_(covariance)

    def conditional(self, features: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Return features with the hidden ones replaced by their means, [B, F], and their spreads, [F] (visible: 0).

        Args:
            features: float32 [B, F].
            visible: bool [D].
        """
        shown_columns = visible.tolist()
        seen = [one for place, own in enumerate(self.columns) if shown_columns[place] for one in own]
        rest = [one for place, own in enumerate(self.columns) if not shown_columns[place] for one in own]
        means, variance = features.clone(), torch.zeros(self.features, dtype=torch.float64, device=features.device)
        if rest:
            hidden = torch.tensor(rest, device=features.device)
            variance[hidden] = self.covariance.diagonal()[hidden]
            if seen:
                given = torch.tensor(seen, device=features.device)
                inner = self.covariance[given][:, given]
                inner = inner + torch.diag(inner.diagonal() * RIDGE + 1e-9)
                across = self.covariance[given][:, hidden]
                weights = torch.cholesky_solve(across, torch.linalg.cholesky(inner))
                variance[hidden] -= (across * weights).sum(0)
                shift = self.mean[hidden] - self.mean[given] @ weights
                means[:, hidden] = features[:, given] @ weights.float() + shift.float()
            else:
                means[:, hidden] = self.mean[hidden].float()
        return means, variance.clamp_min(1e-6).sqrt().float()

    def column_logits(self, column: int, means: Tensor, spread: Tensor) -> Tensor:
        """Return log-probabilities of the codes of one column, float32 [B, size], as the Gaussian has them.

        They are nearly normalised.

        Args:
            column: a place among the columns.
            means: float32 [B, F], of `conditional`.
            spread: float32 [F].
        """
        start, size, own = int(self.starts[column]), self.sizes[column], self.columns[column]
        if self.ordered[column]:
            shown = size - self.missing[column]
            edges = torch.cat([self.low[start:start + shown], self.high[start + shown - 1:start + shown]])
            mean, sd = self._latent(means, spread, column)
            below = _mass((edges - mean[:, None]) / sd)
            mass = (below[:, 1:] - below[:, :-1]).clamp_min(_FLOOR)
            if not self.missing[column]:
                return mass.log()
            gone = means[:, own[1], None].clamp(_FLOOR, 1 - _FLOOR)  # what is missing has no interval
            return torch.cat([mass * (1 - gone), gone], 1).log()
        if len(own) == size:  # the features of a column stand side by side, in the order of its codes
            return means[:, own[0]:own[-1] + 1].clamp(_FLOOR, 1.0).log()
        found = self.log_share[start:start + size].expand(means.size(0), -1).clone()
        feature = self._feature[start:start + size]
        coded = (feature >= 0).nonzero()[:, 0]
        found[:, coded] = means[:, feature[coded]].clamp(_FLOOR, 1.0).log()
        return found


def _mass(z: Tensor) -> Tensor:
    """Return the standard normal mass below z."""
    return 0.5 * torch.erfc(-z / math.sqrt(2.0))


def _density(z: Tensor) -> Tensor:
    return torch.exp(-0.5 * z.clamp(-30, 30).square()) / math.sqrt(2 * math.pi)


def _score(share: Tensor) -> Tensor:
    """Return the z that `share` of the standard normal lies below; the ends are cut at 8."""
    found: Tensor = torch.special.ndtri(share.double().clamp(0.0, 1.0))
    return found.clamp(-8.0, 8.0).to(share.dtype)


def _shrunk(covariance: Tensor, rows: int, fourth: float) -> Tensor:
    """Shrink towards a multiple of the identity (Ledoit and Wolf 2004, lemma 3.2 to 3.4).

    Args:
        covariance: float64 [F, F] of `rows` rows.
        rows: their number.
        fourth: sum over rows of the fourth power of a centred row's length.
    """
    size = covariance.size(0)
    middle = covariance.diagonal().mean()
    distance = float((covariance - middle * torch.eye(size, dtype=covariance.dtype,
                                                      device=covariance.device)).square().sum())
    noise = min(distance, (fourth / rows - float(covariance.square().sum())) / rows)
    share = noise / distance if distance > 0 else 0.0
    shrunk = (1 - share) * covariance
    shrunk.diagonal().add_(share * middle)
    return shrunk
