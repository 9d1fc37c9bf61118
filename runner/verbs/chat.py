"""`recipe chat`: talk to a run's model, or to any; two beside each other."""

from __future__ import annotations

import argparse
import io
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from recipes.errors import UserError, did_you_mean
from recipes.visible import visible
from runner.verbs import options

if TYPE_CHECKING:
    from runner.scoring.chat import Conversation, Talk

EXAMPLES = (
    "recipe chat quickstart",
    "recipe chat quickstart base --system 'Answer in one sentence.'",
    "recipe chat finance_lora finance_full --prompt 'What is a bond?'",
)
COMMANDS = {
    "/system": "TEXT: the system prompt from now on; the conversation begins again",
    "/retry": "ask the last question again",
    "/reset": "begin again",
    "/save": "FILE.jsonl: write the conversation as rows that `recipe data` reads",
    "/help": "these commands",
    "/quit": "end (also Ctrl-D)",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a run, a model's directory, or a hub id")
    parser.add_argument("other", nargs="?", metavar="OTHER", help="another beside it; base: the base of the first")
    parser.add_argument("--prompt", metavar="TEXT", help="ask this, print the reply, and end")
    parser.add_argument("--system", metavar="TEXT", help="a system prompt")
    parser.add_argument("--max-new-tokens", type=options.count, default=512, metavar="N", help="of a reply (512)")
    parser.add_argument("--temperature", type=_temperature, default=0.0, metavar="T", help="0: the likeliest (default)")
    parser.add_argument(
        "--engine", choices=("transformers", "vllm"), help="what answers (default: the run's eval.engine)"
    )
    parser.add_argument(
        "--thinking", choices=("auto", "on", "off"), default="auto", help="the template's own way: auto"
    )
    parser.add_argument(
        "--chat-template", type=options.path, metavar="FILE", help="a Jinja file in place of the model's"
    )
    options.add_trust(parser)
    options.add_runs_dir(parser)
    parser.epilog = "In a conversation:\n" + _help()


def _help() -> str:
    return "\n".join(f"  {name} {text}" for name, text in COMMANDS.items())


def _temperature(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"expected a number from 0, such as 0.7; got {text!r}")
    return value


def run(arguments: argparse.Namespace) -> None:
    from eval.spec import Chat, Spec
    from runner.machine.process import signals_raise
    from runner.scoring.chat import Conversation, chat_of, talk

    for option, text in (("--prompt", arguments.prompt), ("--system", arguments.system)):
        _check_whole(option, text or "")
    template = str(arguments.chat_template.resolve()) if arguments.chat_template else None
    if template and not Path(template).is_file():
        raise UserError(f"--chat-template {arguments.chat_template}: no such file")
    spec = Spec(models=(), suites=(), thinking=arguments.thinking, chat_template=template)
    asked = Chat(spec=spec, max_new_tokens=arguments.max_new_tokens, temperature=arguments.temperature)
    names = [arguments.model, *([arguments.other] if arguments.other else [])]
    trusted, engine = arguments.trust_run, arguments.engine
    chat = chat_of(names, arguments.runs_dir, asked, options.say, trusted=trusted, engine=engine)
    with signals_raise(), talk(chat, options.say) as found:
        conversations = [Conversation(name, arguments.system) for name in found.children]
        if arguments.prompt is not None:
            _ask(found, conversations, arguments.prompt)
        else:
            _converse(found, conversations)


def _converse(talk: Talk, conversations: list[Conversation]) -> None:
    """Until the user ends it."""
    import contextlib

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - so that input() has a history, and keys to edit
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # a byte that is no UTF-8 is refused with its line, not read on
    options.say("ask; /help says what else there is, Ctrl-D ends")
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return
        command, _, rest = line.partition(" ")
        if command == "/quit":
            return
        try:
            _check_whole("the prompt", line)
            if line.startswith("/"):
                _command(talk, conversations, command, rest.strip())
            elif line:
                _ask(talk, conversations, line)
        except UserError as error:  # the conversation can go on
            options.say(str(error))


def _check_whole(what: str, text: str) -> None:
    """Raise UserError for what no tokenizer reads: half a character, or a byte that is no UTF-8 and stands as one."""
    if half := re.search("[\ud800-\udfff]", text):
        told = f"it holds half a character (or a byte that is no UTF-8) at its character {half.start() + 1}"
        raise UserError(f"{what}: {told}; write that anew")


def _command(talk: Talk, conversations: list[Conversation], command: str, rest: str) -> None:
    if command == "/system":
        for one in conversations:
            one.system, one.turns = rest or None, []
    elif command == "/reset":
        for one in conversations:
            one.turns = []
    elif command == "/retry":
        last = next((turn["content"] for turn in reversed(conversations[0].turns) if turn["role"] == "user"), None)
        if last is None:
            raise UserError("/retry: nothing was asked yet")
        _ask(talk, conversations, last, again=True)
    elif command == "/save":
        _save(conversations, rest)
    elif command == "/help":
        options.say(_help())
    else:
        raise UserError(f"{command}: no such command{did_you_mean(command, COMMANDS)}; /help names them")


def _ask(talk: Talk, conversations: list[Conversation], question: str, *, again: bool = False) -> None:
    for one in conversations:
        if again:
            while one.turns and one.turns.pop()["role"] != "user":
                pass
        one.turns.append({"role": "user", "content": question})
        if len(conversations) > 1:
            print(f"--- {visible(one.name)}", flush=True)
        try:
            ended = talk.reply(one, _show)
        except UserError:
            one.turns.pop()  # it was not answered
            raise
        print(flush=True)
        if ended == "length":
            options.say(f"(cut after --max-new-tokens, or at the end of {one.name}'s positions)")


def _show(piece: str) -> None:
    print(visible(piece) if sys.stdout.isatty() else piece, end="", flush=True)


def _save(conversations: list[Conversation], name: str) -> None:
    from recipes.files import write_jsonl

    if not name:
        raise UserError("/save: name a file, such as /save talk.jsonl")
    file = Path(name)
    if file.exists():
        raise UserError(f"/save: {name} is there already; name another")
    rows = [{"messages": one.messages} for one in conversations if one.turns]
    if not rows:
        raise UserError("/save: nothing was said yet")
    try:
        write_jsonl(file, rows)
    except (OSError, ValueError) as error:
        raise UserError(f"/save: {name}: {error}") from None
    options.say(f"{len(rows)} conversation{'s' * (len(rows) > 1)} in {name}")
