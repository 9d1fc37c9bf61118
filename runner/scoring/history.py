"""What the scores of a run's checkpoints say: eval_history.json and final_eval_results.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eval.report.history import History, history
from recipes import Recipe
from recipes.files import read_json, write_json
from recipes.formula import default_formula
from runner.runs.rundir import Run

STEP = "eval_step_"


def scored(run: Run) -> dict[int, Path]:
    """results.json by step."""
    files = (run.path / "eval").glob(f"{STEP}*/results.json")
    return {int(file.parent.name.removeprefix(STEP)): file for file in files}


def run_history(run: Run, recipe: Recipe) -> History:
    """What eval_history.json holds, of the steps that have been scored."""
    formula = recipe.eval.combined_score or default_formula(recipe.eval.suites)
    return history([(step, read_json(file)) for step, file in scored(run).items()], formula)


def write_final_results(run: Run, results: dict[str, dict[str, Any]]) -> None:
    """final_eval_results.json: the finished model, and its base, beside the best of the checkpoints."""
    found = run_history(run, run.recipe().recipe)
    final = {name: found[name] for name in ("best_step", "best_score", "formula")}
    final["model_step"] = run.read().get("model_step")
    final["results"] = {name: result["metrics"] for name, result in results.items()}
    write_json(run.path / "eval" / "final_eval_results.json", final)
