"""What an evaluation leaves: results.json with its numbers and how they were measured, and the records behind them."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from eval.hashes import file_hash
from eval.report.curves import Training
from eval.report.records import read_records
from eval.rows import Row, is_texts, shown
from eval.statistics import Measure
from recipes.errors import UserError
from recipes.files import write_jsonl
from recipes.suites import records_file
from recipes.typed import read_typed, write_typed

FILE = "results.json"
LONGEST_NAME = 255  # bytes of a file's name
LARGEST = sys.float_info.max / 2  # the difference of two such numbers is a number
MOST = 10**15  # samples
DEEPEST = 50  # levels of a setting's value
NOT_PLAIN = f"expected finite numbers, and values nested at most {DEEPEST} levels deep"


@dataclass(frozen=True, kw_only=True)
class ModelProvenance:
    """The model that was scored: where it lies, and hashes of its files, tokenizer and chat template."""

    path: str
    base: str | None
    hash: str
    tokenizer: str
    template: str


@dataclass(frozen=True, kw_only=True)
class SuiteProvenance:
    """The data of a suite (path, hash of the file, hash of what was used of it) and what else made its numbers.

    engine: where the suite was answered by another engine than the others, that one.
    records: hash of the file of its records; empty in results from before it was kept.
    """

    data: Mapping[str, Any]
    settings: Mapping[str, Any]
    seconds: float
    engine: Mapping[str, Any] = field(default_factory=dict)
    records: str = ""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """How numbers were measured: two are comparable where this says the same."""

    name: str
    model: ModelProvenance
    engine: Mapping[str, Any]
    seed: int
    suites: Mapping[str, SuiteProvenance]
    versions: Mapping[str, str]
    run: Mapping[str, Any]

    def engine_of(self, suite: str) -> Mapping[str, Any]:
        """The engine that answered a suite."""
        found = self.suites.get(suite)
        return (found.engine if found else None) or self.engine


@dataclass(frozen=True, kw_only=True)
class Results:
    """The content of results.json."""

    metrics: Mapping[str, Measure]
    provenance: Provenance


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One evaluated model.

    Args:
        name: as it is shown.
        results: the content of results.json.
        records: the lines of each `<suite>.jsonl`, by suite.
        training: figures of the run that made it; empty for a base model.
        recipe: the resolved recipe, nested, for what differs between runs.
        seed: of its training; None where nothing was trained, or the run does not say.
        trained_as: a hash of all that its training follows from but the seed; empty where the run does not say.
        members: of a group, the models that differ in the training seed alone (eval/report/seeds.py).
    """

    name: str
    results: Results
    records: Mapping[str, list[Row]] = field(default_factory=dict)
    training: Training = field(default_factory=Training)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    trained_as: str = ""
    members: tuple[Entry, ...] = ()

    @property
    def metrics(self) -> Mapping[str, Measure]:
        return self.results.metrics

    @property
    def provenance(self) -> Provenance:
        return self.results.provenance

    @property
    def is_base(self) -> bool:
        """Whether no run trained it."""
        return self.provenance.run.get("tuning") == "none"

    def value(self, metric: str) -> float | None:
        found = self.metrics.get(metric)
        return found.value if found else None


def write_results(directory: Path, results: Results, records: Mapping[str, list[Row]]) -> None:
    """Write the records of suites, and then results.json with their hashes.

    An evaluation does so once, at its end: where it is killed before, what an earlier one left stays whole; where it is
    killed between the two, the hashes tell that these records are not those of results.json (`read_entry`).
    """
    suites = dict(results.provenance.suites)
    for name, rows in records.items():
        path = directory / records_file(name)
        write_jsonl(path, rows)
        suites[name] = replace(suites[name], records=file_hash(path))
    write_typed(directory / FILE, replace(results, provenance=replace(results.provenance, suites=suites)))


def read_results(directory: Path) -> Results:
    """The results in an evaluation's output directory.

    Raises:
        UserError: there are none, or they are damaged.
    """
    path = directory / FILE
    try:
        found = read_typed(Results, path)
    except OSError:
        raise UserError(f"{path}: no results; run `recipe eval` first") from None
    except ValueError as error:
        raise UserError(f"{path}: not the results of an evaluation: {error}") from None
    if problem := _problem(found):
        raise UserError(f"{path}: not the results of an evaluation: {problem}")
    return found


def _problem(results: Results) -> str:
    """What no evaluation writes, though its type is right; "" where there is nothing such."""
    for name, suite in results.provenance.suites.items():
        # A received run's may say anything, and the file of its records is opened by it.
        if not name.isprintable() or "/" in name or len(records_file(name).encode()) > LONGEST_NAME:
            return f"provenance.suites: {shown(name)} names no file of records"
        if not is_texts(suite.settings.get("lower_is_better", [])):
            return f"provenance.suites.{name}.settings.lower_is_better: expected a list of texts"
        if not all(map(_is_plain, (suite.data, suite.settings, suite.engine))):
            return f"provenance.suites.{name}: {NOT_PLAIN}"
    for name, measure in results.metrics.items():
        values = (measure.value, *(measure.ci95 or ()))
        if not all(value is None or abs(value) <= LARGEST for value in values):
            return f"metrics.{name}: expected numbers up to {LARGEST:.2g}, got {shown(values)}"
        if not (0 <= measure.n <= MOST and 0 <= measure.failures <= MOST):
            return f"metrics.{name}: expected counts of samples, got {shown([measure.n, measure.failures])}"
    own = results.provenance
    return "" if _is_plain(own.engine) and _is_plain(own.run) else f"provenance: {NOT_PLAIN}"


def _is_plain(value: object) -> bool:
    """Whether a JSON value can be walked through and written again."""
    level = [value]
    for _ in range(DEEPEST):
        if not all(math.isfinite(one) for one in level if isinstance(one, float)):
            return False
        level = [inner for one in level for inner in _inside(one)]
    return not level


def _inside(value: object) -> Iterable[object]:
    return value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()


def read_entry(
    directory: Path, name: str, training: Training | None = None, recipe: Mapping[str, Any] | None = None
) -> Entry:
    """The evaluated model in an evaluation's output directory.

    Raises:
        UserError: there are no results, or they are damaged; or the records are those of another evaluation.
    """
    results = read_results(directory)
    files = {suite: directory / records_file(suite) for suite in results.provenance.suites}
    records = {
        suite: read_records(file, suite, results.metrics, results.provenance.suites[suite].records)
        for suite, file in files.items()
        if file.is_file()
    }
    return Entry(name=name, results=results, records=records, training=training or Training(), recipe=recipe or {})
