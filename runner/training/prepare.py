"""Has the data of a recipe prepared in the backend's environment, once a run, and tells the user what became of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from adapters.contract import PreparedData
from recipes import Problem, Recipe, UserError
from recipes.files import read_json
from recipes.methods import METHODS
from recipes.rewards import OF_ANSWER
from recipes.suites import ROW_SUITES
from recipes.typed import read_typed, write_typed
from runner.data.spec import Accounting, PrepareSpec
from runner.failure import Failure
from runner.files import NewLines, code_directory
from runner.machine import diagnose, process
from runner.machine.process import clean_environment
from runner.runs.rundir import Run
from runner.training import prepared

SHOWN = 8  # names in a line of the summary; the accounting has all


def prepare(run: Run, recipe: Recipe, python: Path, model: str, say: Callable[[str], None]) -> PreparedData:
    """Prepare the data where that is not done yet; returns the counts.

    Raises:
        UserError: rows that cannot be used, each with file and line.
        Failure: the preparation itself failed.
    """
    if not run.accounting.is_file():
        directory = run.path / "data"
        spec = specification(recipe, model, directory)
        write_typed(directory / "spec.json", spec)
        name = prepared.key(spec, python)
        if name and prepared.take(name, directory):
            say("the data are prepared: the same rows, tokenizer and settings as before")
        else:
            say("preparing the data")
            _run(run, python, say)
            _keep(name, directory, say)
        for line in summary(read_typed(Accounting, run.accounting)):
            say(line)
    return counts(read_typed(Accounting, run.accounting))


def counts(accounting: Accounting) -> PreparedData:
    return PreparedData(
        train_rows=accounting.sequences or accounting.epoch_rows,
        validation_rows=accounting.validation,
        longest=_longest(accounting),
    )


def _longest(accounting: Accounting) -> int | None:
    """None where an older version prepared rows of a validation, and did not say."""
    if accounting.validation and not accounting.longest_of_validation:
        return None
    return max(accounting.sequence_length or accounting.longest, accounting.longest_of_validation)


def _keep(name: str | None, directory: Path, say: Callable[[str], None]) -> None:
    try:
        if name:
            prepared.keep(name, directory)
    except OSError as error:  # the run has its data all the same
        say(f"note: the prepared data are not kept for other runs: {error.strerror}")


def _run(run: Run, python: Path, say: Callable[[str], None]) -> None:
    directory = run.path / "data"
    log = run.path / "logs" / "prepare.log"
    code = process.run(
        [str(python), "-m", "runner.data.prepare", str(directory / "spec.json")],
        cwd=run.path,
        env=clean_environment({"PYTHONPATH": str(code_directory()), "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1"}),
        log=log,
        mark=run.mark(),
        poll=_progress(log, say),
    )
    problems = directory / "problems.json"
    if code == 2 and problems.is_file():
        raise UserError(*(Problem(text=text) for text in read_json(problems)))
    if code or not run.accounting.is_file():
        last = diagnose.tail(log)
        raise Failure("the data preparation", cause=diagnose.cause(last, code), tail=last, log=log)


def specification(recipe: Recipe, model: str, directory: Path) -> PrepareSpec:
    """What `runner.data.prepare` is told."""
    prompts_only = not METHODS[recipe.method].rows.columns
    given = recipe.eval.data
    looked_at = recipe.eval.suites if recipe.data.contamination != "off" else ()
    scored = {suite: given[suite] for suite in looked_at if suite in given}
    return PrepareSpec(
        method=recipe.method,
        model={
            "path": model,
            "revision": recipe.model.revision,
            "trust_remote_code": recipe.model.trust_remote_code,
            "tokenizer": recipe.model.tokenizer,
            "add_tokens": list(recipe.model.add_tokens),
            "chat_template": recipe.model.chat_template,
            "chat_template_kwargs": recipe.model.chat_template_kwargs,
        },
        data=recipe.data,
        max_length=recipe.grpo.rollouts.max_prompt_length if prompts_only else recipe.data.max_length,
        directory=directory,
        scored=scored,
        longbench_subsets=recipe.eval.longbench_subsets,
        unseen=tuple(suite for suite in looked_at if suite not in scored and suite not in ROW_SUITES),
        together=recipe.together,
        needs_answer=next((reward.type for reward in recipe.grpo.rewards if reward.type in OF_ANSWER), ""),
    )


def _progress(log: Path, say: Callable[[str], None]) -> Callable[[], None]:
    """Says every few seconds how many rows are read."""
    new = NewLines(log)

    def poll() -> None:
        lines = [line for line in new() if line.startswith('{"rows"')]
        rows = json.loads(lines[-1])["rows"] if lines else 0
        if rows > 1:
            say(f"  {rows:,} rows read")

    return poll


def summary(accounting: Accounting) -> list[str]:
    """What became of the rows, what of them was not used, and what the chat template did to them, in a few lines."""
    cut = accounting.truncated_of_trained
    kept = [f"{accounting.trained:,} trained{f' ({cut:,} of them cut to max_length)' if cut else ''}"]
    kept += [f"{accounting.validation:,} held out"] if accounting.validation else []
    kept += [f"{count:,} dropped ({reason})" for reason, count in accounting.dropped.items()]
    tokens = f"  {accounting.tokens:,} tokens of prompts"
    if accounting.supervised_tokens:
        tokens = f"  {accounting.tokens:,} tokens to train on, {accounting.supervised_tokens:,} of them with loss"
    if accounting.thought_tokens:
        tokens += f" ({accounting.thought_tokens:,} of thinking)"
    return [
        f"  {accounting.rows_in:,} rows = {' + '.join(kept)}",
        f"{tokens}; the longest has {accounting.longest:,}",
        *_mixture(accounting),
        *_together(accounting),
        *_files(accounting),
        *_unused(accounting),
        *_dropped(accounting),
        *(f"  note: {note}: {count:,} row{'s' * (count != 1)}" for note, count in accounting.notes.items()),
        *(f"  note: {note}" for note in accounting.model_notes),
    ]


def _mixture(accounting: Accounting) -> Iterator[str]:
    """What weights make of the sources."""
    rows = accounting.epoch_rows
    if accounting.mixture:
        parts = (f"{Path(name).name} {count / rows:.1%}" for name, count in accounting.mixture.items())
        again = rows - accounting.trained
        yield f"  an epoch has {_rows(rows)}, {again:,} of them repeats: {_listed(parts)}"


def _together(accounting: Accounting) -> Iterator[str]:
    """What packing or cutting into blocks made of the rows, and what that changes."""
    sequences, length = accounting.sequences, accounting.sequence_length
    if sequences:
        fill = accounting.sequence_tokens / (sequences * length)
        each = accounting.epoch_rows / sequences
        yield (
            f"  {sequences:,} sequences of {length:,} tokens, {fill:.1%} full, {each:.3g} rows each: "
            "training.global_batch_size counts sequences"
        )


def _files(accounting: Accounting) -> Iterator[str]:
    files, left_out = accounting.files, accounting.left_out
    if len(files) > 1 or left_out:
        read = _listed(Path(file).name for file in files)
        yield "  " + "; ".join(filter(None, (f"read {read}", not_read(left_out))))


def not_read(left_out: Mapping[str, Iterable[object]]) -> str:
    """The files of splits that were not asked for, or "" where there are none."""
    others = _listed(f"{Path(str(file)).name} ({split})" for split, found in left_out.items() for file in found)
    return f"not read, of other splits: {others}" if others else ""


def _unused(accounting: Accounting) -> Iterator[str]:
    if accounting.unused_columns:
        yield f"  not used: {_listed(f'{name} ({_rows(n)})' for name, n in accounting.unused_columns.items())}"


def _rows(count: int) -> str:
    return f"{count:,} row{'s' * (count != 1)}"


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    return ", ".join(found[:SHOWN]) + (f" and {len(found) - SHOWN:,} more" if len(found) > SHOWN else "")


def _dropped(accounting: Accounting) -> Iterator[str]:
    """A warning where a tenth or more is gone, with what to change for the commonest reason."""
    dropped, rows = accounting.dropped, accounting.rows_in
    gone = sum(dropped.values())
    if gone * 10 < rows or not gone:
        return
    reason = max(dropped, key=lambda r: int(dropped[r]))
    longest = f"the longest has {accounting.longest_dropped:,} tokens, the limit is {accounting.max_length:,}"
    field = "grpo.rollouts.max_prompt_length" if not accounting.supervised_tokens else "data.max_length"
    advice = "look at them with `recipe data check`"
    if reason.startswith("malformed"):
        advice = "set data.on_bad_row: error to see each with its line"
    elif reason == "longer than max_length":
        cut = ", or set data.overlong: truncate" if accounting.supervised_tokens else ""
        advice = f"raise {field} ({longest}){cut}"
    elif reason == "prompt longer than max_length":
        advice = f"raise {field} ({longest}): cutting leaves no reply of them"
    elif reason == "nothing to train on":
        advice = "their replies carry no loss under this chat template"
    yield f"warning: {gone:,} of {rows:,} rows are dropped, most as {reason!r}; {advice}"
