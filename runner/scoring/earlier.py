"""Results of an earlier evaluation: what was not asked again stays, also where the new evaluation is killed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

from eval.report.results import FILE, Results, read_results
from eval.spec import Model
from recipes import UserError
from recipes.suites import suites_of
from recipes.typed import read_typed, write_typed

EARLIER = "results.earlier.json"  # there while an evaluation runs: the worker knows of its own suites only


def earlier_results(model: Model, say: Callable[[str], None]) -> Results | None:
    """The results that are there already; None where there are none. What cannot be read is kept aside, and said."""
    output = model.output
    if not (output / FILE).is_file():
        (output / EARLIER).unlink(missing_ok=True)
        return None
    try:
        found = read_results(output)
        if (output / EARLIER).is_file():  # an evaluation was killed: what it left may be of its own suites alone
            found = _together(model, read_typed(Results, output / EARLIER), found, say)
    except (UserError, ValueError) as error:
        _keep_aside(output, str(error), say)
        return None
    write_typed(output / EARLIER, found)
    return found


def with_earlier(model: Model, earlier: Results | None, say: Callable[[str], None]) -> Results:
    """The new results, with those of earlier suites that were not asked again, where they are of the same model."""
    new = read_results(model.output)
    if earlier is None:
        return new
    whole = _together(model, earlier, new, say)
    write_typed(model.output / FILE, whole)
    (model.output / EARLIER).unlink(missing_ok=True)
    return whole


def _together(model: Model, earlier: Results, new: Results, say: Callable[[str], None]) -> Results:
    before, after = earlier.provenance, new.provenance
    kept = {name: suite for name, suite in before.suites.items() if name not in after.suites}
    same = before.model == after.model
    for name in before.suites.keys() & after.suites.keys():
        had, has = (p.suites[name].settings.get("n") for p in (before, after))
        if same and isinstance(had, int) and isinstance(has, int) and has < had:
            say(f"note: {model.name}: {name}: {has} samples replace the {had} of an earlier evaluation")
    if not kept:
        return new
    if not same:
        _keep_aside(model.output, f"{model.name}: the earlier {', '.join(kept)} are of another model", say)
        return new
    if before.engine != after.engine:  # what another engine answered stays its answer: a comparison tells the two apart
        kept = {name: replace(suite, engine=before.engine_of(name)) for name, suite in kept.items()}
    metrics = {n: m for n, m in earlier.metrics.items() if set(suites_of(n)) & set(kept) and n not in new.metrics}
    return Results(metrics={**metrics, **new.metrics}, provenance=replace(after, suites={**kept, **after.suites}))


def _keep_aside(output: Path, why: str, say: Callable[[str], None]) -> None:
    """Keep what would be written over under another name."""
    source = next(path for path in (output / EARLIER, output / FILE) if path.is_file())
    aside = next(path for path in (output / f"results.{n}.json" for n in count(1)) if not path.exists())
    shutil.copyfile(source, aside)
    (output / EARLIER).unlink(missing_ok=True)
    say(f"note: {why}; kept as {aside}")
