"""A recipe with stages: which runs it has, what each begins with, and what is found before the first one trains."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.hashes import model_hash
from recipes import UserError, find, load, stages_of
from recipes.files import write_json
from recipes.model_files import write_settings
from recipes.typed import write_typed
from runner.cli import main
from runner.runs import rundir
from runner.runs.rundir import Parent, Run, resolved_yaml
from runner.runs.trust import remember
from runner.training.chain import check_after, next_run, stages
from runner.training.named import checked
from runner.training.only_scores import FILE, Scored, score_stage
from runner.training.parent import merges
from runner.training.train import Options

CONFIG = {
    "peft_type": "LORA", "r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "use_rslora": False, "use_dora": False,
    "target_modules": ["q_proj"], "base_model_name_or_path": "a/b", "modules_to_save": None,
}  # fmt: skip
NAMES = stages_of("finance_sft_dpo")


def options(runs: Path, name: str | None = None) -> Options:
    return Options(runs_dir=runs, name=name, say=lambda _: None)


def ended(runs: Path, stage: str, name: str, parent: Parent | None = None, weights: str = "a") -> Run:
    """A finished run of a stage, with an adapter."""
    run = rundir.create(load(stage), runs, name, parent=parent)
    run.model.mkdir()
    (run.model / "adapter_config.json").write_text(json.dumps(CONFIG))
    (run.model / "adapter_model.safetensors").write_text(weights)
    run.update(state="succeeded", model_step=4)
    remember(run)
    return run


def test_each_stage_has_a_run_of_its_name(tmp_path: Path) -> None:
    (chain,) = stages(NAMES, [], options(tmp_path))
    assert [stage.run for stage in chain] == ["finance_sft_dpo-sft", "finance_sft_dpo-dpo"]
    (chain,) = stages(NAMES, [], options(tmp_path, "mine"))
    assert [stage.run for stage in chain] == ["mine-sft", "mine-dpo"]
    first, second = stages(NAMES, ["training.epochs=2"], options(tmp_path), [3, 4])
    assert [stage.run for stage in second] == ["finance_sft_dpo-sft-seed-4", "finance_sft_dpo-dpo-seed-4"]
    assert {stage.loaded.recipe.training.seed for stage in first} == {3}
    assert {stage.loaded.recipe.training.epochs for stage in (*first, *second)} == {2}


def test_a_stage_begins_with_the_weights_of_the_one_before(tmp_path: Path) -> None:
    (chain,) = stages(NAMES, [], options(tmp_path))
    sft, dpo = chain
    assert next_run(sft, None, options(tmp_path)).parent is None
    before = ended(tmp_path, NAMES[0], sft.run)
    found = next_run(dpo, before, options(tmp_path))
    assert found.loaded.recipe.model.adapter_path == str(before.model) and found.loaded.recipe.method == "dpo"
    assert found.parent is not None and (found.parent.kind, found.parent.run) == ("adapter", str(before.path))


def test_a_stage_of_other_weights_is_not_taken_as_it_is(tmp_path: Path) -> None:
    """The stage before was made anew: what stood on the old one is no part of this chain."""
    (chain,) = stages(NAMES, [], options(tmp_path))
    before = ended(tmp_path, NAMES[0], chain[0].run)
    one = next_run(chain[1], before, options(tmp_path))
    run = rundir.create(one.loaded, tmp_path, chain[1].run, parent=one.parent)
    assert next_run(chain[1], before, options(tmp_path)).parent == one.parent, "it is this stage's run"
    (before.model / "adapter_model.safetensors").write_text("another")
    with pytest.raises(
        UserError, match=rf"{run.name} is there already(.|\n)*the weights that it began with are others"
    ):
        next_run(chain[1], before, options(tmp_path))


def test_a_mistake_in_the_second_stage_is_found_before_the_first_trains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", "finance_sft_dpo", "--runs-dir", str(tmp_path / "runs")]
    assert main([*command, "--set", "stages[1].preference.loss=ipoo"]) == 2
    assert 'preference.loss: "ipoo" is not allowed' in capsys.readouterr().err
    assert main([*command, "--set", "stages[1].backend=verl"]) == 2
    assert "dpo does not run on verl" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


STAGES = """
name: c
backend: llamafactory
model: {{path: {model}}}
data: {{validation: {{fraction: 0.5}}}}
training: {{global_batch_size: 2, micro_batch_size: 1}}
stages:
  - {{name: sft, method: sft, tuning: {sft}, data: {{train: [{{path: sft.jsonl}}]}}}}
  - {{name: dpo, method: dpo, tuning: {dpo}, data: {{train: [{{path: dpo.jsonl}}]}}}}
