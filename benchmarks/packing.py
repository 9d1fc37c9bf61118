"""Tokens a second of packed rows beside padded ones, in one run on the CPU: a small random model, fully trained.

python -m benchmarks.packing [llamafactory] [verl]

Conversations of 8 to 1,000 words, most of them short, as instruction data are; four rows a micro batch and eight a
step, or one pack and two. Counted are the rows' tokens, filling left out, of the steps after the third.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.gpu.made import MODEL
from runner.files import code_directory
from runner.machine.environments import ensure, environment
from runner.machine.process import clean_environment
from runner.runs.rundir import Run

LENGTH, WORDS, WARM, STEPS = 1024, 2000, 3, 10
SHAPE = {
    "family": "qwen3", "hidden": 256, "layers": 4, "heads": 4, "kv_heads": 2, "head_dim": 64, "intermediate": 768,
    "vocabulary": 2048, "tied": True,
}  # fmt: skip
FIELDS = (
    "tuning={type: full}", f"data.max_length={LENGTH}", f"training.max_steps={STEPS}", "training.seed=1",
    "training.gradient_checkpointing=false", "eval={}", "data.validation={}", "checkpoint.every=null",
)  # fmt: skip
WAYS = {
    "padded": ("training.global_batch_size=8", "training.micro_batch_size=4"),
    "packed": ("data.packing=true", "training.global_batch_size=2", "training.micro_batch_size=1"),
}


def write_rows(file: Path, count: int = 400) -> None:
    chance = random.Random(7)
    with file.open("w", encoding="utf-8") as stream:
        for _ in range(count):
            words = int(min(LENGTH - 40, max(8, chance.lognormvariate(0, 0.9) * 120)))
            asked, told = (" ".join(f"w{chance.randrange(WORDS)}" for _ in range(n)) for n in (words // 4, words))
            chat = [{"role": "user", "content": asked}, {"role": "assistant", "content": told}]
            stream.write(json.dumps({"messages": chat}) + "\n")


def speed(backend: str, way: str, work: Path) -> float:
    """Tokens a second of the steps after the first ones."""
    given = [f"backend={backend}", f"model.path={work / 'model'}", f"data.train=[{{path: {work / 'rows.jsonl'}}}]"]
    sets = [part for one in (*given, *FIELDS, *WAYS[way]) for part in ("--set", one)]
    command = [sys.executable, "-m", "runner.cli", "run", "quickstart", "--no-eval", "--runs-dir", str(work / "runs")]
    env = clean_environment({"PYTHONPATH": str(code_directory())})
    done = subprocess.run([*command, *sets], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    lines = [line for line in Run(Path(done.stdout.splitlines()[-1])).steps() if line["step"] > WARM and "loss" in line]
    return sum(line["tokens"] for line in lines) / sum(line["step_time_s"] for line in lines)


def main(backends: list[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        write_rows(work / "rows.jsonl")
        python = ensure(environment("llamafactory", "cpu"), print)
        subprocess.run([python, "-c", MODEL, json.dumps(SHAPE), str(work / "model")], check=True)
        for backend in backends:
            padded, packed = (speed(backend, way, work) for way in WAYS)
            print(f"{backend}: padded {padded:,.0f}, packed {packed:,.0f} tokens/s: {packed / padded:.2f} times")


if __name__ == "__main__":
    main(sys.argv[1:] or ["llamafactory", "verl"])
