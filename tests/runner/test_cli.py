"""The command line: exit codes, what goes to stdout, and that it stays light."""

from __future__ import annotations

import importlib
import json
import os
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from recipes import catalogue, names
from runner.cli import _parse, main
from runner.verbs import VERBS

HEAVY = {"torch", "transformers", "datasets", "numpy", "ray", "rich", "verl", "llamafactory", "vllm", "pandas"}


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def test_list_shows_the_catalogue(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "list")
    shown = {line.split()[0]: line.split()[-1] for line in out.splitlines()[1:]}
    files = {name: Path(file) for name, file in shown.items() if file != "(made)"}
    assert code == 0 and list(shown) == names() and files == catalogue() and all(map(Path.is_file, files.values()))


def test_schema_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(run(capsys, "schema")[1])["title"] == "recipe"


def test_validate_checks_several_and_names_all_mistakes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("backend: verl\nmethod: dop\nmodel: {}\n")
    code, out, err = run(capsys, "validate", "quickstart", str(bad))
    assert code == 2 and "quickstart: ok" in out and err.count("bad.yaml:") == 3


def test_a_plan_is_json_with_what_programs_need(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "plan", "qwen3_4b_financial", "--json")
    plan = json.loads(out)
    assert code == 0 and plan.keys() >= {"argv", "env", "files", "ledger"}
    assert plan["files"]["backend/train.yaml"]


def test_a_dry_run_makes_no_directory(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run(capsys, "run", "quickstart", "--dry-run", "--runs-dir", str(tmp_path / "runs"))
    assert code == 0 and "ledger" in out and not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["plan", "nowhere.yaml"], "nowhere.yaml: no such recipe file"),
        (["run", "quickstart", "--set", "training.epoch=1"], "did you mean 'epochs'?"),
        (["resume", "nothing"], "nothing: no such run"),
        (["logs", "nothing"], "nothing: no such run"),
        (["eval"], "no finished run"),
        (["eval", "--model", "bundled:smollm2-135m-instruct"], "--model needs --data"),
        (["eval", "x", "--suites", "lm_eval:gsm8k", "--data", "."], "has the data that its task names"),
        (["setup", "lamafactory"], "did you mean 'llamafactory'?"),
        (["run", "quickstart", "--env", "current"], "has no llamafactory; install llamafactory==0.9.5"),
    ],
)
def test_the_users_mistakes_have_exit_code_2(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, *arguments)
    assert code == 2 and message in err


@pytest.mark.parametrize(
    "suite,message",
    [
        ("perplexit", "unknown suite 'perplexit'; choose from perplexity, "),
        ("perplexit", "lm_eval:TASK; did you mean 'perplexity'?"),
        ("lm_eval:", "unknown suite 'lm_eval:'"),
        ("lm_eval:mine.yaml", "lm_eval:mine.yaml: no such file: "),
    ],
)
def test_a_suite_that_is_none_is_refused(capsys: pytest.CaptureFixture[str], suite: str, message: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["eval", "--suites", suite])
    assert caught.value.code == 2 and message in " ".join(capsys.readouterr().err.split())


def test_runs_of_an_empty_directory(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = run(capsys, "runs", "--runs-dir", str(tmp_path))
    assert code == 0 and "no runs in" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["validate", "quickstart"],
        ["plan", "quickstart", "--json"],
        ["plan", "quickstart"],
        ["fit", "qwen3_4b_financial", "--gpu", "12GB"],
        ["list"],
        ["list", "--gpu", "24GB"],
        ["show", "qwen3_8b_sft_qlora_24gb"],
        ["plan", "qwen3_8b_sft_qlora_24gb"],
    ],
)
def test_what_must_feel_instant_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom runner.cli import main\n"
        f"try: main({arguments!r})\nexcept SystemExit: pass\n"
        "print('\\n' + ' '.join(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert HEAVY & set(done.stdout.splitlines()[-1].split()) == set()


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"recipe-runner {metadata.version('recipe-runner')}\n"


@pytest.mark.parametrize("name", VERBS)
def test_the_help_of_each_verb_has_examples_that_its_parser_takes(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    shown = capsys.readouterr().out
    module = importlib.import_module(f"runner.verbs.{name}")
    assert {path.stem for path in Path(module.__file__ or "").parent.glob("*.py")} == {
        *VERBS,
        "__init__",
        "options",
        "parser",
    }
    for example in module.EXAMPLES:
        assert example in shown
        words = shlex.split(example.partition(" > ")[0])
        _parse(words[words.index("recipe") + 1 :])


def test_a_checkout_that_is_not_installed_has_no_version_and_works() -> None:
    """As on a machine of which `--env current` takes the Python: runs end with a card that names it."""
    code = "from runner.files import own_version; print(own_version())"
    command = [sys.executable, "-S", "-c", code]  # -S: without site-packages
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout == "unreleased\n"


def test_a_verb_that_is_misspelled_is_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["evl"])
    assert "unknown verb 'evl'; did you mean 'eval'?" in capsys.readouterr().err


@pytest.mark.parametrize("device", ["a pipe without a reader", "/dev/full"])
def test_what_nobody_hears_ends_no_work(tmp_path: Path, device: str) -> None:
    """`recipe resume X 2> >(head -2)`: the training goes on, whatever becomes of what is said."""
    code = (
        "from pathlib import Path\nfrom runner.training.progress import Progress\n"
        "from runner.verbs.options import say\nshown = Progress(say); shown.begin(300)\n"
        "for step in range(300): shown.step({'step': step, 'loss': 1.0, 'eval_loss': 2.0}); say('x' * 1000)\n"
        "Path('done').touch()"
    )
    if device == "/dev/full":
        writer = os.open(device, os.O_WRONLY)
    else:
        reader, writer = os.pipe()
        os.close(reader)
    done = subprocess.run([sys.executable, "-c", code], stderr=writer, cwd=tmp_path, check=False)
    os.close(writer)
    assert (tmp_path / "done").exists() and done.returncode in (0, 120)  # 120: Python's own last flush of stderr


def test_our_own_bug_shows_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    import recipes

    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(recipes, "catalogue", broken)
    with pytest.raises(ZeroDivisionError):
        main(["list"])


@pytest.mark.parametrize("odd", ["x" * 400, "./" + "x" * 400, "\udcff", "a\0b", "~nobody-is-this", "\u202e", "[a"])
@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in ("list", "schema", "setup", "doctor")])
def test_odd_arguments_are_refused_without_a_traceback(
    verb: str, odd: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in ([odd], ["quickstart", "--runs-dir", odd, "--set", odd], ["quickstart", "--set", f"name={odd}"]):
        if verb == "runs" and arguments[0] == "quickstart":
            arguments = arguments[1:3]
        try:
            code = main([verb, *arguments])
        except SystemExit as refused:  # argparse's own
            code = int(refused.code or 0)
        assert code in ((0, 2) if verb == "runs" else (2,)), (arguments, code)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
