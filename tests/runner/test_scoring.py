"""Scoring checkpoints: which are due, which are kept, where a training pauses and when it ends early."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapters.contract import Checkpoint
from eval.spec import Model
from recipes import load
from recipes.typed import write_typed
from runner.failure import Failure
from runner.runs import rundir as rundir
from runner.scoring.models import EvalOptions, run_spec
from runner.training import checkpoint_scores as scoring
from runner.training.checkpoint_scores import EarlyStop, Scorer
from tests.eval import made


class Directories:
    """A backend whose checkpoints are directories step-N."""

    @staticmethod
    def checkpoints(directory: Path) -> list[Checkpoint]:
        found = [Checkpoint(step=int(p.name.removeprefix("step-")), path=p) for p in directory.glob("step-*")]
        return sorted(found, key=lambda c: -c.step)


def scorer(tmp_path: Path, *overrides: str, steps: tuple[int, ...] = ()) -> Scorer:
    loaded = load("quickstart", ["eval.every=10", "eval.suites=[perplexity]", "checkpoint.every=5", *overrides])
    run = rundir.create(loaded, tmp_path, None)
    for step in steps:
        save(run.path, step)
    return Scorer(run, loaded.recipe, Directories(), lambda step, target: target.mkdir(parents=True), lambda text: None)  # type: ignore[arg-type]


def save(run: Path, step: int) -> None:
    (run / "checkpoints" / f"step-{step}").mkdir()


def score(found: Scorer, step: int, perplexity: float) -> None:
    directory = found.directory / f"eval_step_{step}"
    directory.mkdir(parents=True)
    write_typed(directory / "results.json", made.perplexity(perplexity))


def kept(found: Scorer) -> list[int]:
    return [c.step for c in Directories.checkpoints(found.run.path / "checkpoints")][::-1]


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> dict[int, Any]:
    """What an evaluation of a step gives: a perplexity, or an exception."""
    answers: dict[int, Any] = {}

    def evaluate(run: Any, model: Path, output: Path, say: Any) -> None:
        assert model.is_dir()
        answer = answers[int(output.name.removeprefix("eval_step_"))]
        if isinstance(answer, Exception):
            raise answer
        write_typed(output / "results.json", made.perplexity(answer))

    monkeypatch.setattr(scoring, "evaluate_checkpoint", evaluate)
    monkeypatch.setattr(scoring, "LOOK_EVERY_S", 0.0)
    return answers


def test_due_are_the_multiples_and_the_last(tmp_path: Path) -> None:
    found = scorer(tmp_path, steps=(5, 10, 15, 20, 25))
    score(found, 10, 9.0)
    assert [c.step for c in found.due()] == [20]
    assert [c.step for c in found.due(ended=True)] == [20, 25]
    assert scorer(tmp_path, "eval.suites=[]", steps=(10,)).due(ended=True) == []


def test_a_training_pauses_at_each_multiple_in_that_mode_only(tmp_path: Path) -> None:
    found = scorer(tmp_path, "eval.mode=pause")
    assert [found.next_stop(step) for step in (0, 9, 10, 25)] == [10, 10, 20, 30]
    assert scorer(tmp_path).next_stop(0) is None


def test_what_is_scored_and_old_is_removed(tmp_path: Path, evaluated: dict[int, Any]) -> None:
    found = scorer(tmp_path, "checkpoint.keep=1", "eval.best_model=true", steps=(5, 10, 15, 20))
    evaluated.update({10: 7.0, 20: 8.0})
    found.score_due()
    assert kept(found) == [10, 20], "the best is kept beside the newest"
    assert found.chosen_step() == 10
    written = json.loads((found.directory / "eval_history.json").read_text())
    assert (written["best_step"], written["best_score"]) == (10, -7.0)
    assert not (found.directory / "eval_step_10" / "model").exists()


def test_a_failure_is_passed_over_and_tried_again_when_asked(tmp_path: Path, evaluated: dict[int, Any]) -> None:
    found = scorer(tmp_path, "checkpoint.keep=1", steps=(10, 20))
    evaluated.update({10: Failure("the evaluation"), 20: OSError("disk full")})
    found.score_due()
    assert found.due() == [] and not (found.directory / "eval_history.json").exists()
    found.failed.clear()
    evaluated.update({10: 7.0, 20: 8.0})
    save(found.run.path, 35)
    found.score_due()
    assert sorted(scoring.scored(found.run)) == [10, 20] and kept(found) == [35]


def test_scores_that_no_longer_rise_end_a_training(tmp_path: Path, evaluated: dict[int, Any]) -> None:
    found = scorer(tmp_path, "eval.mode=concurrent", "eval.patience=1", steps=(10,))
    evaluated.update({10: 7.0, 20: 7.5})
    found.poll()
    found.wait()
    assert not found.stops_early()
    save(found.run.path, 20)
    found.poll()
    assert found.task is not None
    found.task.result()
    with pytest.raises(EarlyStop):
        found.poll()
    found.close()
    assert found.chosen_step() == 20


@pytest.mark.parametrize(
    "systems,given,wanted",
    [
        (["Be brief.", "Be brief."], None, "Be brief."),
        (["Be brief.", "Be kind."], None, None),
        (["Be brief.", None], None, None),
        (["Be brief.", "Be brief."], "Be kind.", "Be kind."),
        (["Be brief.", "Be brief."], "", None),
        ([None, None], "Be kind.", "Be kind."),
    ],
)
def test_lm_eval_asks_with_the_system_prompt_that_all_rows_have(
    tmp_path: Path, systems: list[str | None], given: str | None, wanted: str | None
) -> None:
    sources = "".join(f"    - {{path: a/b{n}, system: {json.dumps(s)}}}\n" for n, s in enumerate(systems))
    text = (
        "backend: llamafactory\nmethod: sft\nmodel: {path: a/b, chat_template_kwargs: {enable_thinking: false}}\n"
        f"data:\n  train:\n{sources}eval: {{suites: ['lm_eval:gsm8k'], max_samples: 7, lm_eval: "
        f"{{system: {json.dumps(given)}, num_fewshot: 3, generation: {{until: [a, b], temperature: 0.5}}}}}}\n"
    )
    (tmp_path / "r.yaml").write_text(text)
    loaded = load(tmp_path / "r.yaml")
    run = rundir.create(loaded, tmp_path / "runs", None)
    spec = run_spec(run, loaded.recipe, EvalOptions(), [Model(name="m", path="m", output=tmp_path)], print)
    assert spec.lm_eval.system == wanted and spec.lm_eval.num_fewshot == 3 and spec.max_samples == 7
    assert spec.lm_eval.generation == {"until": ["a", "b"], "temperature": 0.5}
    assert spec.suites == ("lm_eval:gsm8k",) and spec.chat_template_kwargs == {"enable_thinking": False}
