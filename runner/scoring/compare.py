"""Compares scored runs: evaluation_results.json, evaluation_report.md and report.html."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path

from eval.report.curves import training
from eval.report.files import write_report
from eval.report.markdown import seeds_title
from eval.report.results import FILE, Entry, read_entry
from eval.report.tables import Report, comparison_rows, cost_rows, make_report, notes, seed_rows
from eval.report.verdicts import verdicts
from recipes import UserError
from recipes.typed import to_json
from recipes.visible import visible
from runner.files import safetensors_header
from runner.runs.rundir import Run, runs
from runner.runs.show import table
from runner.scoring.names import BASE, names_of
from runner.scoring.seeds import trained_as


def report_runs(chosen: Sequence[Run], directory: Path, say: Callable[[str], None], where: Path | None = None) -> None:
    """Write the report of runs that were just scored, into `where` or themselves; say what it says first."""
    report = make_report(entries(chosen, where=where), unlike="leave_out")
    for text in (*(verdict.text for verdict in verdicts(report)), *notes(report)):
        say(text)
    write(report, directory, say)


def report_over_all(scored: Sequence[Run], directory: Path, say: Callable[[str], None]) -> None:
    """Write the report over all scored runs of a directory, and those of `scored` that lie elsewhere."""
    over_all = scored_runs(directory, say)
    known = {run.path for run in over_all}
    report_runs([*over_all, *(run for run in scored if run.path not in known)], directory, say)


def write(report: Report, directory: Path, say: Callable[[str], None]) -> None:
    written = write_report(report, directory.resolve())
    say(f"report: {written[-1]} (and {', '.join(path.name for path in written[:-1])})")


def scored_runs(directory: Path, say: Callable[[str], None]) -> list[Run]:
    """The runs of a directory that have results; what is damaged is left out, and said."""
    found = []
    for run in runs(directory):
        if (run.path / "eval" / FILE).is_file():
            try:
                entries([run])
                found.append(run)
            except UserError as error:
                say(f"left out: {error}")
    return found


def entries(chosen: Sequence[Run], *, base: bool = True, where: Path | None = None) -> list[Entry]:
    """The models of scored runs: each base model once for each data it was scored on, before the first of its runs.

    Each has a name of its own (see `names_of`); a run that is there twice is one.

    Raises:
        UserError: a run has no results.
    """
    found: list[Entry] = []
    seen: dict[str, str] = {}
    names = names_of(chosen)
    for run in map(Run, names):
        directory = where / run.name if where else run.path / "eval"
        if base and (directory / "base" / "results.json").is_file():
            entry = read_entry(directory / "base", BASE)
            what = json.dumps(to_json([entry.provenance.model, entry.metrics]), sort_keys=True)
            if what not in seen:
                name = f"{BASE} of {names[run.path]}" if seen else BASE
                seen[what] = name
                found.append(read_entry(directory / "base", name))
        found.append(_tuned(run, directory, names[run.path]))
    return found


def _tuned(run: Run, directory: Path, name: str) -> Entry:
    manifest = run.read()
    figures = training(
        run.steps(),
        seconds=manifest.training_time_s or None,
        expected_memory_gb=manifest.memory.predicted_gb,
        trained_parameters=trained_parameters(run.model),
    )
    loaded = run.recipe()
    entry = read_entry(directory, name, figures, loaded.complete())
    return replace(entry, seed=loaded.recipe.training.seed, trained_as=trained_as(run))


def trained_parameters(model: Path) -> int:
    """The parameters in a model directory's weights: of an adapter, those that were trained."""
    files = sorted(model.glob("adapter_model*.safetensors")) or sorted(model.glob("*.safetensors"))
    headers = [safetensors_header(file) or {} for file in files]
    return sum(prod(entry["shape"]) for header in headers for entry in header.values())


def report_text(report: Report) -> str:
    """The comparison for a terminal: its verdicts in sentences, then its tables."""
    parts = ["\n".join(verdict.text for verdict in verdicts(report))]
    parts += [f"note: {note}" for note in notes(report)]
    for comparison in report.comparisons.values():
        parts.append(f"{comparison.title}\n{table(comparison_rows(comparison))}")
    parts += [f"{seeds_title(group)}\n{table(seed_rows(group))}" for group in report.groups]
    parts.append(f"cost\n{table(cost_rows(report.entries))}")
    if report.differences:
        names = [e.name for e in report.entries if e.recipe]
        shown = [(field, *map(str, values)) for field, values in report.differences.items()]
        parts.append(f"what differs between the recipes\n{table([('field', *names), *shown])}")
    return visible("\n\n".join(parts))
