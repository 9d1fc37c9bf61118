"""Puts a model's files into a repository of the Hub, in one commit; inside the evaluation environment.

Usage: python -m eval.models.push SPEC.json

SPEC holds an eval.spec.Push; the commit's address goes to its target. Exit code 2, and a sentence on stderr, where the
Hub does not take it. The token is that of HF_TOKEN, or of `hf auth login`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from eval.spec import Push
from recipes.files import write_json
from recipes.typed import read_typed

TO_DO = {
    401: "the Hub knows no such token; set HF_TOKEN to one that may write (https://huggingface.co/settings/tokens)",
    403: "your token may not write there; give it write access, or name a repository of your own",
    404: "no such user or organisation, or none that your token can see",
    413: "the Hub takes no file of that size",
    429: "the Hub wants fewer requests; try again later",
}


class Refused(Exception):
    """The Hub did not take it; says why, and what to do."""


def push(spec: Push) -> str:
    """The address of the commit.

    Raises:
        Refused: no token, no right, no network, or a public repository where a private one is wanted.
    """
    import httpx
    from huggingface_hub import CommitOperationAdd, HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if not get_token():
        raise Refused(f"no token: {TO_DO[401].partition('; ')[2]}, or log in with `hf auth login`")
    hub = HfApi()
    try:
        hub.create_repo(spec.repository, private=spec.private or None, exist_ok=True)
        if spec.private and not hub.model_info(spec.repository).private:
            raise Refused(f"{spec.repository} is there and public; make it private first, or leave --private out")
        if spec.revision:
            hub.create_branch(spec.repository, branch=spec.revision, exist_ok=True)
        added = [CommitOperationAdd(name, path) for name, path in spec.files.items()]
        done = hub.create_commit(spec.repository, added, commit_message=spec.message, revision=spec.revision)
    except HfHubHTTPError as error:
        code = error.response.status_code
        told = (getattr(error, "server_message", None) or str(error)).strip().splitlines()[0][:200]
        raise Refused(f"{spec.repository}: {TO_DO.get(code, 'the Hub refused it')} (HTTP {code}: {told})") from None
    except OfflineModeIsEnabled:
        raise Refused("HF_HUB_OFFLINE is set: nothing can be pushed") from None
    except (httpx.HTTPError, OSError) as error:
        raise Refused(f"the Hub cannot be reached: {error}; check the network and HF_ENDPOINT") from None
    return str(done.commit_url)


if __name__ == "__main__":
    asked = read_typed(Push, Path(sys.argv[1]))
    try:
        write_json(Path(asked.target), push(asked))
    except Refused as refused:
        print(refused, file=sys.stderr)
        sys.exit(2)
