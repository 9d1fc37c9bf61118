"""`--from RUN[:STEP]`: what is taken of another run, what its recipe then says, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from adapters import backend
from adapters.contract import Checkpoint, Paths, PreparedData, Topology
from recipes import UserError, load
from recipes.typed import read_typed
from runner.cli import main
from runner.runs import rundir
from runner.runs.rundir import Manifest, Run
from runner.runs.trust import remember
from runner.scoring.about import about, about_text
from runner.training import attempt, parent
from runner.training.conditions import differences
from runner.training.copying import copy_recipe
from runner.training.parent import child_of
from runner.training.train import Options
from tests.runner.test_longer import COUNTED

CONFIG = {
    "peft_type": "LORA", "r": 8, "lora_alpha": 24, "lora_dropout": 0.1, "use_rslora": True, "use_dora": False,
    "target_modules": ["q_proj", "v_proj"], "base_model_name_or_path": "a/b", "modules_to_save": None,
}  # fmt: skip
LORA = "tuning={type: lora, rank: 8, alpha: 24, dropout: 0.1, rslora: true, target_modules: [q_proj, v_proj]}"


def trained(runs: Path, name: str, *overrides: str, config: dict[str, Any] | None = None, own: bool = True) -> Run:
    """A run that has succeeded, with an adapter of this config as its model, or with all weights."""
    run = rundir.create(load("quickstart", overrides), runs, name)
    run.model.mkdir()
    if config:
        (run.model / "adapter_config.json").write_text(json.dumps(config))
        (run.model / "adapter_model.safetensors").write_text("adapter")
    else:
        (run.model / "config.json").write_text("{}")
        (run.model / "model.safetensors").write_text("weights")
    (run.model / "chat_template.jinja").write_text("{{ messages }}")
    run.update(state="succeeded", model_step=4)
    if own:
        remember(run)
    return run


def options(runs: Path, said: list[str] | None = None) -> Options:
    return Options(runs_dir=runs, say=(said if said is not None else []).append)


def test_an_adapter_is_trained_further_on_its_own_base(tmp_path: Path) -> None:
    """The recipe need not name what the adapter says; what it names and is the same stays."""
    run, said = trained(tmp_path, "one", LORA, "model.revision=v1", "model.path=a/b", config=CONFIG), list[str]()
    how = ["tuning={type: lora, rank: 8}", "method=dpo", "data.train=[{path: x/y}]", "eval.suites=[]"]
    loaded, parent = child_of("quickstart", how, "one", options(tmp_path, said), make=False)
    model, tuning = loaded.recipe.model, loaded.recipe.tuning
    assert (model.path, model.revision, model.adapter_path) == ("a/b", "v1", str(run.model))
    assert (tuning.rank, tuning.alpha, tuning.dropout, tuning.rslora) == (8, 24, 0.1, True)
    assert tuning.target_modules == ("q_proj", "v_proj")
    assert (parent.run, parent.step, parent.kind, parent.path) == (str(run.path), 4, "adapter", str(run.model))
    child = rundir.create(loaded, tmp_path, "two", parent=parent)
    assert read_typed(Manifest, child.path / "run.json").parent == parent
    assert child.recipe().recipe.model == model  # as a resume reads it
    assert "weights: adapter of one at step 4" in said[-1]
    assert f"adapter of {run.path} at step 4" in about_text(about(child))


def test_a_recipe_s_own_model_need_not_be_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is not what is trained; without a parent it is a mistake."""
    trained(tmp_path, "one", LORA, "model.path=a/b", config=CONFIG)
    words = ["run", "quickstart", "--set", f"model.path={tmp_path / 'gone'}", "--set", LORA, "--dry-run"]
    words += ["--runs-dir", str(tmp_path)]
    assert main([*words, "--from", "one"]) == 0 and "a/b" in capsys.readouterr().out
    assert main(words) == 2 and "no such directory" in capsys.readouterr().err
    # Nor where the child goes on, by the same command or by that of a launch.
    loaded, parent = child_of(words[1], words[3:6:2], "one", options(tmp_path), make=False)
    rundir.create(loaded, tmp_path, "two", parent=parent).update(state="succeeded")
    again = [*words[:-3], "--runs-dir", str(tmp_path), "--name", "two", "--resume"]
    assert main([*again, "--no-eval"]) == 0 and capsys.readouterr().out == f"{tmp_path / 'two'}\n"
    assert main(["launch", *again[1:], "--on", "slurm", "--gpus", "0", "--from", "one", "--dry-run"]) == 0


