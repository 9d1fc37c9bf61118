"""`recipe completion`, held against bash itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from runner.cli import main
from runner.verbs import VERBS

# What bash does at the tab key: the words so far, and the function that `complete` names.
ASK = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}; COMPREPLY=()
"$(complete -p recipe | sed 's/.*-F \\([^ ]*\\).*/\\1/')" recipe "${COMP_WORDS[$COMP_CWORD]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["completion", "bash"]) == 0
    file = tmp_path / "recipe.bash"
    file.write_text(capsys.readouterr().out)
    return file


def offered(script: Path, *words: str, cwd: Path) -> set[str]:
    command = ["bash", "-c", ASK, "bash", str(script), "recipe", *words]
    return set(subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=True).stdout.split())


def test_bash_completes_verbs_options_recipes_and_runs(script: Path, tmp_path: Path) -> None:
    (tmp_path / "runs/first").mkdir(parents=True)
    (tmp_path / "mine.yaml").touch()
    (tmp_path / "rows.csv").touch()
    assert offered(script, "", cwd=tmp_path) >= VERBS.keys()
    assert offered(script, "ru", cwd=tmp_path) == {"run", "runs"}
    assert {"--set", "--name"} <= offered(script, "run", "--", cwd=tmp_path)
    assert offered(script, "run", "quick", cwd=tmp_path) == {"quickstart"}
    assert "qwen3_8b_dpo_qlora_24gb" in offered(script, "run", "qwen3_8b", cwd=tmp_path)
    assert offered(script, "validate", "mine", cwd=tmp_path) == {"mine.yaml"}
    assert not offered(script, "validate", "ro", cwd=tmp_path)
    assert "first" in offered(script, "resume", "f", cwd=tmp_path)
    assert "check" in offered(script, "data", "", cwd=tmp_path)
