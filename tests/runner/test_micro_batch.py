"""`training.micro_batch_size: auto`: the largest power of two that fits, by estimate and by trial, and what is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters import BACKENDS, backend
from adapters.contract import Topology
from adapters.native import gradient_accumulation
from adapters.refusals import unsupported
from recipes import LoadedRecipe, UserError, load
from recipes.typed import write_typed
from runner.data.spec import Accounting
from runner.failure import Failure
from runner.fit.estimate import estimate
from runner.fit.gpus import Gpu
from runner.runs import rundir
from runner.runs.rundir import Run
from runner.training import trial
from runner.training.micro_batch import MARGIN, settled
from runner.training.planning import make_plan
from tests.adapters.test_plans import trainings

ONE = Topology(gpus=1, processes=1, devices=("0",))
FOUR = Topology(gpus=4, processes=4, devices=tuple("0123"))
AUTO = "training.micro_batch_size=auto"
MODEL = "model.path=Qwen/Qwen3-0.6B"


def loaded(*overrides: str) -> LoadedRecipe:
    return load("qwen3_4b_financial", [MODEL, AUTO, *overrides])


def fits(size: int, overrides: list[str], machines: Topology, card: Gpu) -> bool:
    """Whether the same recipe with a number is accepted, and fits."""
    one = loaded(*overrides, f"training.micro_batch_size={size}")
    if backend(one.recipe.backend).problems(one, machines):
        return False
    found = estimate(one.recipe, machines, Path())
    assert not isinstance(found, str)
    return found.needed(card) * MARGIN <= card.memory


@given(
    gigabytes=st.integers(1, 90),
    batch=st.sampled_from([4, 12, 16, 24, 64]),
    length=st.sampled_from([512, 4096]),
    name=st.sampled_from(["llamafactory", "verl"]),
    tuning=st.sampled_from(["lora", "full"]),
    machines=st.sampled_from([ONE, FOUR]),
)
def test_it_is_the_largest_that_fits_and_that_the_batch_divides_by(
    gigabytes: int, batch: int, length: int, name: str, tuning: str, machines: Topology
) -> None:
    card = Gpu(name="one", memory=gigabytes * 10**9)
    given_ = [f"backend={name}", f"training.global_batch_size={batch}", f"data.max_length={length}"]
    given_ += [f"tuning={{type: {tuning}}}"]
    one = settled(loaded(*given_), machines, card)
    training = one.recipe.training
    possible = [size for size in (1, 2, 4, 8, 16, 32, 64) if size <= batch and fits(size, given_, machines, card)]
    assert training.micro_batch_size == max(possible, default=1)
    assert training.global_batch_size == batch
    at_once = training.micro_batch_size * machines.gpus
    rows = at_once * gradient_accumulation(one.recipe, machines)
    assert rows == batch if name == "llamafactory" else at_once <= batch <= rows  # verl's are by tokens
    assert ("no size fits" in one.chosen[0]) == (not possible)


def test_a_number_stays_as_it_is() -> None:
    one = loaded("training.micro_batch_size=2")
    assert settled(one, ONE) is one


SMI = """#!/bin/sh
echo "0, GPU-aa, NVIDIA H100 80GB HBM3, 81559"
echo "1, GPU-bb, NVIDIA L4, 23034"
"""


def test_the_smallest_gpu_of_the_run_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvidia-smi").write_text(SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    two = Topology(gpus=2, processes=2, devices=("0", "1"))
    given_ = ("training.global_batch_size=64", "data.max_length=4096")
    large, small = settled(loaded(*given_), ONE), settled(loaded(*given_), two)
    assert "of the 85.5 GB of NVIDIA H100 80GB HBM3 by the estimate" in large.chosen[0]
    assert "of the 24.2 GB of NVIDIA L4 by the estimate, 10 % more in it; " in small.chosen[0]
    assert large.recipe.training.micro_batch_size > small.recipe.training.micro_batch_size


@pytest.mark.parametrize(
    "overrides,machines,reason",
    [
        ((), Topology(), "on a CPU"),
        ((), Topology(gpus=1, processes=1), "the memory of these GPUs is not known here"),
        (("model.path=a/b",), ONE, "no estimate: a/b is neither"),
        (("backend=verl", "distributed.max_tokens_per_device=40960"), ONE, "max_tokens_per_device takes its place"),
        (("data.packing=true", "model.attention=flash_attention_2"), ONE, "by the estimate"),
    ],
)
def test_it_is_one_where_nothing_else_is_known_to_fit(
    overrides: tuple[str, ...], machines: Topology, reason: str
) -> None:
    card = None if machines != ONE else Gpu(name="one", memory=80 * 10**9)
    one = settled(loaded(*overrides), machines, card)
    assert one.recipe.training.micro_batch_size == 1 and reason in one.chosen[0]


def test_several_nodes_need_a_number() -> None:
    with pytest.raises(UserError, match="micro_batch_size: auto is for one node"):
        settled(loaded(), Topology(gpus=1, processes=1, nodes=2))


def test_the_plan_and_the_run_say_what_was_chosen(tmp_path: Path) -> None:
    """And what is resumed has the number."""
    one = settled(loaded(), ONE, Gpu(name="one", memory=80 * 10**9))
    plan = make_plan(one, ONE, tmp_path / "r", python=Path("/python"))
    assert plan.notes[0] == one.chosen[0] and plan.notes[0].startswith("training.micro_batch_size: auto is 16: ")
    run = rundir.create(one, tmp_path, "r", ONE)
    assert json.loads((run.path / "run.json").read_text())["chosen"] == list(one.chosen)
    assert run.recipe().recipe.training.micro_batch_size == 16 and run.recipe().chosen == ()


@given(
    memory=st.integers(0, 300),
    first=st.integers(0, 6),
    possible=st.integers(1, 7),
)
def test_a_trial_finds_the_largest_that_fits_and_tries_none_twice(memory: int, first: int, possible: int) -> None:
    sizes = [2**n for n in range(possible)]
    asked: list[int] = []

    def fits(size: int) -> bool:
        asked.append(size)
        return size <= memory

    found = trial.largest(sizes, min(first, possible - 1), fits)
    assert found == max((size for size in sizes if size <= memory), default=0)
    assert len(asked) == len(set(asked)) and asked[0] == sizes[min(first, possible - 1)]


CARD = Gpu(name="one", memory=24 * 10**9)
LONGEST = 200  # tokens, where 2,048 are allowed


def a_run(tmp_path: Path, *overrides: str) -> tuple[Run, LoadedRecipe]:
    """A run whose rows are prepared, of a recipe that is settled for one card."""
    one = settled(loaded("data.max_length=2048", "training.global_batch_size=64", *overrides), ONE, CARD)
    run = rundir.create(one, tmp_path, "r", ONE)
    rows = dict.fromkeys(("rows_in", "trained", "tokens", "supervised_tokens"), 1)
    write_typed(run.accounting, Accounting(**ROWS | rows | {"longest": LONGEST}))
    return run, one


ROWS = dict.fromkeys(
    ("truncated_of_trained", "validation", "truncated_of_validation", "longest_dropped", "max_length"), 0
) | {"dropped": {}, "sources": {}, "files": {}, "left_out": {}, "unused_columns": {}, "sha256": {}, "notes": {},
     "model_notes": (), "end_tokens": None, "template_sha256": ""}  # fmt: skip


@pytest.mark.parametrize("limit", [0, 1, 8, 64])
def test_a_run_takes_what_its_trial_has_found_and_a_resume_has_it(
    limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The estimate's number is where it begins; what the rows need is what counts."""
    run, one = a_run(tmp_path)
    tried: list[int] = []

    def peak(_trial: object, size: int) -> float | None:
        tried.append(size)
        return size / limit * 20 if size <= limit else None

    monkeypatch.setattr(trial, "smallest", lambda _machines: CARD)
    monkeypatch.setattr(trial.Trial, "peak_gb", peak)
    said: list[str] = []
    if not limit:
        with pytest.raises(Failure, match="the longest row alone does not fit"):
            trial.tried(run, one, ONE, Path("/python"), said.append)
        return
    found = trial.tried(run, one, ONE, Path("/python"), said.append)
    assert found.recipe.training.micro_batch_size == limit == run.recipe().recipe.training.micro_batch_size
    assert run.read().chosen == (f"{trial.FIELD}: auto is {limit}: the largest that a trial of the longest rows has "
                                 "found to fit",)  # fmt: skip
    assert found.recipe.training.global_batch_size == 64 and found.recipe.data.max_length == 2048
    assert tried[0] > one.recipe.training.micro_batch_size  # rows are shorter than they might be
    assert f"up to {LONGEST} tokens" in said[0]
    begun = rundir.Attempt(number=1, started="", argv=(), env={}, metrics="", resume_from=None)
    run.update(attempts=(begun,))
    tried.clear()
    assert trial.tried(run, run.recipe(), ONE, Path("/python"), said.append).recipe == found.recipe and not tried