def test_all_weights_are_the_base_of_what_follows(tmp_path: Path) -> None:
    run = trained(tmp_path, "one", "tuning={type: full}", "model.chat_template=chatml")
    for tuning in ("{type: full}", "{type: lora, rank: 4}"):
        loaded, parent = child_of("quickstart", [f"tuning={tuning}"], str(run.path), options(tmp_path), make=False)
        model = loaded.recipe.model
        assert (model.path, model.adapter_path, model.chat_template) == (str(run.model), None, None)
        assert parent.kind == "model"


def test_template_and_tokenizer_of_the_parent_are_kept_and_others_named(tmp_path: Path) -> None:
    """From the files beside its weights: those of its recipe may be gone."""
    run, said = (
        trained(tmp_path, "one", LORA, "model.chat_template=chatml", "model.tokenizer=c/d", config=CONFIG),
        list[str](),
    )
    loaded, _ = child_of("quickstart", ["model.chat_template=zephyr", LORA], "one", options(tmp_path, said), make=False)
    assert loaded.recipe.model.chat_template == str(run.model / "chat_template.jinja")
    assert loaded.recipe.model.tokenizer == str(run.model)
    assert any("model.chat_template" in text and "zephyr" in text and "not taken" in text for text in said)


@pytest.mark.parametrize(
    "overrides,expected",
    [
        (["tuning.rank=16"], "tuning.rank: 16 here, and 8 in model.adapter_path"),
        (["tuning={type: lora, dropout: 0.5}"], "tuning.dropout: 0.5 here, and 0.1 in"),
        (["tuning={type: lora, target_modules: [k_proj]}"], 'tuning.target_modules: ["k_proj"] here, and'),
        (["tuning={type: full}"], "is not merged into its base yet"),
    ],
)
def test_what_the_adapter_is_not_is_refused(tmp_path: Path, overrides: list[str], expected: str) -> None:
    trained(tmp_path, "one", LORA, config=CONFIG)
    with pytest.raises(UserError) as caught:
        child_of("quickstart", overrides, "one", options(tmp_path), make=False)
    assert expected in str(caught.value)


def test_a_merged_adapter_that_is_there_is_taken(tmp_path: Path) -> None:
    run = trained(tmp_path, "one", LORA, config=CONFIG)
    (run.path / "merged").mkdir()
    (run.path / "merged/merge.json").write_text(json.dumps({"adapter": str(run.model)}))
    for how in (["tuning={type: full}"], ["tuning={type: lora, rank: 64}"]):
        loaded, parent = child_of("quickstart", how, "one", options(tmp_path), merged=True, make=False)
        assert loaded.recipe.model.path == str(run.path / "merged") and parent.kind == "merged"
        assert loaded.recipe.model.adapter_path is None
    (run.path / "merged/merge.json").write_text(json.dumps({"adapter": "/another"}))
    with pytest.raises(UserError, match="is not merged into its base yet"):
        child_of("quickstart", ["tuning={type: full}"], "one", options(tmp_path), make=False)


def test_a_parent_that_cannot_be_taken_is_told_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained(tmp_path, "one", LORA, config=CONFIG)

    def told(*arguments: str) -> str:
        assert main(["plan", "quickstart", "--runs-dir", str(tmp_path), *arguments]) == 2
        return capsys.readouterr().err

    assert "did you mean 'one'" in told("--from", "onee")
    assert "no whole checkpoint of step 7; it has none at all" in told("--from", "one:7")
    assert "--merged: goes with --from" in told("--merged")
    run.update(state="failed")
    assert "one has state failed: name a step, one:STEP" in told("--from", "one")
    run.update(state="succeeded")
    shutil.rmtree(run.model)
    assert "holds no weights" in told("--from", "one")
    assert main(["run", "quickstart", "quickstart", "--from", "one", "--runs-dir", str(tmp_path)]) == 2
    assert "--from: works with one recipe only" in capsys.readouterr().err


def test_accepting_is_for_what_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "quickstart", "--accept", "--runs-dir", str(tmp_path)]) == 2
    assert "--accept: goes with --resume, stages or --seeds" in capsys.readouterr().err
    for words in (["run"], ["sweep"], ["launch"], ["resume"]):
        with pytest.raises(SystemExit) as end:
            main([*words, "--help"])
        assert end.value.code == 0 and "--accept" in capsys.readouterr().out


