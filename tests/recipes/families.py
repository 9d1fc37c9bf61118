# ruff: noqa: E501 (one family a line)
"""What a conversation looks like in each family of chat templates, put together turn by turn, and where loss falls.

Written from the families' formats, not from the templates under tests/templates, which are held against it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Message = dict[str, str]
Segment = tuple[str, bool]  # text, and whether it has loss


@dataclass(frozen=True)
class Family:
    """Formats of turns; `{}` stands for the text.

    begin, default: at the beginning, always; where there is no system prompt.
    system: its turn; None: refused; "": left out.
    system_in: where the system prompt stands: a turn of its own, or before the first or last user's text.
    given, lead: before a reply, of the generation prompt; of the model.
    end, middle: after the last reply; after one that another turn follows, with and without loss.
    borrowed: the next turn's first token, which is what ends a reply.
    differs: the generation prompt is not what stands before the reply in training.
    trim: roles whose text is stripped, by their first letters. squeeze: two newlines become one.
    reply: (given, text with loss) of a reply that is changed on the way.
    stops: the model's end tokens. added: the turn's end that it does not know.
    """

    user: str
    given: str = ""
    lead: str = ""
    end: str = ""
    system: str | None = None
    system_in: str = "turn"
    middle: tuple[str, str] | None = None
    begin: str = ""
    default: str = ""
    glue: str = ""
    borrowed: str = ""
    differs: bool = False
    trim: str = ""
    squeeze: bool = False
    tag: str = "think"
    reply: Callable[[str, bool], tuple[str, str]] | None = None
    stops: tuple[str, ...] = ("</s>",)
    bos: str = ""
    added: str = ""
    specials: tuple[str, ...] = ()

    def text(self, message: Message) -> str:
        text = message["content"].strip() if message["role"][0] in self.trim else message["content"]
        return text.replace("\n\n", "\n") if self.squeeze else text

    def segments(self, messages: list[Message], last_only: bool) -> list[Segment] | None:
        """The conversation in pieces; None where the family has no place for it."""
        has_system = messages[0]["role"] == "system"
        if has_system and self.system is None:
            return None
        out: list[Segment] = [(self.begin, False)]
        system = self.text(messages[0]) if has_system else ""
        if not has_system:
            out.append((self.default, False))
        elif self.system_in == "turn":
            out.append((str(self.system).replace("{}", system), False))
        users = [n for n, message in enumerate(messages) if message["role"] == "user"]
        told = {"first": users[0], "last": users[-1]}.get(self.system_in)
        for n, message in enumerate(messages):
            if n and self.glue:
                out.append((self.glue, False))
            trained = not last_only or n == len(messages) - 1
            if message["role"] == "user":
                before = str(self.system).replace("{}", system) if has_system and n == told else ""
                turn = self.user.replace("{}", before + self.text(message))
                borrowed = self.borrowed if n and messages[n - 1]["role"] == "assistant" else ""
                out += [(borrowed, not last_only), (turn.removeprefix(borrowed), False)]
            elif message["role"] == "assistant":
                out += self._reply(self.text(message), n == len(messages) - 1, trained)
        return [(text, loss) for text, loss in out if text]

    def _reply(self, content: str, last: bool, trained: bool) -> list[Segment]:
        given, body = self.reply(content, last) if self.reply else (self.given, self.lead + content)
        if self.differs:
            given, body = given + body[: len(body) - len(body.lstrip())], body.lstrip()
        with_loss, without = (self.end + self.borrowed, "") if last else self.middle or (self.end, "")
        return [(given, False), (body + with_loss, trained), (without, False)]


def _split(content: str) -> tuple[str, str]:
    """Thinking and answer, as Qwen3's template tells them apart."""
    if "</think>" not in content:
        return "", content
    thought = content.split("</think>")[0].rstrip("\n").split("<think>")[-1].lstrip("\n")
    return thought, content.split("</think>")[-1].lstrip("\n")


