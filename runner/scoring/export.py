"""`recipe export`: a run's model in fewer bits, whole or not there, checked beside the one that was trained."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eval.hashes import model_hash, weight_files
from eval.models.schemes import SCHEMES
from eval.report.kept import Kept, Verdict, kept
from eval.report.results import read_entry
from eval.spec import CalibrationRows, Model, Quantize, Quantized
from recipes import Recipe, UserError
from recipes.files import write_text
from recipes.methods import METHODS
from recipes.suite_checks import lacking
from recipes.typed import read_typed, write_typed
from runner.files import check_output, own_version
from runner.machine import environments, process
from runner.machine.environments import environment
from runner.machine.module import ask
from runner.runs.claim import Claimed, claim
from runner.runs.reward_model import check_writes
from runner.runs.rundir import Run
from runner.runs.trust import is_own
from runner.scoring.models import EvalOptions, about_run, run_spec, tuned_of
from runner.scoring.workers import run_workers

RECEIPT, SCORES = "export.json", "verification"
OF_MERGE = ("merge.json", "README.md")  # of the merged model, and not of what is made of it


@dataclass(frozen=True, kw_only=True)
class How:
    """How to export.

    margin: the share by which perplexity may rise; None is the scheme's. verify: whether it is compared at all.
    suites: that it is compared on beside perplexity; None is the recipe's.
    """

    scheme: str
    margin: float | None = None
    rows: int = 256
    verify: bool = True
    suites: tuple[str, ...] | None = None
    max_samples: int | None = None


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was exported, and whether it is still as good: export.json.

    bytes_before, bytes_after: of the files of weights. source: the whole model that it was made of.
    """

    scheme: str
    verdict: Verdict
    reason: str
    run: str
    model: str
    step: int | None
    source: str
    source_hash: str
    hash: str
    bytes_before: int
    bytes_after: int
    quantized: Quantized | None
    verified: Kept | None
    version: str


def check(run: Run, target: Path, how: How) -> None:
    """Refuse what cannot be exported before anything is merged for it.

    Raises:
        UserError: a reward model, `target` is there, there are no rows to calibrate on or to compare on.
    """
    check_writes(run, "exported")
    recipe, scheme = run.recipe().recipe, SCHEMES[how.scheme]
    check_output(target)
    if scheme.calibrated:
        rows = _rows(run, recipe, how)
        needed = Path(rows.prompts or rows.directory)
        if not needed.exists():
            raise UserError(f"{needed} is not there, and {how.scheme} is calibrated on the training rows; use fp8")
    if how.verify:
        asked = _asked(recipe, how)
        held_out = (run.path / "data" / "validation.jsonl").is_file()
        if not asked:
            raise UserError(f"{run.name}: {recipe.method} rows have no perplexity; name --suites, or give --fast")
        if "perplexity" in asked and "perplexity" not in recipe.eval.data and not held_out:
            text = "no rows were held out to compare perplexity on (data.validation)"
            raise UserError(f"{run.name}: {text}; give --fast to export without a comparison")


def export(
    run: Run, weights: Path, step: int | None, target: Path, how: How, say: Callable[[str], None],
    whole: Callable[[], Path],
) -> Exported:  # fmt: skip
    """Export, and compare; what was done is in the directory as export.json.

    Args:
        weights: the adapter or the model that was trained; what the exported one is compared with.
        step: of the checkpoint; None is the finished run's.
        whole: gives the directory of the same as a whole model.

    Raises:
        UserError: as `check`; the scheme cannot take this model; another export of this run is at work.
        Failure: the quantization or the comparison failed.
    """
    check(run, target, how)
    part = target.with_name(f".{target.name}.part")
    try:
        with claim(run.path / "logs" / "export"):
            source = whole()
            shutil.rmtree(part, ignore_errors=True)
            try:
                found = _export(run, weights, step, source, part, how, say)
                part.rename(target)
            finally:
                shutil.rmtree(part, ignore_errors=True)
            return found
    except Claimed as error:
        raise UserError(f"{run.name} is being exported: {error}; wait for it, or stop it") from None


