"""What went wrong outside the user's recipe: a backend, an installation, a full disk; exit code 1."""

from __future__ import annotations

import errno
from pathlib import Path


class Failure(Exception):
    """A step failed: what, the probable cause where one is known, and where to read on."""

    def __init__(self, what: str, *, cause: str = "", tail: str = "", log: Path | None = None) -> None:
        super().__init__(what)
        self.what, self.cause, self.tail, self.log = what, cause, tail, log

    def __str__(self) -> str:
        return self.text(self.tail)

    def text(self, tail: str = "") -> str:
        """All of it, by default without the log's last lines."""
        parts = [f"failed: {self.what}", *(f"  | {line}" for line in tail.splitlines())]
        if self.cause:
            parts.append(f"probable cause: {self.cause}")
        if self.log:
            parts.append(f"log: {self.log}")
        return "\n".join(parts)


def out_of_room(error: OSError) -> Failure | None:
    """A failure in words where a disk or a quota is full, or cannot be written; None for any other error."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG):
        return None
    where = f"{error.filename}: " if error.filename else ""
    return Failure(f"{where}{error.strerror}", cause="free some room; a run goes on with `recipe resume`")
