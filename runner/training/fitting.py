"""What `recipe fit` does, and the estimate that `recipe plan` shows: a checked recipe on these or other machines."""

from __future__ import annotations

import json
from pathlib import Path

from adapters.contract import Topology
from recipes import LoadedRecipe
from recipes.typed import to_json
from runner.fit import estimate
from runner.fit.changes import Change, changes
from runner.fit.estimate import Fit, gigabytes
from runner.fit.gpus import gpu
from runner.training.micro_batch import settled
from runner.training.planning import check, machines_of


def show_fit(loaded: LoadedRecipe, runs_dir: Path, card: str | None, gpus: int | None, as_json: bool) -> bool:
    """Print the estimate of a recipe, and where it does not fit the card, what makes it fit; returns whether it does.

    Raises:
        UserError: a card that is not known, everything that the backend refuses.
    """
    wanted = None if card is None else gpu(card)
    machines = machines_of(loaded)
    if gpus or not machines.gpus:
        machines = Topology(gpus=gpus or 1, processes=gpus or 1)

    loaded = settled(loaded, machines, wanted)

    def judged(one: LoadedRecipe, where: Topology) -> Fit | str:
        check(one, where)
        return estimate.estimate(one.recipe, where, runs_dir, wanted)

    fit = judged(loaded, machines)
    if isinstance(fit, str):
        found = {"fit": estimate.as_json(fit), "changes": [], "chosen": list(loaded.chosen)}
        print(json.dumps(found, ensure_ascii=False) if as_json else "\n".join([fit, *loaded.chosen]))
        return True  # nothing says that it does not
    fits = wanted is None or fit.on(wanted)
    proposed = [] if fits or wanted is None else changes(loaded, machines, wanted, judged)
    if as_json:
        found = {"fit": estimate.as_json(fit), "changes": to_json(proposed), "chosen": list(loaded.chosen)}
        print(json.dumps(found, ensure_ascii=False, indent=1))
    else:
        chosen = [f"note:      {text}" for text in loaded.chosen]
        print("\n".join([*estimate.text(fit), *chosen, *([] if fits else _proposals(proposed))]))
    return fits


def _proposals(proposed: list[Change]) -> list[str]:
    if not proposed:
        return ["", "nothing that was tried makes it fit: take a smaller model, or larger cards"]
    lines = ["", "what makes it fit, the cheapest first, and what it then needs of each GPU:"]
    for change in proposed:
        sets = " ".join(f"--set {one}" for one in change.sets)
        lines.append(f"  {gigabytes(change.peak):>9}  {sets}  ({change.costs})")
    return lines
