"""What pip is configured with on this machine, in uv's words: uv reads neither pip.conf nor PIP_*.

Behind a company's network pip knows the index, the certificate and the proxy; an installer that does not ask it fails
with 'invalid peer certificate' where `pip install` has just worked.

Usage: python -m runner.machine.pip_settings WORDS…    (uv with these words, as the Makefile calls it)
"""

from __future__ import annotations

import ast
import os
import ssl
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# pip's option to the variable that tells uv the same, those that already say so, and what stands between values.
SAME = {
    "index-url": ("UV_DEFAULT_INDEX", ("UV_INDEX_URL",), ""),
    "extra-index-url": ("UV_INDEX", ("UV_EXTRA_INDEX_URL",), " "),
    "find-links": ("UV_FIND_LINKS", (), ","),
    "cert": ("SSL_CERT_FILE", (), ""),
    "client-cert": ("SSL_CLIENT_CERT", (), ""),
    "proxy": ("ALL_PROXY", ("HTTPS_PROXY", "https_proxy", "all_proxy"), ""),
    "trusted-host": ("UV_INSECURE_HOST", (), " "),
    "timeout": ("UV_HTTP_TIMEOUT", (), ""),
    "default-timeout": ("UV_HTTP_TIMEOUT", (), ""),
    "keyring-provider": ("UV_KEYRING_PROVIDER", (), ""),
}


def pip_settings() -> dict[str, str]:
    """pip's options as it resolves them of its files and variables: option name to value, lists split by blanks.

    Empty where this Python has no pip.
    """
    command = [sys.executable, "-m", "pip", "config", "list", "--disable-pip-version-check"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    found: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in shown.stdout.splitlines() if shown.returncode == 0 else []:
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if section in found and value:
            found[section][name] = str(ast.literal_eval(value))
    return {**found["global"], **found["install"], **found[":env:"]}  # the last one wins, as in pip


def uv_call(words: Sequence[str], env: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """A command of the uv that came with our own installation, and its variables."""
    import uv

    told = {**env, **uv_environment(env, pip_settings())}
    offline = ["--no-index"] if told.pop("UV_NO_INDEX", "") and words[0] == "pip" else []
    return [uv.find_uv_bin(), *words, *offline], told


def uv_environment(env: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """Variables for uv that say what pip's settings say; what `env` tells uv itself wins."""
    told: dict[str, str] = {}
    for name, value in settings.items():
        ours, others, between = SAME.get(name, ("", (), ""))
        # A certificate that pip was given wins over one for all programs, as it does for pip.
        if ours and (ours == "SSL_CERT_FILE" or not any(env.get(known) for known in (ours, *others))):
            told[ours] = between.join(value.split()) if between else value.strip()
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        told["UV_NO_INDEX"] = "1"
    if "UV_INDEX" in told and "UV_INDEX_STRATEGY" not in env:
        told["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # pip looks at all indexes, uv at the first that knows a name
    if not (env.get("SSL_CERT_FILE") or told.get("SSL_CERT_FILE")) and _system_has_certificates():
        told["UV_SYSTEM_CERTS"] = env.get("UV_SYSTEM_CERTS", "1")  # those that the company's machines trust
    return told


def _system_has_certificates() -> bool:
    places = ssl.get_default_verify_paths()
    file, folder = places.cafile, places.capath
    return bool(file and Path(file).is_file()) or bool(folder and os.path.isdir(folder) and os.listdir(folder))  # noqa: PTH112, PTH208


if __name__ == "__main__":
    command, variables = uv_call(sys.argv[1:], os.environ)
    os.execve(command[0], command, variables)
