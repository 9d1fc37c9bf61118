"""Models of random weights, rows of real lengths, and recipes over both."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from benchmarks.gpu.jobs import SEED, SHAPES, STEPS, WAYS, Job
from runner.fit.shapes import Shape

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
    kind = torch.bfloat16 if torch.cuda.is_available() else torch.float32  # on a CPU both sides compute in fp32
    model = AutoModelForCausalLM.from_config(config, dtype=kind)
model.save_pretrained(target)
"""


def model(work: Path, name: str, python: Path) -> Path:
    """Its directory; made by the interpreter of a backend."""
    target = work / "models" / Path(name).name
    if not (target / "config.json").is_file():
        shutil.rmtree(work / "models", ignore_errors=True)  # one at a time: they are large
        subprocess.run([python, "-c", MODEL, _as_json(SHAPES[name]), target], check=True)
    return target


def _as_json(sizes: Shape) -> str:
    return json.dumps({key: value for key, value in asdict(sizes).items() if key != "bias"})


def rows(work: Path, job: Job) -> Path:
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


def recipe(work: Path, name: str, job: Job, variant: str, *, model: Path, rows: Path, steps: int) -> Path:
    """The file of a recipe that trains the rows in that way."""
    way = WAYS[variant]
    packed = bool(way.get("data"))
    value: dict[str, Any] = {
        "name": name,
        "backend": job.backend,
        "method": job.method,
        "model": {"path": str(model)},
        "tuning": job.tuning,
        "data": {"train": [{"path": str(rows)}], "max_length": job.length},
        "training": {
            "max_steps": steps,
            "global_batch_size": job.packs if packed else job.rows,
            "learning_rate": 1e-4 if job.tuning["type"] == "lora" else 1e-5,
            "warmup_ratio": 0.1,
            "seed": SEED,
        },
        "checkpoint": {"every": None},
    }
    for fields in (job.fields, way):
        for section, own in fields.items():
            value[section] = value.get(section, {}) | own
    file = work / f"{name}-{variant}.yaml"
    file.write_text(yaml.safe_dump(value), encoding="utf-8")
    return file
