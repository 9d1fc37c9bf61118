"""verl on a machine without a GPU, through its own platform hook; loaded there only, by VERL_USE_EXTERNAL_MODULES.

verl 0.9.1 knows cuda and npu. It takes another device as a PlatformBase (verl/plugin/platform), whose abstract methods
are answered here; `Device` answers what it calls on `torch.<device>`. Its engines are registered for cuda and npu only:
VERL_ENGINE_DEVICE=cuda, set beside this module by the plan, chooses among them (verl/workers/engine/base.py).
"""

from __future__ import annotations

import functools
import resource
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import psutil
import torch
import torch.distributed
from verl.plugin.platform import PlatformRegistry, set_platform
from verl.plugin.platform.platform_base import PlatformBase


class Device:
    """`torch.cpu`, and what verl calls on `torch.cuda` besides."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.cpu, name)

    def get_device_name(self, device: Any = None) -> str:
        return "CPU"  # its table of peak FLOPS has this name (utils/flops_counter.py)

    def empty_cache(self) -> None:
        """Nothing is cached."""

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        memory = psutil.virtual_memory()
        return memory.available, memory.total

    def memory_allocated(self, device: Any = None) -> int:
        return int(psutil.Process().memory_info().rss)

    def max_memory_allocated(self, device: Any = None) -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    memory_reserved = memory_allocated
    max_memory_reserved = max_memory_allocated

    def set_rng_state(self, state: torch.Tensor) -> None:
        torch.set_rng_state(
            state
        )  # a resume gives it the state saved for "cpu" (utils/checkpoint/checkpoint_manager.py)


@PlatformRegistry.register(platform="cpu")
class CpuPlatform(PlatformBase):  # type: ignore[misc]
    """One CPU process as a device."""

    device_name = "cpu"
    vendor_name = "cpu"
    device_module = Device()

    def is_available(self) -> bool:
        return True

    def current_device(self) -> torch.device:
        return torch.device("cpu")  # verl gives it to Tensor.to(); an index would mean a GPU

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None:
        """There is one."""

    def synchronize(self, device_index: int | None = None) -> None:
        """Work on a CPU is done when the call returns."""

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    manual_seed_all = manual_seed

    def set_allocator_settings(self, settings: str) -> None:
        """The settings are CUDA's."""

    def empty_cache(self) -> None:
        """Nothing is cached."""

    def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    def nvtx_range(self, msg: str) -> AbstractContextManager[None]:
        return nullcontext()

    def profiler_start(self) -> None:
        """No profiler."""

    def profiler_stop(self) -> None:
        """No profiler."""

    def ray_resource_name(self) -> str:
        return "GPU"  # its vLLM server knows GPU and NPU, and fails with KeyError on anything else

    def ray_noset_envvars(self) -> list[str]:
        return []

    def is_ipc_supported(self) -> bool:
        return False  # weights go to the rollout engine through shared memory

    def cudart(self) -> None:
        return None


def _one_backend_a_device() -> None:
    """verl asks for "cpu:gloo,<device>:<backend>" (utils/distributed.py), and torch refuses a device named twice."""
    init = torch.distributed.init_process_group

    @functools.wraps(init)
    def init_process_group(backend: str | None = None, *args: Any, **kwargs: Any) -> Any:
        return init("gloo" if backend == "cpu:gloo,cpu:gloo" else backend, *args, **kwargs)

    torch.distributed.init_process_group = init_process_group


def _pin_nothing() -> None:
    """The reference model's weights are pinned when they are offloaded (workers/engine/fsdp), which wants CUDA."""

    def pin_memory(self: torch.Tensor, device: Any = None) -> torch.Tensor:
        return self

    torch.Tensor.pin_memory = pin_memory


set_platform(CpuPlatform())
_one_backend_a_device()
_pin_nothing()
