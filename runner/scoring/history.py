"""What the scores of a run's checkpoints say: eval_history.json and final_eval_results.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from eval.report.history import History, history
from eval.report.results import Results, read_results
from eval.statistics import Measure
from recipes import Recipe
from recipes.formula import default_formula
from recipes.typed import write_typed
from runner.runs.rundir import Run

STEP = "eval_step_"


def scored(run: Run) -> dict[int, Path]:
    """results.json by step."""
    files = {file.parent.name.removeprefix(STEP): file for file in (run.path / "eval").glob(f"{STEP}*/results.json")}
    return {int(step): file for step, file in files.items() if step.isdecimal()}


def run_history(run: Run, recipe: Recipe) -> History:
    """What eval_history.json holds, of the steps that have been scored."""
    formula = recipe.eval.combined_score or default_formula(recipe.eval.suites)
    return history([(step, read_results(file.parent).metrics) for step, file in scored(run).items()], formula)


@dataclass(frozen=True, kw_only=True)
class FinalResults:
    """final_eval_results.json: the finished model, and its base, beside the best of the checkpoints."""

    best_step: int | None
    best_score: float | None
    formula: str
    model_step: int | None
    results: Mapping[str, Mapping[str, Measure]]


def write_final_results(run: Run, results: Mapping[str, Results]) -> None:
    """Write final_eval_results.json of a run that was just scored."""
    found = run_history(run, run.recipe().recipe)
    final = FinalResults(
        best_step=found.best_step,
        best_score=found.best_score,
        formula=found.formula,
        model_step=run.read().model_step,
        results={name: result.metrics for name, result in results.items()},
    )
    write_typed(run.path / "eval" / "final_eval_results.json", final)
