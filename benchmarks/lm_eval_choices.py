"""CPU-seconds and scores of a multiple-choice task of lm-eval: asked by us, and by lm-eval's own command line.

python -m benchmarks.lm_eval_choices [QUESTIONS]

Questions of our own making, whose scores mean nothing: four choices of a sentence each, five examples before every
question, the same ones as in MMLU. Both in our environment eval-lm, so with the same lm-eval, torch and transformers;
whole processes are measured, start and loading of the model included; one thread each. Exit code 1: less than 5 times
less CPU, or scores that differ.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import Cost, once
from recipes.files import write_json, write_text
from runner.files import code_directory
from runner.machine import bundled, environments
from runner.machine.environments import environment
from runner.machine.process import clean_environment

TARGET, BATCH, SHOTS = 5.0, 8, 5
TASK = """
task: towns
dataset_path: json
dataset_kwargs: {data_files: {test: %(rows)s, dev: %(examples)s}}
test_split: test
fewshot_split: dev
fewshot_config: {sampler: first_n}
output_type: multiple_choice
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_choice: "{{choices}}"
doc_to_target: answer
metric_list: [{metric: acc}, {metric: acc_norm}]
"""


def main(count: int) -> int:
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
    python = environments.ensure(environment("eval-lm", "cpu"), print)
    model = bundled.ensure(environments.ensure(environment("eval", "cpu"), print), print)
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        files = {"rows": work / "rows.jsonl", "examples": work / "examples.jsonl"}
        for number, file in enumerate(files.values()):
            rows = [question(n + 1000 * number) for n in range((count, SHOTS)[number])]
            write_text(file, "".join(json.dumps(row) + "\n" for row in rows))
        write_text(work / "towns.yaml", TASK % files)
        ours(work / "uncounted", python, model)  # a new environment's first process compiles every module
        cost, scores = ours(work / "ours", python, model)
        peer_cost, peer_scores = theirs(work, python, model)
    print(f"{count} questions of 4 choices after {SHOTS} examples")
    print(f"{'':20} {'CPU-s':>8} {'wall s':>8} {'acc':>9} {'acc_norm':>9}")
    for name, c, s in (("recipe-runner", cost, scores), ("lm_eval", peer_cost, peer_scores)):
        print(f"{name:20} {c.cpu:8.1f} {c.wall:8.1f} {s['acc']:9.6f} {s['acc_norm']:9.6f}")
    ratio, same = peer_cost.cpu / cost.cpu, scores == peer_scores
    print(f"{ratio:.1f} times less CPU (target {TARGET:.0f}); scores {'equal' if same else 'DIFFER'}")
    return int(ratio < TARGET or not same)


def question(n: int) -> dict[str, object]:
    """About as long as one of ARC's or MMLU's with its choices written out."""
    asked = f"In a town of {n + 30} people, {n + 3} own a shop and the others work in one. Who lends money to whom?"
    choices = [
        f"All {n + 3} owners lend what they have not spent to the people who work for them.",
        f"The {n + 27} others keep their savings at a bank, which lends them to owners of shops.",
        f"Nobody lends anything, for {n + 30} people know one another too well to ask for it.",
        f"Each of the {n + 30} people lends a part of the wages to the next one in the street.",
    ]
    return {"question": asked, "choices": choices, "answer": n % 4}


def ours(output: Path, python: Path, model: Path) -> tuple[Cost, dict[str, float]]:
    work = output.parent
    spec = {
        "models": [{"name": "model", "path": str(model), "output": str(output)}],
        "suites": [f"lm_eval:{work / 'towns.yaml'}"], "device": "cpu",
        "lm_eval": {"num_fewshot": SHOTS, "chat_template": False, "batch": BATCH},
    }  # fmt: skip
    write_json(work / "spec.json", spec)
    env = clean_environment({"PYTHONPATH": str(code_directory())})
    cost = once([str(python), "-m", "eval.suites.lm_eval.worker", str(work / "spec.json")], work, env)
    metrics = json.loads((output / "results.json").read_text(encoding="utf-8"))["metrics"]
    return cost, {name: metrics[f"lm_eval:towns.{name}"]["value"] for name in ("acc", "acc_norm")}


def theirs(work: Path, python: Path, model: Path) -> tuple[Cost, dict[str, float]]:
    command = [
        str(python), "-m", "lm_eval", "run", "--model", "hf", "--model_args", f"pretrained={model},dtype=float32",
        "--tasks", str(work / "towns.yaml"), "--num_fewshot", str(SHOTS), "--device", "cpu",
        "--batch_size", str(BATCH), "--output_path", str(work / "theirs"),
    ]  # fmt: skip
    cost = once(command, work, clean_environment({"HF_HOME": str(work / "hub")}))
    (written,) = (work / "theirs").rglob("results_*.json")
    results = json.loads(written.read_text(encoding="utf-8"))["results"]["towns"]
    return cost, {name: results[f"{name},none"] for name in ("acc", "acc_norm")}


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if sys.argv[1:] else 16))