def test_what_leaves_no_room_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, one = a_run(tmp_path)
    monkeypatch.setattr(trial, "smallest", lambda _machines: CARD)
    monkeypatch.setattr(trial.Trial, "peak_gb", lambda _trial, size: 23.5 if size > 2 else 12.0)
    assert trial.tried(run, one, ONE, Path("/python"), print).recipe.training.micro_batch_size == 2


def test_a_number_that_a_resume_has_set_is_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial.Trial, "peak_gb", None)
    run, one = a_run(tmp_path)
    other = trial.with_size(one, 3 * one.recipe.training.micro_batch_size)
    assert trial.tried(run, other, ONE, Path("/python"), print) is other


@pytest.mark.parametrize("overrides", [(), ("training.micro_batch_size=2",)])
def test_without_a_gpu_or_with_a_number_nothing_is_tried(
    overrides: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial.Trial, "peak_gb", None)
    run, one = a_run(tmp_path, *overrides)
    assert trial.tried(run, one, ONE if overrides else Topology(), Path("/python"), print) is one


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("recipe", trainings())
def test_every_recipe_can_be_tried(recipe: str, name: str) -> None:
    one = load(recipe, [f"backend={name}", "training.global_batch_size=8", "training.micro_batch_size=2"])
    if unsupported(one) or backend(name).problems(one, ONE):
        return
    for size in (1, 8):
        found = trial.shortened(one, size, size)
        assert not unsupported(found) and not backend(name).problems(found, ONE)
        training = found.recipe.training
        assert training.max_steps == trial.STEPS and training.micro_batch_size == training.global_batch_size == size
        assert not (training.warmup_steps or (training.warmup_ratio and training.warmup_steps is None))


@pytest.mark.parametrize("warmup", ["", "warmup_steps: 5", "warmup_ratio: 0.5"])
def test_a_trial_has_no_warmup(warmup: str, tmp_path: Path) -> None:
    text = "name: a\nbackend: verl\nmodel: {path: a/b}\nmethod: sft\ndata: {train: [{path: a/b}]}\n"
    text += f"training: {{{warmup}}}\n"
    (tmp_path / "a.yaml").write_text(text)
    training = trial.shortened(load(str(tmp_path / "a.yaml")), 1, 1).recipe.training
    assert not (training.warmup_ratio if training.warmup_steps is None else training.warmup_steps)
