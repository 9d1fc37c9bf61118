"""ssh: the same command on each of a list of hosts that share a directory; one that ends badly ends the others."""

from __future__ import annotations

import re
import shlex
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import IO

from recipes import UserError
from recipes.visible import visible
from runner.failure import Failure
from runner.files import NewLines
from runner.launching.contract import Job, Launched, Request, Say
from runner.machine import process
from runner.machine.secrets import redact

# A host that is gone is noticed within a minute; nobody is there to be asked for a password.
OPTIONS = ("-T", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4")
PORT = 29500
GRACE_S = 60.0  # for the hosts to end what they run, and to write their states
# Its stdin tells a host that we are there: when it ends, with us or with the connection, so does the command.
REMOTE = """\
exec 3<&0 2>&1
cd {directory} || exit 1
{variables} {command} </dev/null 3<&- &
child=$!
(cat <&3 >/dev/null; kill -TERM $child) >/dev/null 2>&1 &
watch=$!
exec 3<&-
wait $child
code=$?
kill $watch 2>/dev/null
exit $code"""


def job(request: Request) -> Job:
    note = f"each host must see {request.run.parent} and the recipe's own files by these paths"
    return Job(commands=tuple(_commands(request)), notes=(note,))


def _commands(request: Request) -> Iterator[tuple[str, ...]]:
    hosts, own = request.launch.ssh.hosts, request.launch.ssh
    for rank, host in enumerate(hosts):
        variables = {"NNODES": str(len(hosts)), "NODE_RANK": str(rank)}
        variables |= {"MASTER_ADDR": address(hosts[0]), "MASTER_PORT": str(PORT), **request.variables()}
        text = REMOTE.format(
            directory=shlex.quote(own.directory or str(Path.cwd())),
            variables=shlex.join(["env", *(f"{name}={value}" for name, value in variables.items())]),
            command=request.command_here(),
        )
        # A login shell of any kind gets one word, which sh reads.
        yield ("ssh", *OPTIONS, *own.options, host, f"exec sh -c {shlex.quote(text)}")


def address(host: str) -> str:
    """The name of a host without user and port, as the other hosts reach it."""
    found = re.fullmatch(r"(?:ssh://)?(?:[^@]*@)?(\[[^]]*\]|[^:/]*)(?::\d+)?/?", host)
    return found[1].strip("[]") if found else host


@dataclass(frozen=True)
class _Host:
    rank: int
    name: str
    child: Popen[bytes]
    log: Path
    reader: threading.Thread


def start(request: Request, job: Job, say: Say) -> str:
    """Run to the end, and show what the hosts say; each host's words are in launch/node-RANK.log too."""
    if not shutil.which("ssh"):
        raise UserError("--on ssh: there is no ssh here; install OpenSSH's client")
    with process.signals_raise(), ExitStack() as stack:
        hosts = [_begin(stack, request, rank, command, say) for rank, command in enumerate(job.commands)]
        try:
            first = _first_bad(hosts)
        finally:
            _end(hosts)
    if first:
        raise _failure(first)
    return ""


def _begin(stack: ExitStack, request: Request, rank: int, command: tuple[str, ...], say: Say) -> _Host:
    name = request.launch.ssh.hosts[rank]
    log = request.directory / f"node-{rank}.log"
    mark = f"{request.run}#launch-{rank}"
    child = stack.enter_context(
        process.talking(command, cwd=request.run, env=process.clean_environment(), log=log, mark=mark, wrap=False)
    )
    assert child.stdout
    reader = threading.Thread(target=_copy, args=(child.stdout, log, name, say), daemon=True)
    reader.start()
    return _Host(rank, name, child, log, reader)


def _copy(source: IO[bytes], log: Path, host: str, say: Say) -> None:
    with log.open("ab") as target:
        for line in source:
            text = redact(line.decode("utf-8", "replace"), ())
            # A full disk must not block the hosts: a pipe that nobody empties would make them wait.
            with suppress(OSError):
                target.write(text.encode())
                target.flush()
            say(f"[{host}] {visible(text.rstrip())}")


def _first_bad(hosts: list[_Host]) -> _Host | None:
    """Wait until all have ended well, or one has not."""
    while True:
        codes = [host.child.poll() for host in hosts]
        bad = next((host for host, code in zip(hosts, codes, strict=True) if code), None)
        if bad or all(code == 0 for code in codes):
            return bad
        time.sleep(0.2)


def _end(hosts: list[_Host]) -> None:
    """Let go of every host, which ends its command, and wait for what it still says."""
    for host in hosts:
        if host.child.stdin:
            with suppress(OSError):
                host.child.stdin.close()
    process.wait_until(lambda: all(host.child.poll() is not None for host in hosts), GRACE_S)
    for host in hosts:
        host.reader.join(5 if host.child.poll() is not None else 0)


def _failure(host: _Host) -> Failure:
    code = host.child.returncode
    what = "could not be reached, or was lost" if code == 255 else f"ended with exit code {code}"
    tail = "\n".join(NewLines(host.log)()[-15:])
    text = f"node {host.rank} ({host.name}) {what}; the other nodes were ended"
    return Failure(text, cause="go on with the same command and --resume", tail=tail, log=host.log)


def states(launched: Mapping[str, tuple[Path, Launched]], say: Say) -> Mapping[str, str]:
    """None: such a run says itself how it is."""
    return {}
