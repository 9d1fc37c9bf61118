"""Whether a model may take another's place: SHIP, DON'T SHIP or CAN'T TELL, each with its reason.

A metric is *better* or *worse* where the paired test says so after Holm's correction over the metrics. It is *not
worse* where the 95 % interval of the paired difference lies above minus the margin, a share of the baseline's mean (a
test of non-inferiority: all metrics must pass, so none is corrected). Ship: no metric may be worse, and one is better.
Not: one is worse, and by more than the margin, or nothing is gained: everything is known that closely, and no interval
reaches above the margin. Else more samples are needed, and how many is told.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from eval.report.compare import ALPHA, Compared, compare, source
from eval.report.paired import OfSeeds, Paired
from eval.report.results import Entry
from eval.statistics import Z95, t_bound
from recipes.errors import UserError, did_you_mean
from recipes.suites import suites_of

State = Literal["better", "worse", "not worse", "open"]
Verdict = Literal["SHIP", "DON'T SHIP", "CAN'T TELL"]
RULE_OF_THREE = 3  # the 95 % bound of what was seen in none of n samples is 3/n (Hanley & Lippman-Hand, 1983)
Z80 = 0.8416212335729143  # the 80th percentile of the normal distribution: the usual power
FARTHEST = 1e6  # by how much an interval may have to shrink for the samples that it takes to be told
CODES: dict[Verdict, int] = {"SHIP": 0, "DON'T SHIP": 1, "CAN'T TELL": 3}


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One metric of the candidate beside the baseline; differences are positive where the candidate is better.

    margin: what it may lose, in the unit of the values that are compared.
    seen: the difference that this many samples show four times in five; None where that is not known.
    needed: samples, where more may settle it.
    """

    metric: str
    state: State
    n: int
    difference: float
    low: float
    high: float
    p: float
    margin: float
    seen: float
    needed: int | None = None

    @property
    def sentence(self) -> str:
        """What is known of it, in a sentence."""
        told = f"{self.metric} is {self.difference:+.4g} [{self.low:+.4g}, {self.high:+.4g}] over {self.n} samples"
        if self.state == "better":
            return f"{told}: better"
        if self.state == "worse":
            return f"{told}: worse, by more than the {self.margin:.4g} that it may lose"
        if self.state == "not worse":
            return f"{told}: no loss of {self.margin:.4g}"
        more = f"; about {self.needed} samples would settle it" if self.needed else ""
        return f"{told}, which may be a loss of more than {self.margin:.4g}{more}"


@dataclass(frozen=True, kw_only=True)
class Gate:
    """The verdict, why, and the metrics behind it."""

    verdict: Verdict
    reason: str
    metrics: tuple[Judged, ...]


def gate(
    baseline: Entry, candidate: Entry, *, margin: float = 0.01, metrics: Sequence[str] = (), seed: int = 42
) -> Gate:
    """Judge a candidate beside a baseline that was measured alike.

    Args:
        margin: the share of the baseline's mean that a metric may lose.
        metrics: those that count, by name or suite; none: all that have a better side.

    Raises:
        UserError: an unknown metric, or models that were not measured alike.
    """
    judged, unanswered = judge(baseline, candidate, margin=margin, metrics=metrics, seed=seed)
    verdict, reason = _verdict(judged)
    lost = _lost(metrics, baseline, candidate)
    if lost and not any(one.state == "worse" for one in judged):
        verdict, reason = "CAN'T TELL", lost
    if unanswered:
        verdict, reason = "DON'T SHIP", unanswered
    return Gate(verdict=verdict, reason=reason, metrics=judged)


def judge(
    baseline: Entry, candidate: Entry, *, margin: float, metrics: Sequence[str] = (), seed: int = 42
) -> tuple[tuple[Judged, ...], str]:
    """Each metric of a candidate beside the baseline, and what it leaves unanswered more often, or "".

    Raises:
        UserError: as `gate`.
    """
    compared = _chosen(compare(baseline, candidate, seed=seed), metrics)
    judged = tuple(found for one in compared if (found := _judged(one, margin)))
    return judged, _unanswered(baseline, candidate, compared, margin)


def _chosen(compared: list[Compared], wanted: Sequence[str]) -> list[Compared]:
    """Those asked for; two names of one test (a loss and its perplexity) count once."""
    known = [one.metric for one in compared if one.better != "neither"]
    for name in wanted:
        if not any(_of(metric, name) for metric in known):
            raise UserError(f"--metrics: no {name!r} that both have{did_you_mean(name, known)}: {', '.join(known)}")
    chosen = [one for one in compared if one.metric in known]
    chosen = [one for one in chosen if not wanted or any(_of(one.metric, name) for name in wanted)]
    by_test: dict[object, list[Compared]] = {}
    for one in chosen:
        by_test.setdefault(source(one.metric) or one.metric, []).append(one)
    return [min(names, key=_apart) for names in by_test.values()]


