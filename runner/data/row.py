"""A raw row with its place, and what every reader of text needs: decoding, bounds, and a look at the first bytes."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

LIMIT = 64 << 20  # bytes of one row; a longer one is a mistake, and would fill the memory many times over
SHOWN_LIMIT = "more than 64 MB"
UTF16 = 'is UTF-16, as Excel\'s "Unicode text"; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)'
# What stands in files under a name that is not theirs.
MAGIC = (
    (b"\xff\xfe", UTF16),
    (b"\xfe\xff", UTF16),
    (b"\x1f\x8b", "is gzip; let its name end in .gz"),
    (b"PAR1", "is parquet; let its name end in .parquet"),
    (b"PK\x03\x04", "is a zip or Excel file; unpack it, or export it as csv"),
    (b"version https://git-lfs", "is a pointer of Git LFS, not the data; run git lfs pull"),
)


class BadData(Exception):
    """Data that cannot be used; the text begins with its place."""


@dataclass(frozen=True)
class Row:
    """One raw row.

    Attributes:
        where: its line, or what else finds it in the file.
        problem: why it cannot be read, where the rows after it can; `value` is None then.
    """

    file: str
    where: str
    value: Any
    problem: str = ""

    @property
    def place(self) -> str:
        return f"{self.file}:{self.where}"


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a text file, unpacked where its name ends in .gz.

    Raises:
        BadData: it holds something other than UTF-8 text, or cannot be unpacked.
    """
    packed = path.name.lower().endswith(".gz")
    try:
        with cast(IO[bytes], gzip.open(path, "rb")) if packed else path.open("rb") as stream:
            _look(path, stream.read(64))
            stream.seek(0)
            yield stream
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadData(f"{path}: damaged gzip: {error}") from None


def _look(path: Path, head: bytes) -> None:
    for magic, text in MAGIC:
        if head.startswith(magic):
            raise BadData(f"{path}: {text}")
    if b"\0" in head[:2]:
        raise BadData(f"{path}: {UTF16}")


def as_text(stream: IO[bytes]) -> io.TextIOWrapper:
    return io.TextIOWrapper(cast(io.BufferedReader, stream), encoding="utf-8-sig", newline="")


def not_utf8(error: UnicodeDecodeError) -> str:
    byte = error.object[error.start]
    return (
        f"not UTF-8 (byte 0x{byte:02x}); where it is Windows-1252 (Latin-1), as older programs write: "
        "iconv -f WINDOWS-1252 -t UTF-8"
    )


def lines(stream: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """Each line with its number; None for one that is over the limit."""
    number = 0
    while line := stream.readline(LIMIT + 1):
        number += 1
        if len(line) <= LIMIT:
            yield number, line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(1 << 20)
        yield number, None
