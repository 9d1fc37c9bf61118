"""The data sets of LLaMA-Factory's dataset_info.json as sources of a recipe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recipes.errors import UserError
from runner.data.calls import CALL_ROLES, RESULT_ROLES
from runner.imports.taken import Entry, Simple, Taken, fraction, names_of


def take_data(taken: Taken, directory: Path) -> None:
    info = _dataset_info(taken, directory)
    sources = [_source(name, info, taken) for name in names_of(taken.left.get("dataset") or "")]
    limit = taken.whole("max_samples", 0)
    shares = names_of(taken.left.get("interleave_probs") or "")
    system = taken.left.get("default_system")
    for place, source in enumerate(sources):
        if isinstance(system, str) and system:
            source["system"] = system
        if limit:
            source["max_samples"] = min(limit, source.get("max_samples", limit))
        if place < len(shares):
            source["weight"] = _share(shares[place])
    if sources:
        taken.put("dataset", "data.train", sources)
    if sources and isinstance(system, str) and system:
        taken.note("default_system", f"data.train[].system: {system}")
    if limit:
        taken.note("max_samples", f"data.train[].max_samples: {limit}")
    if shares:
        taken.note("interleave_probs", f"data.train[].weight: {', '.join(shares)}")
    taken.drop("mix_strategy", "shares are data.train[].weight: short sources repeat, and that is counted")
    if taken.left.get("eval_dataset"):
        held_out = [_source(name, info, taken) for name in names_of(taken.left["eval_dataset"])]
        taken.put("eval_dataset", "data.validation.sources", held_out)
    taken.simple([Simple("val_size", "data.validation.fraction", fraction)])


def _share(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"interleave_probs: {text!r} is no number") from None


def _dataset_info(taken: Taken, directory: Path) -> dict[str, Any]:
    folder = str(taken.left.pop("dataset_dir", "data"))
    file = found(directory, f"{folder}/dataset_info.json")
    if file is None:
        return {}
    return {name: {**one, "_folder": str(file.parent)} for name, one in json_of(file).items() if isinstance(one, dict)}


def json_of(file: Path) -> dict[str, Any]:
    try:
        loaded = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: {error}") from None
    if not isinstance(loaded, dict):
        raise UserError(f"{file}: holds no keys")
    return loaded


def found(directory: Path, name: str) -> Path | None:
    """A file named from where its command was called: the directory of the YAML, or one above it."""
    return next((up / name for up in (directory, *directory.parents[:4]) if (up / name).is_file()), None)


def _source(name: str, info: Mapping[str, Any], taken: Taken) -> dict[str, Any]:
    """A data set of dataset_info.json as a source of a recipe."""
    one = info.get(name)
    if one is None:
        why = "no dataset_info.json says what it is: put its path into data.train[].path"
        taken.entries.append(Entry("dataset", name, "no place", why))
        return {"path": name}
    if "file_name" in one:
        source = {"path": str(Path(one["_folder"]) / one["file_name"])}
    elif "hf_hub_url" in one:
        source = {"path": one["hf_hub_url"]}
    else:
        where = next((key for key in ("ms_hub_url", "om_hub_url", "script_url", "cloud_file_name") if key in one), "?")
        why = f"recipes read files and Hugging Face's hub, not {where}"
        taken.entries.append(Entry("dataset", name, "no place", why))
        return {"path": name}
    for theirs, ours in (("split", "split"), ("subset", "subset"), ("num_samples", "max_samples")):
        if one.get(theirs):
            source[ours] = one[theirs]
    columns, tags = one.get("columns") or {}, one.get("tags") or {}
    told = _format(one.get("formatting", "alpaca"), columns, tags, bool(one.get("ranking")))
    if taken.recipe.get("method") == "pretrain":
        text = columns.get("prompt", "instruction")
        told = {"format": "text", **({"columns": {"text": text}} if text != "text" else {})}
    _unread(name, one, taken)
    return source | told


_TAGS = {
    "role_tag": ("role", "from"), "content_tag": ("content", "value"), "user_tag": ("user", "human"),
    "assistant_tag": ("assistant", "gpt", "model"), "system_tag": ("system", "developer"),
    "observation_tag": RESULT_ROLES, "function_tag": CALL_ROLES,
}  # fmt: skip


def _unread(name: str, one: Mapping[str, Any], taken: Taken) -> None:
    """Say what of a data set no source has: a folder of the hub, columns of media, names of roles that are unknown."""
    left: dict[str, tuple[Any, str]] = {}
    if one.get("folder"):
        left["folder"] = (one["folder"], "name its files in data.train[].path: hf://datasets/NAME/FOLDER/*")
    for key, column in (one.get("columns") or {}).items():
        if key in ("images", "videos", "audios"):
            left[f"columns.{key}"] = (column, "only text is trained on")
    for key, tag in (one.get("tags") or {}).items():
        if tag not in _TAGS.get(key, (tag,)):
            left[f"tags.{key}"] = (tag, "keys and roles are known by their usual names (docs/data.md)")
    for key, (value, why) in left.items():
        taken.entries.append(Entry(f"{name}.{key}", value, "no place", why))


def _format(formatting: str, columns: Mapping[str, str], tags: Mapping[str, str], ranking: bool) -> dict[str, Any]:
    """The format of rows, and our names of columns (theirs: ours) where theirs are others."""
    names: dict[str, str] = {}
    chat = formatting == "sharegpt"
    if ranking:
        kind, ours = (
            "preference",
            {"messages" if chat else "prompt": "prompt", "chosen": "chosen", "rejected": "rejected"},
        )
        if not chat and "prompt" not in columns:
            names["prompt"] = "instruction"
    elif "kto_tag" in columns:
        kind = "feedback"
        ours = {"messages" if chat else "prompt": "messages" if chat else "prompt", "response": "completion"}
        ours |= {"kto_tag": "label"}
    elif chat:
        kind = "messages" if tags.get("role_tag") == "role" else "conversations"
        ours = {"messages": kind}
    else:
        kind, ours = "alpaca", {"prompt": "instruction", "query": "input", "response": "output", "history": "history"}
    ours |= {"system": "system", "tools": "tools"}
    names |= {own: str(columns[theirs]) for theirs, own in ours.items() if columns.get(theirs, own) != own}
    return {"format": kind, **({"columns": names} if names else {})}
