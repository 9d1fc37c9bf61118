"""`training.micro_batch_size: auto` by trial: the backend itself takes two steps on the longest rows, on all GPUs.

Two, for an optimizer has no states before its first step. As soon as both are there the backend is ended: it writes no
checkpoint. The first size that is tried is the one that the estimate says fits rows as long as the longest really is;
larger ones follow while the estimate, which can be 10 % off, does not rule them out; smaller ones where it runs out.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters import backend
from adapters.contract import Metrics, PreparedData, Topology
from recipes import LoadedRecipe, load_text
from recipes.files import write_text
from recipes.methods import METHODS
from recipes.typed import read_typed
from runner.data.spec import Accounting
from runner.failure import Failure
from runner.files import code_directory
from runner.fit.gpus import Gpu
from runner.fit.memory import reserved
from runner.machine import diagnose, process
from runner.machine.process import clean_environment
from runner.runs import rundir
from runner.runs.rundir import Run
from runner.runs.trust import is_own, remember
from runner.training import metrics
from runner.training.attempt import child_environment
from runner.training.micro_batch import FIELD, MARGIN, allowed, smallest, was_auto, with_size
from runner.training.planning import make_plan

STEPS = 2
# What a trial has no use for, whatever the recipe.
SHORT = (f"training.max_steps={STEPS}", "training.log_every=1", "logging=[]", "eval={}")


def tried(run: Run, loaded: LoadedRecipe, topology: Topology, python: Path, say: Callable[[str], None]) -> LoadedRecipe:
    """The recipe of a run with prepared rows, where it says auto with the number that a trial on its GPUs finds.

    Only before the first start, and not where a resume has set another number: a run goes on with what it has.

    Raises:
        Failure: not even one row fits, or the backend fails for another reason.
    """
    manifest, recipe = run.read(), loaded.recipe
    decided = METHODS[recipe.method].rewards or recipe.distributed.max_tokens_per_device  # by other fields
    auto = topology.gpus and was_auto(manifest.chosen, recipe.training.micro_batch_size)
    if manifest.attempts or decided or not auto:
        return loaded
    accounting, card = read_typed(Accounting, run.accounting), smallest(topology)
    length = accounting.sequence_length or accounting.longest
    trial = Trial(run, loaded, topology, python)

    def fits(size: int) -> bool:
        say(f"trying {FIELD}: {size}, with the longest rows, of up to {length:,} tokens")
        peak = trial.peak_gb(size)
        found = peak is not None and (card is None or reserved(int(peak * 1e9)) <= card.memory)
        used = "out of memory" if peak is None else f"{peak:.1f} GB"
        say(f"  {used}{'' if found or peak is None else ': too close to all that there is'}")
        return found

    size = largest(*_sizes(loaded, topology, length, card), fits)
    if not size:
        cause = "out of GPU memory; `recipe fit` says what would make it fit"
        raise Failure(f"{run.name}: the longest row alone does not fit", cause=cause, log=trial.log(1))
    text = f"{FIELD}: auto is {size}: the largest that a trial of the longest rows has found to fit"
    say(f"note: {text}")
    found, own = with_size(loaded, size), is_own(run)
    write_text(run.path / "recipe.resolved.yaml", rundir.resolved_yaml(found))
    run.update(chosen=tuple(text if was_auto([one]) else one for one in manifest.chosen))
    if own:
        remember(run)
    return found


def _sizes(loaded: LoadedRecipe, topology: Topology, length: int, card: Gpu | None) -> tuple[list[int], int]:
    """The sizes to try, ascending, and the place of the first one."""
    sizes: list[int] = []
    first = 0
    for size, fit in sorted(allowed(loaded, topology, length), key=lambda one: one[0]):
        if card and not isinstance(fit, str):
            needed = fit.needed(card)
            if sizes and needed > card.memory * MARGIN:
                break
            if needed * MARGIN <= card.memory:
                first = len(sizes)
        sizes.append(size)
    return sizes, first


def largest(sizes: Sequence[int], first: int, fits: Callable[[int], bool]) -> int:
    """The largest of ascending sizes that fits, tried from one of them up, or down where that does not; 0: none."""
    place = first
    if fits(sizes[place]):
        while place + 1 < len(sizes) and fits(sizes[place + 1]):
            place += 1
        return sizes[place]
    return next(filter(fits, reversed(sizes[:place])), 0)


def shortened(loaded: LoadedRecipe, size: int, rows: int) -> LoadedRecipe:
    """The recipe of a trial, with micro batches of this many rows and so many a step."""
    warmup = "ratio" if loaded.recipe.training.warmup_steps is None else "steps"  # a recipe has one of them
    own = (*SHORT, f"training.warmup_{warmup}=0", f"{FIELD}={size}", f"training.global_batch_size={rows}")
    return load_text(loaded.source, loaded.path, (*loaded.overrides, *own), sources_needed=False)


class _Enough(Exception):
    """Both steps are there."""


@dataclass(frozen=True)
class Trial:
    """The backend on the longest rows of a run; in its directory `trial`, which is gone afterwards."""

    run: Run
    loaded: LoadedRecipe
    topology: Topology
    python: Path

    @property
    def directory(self) -> Path:
        return self.run.path / "trial"

    def log(self, size: int) -> Path:
        return self.run.path / "logs" / f"trial-{size}.log"

    def peak_gb(self, size: int) -> float | None:
        """The most memory that the backend tells of, with micro batches of this many rows; None: it ran out.

        Raises:
            Failure: it failed for another reason.
        """
        shutil.rmtree(self.directory, ignore_errors=True)
        try:
            return self._peak_gb(size)
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _peak_gb(self, size: int) -> float | None:
        rows, log, directory = size * self.topology.processes, self.log(size), self.directory
        self._rows(rows, log)
        loaded = shortened(self.loaded, size, rows)
        data, module = PreparedData(train_rows=rows, validation_rows=0), backend(loaded.recipe.backend)
        plan = make_plan(loaded, self.topology, directory, data=data, python=self.python)
        for name, text in plan.files.items():
            write_text(directory / name, text)

        def steps() -> list[Metrics]:
            found = map(module.read_metrics, metrics.raw_lines(directory / plan.metrics))
            return [line for line in found if line and "loss" in line]

        def poll() -> None:
            if len(steps()) >= STEPS:
                raise _Enough

        env = child_environment(plan)
        try:
            if not all(self._call(command, env, log) for command in plan.before):
                return None
            if not self._call(plan.argv, env, log, poll):
                return None
        except _Enough:
            pass
        return max((line.get("memory_gb", 0.0) for line in steps()), default=0.0)

    def _rows(self, count: int, log: Path) -> None:
        """Lay out the directory as a run's, with so many rows."""
        given, own = self.run.path / "data", self.directory / "data"
        for name in ("data", "backend", "checkpoints"):
            (self.directory / name).mkdir(parents=True)
        for file in given.iterdir():
            if file.name != "tokenized":
                (own / file.name).symlink_to(file)
        command = [str(self.python), "-m", "runner.data.longest", str(given / "tokenized"), str(own / "tokenized")]
        self._call([*command, str(count)], clean_environment({"PYTHONPATH": str(code_directory())}), log)

    def _call(
        self, argv: Sequence[str], env: Mapping[str, str], log: Path, poll: Callable[[], None] = lambda: None
    ) -> bool:
        """Run a command; returns whether memory was enough for it."""
        code = process.run(argv, cwd=self.directory, env=env, log=log, mark=self.run.mark(), poll=poll)
        last = diagnose.tail(log, 400) if code else ""
        if code and not diagnose.out_of_memory(last):
            cause = diagnose.cause(last, code)
            raise Failure(f"{self.run.name}: the trial of {FIELD}", cause=cause, tail=diagnose.tail(log), log=log)
        return not code
