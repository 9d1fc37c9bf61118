"""A raw row with its place, and what every reader of text needs: unpacking, decoding, bounds, a look at the start."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import IO, Any, cast

from recipes.data_files import File
from runner.data.encoding import SAMPLE, AsUtf8, NotEncoded, guesses, marked

LIMIT = 64 << 20  # bytes of one row; a longer one is a mistake, and would fill the memory many times over
SHOWN_LIMIT = "more than 64 MB"
BUFFER = 1 << 17
MANY = 8  # characters beyond ASCII that are UTF-8 by chance in no other encoding
# What stands in files under a name that is not theirs.
MAGIC = (
    (b"\x1f\x8b", "is gzip; let its name end in .gz"),
    (b"\x28\xb5\x2f\xfd", "is zstd; let its name end in .zst"),
    (b"PAR1", "is parquet; let its name end in .parquet"),
    (b"ARROW1", "is an Arrow file; let its name end in .arrow"),
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
        beside: what the file holds beside its rows and nothing reads; on its first row.
    """

    file: str
    where: str
    value: Any
    problem: str = ""
    beside: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        return f"{self.file}:{self.where}"


@dataclass(frozen=True)
class TextFile:
    """A file of text with its encoding; `opened` gives its bytes as UTF-8."""

    file: File
    encoding: str = "utf-8"

    @property
    def name(self) -> str:
        return self.file.name

    def __str__(self) -> str:
        return str(self.file)


@contextmanager
def opened(path: TextFile) -> Iterator[IO[bytes]]:
    """The text of a file as UTF-8, unpacked where its name ends in .gz or .zst.

    UTF-16 and UTF-32 with a byte order mark are recoded even where UTF-8 is expected: no UTF-8 begins so.

    Raises:
        BadData: it holds something other than text in its encoding, or cannot be unpacked.
    """
    try:
        with _unpacked(path) as stream:
            head = stream.peek(64)[:64]
            is_utf8 = codecs.lookup(path.encoding).name == "utf-8"
            encoding = (marked(head) or "utf-8") if is_utf8 else path.encoding
            _look(path, head, encoding)
            text = stream if encoding == "utf-8" else io.BufferedReader(AsUtf8(cast(IO[bytes], stream), encoding))
            yield cast(IO[bytes], text)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadData(f"{path}: damaged gzip: {error}") from None
    except NotEncoded as error:
        raise BadData(f"{path}:{error.line}: {error.problem}; set the source's encoding") from None


@contextmanager
def _unpacked(path: TextFile) -> Iterator[io.BufferedReader]:
    suffix = PurePath(path.name.lower()).suffix
    with path.file.open("rb") as raw:
        if suffix == ".gz":
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield cast(io.BufferedReader, unpacked)
        elif suffix == ".zst":
            # pyarrow is in every backend's environment, for parquet; a package for zstd alone is in none.
            import pyarrow

            try:
                with io.BufferedReader(pyarrow.CompressedInputStream(raw, "zstd"), BUFFER) as unpacked:
                    yield unpacked
            except OSError as error:
                raise BadData(f"{path}: damaged zstd: {error}") from None
        else:
            yield cast(io.BufferedReader, raw)


def _look(path: TextFile, head: bytes, encoding: str) -> None:
    for magic, text in MAGIC:
        if head.startswith(magic):
            raise BadData(f"{path}: {text}")
    if encoding == "utf-8" and b"\0" in head[:2]:
        likely = next(iter(guesses(head[: len(head) // 2 * 2])), "utf-16-le")
        raise BadData(f"{path}: is UTF-16 without a byte order mark; set the source's encoding: {likely}")


def as_text(stream: IO[bytes]) -> io.TextIOWrapper:
    return io.TextIOWrapper(cast(io.BufferedReader, stream), encoding="utf-8-sig", newline="")


def not_utf8(path: TextFile, error: UnicodeDecodeError, where: str = "") -> str:
    """What is wrong with a text that was to be UTF-8, and which encoding it may have, by its first megabyte."""
    text = f"not UTF-8 (byte 0x{error.object[error.start]:02x}){where}"
    with opened(path) as stream:
        sample = stream.read(SAMPLE)
    try:
        good = codecs.getincrementaldecoder("utf-8")().decode(sample)
        likely = guesses(error.object)
    except UnicodeDecodeError as damage:
        good = sample[: damage.start].decode()
        likely = guesses(sample)
    if sum(character > "\x7f" for character in good) >= MANY:
        return f"{text}, though what stands before is; the byte is damaged, or a part has another encoding"
    if not likely:
        return f"{text}, nor any encoding that is tried; save it as UTF-8 with the program that wrote it"
    shown = " or ".join(f"{name} ({sample!r})" for name, sample in likely.items())
    first = next(iter(likely))
    return f"{text}; it may be {shown}: set the source's encoding: {first}, or iconv -f {first.upper()} -t UTF-8"


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
