"""Where a model's files are: a local directory, or the hub's snapshot; and whether they are an adapter's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from eval.hashes import model_hash, weight_files
from eval.spec import Model
from eval.suites.hub import fetched
from recipes.errors import UserError
from recipes.model_files import HEAD, adapter_base

NO_LIMIT = 1 << 30
PATTERNS = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.py"]


@dataclass(frozen=True)
class ModelFiles:
    """The directory of a model, and of its base where it is an adapter."""

    directory: Path
    base: Path | None
    given_tokenizer: Path | None = None

    @property
    def tokenizer(self) -> Path:
        """The one that was given; else the adapter's own where it has one, or its base's."""
        if self.given_tokenizer:
            return self.given_tokenizer
        own = any((self.directory / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json"))
        return self.directory if own or self.base is None else self.base

    @property
    def value_head(self) -> Path | None:
        """The file of the head by which a reward model scores; None of a model that writes."""
        file = self.directory / HEAD
        return file if file.is_file() else None

    def hash(self) -> str:
        return model_hash(self.directory, self.base)

    def max_positions(self) -> int:
        """The longest sequence the model was made for; a large number where its configuration does not say."""
        config = json.loads(((self.base or self.directory) / "config.json").read_text(encoding="utf-8"))
        places = (config, config.get("text_config") or {})
        found = next((p["max_position_embeddings"] for p in places if p.get("max_position_embeddings")), None)
        return int(found) if found else NO_LIMIT


def locate(model: Model) -> ModelFiles:
    """The files of a model.

    Raises:
        UserError: nothing there, no weights, or an adapter whose base is unknown.
    """
    directory = _directory(model.path, model.name, model.revision)
    config = directory / "adapter_config.json"
    if not config.is_file():
        return ModelFiles(_with_weights(directory, model.name), None, model.tokenizer)
    base = model.base or adapter_base(directory)
    if not base:
        raise UserError(f"model {model.name}: {directory} is an adapter and names no base model; give one")
    named = f"{model.name} (base)"
    return ModelFiles(
        _with_weights(directory, model.name),
        _with_weights(_directory(base, named, model.revision), named),
        model.tokenizer,
    )


def _with_weights(directory: Path, name: str) -> Path:
    if not (directory / "config.json").is_file() and not (directory / "adapter_config.json").is_file():
        raise UserError(f"model {name}: {directory} holds no config.json and no adapter_config.json")
    if not weight_files(directory):
        raise UserError(f"model {name}: {directory} holds no weights (*.safetensors, *.bin)")
    return directory


def _directory(path: str, name: str, revision: str | None) -> Path:
    if Path(path).is_dir():
        return Path(path)
    if path.startswith((".", "/", "~")):
        raise UserError(f"model {name}: {path}: no such directory")
    from huggingface_hub import snapshot_download

    at = f" at revision {revision!r}" if revision else ""
    failing = f"model {name}: {path!r} is not a local directory and could not be downloaded from the Hub{at}"
    return fetched(lambda: snapshot_download(path, revision=revision, allow_patterns=PATTERNS), failing)
