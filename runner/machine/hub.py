"""Whether the Hub can be reached, asked once: its own client tries again and again in silence, a minute for a model."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Container, Iterable
from pathlib import Path
from urllib.parse import urlsplit

from recipes import Recipe
from recipes.paths import scheme
from recipes.suites import ROW_SUITES, task_file

ENDPOINT = "https://huggingface.co"
TIMEOUT_S = 10.0
LOCAL_DATA = re.compile(r"^dataset_path:\s*[\"']?(json|csv|parquet|arrow|text|/)", re.MULTILINE)


def of_hub(recipe: Recipe) -> list[str]:
    """What a recipe takes from the Hub: its model, data sets, and the data of suites."""
    sources = (*recipe.data.train, *recipe.data.validation.sources)
    paths = (path for source in sources for path in source.paths)
    models = filter(None, [recipe.model.path, recipe.model.tokenizer])
    return taken([*models, *paths], recipe.eval.suites, recipe.eval.data)


def taken(names: Iterable[str], suites: Iterable[str], data: Container[str]) -> list[str]:
    """What of these comes from the Hub: `names` are of models and data sets, `data` the suites that have their own."""
    own = {suite for suite in suites if suite in ROW_SUITES or suite in data or _has_own_data(suite)}
    fetched = [f"the data of {suite}" for suite in suites if suite not in own]
    return [*filter(is_hub_id, names), *fetched]


def _has_own_data(suite: str) -> bool:
    """Whether a task file of lm-eval says that its data are files, as those of `dataset_path: json` are."""
    path = task_file(suite)
    text = Path(path).read_text(encoding="utf-8", errors="replace") if path and Path(path).is_file() else ""
    return bool(LOCAL_DATA.search(text))


def is_hub_id(name: str) -> bool:
    """Local paths of a loaded recipe are absolute; of the stores, one is the Hub's."""
    if scheme(name):
        return scheme(name) == "hf"
    return not name.startswith(("bundled:", "/", ".", "~")) and not Path(name).exists()


def offline_if_unreachable(names: Iterable[str], say: Callable[[str], None]) -> None:
    """Have this process and its children use what is cached, where something is of the Hub and that is not reached.

    Nothing is asked behind a proxy, whose answer would say nothing of the Hub.
    """
    from urllib.request import getproxies  # with http.client and ssl: `recipe plan` asks none of this

    wanted = list(names)
    if not wanted or os.environ.get("HF_HUB_OFFLINE") or getproxies().keys() & {"http", "https", "all"}:
        return
    endpoint = os.environ.get("HF_ENDPOINT") or ENDPOINT
    parts = urlsplit(endpoint)
    try:
        port = parts.port or (80 if parts.scheme == "http" else 443)
        socket.create_connection((parts.hostname or "", port), TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        os.environ["HF_HUB_OFFLINE"] = "1"
        say(
            f"the Hub ({endpoint}) cannot be reached: {error}; {', '.join(wanted)} must be in its cache. Check the "
            "network, a proxy (HTTPS_PROXY) or a mirror (HF_ENDPOINT), or give local paths"
        )