def _apart(one: Compared) -> float:
    """How far the metric is from the mean that is tested: a loss is that mean, its perplexity is not."""
    return abs((one.a or 0.0) - one.paired.baseline) if one.paired else 0.0


def _of(metric: str, name: str) -> bool:
    return name in (metric, *suites_of(metric))


def _unanswered(baseline: Entry, candidate: Entry, compared: Sequence[Compared], margin: float) -> str:
    """A model is not compared on what it leaves unanswered: that must not be its advantage."""
    for one in compared:
        old, new = baseline.metrics[one.metric], candidate.metrics[one.metric]
        shares = [found.failures / max(1, found.n + found.failures) for found in (old, new)]
        if shares[1] - shares[0] > margin:
            return (
                f"{one.metric}: {new.failures} of {new.n + new.failures} samples have no answer, before {old.failures}"
            )
    return ""


def _lost(wanted: Sequence[str], *entries: Entry) -> str:
    """Which records are gone that numbers speak of: what they would say must not be left out of a verdict."""
    for one in (one for entry in entries for one in entry.members or (entry,)):
        for name, suite in one.provenance.suites.items():
            names = [metric for metric in one.metrics if name in suites_of(metric)]
            asked = not wanted or any(_of(metric, ask) for metric in names for ask in wanted)
            if suite.records and name not in one.records and asked:
                return f"{one.name}: the records of {name} are gone; `recipe eval` with that suite writes them anew"
    return ""


def _judged(one: Compared, margin: float) -> Judged | None:
    test = one.paired
    if test is None or test.ci95 is None or one.p_holm is None:
        return None
    sign = 1 if one.better == "higher" else -1
    low, high = sorted(sign * end for end in test.ci95)
    difference, allowed = sign * test.difference + 0.0, margin * abs(test.baseline)  # 0, not -0
    if not test.wins + test.losses:  # of n samples none differs: of all up to 3/n may, and lose what they had
        high = RULE_OF_THREE / test.n * abs(test.baseline)
        low = -high
    half = (high - low) / 2
    shown = one.p_holm < ALPHA
    state: State = "open"
    needed = None
    if shown and difference < -allowed:
        state = "worse"
    elif low >= -allowed:
        state = "better" if shown and difference > 0 else "not worse"
    else:
        needed = _needed(test, half, difference + allowed)
    return Judged(
        metric=one.metric, state=state, n=test.n, difference=difference, low=low, high=high, p=one.p_holm,
        margin=allowed, seen=(1 + Z80 / Z95) * half, needed=needed,
    )  # fmt: skip


def _needed(test: Paired, half: float, room: float) -> int | None:
    """How many samples like these have an interval that reaches `room` below the difference, where `half` is too far.

    None where more samples alone would not do: the difference is a loss already, or the seeds' part stays.
    """
    if isinstance(test, OfSeeds) or room <= half / FARTHEST:
        return None
    if not test.wins + test.losses:
        return math.ceil(test.n * half / room)  # the rule of three falls with n, not with its root
    spread = half / t_bound(test.n - 1) * math.sqrt(test.n)
    enough = math.ceil(test.n * (half / room) ** 2)  # more than enough: Student's t falls as samples are added
    return bisect_left(
        range(enough + 1), True, lo=test.n + 1, key=lambda n: t_bound(n - 1) * spread <= room * math.sqrt(n)
    )


def _verdict(judged: Sequence[Judged]) -> tuple[Verdict, str]:
    of = {state: [one for one in judged if one.state == state] for state in ("better", "worse", "not worse", "open")}
    if not judged:
        return "CAN'T TELL", "no metric has two samples that both answered"
    if of["worse"]:
        return "DON'T SHIP", of["worse"][0].sentence
    if of["open"]:
        return "CAN'T TELL", of["open"][0].sentence
    if of["better"]:
        return "SHIP", of["better"][0].sentence
    wide = max(judged, key=lambda one: one.seen / one.margin if one.margin else math.inf)
    if wide.seen > wide.margin:
        would = f"{wide.metric}'s {wide.n} samples would show a difference of {wide.seen:.4g}"
        return "CAN'T TELL", f"no metric is shown to be better; {would}"
    gains = [one for one in judged if one.high > one.margin]
    if gains:
        return "CAN'T TELL", f"no metric is shown to be better, yet one may be: {gains[0].sentence}"
    return "DON'T SHIP", f"nothing is gained: every metric is known within its margin, {wide.sentence}"