"""
TUNED: dict[str, list[object]] = {
    "rank": [4, 8], "alpha": [8, 16], "dropout": [0.0, 0.1], "rslora": [False, True], "dora": [False, True],
    "init": ["default", "gaussian"], "target_modules": ["all-linear", ["q_proj"], ["q_proj", "v_proj"]],
    "modules_to_save": [["lm_head"]],
}  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(*(st.fixed_dictionaries({}, optional={k: st.sampled_from(v) for k, v in TUNED.items()}) for _ in range(2)))
def test_an_adapter_that_the_next_stage_cannot_train_is_found_before_the_first_trains(
    tmp_path_factory: pytest.TempPathFactory, sft: dict[str, object], dpo: dict[str, object]
) -> None:
    """The check says what the stage says once the adapter is there; modules that are trained whole are merged."""
    tmp_path = tmp_path_factory.mktemp("chain")
    (tmp_path / "sft.jsonl").write_text('{"prompt": "a", "response": "b"}\n')
    (tmp_path / "dpo.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    file = tmp_path / "c.yaml"
    file.write_text(STAGES.format(model=tmp_path / "model", sft=json.dumps(sft), dpo=json.dumps(dpo)))
    (chain,) = stages(stages_of(str(file)), [], options(tmp_path))

    def problem(act: Callable[[], object]) -> str:
        try:
            act()
        except UserError as error:
            return re.sub(r"\S*adapter_path\S*|/\S+", "…", str(error))
        return ""

    early = problem(lambda: check_after(chain[1], chain[0].loaded.recipe))
    run = ended(tmp_path, f"{file}:sft", "c-sft")
    write_settings(run.model, chain[0].loaded.recipe.tuning)
    if merges(chain[0].loaded.recipe, chain[1].loaded.recipe):
        write_json(run.path / "merged/merge.json", {"adapter": str(run.model)})
        shutil.copytree(tmp_path / "model", run.path / "merged", dirs_exist_ok=True)
        (run.path / "merged/model.safetensors").write_text("whole")
    assert early == problem(lambda: next_run(chain[1], run, options(tmp_path)))
    assert not (early and ("modules_to_save" in sft or "modules_to_save" in dpo))


def test_a_dry_run_says_what_the_run_would(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ["--set", "stages[1].tuning.rank=8", "--set", "stages[0].tuning.rank=4"]
    assert main(["run", "finance_sft_dpo", "--dry-run", "--runs-dir", str(tmp_path), *own]) == 2
    assert "tuning.rank: 8 here, and 4 in model.adapter_path" in capsys.readouterr().err


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_tokens_that_the_stage_before_added_are_not_added_again(tmp_path: Path, tuning: str) -> None:
    """A stage may add more of its own."""
    (chain,) = stages(NAMES, [f"tuning={{type: {tuning}}}", "model.add_tokens=[<a>, <b>]"], options(tmp_path))
    before = ended(tmp_path, NAMES[0], chain[0].run)
    whole = before.model if tuning == "full" else before.path / "merged"
    whole.mkdir(exist_ok=True)
    if tuning == "full":
        (before.model / "adapter_config.json").unlink()
    write_json(whole / "merge.json", {"adapter": str(before.model)})
    write_json(whole / "tokenizer.json", {"added_tokens": [{"content": "<a>"}, {"content": "<eos>"}]})
    for name in ("config.json", "model.safetensors"):
        (whole / name).write_text("{}")
    before.update(overrides=(), tuning=tuning)
    (before.path / "recipe.resolved.yaml").write_text(resolved_yaml(chain[0].loaded))
    remember(before)
    found = next_run(chain[1], before, options(tmp_path)).loaded.recipe.model
    assert (found.path, found.adapter_path, found.add_tokens) == (str(whole), None, ("<b>",))


def test_plan_validate_and_dry_run_take_it_whole(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["validate", "finance_sft_dpo"]) == 0
    assert main(["validate", "finance_sft_dpo", "--set", "stages[1].training.epochs=-1"]) == 2
    capsys.readouterr()
    assert main(["plan", "finance_sft_dpo", "--json"]) == 0
    assert [plan["method"] for plan in json.loads(capsys.readouterr().out)] == ["sft", "dpo"]
    assert main(["plan", "finance_sft_dpo:dpo", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "finance_sft_dpo-dpo"
    for command in (["plan"], ["run", "--dry-run"]):
        assert main([*command, "finance_sft_dpo", "--runs-dir", str(tmp_path)]) == 0
        said = capsys.readouterr().out
        first, second = said.split("then, with the weights of the stage before in the place of the model's own:\n")
        assert first.startswith("finance_sft_dpo-sft: sft") and second.startswith("finance_sft_dpo-dpo: dpo")


FINAL = """\
  - name: final
    method: eval
    eval: {suites: [perplexity], max_samples: 3}
