"""The training of a reward model by LLaMA-Factory, whose checkpoints are whole and can be gone on from.

By itself LLaMA-Factory 0.9.5 (train/rm, hparams/parser.py)
- goes on from no checkpoint: it takes the asked-for one out of the arguments, or loads its optimizer and no weights,
- writes a checkpoint in two steps, with trainer_state.json, by which we tell a whole one, after the first,
- cannot write a whole model whose output layer is its embeddings, which share their memory,
- tells the accuracy of the validation rows only,
- computes the logits of all tokens, and their loss, which nobody reads: in fp32 most of what a large vocabulary needs,
- fails on several processes where the output layer is trained: it gets no gradient.

Losses and weights are the same with and without.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recipes.model_files import HEAD


def install(config: dict[str, Any]) -> None:
    """Have LLaMA-Factory's reward training take our trainer; `config` is the one that it is called with."""
    from llamafactory.train.rm import workflow

    workflow.PairwiseTrainer = _trainer(config.get("resume_from_checkpoint"))
    workflow.fix_valuehead_checkpoint = lambda *_: None  # there is nothing to fix


def _trainer(checkpoint: str | None) -> Any:
    import torch
    from llamafactory.train.callbacks import FixValueHeadModelCallback
    from llamafactory.train.rm.trainer import PairwiseTrainer
    from safetensors.torch import load_file, save_file

    class Trainer(PairwiseTrainer):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.remove_callback(FixValueHeadModelCallback)
            self.scored: list[Any] = []
            inner = self.model.pretrained_model
            layer, embeddings = inner.get_output_embeddings(), inner.get_input_embeddings()
            if layer is not None:
                layer.register_forward_pre_hook(_last_token)
                # It gets no gradient, for which DDP would wait, and with checkpointed layers fail.
                shared = set(map(id, embeddings.parameters()))
                for parameter in layer.parameters():
                    parameter.requires_grad_(parameter.requires_grad and id(parameter) in shared)

        def train(self, resume_from_checkpoint: Any = None, **kwargs: Any) -> Any:
            return super().train(resume_from_checkpoint=checkpoint, **kwargs)

        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
            inputs = {name: tensor for name, tensor in inputs.items() if name != "labels"}
            loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
            if model.training:
                self.scored.append(_sums(outputs[1].detach().float(), outputs[2].detach().float()))
            return (loss, outputs) if return_outputs else loss

        def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
            if "loss" in logs and self.scored:
                rows, *sums = self.accelerator.reduce(torch.stack(self.scored).sum(0)).tolist()
                names = ("chosen", "rejected", "margins", "accuracies")
                logs |= {f"rewards/{name}": value / rows for name, value in zip(names, sums, strict=True)}
                self.scored = []
            super().log(logs, *args, **kwargs)

        def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
            directory = Path(output_dir or self.args.output_dir)
            whole = self.accelerator.unwrap_model(self.model)
            whole.pretrained_model.save_pretrained(directory)
            head = {f"v_head.{name}": tensor.contiguous() for name, tensor in whole.v_head.state_dict().items()}
            save_file(head, directory / HEAD, metadata={"format": "pt"})
            self.processing_class.save_pretrained(directory)

        def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
            directory, whole = Path(resume_from_checkpoint), self.accelerator.unwrap_model(model or self.model)
            head = {name.removeprefix("v_head."): one for name, one in load_file(directory / HEAD).items()}
            whole.v_head.load_state_dict(head)
            if whole.is_peft_model:
                whole.pretrained_model.load_adapter(directory, "default", is_trainable=True)
                return
            files = sorted(directory.glob("model*.safetensors"))
            loaded = {name: tensor for file in files for name, tensor in load_file(file).items()}
            missing, unknown = whole.pretrained_model.load_state_dict(loaded, strict=False)
            tied = set(getattr(whole.pretrained_model, "all_tied_weights_keys", ()))
            if set(missing) - tied or unknown:
                raise ValueError(f"{directory} holds another model: {sorted(set(missing) - tied) or unknown}")

    def _last_token(_layer: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (inputs[0][:, -1:], *inputs[1:])

    def _sums(chosen: Any, rejected: Any) -> Any:
        """Of scores (rows): their number, the sums of chosen, rejected and margins, and how many are right."""
        ones, margins = torch.ones_like(chosen), chosen - rejected
        return torch.stack([one.sum() for one in (ones, chosen, rejected, margins, (margins > 0).float())])

    return Trainer
