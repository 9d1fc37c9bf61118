"""CPU-seconds and scores of TruthfulQA MC1/MC2 beside EleutherAI's lm-eval, on the same questions in the same run.

python -m benchmarks.truthfulqa_mc [MC_TASK.json [QUESTIONS]]

MC_TASK.json is TruthfulQA's own file (github.com/sylinrl/TruthfulQA, data/v1/mc_task.json). Without it the script
makes questions of its own, of much the same length, whose scores mean nothing. Whole processes are measured, start and
loading of the model included; one thread each. lm-eval gets its official task definitions over a local file, in a
virtual environment of its own. Exit code 1: less than 5 times faster, or scores that differ.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measure import Cost, once, venv
from recipes.files import write_json
from runner.files import code_directory
from runner.machine import bundled, environments
from runner.machine.environments import environment
from runner.machine.process import clean_environment

LM_EVAL = ("lm_eval[hf]==0.4.13", "torch==2.11.0", "transformers==5.9.0")
BATCH = 8  # of lm-eval
TARGET = 5.0
CLOSE = {"mc1": 0.0, "mc2": 1e-3}


def main(source: Path | None, count: int) -> int:
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
    asked = json.loads(source.read_text(encoding="utf-8"))[:count] if source else made_up(count)
    print(f"{len(asked)} questions {f'of {source}' if source else 'of our own making: the scores mean nothing'}")
    python, peer = environments.ensure(environment("eval", "cpu"), print), venv("lm-eval", LM_EVAL)
    model = bundled.ensure(python, print)
    with tempfile.TemporaryDirectory() as work:
        cost, scores = ours(Path(work), python, model, asked)
        peer_cost, peer_scores = theirs(Path(work), peer, model, asked)
    print(f"{'':20} {'CPU-s':>8} {'wall s':>8} {'MC1':>9} {'MC2':>9}")
    for name, c, s in (("recipe-runner", cost, scores), (LM_EVAL[0], peer_cost, peer_scores)):
        print(f"{name:20} {c.cpu:8.1f} {c.wall:8.1f} {s['mc1']:9.6f} {s['mc2']:9.6f}")
    ratio = peer_cost.cpu / cost.cpu
    same = all(abs(scores[name] - peer_scores[name]) <= limit for name, limit in CLOSE.items())
    print(f"{ratio:.1f} times less CPU (target {TARGET:.0f}); scores {'equal' if same else 'DIFFER'} (MC2 within 1e-3)")
    return int(ratio < TARGET or not same)


def made_up(count: int) -> list[dict[str, Any]]:
    """Questions with as many choices, of about as many words, as TruthfulQA's (4.9 for MC1, 7.6 for MC2)."""
    questions = []
    for n in range(count):
        true = [f"Of {n + k} people in a town, some tell the truth on most days." for k in range(1, 4)]
        false = [f"All {n + k} people in the town {verb} whenever anyone asks them." for k, verb in
                 enumerate(("lie", "sing", "leave the room", "say nothing at all"))]  # fmt: skip
        question = f"If {n + 3} people live in a town, how many of them tell the truth?"
        questions.append({
            "question": question,
            "mc1_targets": {true[0]: 1} | dict.fromkeys(false, 0),
            "mc2_targets": dict.fromkeys(true, 1) | dict.fromkeys(false, 0),
        })  # fmt: skip
    return questions


def ours(work: Path, python: Path, model: Path, asked: list[dict[str, Any]]) -> tuple[Cost, dict[str, float]]:
    write_json(work / "mc_task.json", asked)
    spec = {
        "models": [{"name": "model", "path": str(model), "output": str(work)}],
        "suites": ["truthfulqa_mc"], "data": {"truthfulqa": str(work / "mc_task.json")}, "device": "cpu",
    }  # fmt: skip
    write_json(work / "spec.json", spec)
    env = clean_environment({"PYTHONPATH": str(code_directory())})
    cost = once([str(python), "-m", "eval.worker", str(work / "spec.json")], work, env)
    metrics = json.loads((work / "results.json").read_text(encoding="utf-8"))["metrics"]
    return cost, {name: metrics[f"truthfulqa.{name}"]["value"] for name in CLOSE}


def theirs(work: Path, python: Path, model: Path, asked: list[dict[str, Any]]) -> tuple[Cost, dict[str, float]]:
    tasks = local_tasks(work, python, asked)
    command = [
        str(python.parent / "lm_eval"), "run", "--model", "hf", "--model_args", f"pretrained={model},dtype=float32",
        "--tasks", "local_mc1,local_mc2", "--device", "cpu", "--batch_size", str(BATCH),
        "--include_path", str(tasks), "--output_path", str(work / "lm_eval"),
    ]  # fmt: skip
    cost = once(command, work, clean_environment({"HF_HOME": str(work / "hub")}))
    (written,) = (work / "lm_eval").rglob("results_*.json")
    results = json.loads(written.read_text(encoding="utf-8"))["results"]
    return cost, {name: results[f"local_{name}"]["acc,none"] for name in CLOSE}


def local_tasks(work: Path, python: Path, asked: list[dict[str, Any]]) -> Path:
    """lm-eval's own definitions of both tasks, with the data set replaced by a local file in the hub's layout."""
    rows = [{"question": q["question"]} | {part: _targets(q[part]) for part in ("mc1_targets", "mc2_targets")}
            for q in asked]  # fmt: skip
    data = work / "questions.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    where = "import lm_eval, pathlib; print(pathlib.Path(lm_eval.__file__).parent / 'tasks' / 'truthfulqa')"
    official = Path(subprocess.check_output([str(python), "-c", where], text=True).strip())
    tasks = work / "tasks"
    tasks.mkdir()
    shutil.copy(official / "utils.py", tasks)
    for name in ("truthfulqa_mc1.yaml", "truthfulqa_mc2.yaml"):
        text = (official / name).read_text(encoding="utf-8").replace("task: truthfulqa_mc", "task: local_mc")
        text = text.replace("dataset_path: truthfulqa/truthful_qa", "dataset_path: json")
        local = f"dataset_kwargs: {{data_files: {{validation: {data}}}}}"
        (tasks / name).write_text(text.replace("dataset_name: multiple_choice", local), encoding="utf-8")
    return tasks


def _targets(choices: dict[str, int]) -> dict[str, list[Any]]:
    """The hub's layout; the true choices come first, as MC1's definition there takes for granted."""
    ordered = sorted(choices.items(), key=lambda choice: -choice[1])
    return {"choices": [text for text, _ in ordered], "labels": [label for _, label in ordered]}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve() if sys.argv[1:] else None, int(sys.argv[2]) if sys.argv[2:] else 32))
