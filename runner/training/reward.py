"""Scores sample replies with a recipe's rewards, before any training: `recipe reward try`. Needs no backend."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from eval.rows import Row
from recipes import LoadedRecipe, UserError
from recipes.data_files import there
from recipes.encode import BadRow
from recipes.paths import local_path, scheme
from recipes.rewards import RewardError, load, score
from recipes.types import Source
from runner.data.formats import convert, detect
from runner.data.read import BadData, read

ROWS = 3
SHOWN = 40  # characters of a reply in the table


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One reply with what it earned; `kind` says where the reply comes from."""

    kind: str
    reply: str
    answer: str
    reward: float
    parts: Mapping[str, float]


def try_rewards(loaded: LoadedRecipe, reply: str | None, replies: Path | None, answer: str | None) -> list[Tried]:
    """Score one reply, a file of replies, or (by default) replies made of the recipe's own rows.

    Args:
        answer: the reference, in place of the first row's.

    Raises:
        UserError: the recipe is not GRPO's, its rows cannot be read here, or a reward fails.
    """
    if loaded.recipe.method != "grpo":
        text = f"{loaded.recipe.method} has no rewards; allowed: grpo"
        raise UserError(loaded.document.problem(("method",), text))
    if answer is not None and reply is None:
        raise UserError("--answer is the reference of --reply; give both")
    if reply is not None:
        asked = [("given", reply, _row(loaded, answer))]
    elif replies:
        asked = list(_given(replies, loaded))
    else:
        asked = list(_samples(list(islice(_rows(loaded), ROWS + 1))))
    try:
        rewards = load(loaded.recipe.grpo.rewards)
        found = [(kind, text, row["answer"], score(rewards, text, row["answer"], row)) for kind, text, row in asked]
    except RewardError as error:
        raise UserError(str(error)) from None
    return [
        Tried(kind=kind, reply=text, answer=wanted, reward=got.total, parts=got.parts)
        for kind, text, wanted, got in found
    ]


def _samples(rows: list[Row]) -> Iterator[tuple[str, str, Row]]:
    """For each row: its answer, no reply at all, and the answer to another row."""
    for n, row in enumerate(rows[:ROWS]):
        other = next((r["answer"] for r in [*rows[n + 1 :], *rows[:n]] if r["answer"] != row["answer"]), None)
        yield "the answer", row["answer"], row
        yield "empty", "", row
        yield "a wrong one", f"not {row['answer']}" if other is None else other, row


def _row(loaded: LoadedRecipe, answer: str | None) -> Row:
    return next(_rows(loaded)) if answer is None else {"prompt": [], "answer": answer}


def _given(file: Path, loaded: LoadedRecipe) -> Iterator[tuple[str, str, Row]]:
    """JSON lines of `reply` and `answer`, or of a run's rollouts (`output`, `gts`); else the recipe's rows in order."""
    place, given = str(file), []
    try:
        for n, line in enumerate(file.read_text(encoding="utf-8").split("\n"), start=1):
            if line.strip():
                place = f"{file}:{n}"
                one = json.loads(line)
                given.append((n, one.get("reply", one.get("output")), one.get("answer", one.get("gts"))))
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f'--replies {place}: {error}; write JSON lines such as {{"reply": "4"}}') from None
    rows = _rows(loaded) if any(answer is None for _, _, answer in given) else iter(())
    for n, text, answer in given:
        if not isinstance(text, str):
            raise UserError(f"{file}:{n}: no text under 'reply' or 'output'")
        row = next(rows, None) if answer is None else {"prompt": [], "answer": str(answer)}
        if row is None:
            raise UserError(f"{file}:{n}: no 'answer', and the recipe has no more rows to take one from")
        yield f"line {n}", text, row


def _rows(loaded: LoadedRecipe) -> Iterator[Row]:
    """The canonical rows of the recipe's training sources."""
    found = False
    for index, source in enumerate(loaded.recipe.data.train):
        place = ("data", "train", index, "path")
        for path in source.paths:
            if scheme(path) or not there(local_path(path, loaded.path.parent) or Path(path)):
                text = "is read inside a run only; give --reply and --answer"
                raise UserError(loaded.document.problem(place, f"{path} {text}"))
        try:
            for row in _converted(source, loaded.recipe.data.seed):
                found = True
                yield row
        except (BadRow, BadData) as error:
            raise UserError(str(error)) from None
        except ModuleNotFoundError:
            text = "parquet, Arrow and .zst are read inside a run only; give --reply and --answer"
            raise UserError(loaded.document.problem(place, text)) from None
    if not found:
        raise UserError(loaded.document.problem(("data", "train"), "the sources are empty"))


def _converted(source: Source, seed: int) -> Iterator[Row]:
    for raw in read(source, seed=seed):
        try:
            if raw.problem:
                raise BadRow(raw.problem)
            name = detect(raw.value, "grpo", source.columns) if source.format == "auto" else source.format
            yield convert(raw.value, name, source).row
        except BadRow as error:
            raise BadRow(f"{raw.place}: {error}") from None


def text(tried: list[Tried]) -> str:
    """A table: each reward's own value, and the weighted sum."""
    from runner.runs.show import table

    names = list(tried[0].parts) if tried else []
    rows = [("reply", "text", "reference", *names, "reward")]
    for t in tried:
        values = (f"{t.parts[name]:.3g}" for name in names)
        rows.append((t.kind, _short(t.reply), _short(t.answer), *values, f"{t.reward:.3g}"))
    return table(rows)


def _short(value: str) -> str:
    shown = json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= SHOWN else f"{shown[: SHOWN - 1]}…"
