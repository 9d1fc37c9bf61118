"""Runs of one training with several seeds: which belong together, what they are called, and what the verbs say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from recipes import UserError, load
from runner.cli import main
from runner.runs.rundir import Conditions, Parent, Run
from runner.scoring.seeds import named, seed_name, trained_as, with_seeds
from runner.training.named import seeded, wanted
from tests.eval.test_seeds import of_seeds
from tests.runner.test_compare import leave, scored


def of_training(runs: Path, name: str, shift: float, seeds: list[float], *overrides: str) -> list[Run]:
    """Scored runs as `recipe run --seeds` leaves them, with losses by seed."""
    found = []
    for entry in of_seeds(name, shift, seeds):
        run = scored(runs, entry.name, 0.0, f"training.seed={entry.seed}", *overrides)
        leave(replace(entry, members=()), run.path / "eval")
        found.append(run)
    return found


def test_all_that_is_trained_must_be_equal_but_for_the_seed(tmp_path: Path) -> None:
    def hashed(name: str, *overrides: str) -> str:
        return trained_as(scored(tmp_path, name, 0.0, *overrides))

    one = scored(tmp_path, "one", 0.0)
    own = trained_as(one)
    assert own == hashed("seed", "training.seed=7") == hashed("named", "name=other", "logging=[]")
    assert own != hashed("rank", "tuning.rank=4") and own != hashed("data", "data.seed=3")
    one.update(conditions=Conditions(recipe={}, data={"train.jsonl": "a", "tokenized/x.arrow": "b"}))
    rows = trained_as(one)
    assert rows != own
    one.update(conditions=Conditions(recipe={}, data={"train.jsonl": "a", "tokenized/x.arrow": "c"}))
    assert rows == trained_as(one)
    one.update(conditions=Conditions(recipe={}, data={"train.jsonl": "z", "tokenized/x.arrow": "c"}))
    assert rows != trained_as(one)


def child(runs: Path, name: str, parent: Run, seed: int) -> Run:
    run = scored(runs, name, 0.0, f"training.seed={seed}", f"model.path={parent.path}")
    taken = Parent(run=str(parent.path), id=parent.read().id, step=4, kind="model", path=str(parent.model), hash=name)
    run.update(parent=taken)
    return run


def test_children_of_one_training_with_several_seeds_are_one_training(tmp_path: Path) -> None:
    """A chain with several seeds: each child has a parent of its own, of its seed."""
    first, second = (scored(tmp_path, f"p{seed}", 0.0, f"training.seed={seed}") for seed in (1, 2))
    other = scored(tmp_path, "other", 0.0, "tuning.rank=4")
    a, b, c = child(tmp_path, "a", first, 1), child(tmp_path, "b", second, 2), child(tmp_path, "c", other, 3)
    assert trained_as(a) == trained_as(b) != trained_as(c)
    (second.path / "recipe.resolved.yaml").write_text("{")
    assert trained_as(a) != trained_as(b), "a damaged parent says nothing"
    second.update(id="another run by now")
    assert trained_as(a) != trained_as(b), "what it was trained on is no longer known but by its hash"


def test_siblings_join_a_run(tmp_path: Path) -> None:
    a = of_training(tmp_path, "a", 0, [0, 0.1, 0.2])
    of_training(tmp_path, "b", 0, [0, 0.1], "tuning.rank=4")
    again = scored(tmp_path, "again", 0.0, "training.seed=2")
    a[2].update(state="failed")
    first, *joined = with_seeds(a[:1])
    assert first == a[0] and joined in ([a[1]], [again]), "of two runs of a seed one joins"
    assert [run.name for run in named("b", tmp_path)] == ["b-seed-1", "b-seed-2"]
    assert named("again", tmp_path) == [again]
    with pytest.raises(UserError, match="no such run"):
        named("c", tmp_path)


def test_compare_and_gate_take_them_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of_training(tmp_path, "a", 0, [0, 0.1, -0.1])
    of_training(tmp_path, "b", 0.04, [0.1, -0.1, 0], "tuning.rank=4")
    runs = ["--runs-dir", str(tmp_path)]
    assert main(["compare", "a-seed-1", "b", "--no-base", *runs]) == 0
    said = capsys.readouterr()
    assert "No difference between b (seeds 1, 2, 3) and a (seeds 1, 2, 3) is shown beyond" in said.out
    assert "Training seeds of a (seeds 1, 2, 3)" in said.out and "SD of seeds" in said.out
    assert "with the runs of other training seeds: a-seed-2, a-seed-3 (--alone leaves them out)" in said.err
    assert main(["compare", "a-seed-1", "b-seed-1", "--alone", "--no-base", *runs]) == 0
    said = capsys.readouterr()
    assert "b-seed-1 is better than a-seed-1" in said.out and "seeds" not in said.err
    assert main(["gate", "b-seed-1", "--baseline", "a-seed-1", *runs]) == 3
    assert "CAN'T TELL" in capsys.readouterr().out
    assert main(["gate", "b-seed-1", "--baseline", "a-seed-1", "--alone", *runs]) == 0
    assert main(["gate", "a-seed-1", "--baseline", "a-seed-2", *runs]) == 2
    assert "one training with different seeds" in capsys.readouterr().err
    assert main(["gate", "a", "--baseline", "b", "--alone", *runs]) == 2
    assert "--alone: a is 3 runs; name one: a-seed-1, a-seed-2, a-seed-3" in capsys.readouterr().err


def test_each_recipe_has_a_run_for_each_seed() -> None:
    found = seeded([load("finance_lora"), load("finance_full", ["training.epochs=1"])], [1, 22], None)
    assert [name for _, name in found] == [
        "finance_lora-seed-1", "finance_lora-seed-22", "finance_full-seed-1", "finance_full-seed-22",
    ]  # fmt: skip
    assert [one.recipe.training.seed for one, _ in found] == [1, 22, 1, 22]
    assert {one.recipe.training.epochs for one, _ in found[2:]} == {1}
    assert {one.recipe.data.seed for one, _ in found} == {load("finance_lora").recipe.data.seed}
    with pytest.raises(UserError, match="another recipe here is called finance_lora too"):
        seeded([load("finance_lora"), load("finance_lora")], [1], None)


def test_a_name_is_of_one_recipe(tmp_path: Path) -> None:
    """A run that is there is taken as it is only where it is of the same recipe."""
    scored(tmp_path, seed_name("x", 1), 0.0, "training.seed=1")
    wanted(load("finance_lora", ["training.seed=1", "name=y"]), "x-seed-1", tmp_path)
    with pytest.raises(UserError, match=r"of another recipe:\n.*tuning.rank: 16 there, 4 asked for\n.*--name"):
        wanted(load("finance_lora", ["training.seed=1", "tuning.rank=4"]), "x-seed-1", tmp_path)


@pytest.mark.parametrize("given", ["", "1,,2", "1,1", "1.5", "-1", "1;2"])
def test_seeds_are_whole_numbers_each_once(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "quickstart", f"--seeds={given}"])
    assert f"expected whole numbers, each once, such as 1,2,3; got {given!r}" in capsys.readouterr().err


def test_the_plan_of_each_seed_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "quickstart", "--seeds", "3,4", "--dry-run", "--runs-dir", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "quickstart-seed-3\n" in said and "quickstart-seed-4\n" in said and not list(tmp_path.iterdir())


def test_a_damaged_run_beside_it_is_passed_over(tmp_path: Path) -> None:
    a = of_training(tmp_path, "a", 0, [0, 0.1])
    (a[1].path / "run.json").write_text(json.dumps({"torn": True}))
    assert with_seeds(a[:1]) == a[:1]
    b = of_training(tmp_path, "b", 0, [0, 0.1], "tuning.rank=4")
    (b[1].path / "recipe.resolved.yaml").write_text("{")
    assert with_seeds(b[:1]) == b[:1]
