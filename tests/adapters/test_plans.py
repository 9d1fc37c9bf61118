"""Plans: golden for every recipe and backend, and a ledger that leaves no leaf of the schema out.

Rewrite the golden files with: pytest tests/adapters/test_plans.py --golden
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters import BACKENDS, backend
from adapters.contract import PreparedData, Topology
from adapters.native import batch_problem, gradient_accumulation
from recipes import LoadedRecipe, UserError, catalogue, load, load_text, schema
from runner.runs.show import plan_json
from tests.adapters.fixed import fixed_paths

BASE = "backend: verl\nmethod: sft\nmodel: {path: a/b}\ndata: {train: [{path: a/b}]}\n"
GOLDEN = Path(__file__).parent.parent / "golden"
MACHINES = {"cpu": Topology(), "8gpu": Topology(gpus=8, processes=8, devices=tuple("01234567"))}
CASES = list(itertools.product(catalogue(), BACKENDS, MACHINES))


@pytest.mark.parametrize("name,backend_name,machine", CASES)
def test_the_plan_is_the_golden_one(name: str, backend_name: str, machine: str, request: pytest.FixtureRequest) -> None:
    file = GOLDEN / f"{name}-{backend_name}-{machine}.json"
    text = planned(name, backend_name, MACHINES[machine])
    if request.config.getoption("--golden"):
        file.write_text(text, encoding="utf-8")
    assert file.read_text(encoding="utf-8") == text


def planned(name: str, backend_name: str, topology: Topology) -> str:
    """The plan as JSON without what depends on where the recipes lie, or the refusals."""
    try:
        loaded = load(name, [f"backend={backend_name}"])
        found = backend(backend_name).problems(loaded, topology)
        if found:
            raise UserError(*found)
    except UserError as error:
        refusals = [f"{p.field}: {p.text}" for p in error.problems]
        return json.dumps({"refused": refusals}, ensure_ascii=False, indent=1) + "\n"
    plan = backend(backend_name).plan(loaded.recipe, topology, PreparedData(), fixed_paths(loaded))
    value = json.loads(plan_json(plan, loaded.recipe, topology))
    del value["data"]
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"


def admitted() -> Iterator[LoadedRecipe]:
    """A recipe for every combination of backend, method, tuning and strategy that the schema admits."""
    leaves = schema.leaves()
    names = ("backend", "method", "tuning.type", "distributed.strategy")
    for values in itertools.product(*(leaves[name]["enum"] for name in names)):
        overrides = [f"{name}={value}" for name, value in zip(names, values, strict=True)]
        overrides += ["grpo={rewards: [{type: exact}]}"] if "grpo" in values else []
        with contextlib.suppress(UserError):
            yield load_text(BASE.encode(), Path("r.yaml"), overrides)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("loaded", list(admitted()), ids=lambda loaded: "-".join(loaded.overrides[:4]))
def test_every_leaf_is_mapped_run_or_refused(loaded: LoadedRecipe, machine: str) -> None:
    """The walk: the ledger names every leaf of the schema once, with a native key or a sentence."""
    recipe = loaded.recipe
    entries = [e for e in backend(recipe.backend).ledger(recipe, MACHINES[machine]) if e.field]
    assert sorted(e.field for e in entries) == sorted(schema.leaves())
    for entry in entries:
        assert entry.native if entry.status == "mapped" else len(entry.note) > 5, entry


@pytest.mark.parametrize("backend_name", BACKENDS)
def test_a_refused_field_is_refused_when_it_is_given(backend_name: str) -> None:
    """Each refused leaf, set to another value than its default, gives a problem at its place."""
    base = f"backend: {backend_name}\nmethod: sft\nmodel: {{path: a/b}}\ndata: {{train: [{{path: a/b}}]}}\n"
    other = {"boolean": "true", "integer": "2", "number": "0.25"}
    recipe = load_text(base.encode(), Path("r.yaml")).recipe
    tried = 0
    for entry in backend(backend_name).ledger(recipe, Topology()):
        leaf = schema.leaves().get(entry.field, {})
        kinds = leaf.get("type")
        value = other.get(kinds if isinstance(kinds, str) else (kinds or [""])[0])
        if entry.status != "refused" or not value or "[]" in entry.field:
            continue
        try:
            loaded = load_text(base.encode(), Path("r.yaml"), [f"{entry.field}={value}"])
        except UserError:
            continue  # the schema is first
        tried += 1
        fields = [p.field for p in backend(backend_name).problems(loaded, Topology())]
        assert entry.field in fields
    assert tried


@pytest.mark.parametrize(
    "batch,micro,world,problem",
    [
        (16, 2, 1, None),
        (16, 2, 8, None),
        (16, 3, 1, "nearest: 15 or 18"),
        (4, 1, 8, "nearest: 8"),
        (10, 2, 2, "8 or 12"),
    ],
)
def test_a_batch_that_does_not_divide_proposes_the_nearest(
    batch: int, micro: int, world: int, problem: str | None
) -> None:
    recipe = load("quickstart", [f"training.global_batch_size={batch}", f"training.micro_batch_size={micro}"]).recipe
    topology = Topology(processes=world)
    found = batch_problem(recipe, topology)
    if problem:
        assert found and problem in found
    else:
        assert found is None
        assert gradient_accumulation(recipe, topology) * micro * world == batch


def test_a_plan_reads_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The paths of a golden plan do not exist, and planning does not make them."""
    monkeypatch.chdir(tmp_path)
    planned("quickstart", "llamafactory", Topology())
    assert not Path("/runs").exists() and not list(tmp_path.glob("*.yaml"))