"""


@pytest.fixture
def scored(tmp_path: Path) -> str:
    """finance_sft_dpo with a stage behind each training that only scores."""
    file = tmp_path / "mine.yaml"
    data = load("finance_sft_dpo:sft").recipe.data.train[0].path
    text = Path(find("finance_sft_dpo")).read_text().replace("name: finance_sft_dpo\n", "")
    text = text.replace("path: data/", f"path: {Path(data).parent}/")
    file.write_text(text.replace("  - name: dpo", FINAL.replace("final", "between") + "  - name: dpo") + FINAL)
    return str(file)


def test_a_stage_that_only_scores_is_planned_and_has_no_run(
    scored: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", scored]) == 0 and main(["show", scored]) == 0 and main(["show", f"{scored}:final"]) == 0
    assert "trains nothing: it scores what dpo has made" in capsys.readouterr().out
    assert main(["validate", scored, "--set", "stages[3].eval.suites=[perplexty]"]) == 2
    assert "did you mean 'perplexity'" in capsys.readouterr().err
    runs = ["--runs-dir", str(tmp_path / "runs")]
    for command in (["plan", scored], ["run", scored, "--dry-run"]):
        assert main([*command, *runs]) == 0
        said = capsys.readouterr().out
        for name, of in (("mine-between", "mine-sft"), ("mine-final", "mine-dpo")):
            where = tmp_path / "runs" / name
            wanted = f"then:\n{name}: trains nothing; scores {of}\nsuites:    perplexity\nresults:   {where}"
            assert wanted in said
        assert said.count("then, with the weights of the stage before") == 1
    assert main(["plan", scored, "--json", *runs]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["method"] for one in told] == ["sft", "eval", "dpo", "eval"] and told[3]["scores"] == "mine-dpo"
    for verb in (["fit", "--gpu", "24GB"], ["launch", "--on", "slurm"], ["sweep", "--grid", "training.epochs=1,2"]):
        assert main([verb[0], f"{scored}:final", *verb[1:]]) == 2
        assert "trains nothing" in capsys.readouterr().err
    assert main(["run", f"{scored}:final", *runs]) == 2
    assert "run the recipe whole, or give --from RUN" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_what_a_stage_has_scored_is_taken_as_it_is_or_refused(scored: str, tmp_path: Path) -> None:
    """Whatever would have to be scored fails here: the run has no rows."""
    said: list[str] = []
    runs = tmp_path / "runs"
    final, run = load(f"{scored}:final", scoring=True), ended(runs, NAMES[0], "one")
    how = Options(runs_dir=runs, say=said.append)
    about = Scored(run=str(run.path), weights=model_hash(run.model), eval=final.recipe.eval)
    (runs / "two").mkdir()
    with pytest.raises(UserError, match="holds no scores of a stage; give other names"):
        score_stage(final, "two", run, how)
    for changed, message in (
        (replace(about, run="/another"), "it scores another run"),
        (replace(about, eval=replace(about.eval, max_samples=4)), "its `eval` was another"),
    ):
        for is_ended in (True, False):
            write_typed(runs / "two" / FILE, replace(changed, ended=is_ended))
            with pytest.raises(UserError, match=message):
                score_stage(final, "two", run, how)
    write_typed(runs / "two" / FILE, replace(about, ended=True))
    score_stage(final, "two", run, how)
    assert said == ["two has been scored, and is taken as it is"]
    (run.model / "adapter_model.safetensors").write_text("others")
    with pytest.raises(UserError, match="the run's model was another"):
        score_stage(final, "two", run, how)
    run.update(state="failed")
    with pytest.raises(UserError, match="only a run that succeeded can be scored"):
        score_stage(final, "three", run, how)
    assert json.loads((runs / "three" / FILE).read_text())["ended"] is False


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["finance_sft_dpo", "quickstart"], "a recipe with stages is run by itself"),
        (["finance_sft_dpo:sfd"], "no stage 'sfd'; did you mean 'sft'"),
    ],
)
def test_what_does_not_go_with_stages(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_other_verbs_want_one_stage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "finance_sft_dpo", "--gpu", "24GB"]) == 2
    assert "finance_sft_dpo.yaml:sft" in capsys.readouterr().err
    assert main(["fit", "finance_sft_dpo:sft", "--gpu", "24GB"]) == 0


def test_several_runs_are_for_one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NNODES": "2", "N_GPUS": "1", "NODE_RANK": "0", "MASTER_ADDR": "a"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=r"x: several runs by one command are for one machine; on 2 nodes"):
        checked(load("quickstart"), "x")
