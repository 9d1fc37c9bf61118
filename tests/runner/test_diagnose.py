"""Causes: what a backend prints, and what we say of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.machine.diagnose import cause, tail


@pytest.mark.parametrize(
    "text,expected",
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", "out of GPU memory"),
        (
            "ray.exceptions.OutOfMemoryError: 3 worker(s) were killed due to the node running low on memory.",
            "out of memory, so Ray ended the training",
        ),
        ("RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory", "out of memory"),
        ("OSError: [Errno 28] No space left on device", "disk full"),
        ("huggingface_hub.errors.GatedRepoError: 403 Client Error", "a gated model"),
        ("OSError: a/b is not a local folder and is not a valid model identifier", "no such model"),
        ("OSError: We couldn't connect to 'https://hub' to load this file", "the model hub cannot be reached"),
        ("RuntimeError: The server socket has failed to listen: EADDRINUSE", "the port is in use; set MASTER_PORT"),
        ("ModuleNotFoundError: No module named 'flash_attn'", "package flash_attn is missing"),
        ("ValueError: Some keys are not used by the HfArgumentParser: ['foo']", "the backend does not know ['foo']"),
        (
            "x.RewardsFailed: 3 rewards failed; the first: a.py:2: no",
            "3 rewards failed; the first: a.py:2: no; try them",
        ),
        ("__main__.Lost: AgentLoopWorkerTQ died: The actor", "a training process died"),
        ("Lost: A died: The actor died because its node has died. Node Id: a8", "a node of the run was lost"),
        ("vllm.v1.engine.exceptions.EngineDeadError: EngineCore", "a training process died"),
        ("x.NodesMissing: node 1 did not join Ray", "node 1 did not join Ray"),
        ("everything is fine", ""),
    ],
)
def test_a_cause(text: str, expected: str) -> None:
    found = cause(text)
    assert found.startswith(expected) if expected else found == ""


def test_a_kill_from_outside_is_most_often_memory() -> None:
    assert "lack of memory" in cause("", -9)


def test_the_tail_is_the_last_lines_without_blanks(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("\n".join(f"line {n}\n" for n in range(50)) + "progress 1%\rprogress 2%\n")
    assert tail(log, 3).splitlines() == ["line 49", "progress 1%", "progress 2%"]
    assert tail(tmp_path / "none") == ""
