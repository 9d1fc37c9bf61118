"""A run taken back to a checkpoint: what came later is set aside, byte for byte; what came before stays as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters import backend
from adapters.contract import Topology
from recipes import UserError
from runner.runs import rundir
from runner.runs.claim import claim
from runner.runs.rundir import Attempt, Run
from runner.training import metrics
from runner.training.back import check_back, go_back
from tests.runner.test_remove import make, score


def trained(tmp_path: Path, steps: int = 8) -> Run:
    """A run that has come to its end, with a checkpoint and a score every two steps and the backend's own metrics."""
    run = make(tmp_path, "one", (2, 4, 6, 8))
    lines: list[dict[str, object]] = [{"event": "begin", "total_steps": steps}]
    lines += [{"step": n, "loss": 3 / n, "tokens": 7} for n in range(1, steps + 1)]
    lines.insert(5, {"step": 4, "eval_loss": 2.0})
    (run.path / "backend/metrics-1.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    attempt = Attempt(
        number=1, started="now", argv=(), env={}, metrics="backend/metrics-1.jsonl", resume_from=None, state="succeeded"
    )
    run.metrics.unlink()
    metrics.recover(run.metrics, [run.path / attempt.metrics], backend("llamafactory"), steps)
    for step in (2, 6):
        score(run, step, step)
    for name in (
        "model/weights",
        "merged/weights",
        "exported/fp8/weights",
        "eval/results.json",
        "eval/base/results.json",
        "eval/cache/a",
    ):
        file = run.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    run.update(state="succeeded", attempts=(attempt,), trained_steps=steps, model_step=steps)
    return run


def content(run: Run) -> dict[str, bytes]:
    return {
        str(path.relative_to(run.path)): path.read_bytes()
        for path in run.path.rglob("*")
        if path.is_file() and path.name not in ("run.json", ".lock", ".heartbeat")
    }


def test_what_came_later_is_set_aside_and_nothing_is_lost(tmp_path: Path) -> None:
    run, said = trained(tmp_path), list[str]()
    before = content(run)
    go_back(run, 4, said.append)
    after = content(run)
    aside = {
        name.removeprefix("aside-1/"): data
        for name, data in after.items()
        if name.startswith("aside-1/") and not name.endswith("aside.json")
    }
    for name, data in before.items():
        assert aside.get(name) == data or after.get(name) == data, name
    assert [step["step"] for step in run.steps()] == [1, 2, 3, 4, 4]
    moved = {name for name in before if name not in after}
    expected = {
        "model/weights",
        "merged/weights",
        "exported/fp8/weights",
        "eval/results.json",
        "eval/eval_step_6/results.json",
    }
    assert {name for name in moved if "checkpoint" not in name} == expected
    assert {name.split("/")[1] for name in moved if "checkpoint" in name} == {"checkpoint-6", "checkpoint-8"}
    assert "checkpoint-6, checkpoint-8" in said[0] and "4 steps" in said[0] and "eval/eval_step_6" in said[0]
    manifest = run.read()
    assert (manifest.state, manifest.trained_steps, manifest.model_step) == ("prepared", None, None)
    assert [one["step"] for one in json.loads((run.path / "eval/eval_history.json").read_text())["history"]] == [2]


def test_steps_of_before_are_not_read_again_by_a_later_resume(tmp_path: Path) -> None:
    """After the second attempt has died at step 6 unread, its own line counts, not that of the attempt set aside."""
    run = trained(tmp_path)
    go_back(run, 4, lambda text: None)
    second = run.path / "backend/metrics-2.jsonl"
    second.write_text('{"event": "begin", "total_steps": 8}\n{"step": 5, "loss": 50}\n{"step": 6, "loss": 60}\n')
    files = [run.path / "backend/metrics-1.jsonl", second]
    assert metrics.recover(run.metrics, files, backend("llamafactory"), 6) == 6
    assert {line["step"]: line["loss"] for line in run.steps() if "loss" in line} == {
        1: 3, 2: 1.5, 3: 1, 4: 0.75, 5: 50, 6: 60,
    }  # fmt: skip


def test_going_back_twice_keeps_both(tmp_path: Path) -> None:
    run = trained(tmp_path)
    go_back(run, 6, lambda text: None)
    go_back(run, 2, lambda text: None)
    assert {path.name for path in run.path.glob("aside-*/checkpoints/*")} == {
        "checkpoint-4",
        "checkpoint-6",
        "checkpoint-8",
    }
    assert sorted(path.name for path in run.path.glob("aside-*")) == ["aside-1", "aside-2"]


def test_a_step_without_a_whole_checkpoint_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    run = trained(tmp_path)
    before = content(run)
    for step in (3, 99):
        with pytest.raises(UserError, match=f"no whole checkpoint of step {step}; whole ones: 2, 4, 6, 8"):
            go_back(run, step, print)
    with pytest.raises(UserError, match="nothing is left to train"):
        check_back(run, 8)
    with claim(run.path / "eval"), pytest.raises(UserError, match="is being evaluated"):
        go_back(run, 4, print)
    assert content(run) == before and run.read().state == "succeeded"


def test_a_stop_in_the_middle_of_the_moves_leaves_a_run_that_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, moves = trained(tmp_path), 0
    rename = Path.rename

    def stops(self: Path, target: Path) -> Path:
        nonlocal moves
        moves += "checkpoint-" in self.name
        if moves > 1:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stops)
    with pytest.raises(KeyboardInterrupt):
        go_back(run, 4, print)
    monkeypatch.undo()
    assert run.state() == "crashed"
    assert [one.step for one in backend("llamafactory").checkpoints(run.path / "checkpoints")] == [6, 4, 2]


def test_verls_tracker_names_the_step_again(tmp_path: Path) -> None:
    """Else what a kill leaves of a later checkpoint could be taken for whole."""
    directory = tmp_path / "checkpoints"
    for step in (2, 4):
        shard = directory / f"global_step_{step}"
        for name in (*(f"{kind}_world_size_1_rank_0.pt" for kind in ("model", "optim", "extra_state")), "data_0.pt"):
            (shard / "huggingface").mkdir(parents=True, exist_ok=True)
            (shard / name).write_text("")
        (shard / "huggingface/config.json").write_text("{}")
        (shard / "fsdp_config.json").write_text('{"world_size": 1}')
    (directory / "latest_checkpointed_iteration.txt").write_text("4")
    module = backend("verl")
    assert [one.step for one in module.checkpoints(directory)] == [4, 2]
    module.forget_later(directory, 2)
    assert [one.step for one in module.checkpoints(directory)] == [2]


def test_the_command_line_refuses_before_it_builds_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from runner.cli import main

    run = trained(tmp_path)
    assert main(["resume", "one", "--from", "5", "--runs-dir", str(tmp_path)]) == 2
    assert "whole ones: 2, 4, 6, 8" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["resume", "one", "--from", "-1"])
    assert run.read().state == "succeeded" and Topology() == rundir.HERE
