"""Scores a finished run, and leaves its own report beside the results."""

from __future__ import annotations

from collections.abc import Callable

from eval.report.results import Results
from runner.runs.card import write_card
from runner.runs.rundir import Run
from runner.scoring.compare import report_runs
from runner.scoring.history import write_final_results
from runner.scoring.models import EvalOptions, evaluate_run


def score_run(run: Run, options: EvalOptions, say: Callable[[str], None]) -> dict[str, Results]:
    """Score a finished run, and leave its own report beside the results.

    Raises:
        UserError, Failure: as `evaluate_run`.
    """
    results = evaluate_run(run, options, say)
    if not options.output:
        write_final_results(run, results)
        report_runs([run], run.path / "eval", say)
        write_card(run)
    return results
