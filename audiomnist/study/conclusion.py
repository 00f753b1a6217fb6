"""What the paper concludes, held against what was found here: a claim, an estimate, and one of four verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from audiomnist.study.statistics import LEVEL, Estimate, holm, verdict

ABOVE_ZERO, BELOW_ZERO = (0.0, math.inf), (-math.inf, 0.0)  # regions of contrasts


@dataclass(frozen=True)
class Conclusion:
    """A claim of the paper (or one that must hold for it to be believed) and the estimate that it is judged by.

    The claim is that the true mean lies in `region`, whose ends are in the unit of `estimate` and may be infinite.
    `not_applicable` says why the estimate is no evidence about the paper, None where it is.
    """

    statement: str
    estimate: Estimate
    region: tuple[float, float]
    unit: str = " %"
    not_applicable: str | None = None

    def verdict(self, p: float | None = None) -> str:
        """One of the four verdicts of `statistics`; p: adjusted for all tests beside it, where there is one."""
        return verdict(self.estimate, self.region, self.estimate.p if p is None else p, self.not_applicable)

    def evidence(self, p: float | None = None) -> str:
        """The numbers in one line; p: as in `verdict`."""
        found, unit = self.estimate, self.unit
        if math.isnan(found.low):
            interval = "no interval: a split tests one speaker"
        else:
            interval = f"{100 * LEVEL:.0f} % interval {found.low:.2f} to {found.high:.2f}"
        parts = [f"{found.mean:.2f}{unit} ({interval})", f"claimed: {_region(self.region)}{unit}"]
        if found.p is not None:
            parts.append(f"p = {found.p:.2g}" + ("" if p is None else f", after Holm {p:.2g}"))
        parts.append(f"{found.speakers} speakers, {found.splits} split{'s' * (found.splits != 1)}")
        return "; ".join(parts)

    def __str__(self) -> str:
        reason = f", because {self.not_applicable}" if self.not_applicable else ""
        return f"{self.verdict()}{reason}: {self.statement} ({self.evidence()})"

    def record(self) -> dict[str, object]:
        """The conclusion as JSON has it: null for what is no finite number."""
        found = {key: _finite(value) for key, value in asdict(self.estimate).items()}
        return asdict(self) | {"estimate": found, "region": [_finite(end) for end in self.region]}

    @classmethod
    def from_record(cls, record: dict) -> Conclusion:
        """The inverse of `record`."""
        found = {key: math.nan if value is None and key != "p" else value for key, value in record["estimate"].items()}
        low, high = record["region"]
        region = (-math.inf if low is None else low, math.inf if high is None else high)
        own = {key: record[key] for key in ("statement", "unit", "not_applicable")}
        return cls(**own, estimate=Estimate(**found), region=region)


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _region(region: tuple[float, float]) -> str:
    low, high = region
    if math.isinf(high):
        return f"above {low:g}"
    return f"below {high:g}" if math.isinf(low) else f"{low:.2f} to {high:.2f}"


def judge(conclusions: Sequence[Conclusion]) -> list[tuple[str, str]]:
    """(verdict, evidence) of each, their p adjusted by Holm for all tests among them: one family, such as a page."""
    tested = [index for index, one in enumerate(conclusions) if one.estimate.p is not None]
    adjusted = dict(zip(tested, holm(conclusions[index].estimate.p for index in tested).tolist(), strict=True))
    return [(one.verdict(adjusted.get(k)), one.evidence(adjusted.get(k))) for k, one in enumerate(conclusions)]
