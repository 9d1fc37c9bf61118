"""The tokens by which a model's own tokenizer and chat template ask for replies; inside the evaluation environment.

Usage: python -m eval.models.tokens SPEC.json

SPEC holds an eval.spec.Prompts; a list of token ids a prompt goes to its target.
"""

from __future__ import annotations

import sys
from pathlib import Path

from eval.spec import Prompts
from recipes.files import write_json
from recipes.template import Template, shaped
from recipes.typed import read_typed


def tokens(spec: Prompts) -> list[list[int]]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(spec.model, trust_remote_code=spec.trust_remote_code)
    # How the template takes calls and content; what is rendered is transformers' own.
    template = shaped(Template(tokenizer, None, dict(spec.variables)))
    return [
        tokenizer.apply_chat_template(
            [template.shape(dict(message)) for message in prompt],
            tools=prompt[0].get("tools"),
            add_generation_prompt=True,
            return_dict=False,
            **spec.variables,
        )
        for prompt in spec.prompts
    ]


if __name__ == "__main__":
    asked = read_typed(Prompts, Path(sys.argv[1]))
    write_json(Path(asked.target), tokens(asked))
