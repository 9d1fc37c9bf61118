"""Sweeps: what is varied, what is refused before anything trains, what is best, and what a restart does not repeat."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace
from pathlib import Path
from statistics import fmean, pvariance
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.report.results import Results
from recipes import UserError, load
from runner.cli import main
from runner.runs.rundir import Run
from runner.sweeping.record import Objective, Search, Sweep, Trial, main_effects, objective, read
from runner.sweeping.search import PRUNERS, SAMPLERS, Study
from runner.sweeping.sweep import Asked, planned, run_sweep
from runner.sweeping.values import Grid, Range, bounds, combinations, corners, grid, overrides
from runner.training.train import Options
from runner.verbs import sweep as verb
from tests.eval.test_report import _entry
from tests.runner.test_compare import leave, scored

LOWER = Objective(metric="perplexity", formula=False, better="lower")


@pytest.mark.parametrize(
    "text,values",
    [
        ("training.learning_rate=1e-4,2e-4", (1e-4, 2e-4)),
        ("tuning.rank=8", (8,)),
        ("tuning.target_modules=all-linear,[q_proj, v_proj]", ("all-linear", ["q_proj", "v_proj"])),
        ("data.train[0].max_samples=null,100", (None, 100)),
        ("backend_options.seed=1,2", (1, 2)),
        ("model.chat_template_kwargs.x=true,no", (True, "no")),
    ],
)
def test_values_are_read_as_set_reads_them(text: str, values: tuple[Any, ...]) -> None:
    assert grid(text).values == values


@pytest.mark.parametrize(
    "text,message",
    [
        ("training.learning_rat=1", "training.learning_rat is no field of a recipe; did you mean.*learning_rate"),
        ("lr=1", "lr is no field of a recipe; here it is training.learning_rate"),
        ("training.epochs", "write it as field=values, such as training.learning_rate=1e-4,2e-4"),
        ("training.epochs=", "write it as field=values"),
        ("training.epochs=1,2,1", "1 stands there twice"),
        ("tuning.rank=8,8.0", "8 stands there twice"),
        ("name=a,b", "nothing that is trained follows from name"),
        ("training=1", "training is no field"),
    ],
)
def test_a_grid_that_is_none(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        grid(text)


@pytest.mark.parametrize(
    "text,wanted",
    [
        ("training.learning_rate=1e-5..1e-3:log", (1e-5, 1e-3, True, False)),
        ("tuning.rank=4..64", (4, 64, False, True)),
        ("tuning.dropout=0..0.5", (0, 0.5, False, False)),
        ("training.weight_decay=-1..1", (-1, 1, False, True)),
    ],
)
def test_a_range(text: str, wanted: tuple[float, float, bool, bool]) -> None:
    found = bounds(text)
    assert (found.low, found.high, found.log, found.whole) == wanted


@pytest.mark.parametrize(
    "given,message",
    [
        ("1e-5", "write it as tuning.dropout=LOW..HIGH"),
        ("a..b", "write it as"),
        ("1..nan", "write it as"),
        ("1..2:lin", "write it as"),
        ("2..1", "2 is not below 1"),
        ("0..1:log", "a logarithmic range begins above 0"),
    ],
)
def test_a_range_that_is_none(given: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        bounds(f"tuning.dropout={given}")


GRIDS = st.lists(st.integers(1, 3), min_size=1, max_size=3).map(
    lambda counts: [Grid(field=f"f{n}", values=tuple(range(count))) for n, count in enumerate(counts)]
)


@given(GRIDS)
def test_a_full_grid_is_every_combination_once(grids: list[Grid]) -> None:
    found = [tuple(point.values()) for point in combinations(grids)]
    assert found == list(itertools.product(*(one.values for one in grids)))
    few = list(corners(grids, [], 2))
    for one in grids:
        assert {point[one.field] for point in few} == set(one.values)
    assert list(corners(grids, [], 27)) == list(combinations(grids))


@given(st.data(), GRIDS)
def test_importance_of_a_grid_is_the_variance_of_what_is_expected_at_each_value(
    data: st.DataObject, grids: list[Grid]
) -> None:
    """Sobol's first-order index, by its definition: Var(E[score | field]) / Var(score)."""
    points = list(combinations(grids))
    numbers = st.integers(-50, 50).map(float)
    scores = data.draw(st.lists(numbers, min_size=len(points), max_size=len(points)))
    trials = tuple(
        Trial(number=n, values=point, run=f"r-{n}", state="succeeded", score=score)
        for n, (point, score) in enumerate(zip(points, scores, strict=True), 1)
    )
    sweep = Sweep(recipe="r", base={}, objective=LOWER, grids=tuple(grids), ranges=(), search=None, trials=trials)
    found, total = main_effects(sweep), pvariance(scores)
    if not total:
        assert found is None
        return
    assert found is not None and sum(found.values()) <= 1 + 1e-9
    for one in grids:
        expected = [fmean(s for p, s in zip(points, scores, strict=True) if p[one.field] == v) for v in one.values]
        assert found[one.field] == pytest.approx(pvariance(expected) / total)
    if len(points) > 1:
        assert main_effects(replace(sweep, trials=trials[1:])) is None, "half a grid says nothing"


