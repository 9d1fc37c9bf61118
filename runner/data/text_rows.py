"""Rows out of plain text, each of one field `text`: its paragraphs, its lines, or the whole file."""

from __future__ import annotations

from collections.abc import Iterator

from runner.data.row import LIMIT, SHOWN_LIMIT, BadData, Row, TextFile, lines, not_utf8, opened


def read(path: TextFile, by: str) -> Iterator[Row]:
    r"""The rows of a file of text; what is blank is none. Lines end in \n or \r\n, and are joined by \n.

    Args:
        by: paragraph (set off by lines that are empty or hold spaces only), line, or file.
    """
    held: list[str] = []
    start, size = 1, 0
    for number, line in _lines(path):
        blank = line is not None and not line.strip()
        if by == "paragraph" and blank:
            yield from _row(path, start, held, size, by)
            held, size = [], 0
            continue
        start = number if not size else start
        size += LIMIT + 1 if line is None else len(line) + 1
        if size > LIMIT or line is None:
            held = []
        else:
            held.append(line)
        if by == "line":
            yield from _row(path, start, held, size, by)
            held, size = [], 0
    yield from _row(path, start, held, size, by)


def _row(path: TextFile, start: int, held: list[str], size: int, what: str) -> Iterator[Row]:
    """The row of these lines, where there is one."""
    if size > LIMIT:
        yield Row(str(path), str(start), None, f"a {what} of {SHOWN_LIMIT}")
    elif any(line.strip() for line in held):
        yield Row(str(path), str(start), {"text": "\n".join(held)})


def _lines(path: TextFile) -> Iterator[tuple[int, str | None]]:
    """Each line without what ends it, or None for one over the limit."""
    with opened(path) as stream:
        for number, line in lines(stream):
            try:
                text = None if line is None else line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise BadData(f"{path}:{number}: {not_utf8(path, error)}") from None
            yield number, None if text is None else text.removesuffix("\n").removesuffix("\r")