def _export(
    run: Run, weights: Path, step: int | None, source: Path, part: Path, how: How, say: Callable[[str], None]
) -> Exported:
    recipe, scheme = run.recipe().recipe, SCHEMES[how.scheme]
    part.parent.mkdir(parents=True, exist_ok=True)
    quantized = None
    if how.scheme == "hf":
        say(f"copying {source}")
        shutil.copytree(source, part, ignore=shutil.ignore_patterns(*OF_MERGE))
    else:
        say(f"quantizing {source}: {scheme.text}")
        python = environments.ensure(environment(environments.EXPORT, "cpu"), say)
        rows = _rows(run, recipe, how) if scheme.calibrated else None
        trust = recipe.model.trust_remote_code
        spec = Quantize(model=str(source), target=str(part), scheme=how.scheme, trust_remote_code=trust, rows=rows)
        ask(python, "eval.models.export", spec, run.path / "logs", "the quantization", run.mark("export"), refuses=True)
        quantized = read_typed(Quantized, part / "quantized.json")
        (part / "quantized.json").unlink()
    verified = _verified(run, weights, recipe, part, how, say) if how.verify else None
    found = Exported(
        scheme=how.scheme,
        verdict=verified.verdict if verified else "not verified",
        reason=verified.reason if verified else "not compared, as --fast asks: whether it is as good is not known",
        run=run.name,
        model=run.read().model,
        step=step,
        source=str(source),
        source_hash=model_hash(source),
        hash=model_hash(part),
        bytes_before=_bytes(source),
        bytes_after=_bytes(part),
        quantized=quantized,
        verified=verified,
        version=own_version(),
    )
    write_text(part / "README.md", card(found))
    write_typed(part / RECEIPT, found)
    return found


def _bytes(model: Path) -> int:
    return sum(file.stat().st_size for file in weight_files(model))


def _rows(run: Run, recipe: Recipe, how: How) -> CalibrationRows:
    """The run's training rows: as they were tokenized, or where they stay text, their prompts."""
    data, kind = run.path / "data", METHODS[recipe.method].rows
    return CalibrationRows(
        directory=str(data / "tokenized" / "train"),
        prefix=kind.columns[0] if kind.columns else "",
        limit=how.rows,
        seed=recipe.data.seed,
        prompts=None if kind.columns else str(data / "train.jsonl"),
        variables=recipe.model.chat_template_kwargs,
    )


def _asked(recipe: Recipe, how: How) -> tuple[str, ...]:
    """The suites of the comparison: perplexity, and the recipe's own, or those that were named."""
    named = recipe.eval.suites if how.suites is None else how.suites
    wanted = dict.fromkeys(("perplexity", *named))
    return tuple(name for name in wanted if name in recipe.eval.data or not lacking(name, recipe.method))


def _verified(run: Run, weights: Path, recipe: Recipe, part: Path, how: How, say: Callable[[str], None]) -> Kept:
    """Score what lies on the disk, loaded anew, beside what was trained, on the same rows."""
    places = {name: part / SCORES / name for name in ("before", "after")}
    before = replace(tuned_of(run, recipe, places["before"]), name="before", path=str(weights))
    after = Model(name="after", path=str(part), output=places["after"], run=about_run(run, recipe))
    answers = run.path / "eval" / "cache" / "answers.jsonl"
    if answers.is_file() and is_own(run):  # keyed by the model's content: what the run was asked before serves again
        (places["before"] / "cache").mkdir(parents=True)
        shutil.copyfile(answers, places["before"] / "cache" / answers.name)
    options = EvalOptions(suites=_asked(recipe, how), max_samples=how.max_samples)
    with process.signals_raise():
        spec = run_spec(run, recipe, options, [before, after], say)
        run_workers(spec, part / SCORES, run.mark("export"), say)
    for place in places.values():
        shutil.rmtree(place / "cache", ignore_errors=True)
    margin = SCHEMES[how.scheme].margin if how.margin is None else how.margin
    return kept(*(read_entry(place, name) for name, place in places.items()), margin=margin)


def card(found: Exported) -> str:
    """The README.md of an exported model: what it is, and first of all whether it may be used."""
    words: Mapping[Verdict, str] = {
        "good": "As good as before, within the margin",
        "not good": "NOT GOOD: do not use it in place of the model that it was made of",
        "can't tell": "Whether it is as good is NOT SHOWN",
        "not verified": "NOT VERIFIED",
    }
    lines = [
        f"# {found.run}, {found.scheme}",
        f"**{words[found.verdict]}**: {found.reason}.",
        f"`{found.model}` as run `{found.run}` trained it{_at(found)}, {SCHEMES[found.scheme].text}.",
        f"Weights: {found.bytes_before / 1e6:,.1f} MB before, {found.bytes_after / 1e6:,.1f} MB now.",
        f"By recipe-runner {found.version}{_tools(found.quantized)}. `{RECEIPT}` has every number.",
    ]
    return "\n\n".join(lines) + "\n"


def _at(found: Exported) -> str:
    return "" if found.step is None else f" up to step {found.step}"


def _tools(quantized: Quantized | None) -> str:
    if quantized is None:
        return ""
    looked: Any = quantized.calibrated
    rows = f", calibrated on {looked.rows} of its training rows ({looked.tokens:,} tokens)" if looked else ""
    return f" with llm-compressor {quantized.versions['llmcompressor']}{rows}"
