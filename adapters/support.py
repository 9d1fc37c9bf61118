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
TUNINGS = ("lora", "full", "lora 4bit", "lora 8bit")
BASE = (
    b"backend: verl\nmethod: sft\nmodel: {path: a/b}\ndata: {train: [{path: a/b}]}\ntraining: {global_batch_size: 64}\n"
)
BEGIN, END = (
    "<!-- support table: made by `python -m adapters.support`, checked by a test -->",
    "<!-- end of support table -->",
)


def table() -> str:
    """Markdown: a row for each method and tuning, with the strategies that each backend plans."""
    methods = schema.leaves()["method"]["enum"]
    lines = [f"| method | tuning | {' | '.join(BACKENDS)} |", f"|---|---|{'---|' * len(BACKENDS)}"]
    for method in methods:
        for tuning in TUNINGS:
            cells = [", ".join(_strategies(name, method, tuning)) or "–" for name in BACKENDS]
            if set(cells) != {"–"}:
                lines.append(f"| {method} | {tuning} | {' | '.join(cells)} |")
    return "\n".join(lines)


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
