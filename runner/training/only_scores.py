"""A stage that trains nothing: what the stage before it has made is scored by its own `eval`, beside that run.

Its directory is runs/NAME-STAGE, as `recipe eval RUN --output` would fill it, with scored.json in it: a word on what it
holds, so that a repeated command neither scores it again nor takes another model's scores for this one's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from eval.hashes import model_hash
from recipes import LoadedRecipe, UserError
from recipes.typed import read_typed, to_json, write_typed
from recipes.types import Eval
from runner.runs.rundir import Run
from runner.scoring.compare import report_runs
from runner.scoring.models import EvalOptions, evaluate_run, results_table
from runner.training.train import Options

FILE = "scored.json"


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The content of scored.json: the run, a hash of its model, how it is scored, and whether that has ended."""

    run: str
    weights: str
    eval: Eval
    ended: bool = False


def score_stage(loaded: LoadedRecipe, name: str, run: Run, options: Options) -> None:
    """Score a run into the directory `name`; what has ended before is taken as it is.

    Raises:
        UserError: the directory holds something else, or a suite has no data.
        Failure: the evaluation failed; what is answered is kept, and the same command goes on.
    """
    directory = (options.runs_dir / name).resolve()
    asked = Scored(run=str(run.path), weights=model_hash(run.model), eval=loaded.recipe.eval)
    file = directory / FILE
    if directory.exists():
        before = _read(name, directory, asked)
        if before.ended:
            options.say(f"{name} has been scored, and is taken as it is")
            return
    else:
        directory.mkdir(parents=True)
        write_typed(file, asked)
    options.say(f"{name}: scoring {run.name}")
    how = EvalOptions(judged=loaded.recipe.eval, output=directory, trust_run=options.trust_run)
    options.say(results_table(evaluate_run(run, how, options.say)))
    report_runs([run], directory, options.say, directory)
    write_typed(file, replace(asked, ended=True))


def _read(name: str, directory: Path, asked: Scored) -> Scored:
    """What the directory holds, which must be what is asked for."""
    file, others = directory / FILE, "give other names with --name, or remove that directory"
    try:
        before = read_typed(Scored, file)
    except (OSError, ValueError):
        raise UserError(f"{directory} is there already, and holds no scores of a stage; {others}") from None
    differs = {
        "run": "it scores another run",
        "weights": "the run's model was another",
        "eval": "its `eval` was another",
    }
    found = [text for key, text in differs.items() if to_json(getattr(before, key)) != to_json(getattr(asked, key))]
    if found:
        raise UserError(f"{directory} is there already, of another evaluation: {', '.join(found)}; {others}")
    return before
