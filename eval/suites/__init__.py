"""What is asked: a suite is a module that turns data into samples, answers into records, and records into measures.

A new suite is one file here and its name in `recipes.suites.SUITES`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from eval.encode import Text
from eval.engines.cache import Answer
from eval.engines.requests import Sample
from eval.spec import Spec
from eval.statistics import Measure
from recipes.suites import LM_EVAL, SUITES

__all__ = ["MODULES", "Loaded", "Record", "Sample", "Suite", "Values", "answered", "suite"]

MODULES = {name: f"eval.suites.{name}" for name in (*SUITES, LM_EVAL.rstrip(":"))}

Record = dict[str, Any]  # one line of <suite>.jsonl: the sample's id, what was asked, what was answered, its scores


@dataclass(frozen=True, kw_only=True)
class Values:
    """Where the values of a metric's samples stand in a suite's records, and which way is better.

    key: the record's field that holds the value.
    weight: the field that the sum of values is divided by (tokens, of summed losses); "" for a plain mean.
    subset: only the records whose `subset` is this.
    examples: the records hold replies to read beside each other.
    """

    key: str
    better: Literal["lower", "higher", "neither"]
    weight: str = ""
    subset: str = ""
    examples: bool = False


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A suite's samples; `data` names their source and its hash, `settings` what else determines the numbers.

    `notes` is said on the screen before any is asked.
    """

    samples: list[Sample]
    data: Mapping[str, Any]
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()


class Suite(Protocol):
    """What a suite's module offers.

    Two more are optional: `files(records)` gives further files to leave (path to rows), and `review(records, spec,
    directory)` the records with what someone else says of them.
    """

    def load(self, spec: Spec, text: Text, max_positions: int) -> Loaded:
        """The samples.

        Raises:
            UserError: there is no data for the suite, or it is malformed.
        """
        ...

    def record(self, sample: Sample, answers: list[Answer]) -> Record:
        """What a sample's answers say; pure."""
        ...

    def measures(self, records: list[Record], seed: int) -> dict[str, Measure]:
        """The numbers over all records by metric id; a record with `error` is a failure. Pure, and needs no model."""
        ...

    def values(self, metric: str) -> Values | None:
        """Where a metric's samples stand, for paired tests and examples; None for a bare count."""
        ...


def suite(name: str) -> Suite:
    return importlib.import_module(MODULES[name.partition(":")[0]])  # type: ignore[return-value]


def answered(records: list[Record]) -> tuple[list[Record], int]:
    """The records that have an answer, and the number of failures."""
    good = [record for record in records if "error" not in record]
    return good, len(records) - len(good)
