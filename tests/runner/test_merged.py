"""`recipe merge` and what stands on it, without a model: what is made is known again, and nothing half made is left."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.hashes import model_hash
from eval.spec import Merge, Merged
from recipes import UserError, load
from recipes.files import write_json
from recipes.typed import write_typed
from runner.failure import Failure
from runner.files import check_output
from runner.machine import environments
from runner.machine.process import Interrupted
from runner.runs import merge as merging
from runner.runs import push, rundir
from runner.runs.claim import claim
from runner.runs.merge import is_merged, merge
from runner.runs.rundir import Run
from runner.runs.trust import remember


def adapted(directory: Path, weights: bytes = b"adapter") -> Run:
    """A run that has succeeded, with an adapter."""
    run = rundir.create(load("quickstart"), directory, "r")
    run.model.mkdir()
    (run.model / "adapter_config.json").write_text("{}")
    (run.model / "adapter_model.safetensors").write_bytes(weights)
    run.update(state="succeeded", model_step=4)
    remember(run)
    return run


def asks(monkeypatch: pytest.MonkeyPatch, then: Callable[[], None] = lambda: None) -> None:
    """In the place of the module that merges: writes the first half, does `then`, and writes the rest."""

    def ask(_python: Path, _module: str, spec: Merge, *_: Any, **__: Any) -> None:
        target = Path(spec.target)
        target.mkdir()
        (target / "model.safetensors").write_text("half")
        then()
        done = Merged(
            dtype="float32", parameters=1, base=spec.base, adapter=spec.adapter, compared=None, replies=None,
            adapter_hash=model_hash(Path(spec.adapter)),
        )  # fmt: skip
        write_typed(target / "merge.json", done)

    monkeypatch.setattr(merging, "ask", ask)
    monkeypatch.setattr(environments, "ensure", lambda *_: Path("python"))
    monkeypatch.setattr(merging.bundled, "ensure", lambda *_: None)


def merged(run: Run, output: Path | None = None) -> Path:
    return merge(run, output, lambda _: None, trusted=False)


@settings(deadline=None, max_examples=20)
@given(st.binary(min_size=1, max_size=9), st.binary(min_size=1, max_size=9))
def test_a_merged_model_is_known_by_its_adapter_wherever_the_run_lies(
    tmp_path_factory: pytest.TempPathFactory, weights: bytes, others: bytes
) -> None:
    tmp_path = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patched:
        asks(patched)
        run = adapted(tmp_path, weights)
        assert merged(run) == run.path / "merged" and is_merged(run.path / "merged", run.model)
    moved = Run(tmp_path / "moved")
    shutil.move(run.path, moved.path)
    assert is_merged(moved.path / "merged", moved.model)
    (moved.model / "adapter_model.safetensors").write_bytes(others)
    assert is_merged(moved.path / "merged", moved.model) == (weights == others)


def test_a_model_that_was_merged_before_there_were_hashes_is_known_by_its_place(tmp_path: Path) -> None:
    run = adapted(tmp_path)
    write_json(run.path / "merged/merge.json", {"adapter": str(run.model)})
    assert is_merged(run.path / "merged", run.model) and not is_merged(run.path / "merged", tmp_path)


@pytest.mark.parametrize(
    "stop", [Failure("the merge"), Interrupted(15), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")]
)
def test_of_a_merge_that_ends_nothing_is_left(
    stop: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a model fills the disk as a whole one does, under a name that no command shows."""

    def ends() -> None:
        raise stop

    run = adapted(tmp_path)
    before = sorted(path.name for path in run.path.iterdir())
    asks(monkeypatch, ends)
    with pytest.raises(type(stop)):
        merged(run)
    assert sorted(path.name for path in run.path.iterdir()) == before
    asks(monkeypatch)
    assert is_merged(merged(run), run.model)


def test_one_merge_of_a_run_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are asked by the same file, and the end of one would end the processes of the other."""
    run = adapted(tmp_path)
    asks(monkeypatch)
    with claim(run.path / "logs/merge"), pytest.raises(UserError, match="is being merged"):
        merged(run, tmp_path / "other")
    assert merged(run, tmp_path / "other").is_dir()


@pytest.mark.parametrize("where", ["there", "file", "file/x", "file/deep/er/x", "/proc/x", "/proc/deep/x"])
def test_where_nothing_can_be_written_is_told_before_the_work(where: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"is there already|--output"):
        check_output(tmp_path / where)
    check_output(tmp_path / "new/deep/er")
    assert list((tmp_path / "new/deep").iterdir()) == []


def test_what_was_merged_of_another_adapter_is_not_pushed_as_this_run_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as of an earlier step, which the scores on the card are not of."""
    asks(monkeypatch)
    monkeypatch.setattr(push, "public_card", lambda *_: "card")
    run, where = adapted(tmp_path), push.Where(repository="me/it", merged=True)
    with pytest.raises(UserError, match="merged is not there; make it with `recipe merge r`"):
        push.content(run, where)
    earlier = tmp_path / "step-2"
    shutil.copytree(run.model, earlier)
    (earlier / "adapter_model.safetensors").write_bytes(b"earlier")
    merge(run, run.path / "merged", lambda _: None, trusted=False, adapter=earlier)
    with pytest.raises(UserError, match="merged was made of another adapter than this run's"):
        push.content(run, where)
    shutil.rmtree(run.path / "merged")
    merged(run)
    assert list(push.content(run, where).files) == ["model.safetensors"]
