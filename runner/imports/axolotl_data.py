"""Axolotl's data sets as sources of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.imports.taken import Entry, Taken

_PREFERENCES = ("dpo", "orpo", "simpo", "reward")
_SEE = "see docs/data.md for what a source has"
_OF_SOURCE = {
    "type": "the format is told from the rows' keys; name columns in data.train[].columns",
    "type.format": "rows are rendered by the model's own chat template",
    "type.no_input_format": "rows are rendered by the model's own chat template",
    "type.system_format": "rows are rendered by the model's own chat template",
    "message_property_mappings": "messages have role and content, or from and value",
    "message_field_content": "messages have role and content, or from and value",
    "chat_template": "the model's own chat template is taken for all rows; see model.chat_template",
    "conversation": "the model's own chat template is taken for all rows; see model.chat_template",
    "roles": "roles are known by their usual names (docs/data.md)",
    "roles_to_train": "replies are trained on; data.train_on says which",
}
_FORMATS = {
    "alpaca": "alpaca", "completion": "text", "sharegpt": "conversations", "pretrain": "text", "input_output": "auto",
}  # fmt: skip


def take_data(taken: Taken) -> None:
    chat = taken.left.get("chat_template")
    if chat == "jinja" and taken.left.get("chat_template_jinja"):
        taken.drop("chat_template_jinja", "write it into a file and give that to model.chat_template")
        taken.left.pop("chat_template")
    elif chat in ("tokenizer_default", None):
        taken.left.pop("chat_template", None)
    else:
        named = str(chat).removeprefix("tokenizer_default_fallback_")
        taken.drop("chat_template", f"the model's own is taken; where it has none, give model.chat_template: {named}")
    key = "pretraining_dataset" if taken.left.get("pretraining_dataset") else "datasets"
    for name, field in ((key, "data.train"), ("test_datasets", "data.validation.sources")):
        listed = taken.left.get(name)
        if listed:
            sources = [_source(one, taken) for one in (listed if isinstance(listed, list) else [listed])]
            taken.put(name, field, sources)


def _source(one: Any, taken: Taken) -> dict[str, Any]:
    given = dict(one) if isinstance(one, Mapping) else {"path": one}
    source: dict[str, Any] = {"path": given.pop("path")} if "path" in given else {}
    files = given.pop("data_files", None)
    if files and given.get("ds_type") in (None, "json", "csv", "parquet", "arrow", "text"):
        source["path"] = files
    given.pop("ds_type", None)
    for theirs, ours in (("split", "split"), ("name", "subset"), ("revision", "revision")):
        if given.get(theirs):
            source[ours] = given.pop(theirs)
    if isinstance(given.get("type"), Mapping):
        given |= _of_own_prompt(given.pop("type"), source)
    kind = str(given.pop("type", None) or "")
    kind_name = kind.partition(".")[0].partition(":")[0]
    if kind_name in _FORMATS and _FORMATS[kind_name] != "auto":
        source["format"] = _FORMATS[kind_name]
    columns = {}
    for theirs, ours in (
        ("field", "text"),
        ("field_messages", "messages"),
        ("field_chosen", "chosen"),
        ("field_rejected", "rejected"),
    ):
        name = given.pop(theirs, None)
        if name and name != ours:
            columns[ours] = name
    _of_messages(kind_name, given, source, columns, preferences=taken.recipe.get("method") in _PREFERENCES)
    if columns:
        source["columns"] = source.get("columns", {}) | columns
    if kind_name not in ("", "chat_template", *_FORMATS):
        given = {"type": kind, **given}
    for key, value in given.items():
        if value is not None:
            taken.entries.append(Entry(f"datasets[].{key}", value, "no place", _OF_SOURCE.get(key, _SEE)))
    return source


def _of_own_prompt(prompt: Mapping[str, Any], source: dict[str, Any]) -> dict[str, Any]:
    """Format and columns of a data set with a prompt of its own; the keys that are left."""
    source["format"] = "alpaca"
    left = dict(prompt)
    names = {ours: left.pop(f"field_{ours}", None) for ours in ("instruction", "input", "output", "system")}
    columns = {ours: name for ours, name in names.items() if name and name != ours}
    if columns:
        source["columns"] = columns
    system = left.pop("system_prompt", None)
    if system:
        source["system"] = system
    return {f"type.{key}": value for key, value in left.items()}


def _of_messages(
    kind: str, given: dict[str, Any], source: dict[str, Any], columns: dict[str, str], *, preferences: bool
) -> None:
    """Format and columns of a `chat_template` data set; its keys are taken where rows are read so anyway."""
    mapped, older = given.get("message_property_mappings"), given.pop("message_field_role", None)
    names = dict(mapped) if isinstance(mapped, Mapping) else {}
    text = given.pop("message_field_content", None)
    if (names.get("role", "role"), names.get("content", "content")) in (("role", "content"), ("from", "value")):
        given.pop("message_property_mappings", None)
    if text not in (None, "content", "value"):
        given["message_field_content"] = text
    if kind != "chat_template":
        return
    if preferences:
        source["format"] = "preference"
        columns["prompt"] = columns.pop("messages", "messages")
    elif "from" in (older, names.get("role")):
        source["format"] = "conversations"
        if "messages" in columns:
            columns["conversations"] = columns.pop("messages")
        if columns.get("conversations") == "conversations":
            columns.pop("conversations")
    else:
        source["format"] = "messages"
