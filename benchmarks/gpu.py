"""What a GPU gives: tokens a second, peak memory and loss of our plans beside the backend's own defaults.

python -m benchmarks.gpu [--jobs NAME,NAME] [--minutes 8] [--out DIR] [--env current] [--work DIR]

Random weights in the shape of real models, rows of real lengths from a seeded mixture. Each job runs as `recipe run`,
with rows as they are and packed, and as LLaMA-Factory's own command line: `llamafactory-cli train` on the same
tokenized rows, with the same batches and schedule, and its defaults for the rest. Measured are the steps after the
fifth. Results are kept in DIR/gpu.json and a second call goes on where the first stopped; DIR/gpu.md is the table.
Without a GPU the same is done with a tiny model on the CPU: it shows that it works.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from recipes.typed import read_typed, write_typed
from runner.files import code_directory
from runner.fit.gpus import named
from runner.fit.models import families
from runner.fit.shapes import Shape, shape
from runner.machine.environments import ensure, environment
from runner.machine.process import clean_environment
from runner.machine.topology import topology
from runner.runs.rundir import Run

STEPS, WARM, SEED = 20, 5, 42  # a figure is of the steps after WARM
NEEDED = ("torch", "transformers", "llamafactory", "peft", "trl", "datasets", "accelerate")


SHAPES = {
    **{name: shape(families()[name], name) for name in ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-4B", "meta-llama/Llama-3.1-8B")},
    "tiny": Shape(
        family="qwen3",
        hidden=64,
        layers=2,
        heads=4,
        kv_heads=2,
        head_dim=16,
        intermediate=96,
        vocabulary=2048,
        tied=True,
    ),
}


@dataclass(frozen=True)
class Job:
    """One training: the shape, the recipe's method and tuning, tokens a row at most, rows and packs a step."""

    shape: str
    method: str
    tuning: dict[str, Any]
    length: int
    rows: int = 8
    packs: int = 0  # none: not packed
    fields: dict[str, Any] = field(default_factory=dict)


LORA = {"type": "lora", "rank": 16, "alpha": 32}
JOBS = {
    "sft-lora-8b": Job("meta-llama/Llama-3.1-8B", "sft", LORA, 4096, packs=2),
    "sft-full-0.6b": Job("Qwen/Qwen3-0.6B", "sft", {"type": "full"}, 8192, packs=2),
    "qlora-8b": Job("meta-llama/Llama-3.1-8B", "sft", {**LORA, "quantization": "4bit"}, 4096, packs=2),
    "dpo-lora-4b": Job("Qwen/Qwen3-4B", "dpo", LORA, 2048, fields={"micro_batch_size": 2}),
    "sft-lora-4b": Job("Qwen/Qwen3-4B", "sft", LORA, 4096, packs=2),
}
TINY = {
    "sft-lora": Job("tiny", "sft", LORA, 256, packs=2),
    "dpo-lora": Job("tiny", "dpo", LORA, 128),
}
LABELS = {
    "default": "LLaMA-Factory's defaults",
    "rows": "ours",
    "packed": "ours, packed",
    "kept": "ours, packed, gradient_checkpointing: false",
}
# Told by LLaMA-Factory's own command line at its end.
PEAK = """
import atexit, sys
@atexit.register
def tell():
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_initialized():
        print("peak memory", torch.cuda.max_memory_allocated() / 1e9, flush=True)
"""
# A model of random weights and a tokenizer of one token a word.
MODEL = """
import json, sys, torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast
shape, target = json.loads(sys.argv[1]), sys.argv[2]
special = ["<unk>", "<|im_start|>", "<|im_end|>", "system", "user", "assistant"]
words = special + [f"w{n}" for n in range(shape["vocabulary"] - len(special))]
tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<|im_end|>", pad_token="<unk>",
                               additional_special_tokens=["<|im_start|>"])
fast.chat_template = ("{% for m in messages %}<|im_start|>{{ m.role }}\\n{{ m.content }}<|im_end|>\\n{% endfor %}"
                      "{% if add_generation_prompt %}<|im_start|>assistant\\n{% endif %}")
fast.save_pretrained(target)
config = AutoConfig.for_model(
    shape["family"], vocab_size=shape["vocabulary"], hidden_size=shape["hidden"], num_hidden_layers=shape["layers"],
    intermediate_size=shape["intermediate"], num_attention_heads=shape["heads"], num_key_value_heads=shape["kv_heads"],
    head_dim=shape["head_dim"], tie_word_embeddings=shape["tied"], max_position_embeddings=40960, bos_token_id=None,
    eos_token_id=2, pad_token_id=0)
torch.manual_seed(0)
with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
model.save_pretrained(target)
"""


