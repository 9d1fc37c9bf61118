"""Recipes and overrides at the edges: each ends with a recipe or a mistake at its place, never in another exception.

A fuzz of random structures, types, bytes and overrides: 300 by default, 10,000 with RECIPE_THOROUGH=1.
"""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from recipes import UserError, catalogue, find, load_text, schema

COUNT = 10_000 if os.environ.get("RECIPE_THOROUGH") else 300
MINIMAL = b"backend: llamafactory\nmethod: sft\nmodel: {path: a/b}\ndata: {train: [{path: a/b}]}\n"
GRPO = MINIMAL.replace(b"llamafactory", b"verl").replace(b"sft", b"grpo")
SEEDS = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in catalogue().values()]
NAMES = sorted({part for leaf in schema.leaves() for part in leaf.replace("[]", "").split(".")})
TEXTS = (
    "",
    "a/b",
    "~nobody-of-that-name/x",
    "a\0b",
    "\ud800",
    "x" * 300,
    "../" * 200,
    "é" * 200,
    "/dev/null/x",
    "${x}",
)
SCALARS: tuple[Any, ...] = (
    *TEXTS,
    None,
    True,
    0,
    -1,
    3,
    10**400,
    1e308,
    float("nan"),
    float("inf"),
    [],
    {},
    [[]],
    {"": 1},
)
PARTS = (*NAMES, "0", "-1", "²", "٣", "[", "]", "[0]", "", "\udcff", "0x10", "9" * 30)


def outcome(source: bytes, *overrides: str) -> list[str]:
    """The mistakes, each one printable and at a place; empty for a recipe."""
    try:
        load_text(source, Path("r.yaml"), overrides)
    except UserError as error:
        assert error.problems
        for problem in error.problems:
            str(problem).encode()
            assert problem.text and (problem.line or "--set" in str(problem)), problem
        return [str(problem) for problem in error.problems]
    return []


def grown(chance: random.Random, depth: int = 0) -> Any:
    """A value of any shape, with names of the schema for its keys more often than not."""
    kind = chance.randrange(6 if depth < 4 else 3)
    if kind < 3:
        return chance.choice(SCALARS)
    if kind == 3:
        return [grown(chance, depth + 1) for _ in range(chance.randrange(4))]
    keys = [chance.choice(NAMES) if chance.random() < 0.9 else chance.choice(TEXTS) for _ in range(chance.randrange(5))]
    return {key: grown(chance, depth + 1) for key in keys}


def twisted(value: Any, chance: random.Random, rate: float) -> Any:
    """A recipe in which some values became others of any shape."""
    if chance.random() < rate:
        return grown(chance)
    if isinstance(value, dict):
        return {key: twisted(item, chance, rate) for key, item in value.items()}
    return [twisted(item, chance, rate) for item in value] if isinstance(value, list) else value


def override(chance: random.Random) -> str:
    known = list(schema.leaves())
    path = chance.choice(known).replace("[]", "[0]") if chance.random() < 0.6 else ""
    path = path or ".".join(chance.choice(PARTS) for _ in range(chance.choice((1, 2, 3, 60))))
    value = chance.choice(
        (json.dumps(grown(chance)), str(chance.choice(TEXTS)), "0x" + "f" * 5000, "[" * 60, "!!x", "*a")
    )
    return f"{path}={value}" if chance.random() < 0.97 else path


def test_any_recipe_and_any_override_end_at_a_place() -> None:
    chance, good = random.Random(7), 0
    for _ in range(COUNT):
        source = json.dumps(twisted(chance.choice(SEEDS), chance, chance.choice((0.0, 0.01, 0.06)))).encode()
        if chance.random() < 0.2:
            place = chance.randrange(len(source))
            source = source[:place] + chance.randbytes(chance.randrange(1, 4)) + source[place + 1 :]
        good += not outcome(source, *(override(chance) for _ in range(chance.choice((0, 0, 1, 3)))))
    assert COUNT / 200 < good < COUNT  # the random recipes are not all hopeless


@pytest.mark.parametrize(
    "given,expected",
    [
        ("description=\udcff\udcfe", "bytes that are not UTF-8"),
        ("training.max_steps=0x" + "f" * 5000, "a number of more than 308 digits is not allowed"),
        ("a" + ".a" * 5000 + "=1", "nested more than 40 levels deep"),
        ("data.train[²].path=x", "no such place in this recipe"),
        (f"model.path=./{'x' * 300}", "model.path: "),
        ("model.path=~nobody-of-that-name/x", "model.path: "),
        ('model.path="a\\0b"', "holds a NUL"),
        ('model.path="\\ud800"', "model.path: "),
        (f"data.train=[{{path: ./{'x' * 300}.jsonl}}]", "data.train[0].path: "),
        ("eval={suites: [perplexity], scorer: 'embedding:~nobody-of-that-name'}", "eval.scorer: "),
        ("eval={suites: [qmsum], combined_score: '" + "(" * 3000 + "'}", "nested more than 50 levels deep"),
        ("eval={suites: [qmsum], combined_score: '" + "-" * 100_000 + "1'}", "nested more than 50 levels deep"),
    ],
)
def test_an_odd_override_is_a_mistake_at_its_place(given: str, expected: str) -> None:
    found = outcome(MINIMAL, given)
    assert any(expected in text for text in found), [text[:300] for text in found]


def test_a_reward_file_that_python_cannot_parse_is_named(tmp_path: Path) -> None:
    (tmp_path / "rewards.py").write_text("x = " + "-" * 100_000 + "1\n", encoding="utf-8")
    found = outcome(GRPO, f"grpo={{rewards: [{{type: function, path: '{tmp_path}/rewards.py:f'}}]}}")
    assert any("grpo.rewards[0].path: " in text and "too deep" in text for text in found), found


def test_a_character_that_yaml_has_not_is_named_with_its_line() -> None:
    assert outcome(MINIMAL + b"description: a\x07b\n") == ["r.yaml:5:15: character '\\x07' is not allowed in YAML"]


@pytest.mark.parametrize("place", ["", "training: ", "backend_options: "])
def test_thousands_of_unknown_keys_are_a_few_lines_at_once(place: str) -> None:
    from adapters import backend
    from adapters.contract import Topology

    keys = ", ".join(f"learning_rat{n}: 1" for n in range(20_000))
    source = MINIMAL + (f"{place}{{{keys}}}\n" if place else keys.replace(", ", "\n") + "\n").encode()
    started = time.process_time()
    found = outcome(source)
    if place.startswith("backend_options"):
        loaded = load_text(source, Path("r.yaml"))
        found = [str(p) for p in backend("llamafactory").problems(loaded, Topology())]
    assert 1 < len(found) <= 52 and time.process_time() - started < 6


def test_a_name_that_is_no_path_is_an_error() -> None:
    with pytest.raises(UserError, match="no path: File name too long"):
        find("x" * 300)
