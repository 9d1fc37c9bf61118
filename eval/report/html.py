"""report.html: one file with its plots and script inside, that opens without a network and reads on a phone."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from math import isfinite

from eval.report.curves import loss_label
from eval.report.elements import arrow, examples, named, page, table
from eval.report.markdown import METHOD, SEEDS, seeds_title
from eval.report.plots import Curve, intervals, lines
from eval.report.replies import fitting, generated, shown
from eval.report.results import Entry
from eval.report.tables import (
    ARROWS,
    Comparison,
    Report,
    comparison_rows,
    cost_rows,
    notes,
    seed_rows,
    sides,
    summary,
)
from eval.report.verdicts import verdicts
from recipes.typed import to_json

REPLIES = 100


def html(report: Report) -> str:
    names = [entry.name for entry in report.entries]
    parts = ["<h1>Evaluation report</h1>", _verdicts(report)]
    parts += [f'<p class="note">{escape(note)}</p>' for note in notes(report)]
    parts += [_comparison(comparison, fitting(report)) for comparison in report.comparisons.values()]
    parts += [_seeds(group) for group in report.groups]
    parts += ["<h2>Results</h2><p>Values with 95 % intervals.</p>", _interval_plots(report)]
    results = summary({entry.name: entry.results for entry in report.entries})
    parts += [table(results, "Results", metrics=True, runs="columns", models=names)]
    replies = [examples(one, one.examples[0].replies[-1][0]) for one in generated(report, REPLIES)]
    parts += ["<h2>Replies</h2>", *replies] if replies else []
    parts += [_curves(report), "<h2>Cost</h2>", table(cost_rows(report.entries), "Cost", runs="rows")]
    parts += [_differences(report), "<h2>How it was measured</h2>", *map(_provenance, report.entries)]
    return page("\n".join(part for part in parts if part))


def _verdicts(report: Report) -> str:
    items = [f'<li class="{verdict.kind.split()[0]}">{escape(verdict.text)}</li>' for verdict in verdicts(report)]
    return f'<ul class="verdicts">{"".join(items)}</ul>'


def _comparison(comparison: Comparison, count: int) -> str:
    rows = table(comparison_rows(comparison), comparison.title, metrics=True)
    parts = [f"<h2>{escape(comparison.title)}</h2>", rows, f'<p class="small">{escape(METHOD)}</p>']
    parts += [examples(found, comparison.other.name) for found in shown(comparison, count)]
    return f"<section{named('run', comparison.other.name)}>{''.join(parts)}</section>"


def _seeds(group: Entry) -> str:
    rows = table(seed_rows(group), seeds_title(group), metrics=True)
    return f'<section><h2>{escape(seeds_title(group))}</h2>{rows}<p class="small">{escape(SEEDS)}</p></section>'


def _interval_plots(report: Report) -> str:
    """A plot for each metric that has intervals; bare counts stay in the table."""
    figures = []
    for metric, side in sides(entry.results for entry in report.entries).items():
        found = [(entry.name, entry.metrics.get(metric)) for entry in report.entries]
        rows = [
            (name, m.value, m.ci95 if all(map(isfinite, m.ci95)) else None)
            for name, m in found
            if m and m.value is not None and m.ci95 and isfinite(m.value)
        ]
        if rows:
            caption = f"<figcaption>{escape(metric)}{arrow(ARROWS[side])}</figcaption>"
            figures.append(f"<figure{named('metric', metric)}>{caption}{intervals(metric, rows)}</figure>")
    return f'<div class="plots">{"".join(figures)}</div>' if figures else ""


def _curves(report: Report) -> str:
    """A plot for each kind of loss, and one of GRPO's rewards."""
    kinds: dict[str, tuple[list[Curve], list[tuple[str, float]]]] = {}
    for n, entry in enumerate(report.entries):
        training = entry.training
        curves, marks = kinds.setdefault(loss_label(entry.recipe), ([], []))
        curves.append(Curve(f"{entry.name}, training", training.train, colour=n, run=entry.name))
        curves.append(Curve(f"{entry.name}, validation", training.evaluation, colour=n, dashed=True, run=entry.name))
        if training.overfits_from is not None:
            marks.append((f"{entry.name} over-fits", float(training.overfits_from)))
    rewards = [
        Curve(f"{entry.name}, {kind}", points, colour=n, dashed=kind == "validation", run=entry.name)
        for n, entry in enumerate(report.entries)
        for kind, points in (("training", entry.training.reward), ("validation", entry.training.evaluation_reward))
    ]
    kinds["mean reward"] = (rewards, [])
    drawn = [
        lines(f"{name} over training steps", curves, "step", name, marks) for name, (curves, marks) in kinds.items()
    ]
    figures = "".join(f"<figure>{plot}</figure>" for plot in drawn if plot)
    return f'<h2>Training</h2><div class="plots">{figures}</div>' if figures else ""


def _differences(report: Report) -> str:
    if not report.differences:
        return ""
    names = [entry.name for entry in report.entries if entry.recipe]
    rows = [("field", *names), *((field, *map(str, values)) for field, values in report.differences.items())]
    return "<h2>What differs between the recipes</h2>" + table(
        rows, "What differs between the recipes", runs="columns", models=names
    )


def _provenance(entry: Entry) -> str:
    found = entry.provenance
    rows = [("what", "value"), ("model", found.model.path), *_flat("", to_json(found.model)), *_flat("", found.engine)]
    for suite, about in found.suites.items():
        rows += [*_flat(f"{suite} data ", about.data), *_flat(f"{suite} ", about.settings)]
    rows += [("seed", str(found.seed)), *_flat("version of ", found.versions)]
    rows += [(f"{name} is", measure.implementation) for name, measure in entry.metrics.items()]
    told = table(rows, f"How {entry.name} was measured")
    return f"<details{named('run', entry.name)}><summary>{escape(entry.name)}</summary>{told}</details>"


def _flat(prefix: str, values: Mapping[str, object]) -> list[tuple[str, str]]:
    return [(f"{prefix}{name}", str(value)) for name, value in values.items() if value is not None and name != "path"]
