"""What the paper concludes, held against what was found here: a claim, an estimate, and one of four verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from audiomnist.study.paper import CLAIMS
from audiomnist.study.statistics import LEVEL, Estimate, holm, verdict

PAPER = "the paper"  # a family's name; no experiment has a blank in its own
ABOVE_ZERO, BELOW_ZERO = (0.0, math.inf), (-math.inf, 0.0)  # regions of contrasts


@dataclass(frozen=True)
class Conclusion:
    """A claim of the paper (or one that must hold for it to be believed) and the estimate that it is judged by.

    The claim is that the true mean lies in `region`, whose ends are in the unit of `estimate` and may be infinite.
    `not_applicable` says why the estimate is no evidence about the paper, None where it is. `claim` is which of
    `paper.CLAIMS` this is, None for a further question, or one without a test.
    """

    statement: str
    estimate: Estimate
    region: tuple[float, float]
    unit: str = " %"
    not_applicable: str | None = None
    claim: str | None = None

    def verdict(self, p: float | None = None) -> str:
        """One of the four verdicts of `statistics`; p: adjusted for all tests beside it, where there is one."""
        return verdict(self.estimate, self.region, self.estimate.p if p is None else p, self.not_applicable)

    def evidence(self, p: float | None = None, tests: str = "") -> str:
        """The numbers in one line, and why they are none; p: as in `verdict`, adjusted for `tests`, in words."""
        found, unit = self.estimate, self.unit
        if math.isnan(found.low):
            interval = "no interval: a split tests one speaker"
        else:
            interval = f"{100 * LEVEL:.0f} % interval {found.low:.2f} to {found.high:.2f}"
        parts = [f"{found.mean:.2f}{unit} ({interval})", f"claimed: {_region(self.region)}{unit}"]
        if found.p is not None:
            parts.append(f"p = {found.p:.2g}" + ("" if p is None else f", after Holm {p:.2g} ({tests})"))
        parts.append(f"{found.speakers} speakers, {found.splits} split{'s' * (found.splits != 1)}")
        return "; ".join(parts) + (f", because {self.not_applicable}" if self.not_applicable else "")

    def record(self) -> dict[str, object]:
        """The conclusion as JSON has it: null for what is no finite number."""
        found = {key: _finite(value) for key, value in asdict(self.estimate).items()}
        return asdict(self) | {"estimate": found, "region": [_finite(end) for end in self.region]}

    @classmethod
    def from_record(cls, record: dict) -> Conclusion:
        """The inverse of `record`. Raises what Python does of a record that is none."""
        found = {key: math.nan if value is None and key != "p" else value for key, value in record["estimate"].items()}
        low, high = record["region"]
        region = (-math.inf if low is None else low, math.inf if high is None else high)
        numbers = [*region, *(value for value in found.values() if value is not None)]
        if not all(isinstance(one, float) or isinstance(one, int) and abs(one) < 10**15 for one in numbers):
            raise ValueError("numbers that are none")
        own = {key: record[key] for key in ("statement", "unit", "not_applicable")}
        if not all(isinstance(own[key], str) for key in ("statement", "unit")):
            raise ValueError("texts that are none")
        return cls(**own, claim=record.get("claim"), estimate=Estimate(**found), region=region)


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _region(region: tuple[float, float]) -> str:
    low, high = region
    if math.isinf(high):
        return f"above {low:g}"
    return f"below {high:g}" if math.isinf(low) else f"{low:.2f} to {high:.2f}"


def judge(conclusions: Mapping[str, Sequence[Conclusion]]) -> dict[str, list[tuple[str, str]]]:
    """{experiment: (verdict, evidence) of each of its conclusions}, p adjusted by Holm within two kinds of families:
    the paper's claims, of all experiments, and the further tests of each experiment."""
    families: dict[str, list[Conclusion]] = {}
    for name, own in conclusions.items():
        for one in own:
            if one.estimate.p is not None:
                families.setdefault(PAPER if one.claim else name, []).append(one)
    adjusted = {}
    for name, family in families.items():
        tests = len(CLAIMS) if name == PAPER else len(family)
        said = f"{tests} test{'s' * (tests != 1)} of " + (
            "the paper's claims" if name == PAPER else "our own questions"
        )
        for one, p in zip(family, holm((one.estimate.p for one in family), tests).tolist(), strict=True):
            adjusted[id(one)] = p, said
    none = (None, "")
    return {
        name: [(one.verdict(adjusted.get(id(one), none)[0]), one.evidence(*adjusted.get(id(one), none))) for one in own]
        for name, own in conclusions.items()
    }