def test_a_run_goes_on_with_its_own_recipe_and_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`run --resume` with a changed recipe would train what is not asked for, and say nothing."""
    run = trained(tmp_path, "one", "training.learning_rate=0.5")
    words = ["run", "quickstart", "--runs-dir", str(tmp_path), "--name", "one", "--resume", "--no-eval"]
    for state in ("interrupted", "succeeded"):
        run.update(state=state)
        assert main([*words, "--set", "training.learning_rate=0.25"]) == 2
        said = capsys.readouterr().err
        assert "training.learning_rate: 0.5 there, 0.25 asked for" in said and "recipe resume one --set" in said
    same = ["--set", "training.learning_rate=0.5"]
    assert main([*words, *same]) == 0 and main([*words, *same, "--set", "launch.gpus=2"]) == 0
    # What it was launched with need not be what it has become by `recipe resume --set`.
    (run.path / "launch").mkdir()
    copy_recipe(load("quickstart"), run.path / "launch/one.yaml")
    assert main(["run", str(run.path / "launch/one.yaml"), *words[2:]]) == 0


def test_a_step_that_was_trained_again_is_exported_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its directory is named by the attempt that made it: one of before the run went back is not taken for it."""
    run = trained(tmp_path, "one", LORA, config=CONFIG)
    (run.path / "checkpoints/checkpoint-2").mkdir()
    (run.path / "checkpoints/checkpoint-2/trainer_state.json").write_text("{}")
    attempt = rundir.Attempt(number=1, started="", argv=(), env={}, metrics="m", resume_from=None)
    run.update(attempts=(attempt,))
    export = run.path / "exports/step-2-attempt-1"
    shutil.copytree(run.model, export)
    _, parent = child_of("quickstart", [LORA], "one:2", options(tmp_path), make=False)
    assert (parent.path, parent.step) == (str(export), 2)
    second = rundir.Attempt(number=2, started="", argv=(), env={}, metrics="m", resume_from=1)
    run.update(attempts=(attempt, second))
    with pytest.raises(UserError, match="step 2 of one is not a model's directory yet"):
        child_of("quickstart", [LORA], "one:2", options(tmp_path), make=False)


def test_a_step_is_exported_by_processes_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that bear a part's mark end with it: an evaluation of the run that is at work must not."""
    run, marks = trained(tmp_path, "one", LORA, config=CONFIG), list[str]()
    (run.path / "checkpoints/checkpoint-2").mkdir()
    (run.path / "checkpoints/checkpoint-2/trainer_state.json").write_text("{}")
    run.accounting.write_text(json.dumps(COUNTED))
    monkeypatch.setattr(attempt, "call", lambda *given: marks.append(given[5]))
    monkeypatch.setattr(attempt.Training, "plan", lambda *_: None)
    monkeypatch.setattr(parent, "ready_python", lambda *_: Path("python"))
    parent.weights_of(run, 2, options(tmp_path), make=True)
    assert marks == [run.mark("export-2")] and run.mark("eval") not in marks


def test_a_received_parents_code_is_asked_about(tmp_path: Path) -> None:
    trained(tmp_path, "one", LORA, "model.trust_remote_code=true", config=CONFIG, own=False)
    with pytest.raises(UserError, match="--trust-run"):
        child_of("quickstart", [LORA], "one", options(tmp_path), make=False)


def test_a_child_whose_parents_weights_changed_is_told_when_it_goes_on(tmp_path: Path) -> None:
    run = trained(tmp_path, "one", LORA, config=CONFIG)
    loaded, parent = child_of("quickstart", [LORA], "one", options(tmp_path), make=False)
    child = rundir.create(loaded, tmp_path, "two", parent=parent)
    child.update(attempts=(rundir.Attempt(number=1, started="", argv=(), env={}, metrics="m", resume_from=None),))
    assert differences(child, loaded, Topology(), {}) == []
    (run.model / "adapter_model.safetensors").write_text("other")
    assert [(one.effect, "are others" in one.text) for one in differences(child, loaded, Topology(), {})] == [
        ("result", True)
    ]
    shutil.rmtree(run.model)
    assert [(one.effect, "are gone" in one.text) for one in differences(child, loaded, Topology(), {})] == [
        ("refused", True)
    ]


