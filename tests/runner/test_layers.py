"""Packages over a lock: resolved beside what it has, built apart, recorded, taken away; all from wheels made here."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

from recipes import UserError, load
from runner.cli import main
from runner.failure import Failure
from runner.machine import environments, installed, layering
from runner.machine.environments import Environment, ensure, environment, versions
from runner.machine.layers import Layer, layers
from runner.training.needs import check_needs


def wheel(directory: Path, name: str, version: str, *needs: str) -> None:
    """A distribution of one module that says its version."""
    module, told = name.replace("-", "_"), f"{name.replace('-', '_')}-{version}.dist-info"
    required = "".join(f"Requires-Dist: {need}\n" for need in needs)
    files = {
        f"{module}.py": f"version = {version!r}\n",
        f"{told}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{required}",
        f"{told}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},,{len(text)}\n" for file, text in files.items()) + f"{told}/RECORD,,\n"
    with zipfile.ZipFile(directory / f"{module}-{version}-py3-none-any.whl", "w") as archive:
        for file, text in (files | {f"{told}/RECORD": record}).items():
            archive.writestr(file, text)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an environment whose lock has base-pack 1.0, and an index of a few packages more."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for version in ("1.0", "2.0"):
        wheel(wheels, "base-pack", version)
    wheel(wheels, "helper", "0.1")
    for version in ("2.0", "2.1"):
        wheel(wheels, "shiny-pack", version, "base-pack", "helper")
    wheel(wheels, "too-new", "1.0", "base-pack>=2")
    lock = tmp_path / "tiny.lock"
    lock.write_text("base-pack==1.0\n")
    monkeypatch.setitem(environments.LOCKS, "tiny", {"any": str(lock)})
    monkeypatch.setattr(environments, "ON_DEMAND", ("tiny",))
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return "tiny"


def says(wanted: Environment, module: str) -> str:
    code = f"import {module}; print({module}.version)"
    done = subprocess.run([str(wanted.python), "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def test_a_layer_is_another_environment_with_all_that_the_lock_has(tiny: str) -> None:
    before = environment(tiny, "cpu")
    ensure(before, print)
    after = layering.add(tiny, "cpu", ["Shiny_Pack==2.0"], print)
    assert after == environment(tiny, "cpu") and after.directory != before.directory and after.base == before.base
    assert after.layers == (Layer(name="shiny-pack", requirements=("helper==0.1", "shiny-pack==2.0")),)
    assert [says(after, module) for module in ("base_pack", "helper", "shiny_pack")] == ["1.0", "0.1", "2.0"]
    assert [says(before, module) for module in ("base_pack", "shiny_pack")] == ["1.0", ""]
    assert versions(after) == {"base-pack": "1.0", "helper": "0.1", "shiny-pack": "2.0"}
    assert installed.check(after) == [] == installed.check(before)
    assert not {before.directory, after.directory} & set(installed.unwanted())


def test_a_layer_is_replaced_by_another_version_and_taken_away(tiny: str) -> None:
    first = layering.add(tiny, "cpu", ["shiny-pack==2.0"], print)
    second = layering.add(tiny, "cpu", ["shiny-pack"], print)
    assert says(second, "shiny_pack") == "2.1" and len(second.layers) == 1 and second.directory != first.directory
    gone = layering.remove(tiny, "cpu", ["shiny_pack"])
    assert gone.layers == () and gone.directory.name == gone.base and says(gone, "shiny_pack") == ""
    assert first.directory in installed.unwanted()
    with pytest.raises(UserError, match="no such layer of tiny; it has: none"):
        layering.remove(tiny, "cpu", ["shiny-pack"])


@pytest.mark.parametrize("package", ["too-new", "no-such-package", "shiny-pack==9"])
def test_what_does_not_go_with_the_lock_leaves_all_as_it_was(package: str, tiny: str) -> None:
    kept = layering.add(tiny, "cpu", ["helper"], print)
    with pytest.raises(Failure, match=f"no {package} goes with the lock of the tiny environment"):
        layering.add(tiny, "cpu", [package], print)
    assert environment(tiny, "cpu") == kept and says(kept, "helper") == "0.1" and says(kept, "base_pack") == "1.0"


def test_a_layer_that_cannot_be_built_is_not_kept(tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its wheel is gone between the looking and the building: the layer of before is there again."""
    kept = layering.add(tiny, "cpu", ["shiny-pack==2.0"], print)
    resolved = layering._resolved

    def lost(*given: object) -> tuple[str, ...]:
        found = resolved(*given)  # type: ignore[arg-type]
        (tmp_path / "wheels/shiny_pack-2.1-py3-none-any.whl").unlink()
        return found

    monkeypatch.setattr(layering, "_resolved", lost)
    with pytest.raises(Failure, match="could not build"):
        layering.add(tiny, "cpu", ["shiny-pack"], print)
    assert environment(tiny, "cpu") == kept and kept.ready


def test_layers_are_of_one_lock(tiny: str, tmp_path: Path) -> None:
    layering.add(tiny, "cpu", ["helper"], print)
    (tmp_path / "tiny.lock").write_text("base-pack==2.0\n")
    assert environment(tiny, "cpu").layers == ()


@pytest.mark.parametrize(
    "arguments,text",
    [
        (["tiny", "--with", "base-pack"], "--with base-pack: the tiny environment has it already"),
        (["tiny", "--with", "a package"], "--with a package: write a package as NAME or NAME==VERSION"),
        (["tiny", "--with", "git+https://x/y"], "write a package as NAME or NAME==VERSION"),
        (["tiny", "--without", "helper"], "--without helper: no such layer of tiny"),
        (["--with", "helper"], "--with: name the one environment that is meant"),
        (["tiny", "eval", "--with", "helper"], "--with: name the one environment that is meant"),
        (["tinny", "--with", "helper"], "did you mean 'tiny'?"),
    ],
)
def test_what_cannot_be_a_layer_is_refused(
    arguments: list[str], text: str, tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["setup", *arguments]) == 2
    assert text in capsys.readouterr().err and layers(environment(tiny, "cpu").base) == ()


def test_the_command_builds_it_and_names_the_interpreter(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["setup", "tiny", "--with", "shiny-pack", "helper"]) == 2  # helper came with shiny-pack
    assert main(["setup", "tiny", "--without", "shiny-pack"]) == 0
    assert main(["setup", "tiny", "--with", "helper", "shiny-pack"]) == 0
    found = environment("tiny", "cpu")
    assert capsys.readouterr().out.splitlines()[-1] == f"tiny: {found.python}"
    assert [layer.requirements for layer in found.layers] == [("helper==0.1",), ("shiny-pack==2.1",)]


def test_a_missing_attention_is_told_with_the_command_before_anything_is_built(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    lock.write_text("torch==2.11.0\n")
    wanted = Environment(name="llamafactory", device="cuda", lock=lock)
    recipe = load("quickstart", ["model.attention=flash_attention_2"]).recipe
    text = "which the environment of llamafactory does not have; put it over the lock: recipe setup llamafactory --with"
    with pytest.raises(UserError, match=text):
        check_needs(recipe, wanted, None)
    with pytest.raises(UserError, match="install it there"):
        check_needs(recipe, wanted, Path("/usr/bin/python"))
    over = Layer(name="flash-attn", requirements=("flash-attn==2.8.3",))
    check_needs(recipe, Environment(name="llamafactory", device="cuda", lock=lock, layers=(over,)), None)
    check_needs(load("quickstart").recipe, wanted, None)
    assert not wanted.ready