def test_what_a_sweep_goes_by() -> None:
    recipe = load("quickstart").recipe
    assert objective(recipe, None) == Objective(metric="-perplexity", formula=True, better="higher")
    assert objective(recipe, "test_loss").better == "lower"
    for name, metric, message in (
        ("quickstart", "qmsum.rougeL", r"--metric qmsum.rougeL is measured by the suite qmsum, which eval.suites"),
        ("quickstart", "generation.tokens", "nobody knows which way is better"),
        ("finance_dpo", None, "the combined score '-perplexity' is measured by .*name a metric with --metric"),
    ):
        with pytest.raises(UserError, match=message):
            objective(load(name).recipe, metric)
    assert objective(load("finance_dpo").recipe, "preference.accuracy").better == "higher"


def asked(*grids: str, **fields: Any) -> Asked:
    given = {"name": "s", "goal": LOWER, "grids": tuple(map(grid, grids)), "ranges": (), "search": None} | fields
    return Asked(loaded=load("finance_lora"), **given)


def options(runs: Path, said: list[str] | None = None) -> Options:
    return Options(runs_dir=runs, say=(said if said is not None else []).append)


def test_every_refused_combination_is_named_before_anything_trains(tmp_path: Path) -> None:
    one = asked("training.global_batch_size=8,9", "training.micro_batch_size=2,3,4", "training.epochs=1,-1")
    with pytest.raises(UserError) as refused:
        planned(one, options(tmp_path))
    said = str(refused.value)
    good = {(8, 2), (8, 4), (9, 3)}
    for batch, micro in itertools.product((8, 9), (2, 3, 4)):
        named = f"training.global_batch_size={batch}, training.micro_batch_size={micro}, training.epochs=1: "
        assert (named in said) != ((batch, micro) in good)
    assert "training.epochs=-1: " in said and "nothing was trained" in said
    assert not list(tmp_path.iterdir())


def a_grid_of_runs(runs: Path, one: Asked, shifts: list[float]) -> list[Run]:
    """Runs as the trials leave them, with a perplexity that each shift moves."""
    found = []
    for number, (values, shift) in enumerate(zip(combinations(one.grids), shifts, strict=True), 1):
        run = scored(runs, f"{one.name}-{number}", 0.0, *overrides(values))
        leave(_entry("tuned", shift=shift), run.path / "eval")
        found.append(run)
    return found


def test_the_best_is_a_recipe_and_nothing_is_repeated(tmp_path: Path) -> None:
    one, said = asked("tuning.rank=4,8", "training.learning_rate=1e-4,2e-4"), list[str]()
    a_grid_of_runs(tmp_path, one, [-0.1, -0.4, -0.2, -0.3])
    sweep, directory = run_sweep(one, options(tmp_path, said))
    assert sweep.best == 2 and [trial.state for trial in sweep.trials] == ["succeeded"] * 4
    best = load(directory / "best.yaml").recipe
    wanted = load("finance_lora", ["tuning.rank=4", "training.learning_rate=2e-4", "name=s-best"]).recipe
    assert best == wanted
    assert read(directory) == sweep
    assert sweep.importance is not None and set(sweep.importance) == {"tuning.rank", "training.learning_rate"}
    page = (directory / "sweep.html").read_text()
    assert "Trial 2 is best" in page and "Which field mattered" in page
    said.clear()
    assert run_sweep(one, options(tmp_path, said)) == (sweep, directory)
    assert not [text for text in said if "trial" in text]


def test_a_trial_that_was_measured_otherwise_is_not_best(tmp_path: Path) -> None:
    one = asked("tuning.rank=4,8")
    runs = a_grid_of_runs(tmp_path, one, [-0.1, -0.9])
    entry = _entry("tuned", shift=-0.9)
    engine = {**entry.provenance.engine, "dtype": "bfloat16"}
    other = Results(metrics=entry.metrics, provenance=replace(entry.provenance, engine=engine))
    leave(replace(entry, results=other), runs[1].path / "eval")
    sweep, _ = run_sweep(one, options(tmp_path))
    assert sweep.best == 1 and "dtype is 'float32' and 'bfloat16'" in sweep.trials[1].unlike