def planned(name: str, tmp_path: Path, *overrides: str, resume: Checkpoint | None = None) -> dict[str, Any]:
    import yaml

    loaded = load("quickstart", [LORA, f"backend={name}", *overrides])
    module, paths = backend(name), Paths(run=tmp_path / "run", python=Path("python"), model="/m")
    assert module.problems(loaded, Topology()) == []
    plan = module.plan(loaded.recipe, Topology(), PreparedData(train_rows=9), paths, resume=resume)
    config = yaml.safe_load(plan.files["backend/train.yaml"])
    return {"config": config, "before": plan.before, "export": plan.export, "files": set(plan.files)}


def test_the_backends_begin_with_the_adapter(tmp_path: Path) -> None:
    adapter = trained(tmp_path, "one", LORA, config=CONFIG).model
    given = f"model.adapter_path={adapter}"
    ours = planned("llamafactory", tmp_path, given)["config"]
    assert ours["adapter_name_or_path"] == str(adapter) and "ref_model" not in ours
    assert "adapter_name_or_path" not in planned("llamafactory", tmp_path)["config"]
    verl = planned("verl", tmp_path, given)
    assert verl["config"]["model"]["lora_adapter_path"] == str(adapter) and verl["before"] == ()
    assert "backend/lora.json" not in verl["files"]
    assert verl["export"][verl["export"].index("--adapter") + 1] == str(adapter)
    assert planned("verl", tmp_path)["before"] != ()


@pytest.mark.parametrize("method,reference", [("dpo", True), ("kto", True), ("orpo", False), ("simpo", False)])
def test_the_reference_model_is_what_the_training_begins_with(tmp_path: Path, method: str, reference: bool) -> None:
    adapter = trained(tmp_path, "one", LORA, config=CONFIG).model
    name = [f"model.adapter_path={adapter}", f"method={method}", "data.train=[{path: x/y}]", "eval.suites=[]"]
    for quantization, bits in (("null", None), ("4bit", 4)):
        config = planned("llamafactory", tmp_path, *name, f"tuning.quantization={quantization}")["config"]
        found = [config.get(key) for key in ("ref_model", "ref_model_adapters", "ref_model_quantization_bit")]
        assert found == (["/m", str(adapter), bits] if reference else [None] * 3)


@pytest.mark.parametrize(
    "given,expected",
    [
        (["model.adapter_path=nowhere"], "nowhere holds no adapter"),
        (["tuning={type: full}"], "model.adapter_path: belongs to tuning.type: lora"),
    ],
)
def test_an_adapter_that_cannot_be_trained_further_is_a_mistake_of_the_recipe(
    tmp_path: Path, given: list[str], expected: str
) -> None:
    adapter = trained(tmp_path, "one", LORA, config=CONFIG).model
    with pytest.raises(UserError) as caught:
        load("quickstart", [LORA, f"model.adapter_path={adapter}", *given])
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    "text,expected",
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        (json.dumps(CONFIG | {"peft_type": "LOHA"}), "only a LoRA adapter"),
        (json.dumps(CONFIG | {"modules_to_save": ["lm_head"]}), "only a LoRA adapter without modules_to_save"),
    ],
)
def test_a_damaged_adapter_is_told(tmp_path: Path, text: str, expected: str) -> None:
    adapter = trained(tmp_path, "one", LORA, config=CONFIG).model
    (adapter / "adapter_config.json").write_text(text)
    with pytest.raises(UserError) as caught:
        load("quickstart", [LORA, f"model.adapter_path={adapter}"])
    assert expected in str(caught.value)


def test_where_no_adapter_can_be_trained_further_it_is_told_to_merge(tmp_path: Path) -> None:
    """GRPO on verl would have the base for its reference model; Megatron-Bridge makes an adapter of its own."""
    adapter = trained(tmp_path, "one", LORA, config=CONFIG).model
    with pytest.raises(UserError, match="its reference model would be the base without it; merge it first"):
        load("grpo_sums", [LORA, f"model.adapter_path={adapter}"])
    plain = CONFIG | {"use_rslora": False}
    (adapter / "adapter_config.json").write_text(json.dumps(plain))
    tuning = LORA.replace("rslora: true", "rslora: false")
    megatron = ["backend=verl", "distributed.strategy=megatron", "training.precision=bf16"]
    loaded = load("quickstart", [tuning, f"model.adapter_path={adapter}", *megatron])
    gpus = Topology(gpus=2, processes=2, devices=("0", "1"))
    found = [one.text for one in backend("verl").problems(loaded, gpus) if "adapter_path" in one.field]
    assert found and "merge it" in found[0]
