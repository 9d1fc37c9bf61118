"""Prints plans and runs for people, and plans as JSON for programs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from adapters.contract import Plan, Topology
from adapters.ledger import plain
from recipes import Recipe, UserError
from recipes.visible import visible
from runner.runs.rundir import Run


def plan_json(
    plan: Plan,
    recipe: Recipe,
    topology: Topology,
    fit: Mapping[str, object] | None = None,
    more: Mapping[str, object] | None = None,
) -> str:
    """The plan as JSON: argv, env, files, ledger, the rest, and `more`; `fit`: the estimate of memory and work."""
    from dataclasses import asdict

    value = {
        "name": recipe.name,
        "backend": plan.backend,
        "method": recipe.method,
        "argv": list(plan.argv),
        "env": dict(plan.env),
        "unset": list(plan.unset),
        "files": dict(plan.files),
        "before": [list(c) for c in plan.before],
        "export": list(plan.export),
        "metrics": plan.metrics,
        "ledger": [plain(asdict(entry)) for entry in plan.ledger],
        "notes": list(plan.notes),
        "topology": plain(asdict(topology)),
        "data": [source.name for source in recipe.data.train],
    }
    if fit is not None:
        value["fit"] = dict(fit)
    return json.dumps(value | dict(more or {}), ensure_ascii=False, indent=1)


def plan_text(plan: Plan, recipe: Recipe, topology: Topology, run: Path, fit: Sequence[str] = ()) -> str:
    """The plan for a person: what will run, where, with which data, the estimate's lines, and the ledger."""
    where = f"{topology.gpus} GPU" if topology.gpus else f"{topology.processes} CPU process"
    where += ("s" if topology.gpus else "es") * ((topology.gpus or topology.processes) > 1)
    lines = [
        f"{recipe.name}: {recipe.method} ({recipe.tuning.type}) of {recipe.model.path} on {plan.backend}",
        f"where:     {where} on each of {topology.nodes} nodes" if topology.nodes > 1 else f"where:     {where}",
        *(f"data:      {s.name} ({s.format})" for s in recipe.data.train),
        *(f"held out:  {s.name} ({s.format})" for s in recipe.data.validation.sources),
        f"run:       {run}",
        *fit,
        "",
        "ledger (recipe field -> native key = value)",
        *_ledger(plan),
        "",
        *(f"note: {note}" for note in plan.notes),
        *(f"{name}:\n{_indent(text)}" for name, text in plan.files.items()),
        "command:",
        *(f"  {shlex.join(command)}" for command in (*plan.before, plan.argv, plan.export) if command),
        *(f"  with {name}={value}" for name, value in plan.env.items()),
    ]
    return visible("\n".join(lines))


def _ledger(plan: Plan) -> list[str]:
    width = max(len(entry.field) for entry in plan.ledger)
    lines = []
    for entry in plan.ledger:
        note = f"  ({entry.note})" if entry.note else ""
        if entry.status in ("mapped", "native"):
            value = json.dumps(plain(entry.value), ensure_ascii=False)
            lines.append(f"  {entry.field:{width}} -> {entry.native} = {value}{note}")
    handled = [entry.field for entry in plan.ledger if entry.status == "runner"]
    lines.append(f"  by the runner: {', '.join(handled)}")
    return lines


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def runs_table(
    runs: Sequence[Run], states: Mapping[str, str] | None = None, waiting: Sequence[Sequence[str]] = ()
) -> str:
    """One line a run: name, state, backend, method, steps, last loss, perplexity, and why it failed.

    `states`: by name, where they are not the runs' own; `waiting`: the first columns of those that have not begun.
    """
    header = ("run", "state", "backend", "method", "tuning", "steps", "loss", "perplexity", "created", "reason")
    rows = [_run_row(run, (states or {}).get(run.name) or run.state()) for run in runs]
    rows += [(*row, *("-",) * 4, "")[: len(header)] for row in waiting]
    shown = len(header) if any(row[-1] for row in rows) else len(header) - 1
    return table([row[:shown] for row in (header, *rows)])


def _run_row(run: Run, state: str) -> tuple[str, ...]:
    manifest = run.read()
    losses = [line for line in run.steps() if "loss" in line]
    last = losses[-1] if losses else {}
    return (
        run.name,
        state,
        manifest.backend,
        manifest.method,
        manifest.tuning,
        str(last.get("step", "-")),
        f"{last['loss']:.4f}" if last else "-",
        _perplexity(run),
        manifest.created[:16].replace("T", " "),
        manifest.reason.partition("\n")[0].removeprefix("failed: ")[:80],
    )


def _perplexity(run: Run) -> str:
    from eval.report.results import read_results  # a plan needs no results

    try:
        found = read_results(run.path / "eval").metrics.get("perplexity")
    except UserError:  # not evaluated, or damaged: said where it is asked for
        return "-"
    return f"{found.value:.3f}" if found and found.value is not None else "-"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text in aligned columns; wide (Chinese) characters count twice."""
    rows = [[visible(cell).replace("\n", " ") for cell in row] for row in rows]
    widths = [max(_width(row[n]) for row in rows) for n in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
