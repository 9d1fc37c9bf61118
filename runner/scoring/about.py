"""`recipe runs RUN`: one run, as one needs it to go on with it: state, recipe, whole checkpoints, newest scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from eval.report.results import Results, read_results
from recipes import UserError
from recipes.visible import visible
from runner.machine import diagnose
from runner.runs.checkpoints import shown_size, size_of, whole_checkpoints
from runner.runs.logs import newest
from runner.runs.rundir import Damaged, Parent, Run
from runner.runs.show import table
from runner.scoring.history import run_history, scored

STOPPED = ("failed", "interrupted", "crashed")


@dataclass(frozen=True, kw_only=True)
class KeptCheckpoint:
    """A whole checkpoint, its size in bytes, and its combined score where it was scored and has one."""

    step: int
    path: Path
    size: int
    scored: bool
    score: float | None = None


@dataclass(frozen=True, kw_only=True)
class About:
    """One run. steps: of the last line of its metrics; scores: of its model and its base, by their names."""

    name: str
    path: Path
    state: str
    reason: str
    recipe: str
    overrides: tuple[str, ...]
    backend: str
    method: str
    model: str
    tuning: str
    created: str
    steps: int
    loss: float | None
    model_step: int | None
    best_step: int | None
    size: int
    checkpoints: tuple[KeptCheckpoint, ...]
    parent: Parent | None = None
    scores: Mapping[str, Results] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def about(run: Run) -> About:
    """What there is to know of a run.

    Raises:
        Damaged: its manifest or its recipe cannot be read.
    """
    manifest, notes = run.read(), []
    history = None
    try:
        history = run_history(run, run.recipe().recipe)
    except UserError as error:  # a damaged result must not hide the run
        notes.append(f"scores of checkpoints cannot be read: {error}")
    score = {one.step: one.combined_score for one in history.history} if history else {}
    steps, kept = scored(run), whole_checkpoints(run)
    scores = {}
    for name, place in (("base", run.path / "eval" / "base"), ("tuned", run.path / "eval")):
        if (place / "results.json").is_file():
            try:
                scores[name] = read_results(place)
            except UserError as error:
                notes.append(f"scores of {name} cannot be read: {error}")
    trained = [line for line in run.steps() if "loss" in line]
    return About(
        name=run.name,
        path=run.path,
        state=run.state(),
        reason=reason(run),
        recipe=manifest.recipe,
        overrides=manifest.overrides,
        backend=manifest.backend,
        method=manifest.method,
        model=manifest.model,
        tuning=manifest.tuning,
        created=manifest.created,
        steps=int(trained[-1]["step"]) if trained else 0,
        loss=trained[-1]["loss"] if trained else None,
        model_step=manifest.model_step,
        best_step=history.best_step if history else None,
        size=size_of(run.path),
        checkpoints=tuple(
            KeptCheckpoint(
                step=one.step,
                path=one.path,
                size=size_of(one.path),
                scored=one.step in steps,
                score=score.get(one.step),
            )
            for one in kept
        ),
        parent=manifest.parent,
        scores=scores,
        notes=tuple(notes),
    )


def reason(run: Run) -> str:
    """Why a run stopped, in one line: its failure's, or the last of its log where it was killed; else empty."""
    state, manifest = run.state(), run.read()
    if state not in STOPPED:
        return ""
    if manifest.reason:
        lines = manifest.reason.splitlines()
        cause = next((line for line in lines if line.startswith("probable cause: ")), "")
        return " ".join(filter(None, [lines[0].removeprefix("failed: "), f"({cause})" if cause else ""]))
    log = newest(run)
    last = diagnose.tail(log, 1) if log else ""
    return f"ended without a word{f'; the last line of its log: {last}' if last else ' and without a log'}"


def stopped_table(runs: Sequence[Run]) -> str:
    """The failed, interrupted and crashed ones, each with its last step and its reason."""
    rows = [("run", "state", "steps", "checkpoints", "reason")]
    for run in runs:
        trained = [int(line["step"]) for line in run.steps() if "loss" in line]
        try:
            steps = ", ".join(str(one.step) for one in reversed(whole_checkpoints(run))) or "-"
        except Damaged:  # said by `recipe runs RUN`; the others are listed all the same
            steps = "?"
        rows.append((run.name, run.state(), str(max(trained, default="-")), steps, reason(run)))
    return table(rows)


def about_text(found: About) -> str:
    """One run for a person."""
    shown = f"{found.name}: {found.state}"
    loss = "" if found.loss is None else f", loss {found.loss:.4f}"
    facts = [
        ("reason", found.reason),
        ("what", f"{found.method} ({found.tuning}) of {found.model} on {found.backend}"),
        ("recipe", " ".join([found.recipe, *(f"--set {text}" for text in found.overrides)])),
        ("from", _of_parent(found.parent)),
        ("created", found.created[:16].replace("T", " ")),
        ("steps", f"{found.steps}{loss}"),
        ("model", "" if found.model_step is None else f"of step {found.model_step}"),
        ("size", shown_size(found.size)),
        ("where", str(found.path)),
    ]
    lines = [shown, *(f"  {name + ':':<9}{text}" for name, text in facts if text)]
    lines += ["", *_checkpoints(found)]
    if found.scores:
        from eval.report.tables import summary

        lines += ["", table(summary(found.scores))]
    lines += [f"note: {text}" for text in found.notes]
    return visible("\n".join(lines))


def _of_parent(parent: Parent | None) -> str:
    if parent is None:
        return ""
    return f"{parent.kind} of {parent.run}{'' if parent.step is None else f' at step {parent.step}'}"


def _checkpoints(found: About) -> list[str]:
    if not found.checkpoints:
        return ["no whole checkpoint"]
    rows = [("checkpoint", "size", "scored")]
    for one in found.checkpoints:
        marks = [text for step, text in ((found.best_step, "best"), (found.model_step, "model/")) if step == one.step]
        score = "-" if not one.scored else "yes" if one.score is None else f"{one.score:.4f}"
        rows.append((f"step {one.step}", shown_size(one.size), " ".join([score, *marks])))
    return [table(rows)]
