"""What one training step keeps in memory by PyTorch's own tracker, over fake tensors: no GPU, and no memory either.

python fake_step.py < CASES.jsonl, inside LLaMA-Factory's environment; one JSON object a line for each case.

The model is transformers', made ready by functions of LLaMA-Factory (adapter, fp32 copies, checkpointing) and our own,
run under accelerate's and torch's autocast, with torch's AdamW as on a GPU. MemTracker of
torch.distributed._tools.mem_tracker sees each storage that is made and freed.
"""

from __future__ import annotations

import json
import logging
import sys
from types import SimpleNamespace
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker

from adapters.llamafactory.train import keep_inputs

Case = Any  # see benchmarks.memory.Case, which imports what the backend's environment lacks


class Tracker(MemTracker):  # type: ignore[misc]
    """Follows storages alone: the statistics of single modules allow no second forward before the backward."""

    def _pre_fw_hook(self, *_: object) -> None: ...

    _post_fw_hook = _pre_bw_hook = _post_bw_hook = _pre_fw_hook

    def peak(self) -> int:
        """Bytes of the largest moment since this was asked last."""
        found = max(int(snapshot["Total"]) for snapshot in self.get_tracker_snapshot("peak").values())
        self._peak_mem.clear()
        self._peak_mem_snap.clear()
        return found


def built(case: Case) -> tuple[Any, Any]:
    """The model on the meta device as LLaMA-Factory trains it, and its configuration."""
    from llamafactory.hparams import FinetuningArguments
    from llamafactory.model.adapter import init_adapter
    from llamafactory.model.model_utils.checkpointing import prepare_model_for_training
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(**case["config"])
    config._attn_implementation, config.use_cache = case["attention"], False
    tuning = FinetuningArguments(
        stage="sft",
        finetuning_type=case["tuning"],
        lora_rank=case["rank"],
        lora_target=case["targets"],
        additional_target=case["saved"] or None,
    )
    arguments = SimpleNamespace(
        upcast_layernorm=False, use_reentrant_gc=case["world"] == 1, use_unsloth_gc=False, upcast_lmhead_output=False,
        disable_gradient_checkpointing=not case["checkpointing"], adapter_name_or_path=None, quantization_bit=None,
        resize_vocab=False, use_kt=False, use_unsloth=False,
    )  # fmt: skip
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        prepare_model_for_training(model, arguments)
        model = init_adapter(config, model, arguments, tuning, True)
    return model.train(), config


def make_fake(model: Any) -> None:
    """Replace the tensors of a model on the meta device by fake ones, which have a size (under FakeTensorMode)."""
    made: dict[int, Any] = {}
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is None:
                    continue
                if id(tensor) not in made:
                    fake = torch.empty(tensor.shape, dtype=tensor.dtype)
                    parameter = isinstance(tensor, torch.nn.Parameter)
                    made[id(tensor)] = torch.nn.Parameter(fake, tensor.requires_grad) if parameter else fake
                tensors[name] = made[id(tensor)]


def measured(case: Case) -> dict[str, int]:
    """The peaks of a training's second step, and the parameters."""
    import transformers.masking_utils as masks
    from accelerate.utils.operations import ConvertOutputsToFp32

    # transformers takes a fake tensor for one that is traced, and makes the mask that it would leave out otherwise.
    def skipped(mask: Any, queries: int, keys: int, offset: int, window: int | None = None) -> bool:
        return not case["padded"] and (window is None or keys < window)

    masks._ignore_causal_mask_sdpa = skipped
    model, _ = built(case)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    found = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "trained": sum(parameter.numel() for parameter in trained),
    }
    if not case["length"]:
        return found
    sharded = mesh(case["world"]) if case["world"] > 1 else None
    with FakeTensorMode(allow_non_fake_inputs=True):
        make_fake(model)
        if sharded:
            shard(model, sharded)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, foreach=True)  # as it is on a GPU by default
        ids, mask, labels = (torch.zeros(case["rows"], case["length"], dtype=torch.long) for _ in range(3))
        keep_inputs(SimpleNamespace(bf16=True, deepspeed=None), model)
        model.forward = ConvertOutputsToFp32(torch.autocast("cpu", torch.bfloat16)(model.forward))
        for parameter in trained:  # a first step, whose gradients nobody computed, makes the optimizer's states
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        optimizer.zero_grad()
        tracker = Tracker()
        tracker.track_external(model, optimizer, ids, mask, labels)
        with tracker:
            for _ in range(2 if case["accumulates"] else 1):
                loss(case, model, ids, mask, labels).backward()
            found["passes"] = tracker.peak()
            if not sharded:  # the norm of sharded gradients gathers them all here, as it does not on GPUs
                torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            found["step"] = tracker.peak()
    return found


def mesh(world: int) -> Any:
    """A mesh of processes that are none; its collectives return tensors of the right size."""
    from torch.distributed import init_process_group, is_initialized
    from torch.distributed.device_mesh import init_device_mesh
    from torch.testing._internal.distributed.fake_pg import FakeStore

    if not is_initialized():
        init_process_group("fake", store=FakeStore(), rank=0, world_size=world)
    return init_device_mesh("cpu", (world,))


def shard(model: Any, mesh: Any) -> None:
    """Shard a model under FSDP2 as accelerate and verl do: each layer by itself, and what is left together."""
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for module in [*(one for one in model.modules() if type(one).__name__.endswith("DecoderLayer")), model]:
        fully_shard(module, mesh=mesh, mp_policy=policy)


def log_softmax(logits: Any, dim: int) -> Any:
    """As a GPU's kernel has it, which first copies what does not lie together; a fake tensor's is no kernel."""
    return torch.log_softmax(logits.contiguous(), dim)


def loss(case: Case, model: Any, ids: Any, mask: Any, labels: Any) -> Any:
    """The loss as the trainer of its kind computes it; that of pairs keeps its logits as LLaMA-Factory's does."""
    from llamafactory.train.trainer_utils import get_batch_logps

    if case["loss"] == "plain":
        return model(input_ids=ids, attention_mask=mask, labels=labels).loss

    def log_probabilities() -> tuple[Any, Any]:
        logits = model(input_ids=ids, attention_mask=mask).logits.to(torch.float32)
        return get_batch_logps(logits, labels)[0], logits

    policy, kept = log_probabilities()
    if case["loss"] == "compared":
        with torch.no_grad(), model.disable_adapter():
            reference = log_probabilities()[0]
        policy = policy - reference
    del kept
    return -torch.nn.functional.logsigmoid(policy[0] - policy[1])


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    torch.Tensor.log_softmax = log_softmax
    for line in sys.stdin:
        print(json.dumps(measured(json.loads(line))), flush=True)