def test_another_sweep_of_the_same_name_is_refused(tmp_path: Path) -> None:
    one = asked("tuning.rank=4,8")
    a_grid_of_runs(tmp_path, one, [-0.1, -0.2])
    run_sweep(one, options(tmp_path))
    for other, message in (
        (asked("tuning.rank=4"), "the values differ"),
        (asked("tuning.rank=4,8", goal=replace(LOWER, metric="test_loss")), "the metric differs"),
        (replace(one, loaded=load("finance_lora", ["training.epochs=9"])), "the recipe differs"),
    ):
        with pytest.raises(UserError, match=rf"(?s)is another sweep:.*{message}.*another --name"):
            run_sweep(other, options(tmp_path))
    (tmp_path / "sweeps/s/sweep.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        run_sweep(one, options(tmp_path))


HIGHER = Objective(metric="x", formula=False, better="higher")
SPACE = ((Grid(field="kind", values=("a", ["b", "c"])),), (bounds("training.learning_rate=1e-5..1e-1:log"),
         bounds("tuning.rank=4..64")))  # fmt: skip


def search(**fields: Any) -> Search:
    return Search(**({"trials": 12, "sampler": "tpe", "pruner": "median", "seed": 7} | fields))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_study_goes_on_after_any_kill_as_if_it_had_not_ended(sampler: str, tmp_path: Path) -> None:
    def whole(directory: Path, killed: bool) -> list[dict[str, Any]]:
        directory.mkdir()
        found, study = [], Study(directory, search(sampler=sampler), HIGHER, *SPACE)
        for number in range(1, 13):
            values = study.values(number)
            if killed:  # after the values were drawn, and again after the end was told
                study = Study(directory, search(sampler=sampler), HIGHER, *SPACE)
                assert study.values(number) == values and study.open(number)
            study.tell(number, "succeeded", values["tuning.rank"] - abs(values["training.learning_rate"] - 1e-3))
            if killed:
                study = Study(directory, search(sampler=sampler), HIGHER, *SPACE)
            assert not study.open(number)
            found.append(values)
        return found

    one = whole(tmp_path / "one", False)
    assert one == whole(tmp_path / "other", True)
    assert {json.dumps(values["kind"]) for values in one} == {'"a"', '["b", "c"]'}
    assert all(1e-5 <= values["training.learning_rate"] <= 1e-1 for values in one)
    assert all(isinstance(values["tuning.rank"], int) and 4 <= values["tuning.rank"] <= 64 for values in one)


@pytest.mark.parametrize("pruner", PRUNERS)
def test_what_is_worse_than_the_others_were_is_pruned(pruner: str, tmp_path: Path) -> None:
    study = Study(tmp_path, search(pruner=pruner), HIGHER, *SPACE)
    for number in range(1, 7):
        study.values(number)
        assert not study.prunes(number)([(10, 0.5), (20, 0.6)]) or pruner == "halving"
        study.tell(number, "succeeded", 0.7)
    study.values(7)
    bad = study.prunes(7)
    assert bad([(10, 0.1)]) == (pruner != "none")
    assert Study(tmp_path, search(pruner=pruner), HIGHER, *SPACE).prunes(7)([(10, 0.1)]) == (pruner != "none")
    if pruner != "halving":
        study.tell(7, "pruned", None)
        study.values(8)
        assert not study.prunes(8)([(10, 0.9)])


def test_importance_of_a_search_finds_the_field_that_matters(tmp_path: Path) -> None:
    study, chance = Study(tmp_path, search(sampler="random"), HIGHER, *SPACE), random.Random(1)
    for number in range(1, 41):
        values = study.values(number)
        assert number > 5 or study.importance() is None, "too few"
        study.tell(number, "succeeded", -abs(values["tuning.rank"] - 30) + chance.gauss(0, 0.1))
    found = study.importance()
    assert found is not None and max(found, key=lambda field: found[field]) == "tuning.rank"


def test_the_names_that_stand_twice_are_equal() -> None:
    assert verb.SAMPLERS == SAMPLERS and verb.PRUNERS == PRUNERS


@pytest.mark.parametrize(
    "arguments,message",
    [
        ([], "nothing is varied: give --grid FIELD=V1,V2"),
        (["--range", "tuning.rank=4..8"], "--range needs --trials N"),
        (["--grid", "tuning.rank=4,8", "--grid", "tuning.rank=16"], "tuning.rank is varied twice"),
        (["--grid", "tuning.rank=4,8", "--set", "tuning.rank=16"], "--set tuning.rank=16: the field is varied"),
        (["--grid", "tuning.rank=4,8", "--metric", "bleu"], "--metric bleu: no suite measures that"),
        (["--grid", "tuning.rank=4,-8"], "tuning.rank=-8: --set tuning.rank=-8: tuning.rank: -8 is not allowed"),
        (["--trials", "3", "--range", "tuning.dropout=0..2"], "tuning.dropout=2: --set tuning.dropout=2: "),
    ],
)
def test_mistakes_of_the_command(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "quickstart", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_dry_run_says_what_would_be_tried(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command = ["sweep", "quickstart", "--dry-run", "--runs-dir", str(tmp_path), "--grid", "tuning.rank=4,8"]
    assert main(command) == 0
    assert capsys.readouterr().out == "quickstart-sweep-1: tuning.rank=4\nquickstart-sweep-2: tuning.rank=8\n"
    assert main([*command, "--trials", "3", "--range", "training.learning_rate=1e-5..1e-3:log"]) == 0
    said = capsys.readouterr()
    assert "3 trials (tpe, none pruner)\ntuning.rank: one of [4, 8]\ntraining.learning_rate: 1e-05 to 0.001" in said.out
    assert "nothing is pruned" in said.err and not list(tmp_path.iterdir())


def test_a_whole_range_is_of_whole_numbers() -> None:
    assert Range(field="x", low=1, high=2, log=False).whole and not Range(field="x", low=1, high=2.0, log=False).whole
