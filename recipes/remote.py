"""Files of remote stores, which fsspec opens: read as they come, never copied here as a whole."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any, cast

from recipes.errors import UserError
from recipes.paths import READ, data_kind, scheme
from recipes.secret import ADDRESSED

# What can be read, and the package that does.
PACKAGES = {"hf": "huggingface_hub", "s3": "s3fs", "gs": "gcsfs"}
# What their clients raise that is no OSError: credentials that are missing, say.
CLIENT_ERRORS = (
    ("botocore.exceptions", "BotoCoreError"), ("google.auth.exceptions", "GoogleAuthError"), ("httpx", "HTTPError"),
)  # fmt: skip


@dataclass(frozen=True)
class Remote:
    """One file of a store; it is named and opened as a `Path` is."""

    url: str

    @property
    def name(self) -> str:
        return PurePosixPath(self.url).name

    def open(self, mode: str = "rb") -> IO[bytes]:
        with explained(self.url):
            system, path = system_of(self.url)
            return cast(IO[bytes], io.BufferedReader(system.open(path, mode)))

    def __str__(self) -> str:
        return self.url


def problem(url: str) -> str:
    """What is wrong with a URL that can be said without asking the store; empty where nothing is."""
    if scheme(url) not in PACKAGES:
        allowed = ", ".join(f"{name}://" for name in PACKAGES)
        return f"cannot read {scheme(url)}://; allowed: {allowed}, or a path: copy the files here"
    name, _, rest = url.partition("://")
    if ADDRESSED.search(url) or ":" in rest.partition("/")[0]:
        return "a key or a password must not stand in an address; give it by the store's own variables or settings"
    if name != scheme(url):
        return f"cannot read {name}://; write {scheme(url)}://"
    if scheme(url) == "hf" and not url.startswith("hf://datasets/"):
        return f"{url} is no file of a data set; write hf://datasets/NAME/FILE"
    if not rest.partition("/")[0]:
        return f"{url} names no bucket; write {name}://BUCKET/FILE"
    suffix = PurePosixPath(url.rpartition("/")[2]).suffix  # empty of a folder whose name ends in /
    if suffix[1:].isalnum() and data_kind(PurePosixPath(url)) is None:
        return f"cannot read {suffix}; allowed: {READ}; let the name of a folder end in /"
    return ""


def system_of(url: str) -> tuple[Any, str]:
    """fsspec's file system of a URL, and the URL's path in it."""
    import fsspec

    system, path = fsspec.core.url_to_fs(url)
    return system, str(path)


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn what a store's client raises into a UserError that begins with the URL."""
    try:
        yield
    except ImportError as error:
        package = PACKAGES.get(scheme(url) or "")
        if error.name == "fsspec" or package is None:
            raise
        raise UserError(
            f"{url}: needs the package {package}, which this environment lacks; copy the files here, or add it: "
            f"uv pip install --python {sys.executable} {package}"
        ) from None
    except _errors() as error:
        text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
        first = str(text).splitlines()[0][:300]
        raise UserError(f"{url}: {first}; check the name, your access and the network") from None


def _errors() -> tuple[type[Exception], ...]:
    own = (getattr(sys.modules[module], name) for module, name in CLIENT_ERRORS if module in sys.modules)
    return (OSError, ValueError, *own)
