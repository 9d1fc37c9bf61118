"""`recipe merge`: a run's LoRA adapter merged into its base, whole or not there at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eval.hashes import model_hash
from eval.spec import Merge, Merged
from recipes import UserError
from recipes.files import read_json
from recipes.model_files import ADAPTER, adapter_base
from recipes.typed import read_typed
from runner.files import check_output
from runner.machine import bundled, environments
from runner.machine.environments import environment
from runner.machine.module import ask
from runner.runs.claim import Claimed, claim
from runner.runs.reward_model import check_writes
from runner.runs.rundir import Run
from runner.runs.trust import check_links, check_trusted

PROMPTS = 4  # that base with adapter and merged model are compared on


def whole_model(run: Run, say: Callable[[str], None], *, trusted: bool) -> Path:
    """The directory of a finished run's whole model: an adapter is merged, where that is not done yet.

    Raises:
        UserError, Failure: as `merge`.
    """
    if not (run.model / ADAPTER).is_file():
        return run.model
    return run.path / "merged" if is_merged(run.path / "merged", run.model) else merge(run, None, say, trusted=trusted)


def is_merged(model: Path, adapter: Path) -> bool:
    """Whether a directory holds a model that `merge` made of an adapter, wherever the two lay then."""
    file = model / "merge.json"
    if not file.is_file():
        return False
    told = read_json(file)
    known = told.get("adapter_hash")
    return bool(known == model_hash(adapter) if known else told["adapter"] == str(adapter))


@dataclass(frozen=True, kw_only=True)
class How:
    """How to merge: `check` compares the result with base and adapter, `test_prompt` is asked of both."""

    dtype: str = "auto"
    check: bool = True
    test_prompt: str = ""


def merge(
    run: Run,
    output: Path | None,
    say: Callable[[str], None],
    *,
    trusted: bool,
    adapter: Path | None = None,
    how: How = How(),
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
    if not (adapter / ADAPTER).is_file():
        raise UserError(f"{run.name} has no adapter to merge: {adapter} is a whole model already")
    if recipe.tuning.quantization:
        say(
            f"note: the adapter was trained on a base in {recipe.tuning.quantization}, and is merged into the whole one"
        )
    if how.test_prompt:
        check_writes(run, "asked --test-prompt")
    prompts = run.path / "data" / "test_prompts.json"
    spec = _spec(
        recipe.model.path,
        adapter,
        how,
        revision=recipe.model.revision,
        trust_remote_code=recipe.model.trust_remote_code,
        prompts=tuple(row["prompt"] for row in read_json(prompts)[:PROMPTS]) if prompts.is_file() else (),
    )
    return _merge(spec, target, run.path / "logs", run.mark("merge"), say)


def merge_adapter(
    adapter: Path, base: str | None, output: Path | None, say: Callable[[str], None], *, how: How
) -> Path:
    """Merge an adapter that is of no run of ours; returns the model's directory, by default beside the adapter's.

    Args:
        base: the model that it is for; by default the one that its adapter_config.json names.

    Raises:
        UserError, Failure: as `merge`; no adapter there, or one that names no base.
    """
    config = adapter / ADAPTER
    if not config.is_file():
        raise UserError(f"{adapter} is neither a run nor an adapter: it has no run.json and no {ADAPTER}")
    named = base or adapter_base(adapter)
    if not named:
        raise UserError(f"{config} names no base model; give it with --base-model")
    adapter = adapter.resolve()
    target = (output or adapter.with_name(f"{adapter.name}-merged")).resolve()
    spec = _spec(str(named), adapter, how, revision=None, trust_remote_code=False, prompts=())
    return _merge(spec, target, target.parent / f".{target.name}.logs", f"{target}#merge", say)


def _spec(base: str, adapter: Path, how: How, **of_model: Any) -> Merge:
    return Merge(
        base=base,
        adapter=str(adapter),
        target="",
        dtype=how.dtype,
        check=how.check,
        test_prompt=how.test_prompt,
        **of_model,
    )


def _merge(spec: Merge, target: Path, logs: Path, mark: str, say: Callable[[str], None]) -> Path:
    check_output(target)
    python = environments.ensure(environment("eval", "cpu"), say)
    if spec.base.startswith("bundled:"):
        bundled.ensure(python, say)
    part = target.with_name(f".{target.name}.part")
    spec = replace(spec, base=bundled.located(spec.base), target=str(part))
    try:
        with claim(logs / "merge"):  # one writes what the other reads
            check_output(target)
            say(f"merging {spec.adapter} into {spec.base}")
            shutil.rmtree(part, ignore_errors=True)
            try:
                ask(python, "eval.models.merge", spec, logs, "the merge", mark)
                merged = read_typed(Merged, part / "merge.json")
                part.rename(target)
            finally:
                shutil.rmtree(part, ignore_errors=True)  # half a model is as large as a whole one
    except Claimed as error:
        raise UserError(f"{spec.adapter} is being merged: {error}; wait for it, or stop it") from None
    _tell(merged, spec, say)
    return target


def _tell(merged: Merged, spec: Merge, say: Callable[[str], None]) -> None:
    found = merged.compared
    if found:
        say(
            f"checked on {found.positions} tokens of {found.prompts} prompts: differs from base and adapter by "
            f"{found.largest_difference_nat:.1e} nat ({merged.dtype}), where the adapter's own effect is "
            f"{found.effect_of_adapter_nat:.2g}"
        )
    else:
        say("not checked, as --fast asks: whether it answers as base and adapter do is not known")
    if merged.replies:
        adapted, whole = merged.replies
        say(f"asked: {spec.test_prompt}\nbase and adapter: {adapted}\nmerged: {whole}")
        say(
            "the replies are equal"
            if adapted == whole
            else f"the replies differ, which rounding to {merged.dtype} can do"
        )