# The attention of packs as it is used, with its gradients, beside each row alone in float64; grouped heads.
ATTENTION = """
import torch
from adapters.llamafactory import packed
device = "cuda" if torch.cuda.is_available() else "cpu"
kind = torch.bfloat16 if device == "cuda" else torch.float32
torch.manual_seed(0)
rows = torch.tensor([[1] * 300 + [2] * 5 + [3] * 167 + [0] * 40, [1] * 256 + [2] * 256], device=device)
attention = packed.Attention()
attention.bounds = packed.bounds(rows)
exact = [torch.randn(2, heads, 512, 64, device=device, dtype=kind).double().requires_grad_() for heads in (8, 2, 2)]
used = [part.detach().to(kind).requires_grad_() for part in exact]
out, _ = attention.attend(None, *used, None)
flat = [part.transpose(1, 2).flatten(0, 1) for part in exact]
alone = packed.one_by_one(*flat, attention.bounds[0].tolist()).view(out.shape)
weights = torch.randn_like(alone)
(out.double() * weights).sum().backward(); (alone * weights).sum().backward()
pairs = [(out.double(), alone), *((a.grad.double(), b.grad) for a, b in zip(used, exact))]
print(max(float((a - b).norm() / b.norm()) for a, b in pairs))
"""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one training gave; seconds, gigabytes (10^9 bytes) and nats."""

    tokens_per_s: float
    mfu: float | None
    memory_gb: float  # the most that PyTorch had allocated at once; on a CPU 0
    first_loss: float
    last_loss: float
    seconds: float


def main(given: argparse.Namespace) -> int:
    deadline = time.monotonic() + given.minutes * 60
    machines = topology()
    jobs = JOBS if machines.gpus else TINY
    names = given.jobs.split(",") if given.jobs else list(jobs)
    if unknown := set(names) - jobs.keys():
        print(f"no job {', '.join(sorted(unknown))}; here are {', '.join(jobs)}")
        return 2
    if not machines.gpus:
        print("no GPU here: tiny models on the CPU, which show that it works and nothing of speed")
    python = _python(given.env, machines.device)
    if python is None:
        return 2
    given.out.mkdir(parents=True, exist_ok=True)
    results, failed = _results(given.out), 0
    print(f"attention of packs: {_attention_error(python):.1e} from float64, relative")
    for name, variant in [(job, variant) for job in names for variant in variants(jobs[job])]:
        if f"{name}/{variant}" in results:
            continue
        if time.monotonic() > deadline:
            print("the time is over; the same command goes on from here")
            break
        try:
            results[f"{name}/{variant}"] = found = measure(name, jobs[name], variant, given, python)
        except subprocess.CalledProcessError:  # what it said is shown; the next may do
            failed = 1
            continue
        write_typed(given.out / "gpu.json", {key: asdict(value) for key, value in results.items()})
        print(f"{name}/{variant}: {found.tokens_per_s:,.0f} tokens/s, {found.memory_gb:.1f} GB", flush=True)
        (given.out / "gpu.md").write_text(table(results, jobs), encoding="utf-8")
    print(table(results, jobs))
    return failed


def _attention_error(python: Path) -> float:
    env = clean_environment({"PYTHONPATH": str(code_directory())})
    done = subprocess.run([python, "-c", ATTENTION], env=env, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def _python(env: str, device: str) -> Path | None:
    if env == "current":
        missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
        if missing:
            print(f"--env current: {sys.executable} lacks {', '.join(missing)}")
            return None
        return Path(sys.executable)
    return ensure(environment("llamafactory", device), print)


def _results(out: Path) -> dict[str, Result]:
    file = out / "gpu.json"
    return read_typed(dict[str, Result], file) if file.is_file() else {}


def variants(job: Job) -> list[str]:
    """`rows` first: its tokenized rows are what the default trains on."""
    return ["rows", "default", *(["packed", *(["kept"] if topology().gpus else [])] if job.packs else [])]


def measure(name: str, job: Job, variant: str, given: argparse.Namespace, python: Path) -> Result:
    """Train, and say what it gave.

    Raises:
        subprocess.CalledProcessError: a training failed; its output has been shown.
    """
    started, work = time.monotonic(), given.work
    model, rows = _model(work, job.shape, python), _rows(work, job)
    log = given.out / f"{name}-{variant}.log"
    if variant == "default":
        lines, memory = _default(work / "runs" / f"{name}-rows", python, log)
    else:
        recipe = _recipe(work, name, job, variant, model, rows)
        command = [sys.executable, "-m", "runner.cli", "run", str(recipe), "--no-eval", "--env", given.env]
        command += ["--runs-dir", str(work / "runs"), "--name", f"{name}-{variant}"]
        shutil.rmtree(work / "runs" / f"{name}-{variant}", ignore_errors=True)
        _heard(command, Path.cwd(), dict(os.environ), log)
        lines = Run(work / "runs" / f"{name}-{variant}").steps()
        memory = max(line["memory_gb"] for line in lines)
    steps = Run(work / "runs" / f"{name}-{'rows' if variant == 'default' else variant}").steps()
    tokens = {line["step"]: line["tokens"] for line in steps if "loss" in line}
    warm = [line for line in lines if "loss" in line and line["step"] > min(WARM, len(tokens) - 2)]
    speed = sum(tokens[line["step"]] for line in warm) / sum(line["step_time_s"] for line in warm)
    losses = [line["loss"] for line in lines if "loss" in line]
    return Result(
        tokens_per_s=speed,
        mfu=_mfu(job, speed),
        memory_gb=memory if topology().gpus else 0.0,
        first_loss=losses[0],
        last_loss=losses[-1],
        seconds=time.monotonic() - started,
    )


def _model(work: Path, name: str, python: Path) -> Path:
    target = work / "models" / Path(name).name
    if not (target / "config.json").is_file():
        shutil.rmtree(work / "models", ignore_errors=True)  # one at a time: they are large
        subprocess.run([python, "-c", MODEL, _as_json(SHAPES[name]), target], check=True)
    return target


def _as_json(sizes: Shape) -> str:
    return json.dumps({key: value for key, value in asdict(sizes).items() if key != "bias"})


def _rows(work: Path, job: Job) -> Path:
    """Conversations whose lengths are spread as those of instruction data are: most short, a few long."""
    file = work / f"{Path(job.shape).name}-{job.method}-{job.length}.jsonl"
    chance, vocabulary = random.Random(SEED), SHAPES[job.shape].vocabulary - 10
    # As many rows as the packed training has tokens for, and a fifth more.
    count = max(STEPS * job.rows, int(STEPS * job.packs * job.length / (_median(job) * 1.4) * 1.2)) + 8

    def text(words: int) -> str:
        return " ".join(f"w{int(chance.paretovariate(0.7)) % vocabulary}" for _ in range(words))

    with file.open("w", encoding="utf-8") as stream:
        for _ in range(count):
            words = int(min(job.length - 40, max(32, chance.lognormvariate(0, 0.9) * _median(job))))
            asked, told = text(words // 4), text(words - words // 4)
            chat = [{"role": "user", "content": asked}]
            row: dict[str, Any] = {"messages": [*chat, {"role": "assistant", "content": told}]}
            if job.method == "dpo":
                half = [{"role": "assistant", "content": part} for part in (told, text(words - words // 4))]
                row = {"prompt": chat, "chosen": half[:1], "rejected": half[1:]}
            stream.write(json.dumps(row) + "\n")
    return file


def _median(job: Job) -> float:
    return min(400.0, job.length / 5)


def _recipe(work: Path, name: str, job: Job, variant: str, model: Path, rows: Path) -> Path:
    packed = variant in ("packed", "kept")
    value = {
        "name": name,
        "backend": "llamafactory",
        "method": job.method,
        "model": {"path": str(model)},
        "tuning": job.tuning,
        "data": {"train": [{"path": str(rows)}], "max_length": job.length, "packing": packed},
        "training": {
            "max_steps": STEPS if topology().gpus else 4,
            "global_batch_size": job.packs if packed else job.rows,
            "learning_rate": 1e-4 if job.tuning["type"] == "lora" else 1e-5,
            "warmup_ratio": 0.1,
            "gradient_checkpointing": variant != "kept",
            "seed": SEED,
            **({} if packed else job.fields),
        },
        "checkpoint": {"every": None},
    }
    file = work / f"{name}-{variant}.yaml"
    file.write_text(yaml.safe_dump(value), encoding="utf-8")
    return file


def _default(run: Path, python: Path, log: Path) -> tuple[list[dict[str, float]], float]:
    """LLaMA-Factory's own command line on the rows of a run of ours: its steps, timed by their prints, and GB."""
    config = yaml.safe_load((run / "backend" / "train.yaml").read_text(encoding="utf-8"))
    for key in ("enable_liger_kernel", "optim"):  # what our plan chooses, and its defaults would not
        config.pop(key, None)
    file = run / "default.yaml"
    file.write_text(yaml.safe_dump(config | {"output_dir": str(run / "default")}), encoding="utf-8")
    (run / "sitecustomize.py").write_text(PEAK, encoding="utf-8")
    env = clean_environment({"PYTHONUNBUFFERED": "1", "DISABLE_VERSION_CHECK": "1", "PYTHONPATH": str(run)})
    heard = _heard([str(python), "-m", "llamafactory.cli", "train", str(file)], run, env, log)
    times = [at for at, line in heard if line.startswith("{'loss'")]
    history = json.loads((run / "default" / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    shutil.rmtree(run / "default")
    paces = [0.0, *(after - before for before, after in pairwise(times))]  # the first step's begin is not printed
    steps = [
        {"step": line["step"], "loss": line["loss"], "step_time_s": pace}
        for line, pace in zip((line for line in history if "loss" in line), paces, strict=True)
    ]
    return steps, max((float(line.split()[-1]) for _, line in heard if line.startswith("peak memory")), default=0.0)


def _heard(command: Sequence[str], cwd: Path, env: dict[str, str], log: Path) -> list[tuple[float, str]]:
    """The lines of a command's output with when they came; all of it is kept in a log, and shown where it fails."""
    child = subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert child.stdout
    found = [(time.monotonic(), line) for line in child.stdout]
    log.write_text("".join(line for _, line in found), encoding="utf-8")
    if child.wait():
        print("".join(line for _, line in found[-40:]))
        raise subprocess.CalledProcessError(child.returncode, command)
    return found


def _smi(query: str) -> list[str]:
    if not shutil.which("nvidia-smi"):
        return []
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def _mfu(job: Job, speed: float) -> float | None:
    """By 6 operations a parameter and token, 4 where the base's weights have no gradients; attention not counted."""
    card, sizes = named(next(iter(_smi("name")), "")), SHAPES[job.shape]
    peak = card.flops if card else None
    each, head = 6 if job.tuning["type"] == "full" else 4, sizes.hidden * sizes.vocabulary
    return each * (sizes.linear_weights + head) * speed / peak if peak else None


def table(results: dict[str, Result], jobs: dict[str, Job]) -> str:
    """Markdown: where it ran, and a line a training."""
    return "\n".join([*_where(), "", *_lines(results, jobs)]) + "\n"


def _where() -> Iterator[str]:
    device = next(iter(_smi("name,driver_version,memory.total")), f"CPU {platform.machine()}")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in NEEDED if importlib.util.find_spec(name)]
    yield f"{device}; {datetime.date.today().isoformat()}; Python {platform.python_version()}; {', '.join(versions)}"


def _lines(results: dict[str, Result], jobs: dict[str, Job]) -> Iterator[str]:
    yield "| job | training | tokens/s | x default | MFU | peak memory, GB | loss, first and last |"
    yield "|---|---|---|---|---|---|---|"
    for name in jobs:
        for variant, label in LABELS.items():
            found, default = results.get(f"{name}/{variant}"), results.get(f"{name}/default")
            if found:
                times = f"{found.tokens_per_s / default.tokens_per_s:.2f}" if default else ""
                mfu = "" if found.mfu is None else f"{found.mfu:.0%}"
                speed, losses = f"{found.tokens_per_s:,.0f}", f"{found.first_loss:.4f} → {found.last_loss:.4f}"
                yield f"| {name} | {label} | {speed} | {times} | {mfu} | {found.memory_gb:.1f} | {losses} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", default="", help="some of the jobs, by name")
    parser.add_argument("--minutes", type=float, default=8, help="begin nothing after these")
    parser.add_argument("--out", type=Path, default=Path("gpu-check"), help="where the results are kept")
    parser.add_argument("--work", type=Path, default=Path("gpu-check/work"), help="models, rows, runs: many gigabytes")
    parser.add_argument("--env", choices=["locked", "current"], default="locked")
    sys.exit(main(parser.parse_args()))
