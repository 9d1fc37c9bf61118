"""Files of the Hugging Face hub, with a plain word where it cannot be reached or has no such thing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from recipes.errors import UserError


def fetched(fetch: Callable[[], str], failing: str) -> Path:
    """What a download gives.

    Raises:
        UserError: it failed; `failing` says what is wanted instead.
    """
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
    )

    try:
        return Path(fetch())
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(f"{failing}: {str(error).strip().splitlines()[0][:200]}") from None
