"""Plans: golden for every recipe and backend, and a ledger that leaves no leaf of the schema out.

Rewrite the golden files with: pytest tests/adapters/test_plans.py --golden
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters import BACKENDS, backend
from adapters.contract import PreparedData, Topology
from adapters.native import batch_problem, gradient_accumulation
from adapters.refusals import unsupported
from recipes import LoadedRecipe, UserError, load, load_text, schema, trainings
from recipes.methods import METHODS
from runner.runs.show import plan_json
from runner.training.planning import make_plan
from tests.adapters.fixed import fixed_paths

BASE = "backend: verl\nmethod: sft\nmodel: {path: a/b}\ndata: {train: [{path: a/b}]}\n"
GOLDEN = Path(__file__).parent.parent / "golden"
MACHINES = {"cpu": Topology(), "8gpu": Topology(gpus=8, processes=8, devices=tuple("01234567"))}
# Batches that eight GPUs can share.
OVERRIDES = {"cpu": [], "8gpu": ["training.global_batch_size=64"]}
KEPT = ("argv", "env", "unset", "before", "files", "export", "metrics", "notes")


def planned(name: str, backend_name: str, machine: str) -> str | None:
    """The plan as JSON without what depends on where the recipes lie; None where the backend refuses the recipe."""
    loaded = load(name, [f"backend={backend_name}", *OVERRIDES[machine]])
    topology, module = MACHINES[machine], backend(backend_name)
    if unsupported(loaded) or module.problems(loaded, topology):
        return None
    plan = module.plan(loaded.recipe, topology, PreparedData(), fixed_paths(loaded))
    value = json.loads(plan_json(plan, loaded.recipe, topology))
    return json.dumps({key: value[key] for key in KEPT}, ensure_ascii=False, indent=1) + "\n"


CASES = [case for case in itertools.product(trainings(), BACKENDS, MACHINES) if planned(*case)]


def golden(name: str, backend_name: str, machine: str) -> str:
    """The file of a plan; a stage's name has a colon, which not every file system takes."""
    return f"{name.replace(':', '.')}-{backend_name}-{machine}.json"


@pytest.mark.parametrize("name,backend_name,machine", CASES)
def test_the_plan_is_the_golden_one(name: str, backend_name: str, machine: str, request: pytest.FixtureRequest) -> None:
    file = GOLDEN / golden(name, backend_name, machine)
    text = planned(name, backend_name, machine) or ""
    if request.config.getoption("--golden"):
        file.write_text(text, encoding="utf-8")
    assert file.read_text(encoding="utf-8") == text


def test_every_recipe_of_the_catalogue_has_its_plans_and_no_others() -> None:
    names = {golden(*case) for case in CASES}
    assert {path.name for path in GOLDEN.iterdir()} == names
    own = {(name, load(name).recipe.backend) for name in trainings()}
    assert own <= {(name, backend_name) for name, backend_name, _ in CASES}


@pytest.mark.parametrize(
    "overrides,message",
    [
        (["backend=verl", "method=dpo"], "dpo does not run on verl; allowed there: pretrain, sft, grpo; dpo runs on"),
        (["tuning.quantization=4bit", "backend=verl"], "4bit runs on backend: llamafactory"),
        (
            ["backend=llamafactory", "distributed.strategy=megatron"],
            "allowed there: auto, ddp, deepspeed-zero2, deepspeed-zero3, fsdp, fsdp2",
        ),
        (["backend=llamafactory", "distributed.strategy=megatron"], "megatron runs on backend: verl"),
        (["backend=llamafactory", "method=grpo", "grpo={rewards: [{type: exact}]}"], "grpo runs on backend: verl"),
    ],
)
def test_what_a_backend_has_not_at_all_names_the_one_that_has(overrides: list[str], message: str) -> None:
    (problem,) = unsupported(load_text(BASE.encode(), Path("r.yaml"), overrides))
    assert message in problem.text


@pytest.mark.parametrize(
    "overrides,field,other",
    [
        (["backend=llamafactory", "distributed.remove_padding=true"], "distributed.remove_padding", "verl"),
        (["backend=verl", "training.scheduler=linear"], "training.scheduler", "llamafactory"),
    ],
)
def test_a_refused_field_names_the_backend_that_honours_it(overrides: list[str], field: str, other: str) -> None:
    loaded = load_text(BASE.encode(), Path("r.yaml"), overrides)
    found = backend(loaded.recipe.backend).problems(loaded, Topology())
    (problem,) = (p for p in found if p.field == field)
    assert other in problem.text.partition("; this runs on backend: ")[2].split(" or ")


def admitted() -> Iterator[LoadedRecipe]:
    """A recipe for every combination of backend, method, tuning and strategy that the backend says it has."""
    leaves = schema.leaves()
    names = ("backend", "method", "tuning.type", "distributed.strategy")
    for values in itertools.product(*(leaves[name]["enum"] for name in names)):
        overrides = [f"{name}={value}" for name, value in zip(names, values, strict=True)]
        overrides += ["grpo={rewards: [{type: exact}]}"] if METHODS[str(values[1])].rewards else []
        loaded = load_text(BASE.encode(), Path("r.yaml"), overrides)
        if not unsupported(loaded):
            yield loaded


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
        value = "false" if leaf.get("default") is True else value
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
    assert planned("quickstart", "llamafactory", "cpu")
    assert not Path("/runs").exists() and not list(tmp_path.glob("*.yaml"))


@pytest.mark.parametrize("logger", ["tensorboard", "wandb", "swanlab", "mlflow"])
@pytest.mark.parametrize("name", BACKENDS)
def test_a_logger_that_a_lock_lacks_is_refused(name: str, logger: str) -> None:
    """Without it the training would end at its start, hours after it was queued."""
    loaded = load("quickstart", [f"backend={name}", f"logging={logger}"])
    there = all(f"\n{logger}==" in f"\n{lock.read_text()}" for lock in backend(name).LOCKS.values())
    problems = [str(problem) for problem in unsupported(loaded)]
    assert (problems == []) == there
    assert there or f"the environment of {name} has no {logger}; allowed there: tensorboard" in problems[0]


def test_native_keys_stand_in_the_ledger(tmp_path: Path) -> None:
    loaded = load("quickstart", ["backend=verl", "backend_options={optim: {clip_grad: 0.5}}"])
    (found,) = (entry for entry in make_plan(loaded, Topology(), tmp_path).ledger if entry.status == "native")
    assert (found.field, found.keys, found.value) == ("backend_options.optim.clip_grad", ("optim.clip_grad",), 0.5)


def test_a_tokenizer_apart_is_loaded_from_where_the_preparation_leaves_it() -> None:
    text = (BASE + "eval: {suites: []}\n").replace("path: a/b}", "path: a/b, tokenizer: a/c}", 1)
    for name in BACKENDS:
        loaded = load_text(text.encode(), Path("r.yaml"), [f"backend={name}"])
        plan = backend(name).plan(loaded.recipe, Topology(), PreparedData(), fixed_paths(loaded))
        told = " ".join(plan.argv) + "".join(plan.files.values())
        assert told.count("/runs/r/data/tokenizer") == 1, name
        plain = load_text(BASE.encode(), Path("r.yaml"), [f"backend={name}"])
        plan = backend(name).plan(plain.recipe, Topology(), PreparedData(), fixed_paths(plain))
        assert "data/tokenizer" not in " ".join(plan.argv) + "".join(plan.files.values())
