"""The estimate of a step's memory beside what PyTorch's memory tracker counts, as the table of docs/memory.md.

python -m benchmarks.memory [LAYERS]

LAYERS: take so many layers of each model and not all, which is quicker. Exit code 1: a difference above 10 %.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from recipes.typed import to_json
from runner.files import code_directory
from runner.fit.memory import memory, trainable
from runner.fit.models import families
from runner.fit.shapes import Value, shape
from runner.fit.step import Lora, Setup
from runner.machine import environments
from runner.machine.environments import environment
from runner.machine.process import clean_environment

CLOSE = 0.10
MODELS = (
    "HuggingFaceTB/SmolLM2-135M",
    "Qwen/Qwen3-0.6B",
    "google/gemma-3-1b-pt",
    "meta-llama/Llama-3.2-1B",
    "Qwen/Qwen2.5-1.5B",
    "mistralai/Mistral-7B-v0.3",
    "microsoft/phi-4",
)
LENGTHS = (512, 2048)
SCRIPT = Path(__file__).with_name("fake_step.py")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One training step. `length` 0: the parameters are counted, and no step is made."""

    config: dict[str, Value]
    tuning: str = "lora"
    checkpointing: bool = True
    length: int = 512
    rows: int = 1
    rank: int = 16
    targets: str = "all"
    saved: str = ""
    attention: str = "sdpa"
    padded: bool = False
    accumulates: bool = False
    loss: str = "plain"
    world: int = 1

    def setup(self) -> Setup:
        """The same step for the estimate."""
        targets = frozenset() if self.targets == "all" else frozenset(self.targets.split(","))
        saved = frozenset(self.saved.split(",") if self.saved else ())
        one = Setup(
            shape=shape(self.config),
            lora=Lora(rank=self.rank, targets=targets, saved=saved) if self.tuning == "lora" else None,
            rows=self.rows,
            length=self.length,
            checkpointing=self.checkpointing,
            attention=self.attention,  # type: ignore[arg-type]
            padded=self.padded,
            accumulates=self.accumulates,
            loss=self.loss,  # type: ignore[arg-type]
        )
        if self.world == 1:
            return one
        return replace(one, cast=False, weights_over=self.world, states_over=self.world, sharded=True)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Of the tracker: parameters, and the peaks in bytes of forward and backward, and of the optimizer's step."""

    parameters: int
    trained: int
    passes: int = 0
    step: int = 0


def estimated(case: Case) -> Measured:
    """The same by the estimate."""
    setup = case.setup()
    phases = dict(memory(setup).phases)
    step = phases.pop("optimizer step")
    added = trainable(setup) if setup.lora else 0
    return Measured(
        parameters=setup.shape.parameters + added, trained=trainable(setup), passes=max(phases.values()), step=step
    )


def difference(case: Case, guess: Measured, found: Measured) -> float:
    """The larger of the two peaks' differences, as a share of the peak of both that the tracker counts.

    Of a sharded step only forward and backward are compared: without GPUs, the optimizer's gathers what it need not.
    """
    if case.world > 1:
        return abs(guess.passes / found.passes - 1)
    return max(abs(guess.passes - found.passes), abs(guess.step - found.step)) / max(found.passes, found.step)


def model(name: str, layers: int | None = None) -> dict[str, Value]:
    """A model's configuration, with fewer layers where that is asked for."""
    return dict(families()[name]) | ({"num_hidden_layers": layers} if layers else {})


def grid(layers: int | None, lengths: Sequence[int]) -> Iterator[tuple[str, Case]]:
    """LoRA and full, with and without checkpointing, for each model and length."""
    for name, tuning, again, length in product(MODELS, ("lora", "full"), (True, False), lengths):
        yield name, Case(config=model(name, layers), tuning=tuning, checkpointing=again, length=length)


def odd(layers: int | None) -> Iterator[tuple[str, Case]]:
    """What else the memory depends on, one thing at a time."""
    for name in ("Qwen/Qwen3-0.6B", "mistralai/Mistral-7B-v0.3"):
        plain = Case(config=model(name, layers), checkpointing=False)
        yield name, replace(plain, rows=4, padded=True)
        yield name, replace(plain, length=2048, rows=2, padded=True)
        yield name, replace(plain, attention="eager", length=1024)
        yield name, replace(plain, attention="eager", length=1024, checkpointing=True)
        yield name, replace(plain, targets="q_proj,v_proj", rank=64)
        yield name, replace(plain, tuning="full", accumulates=True)
        yield name, replace(plain, accumulates=True)
        yield name, replace(plain, saved="lm_head")
        yield name, replace(plain, saved="embed_tokens,lm_head", checkpointing=True)
        yield name, replace(plain, saved="embed_tokens", accumulates=True, checkpointing=True)
        yield name, replace(plain, rows=2, loss="pairs")
        yield name, replace(plain, rows=2, loss="compared", checkpointing=True)


def fsdp() -> Iterator[tuple[str, Case]]:
    """FSDP2 over eight processes: models whose logits decide, and models of four layers whose gathered weights do."""
    names = ("Qwen/Qwen3-0.6B", "mistralai/Mistral-7B-v0.3", "microsoft/phi-4")
    for name, tuning, again, length in product(names, ("lora", "full"), (True, False), LENGTHS):
        config = model(name, 4)
        yield name, Case(config=config, tuning=tuning, checkpointing=again, length=length, world=8, accumulates=True)


def measure(python: Path, cases: Iterable[Case]) -> list[Measured]:
    """What the tracker counts of each case, by a child in LLaMA-Factory's environment."""
    env = clean_environment({"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "DISABLE_VERSION_CHECK": "1"})
    env["PYTHONPATH"] = str(code_directory())
    lines = "\n".join(json.dumps(to_json(case)) for case in cases)
    done = subprocess.run([str(python), str(SCRIPT)], input=lines, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return [Measured(**json.loads(line)) for line in done.stdout.splitlines()]


def main(layers: int | None) -> int:
    python = environments.ensure(environment("llamafactory", "cpu"), lambda text: print(text, file=sys.stderr))
    cases = list(grid(layers, LENGTHS))
    print("| model | tuning | checkpointing | length | forward, backward | tracker | optimizer step | tracker |")
    print("|---|---|---|---|---|---|---|---|")
    worst = 0.0
    for (name, case), found in zip(cases, measure(python, [case for _, case in cases]), strict=True):
        guess = estimated(case)
        worst = max(worst, difference(case, guess, found))
        again = "on" if case.checkpointing else "off"
        sizes = " | ".join(f"{n / 1e9:.3f}" for n in (guess.passes, found.passes, guess.step, found.step))
        print(f"| {name} | {case.tuning} | {again} | {case.length} | {sizes} |")
    print(f"\nlargest difference: {worst:.1%}")
    return int(worst > CLOSE)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if sys.argv[1:] else None))
