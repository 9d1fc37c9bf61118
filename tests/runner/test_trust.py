"""A run that somebody else made: what it asks for is asked again, and nothing is written through its links."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from recipes import UserError, load
from runner.cli import main
from runner.runs import rundir
from runner.runs.rundir import Run
from runner.runs.trust import check_links, check_trusted, is_own, remember


def own(tmp_path: Path, *overrides: str, recipe: str = "quickstart") -> Run:
    made = rundir.create(load(recipe, overrides), tmp_path / "runs", None)
    remember(made)
    return made


@pytest.mark.parametrize(
    "recipe,overrides,verb,named",
    [
        ("quickstart", ["model.trust_remote_code=true"], "merge", "run Python code that comes with the model"),
        ("quickstart", ["model.trust_remote_code=true"], "serve", "run Python code that comes with the model"),
        ("quickstart",
         ["eval.suites=reference", "eval.judge={base_url: http://x.example/v1, model: m, key_env: MY_KEY}"], "eval",
         "send replies to http://x.example/v1, with the value of the variable MY_KEY"),
        ("quickstart", ["backend_options={report_to: none}"], "resume", "native options: report_to"),
        ("quickstart", ["eval.suites=['lm_eval:./quickstart.yaml']"], "eval",
         "quickstart.yaml, which can run Python code (eval.suites)"),
        ("quickstart", ["backend=verl"], "resume", "load verl's checkpoints, which are pickles"),
    ],
)  # fmt: skip
def test_a_received_run_is_asked_about_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str, overrides: list[str], verb: str, named: str
) -> None:
    made = own(tmp_path, *overrides, recipe=recipe)
    asked = made.recipe().recipe
    check_trusted(made, asked, verb, trusted=False)
    monkeypatch.setenv("RECIPE_CACHE", str(tmp_path / "another user"))
    with pytest.raises(UserError) as caught:
        check_trusted(made, asked, verb, trusted=False)
    assert named in str(caught.value) and "--trust-run" in str(caught.value)
    check_trusted(made, asked, verb, trusted=True)
    check_trusted(made, asked, verb, trusted=False)


def test_a_received_run_that_asks_for_nothing_is_not_asked_about(tmp_path: Path) -> None:
    made = rundir.create(load("quickstart"), tmp_path / "runs", None)
    for verb in ("merge", "serve", "eval", "resume"):
        check_trusted(made, made.recipe().recipe, verb, trusted=False)


def test_a_recipe_that_was_changed_is_not_the_one_that_was_trusted(tmp_path: Path) -> None:
    made = own(tmp_path)
    assert is_own(made)
    file = made.path / "recipe.resolved.yaml"
    file.write_text(file.read_text().replace("trust_remote_code: false", "trust_remote_code: true"))
    assert not is_own(made)


def test_a_copy_with_the_id_of_an_own_run_is_no_way_in(tmp_path: Path) -> None:
    copied = Run(shutil.copytree(own(tmp_path).path, tmp_path / "received"))
    assert is_own(copied)  # the same run, the same recipe: whatever it asks for was agreed to
    copied.update(id="../../etc/passwd")
    assert not is_own(copied)


@pytest.mark.parametrize("place", ["eval", "eval/eval.log", "logs", "checkpoints", "data", "backend/x/y"])
def test_a_verb_writes_through_no_link_out_of_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    made, outside = own(tmp_path), tmp_path / "outside"
    made.update(state="succeeded")
    outside.mkdir()
    link = made.path / place
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_dir():
        shutil.rmtree(link)
    link.symlink_to(outside)
    for verb in ("eval", "resume", "merge", "serve"):
        assert main([verb, str(made.path)]) == 2
        assert f"{link}: a link to {outside}, outside of the run" in capsys.readouterr().err
    assert list(outside.iterdir()) == []


def test_links_within_a_run_are_no_matter(tmp_path: Path) -> None:
    made = own(tmp_path)
    (made.path / "model").symlink_to(made.path / "checkpoints")
    check_links(made)


def test_a_pipe_in_a_run_is_named(tmp_path: Path) -> None:
    made = own(tmp_path)
    os.mkfifo(made.path / "logs" / "attempt-1.log")
    with pytest.raises(UserError, match="expected a file or a directory, got a pipe"):
        check_links(made)
