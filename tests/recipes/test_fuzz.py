"""Damaged recipes, in their bytes and in their values: each is a recipe still, or an error with a place."""

from __future__ import annotations

import random
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from recipes import UserError, catalogue, load_text
from runner.training.planning import check, machines_of

COUNT = 2000
SEEDS = [path.read_bytes() for path in catalogue().values()]
WORDS = rb"[ { ] } : - &a *a !! | > ' % @ ` ~ null 1e999 -.inf .nan 0x 0o9 __ \" ?"
JUNK = [*WORDS.split(), b": ", b"- ", b"\t", b"\x00", b"\xff", b"\xf0\x9f", b"<<: *a"]
WORDS = b"null true [] {} -1 1e400 '' abc [[1]] {a:1} 2026-01-01 *x !!x"
VALUES = [*WORDS.split(), b"{a: 1}", b"9" * 400, b"!!int x", b"!!binary =", b"&x 1"]


def damaged(text: bytes, chance: random.Random) -> bytes:
    """A recipe with one to four mutations: dropped, doubled, retyped, misspelt, nested or binary."""
    for _ in range(chance.randint(1, 4)):
        lines = text.split(b"\n")
        n = chance.randrange(len(lines))
        kind = chance.randrange(8)
        if kind == 0:
            del lines[n]
        elif kind == 1:
            lines.insert(n, lines[n])
        elif kind == 2:
            lines[n] = lines[n].partition(b":")[0] + b": " + chance.choice(VALUES)
        elif kind == 3 and lines[n]:
            place = chance.randrange(len(lines[n]))
            lines[n] = lines[n][:place] + bytes([chance.randrange(256)]) + lines[n][place + 1 :]
        elif kind == 4:
            lines[n] = b" " * chance.randint(1, 5) + lines[n]
        elif kind == 5:
            place = chance.randint(0, len(lines[n]))
            lines[n] = lines[n][:place] + chance.choice(JUNK) + lines[n][place:]
        elif kind == 6:
            lines[n] = lines[n] + b" " + b"[" * chance.choice([1, 30, 3000])
        else:
            lines[n] = chance.randbytes(chance.randint(1, 30))
        text = b"\n".join(lines) or b"x"
    return text


def test_a_damaged_recipe_never_gives_a_traceback() -> None:
    chance, refused = random.Random(20), 0
    for _ in range(COUNT):
        text = damaged(chance.choice(SEEDS), chance)
        try:
            load_text(text, Path("fuzz.yaml"), sources_needed=False)
        except UserError as error:
            refused += 1
            assert error.problems, text
            for problem in error.problems:
                assert problem.file == "fuzz.yaml" and problem.text, (problem, text)
                assert problem.line, (problem, text)
    assert refused > COUNT / 2


ODD: list[Any] = [
    None, True, 0, -1, 1.5, -0.0, 10**400, float("inf"), float("nan"), "", ".", "..", "/", "~", "~nobody/x", "a\0b",
    "\u202e", "${x}", "{{", "x" * 5000, "./" + "x" * 300, "/dev/null", "*", "[a", "on", "1e3", "2026-01-01", "a/b/c",
    "http://x/y", [], {}, [None], [[]], [{}], ["sft"], {"a": None}, {"": ""}, {1: 2}, {"path": "a/b"}, [{"path": None}],
]  # fmt: skip
KEYS = (
    "per_device_train_batch_size",
    "optim",
    "deepspeed",
    "trainer",
    "data",
    "actor_rollout_ref",
    "a.b",
    "é",
    "",
    "_",
)


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Each mapping or list of a document, with each of its keys."""
    for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        yield node, key
        yield from places(node[key])


def test_an_odd_value_anywhere_never_gives_a_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `recipe validate` sees it, the backend's own checks included."""
    monkeypatch.chdir(tmp_path)
    chance, good = random.Random(21), 0
    for _ in range(COUNT // 2):
        recipe = yaml.safe_load(chance.choice(SEEDS))
        for _ in range(chance.choice([1, 1, 1, 3])):
            node, key = chance.choice(list(places(recipe)) or [({}, "")])
            node[key] = deepcopy(chance.choice(ODD))
        if chance.random() < 0.3:
            recipe["backend_options"] = {chance.choice(KEYS): chance.choice(ODD)}
        text = yaml.safe_dump(recipe).encode()
        try:
            loaded = load_text(text, Path("fuzz.yaml"))
            check(loaded, machines_of(loaded))
            good += 1
        except UserError as error:
            assert error.problems and all(problem.text for problem in error.problems), text
    assert good
