"""`recipe serve`: a finished run's model behind vLLM's OpenAI-compatible server."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable
from pathlib import Path

from eval.engines import VLLM_ON_CPU
from recipes import UserError
from runner.failure import Failure
from runner.machine import diagnose, environments, process
from runner.machine.environments import environment
from runner.machine.process import clean_environment
from runner.machine.topology import topology
from runner.runs.merge import whole_model
from runner.runs.reward_model import check_writes
from runner.runs.rundir import Run
from runner.runs.tokens import check_server
from runner.runs.trust import check_links, check_trusted

# A process that gives itself a title overwrites the environment by which we find it again; and no word to anyone.
ALWAYS = {"SPT_NOENV": "1", "VLLM_NO_USAGE_STATS": "1"}


def serve(run: Run, host: str, port: int, options: list[str], say: Callable[[str], None], *, trusted: bool) -> None:
    """Serve until interrupted; an adapter is merged first. `options` go to vLLM as they are.

    Raises:
        UserError: the run has not succeeded, or the port is taken.
        Failure: the server ended by itself.
    """
    if _answers(host, port):
        raise UserError(f"--port {port}: something listens on {host} there already; give another")
    check_links(run)
    check_writes(run, "served")
    check_trusted(run, run.recipe().recipe, "serve", trusted=trusted)
    model = _model(run, say, trusted)
    device = topology().device
    trust = ["--trust-remote-code"] if run.recipe().recipe.model.trust_remote_code else []
    python = environments.ensure(environment(environments.VLLM, device), say)
    command = [
        str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--served-model-name", run.name,
        "--host", host, "--port", str(port), *([] if device == "cuda" else ["--dtype", "float32", "--enforce-eager"]),
        *trust, *options,
    ]  # fmt: skip
    log = run.path / "logs" / "serve.log"
    log.unlink(missing_ok=True)
    say(f"starting vLLM on {model}; its log: {log}")
    waiting = _Waiting(host, port, run, say)
    defaults = {} if device == "cuda" else VLLM_ON_CPU
    with process.signals_raise():
        code = process.run(
            command,
            cwd=run.path,
            env={**defaults, **clean_environment(ALWAYS)},
            log=log,
            mark=run.mark(f"serve-{port}"),  # another of this run is not ended with it
            poll=waiting,
        )
    last = diagnose.tail(log)
    raise Failure(f"the server ended with exit code {code}", cause=diagnose.cause(last, code), tail=last, log=log)


def _model(run: Run, say: Callable[[str], None], trusted: bool) -> Path:
    """The whole model's directory."""
    if run.state() != "succeeded":
        raise UserError(f"{run.name} has state {run.state()}: only a run that succeeded can be served")
    return whole_model(run, say, trusted=trusted)


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except (socket.gaierror, UnicodeError) as error:
        raise UserError(f"--host {host}: {error.args[-1]}; give a name or an address of this machine") from None
    except OSError:
        return False
    return True


class _Waiting:
    """Says once that the server answers, and how to ask it."""

    def __init__(self, host: str, port: int, run: Run, say: Callable[[str], None]) -> None:
        self.host, self.port, self.run, self.say, self.ready = host, port, run, say, False

    def __call__(self) -> None:
        if self.ready:
            return
        connection = http.client.HTTPConnection(self.host, self.port, timeout=1)
        try:
            connection.request("GET", "/health")
            self.ready = connection.getresponse().status == 200
        except OSError:
            return  # not there yet
        finally:
            connection.close()
        if self.ready:
            place = f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"
            asked = json.dumps({"model": self.run.name, "messages": [{"role": "user", "content": "What is a bond?"}]})
            self.say(check_server(self.run, place))
            curl = f"curl {place}/v1/chat/completions -H 'Content-Type: application/json' -d '{asked}'"
            self.say(f"ready; ^C ends it. Ask it so:\n  {curl}")