def _qwen3(content: str, last: bool) -> tuple[str, str]:
    thought, answer = _split(content)
    block = "<think>\n" + thought.strip("\n") + "\n</think>\n\n" + answer.lstrip("\n")
    return "<|im_start|>assistant\n", block if last else answer


def _qwen3_no_thinking(content: str, last: bool) -> tuple[str, str]:
    given, body = _qwen3(content, last)
    empty = "<think>\n\n</think>\n\n"
    if last and body.startswith(empty):
        return given + empty, body.removeprefix(empty)
    return given + body[: len(body) - len(body.lstrip())], body.lstrip()


def _glm45(content: str, last: bool) -> tuple[str, str]:
    thought, answer = _split(content)
    thinking = thought.strip() if last else ""
    return "<|assistant|>", f"\n<think>{thinking}</think>\n{answer.strip()}"


def _smollm3(content: str, last: bool) -> tuple[str, str]:
    empty = "" if "</think>" in content else "<think>\n\n</think>\n"
    return "<|im_start|>assistant\n", empty + content.lstrip("\n")


def _without_thinking(given: str, tag: str, strip: str = "") -> Callable[[str, bool], tuple[str, str]]:
    return lambda content, last: (given, content.split(f"</{tag}>")[-1].lstrip(strip) if tag in content else content)


CHATML = {
    "user": "<|im_start|>user\n{}<|im_end|>\n",
    "system": "<|im_start|>system\n{}<|im_end|>\n",
    "given": "<|im_start|>assistant\n",
    "end": "<|im_end|>\n",
    "stops": ("<|im_end|>",),
    "specials": ("<|im_start|>", "<|endoftext|>"),
}
LLAMA = {
    "user": "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>",
    "given": "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "end": "<|eot_id|>",
    "bos": "<|begin_of_text|>",
    "stops": ("<|end_of_text|>", "<|eot_id|>"),
    "specials": ("<|start_header_id|>", "<|end_header_id|>"),
    "trim": "sua",
}
DATED = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
    "Cutting Knowledge Date: December 2023\nToday Date: {}\n\n"
)
GEMMA = {
    "user": "<start_of_turn>user\n{}<end_of_turn>\n", "given": "<start_of_turn>model\n", "end": "<end_of_turn>\n",
    "begin": "<bos>", "bos": "<bos>", "stops": ("<eos>", "<end_of_turn>"), "specials": ("<start_of_turn>",),
    "trim": "ua",
}  # fmt: skip
PHI3 = {
    "user": "<|user|>\n{}<|end|>\n", "system": "<|system|>\n{}<|end|>\n", "given": "<|assistant|>\n",
    "end": "<|end|>\n<|endoftext|>", "middle": ("<|end|>\n", ""),
    "specials": ("<|user|>", "<|system|>", "<|assistant|>", "<|end|>"),
}  # fmt: skip
DEEPSEEK = {
    "user": "<｜User｜>{}", "system": "{}", "given": "<｜Assistant｜>", "end": "<｜end▁of▁sentence｜>",
    "begin": "<｜begin▁of▁sentence｜>", "bos": "<｜begin▁of▁sentence｜>", "stops": ("<｜end▁of▁sentence｜>",),
    "specials": ("<｜User｜>", "<｜Assistant｜>"),
}  # fmt: skip
GLM = {
    "user": "<|user|>\n{}", "system": "<|system|>\n{}", "given": "<|assistant|>\n", "begin": "[gMASK]<sop>",
    "borrowed": "<|user|>", "stops": ("<|endoftext|>", "<|user|>", "<|observation|>"),
    "specials": ("[gMASK]", "<sop>", "<|system|>", "<|assistant|>"),
}  # fmt: skip
COMMAND = {
    "user": "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>{}<|END_OF_TURN_TOKEN|>",
    "given": "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
    "end": "<|END_OF_TURN_TOKEN|>", "begin": "<BOS_TOKEN>", "bos": "<BOS_TOKEN>", "stops": ("<|END_OF_TURN_TOKEN|>",),
    "specials": ("<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>"),
}  # fmt: skip
PREAMBLE = "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|># System Preamble\nYou are in contextual safety mode."
EXAONE = {
    "user": "[|user|]{}\n", "system": "[|system|]{}[|endofturn|]\n", "default": "[|system|][|endofturn|]\n",
    "given": "[|assistant|]", "end": "[|endofturn|]\n", "stops": ("[|endofturn|]",),
    "specials": ("[|user|]", "[|system|]", "[|assistant|]"),
}  # fmt: skip
ROLES = {"user": "<|user|>\n{}\n", "system": "<|system|>\n{}\n", "given": "<|assistant|>\n"}
EOT = {"stops": ("<|endoftext|>",)}
INST = {"begin": "<s>", "bos": "<s>"}
SMOL3 = "<|im_start|>system\n## Metadata\nReasoning Mode: /think\n\n## Custom Instructions\n{}\n<|im_end|>\n"
GRANITE = "<|start_of_role|>{}<|end_of_role|>"

