"""Rows that suites read: each is checked at its line of the file before any answer is asked."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from eval.spec import Spec
from recipes.errors import Problem, UserError

LARGEST = 1e60  # no score, loss or count of ours comes near

Row = dict[str, Any]
Line = tuple[int, Row]  # the number of the line in its file, blank ones counted, and its object

REPLIES = "messages, or prompt with chosen and rejected, completion and label, or answer"


def read_jsonl(path: Path | zipfile.Path, limit: int | None = None) -> list[Row]:
    """The objects of a file of JSON lines.

    Raises:
        UserError: with file and line, where a line is no JSON object.
    """
    return [row for _, row in read_lines(path, limit)]


def read_lines(path: Path | zipfile.Path, limit: int | None = None) -> list[Line]:
    """The same with the number of each line.

    Raises:
        UserError: with file and line, where a line is no JSON object.
    """
    rows: list[Line] = []
    for number, line in _lines(path):
        if limit is not None and len(rows) == limit:
            break
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(Problem(file=str(path), line=number, text=f"not JSON: {error}")) from None
        if not isinstance(row, dict):
            raise UserError(Problem(file=str(path), line=number, text=f"expected a JSON object, got {shown(row)}"))
        rows.append((number, row))
    return rows


def _lines(path: Path | zipfile.Path) -> Iterator[tuple[int, str]]:
    try:
        # Only \n and \r\n end a line: str.splitlines would also break at U+2028 inside a text.
        with path.open(encoding="utf-8-sig") as stream:
            yield from ((n, line) for n, line in enumerate(stream, 1) if line.strip())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8; save it as UTF-8") from None


def read_value(path: Path) -> Any:
    """The one value of a JSON file.

    Raises:
        UserError: the file cannot be read, or is none.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8; save it as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {error}") from None


def checked(path: Path | zipfile.Path, lines: Iterable[Line], problem: Callable[[Row], str]) -> list[Row]:
    """The rows, where `problem` has nothing to say of any.

    Raises:
        UserError: what it says of each other row, with file and line.
    """
    lines = list(lines)
    wrong = [Problem(file=str(path), line=number, text=text) for number, row in lines if (text := problem(row))]
    if wrong:
        raise UserError(*wrong)
    return [row for _, row in lines]


def shown(value: object) -> str:
    """A value of a file for a message, as JSON; a long one is cut."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def keys_of(row: Row) -> str:
    return f"a row with {', '.join(map(shown, row))}" if row else "an empty row"


def is_number(value: object) -> bool:
    """Whether sums and squares of such values are numbers too: a test of NaN finds whatever it likes."""
    return isinstance(value, int | float) and abs(value) <= LARGEST


def is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def not_texts(name: str, value: object) -> str:
    """What is wrong with a field that is to hold a list of texts, as reference answers do; "" where nothing is."""
    if is_texts(value):
        return ""
    hint = f"; write [{shown(value)}]" if isinstance(value, str) else ""
    return f"`{name}`: expected a list of texts, got {shown(value)}{hint}"


def not_turns(name: str, value: object) -> str:
    """What is wrong with a field that is to hold the turns of a conversation; "" where nothing is."""
    if not isinstance(value, list) or not value:
        return f"`{name}`: expected a list of messages, got {shown(value)}"
    wrong = [m for m in value if not isinstance(m, dict) or not all(isinstance(m.get(k), str) for k in _TURN)]
    return f"`{name}`: expected messages with role and content as texts, got {shown(wrong[0])}" if wrong else ""


_TURN = ("role", "content")


def half_a_character(row: object) -> str:
    """Why a row cannot be asked that JSON can write and no tokenizer reads; "" where it can."""
    found = _HALF.search(json.dumps(row, ensure_ascii=False))
    return f"it holds half a character (a text cut inside an emoji?): {shown(found[0])}" if found else ""


_HALF = re.compile("[\ud800-\udfff]")


def rows_file(spec: Spec, suite: str) -> str | None:
    """Where a suite's rows stand: its own data, else the validation rows."""
    return spec.data.get(suite) or spec.rows


def rows_of(path: str | None, suite: str, limit: int | None) -> list[Row]:
    """The first rows of a file.

    Raises:
        UserError: there are none, or some are no canonical rows.
    """
    if not path:
        raise UserError(f"{suite}: no rows to score on; give validation rows")
    lines = list(read_lines(Path(path), limit))
    plain = suite == "perplexity" and bool(lines) and is_document(lines[0][1])  # as pretrain holds them out
    problem = _not_document if plain else _problem
    rows = checked(Path(path), lines, lambda row: _prefixed(suite, problem(row)))
    if not rows:
        raise UserError(f"{path}: {suite}: no rows")
    return rows


def is_document(row: Row) -> bool:
    """Whether a row is plain text."""
    return isinstance(row.get("text"), str)


def _not_document(row: Row) -> str:
    return "" if is_document(row) else f"expected text, as the first row has; got {keys_of(row)}"


def _prefixed(suite: str, problem: str) -> str:
    return problem and f"{suite}: {problem}"


def _problem(row: Row) -> str:
    """What is wrong with a canonical row; "" where nothing is."""
    if "messages" in row:
        return not_turns("messages", row["messages"])
    kinds = [key for key in ("chosen", "completion", "answer") if key in row]
    if "prompt" not in row or not kinds:
        return f"expected {REPLIES}; got {keys_of(row)}"
    fields = {"chosen": ("prompt", "chosen", "rejected"), "completion": ("prompt", "completion")}
    if wrong := next((p for name in fields.get(kinds[0], ("prompt",)) if (p := not_turns(name, row.get(name)))), ""):
        return wrong
    if kinds[0] == "completion" and not isinstance(row.get("label"), bool):
        return f"`label`: expected true or false, got {shown(row.get('label'))}"
    if kinds[0] == "answer" and not isinstance(row["answer"], str | int | float):
        return f"`answer`: expected a text, got {shown(row['answer'])}"
    return ""


def conversation(row: Row) -> list[dict[str, str]] | None:
    """The conversation a model should find likely: the reply, the chosen one, or one that is labelled good."""
    if "messages" in row:
        return list(row["messages"])
    if "chosen" in row:
        return [*row["prompt"], *row["chosen"]]
    if row.get("label"):
        return [*row["prompt"], *row["completion"]]
    return None
