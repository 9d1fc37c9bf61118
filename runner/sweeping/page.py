"""sweep.html: a sweep's trials, which field mattered, and the scores of checkpoints; like report.html by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from eval.report.elements import page, table
from eval.report.plots import Curve, bars, lines
from runner.sweeping.record import Sweep, rows

Curves = Mapping[str, Sequence[tuple[int, float]]]  # scores of checkpoints by run


def html(sweep: Sweep, curves: Curves) -> str:
    """The whole page."""
    goal = sweep.objective
    best = next((one for one in sweep.trials if one.number == sweep.best), None)
    told = f"Trial {best.number} is best: {goal.metric} {best.score:.5g}." if best else "No trial has a score yet."
    side = f"{goal.better.capitalize()} is better. One training each: --seeds says what another seed would do."
    parts = ["<h1>Sweep</h1>", f"<p>{escape(told)} {escape(side)}</p>", table(rows(sweep), "Trials", runs="none")]
    if sweep.importance:
        parts.append(f"<h2>Which field mattered</h2><p>{escape(sweep.importance_by)}</p>")
        parts.append(f"<figure>{bars('Importance', list(sweep.importance.items()))}</figure>")
    drawn = [
        Curve(f"trial {one.number}", curves[one.run], colour=n, dashed=one.state == "pruned")
        for n, one in enumerate(sweep.trials)
        if curves.get(one.run)
    ]
    if drawn:
        parts += [
            "<h2>Scores of checkpoints</h2>",
            f"<figure>{lines(goal.metric, drawn, 'step', goal.metric)}</figure>",
        ]
    return page("\n".join(parts))
