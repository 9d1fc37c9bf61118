"""The GPUs that an estimate knows: their memory, and what share of their peak a training reaches."""

from __future__ import annotations

import re
from dataclasses import dataclass

from recipes.errors import UserError, did_you_mean

UNCERTAINTY = 2.0  # the hours may be half or twice as many: kernels, lengths and the network decide, all unknown here


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """`memory`: bytes that a process sees; `flops`: dense bf16 a second by its data sheet, and the share assumed."""

    name: str
    memory: int
    flops: float | None = None
    share: float = 0.0


# Memory as torch reports it (total_memory: less than the card's name says), peaks of NVIDIA's data sheets without
# sparsity (t4: fp16), shares as dense training with transformers reaches them without tuning: an assumption.
GPUS = {
    name: Gpu(name=name, memory=int(gigabytes * 1e9), flops=tera * 1e12, share=share)
    for name, gigabytes, tera, share in (
        ("h200", 150.0, 989, 0.40),
        ("h100", 85.0, 989, 0.40),
        ("a100-80gb", 85.0, 312, 0.45),
        ("l40s", 47.6, 362, 0.35),
        ("a100-40gb", 42.3, 312, 0.45),
        ("rtx4090", 25.2, 165, 0.45),
        ("rtx3090", 25.2, 71, 0.5),
        ("l4", 23.6, 121, 0.3),
        ("t4", 15.6, 65, 0.25),
    )
}
# What the driver calls them. Others of a kind (an H100 on PCIe, an A10) have other peaks: of those nothing is told.
DRIVER = {
    "NVIDIA H200": "h200",
    "NVIDIA H100 80GB HBM3": "h100",
    "NVIDIA A100-SXM4-80GB": "a100-80gb",
    "NVIDIA A100 80GB PCIe": "a100-80gb",
    "NVIDIA A100-SXM4-40GB": "a100-40gb",
    "NVIDIA A100-PCIE-40GB": "a100-40gb",
    "NVIDIA L40S": "l40s",
    "NVIDIA GeForce RTX 4090": "rtx4090",
    "NVIDIA GeForce RTX 3090": "rtx3090",
    "NVIDIA L4": "l4",
    "Tesla T4": "t4",
}


def named(driver: str) -> Gpu | None:
    """The GPU of the table that the driver gives this name."""
    return GPUS.get(DRIVER.get(driver, ""))


def gpu(text: str) -> Gpu:
    """The GPU that a user names: one of the table, or a size such as 24GB (10^9 bytes).

    Raises:
        UserError: neither.
    """
    name = text.strip().lower()
    if name in GPUS:
        return GPUS[name]
    size = re.fullmatch(r"(\d{1,4}(?:\.\d{1,3})?) ?g(i?)b?", name)
    if size and float(size[1]) > 0:
        return Gpu(name=text.strip(), memory=int(float(size[1]) * (2**30 if size[2] else 10**9)))
    allowed = f"allowed: {', '.join(GPUS)}, or a size such as 24GB"
    raise UserError(f"--gpu {text[:80]!r} is not known; {allowed}{did_you_mean(name, GPUS)}")
