"""Scores a run's checkpoints, not its trainer: one thing for every backend, and no failure of it ends a training.

eval/eval_step_N/         results and records of each suite, and the answers they came from
eval/eval_history.json    best_step, best_score, history: [{step, combined_score, results}]
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from adapters.contract import Backend, Checkpoint
from eval.report.history import History, should_stop
from recipes import Recipe, UserError
from recipes.typed import write_typed
from runner.failure import Failure
from runner.machine import process
from runner.runs.rundir import Run
from runner.scoring.history import STEP, run_history, scored
from runner.scoring.models import evaluate_checkpoint

LOOK_EVERY_S = 2.0


class EarlyStop(Exception):
    """The scores say to stop, and why; ends a training that others score meanwhile."""


class Scorer:
    """The scored checkpoints of one run.

    Args:
        export: makes a model directory of a checkpoint: (step, directory).
        prune: whether the scores so far end the training, beside `eval.patience`.
    """

    def __init__(
        self,
        run: Run,
        recipe: Recipe,
        module: Backend,
        export: Callable[[int, Path], None],
        say: Callable[[str], None],
        prune: Callable[[History], bool] | None = None,
    ) -> None:
        self.prune = prune
        self.run, self.recipe, self.module, self.export, self.say = run, recipe, module, export, say
        self.directory = run.path / "eval"
        self.failed: set[int] = set()
        self.looked = 0.0
        self.pool: ThreadPoolExecutor | None = None
        self.task: Future[None] | None = None
        self.closing = False

    def next_stop(self, step: int) -> int | None:
        """Where a training that stands at `step` pauses to be scored; None where it does not."""
        every = self.recipe.eval.every
        pauses = self.recipe.eval.of_checkpoints and self.recipe.eval.mode == "pause" and every
        return (step // every + 1) * every if pauses and every else None

    def due(self, *, ended: bool = False) -> list[Checkpoint]:
        """Whole checkpoints that are still to be scored, oldest first; with `ended`, the last one is among them."""
        every = self.recipe.eval.every
        if not self.recipe.eval.of_checkpoints or not every:
            return []
        whole = self._whole()
        last = whole[0].step if whole and ended else -1
        done = scored(self.run).keys() | self.failed
        return [c for c in reversed(whole) if (c.step % every == 0 or c.step == last) and c.step not in done]

    def score_due(self, *, ended: bool = False) -> None:
        """Score what is due, one after the other."""
        for checkpoint in self.due(ended=ended):
            self._score(checkpoint)

    def poll(self) -> None:
        """Called while the training goes on: starts the next scoring where the mode is concurrent.

        Raises:
            EarlyStop: the scores so far say so.
        """
        if not self.recipe.eval.of_checkpoints or time.monotonic() - self.looked < LOOK_EVERY_S:
            return
        self.looked = time.monotonic()
        self._prune()
        if self.recipe.eval.mode != "concurrent" or (self.task and not self.task.done()):
            return
        if self.task:
            self.task.result()  # a mistake of ours is not hidden in a thread
            if why := self.stops_early():
                raise EarlyStop(why)
        due = self.due()
        self.pool = self.pool or ThreadPoolExecutor(1, "scoring")
        self.task = self.pool.submit(self._score, due[0]) if due else None

    def wait(self) -> None:
        """Wait for the scoring that is under way."""
        if self.task:
            self.task.result()
        self.close()

    def close(self) -> None:
        """End the scoring that is under way; it goes on from its answers when it is started again."""
        if self.pool:
            self.closing = True
            if self.task and not self.task.done():
                process.end_all(self.run.mark("eval"))
            self.pool.shutdown()
            self.pool = self.task = None
            self.closing = False

    def stops_early(self) -> str:
        """Why the training ends here: the last `eval.patience` scores were no better than the best before; or empty."""
        patience, found = self.recipe.eval.patience, self.history()
        if patience and should_stop(found, patience):
            return "the combined score stopped improving (eval.patience)"
        return "other trials were better by then (pruned)" if self.prune and self.prune(found) else ""

    def history(self) -> History:
        """The content of eval_history.json."""
        return run_history(self.run, self.recipe)

    def chosen_step(self) -> int | None:
        """The step that becomes `model/`: the best where the recipe asks for it, else the newest whole one."""
        newest = next((c.step for c in self._whole()), None)
        best = self.history().best_step if self.recipe.eval.best_model else None
        return best if best in [c.step for c in self._whole()] else newest

    def _score(self, checkpoint: Checkpoint) -> None:
        output = self.directory / f"{STEP}{checkpoint.step}"
        model = output / "model"
        try:
            self.export(checkpoint.step, model)
            evaluate_checkpoint(self.run, model, output, self.say)
        except (UserError, Failure, OSError) as error:
            self.failed.add(checkpoint.step)
            if not self.closing:
                self.say(f"step {checkpoint.step} could not be scored, and the run goes on: {error}")
            return
        finally:
            shutil.rmtree(model, ignore_errors=True)
        found = self.history()
        write_typed(self.directory / "eval_history.json", found)
        score = next(one.combined_score for one in found.history if one.step == checkpoint.step)
        shown = "no combined score" if score is None else f"{found.formula} = {score:.4f}"
        self.say(f"step {checkpoint.step}: {shown} (best so far: step {found.best_step})")
        self._prune()

    def _whole(self) -> list[Checkpoint]:
        return self.module.checkpoints(self.run.path / "checkpoints")

    def _prune(self) -> None:
        """Remove all but the newest `checkpoint.keep`, the best, and those that are still to be scored."""
        keep = self.recipe.checkpoint.keep
        needed = {checkpoint.step for checkpoint in self.due(ended=True)} | {self.chosen_step()}
        for checkpoint in self._whole()[keep:] if keep else []:
            if checkpoint.step not in needed:
                shutil.rmtree(checkpoint.path, ignore_errors=True)
