"""report.html: one file with its plots inside, that opens without a network and reads on a phone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import isfinite

from eval.report.compare import examples
from eval.report.curves import loss_label
from eval.report.markdown import METHOD, asked, example_metrics, replied
from eval.report.plots import Curve, intervals, lines
from eval.report.results import Entry
from eval.report.tables import Report, comparison_rows, cost_rows, notes, summary
from eval.report.verdicts import verdicts
from recipes.typed import to_json

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.2rem; border-bottom: 1px solid var(--line); }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
td, th { white-space: nowrap; } .note { background: #c8553d22; border-left: 4px solid #c8553d; padding: .4rem .8rem; }
svg { width: 100%; height: auto; max-width: 40rem; display: block; font: 12px system-ui, sans-serif; }
svg text { fill: currentColor; } .grid { stroke: currentColor; opacity: .15; }
.mark { stroke: #c8553d; stroke-dasharray: 2 3; } .better { color: #2f8f5b; } .worse { color: #c8553d; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1rem; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); gap: .8rem; }
.pair div { background: var(--soft); padding: .5rem .8rem; white-space: pre-wrap; border-radius: .4rem; }
.verdicts { font-size: 1.15rem; list-style: none; padding: 0; } .verdicts li { margin: .4rem 0; }
details { margin: .6rem 0; } summary { cursor: pointer; } figure { margin: 0; } figcaption { font-weight: 600; }
"""


def html(report: Report) -> str:
    parts = ["<h1>Evaluation report</h1>", _verdicts(report)]
    parts += [f'<p class="note">{escape(note)}</p>' for note in notes(report)]
    parts += ["<h2>Results</h2><p>Values with 95 % intervals.</p>", _interval_plots(report)]
    parts += [table(summary({entry.name: entry.results for entry in report.entries}))]
    for comparison in report.comparisons.values():
        parts += [f"<h2>{escape(comparison.title)}</h2><p>{escape(METHOD)}</p>"]
        parts += [table(comparison_rows(comparison))]
        parts += [_examples(metric, comparison.first, comparison.other) for metric in example_metrics(comparison)]
    parts += [_curves(report), "<h2>Cost</h2>", table(cost_rows(report.entries)), _differences(report)]
    parts += ["<h2>How it was measured</h2>", *(_provenance(entry) for entry in report.entries)]
    return _page("\n".join(part for part in parts if part))


def _verdicts(report: Report) -> str:
    items = [f'<li class="{verdict.kind.split()[0]}">{escape(verdict.text)}</li>' for verdict in verdicts(report)]
    return f'<ul class="verdicts">{"".join(items)}</ul>'


def _page(body: str) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # Whatever a reply holds, nothing is fetched and no script runs.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>Evaluation report</title><style>{STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def table(rows: Sequence[Sequence[str]]) -> str:
    header, *body = rows
    head = "".join(f"<th>{escape(text)}</th>" for text in header)
    lines_ = ["<tr>" + "".join(_td(text) for text in row) + "</tr>" for row in body]
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines_)}</tbody></table></div>'


def _td(text: str) -> str:
    verdict = text.partition(" ")[0]
    kind = f' class="{verdict}"' if verdict in ("better", "worse") else ""
    return f"<td{kind}>{escape(text)}</td>"


def _interval_plots(report: Report) -> str:
    """A plot for each metric that has intervals; bare counts stay in the table."""
    figures = []
    for metric in dict.fromkeys(m for entry in report.entries for m in entry.metrics):
        found = [(entry.name, entry.metrics.get(metric)) for entry in report.entries]
        rows = [
            (name, m.value, m.ci95 if all(map(isfinite, m.ci95)) else None)
            for name, m in found
            if m and m.value is not None and m.ci95 and isfinite(m.value)
        ]
        if rows:
            plot = intervals(metric, rows)
            figures.append(f"<figure><figcaption>{escape(metric)}</figcaption>{plot}</figure>")
    return f'<div class="plots">{"".join(figures)}</div>' if figures else ""


def _curves(report: Report) -> str:
    """A plot for each kind of loss."""
    kinds: dict[str, tuple[list[Curve], list[tuple[str, float]]]] = {}
    for n, entry in enumerate(report.entries):
        training = entry.training
        curves, marks = kinds.setdefault(loss_label(entry.recipe), ([], []))
        curves.append(Curve(f"{entry.name}, training", training.train, colour=n, run=entry.name))
        curves.append(Curve(f"{entry.name}, validation", training.evaluation, colour=n, dashed=True, run=entry.name))
        if training.overfits_from is not None:
            marks.append((f"{entry.name} over-fits", float(training.overfits_from)))
    drawn = [
        lines(f"{name} over training steps", curves, "step", name, marks) for name, (curves, marks) in kinds.items()
    ]
    figures = "".join(f"<figure>{plot}</figure>" for plot in drawn if plot)
    return f'<h2>Training and validation loss</h2><div class="plots">{figures}</div>' if figures else ""


def _differences(report: Report) -> str:
    if not report.differences:
        return ""
    names = [entry.name for entry in report.entries if entry.recipe]
    rows = [("field", *names), *((field, *map(str, values)) for field, values in report.differences.items())]
    return "<h2>What differs between the recipes</h2>" + table(rows)


def _examples(metric: str, first: Entry, other: Entry) -> str:
    """The samples that differ most, side by side, best first."""
    shown = []
    for sample, difference, one, two in examples(metric, first, other):
        sides = "".join(
            f"<div><b>{escape(name)}</b>\n{escape(replied(record))}</div>"
            for name, record in ((first.name, one), (other.name, two))
        )
        question = f"<p>{escape(sample)}: {escape(asked(one))} <b>({difference:+.3g})</b></p>"
        shown.append(f'{question}<div class="pair">{sides}</div>')
    if not shown:
        return ""
    title = f"Where {other.name} differs most: {metric}"
    return f"<details><summary>{escape(title)}</summary>{''.join(shown)}</details>"


def _provenance(entry: Entry) -> str:
    found = entry.provenance
    rows = [("what", "value"), ("model", found.model.path), *_flat("", to_json(found.model)), *_flat("", found.engine)]
    for suite, told in found.suites.items():
        rows += [*_flat(f"{suite} data ", told.data), *_flat(f"{suite} ", told.settings)]
    rows += [("seed", str(found.seed)), *_flat("version of ", found.versions)]
    rows += [(f"{name} is", measure.implementation) for name, measure in entry.metrics.items()]
    return f"<details><summary>{escape(entry.name)}</summary>{table(rows)}</details>"


def _flat(prefix: str, values: Mapping[str, object]) -> list[tuple[str, str]]:
    return [(f"{prefix}{name}", str(value)) for name, value in values.items() if value is not None and name != "path"]
