"""Data preparation beside LLaMA-Factory's own preprocessing of the same rows: CPU seconds, rows a second, peak memory.

python -m benchmarks.data [ROWS]…    (default: 1000 10000)

Both in the same environment, by the same model, ChatML, one worker, from a file to a tokenized data set on disk; each
as a whole process, less what the process needs for two rows. Exit code 1: the two tokenized other tokens or loss masks.
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from recipes import load
from recipes.typed import write_typed
from runner.files import code_directory
from runner.machine.bundled import located
from runner.machine.process import clean_environment
from runner.machine.topology import topology
from runner.training.prepare import specification
from runner.training.train import Options, ready_python

SIZES = (1000, 10_000)
FEW = 2  # rows of the runs whose cost is taken off: imports, tokenizer, configuration
PEER = """
import sys
from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
from llamafactory.hparams import get_train_args
from llamafactory.model import load_tokenizer
model, directory, target = sys.argv[1:]
try:
    model_args, data_args, training_args, _, _ = get_train_args({
        "model_name_or_path": model, "stage": "sft", "do_train": True, "finetuning_type": "lora", "template": "chatml",
        "dataset": "rows", "dataset_dir": directory, "cutoff_len": 4096, "preprocessing_num_workers": 1,
        "output_dir": target + "-out", "overwrite_cache": True, "tokenized_path": target, "use_cpu": True,
    })
    tokens = load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(tokens["tokenizer"], data_args)
    get_dataset(template, model_args, data_args, training_args, stage="sft", **tokens)
except SystemExit:  # it ends the process where the data are written
    pass
"""
SAME = """
import sys
from datasets import load_from_disk
ours, theirs = (load_from_disk(path)["train"] for path in sys.argv[1:])
assert len(ours) == len(theirs), (len(ours), len(theirs))
for one, other in zip(ours, theirs):
    assert one["input_ids"] == other["input_ids"], (one["input_ids"], other["input_ids"])
    assert one["labels"] == other["labels"], (one["labels"], other["labels"])
"""


def write_rows(directory: Path, count: int) -> None:
    """Rows of a realistic mixture of lengths, and what each side wants to know of them."""
    directory.mkdir()
    chance = random.Random(count)
    words = [line["output"].split() for line in map(json.loads, _source().open(encoding="utf-8"))]
    vocabulary = [word for text in words for word in text]

    def text(middle: int) -> str:
        start = chance.randrange(len(vocabulary) - 1000)
        return " ".join(vocabulary[start : start + max(3, min(500, int(chance.lognormvariate(0, 0.8) * middle)))])

    # One by one: what this process has had in memory would count as its children's.
    with (directory / "rows.json").open("w", encoding="utf-8") as stream:
        for number in range(count):
            row = {"instruction": text(20), "input": "", "output": text(90)}
            stream.write(("[" if number == 0 else ", ") + json.dumps(row))
        stream.write("]")
    (directory / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "rows.json"}}))


def _source() -> Path:
    return Path(__file__).parents[1] / "recipes" / "data" / "finance_qa.jsonl"


def cost(argv: list[str], cwd: Path) -> tuple[float, float]:
    """CPU seconds and peak memory in MB of a process with its children."""
    env = clean_environment(
        {
            "PYTHONPATH": str(code_directory()),
            "DISABLE_VERSION_CHECK": "1",
            "OMP_NUM_THREADS": "1",
            "RECIPE_WORKERS": "1",
        }
    )
    with (cwd / "log").open("w") as log:
        child = subprocess.Popen(argv, cwd=cwd, env=env, stdout=log, stderr=log)
        _, status, used = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"{' '.join(argv[:4])} failed:\n{(cwd / 'log').read_text()[-3000:]}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss * _unit() / 1e6


def _unit() -> int:
    return 1024 if sys.platform == "linux" else 1


def measured(python: Path, work: Path, count: int) -> dict[str, tuple[float, float]]:
    directory = work / f"{count}"
    write_rows(directory, count)
    overrides = {"data.train[0].path": directory / "rows.json", "data.validation": "{}", "eval": "{}",
                 "data.max_length": 4096, "model.chat_template": "chatml"}  # fmt: skip
    loaded = load("finance_lora", [f"{name}={value}" for name, value in overrides.items()])
    model = located(loaded.recipe.model.path)
    ours = directory / "ours"
    ours.mkdir()
    write_typed(ours / "spec.json", specification(loaded.recipe, model, ours))
    theirs = directory / "theirs"
    commands = {
        "ours": [str(python), "-m", "runner.data.prepare", str(ours / "spec.json")],
        "llamafactory": [str(python), "-c", PEER, model, str(directory), str(theirs)],
    }
    found = {name: cost(argv, directory) for name, argv in commands.items()}
    subprocess.run([str(python), "-c", SAME, str(ours / "tokenized"), str(theirs)], check=True)
    return found


def main(sizes: list[int]) -> int:
    loaded = load("finance_lora", [])
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        python = ready_python(loaded.recipe, topology(), Options(runs_dir=work))
        start = measured(python, work, FEW)
        print("rows      ours                              llamafactory 0.9.5                ratio")
        for count in sizes:
            found = measured(python, work, count)
            cells = {}
            for side, (cpu, memory) in found.items():
                rate = (count - FEW) / max(1e-9, cpu - start[side][0])
                cells[side] = (rate, f"{rate:6,.0f} rows/CPU-s, {memory:5,.0f} MB")
            ratio = cells["ours"][0] / cells["llamafactory"][0]
            print(f"{count:<9,} {cells['ours'][1]:<33} {cells['llamafactory'][1]:<33} {ratio:.2f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _unit() / 1e6
    print(f"tokens and masks are equal; the runner itself: {peak:,.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main([int(text) for text in sys.argv[1:]] or list(SIZES)))
