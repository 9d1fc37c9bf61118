"""Quantizes a whole model with llm-compressor, inside the environment `export`.

Usage: python -m eval.models.export SPEC.json

SPEC holds an eval.spec.Quantize; what was done, an eval.spec.Quantized, goes to quantized.json beside the model, which
is written as compressed-tensors: transformers and vLLM load it. Exit code 2, and a sentence on stderr, where a scheme
cannot take the model: nothing is written then. Memory: the model once, and of one layer what the rows make of it.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sys
from array import array
from collections.abc import Iterator, Mapping
from importlib import metadata
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from eval.models.schemes import GROUPS, SCHEMES
from eval.spec import Calibrated, CalibrationRows, Quantize, Quantized
from recipes.errors import UserError
from recipes.files import read_json
from recipes.typed import read_typed, write_typed

# The head and the routers of experts lose most and weigh least; llm-compressor's own examples leave them out too.
KEPT = ("lm_head", "re:.*mlp.gate$", "re:.*router$", "re:.*shared_expert_gate$")
BESIDE = ("tokenizer*", "chat_template*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt",
          "*.model", "*.py")  # fmt: skip
VERSIONS = ("llmcompressor", "compressed-tensors", "torch", "transformers")


def main(spec: Quantize) -> Quantized:
    """Write the quantized model; returns what was done.

    Raises:
        UserError: the scheme cannot take this model, or there are no rows.
    """
    import torch
    from llmcompressor import oneshot
    from llmcompressor.pipelines.cache import IntermediatesCache
    from torch.utils.data import DataLoader

    from eval.engines.loading import load_whole

    if read_json(Path(spec.model, "config.json")).get("quantization_config"):
        raise UserError(f"{spec.model} is quantized already; export the model that it was made of")
    torch.manual_seed(0)
    if not torch.accelerator.is_available():
        IntermediatesCache.pin_memory = _unpinned  # AWQ of llm-compressor 0.13.0 does, which fails without a GPU
    # On the CPU: llm-compressor brings one layer after the other to the accelerator, where there is one.
    model = load_whole(spec.model, dtype="auto", trust_remote_code=spec.trust_remote_code)
    layers, kept = linear_layers(model)
    group = group_size(spec.scheme, {name: layer.in_features for name, layer in layers.items()})
    refuse_experts({name: tuple(value.shape) for name, value in model.named_parameters()})
    rows: list[list[int]] = []
    calibrated = None
    if spec.rows:
        rows, calibrated = drawn(spec.rows, spec.model, spec.trust_remote_code)
    given = [{"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=int)} for ids in rows]
    calibration = {"dataset": DataLoader(given, batch_size=None), "num_calibration_samples": len(given)}  # type: ignore[arg-type]
    oneshot(model=model, recipe=modifiers(spec.scheme, group), **(calibration if given else {}))
    target = Path(spec.target)
    model.save_pretrained(target, save_compressed=True)
    for pattern in BESIDE:
        for file in Path(spec.model).glob(pattern):
            shutil.copyfile(file, target / file.name)
    return Quantized(
        scheme=spec.scheme,
        layers=len(layers),
        kept=tuple(kept),
        group_size=group,
        calibrated=calibrated,
        versions={name: metadata.version(name) for name in VERSIONS},
    )


def _unpinned(*_: Any) -> None:
    """In place of what speeds copies to an accelerator up."""


def linear_layers(model: Any) -> tuple[dict[str, Any], list[str]]:
    """The linear layers that are quantized, by name, and the names of those that are not.

    Raises:
        UserError: there are none.
    """
    import torch
    from compressed_tensors.utils import match_named_modules

    all_of_them = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    found = dict(match_named_modules(model, ["Linear"], list(KEPT)))
    if not found:
        raise UserError("the model has no linear layer (torch.nn.Linear) to quantize; export it as hf")
    return found, sorted(all_of_them.keys() - found.keys())


def group_size(scheme: str, inputs: Mapping[str, int]) -> int | None:
    """The largest group size that divides the inputs of every layer; None where a scheme has no groups.

    Raises:
        UserError: none does, with the first layer that no size divides.
    """
    if not SCHEMES[scheme].grouped:
        return None
    for size in GROUPS:
        if all(number % size == 0 for number in inputs.values()):
            return size
    name, number = next((name, number) for name, number in inputs.items() if number % GROUPS[-1])
    sizes = ", ".join(map(str, GROUPS))
    raise UserError(f"{name} has {number} inputs, a multiple of no group size of {scheme} ({sizes}); use fp8 or int8")


def refuse_experts(shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse experts that are one tensor: they are no linear layers, and would stay as they are, most of the model.

    Raises:
        UserError: with the first.
    """
    for name, shape in shapes.items():
        if "expert" in name and len(shape) == 3:
            raise UserError(f"{name} holds {shape[0]} experts in one tensor, which no scheme takes here; use hf")


