"""A training made longer: its steps, and the learning rate that is told, beside transformers' own formulas."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.contract import Topology
from recipes import UserError, load
from runner.cli import main
from runner.runs.rundir import Conditions, Run, resolved_yaml
from runner.training import longer
from runner.training.conditions import CHOOSING, effect, values
from runner.training.resume import check_as_before, recipe_asked
from runner.training.train import Options
from tests.runner.test_back import content, trained

COUNTED = {
    "rows_in": 22, "trained": 22, "truncated_of_trained": 0, "validation": 0, "truncated_of_validation": 0,
    "dropped": {}, "longest_dropped": 0, "tokens": 9, "supervised_tokens": 9, "longest": 9, "max_length": 9,
    "sources": {}, "files": {}, "left_out": {}, "unused_columns": {}, "sha256": {}, "notes": {}, "model_notes": [],
    "end_tokens": None, "template_sha256": "",
}  # fmt: skip


def transformers_factor(kind: str, step: int, warmup: int, total: int) -> float:
    """As transformers.optimization has it, one function after the other; `step` counts the steps done."""
    if step < warmup:
        return step / max(1, warmup)
    if kind == "constant":
        return 1.0
    if kind == "linear":
        return max(0.0, (total - step) / max(1, total - warmup))
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * 0.5 * 2.0 * (step - warmup) / max(1, total - warmup))))


@given(
    st.sampled_from(["constant", "linear", "cosine"]), st.integers(1, 500), st.floats(0, 0.5), st.data(),
)  # fmt: skip
def test_the_rate_is_that_of_the_backends(kind: str, total: int, ratio: float, data: st.DataObject) -> None:
    training = load("quickstart", [f"training.scheduler={kind}", f"training.warmup_ratio={ratio:.6f}"]).recipe.training
    step = data.draw(st.integers(1, total))
    warmup = math.ceil(total * training.warmup_ratio)
    expected = training.learning_rate * transformers_factor(kind, step - 1, warmup, total)
    assert longer.rate(training, total, step) == pytest.approx(expected, rel=1e-9, abs=1e-15)


@given(st.integers(1, 3_000), st.integers(1, 64), st.integers(1, 5), st.sampled_from([None, 7, 100]))
def test_the_steps_are_those_that_a_loop_over_the_rows_makes(
    rows: int, batch: int, epochs: int, most: int | None
) -> None:
    told = [f"training.global_batch_size={batch}", "training.micro_batch_size=1", f"training.epochs={epochs}"]
    recipe = load(
        "quickstart", [*told, *([f"training.max_steps={most}"] if most else ["training.max_steps=null"])]
    ).recipe
    batches = [range(start, min(start + batch, rows)) for _ in range(epochs) for start in range(0, rows, batch)]
    assert longer.total_steps(recipe, rows) == (most or len(batches))


@pytest.mark.parametrize("given_,expected", [("training.max_steps=8", "8 + 3"), ("training.max_steps=null", "epochs")])
def test_both_ways_to_say_how_long_become_longer(tmp_path: Path, given_: str, expected: str) -> None:
    run = trained(tmp_path)
    run.accounting.write_text(json.dumps(COUNTED))
    recipe = load("quickstart", [given_, "training.global_batch_size=8", "training.epochs=2"]).recipe
    (found,) = longer.overrides(run, recipe, 1)
    assert found == ("training.max_steps=11" if expected == "8 + 3" else "training.epochs=3.0")
    after = load("quickstart", [given_, "training.global_batch_size=8", "training.epochs=2", found]).recipe
    before, now = longer.total_steps(recipe, 22), longer.total_steps(after, 22)
    assert now == before + 3
    shown = " ".join(longer.said(recipe, after, 22, before))
    assert (
        f"{now} steps in place of {before}" in shown and f"{longer.rate(after.training, now, before + 1):.2e}" in shown
    )


def test_without_a_checkpoint_nothing_is_made_longer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained(tmp_path)
    assert main(["rm", "one", "--checkpoints", "--yes", "--runs-dir", str(tmp_path)]) == 0
    capsys.readouterr()
    run.accounting.write_text(json.dumps(COUNTED))
    before = content(run)
    assert main(["resume", "one", "--more-epochs", "1", "--runs-dir", str(tmp_path)]) == 2
    assert "no whole checkpoint to go on from" in capsys.readouterr().err
    run.accounting.unlink()
    assert main(["resume", "one", "--more-epochs", "1", "--runs-dir", str(tmp_path)]) == 2
    assert "no prepared rows" in capsys.readouterr().err
    assert content(run) == {k: v for k, v in before.items() if k != "data/accounting.json"}


def began(tmp_path: Path, *overrides: str, ended: bool) -> Run:
    """A run of a recipe that says 8 steps: at its last one, or stopped there with 20 to go."""
    run = trained(tmp_path, 8 if ended else 20)
    loaded = load("quickstart", [f"training.max_steps={8 if ended else 20}", *overrides])
    (run.path / "recipe.resolved.yaml").write_text(resolved_yaml(loaded))
    run.accounting.write_text(json.dumps(COUNTED))
    run.update(state="interrupted", trained_steps=None, conditions=Conditions(recipe=values(run.recipe()), data={}))
    return run


def goes_on(run: Run, **options: object) -> str:
    """What is wrong with going on; empty where nothing is."""
    how = Options(runs_dir=run.path.parent, say=lambda _: None, accept=True, **options)  # type: ignore[arg-type]
    try:
        check_as_before(run, recipe_asked(run, how), Topology(), how, run.path / "no-python")
    except UserError as error:
        return str(error)
    return ""


@settings(deadline=None, max_examples=30)
@given(st.sets(st.sampled_from(sorted(values(load("quickstart")))), max_size=3), st.booleans())
def test_of_a_trained_run_nothing_is_accepted_that_has_no_effect_any_more(
    tmp_path_factory: pytest.TempPathFactory, changed: set[str], told: bool
) -> None:
    """Whether the runner wrote down that it had ended, or was killed before."""
    run = began(tmp_path_factory.mktemp("run"), ended=True)
    kept = run.read().conditions
    assert kept is not None and goes_on(run) == ""
    recipe = {field: "?" if field in changed else value for field, value in kept.recipe.items()}
    run.update(conditions=replace(kept, recipe=recipe), trained_steps=8 if told else None)
    without = {field for field in changed if effect(field) != "none" and field not in CHOOSING}
    found = goes_on(run)
    assert all(f"  {field}" in found for field in without) and ("trained to its end, step 8" in found) == bool(without)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 24), st.sampled_from([None, 2, 4, 6, 8]), st.booleans())
def test_a_training_never_goes_on_past_its_end(
    tmp_path_factory: pytest.TempPathFactory, total: int, start: int | None, epochs: bool
) -> None:
    """However its length is said: a backend that begins at the last step, or after it, trains one more."""
    length = f"{{epochs: {total}, max_steps: null, global_batch_size: 22, micro_batch_size: 1}}" if epochs else total
    run = began(
        tmp_path_factory.mktemp("run"), "training.global_batch_size=22", "training.micro_batch_size=1", ended=False
    )
    fields = [f"training={length}"] if epochs else [f"training.max_steps={length}"]
    found = goes_on(run, overrides=tuple(fields), from_step=start)
    assert ("nothing is left to train" in found) == (total <= (start or 8)), found


@pytest.mark.parametrize(
    "text", ["training.epochs=9", "training.max_steps=9", "training={max_steps: 9}", "training.max_steps=null"]
)
def test_more_epochs_and_another_length_do_not_go_together(tmp_path: Path, text: str) -> None:
    run = began(tmp_path, ended=True)
    assert "take one of them out" in goes_on(run, overrides=(text,), more_epochs=2)
    assert goes_on(run, overrides=("eval.max_samples=3",), more_epochs=2) == ""
