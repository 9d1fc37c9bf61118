"""Answers that survive a kill, and are never another model's."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eval.engines.cache import AnswerCache
from eval.hashes import data_hash, json_hash, model_hash, weight_files

IDENTITY = {"model": "m1", "tokenizer": "t"}


def test_answers_are_found_again(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "a.jsonl", IDENTITY)
    key = cache.key({"ids": [1, 2]})
    cache.add([(key, {"text": "déjà\u2028vu"})])
    assert AnswerCache(tmp_path / "a.jsonl", IDENTITY).get(key) == {"text": "déjà\u2028vu"}


def test_another_model_finds_nothing(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "a.jsonl", IDENTITY)
    cache.add([(cache.key({"ids": [1]}), {"text": "x"})])
    other = AnswerCache(tmp_path / "a.jsonl", {**IDENTITY, "model": "m2"})
    assert other.get(other.key({"ids": [1]})) is None


def test_failures_are_tried_again(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "a.jsonl", IDENTITY)
    cache.add([("k", {"error": "out of memory"})])
    assert cache.get("k") is None
    assert not cache.path.exists()


@pytest.mark.parametrize("torn", [b'{"key": "b", "ans', b'{"key": "b"}', b"\xff\xfe", b"null"])
def test_a_torn_last_line_costs_only_itself(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "a.jsonl"
    AnswerCache(path, IDENTITY).add([("a", {"text": "1"})])
    with path.open("ab") as stream:
        stream.write(torn)
    reopened = AnswerCache(path, IDENTITY)
    reopened.add([("c", {"text": "3"})])
    assert AnswerCache(path, IDENTITY).answers == {"a": {"text": "1"}, "c": {"text": "3"}}


WRITER = """
import sys
from pathlib import Path
from eval.engines.cache import AnswerCache
cache = AnswerCache(Path(sys.argv[1]), {})
while True:
    n = len(cache.answers)
    cache.add((str(m), {"text": str(m) * 50}) for m in range(n, n + 5))
    print(n, flush=True)
"""


def test_killed_at_random_moments_nothing_answered_is_lost(tmp_path: Path) -> None:
    """Each start finds every answer that was reported as kept before the kill."""
    path, draw, kept = tmp_path / "a.jsonl", random.Random(3), 0
    for _ in range(5):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            assert int(child.stdout.readline()) >= kept
            time.sleep(draw.uniform(0.005, 0.05))
            os.kill(child.pid, signal.SIGKILL)
            kept = max(int(line) + 5 for line in ["0", *child.stdout.read().split()] if line) - 5
        assert {str(n) for n in range(kept)} <= set(AnswerCache(path, {}).answers)


def _model(directory: Path, weights: bytes = b"w", config: str = "{}") -> Path:
    directory.mkdir()
    (directory / "model.safetensors").write_bytes(weights)
    (directory / "config.json").write_text(config)
    return directory


def test_model_hash_is_of_the_content(tmp_path: Path) -> None:
    """Equal content has an equal hash wherever it lies; weights, settings and the base all count."""
    one, same = _model(tmp_path / "one"), _model(tmp_path / "same")
    weights, config = _model(tmp_path / "weights", b"v"), _model(tmp_path / "config", config='{"a": 1}')
    (same / "training_args.bin").write_bytes(b"not the model")
    (same / "README.md").write_text("nor this")
    assert model_hash(one) == model_hash(same)
    assert len({model_hash(d) for d in (one, weights, config)} | {model_hash(one, weights)}) == 4
    assert [p.name for p in weight_files(same)] == ["model.safetensors"]


def test_json_hash_ignores_the_order_of_keys() -> None:
    assert json_hash({"a": 1, "b": [2]}) == json_hash({"b": [2], "a": 1})


def test_data_hash_of_a_directory_is_of_all_its_files(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("1")
    first = data_hash(tmp_path)
    (tmp_path / "b.jsonl").write_text("2")
    assert data_hash(tmp_path) != first