FAMILIES: dict[str, Family] = {
    "llama2": Family(user="<s>[INST] {} [/INST]", lead=" ", end=" </s>", system="<<SYS>>\n{}\n<</SYS>>\n\n", system_in="first", trim="ua", bos="<s>"),
    "llama3": Family(**LLAMA, begin="<|begin_of_text|>", system="<|start_header_id|>system<|end_header_id|>\n\n{}<|eot_id|>"),
    "llama3.1": Family(**LLAMA, system=DATED.replace("{}", "26 Jul 2024") + "{}<|eot_id|>", default=DATED.replace("{}", "26 Jul 2024") + "<|eot_id|>"),
    "llama3.2": Family(**{**LLAMA, "stops": ("<|end_of_text|>",)}, system=DATED.replace("{}", "01 Jan 2025") + "{}<|eot_id|>", default=DATED.replace("{}", "01 Jan 2025") + "<|eot_id|>", added="<|eot_id|>"),
    "mistral_v0.1": Family(user="[INST] {} [/INST]", end="</s> ", **INST),
    "mistral_v0.3": Family(user="[INST] {}[/INST]", lead=" ", end="</s>", system="", system_in="nowhere", trim="a", **INST),
    "nemo": Family(user="[INST]{}[/INST]", end="</s>", system="{}\n\n", system_in="last", **INST),
    "mistral_tekken": Family(user="[INST]{}[/INST]", end="</s>", system="[SYSTEM_PROMPT]{}[/SYSTEM_PROMPT]", specials=("[INST]", "[/INST]"), **INST),
    "gemma1": Family(**GEMMA),
    "gemma2": Family(**{**GEMMA, "stops": ("<eos>",)}, added="<end_of_turn>"),
    "gemma3": Family(**GEMMA, system="{}\n\n", system_in="first"),
    "phi3": Family(**PHI3, **EOT, added="<|end|>"),
    "phi3.5": Family(**PHI3, stops=("<|endoftext|>", "<|end|>")),
    "phi4": Family(user="<|im_start|>user<|im_sep|>{}<|im_end|>", system="<|im_start|>system<|im_sep|>{}<|im_end|>", given="<|im_start|>assistant<|im_sep|>", end="<|im_end|>", stops=("<|im_end|>",), specials=("<|im_start|>", "<|im_sep|>")),
    "qwen2.5": Family(**CHATML, default="<|im_start|>system\nYou are Qwen, a helpful assistant.<|im_end|>\n"),
    "qwen3": Family(**CHATML, reply=_qwen3),
    "qwen3_no_thinking": Family(**CHATML, reply=_qwen3_no_thinking),
    "deepseek_v3": Family(**DEEPSEEK),
    "deepseek_r1": Family(**DEEPSEEK, differs=True, reply=_without_thinking("<｜Assistant｜>", "think")),
    "glm4": Family(**GLM),
    "glm4.5": Family(**GLM, reply=_glm45),
    "gpt_oss": Family(user="<|start|>user<|message|>{}<|end|>", system="<|start|>developer<|message|># Instructions\n\n{}<|end|>", begin="<|start|>system<|message|>You are a large language model.\n\nReasoning: medium<|end|>", given="<|start|>assistant", lead="<|channel|>final<|message|>", end="<|return|>", middle=("", "<|end|>"), stops=("<|return|>", "<|call|>"), specials=("<|start|>", "<|message|>", "<|channel|>", "<|end|>")),
    "command_r": Family(**COMMAND, system="<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>{}<|END_OF_TURN_TOKEN|>", trim="ua"),
    "command_r7b": Family(**{**COMMAND, "end": "<|END_RESPONSE|><|END_OF_TURN_TOKEN|>", "begin": COMMAND["begin"] + PREAMBLE}, system="\n\n# Developer Preamble\n{}<|END_OF_TURN_TOKEN|>", default="<|END_OF_TURN_TOKEN|>", lead="<|START_RESPONSE|>"),
    "exaone": Family(**EXAONE),
    "exaone_deep": Family(**EXAONE, differs=True, tag="thought", reply=_without_thinking("[|assistant|]", "thought", "\n")),
    "granite": Family(user=GRANITE.format("user") + "{}<|end_of_text|>\n", system=GRANITE.format("system") + "{}<|end_of_text|>\n", default=GRANITE.format("system") + "Knowledge Cutoff Date: April 2024.\nYou are Granite.<|end_of_text|>\n", given=GRANITE.format("assistant"), end="<|end_of_text|>\n", stops=("<|end_of_text|>",)),
    "smollm2": Family(**CHATML, default="<|im_start|>system\nYou are a helpful AI assistant named SmolLM<|im_end|>\n"),
    "smollm3": Family(**{**CHATML, "system": SMOL3}, default=SMOL3.replace("{}", "You are SmolLM."), reply=_smollm3),
    "olmo": Family(**ROLES, **EOT, begin="<|endoftext|>", end="<|endoftext|>", middle=("", "\n")),
    "olmo2": Family(**ROLES, **EOT, begin="<|endoftext|>", bos="<|endoftext|>", end="<|endoftext|>", middle=("<|endoftext|>", "\n")),
    "tulu": Family(**ROLES, end="</s>", middle=("</s>", "\n")),
    "falcon3": Family(**ROLES, **EOT, end="<|endoftext|>", middle=("<|endoftext|>", "\n"), specials=("<|user|>", "<|assistant|>")),
    "zephyr": Family(user="<|user|>\n{}</s>\n", system="<|system|>\n{}</s>\n", given="<|assistant|>\n", end="</s>\n"),
    "stablelm": Family(user="<|user|>\n{}<|endoftext|>\n", system="<|system|>\n{}<|endoftext|>\n", given="<|assistant|>\n", end="<|endoftext|>\n", trim="sua", **EOT),
    "vicuna": Family(user="USER: {} ", system="{} ", default="A chat between a curious user and an artificial intelligence assistant. ", given="ASSISTANT:", lead=" ", end="</s>", trim="ua", **INST),
    "alpaca": Family(user="### Instruction:\n{}\n\n", system="{}\n\n", default="Below is an instruction that describes a task.\n\n", given="### Response:\n", end="</s>\n\n"),
    "solar": Family(user="### User:\n{}\n\n", system="### System:\n{}\n\n", given="### Assistant:\n", end="\n\n"),
    "chatml": Family(**{**CHATML, "stops": ("<|endoftext|>",)}, added="<|im_end|>"),
    "yi": Family(**{**CHATML, "user": "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n", "given": ""}),
    "hermes": Family(**CHATML, begin="<|endoftext|>", bos="<|endoftext|>"),
    "internlm2": Family(**CHATML, **INST),
    "falcon": Family(user="User: {}", system="System: {}", glue="\n", given="Falcon:", lead=" ", squeeze=True, trim="sua", **EOT),
    "baichuan": Family(user="<reserved_106>{}", system="{}", given="<reserved_107>", borrowed="<reserved_106>", specials=("<reserved_107>",), added="<reserved_106>"),
    "nemotron": Family(user="<extra_id_1>User\n{}\n", system="<extra_id_0>System\n{}\n", default="<extra_id_0>System\n\n", given="<extra_id_1>Assistant\n", end="\n", borrowed="<extra_id_1>", trim="sua", specials=("<extra_id_0>",), added="<extra_id_1>"),
    "minicpm": Family(user="<用户>{}<AI>", system="{}", trim="sua"),
    "openchat": Family(user="GPT4 Correct User: {}<|end_of_turn|>", system="GPT4 Correct System: {}<|end_of_turn|>", given="GPT4 Correct Assistant:", lead=" ", end="<|end_of_turn|>", stops=("<|end_of_turn|>",), **INST),
    "starling": Family(user="Code User: {}<|end_of_turn|>", system="{}<|end_of_turn|>", given="Code Assistant:", lead=" ", end="<|end_of_turn|>", stops=("<|end_of_turn|>",), **INST),
    "hunyuan": Family(user="<｜hy_User｜>{}", system="{}<｜hy_place▁holder▁no▁3｜>", given="<｜hy_Assistant｜>", end="<｜hy_place▁holder▁no▁2｜>", stops=("<｜hy_place▁holder▁no▁2｜>",), specials=("<｜hy_User｜>", "<｜hy_Assistant｜>"), **INST),
    "idefics": Family(user="User: {}<end_of_utterance>\n", system="System: {}<end_of_utterance>\n", given="Assistant:", lead=" ", end="<end_of_utterance>\n", stops=("<end_of_utterance>",)),
    "llava": Family(user="USER: {} ", system="{} ", given="ASSISTANT:", lead=" ", end="</s>"),
}  # fmt: skip

