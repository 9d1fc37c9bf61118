"""What of a recipe's tuning does not go together, on whatever backend."""

from __future__ import annotations

from collections.abc import Iterator

from recipes.errors import Problem
from recipes.yaml_text import Document, Values

# The linear layers of most models, which all-linear adapts, and what holds them; others are found when the model is.
ADAPTED = (
    *("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "gate_proj", "up_proj", "gate_up_proj", "down_proj"),
    *("self_attn", "mlp", "layers", "model"),
)
MOVED = ("pissa", "olora")  # inits that take a part out of the base; what is trained is the residual


def tuning_problems(value: Values, document: Document) -> Iterator[Problem]:
    """Of the recipe's section `tuning`, and of what else its init leaves no room for."""
    tuning = value.get("tuning", {})
    init = tuning.get("init", "default")
    if init == "orthogonal" and tuning.get("rank", 16) % 2:
        yield document.problem(("tuning", "rank"), "must be even under tuning.init: orthogonal")
    if init in MOVED:
        if tuning.get("quantization"):
            text = "the adapter would be right on the quantized residual alone; take it out, or take another init"
            yield document.problem(("tuning", "quantization"), text)
        if tuning.get("dora"):
            text = "DoRA's norms would be those of the residual; take it out, or take another init"
            yield document.problem(("tuning", "dora"), text)
        if value["method"] in ("dpo", "kto", "grpo"):
            text = f"the reference model of {value['method']} is the base without its adapter, and under {init} that "
            text += "is the residual; allowed: default, gaussian, orthogonal"
            yield document.problem(("tuning", "init"), text)
    if value["model"].get("adapter_path"):
        for given, place in (
            (init != "default", ("tuning", "init")),
            (tuning.get("modules_to_save"), ("tuning", "modules_to_save")),
            (value["model"].get("add_tokens"), ("model", "add_tokens")),
        ):
            if given:
                yield document.problem(place, "model.adapter_path is trained further as it is; take one of them out")
    yield from _token_problems(value, document)
    targets = tuning.get("target_modules", "all-linear")
    for index, name in enumerate(tuning.get("modules_to_save", [])):
        if any(one.endswith(name) for one in (ADAPTED if isinstance(targets, str) else targets)):
            text = f"{name} is adapted by tuning.target_modules: a module is trained whole or by LoRA"
            yield document.problem(("tuning", "modules_to_save", index), text)


def _token_problems(value: Values, document: Document) -> Iterator[Problem]:
    """Fields that leave no room for new rows of embeddings and head."""
    tuning = value.get("tuning", {})
    if not value["model"].get("add_tokens"):
        return
    if value["model"].get("tokenizer"):
        text = "not together with model.add_tokens; add them to a copy of the model's own tokenizer"
        yield document.problem(("model", "tokenizer"), text)
    if tuning.get("quantization"):
        text = "a quantized base gets no new embeddings; take it out, or model.add_tokens"
        yield document.problem(("tuning", "quantization"), text)
    if tuning.get("init", "default") != "default":
        text = "with model.add_tokens there is the default alone: the adapter is made before the embeddings grow"
        yield document.problem(("tuning", "init"), text)
    if tuning.get("modules_to_save"):
        text = "not together with model.add_tokens, which trains embeddings and head whole; take it out"
        yield document.problem(("tuning", "modules_to_save"), text)
