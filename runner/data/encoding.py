"""Text that is no UTF-8: recoded as it is read where its encoding is known, and guessed for a message where not."""

from __future__ import annotations

import codecs
import io
import re
from typing import IO

CHUNK = 1 << 16
SAMPLE = 1 << 20  # bytes by which an encoding is guessed
SHOWN = 24  # characters of a guess
# Longer marks first: UTF-32's begins as UTF-16's does.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# The bytes of a language's own letters, and how much of a text they are at least: Japanese has kana in each sentence,
# Korean hardly anything but Hangul, and of the Chinese sets the first parts have what is in daily use.
LETTERS = {
    "shift_jis": (rb"\x82[\x9f-\xf1]|\x83[\x40-\x96]", 0.3),
    "euc_kr": (rb"[\xb0-\xc8][\xa1-\xfe]", 0.8),
    "gb18030": (rb"[\xa1-\xa9\xb0-\xd7][\xa1-\xfe]", 0.8),
    "big5": (rb"[\xa1-\xc6][\x40-\x7e\xa1-\xfe]", 0.8),
}


class NotEncoded(Exception):
    """Bytes that are none of the encoding; `line` is where, `problem` what is wrong."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"{line}: {problem}")
        self.line, self.problem = line, problem


class AsUtf8(io.RawIOBase):
    """The UTF-8 of a stream in another encoding, a chunk at a time.

    Raises, on reading:
        NotEncoded: the stream is not in that encoding.
    """

    def __init__(self, stream: IO[bytes], encoding: str) -> None:
        self._stream, self._encoding = stream, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._left, self._line, self._ended = b"", 1, False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while not self._left and not self._ended:
            chunk = self._stream.read(CHUNK)
            self._ended = not chunk
            try:
                text = self._decoder.decode(chunk, self._ended)
            except UnicodeDecodeError as error:
                before = error.object[: error.start].decode(self._encoding, "replace").count("\n")
                byte = error.object[error.start]
                raise NotEncoded(self._line + before, f"not {self._encoding} (byte 0x{byte:02x})") from None
            self._line += text.count("\n")
            self._left = text.encode("utf-8", "surrogatepass")
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


def marked(head: bytes) -> str | None:
    """The encoding of which a file's first bytes are the mark."""
    return next((name for mark, name in MARKS if head.startswith(mark)), None)


def guesses(sample: bytes) -> dict[str, str]:
    """The encodings that a text which is no UTF-8 may have, the likelier first, each with some of what it makes of it.

    Only whoever knows the text can tell for sure: most bytes mean something in several of them.
    """
    if b"\0" in sample:
        odd = sample[1::2].count(b"\0") >= sample[::2].count(b"\0")
        names = ["utf-16-le" if odd else "utf-16-be"]
    else:
        runs = re.findall(rb"[\x80-\xff]+", sample)
        narrow = "cp1251" if sum(map(len, runs)) > 3 * len(runs) else "cp1252"  # whole words, or letters between others
        own = {name: _own(name, sample) for name in LETTERS}
        wide = next((name for name, (_, least) in LETTERS.items() if own[name] > least), "gb18030")
        names = [wide, narrow] if own[wide] > LETTERS[wide][1] else [narrow, wide]
    return {name: _shown(text) for name in names if (text := _decoded(sample, name))}


def _decoded(sample: bytes, encoding: str) -> str:
    """Empty where it is none of that encoding; a character that the sample cuts does not count."""
    try:
        return codecs.getincrementaldecoder(encoding)().decode(sample)
    except UnicodeDecodeError:
        return ""


def _own(encoding: str, sample: bytes) -> float:
    """The share of the characters beyond ASCII that are those of its language."""
    foreign = [character.encode(encoding) for character in _decoded(sample, encoding) if character > "\x7f"]
    letters = re.compile(LETTERS[encoding][0])
    return sum(bool(letters.fullmatch(character)) for character in foreign) / max(1, len(foreign))


def _shown(text: str) -> str:
    """Some text around the first character that is not ASCII."""
    found = re.search("[^\0-\x7f]", text)
    start = max(0, found.start() - SHOWN // 3) if found else 0
    return " ".join(text[start : start + SHOWN].split())