# The templates under recipes/templates, which `model.chat_template` takes by name.
SHIPPED: dict[str, Family] = {
    "chatml": FAMILIES["chatml"],
    "qwen": Family(**CHATML, reply=lambda content, last: ("<|im_start|>assistant\n", content if last else content.split("</think>")[-1].lstrip("\n") if "</think>" in content else content)),
    "llama2": Family(user="<s>[INST] {} [/INST]", lead=" ", end=" </s>", system="<<SYS>>\n{}\n<</SYS>>\n\n", system_in="first", bos="<s>"),
    "llama3": FAMILIES["llama3"],
    "mistral": Family(user="[INST] {}[/INST]", lead=" ", end="</s>", system="{}\n\n", system_in="first", **INST),
    "gemma": FAMILIES["gemma3"],
    "phi": Family(user="<|user|>\n{}<|end|>\n", system="<|system|>\n{}<|end|>\n", given="<|assistant|>\n", end="<|end|>\n", stops=("<|endoftext|>",), added="<|end|>", specials=("<|user|>", "<|system|>", "<|assistant|>")),
    "zephyr": FAMILIES["zephyr"],
    "deepseek": FAMILIES["deepseek_v3"],
    "alpaca": Family(user="### Instruction:\n{}\n\n", system="{}\n\n", default="Below is an instruction that describes a task. Write a response that completes the request.\n\n", given="### Response:\n", end="</s>\n\n", **INST),
    "vicuna": Family(user="USER: {} ", system="{} ", default="A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the user's questions. ", given="ASSISTANT:", lead=" ", end="</s>", **INST),
    "plain": Family(user="User: {}\n\n", system="{}\n\n", given="Assistant:", lead=" ", end="</s>\n\n", **INST),
}  # fmt: skip
