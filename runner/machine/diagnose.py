"""Explains a backend's failure: the probable cause, read from the last lines of its log."""

from __future__ import annotations

import re
import signal
from pathlib import Path

GPU_MEMORY = r"CUDA out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED"
CPU_MEMORY = r"DefaultCPUAllocator: can't allocate|\bMemoryError\b|Cannot allocate memory"
CAUSES = (
    (
        r"Timeout \(\d+:\d\d:\d\d\)!",  # of recipes/template.py
        "the chat template came to no end on one conversation; look into model.chat_template",
    ),
    (
        r"node running low on memory",  # before the GPU's: Ray's error has the same name
        "out of memory, so Ray ended the training; lower training.micro_batch_size or the lengths in grpo.rollouts, or "
        "end what else runs here",
    ),
    (
        GPU_MEMORY,
        "out of GPU memory; lower training.micro_batch_size or data.max_length, set "
        "training.gradient_checkpointing: true, "
        "or use tuning.quantization: 4bit",
    ),
    (
        CPU_MEMORY,
        "out of memory; lower training.micro_batch_size or data.max_length, or take a smaller model",
    ),
    (r"No space left on device|Disk quota exceeded|File too large", "disk full; free some, or lower checkpoint.keep"),
    (
        r"GatedRepoError|gated repo|401 Client Error|403 Client Error|Access to model .* is restricted",
        "a gated model; ask for access on its page and set HF_TOKEN",
    ),
    (
        r"RepositoryNotFoundError|is not a local folder and is not a valid model identifier|404 Client Error",
        "no such model; check model.path",
    ),
    (
        r"LocalEntryNotFoundError|couldn't connect to|Can't load (?:the )?(?:tokenizer|configuration|model)|"
        r"offline mode is enabled|Max retries exceeded",
        "the model hub cannot be reached; check the network (HF_ENDPOINT), or give a local directory as model.path",
    ),
    (r"RewardsFailed: (.*)", "{0}; try them with `recipe reward try`"),
    (
        r"its node has died|lost node 0",
        "a node of the run was lost; its log says why (attempt-…-node-N.log)",
    ),
    (
        r"Lost: \w+ died|worker process has died|EngineDeadError",
        "a training process died; look for an earlier error in the log. If there is none, it was probably killed for "
        "lack of memory (check dmesg)",
    ),
    (r"NodesMissing: (.*)", "{0}"),
    (r"EADDRINUSE|[Aa]ddress already in use", "the port is in use; set MASTER_PORT to a free one"),
    (
        r"(?:ModuleNotFoundError: No module named|ImportError: .*requires|PackageNotFoundError:?) ['\"]?([\w.-]+)",
        "package {0} is missing in the environment",
    ),
    (
        r"NCCL error|ncclInternalError|ncclSystemError",
        "NCCL failed; check the network between GPUs (NCCL_DEBUG=INFO tells)",
    ),
    (
        r"RendezvousTimeoutError|The client socket has timed out|DistStoreError",
        "the nodes did not meet; check that all run, MASTER_ADDR, MASTER_PORT and the firewall",
    ),
    (
        r"flash_attn.*not.*installed|FlashAttention.* (?:not|cannot)",
        "flash attention is missing; set model.attention: sdpa",
    ),
    (
        r"Some keys are not used by the HfArgumentParser: (\[.*?\])",
        "the backend does not know {0}; check backend_options",
    ),
    (
        r"bitsandbytes|bnb",
        "bitsandbytes failed; quantization needs a supported GPU or CPU, or set tuning.quantization: null",
    ),
)


# What an installer's log says of why it failed; the first that is found counts.
INSTALLER_CAUSES = (
    (r"No space left on device|os error 28|Disk quota exceeded", "disk full; free some, or set RECIPE_CACHE elsewhere"),
    (
        r"invalid peer certificate|UnknownIssuer|CertificateUnknown|certificate verify failed|self.signed certificate",
        "the registry's certificate is not trusted: give its authority as PIP_CERT=FILE or SSL_CERT_FILE=FILE",
    ),
    (
        r"dns error|failed to lookup address|Name or service not known|Temporary failure in name resolution",
        "the registry's name is unknown: check the network and the proxy (PIP_PROXY, HTTPS_PROXY) or the index "
        "(PIP_INDEX_URL)",
    ),
    (
        r"Connection refused|tcp connect error|ConnectionRefused",
        "the registry refused the connection: check the index (PIP_INDEX_URL) and the proxy (HTTPS_PROXY)",
    ),
    (
        r"operation timed out|timed out",
        "the registry did not answer in time: check the network, or set UV_HTTP_TIMEOUT",
    ),
    (r"\b401\b|\b403\b|Unauthorized|Forbidden", "the registry wants other credentials (PIP_INDEX_URL, keyring)"),
    (
        r"there is no version of (\S+)|(\S+) was not found in the (?:package registry|provided package locations)|"
        r"no wheels with a matching|404 Not Found",
        "the registry does not have all that the lock names{0}; is its index (PIP_INDEX_URL) a whole mirror?",
    ),
    (
        r"requires-python|Requires-Python|requires Python|Python version",
        "this Python is not one of those that the lock was made for: use 3.11 or 3.12",
    ),
)


def installer_cause(text: str) -> str:
    """Why a build of an environment failed, read from the installer's last lines."""
    for pattern, sentence in INSTALLER_CAUSES:
        found = re.search(pattern, text)
        if found:
            what = next(filter(None, found.groups()), "")
            return sentence.format(f" ({what})" if what else "")
    return "see the log's last lines; `recipe doctor` checks the machine"


def cause(text: str, exit_code: int | None = None) -> str:
    """The probable cause in a sentence, or an empty string."""
    for pattern, sentence in CAUSES:
        found = re.search(pattern, text)
        if found:
            return sentence.format(*found.groups())
    if exit_code == -signal.SIGKILL:
        return "killed from outside, most often by the kernel for lack of memory (check dmesg)"
    return ""


def out_of_memory(text: str) -> bool:
    """Whether a log's last lines tell of memory that ran out, on a GPU or a CPU."""
    return bool(re.search(f"{GPU_MEMORY}|{CPU_MEMORY}", text))


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log; after a traceback, its end."""
    if not log.is_file():
        return ""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 60_000))
        text = stream.read().decode("utf-8", errors="replace")
    kept = [line.rstrip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return "\n".join(kept[-lines:])
