"""Which keys of verl's trees act under our plan; the others are refused, with the recipe field to use.

For 0.9.1, from its source, and from what it was seen to read while it trains (tests/real/test_native_walk.py). Our own
data sets hand out prepared rows, so that nothing under `data` is asked but what the adapter writes; the engine's
batches are set by the trainer of `data`; GRPO has no critic and no reward model.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

_PREPARED = "the rows come prepared"
_TOKENIZER = f"{_PREPARED}, with its tokenizer; use the recipe's model.tokenizer, or put it into the model's directory"
_LOADED = "verl fills it in when it loads the model; use the recipe's model.path"
_PARALLEL = "of an engine that no strategy here runs; use the recipe's distributed"
_WHOLE = "a checkpoint is kept whole, so that a run can be resumed; use the recipe's checkpoint"
_NO_CRITIC = "GRPO has no critic: advantages come from the group; use the recipe's grpo"
_REWARDS = "rewards are the recipe's; use the recipe's grpo.rewards"
_ROLLOUTS = "rollouts go through the recipe's grpo.rollouts"
_UNREAD = "verl 0.9.1's synchronous trainer reads it nowhere; use the recipe's grpo and distributed"
_MICRO = "use the recipe's training.micro_batch_size"
_TOKENS = "use the recipe's distributed.max_tokens_per_device"

# A key's last words after the engine's prefix; the first rule that matches a key holds, and None says that it acts.
Rule = tuple[str, str | None]
_MODEL: tuple[Rule, ...] = (
    (r"tiled_mlp\..*", "verl 0.9.1's engines do not read it; use the recipe's training.kernels"),
    (r"tokenizer_path|tokenizer|local_tokenizer_path|load_tokenizer|processor", _TOKENIZER),
    (r"custom_chat_template", f"{_PREPARED}; use the recipe's model.chat_template"),
    (r"hf_config|architectures|model_type|local_path|local_hf_config_path|generation_config", _LOADED),
    (r"path", "use the recipe's model.path"),
    (r"trust_remote_code", "use the recipe's model.trust_remote_code"),
    (r"override_config\.attn_implementation", "use the recipe's model.attention"),
    (r"use_remove_padding", "use the recipe's distributed.remove_padding"),
    (r"enable_gradient_checkpointing", "use the recipe's training.gradient_checkpointing"),
    (r"target_modules|exclude_modules|target_parameters", "use the recipe's tuning.target_modules"),
    (r"lora_rank|lora_adapter_path", "use the recipe's tuning.rank"),
    (r"lora_alpha", "use the recipe's tuning.alpha"),
)
_MEGATRON_LORA: tuple[Rule, ...] = (
    (r"lora\.rank", "use the recipe's tuning.rank"),
    (r"lora\.alpha", "use the recipe's tuning.alpha"),
    (r"lora\.dropout", "use the recipe's tuning.dropout"),
    (r"lora\.(target|exclude)_modules", "use the recipe's tuning.target_modules"),
    (r"lora\.type", "use the recipe's tuning.type"),
    (r"lora\.adapter_path", "an adapter of your own cannot be gone on with; merge it, and use the recipe's model.path"),
)
_ENGINE: tuple[Rule, ...] = (
    (r"(infer_|ppo_infer_)?micro_batch_size_per_gpu", _MICRO),
    (r"(infer_|ppo_infer_)?max_token_len_per_gpu|use_dynamic_bsz", _TOKENS),
    (r"use_remove_padding", "use the recipe's distributed.remove_padding"),
    (r"use_fused_kernels", "verl lays the model's over it; set the model's use_fused_kernels"),
    (r"forward_only", "a training goes backward too: the adapter leaves it false"),
    (r"dtype|mixed_precision(\..*)?|model_dtype", "use the recipe's training.precision"),
    (r"param_offload|offload_policy", "use the recipe's distributed.offload_parameters"),
    (r"optimizer_offload", "use the recipe's distributed.offload_optimizer"),
    (r"seed", "use the recipe's training.seed"),
    (r"strategy", "use the recipe's distributed.strategy"),
    (r"turbo_config\..*", _PARALLEL),
    (r"(ulysses_sequence|context)_parallel_size", "use the recipe's distributed.sequence_parallel"),
)
_OPTIMIZER: tuple[Rule, ...] = (
    (r"lr", "use the recipe's training.learning_rate"),
    (r"lr_warmup_steps", "use the recipe's training.warmup_steps"),
    (r"lr_warmup_steps_ratio", "use the recipe's training.warmup_ratio"),
    (r"grad_clip|clip_grad", "use the recipe's training.max_grad_norm"),
    (r"warmup_style|lr_scheduler_type|lr_decay_style", "use the recipe's training.scheduler"),
    (r"total_training_steps|lr_decay_steps", "use the recipe's training.max_steps"),
    (r"weight_decay", "use the recipe's training.weight_decay"),
    (r"betas", "use the recipe's training.betas"),
    (r"override_optimizer_config\.(adam_)?betas?[12]?", "use the recipe's training.betas"),
    (r"override_optimizer_config\.(adam_)?eps", "use the recipe's training.optimizer_options"),
)
_DATA: tuple[Rule, ...] = (
    (r"apply_chat_template_kwargs|enable_thinking_(default|key)", "use the recipe's model.chat_template_kwargs"),
    (r"(messages|tools|prompt|reward_fn|image|video|audio)_key", "use the recipe's data.train[].columns"),
    (r"train_max_samples", "use the recipe's data.train[].max_samples"),
    (r"val_max_samples|val_files|val_batch_size|validation_shuffle", "use the recipe's data.validation"),
    (r"train_files", "use the recipe's data.train"),
    (r"max_length", "use the recipe's data.max_length"),
    (r"truncation|filter_overlong_prompts(_workers)?|ignore_input_ids_mismatch", "use the recipe's data.overlong"),
    (r"max_prompt_length", "use the recipe's grpo.rollouts.max_prompt_length"),
    (r"max_response_length", "use the recipe's grpo.rollouts.max_reply_length"),
    (r"(train|gen)_batch_size", "use the recipe's training.global_batch_size"),
    (r"micro_batch_size_per_gpu", _MICRO),
    (r"max_token_len_per_gpu|use_dynamic_bsz", _TOKENS),
    (r"seed|shuffle", "use the recipe's data.seed and training.seed"),
    (r"trust_remote_code", "use the recipe's model.trust_remote_code"),
    (r"tokenizer", "use the recipe's model.path"),
    (r".*", "use the recipe's data section"),
)
_TRAINER: tuple[Rule, ...] = (
    (r"seed", "use the recipe's training.seed"),
    (r"logger", "use the recipe's logging"),
    (r"save_freq", "use the recipe's checkpoint.every"),
    (r"max(_actor|_critic)?_ckpt_to_keep|del_local_ckpt_after_load", "use the recipe's checkpoint.keep"),
    (r"test_freq|val_before_train|val_only", "use the recipe's eval.loss_every"),
    (r"total_epochs", "use the recipe's training.epochs"),
    (r"total_training_steps", "use the recipe's training.max_steps"),
    (r"default_hdfs_dir", "checkpoints lie in the run directory; move it when the run has ended"),
    (r"checkpoint_callback_class|esi_redundant_time", _WHOLE),
    (r"critic_warmup", _NO_CRITIC),
    (r"use_v1|v1\..*", "the adapter runs verl's synchronous trainer; nothing else is tested with it"),
    (r"ray_wait_register_center_timeout", "of verl's older workers, which do not run here"),
    (r"device|nnodes|n_gpus_per_node", "the machines are the runner's; set N_GPUS, NNODES"),
    (r"resume_(mode|from_path)", "`recipe resume` goes on with a run"),
    (r"balance_batch", "neither of the trainers that run here reads it: GRPO's batches are always balanced"),
    (
        r"(?!profile_interval|log_val_generations).*",
        "the run's name and place are the runner's; set --name",
    ),
)


def _under(prefix: str, rules: tuple[Rule, ...], before: str = "") -> Iterator[Rule]:
    """Rules of one section as rules of whole keys; `before` goes in front of each reason."""
    for pattern, reason in rules:
        yield f"{prefix}(?:{pattern})", f"{before}; {reason}" if before and reason and before not in reason else reason


_SFT: tuple[Rule, ...] = (
    *_under(r"data\.", _DATA, _PREPARED),
    *_under(r"model\.", _MODEL),
    *_under(r"engine\.", _ENGINE),
    *_under(r"optim\.", _OPTIMIZER),
    *_under(r"trainer\.", _TRAINER),
    (r"checkpoint\..*", _WHOLE),
    (
        r"model\.mtp\.(enable_rollout|method|num_speculative_tokens|speculative_.*)",
        "of rollouts, which sft has none of",
    ),
)
_FSDP: tuple[Rule, ...] = (
    *_SFT,
    (r"engine\.entropy_.*", "of GRPO's loss: sft computes no entropy"),
    (r"engine\.router_replay.*", "belongs to distributed.strategy: megatron"),
    (r"model\.lora\..*", "belongs to distributed.strategy: megatron; use the recipe's tuning"),
    (r"model\.mtp\..*", "belongs to distributed.strategy: megatron"),
    (r".*", None),
)
_MEGATRON: tuple[Rule, ...] = (
    *_under(r"model\.", _MEGATRON_LORA),
    *_SFT,
    (r"engine\.(expert_)?tensor_(model_)?parallel_size", "use the recipe's distributed.tensor_parallel"),
    (r"engine\.(virtual_)?pipeline_model_parallel_size", "use the recipe's distributed.pipeline_parallel"),
    (r"engine\.expert_model_parallel_size", "use the recipe's distributed.expert_parallel"),
    (
        r"engine\.override_transformer_config\.recompute_(granularity|method|num_layers)",
        "use the recipe's training.gradient_checkpointing",
    ),
    (r"engine\.(use_mbridge|vanilla_mbridge|use_dist_checkpointing|dist_ckpt.*|dist_checkpointing.*)", _WHOLE),
    (r".*", None),
)
_POLICY = r"actor_rollout_ref\.(?:actor|ref)\."
_GRPO: tuple[Rule, ...] = (
    *_under(r"data\.", _DATA, _PREPARED),
    *_under(r"trainer\.", _TRAINER),
    *_under(r"actor_rollout_ref\.model\.", _MODEL),
    (r"actor_rollout_ref\.model\.lora\..*", "belongs to strategy: megatron, which is for sft; use the recipe's tuning"),
    *_under(rf"{_POLICY}fsdp_config\.", _ENGINE),
    *_under(rf"{_POLICY}optim\.", _OPTIMIZER),
    *_under(_POLICY, _ENGINE),
    (rf"{_POLICY}checkpoint\..*", _WHOLE),
    (rf"{_POLICY}(ppo_micro_batch_size(_per_gpu)?|log_prob_micro_batch_size(_per_gpu)?)", _MICRO),
    (rf"{_POLICY}(ppo_max_token_len_per_gpu|log_prob_max_token_len_per_gpu|log_prob_use_dynamic_bsz)", _TOKENS),
    (rf"{_POLICY}ppo_mini_batch_size", "use the recipe's grpo.mini_batch_size"),
    (rf"{_POLICY}(kl_loss_coef|use_kl_loss)", "use the recipe's grpo.kl_coef and grpo.kl_in"),
    (rf"{_POLICY}clip_ratio(_low|_high)?", "use the recipe's grpo.clip_ratio"),
    (rf"{_POLICY}rollout_n", "use the recipe's grpo.rollouts.n"),
    (rf"{_POLICY}grad_clip", "use the recipe's training.max_grad_norm"),
    (rf"{_POLICY}data_loader_seed", "use the recipe's training.seed"),
    (rf"{_POLICY}(engine|model_config|global_batch_info)", _LOADED),
    (rf"{_POLICY}fsdp_config\.router_replay.*", "of Megatron, which runs sft only; use the recipe's distributed"),
    (rf"{_POLICY}use_torch_compile", "verl reads it where the engine's is; set fsdp_config.use_torch_compile"),
    (r"actor_rollout_ref\.actor\.qat\..*", "verl reads it where the engine's is; set fsdp_config.qat"),
    # The reference model answers only: it learns nothing, and is clipped by nothing.
    (
        r"actor_rollout_ref\.ref\.(?!fsdp_config\.|profiler\.).*",
        "the reference model only scores replies; the key acts under actor_rollout_ref.actor",
    ),
    # Read by verl's older trainers and its asynchronous ones only, or by nothing at all.
    (
        r"actor_rollout_ref\.(nccl_timeout"
        r"|actor\.(freeze_vision_tower|use_rollout_log_probs|use_prefix_grouper|calculate_sum_pi_squared)"
        r"|rollout\.(over_sample_rate|layer_name_map|multi_stage_wake_up|sglang_engine_mode|checkpoint_manager_class"
        r"|standalone_gpu_memory_utilization|custom|agent\.custom_async_server\..*))",
        _UNREAD,
    ),
    (
        r"actor_rollout_ref\.rollout\.do_sample",
        "rollouts are always sampled; use the recipe's grpo.rollouts.temperature",
    ),
    (
        r"actor_rollout_ref\.rollout\.val_kwargs\.do_sample",
        "verl goes by the temperature; set actor_rollout_ref.rollout.val_kwargs.temperature",
    ),
    (r"actor_rollout_ref\.rollout\.checkpoint_engine\.backend", "verl's synchronous trainer sets it to naive itself"),
    (
        r"actor_rollout_ref\.rollout\.(moe_tensor_parallel_size|server|engine_kwargs\.trtllm)",
        "of TensorRT-LLM; use the recipe's grpo.rollouts.engine",
    ),
    (r"transfer_queue\.enable", "verl's synchronous trainer sets it to true itself"),
    (r"algorithm\.filter_groups\.max_num_gen_batches", "verl passes over it; max_inflight_gen_batches acts"),
    (r"skip\.(rollout|async_rollout)\..*", "of verl's other trainers; skip.rollout_tq acts"),
    (r"actor_rollout_ref\.hybrid_engine|model_engine", "the adapter runs one engine; use the recipe's distributed"),
    (r"actor_rollout_ref\.rollout\.response_length", "use the recipe's grpo.rollouts.max_reply_length"),
    (r"actor_rollout_ref\.rollout\.prompt_length", "use the recipe's grpo.rollouts.max_prompt_length"),
    (r"actor_rollout_ref\.rollout\.n", "use the recipe's grpo.rollouts.n"),
    (r"actor_rollout_ref\.rollout\.log_prob_micro_batch_size(_per_gpu)?", _MICRO),
    (r"actor_rollout_ref\.rollout\.(log_prob_max_token_len_per_gpu|log_prob_use_dynamic_bsz)", _TOKENS),
    (r"actor_rollout_ref\.rollout\.multi_turn(\..*)?", f"{_PREPARED}, without tools: {_ROLLOUTS}"),
    (r"actor_rollout_ref\.rollout\.skip_tokenizer_init|actor_rollout_ref\.rollout\.limit_images", _PREPARED),
    (r"actor_rollout_ref\.rollout\.(nnodes|n_gpus_per_node)", "rollouts run on the devices that train; set N_GPUS"),
    (r"algorithm\.(gamma|lam)", "of advantages by a critic, and GRPO has none; use the recipe's grpo"),
    (r"algorithm\.(kl_ctrl\.kl_coef|use_kl_in_reward)", "use the recipe's grpo.kl_coef and grpo.kl_in"),
    (r"algorithm\.gdpo_.*", "of another estimator of advantages; the adapter runs GRPO's"),
    (r"algorithm\.(use_pf_ppo|pf_ppo\..*)", "of PPO with a critic; use the recipe's grpo"),
    (r"critic\..*", _NO_CRITIC),
    (r"(custom_reward_function|reward_model|reward|sandbox_fusion)\..*", _REWARDS),
    (r".*", None),
)
# Keys that act with one value of a recipe's field: the KL term is in the loss or in the reward, or nowhere.
_WITH: dict[str, tuple[str, str]] = {
    "actor_rollout_ref.actor.kl_loss_type": ("grpo.kl_in", "loss"),
    "algorithm.kl_penalty": ("grpo.kl_in", "reward"),
    **{f"algorithm.kl_ctrl.{key}": ("grpo.kl_in", "reward") for key in ("type", "horizon", "target_kl")},
    **{
        f"actor_rollout_ref.rollout.engine_kwargs.{engine}": ("grpo.rollouts.engine", engine)
        for engine in ("vllm", "sglang")
    },
}
# Keys that act beside another alone: the key that turns them on, or gives them the value behind the sign.
_BESIDE: tuple[tuple[str, str], ...] = (
    (r"distillation\.(?!enabled$).+", "distillation.enabled"),
    (r"global_profiler\.(?!(steps|tool)$).+", "global_profiler.steps"),
    (r"(.*\.|)profiler\.(?!enable$).+", r"\1profiler.enable"),
    (r"(.*\b(?:qat|prometheus|filter_groups|rollout_tq|mtp))\.(?!enable$).+", r"\1.enable"),
    (r"trainer\.profile_interval", "profiler.enable"),
    (r"(.*\bdisaggregation)\.(?!enabled$).+", r"\1.enabled"),
    (r"(.*\btrace)\.(?!backend$).+", r"\1.backend"),
    (r"(.*)fused_kernel_options\..+", r"\1use_fused_kernels"),
    (r"(.*)entropy_from_logits_chunk_size", r"\1entropy_from_logits_with_chunking"),
    (r"(.*)pad_to_length_bucket", r"\1pad_to_length"),
    (r"(.*)quantization_config_file", r"\1quantization"),
    (r"transfer_queue\.backend\.(MooncakeStore)\..+", r"transfer_queue.backend.storage_backend=\1"),
    (r"(.*)rollout_is_(threshold|batch_normalize)", r"\1rollout_is"),
    (r"(.*)rollout_rs_threshold", r"\1rollout_rs"),
    (r"(.*rollout_correction\.)loss_type", r"\1bypass_mode"),
    (r"(.*policy_loss\.)clip_cov_.+", r"\1loss_mode=clip_cov"),
    (r"(.*policy_loss\.)(kl_cov_ratio|ppo_kl_coef)", r"\1loss_mode=kl_cov"),
    (r"(.*policy_loss\.)dro_beta", r"\1loss_mode=dro"),
    (r"(.*policy_loss\.)rollout_correction", r"\1loss_mode=bypass_mode"),
    (r"(algorithm\.kl_ctrl)\.(horizon|target_kl)", r"\1.type=adaptive"),
    (r"(transfer_queue\.metrics)\.(?!enabled$).+", r"\1.enabled"),
    (r"(.*actor\.)tau_(pos|neg)", r"\1policy_loss.loss_mode=sapo"),
    (r"(.*actor\.)loss_scale_factor", r"\1loss_agg_mode=seq-mean-token-sum-norm"),
)
RULES: dict[str, tuple[Rule, ...]] = {"sft-fsdp": _FSDP, "sft-megatron": _MEGATRON, "grpo": _GRPO}


def cannot_act(key: str, tree: str, fields: Mapping[str, str]) -> str | None:
    """Why a key of one of verl's trees would do nothing, or harm; None where it acts.

    Args:
        fields: the recipe's values that decide it, by field (GRPO's alone); where there is no KL term, grpo.kl_in is
            an empty string.
    """
    field, value = _WITH.get(key, ("", ""))
    if field in fields and fields[field] != value:
        kl = " and a grpo.kl_coef above 0" if field == "grpo.kl_in" else ""
        return f"acts with the recipe's {field}: {value}{kl} only"
    return next(reason for pattern, reason in RULES[tree] if re.fullmatch(pattern, key))


def alone(key: str, options: Mapping[str, object], own: Collection[str]) -> str | None:
    """That a key would act beside another which the recipe does not give; None where it gives it, or none is needed.

    Args:
        options: the native keys of the recipe, dotted.
        own: those that the adapter may set.
    """
    for pattern, switch in _BESIDE:
        if match := re.fullmatch(pattern, key):
            name, _, value = match.expand(switch).partition("=")
            on = str(options.get(name)) == value if value else options.get(name)
            if not on and name not in own:
                return f"acts beside {name}{f': {value}' if value else ''} only, which this recipe does not have"
    return None
