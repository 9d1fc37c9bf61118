"""Splices the backend's metrics of each attempt into one metrics.jsonl under unified names, no step twice."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.contract import Backend
from recipes.files import write_text
from runner.files import NewLines

Line = Mapping[str, Any]  # of a metrics file, ours or a backend's
TRAINING = ("loss", "reward")


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What a token a second is worth, where it is known.

    supervised: how many of an epoch's tokens have loss, as a share. mfu: of one token a second.
    """

    supervised: float | None = None
    mfu: float | None = None


NOTHING = Rates()


class Splicer:
    """Follows one attempt's file and appends what is new to metrics.jsonl.

    Args:
        seen: called with the unified values of each new line.
        begin: called with the total number of steps when the backend tells it.
        rates: what is told beside tokens a second.
    """

    def __init__(
        self,
        source: Path,
        target: Path,
        backend: Backend,
        seen: Callable[[dict[str, float]], None],
        begin: Callable[[int], None] = lambda total: None,
        *,
        rates: Rates = NOTHING,
    ) -> None:
        self.new, self.target, self.backend = NewLines(source), target, backend
        self.seen, self.begin, self.rates = seen, begin, rates
        self.bad: str | None = None  # the first step whose loss is not a number
        self.last = {kind: _last(target, kind) for kind in ("train", "eval")}

    def __call__(self) -> None:
        for line in self.new():
            self._line(json.loads(line))

    def _line(self, raw: Line) -> None:
        total = self.backend.total_steps(raw)
        if total is not None:
            self.begin(total)
            return
        values = self.backend.read_metrics(raw)
        if values is None:
            return
        if values.get("step_time_s") and "tokens" in values:
            values["tokens_per_s"] = values["tokens"] / values["step_time_s"]
            if self.rates.supervised:
                values["supervised_tokens_per_s"] = values["tokens_per_s"] * self.rates.supervised
            if self.rates.mfu:
                values["mfu"] = values["tokens_per_s"] * self.rates.mfu
        kind = "train" if any(name in values for name in TRAINING) else "eval"
        if values["step"] <= self.last[kind]:
            return  # an evaluation repeated at the end, or a step repeated after a resume
        self.last[kind] = values["step"]
        loss = values.get("loss", 0.0)
        if loss != loss and self.bad is None:
            self.bad = f"{values['step']:.0f}"
        with self.target.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(values | {"step": int(values["step"])}) + "\n")
        self.seen(values)


def _last(path: Path, kind: str) -> float:
    steps = [line["step"] for line in _lines(path) if (kind == "train") == any(n in line for n in TRAINING)]
    return max(steps, default=-1)


def _lines(path: Path) -> list[Line]:
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:  # torn by a kill: everything after it is written again
            break
    return found


def raw_lines(path: Path) -> list[Line]:
    """The lines of a backend's own metrics file, up to one that a kill has torn."""
    return _lines(path)


def trim(path: Path, backend: Backend, step: int, *, total: bool) -> None:
    """Take out of a backend's own file the steps after one, and without `total` how many there were to be in all."""

    def stays(line: Line) -> bool:
        if backend.total_steps(line) is not None:
            return total
        values = backend.read_metrics(line)
        return values is None or values["step"] <= step

    if path.is_file():
        write_text(path, "".join(json.dumps(line) + "\n" for line in _lines(path) if stays(line)))


def recover(target: Path, earlier: Sequence[Path], backend: Backend, step: int, *, rates: Rates = NOTHING) -> float:
    """Make metrics.jsonl whole up to a step: a resume from its checkpoint does the later ones again.

    Returns the last step that it has of the training; -1 where it has none.

    A runner that was killed may not have read all that its backend wrote: `earlier` are the files of past attempts.
    """
    cut(target, sys.maxsize)
    for source in earlier:
        Splicer(source, target, backend, lambda values: None, rates=rates)()
    cut(target, step)
    return _last(target, "train")


def cut(path: Path, step: int) -> None:
    """Take out what lies after a step, and a line that a kill has torn."""
    write_text(path, "".join(json.dumps(line) + "\n" for line in _lines(path) if line["step"] <= step))
