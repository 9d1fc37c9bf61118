"""`recipe merge`: a run's LoRA adapter merged into its base, whole or not there at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from eval.spec import Merge, Merged
from recipes import UserError
from recipes.files import read_json
from recipes.typed import read_typed, write_typed
from runner.failure import Failure
from runner.files import code_directory
from runner.machine import bundled, diagnose, environments, process
from runner.machine.environments import environment
from runner.machine.process import clean_environment
from runner.runs.rundir import Run
from runner.runs.trust import check_links, check_trusted

PROMPTS = 4  # that base with adapter and merged model are compared on


def whole_model(run: Run, say: Callable[[str], None], *, trusted: bool) -> Path:
    """The directory of a finished run's whole model: an adapter is merged, where that is not done yet.

    Raises:
        UserError, Failure: as `merge`.
    """
    if not (run.model / "adapter_config.json").is_file():
        return run.model
    return (
        run.path / "merged"
        if is_merged(run.path / "merged", run.model)
        else merge(run, None, "auto", say, trusted=trusted)
    )


def is_merged(model: Path, adapter: Path) -> bool:
    """Whether a directory holds a model that `merge` made of an adapter."""
    file = model / "merge.json"
    return file.is_file() and bool(read_json(file)["adapter"] == str(adapter))


def merge(
    run: Run, output: Path | None, dtype: str, say: Callable[[str], None], *, trusted: bool, adapter: Path | None = None
) -> Path:
    """Merge, and check the result; returns the model's directory, which holds what was checked as merge.json.

    Args:
        adapter: of one of its checkpoints; by default that of the finished run.

    Raises:
        UserError: the run has not succeeded, has no adapter, or `output` is there already.
        Failure: the merge failed, or its result is not what base and adapter were.
    """
    check_links(run)
    recipe, target = run.recipe().recipe, (output or run.path / "merged").resolve()
    check_trusted(run, recipe, "merge", trusted=trusted)
    adapter = adapter or run.model
    if adapter == run.model and run.state() != "succeeded":
        raise UserError(f"{run.name} has state {run.state()}: only a run that succeeded can be merged")
    if not (adapter / "adapter_config.json").is_file():
        raise UserError(f"{run.name} has no adapter to merge: {adapter} is a whole model already")
    if target.exists():
        raise UserError(f"{target} is there already; give another --output, or remove it")
    python = environments.ensure(environment("eval", "cpu"), say)
    if recipe.model.path.startswith("bundled:"):
        bundled.ensure(python, say)
    if recipe.tuning.quantization:
        say(
            f"note: the adapter was trained on a base in {recipe.tuning.quantization}, and is merged into the whole one"
        )
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    prompts = run.path / "data" / "test_prompts.json"
    spec = Merge(
        base=bundled.located(recipe.model.path),
        revision=recipe.model.revision,
        adapter=str(adapter),
        target=str(part),
        dtype=dtype,
        trust_remote_code=recipe.model.trust_remote_code,
        prompts=tuple(row["prompt"] for row in read_json(prompts)[:PROMPTS]) if prompts.is_file() else (),
    )
    write_typed(run.path / "logs" / "merge.json", spec)
    say(f"merging {adapter} into {spec.base}")
    checked = _work(run, python, part)
    part.rename(target)
    say(
        f"checked on {checked.positions} tokens of {checked.prompts} prompts: differs from base and adapter by "
        f"{checked.largest_difference_nat:.1e} nat ({checked.dtype}), where the adapter's own effect is "
        f"{checked.effect_of_adapter_nat:.2g}"
    )
    return target


def _work(run: Run, python: Path, part: Path) -> Merged:
    log = run.path / "logs" / "merge.log"
    log.unlink(missing_ok=True)
    with process.signals_raise():
        code = process.run(
            [str(python), "-m", "eval.merge", str(run.path / "logs" / "merge.json")],
            cwd=run.path,
            env=clean_environment({"PYTHONPATH": str(code_directory())}),
            log=log,
            mark=run.mark("merge"),
        )
    if code:
        last = diagnose.tail(log)
        raise Failure("the merge", cause=diagnose.cause(last, code), tail=last, log=log)
    return read_typed(Merged, part / "merge.json")
