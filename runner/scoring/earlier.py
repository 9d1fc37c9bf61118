"""Results of an earlier evaluation: what was not asked again stays, where it was measured alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from eval.report.results import FILE, Results, read_results
from eval.spec import Model
from recipes import UserError
from recipes.suites import LM_EVAL, suites_of
from recipes.typed import write_typed


def earlier_results(output: Path) -> Results | None:
    """The results that are there already; None where there are none, or none that this version reads."""
    try:
        return read_results(output)
    except UserError:
        return None


def with_earlier(model: Model, earlier: Results | None, say: Callable[[str], None]) -> Results:
    """The new results, with those of earlier suites that were not asked again, where they are of the same model."""
    new = read_results(model.output)
    if earlier is None:
        return new
    before, after = earlier.provenance, new.provenance
    kept = {name: suite for name, suite in before.suites.items() if name not in after.suites}
    # The engine said is that of our own suites: those of lm-eval are asked by one of their own, and say which.
    asked, stood = (any(not name.startswith(LM_EVAL) for name in suites) for suites in (after.suites, kept))
    same = before.model == after.model
    engine = before.engine if stood and not asked else after.engine
    alike = same and (not stood or before.engine == engine)
    for name in before.suites.keys() & after.suites.keys():
        had, has = (p.suites[name].settings.get("n") for p in (before, after))
        if alike and isinstance(had, int) and isinstance(has, int) and has < had:
            say(f"note: {model.name}: {name}: {has} samples replace the {had} of an earlier evaluation")
    gone = [name for name in kept if not same or not (alike or name.startswith(LM_EVAL))]
    if gone:
        say(f"note: {model.name}: the earlier {', '.join(gone)} are of another model or engine, and are left out")
        kept = {name: suite for name, suite in kept.items() if name not in gone}
    if not kept:
        return new
    metrics = {n: m for n, m in earlier.metrics.items() if set(suites_of(n)) & set(kept) and n not in new.metrics}
    joined = replace(after, engine=engine, suites={**kept, **after.suites})
    whole = Results(metrics={**metrics, **new.metrics}, provenance=joined)
    write_typed(model.output / FILE, whole)
    return whole
