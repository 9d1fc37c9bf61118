"""The table of what runs on which backend, for the README: python -m adapters.support"""

from __future__ import annotations

from pathlib import Path

from adapters import BACKENDS, backend, llamafactory, verl
from adapters.contract import Backend, Topology
from adapters.refusals import unsupported
from recipes import UserError, load_text, schema
from recipes.methods import METHODS

CHECKED: dict[str, Backend] = {"llamafactory": llamafactory, "verl": verl}  # so that mypy looks for each function
GPUS = Topology(gpus=8, processes=8, devices=tuple("01234567"))
TUNINGS = ("lora", "full", "freeze", "lora 4bit", "lora 8bit")
BASE = (
    b"backend: verl\nmethod: sft\nmodel: {path: a/b}\ndata: {train: [{path: a/b}]}\ntraining: {global_batch_size: 64}\n"
)
BEGIN, END = (
    "<!-- support table: made by `python -m adapters.support`, checked by a test -->",
    "<!-- end of support table -->",
)


def table() -> str:
    """Markdown: methods and tunings, with the strategies that each backend plans; what is alike stands in one row."""
    alike: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for method in schema.leaves()["method"]["enum"]:
        alike.setdefault(tuple(_rows(method).items()), []).append(method)
    lines = [f"| method | tuning | {' | '.join(BACKENDS)} |", f"|---|---|{'---|' * len(BACKENDS)}"]
    for rows, methods in alike.items():
        lines += [f"| {', '.join(methods)} | {tunings} | {cells} |" for cells, tunings in rows]
    return "\n".join(lines)


def _rows(method: str) -> dict[str, str]:
    """What each backend plans for a method, with the tunings for which it does."""
    found: dict[str, list[str]] = {}
    for tuning in TUNINGS:
        cells = [", ".join(_strategies(name, method, tuning)) for name in BACKENDS]
        if any(cells):
            found.setdefault(" | ".join(cell or "–" for cell in cells), []).append(tuning)
    return {cells: ", ".join(tunings) for cells, tunings in found.items()}


def _strategies(name: str, method: str, tuning: str) -> list[str]:
    known = schema.leaves()["distributed.strategy"]["enum"]
    return [strategy for strategy in known if strategy != "auto" and _plans(name, method, tuning, strategy)]


def _plans(name: str, method: str, tuning: str, strategy: str) -> bool:
    kind, _, bits = tuning.partition(" ")
    overrides = [f"backend={name}", f"method={method}", f"tuning.type={kind}", f"distributed.strategy={strategy}"]
    overrides += [f"tuning.quantization={bits}"] if bits else []
    overrides += ["grpo={rewards: [{type: exact}]}"] if METHODS[method].rewards else []
    try:
        loaded = load_text(BASE, Path("table.yaml"), overrides)
    except UserError:
        return False
    return not (unsupported(loaded) or backend(name).problems(loaded, GPUS))


if __name__ == "__main__":
    print(table())
