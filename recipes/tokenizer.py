"""The tokenizer of a recipe's model: its own, or another in its place, held against the model's embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recipes.model_files import model_file
from recipes.template import BadRow

HINT = "(check the name; the network and HF_ENDPOINT; your access and HF_TOKEN; or give a local directory)"


def unreadable(tokenizer: Any, ids: Sequence[int], vocabulary: int | None) -> str:
    """Why a model whose embedding has so many rows cannot read these tokens; "" where it can."""
    highest = max(ids, default=0)
    if vocabulary is None or highest < vocabulary:
        return ""
    text = f"token {tokenizer.convert_ids_to_tokens(highest)!r} has the id {highest}"
    return f"{text}, and the model's embedding has {vocabulary} rows (vocab_size): it cannot read it"


def vocabulary_of(spec: Mapping[str, Any]) -> int | None:
    """Rows of the model's embedding; None where its configuration does not say, or they grow with the tokens."""
    return None if spec.get("add_tokens") else _rows(spec)


def _rows(spec: Mapping[str, Any]) -> int | None:
    config = model_file(spec["path"], "config.json", spec["revision"])
    found = config.get("vocab_size") or config.get("text_config", {}).get("vocab_size")
    return int(found) if found else None


def load_tokenizer(spec: Mapping[str, Any]) -> Any:
    """The fast tokenizer of a recipe's model.

    Raises:
        BadRow: there is none.
    """
    from transformers import AutoTokenizer

    apart, field, path = spec.get("tokenizer"), field_of(spec), name_of(spec)
    revision = None if apart else spec["revision"]
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision, trust_remote_code=spec["trust_remote_code"])
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0][:300]
        raise BadRow(f"model.{field}: cannot load the tokenizer of {path}: {first} {HINT}") from None
    if not getattr(tokenizer, "is_fast", False):
        raise BadRow(f"model.{field}: {path} has no fast tokenizer, which is needed to place the loss mask")
    if apart and (text := _too_large(tokenizer, _rows(spec))):
        raise BadRow(f"model.tokenizer: {text}: it is of another model than {spec['path']}")
    _add(tokenizer, spec.get("add_tokens", ()))
    return tokenizer


def _add(tokenizer: Any, tokens: Sequence[str]) -> None:
    """Add a recipe's own tokens to its model's tokenizer.

    Raises:
        BadRow: one is there already.
    """
    known = tokenizer.get_vocab()
    for token in tokens:
        if token in known:
            raise BadRow(f"model.add_tokens: {token!r} is a token of this model already; take it out")
    tokenizer.add_tokens(list(tokens))


def _too_large(tokenizer: Any, vocabulary: int | None) -> str:
    """Why a model cannot have been trained with a tokenizer; "" where nothing speaks against it."""
    highest = max(tokenizer.get_vocab().values(), default=0)
    if vocabulary is None or highest < vocabulary:
        return ""
    return f"its ids go up to {highest}, and the model's embedding has {vocabulary} rows (vocab_size)"


def field_of(spec: Mapping[str, Any]) -> str:
    """The field of the recipe that the tokenizer comes from."""
    return "tokenizer" if spec.get("tokenizer") else "path"


def name_of(spec: Mapping[str, Any]) -> str:
    return str(spec.get("tokenizer") or spec["path"])
