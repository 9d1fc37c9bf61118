"""What the command line writes where stdout is a file: the text itself in any locale, and no traceback without one."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.cli import main
from runner.verbs.parser import verb_of

ROWS = [{"prompt": "ä, 中 and 👍", "response": "\u2028 then \u202eright to left"}, {"prompt": "a", "response": "ö"}]


def recipe(*arguments: str, cwd: Path, encoding: str = "utf-8", shell: str = "") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "runner.cli", *arguments]
    env = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(Path(__file__).parents[2])}
    if shell:
        command = ["sh", "-c", f'exec "$@" {shell}', "sh", *command]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, check=False)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-16"])
def test_rows_that_are_written_by_a_pipe_are_those_that_were_read(encoding: str, tmp_path: Path) -> None:
    """With a terminal's escapes for what the locale lacks, they were no JSON any more."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
    (tmp_path / "rows.jsonl").write_text(text, encoding="utf-8")
    done = recipe("data", "convert", "rows.jsonl", "--to", "prompt_response", cwd=tmp_path, encoding=encoding)
    assert done.returncode == 0
    assert [json.loads(line) for line in done.stdout.decode("utf-8").split("\n")[:-1]] == ROWS


def test_a_recipe_that_is_written_by_a_pipe_is_the_same_in_every_locale(tmp_path: Path) -> None:
    (tmp_path / "für 中文.yaml").write_text("base_model: a/b\nlearning_rate: 1e-4\ndatasets: [{path: ä.jsonl}]\n")
    given = ("import", "für 中文.yaml", "--from", "axolotl")
    texts = {recipe(*given, cwd=tmp_path, encoding=name).stdout.decode() for name in ("utf-8", "latin-1", "ascii")}
    assert len(texts) == 1 and "für 中文" in texts.pop()


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
@pytest.mark.parametrize(("name", "code"), [("quickstart", 0), ("nowhere", 2)])
def test_a_stream_that_is_closed_from_the_start_changes_no_exit_code(
    name: str, code: int, closed: str, tmp_path: Path
) -> None:
    done = recipe("validate", name, cwd=tmp_path, shell=closed)
    assert done.returncode == code and b"Traceback" not in done.stderr


@pytest.mark.parametrize("verb", ["data", "validate"])
def test_a_stop_while_the_command_line_is_read_is_no_traceback(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(_: argparse.ArgumentParser) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(verb_of(verb), "arguments", stopped)
    assert main([verb, "x"]) == 130