def modifiers(scheme: str, group: int | None) -> list[Any]:
    """llm-compressor's recipe of a scheme, as its examples have it."""
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform import AWQModifier, SmoothQuantModifier

    ignore = list(KEPT)
    weights = {"num_bits": 4, "type": "int", "symmetric": scheme == "gptq", "strategy": "group", "group_size": group}
    groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
    if scheme == "gptq":
        return [GPTQModifier(config_groups=groups, ignore=ignore)]
    if scheme == "awq":
        return [AWQModifier(), QuantizationModifier(config_groups=groups, ignore=ignore)]
    if scheme == "int8":
        # Rounded, and not by GPTQ: of 256 levels a channel it gains next to nothing, and takes hours without a GPU.
        smooth = SmoothQuantModifier(smoothing_strength=0.8)
        return [smooth, QuantizationModifier(targets="Linear", scheme="W8A8", ignore=ignore)]
    return [QuantizationModifier(targets="Linear", scheme="FP8_DYNAMIC", ignore=ignore)]


def drawn(spec: CalibrationRows, model: str, trust_remote_code: bool) -> tuple[list[list[int]], Calibrated]:
    """The token ids of rows that a seed draws from the training rows, as they were trained on, and what they are.

    Raises:
        UserError: there are none.
    """
    rows, of = _prompts(spec, model, trust_remote_code) if spec.prompts else _tokenized(spec)
    found = list(islice(rows, spec.limit))
    if not found:
        raise UserError(f"{spec.prompts or spec.directory} holds no row to calibrate on")
    told = Calibrated(rows=len(found), of=of, tokens=sum(map(len, found)), seed=spec.seed, sha256=rows_hash(found))
    return found, told


def rows_hash(rows: list[list[int]]) -> str:
    digest = hashlib.sha256()
    for ids in rows:
        digest.update(array("i", [*ids, -1]).tobytes())
    return digest.hexdigest()


def _order(count: int, seed: int) -> list[int]:
    return random.Random(seed).sample(range(count), count)


def _tokenized(spec: CalibrationRows) -> tuple[Iterator[list[int]], int]:
    from datasets import load_from_disk

    split = load_from_disk(spec.directory)
    packed = "position_ids" in split.features

    def rows() -> Iterator[list[int]]:
        for index in _order(len(split), spec.seed):
            row = split[index]
            ids = row[f"{spec.prefix}input_ids"]
            yield from unpacked(ids, row["attention_mask"]) if packed else [ids]

    return rows(), len(split)


def unpacked(ids: list[int], numbers: list[int]) -> Iterator[list[int]]:
    """The rows of a pack, whose mask counts them from 1; 0 is what fills it up (runner/data/packs.py)."""
    for number, pairs in groupby(zip(ids, numbers, strict=True), key=lambda pair: pair[1]):
        if number:
            yield [one for one, _ in pairs]


def _prompts(spec: CalibrationRows, model: str, trust_remote_code: bool) -> tuple[Iterator[list[int]], int]:
    from transformers import AutoTokenizer

    assert spec.prompts
    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=trust_remote_code)
    lines = Path(spec.prompts).read_text(encoding="utf-8").splitlines()

    def rows() -> Iterator[list[int]]:
        for index in _order(len(lines), spec.seed):
            text = tokenizer.apply_chat_template(
                json.loads(lines[index])["prompt"], tokenize=False, add_generation_prompt=True, **spec.variables
            )
            yield tokenizer(text, add_special_tokens=False)["input_ids"]

    return rows(), len(lines)


if __name__ == "__main__":
    try:
        asked = read_typed(Quantize, Path(sys.argv[1]))
        write_typed(Path(asked.target) / "quantized.json", main(asked))
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
