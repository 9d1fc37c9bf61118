"""JSON read as it is needed: one value after another out of a text of any length, strictly as JSON has it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, TextIO

from runner.data.row import LIMIT, SHOWN_LIMIT, BadData, TextFile, not_utf8

CHUNK = 1 << 20
DIGITS = 4300  # what Python turns into a number
SPACE = re.compile(r"[ \t\r\n]*")
STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\Z)|[\[\]{}]', re.DOTALL)
DEEP = "nested too deep"


class Parser:
    """`json` with what it passes over: keys given twice, and numbers that Python refuses without their place."""

    def __init__(self) -> None:
        self.problem = ""
        self._decoder = json.JSONDecoder(object_pairs_hook=self._object, parse_int=self._integer)

    def parse(self, text: str, start: int) -> tuple[Any, int]:
        """The value that begins at `start`, and its end; `problem` says what is wrong with it.

        Raises:
            json.JSONDecodeError, RecursionError: no value could be read.
        """
        self.problem = ""
        value, end = self._decoder.raw_decode(text, start)
        return (None if self.problem else value), end

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            names = [name for name, _ in pairs]
            self.problem = f"key {next(n for n in names if names.count(n) > 1)[:80]!r} stands twice in one object"
        return value

    def _integer(self, text: str) -> int:
        if len(text) > DIGITS:
            self.problem = f"a number of {len(text):,} digits"
            return 0
        return int(text)


def skip(text: str, start: int) -> int:
    found = SPACE.match(text, start)
    return found.end() if found else start


class Cursor:
    """A place in a text that is read as it is needed."""

    def __init__(self, stream: TextIO, path: TextFile) -> None:
        self._stream, self._path = stream, path
        self._buffer, self._at = "", 0
        self._parser = Parser()
        self.line = 1
        self.inside = "array"  # or object: what is being read

    def peek(self) -> str:
        """The next character that is no space, empty at the end."""
        while True:
            end = skip(self._buffer, self._at)
            self._go(end)
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._more(CHUNK):
                return ""

    def take(self, wanted: str) -> None:
        found = self.peek()
        if found != wanted:
            raise self.bad(
                f"expected {wanted!r}, got {found!r}" if found else f"the file ends inside the {self.inside}"
            )
        self._at += 1

    def items(self) -> Iterator[tuple[int, Any, str]]:
        """Each item of the array that begins here: its line, its value, and what is wrong with it."""
        self.inside = "array"
        self.take("[")
        first = True
        while self.peek() != "]" or not first:
            first = False
            line = self.line
            value, problem = self.value()
            yield line, value, problem
            if self.peek() == "]":
                break
            self.take(",")
            self.peek()
        self.take("]")

    def members(self) -> Iterator[str]:
        """Each key of the object that begins here; whoever takes one reads its value before the next."""
        self.inside = "object"
        self.take("{")
        seen: set[str] = set()
        while self.peek() != "}" or seen:
            if self.peek() != '"':
                raise self.bad("expected a key in double quotes")
            key = str(self.value()[0])
            if key in seen:
                raise self.bad(f"key {key[:80]!r} stands twice in one object")
            seen.add(key)
            self.take(":")
            self.peek()
            yield key
            self.inside = "object"
            if self.peek() == "}":
                break
            self.take(",")
        self.take("}")

    def value(self) -> tuple[Any, str]:
        """The value that begins here, and what is wrong with it."""
        size = CHUNK
        while True:
            try:
                value, end = self._parser.parse(self._buffer, self._at)
            except RecursionError:
                self._skip_value()
                return None, DEEP
            except json.JSONDecodeError as error:
                # Not only the text of this chunk that ends too early: no more of it would mend this.
                final = error.pos < len(self._buffer) - 20 and not error.msg.startswith(("Unterminated", "Invalid \\"))
                ahead = error.pos - self._at  # reading more moves the buffer
                if final or not self._more(size):
                    self._go(min(self._at + ahead, len(self._buffer)))
                    raise self.bad(error.msg) from None
            else:
                # A number at the end of the chunk may go on in the next.
                if end < len(self._buffer) or not self._more(size):
                    self._go(end)
                    return value, self._parser.problem
            size *= 2

    def _skip_value(self) -> None:
        """Go over a value that is too deep to be parsed."""
        size = CHUNK
        while True:
            depth = 0
            for found in STRUCTURE.finditer(self._buffer, self._at):
                depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(found[0], 0)
                if depth == 0:
                    self._go(found.end())
                    return
            if not self._more(size):
                raise self.bad("the row does not end")
            size *= 2

    def _more(self, size: int) -> bool:
        rest = self._buffer[self._at :]
        if len(rest) > LIMIT:
            raise BadData(f"{self._path}:{self.line}: a row of {SHOWN_LIMIT} begins here")
        try:
            text = self._stream.read(size)
        except UnicodeDecodeError as error:
            raise BadData(f"{self._path}:{self.line}: {not_utf8(self._path, error, ', here or below')}") from None
        self._buffer, self._at = rest + text, 0
        return bool(text)

    def _go(self, end: int) -> None:
        self.line += self._buffer.count("\n", self._at, end)
        self._at = end

    def bad(self, text: str) -> BadData:
        return BadData(f"{self._path}:{self.line}: not JSON: {text}")
