"""Trials that Optuna chooses and prunes, in a journal beside the sweep: what was chosen and seen is there after a kill.

Optuna is an extra (`pip install 'recipe-runner[sweep]'`). Each trial is drawn with a seed of its own, so that one that
is drawn after a restart is the one that would have been drawn without.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recipes import UserError
from runner.sweeping.record import Objective, Search
from runner.sweeping.values import Grid, Range

SAMPLERS = ("tpe", "random")
PRUNERS = ("median", "halving", "none")
FEWEST = 5  # trials that importance is told from


class Study:
    """An Optuna study whose trials are counted from 1, as those of sweep.json."""

    def __init__(
        self, directory: Path, search: Search, goal: Objective, grids: Sequence[Grid], ranges: Sequence[Range]
    ) -> None:
        self.optuna = _optuna()
        self.search, self.grids = search, {one.field: one for one in grids}
        journal = self.optuna.storages.journal.JournalFileBackend(str(directory / "study.journal"))
        self.study = self.optuna.create_study(
            storage=self.optuna.storages.JournalStorage(journal),
            study_name="sweep",
            direction="maximize" if goal.better == "higher" else "minimize",
            pruner=self._pruner(),
            load_if_exists=True,
        )
        kinds = self.optuna.distributions
        # Optuna's categories are numbers, text and such: a place in the grid stands for a list or a mapping.
        self.space = {one.field: kinds.CategoricalDistribution(tuple(range(len(one.values)))) for one in grids}
        for one in ranges:
            kind = kinds.IntDistribution if one.whole else kinds.FloatDistribution
            self.space[one.field] = kind(one.low, one.high, log=one.log)

    def _pruner(self) -> Any:
        made = {
            "median": self.optuna.pruners.MedianPruner,
            "halving": self.optuna.pruners.SuccessiveHalvingPruner,
            "none": self.optuna.pruners.NopPruner,
        }
        return made[self.search.pruner]()

    def values(self, number: int) -> dict[str, Any]:
        """The values of a trial: those that were drawn before, or new ones."""
        while len(self.study.trials) < number:
            sampler = {"tpe": self.optuna.samplers.TPESampler, "random": self.optuna.samplers.RandomSampler}
            own = random.Random(f"{self.search.seed} {len(self.study.trials)}").getrandbits(32)
            self.study.sampler = sampler[self.search.sampler](seed=own)
            self.study.ask(self.space)
        drawn = self.study.trials[number - 1].params
        return {
            field: self.grids[field].values[value] if field in self.grids else value for field, value in drawn.items()
        }

    def open(self, number: int) -> bool:
        """Whether nothing was told of a trial's end yet."""
        return not self.study.trials[number - 1].state.is_finished()

    def prunes(self, number: int) -> Callable[[Iterable[tuple[int, float]]], bool]:
        """Whether a trial with these scores by step goes on no further; what is new of them is written down."""
        trial = self.optuna.trial.Trial(self.study, self.study.trials[number - 1]._trial_id)

        def prune(scores: Iterable[tuple[int, float]]) -> bool:
            known = self.study.trials[number - 1].intermediate_values
            for step, score in scores:
                if step not in known:
                    trial.report(score, step)
            return bool(trial.should_prune())

        return prune

    def tell(self, number: int, state: str, score: float | None) -> None:
        """The end of a trial, told once."""
        if not self.open(number):
            return
        kinds = self.optuna.trial.TrialState
        if state == "succeeded":
            self.study.tell(number - 1, score)
        else:
            self.study.tell(number - 1, state=kinds.PRUNED if state == "pruned" else kinds.FAIL)

    def importance(self) -> Mapping[str, float] | None:
        """The share of each field in what sets good trials apart (PED-ANOVA: Watanabe et al., 2023); None of few."""
        complete = [one for one in self.study.trials if one.state == self.optuna.trial.TrialState.COMPLETE]
        if len(complete) < FEWEST or len({one.value for one in complete}) < 2:
            return None
        evaluator = self.optuna.importance.PedAnovaImportanceEvaluator()
        found = self.optuna.importance.get_param_importances(self.study, evaluator=evaluator)
        return found if all(math.isfinite(share) for share in found.values()) else None


def _optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError:
        text = "--trials needs Optuna, which is not installed here: pip install 'recipe-runner[sweep]'"
        raise UserError(f"{text}; a grid without --trials needs nothing") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # Its journal and PED-ANOVA call themselves experimental; what the user sees is ours.
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    return optuna
