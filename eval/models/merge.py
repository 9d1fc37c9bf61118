"""Merges a LoRA adapter into its base, and proves it; inside the evaluation environment.

Usage: python -m eval.models.merge SPEC.json

SPEC holds an eval.spec.Merge; what was checked, an eval.spec.Merged, goes to merge.json beside the merged model.
Exit code 2, and a sentence on stderr, where the merged model is not what base and adapter were. Memory: the model once.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from eval.engines.loading import adapted, load_whole, resize_for
from eval.hashes import model_hash
from eval.spec import Compared, Merge, Merged
from recipes.errors import UserError
from recipes.files import read_json
from recipes.model_files import HEAD
from recipes.template import Template, shaped
from recipes.typed import read_typed, write_typed

REPLY_TOKENS = 128  # of a reply to a test prompt
FALLBACK = "The price of a bond falls when"  # where there are no prompts to compare on
# Largest difference of a next-token log-probability in nats: rounding of float32, and of 16 bits over all layers.
LIMITS = {"float32": 1e-3, "bfloat16": 0.5, "float16": 0.1}


def main(spec: Merge) -> Merged:
    """Write the merged model; returns what was checked.

    Raises:
        ValueError: the adapter does nothing, a weight is no number, or the merged model answers otherwise.
        UserError: weights are missing, or the adapter is of another base.
    """
    from transformers import AutoConfig, AutoTokenizer

    trust, target, revision = spec.trust_remote_code, Path(spec.target), spec.revision
    own_tokenizer = Path(spec.adapter, "tokenizer_config.json").is_file()  # adapters of the hub may have none
    tokenizer = AutoTokenizer.from_pretrained(
        spec.adapter if own_tokenizer else spec.base,
        revision=None if own_tokenizer else revision,
        trust_remote_code=trust,
    )
    config = AutoConfig.from_pretrained(spec.base, revision=revision, trust_remote_code=trust)
    own = config.dtype if isinstance(config.dtype, torch.dtype) else torch.float32
    dtype = own if spec.dtype == "auto" else getattr(torch, spec.dtype)
    asked = _ids(tokenizer, spec.prompts) if spec.check else []
    told = _ids(tokenizer, [[{"role": "user", "content": spec.test_prompt}]])[0] if spec.test_prompt else None

    # float32 whatever the base is kept in: a small change of a large 16-bit weight would be rounded away.
    base = load_whole(spec.base, revision=revision, dtype=torch.float32, trust_remote_code=trust)
    resize_for(base, Path(spec.adapter))
    ends = Path(spec.adapter, "generation_config.json")  # written where training taught another end of turn
    if ends.is_file():
        base.generation_config.eos_token_id = read_json(ends)["eos_token_id"]
    before = _log_probs(base, asked)
    tuned = adapted(base, Path(spec.adapter))
    wanted, reply = _log_probs(tuned, asked), _reply(tuned, tokenizer, told)
    effect = _largest(before, wanted)
    if spec.check and effect == 0:
        raise ValueError("the adapter changes no answer: its weights are zero, or are for another model")
    whole = tuned.merge_and_unload(safe_merge=True)  # it raises where a merged weight is no number
    whole.to(dtype).save_pretrained(target)
    tokenizer.save_pretrained(target)
    for pattern in ("chat_template*", HEAD):  # a reward model's head is of the whole model as it is of the adapted
        for file in Path(spec.adapter).glob(pattern):
            shutil.copyfile(file, target / file.name)
    name, parameters = str(dtype).removeprefix("torch."), sum(p.numel() for p in whole.parameters())
    del base, tuned, whole

    compared, replies = None, None
    if spec.check or spec.test_prompt:
        merged = load_whole(str(target), dtype=dtype, trust_remote_code=trust)
        compared = _compared(wanted, _log_probs(merged, asked), LIMITS[name], effect) if spec.check else None
        replies = (reply, _reply(merged, tokenizer, told)) if spec.test_prompt else None
    return Merged(
        dtype=name,
        parameters=parameters,
        base=spec.base,
        adapter=spec.adapter,
        adapter_hash=model_hash(Path(spec.adapter)),
        compared=compared,
        replies=replies,
    )


def _compared(wanted: list[Any], found: list[Any], limit: float, effect: float) -> Compared:
    """What the log-probabilities of adapter and merged model say.

    Raises:
        ValueError: they are not those of one model.
    """
    gap = _largest(wanted, found)
    if not gap <= limit:
        raise ValueError(
            f"the merged model differs from base and adapter by {gap:.2g} nat; at most {limit} is rounding"
        )
    positions = sum(len(one) for one in found)
    same = sum(int((a.argmax(-1) == b.argmax(-1)).sum()) for a, b in zip(wanted, found, strict=True))
    return Compared(
        prompts=len(found),
        positions=positions,
        largest_difference_nat=gap,
        limit_nat=limit,
        same_next_token=same / positions,
        effect_of_adapter_nat=effect,
    )


def _reply(model: Any, tokenizer: Any, asked: Any) -> str:
    """The likeliest reply; "" where nothing is asked."""
    if asked is None:
        return ""
    padding = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    with torch.inference_mode():
        ids = model.eval().generate(
            input_ids=asked,
            attention_mask=torch.ones_like(asked),
            do_sample=False,
            max_new_tokens=REPLY_TOKENS,
            pad_token_id=padding,
        )
    return str(tokenizer.decode(ids[0, asked.shape[1] :], skip_special_tokens=True)).strip()


def _ids(tokenizer: Any, prompts: Sequence[Sequence[Mapping[str, Any]]]) -> list[Any]:
    """Each prompt as a tensor of shape (1, tokens)."""
    if not prompts or not tokenizer.chat_template:
        plain = [prompt[-1]["content"] for prompt in prompts] or [FALLBACK]
        return [tokenizer(text, return_tensors="pt")["input_ids"] for text in plain]
    template = shaped(Template(tokenizer, None, {}))
    texts = [template.render([dict(message) for message in prompt], reply_next=True) for prompt in prompts]
    return [tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"] for text in texts]


def _log_probs(model: Any, asked: list[Any]) -> list[Any]:
    """Next-token log-probabilities at every position of each prompt, float32, shape (tokens, vocabulary)."""
    model.eval()
    with torch.inference_mode():
        return [torch.log_softmax(model(input_ids=ids).logits[0].float(), -1) for ids in asked]


def _largest(one: list[Any], other: list[Any]) -> float:
    """The largest difference at the tokens that the first finds likeliest: in the tail, rounding alone is large.

    0 of nothing.
    """
    pairs = zip(one, other, strict=True)
    gaps = [(a.max(-1).values - b.gather(-1, a.argmax(-1, keepdim=True))[:, 0]).abs() for a, b in pairs]
    return max((float(gap.max()) for gap in gaps), default=0.0)


if __name__ == "__main__":
    try:
        asked = read_typed(Merge, Path(sys.argv[1]))
        write_typed(Path(asked.target) / "merge.json", main(asked))
    except (ValueError, UserError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
