"""A Slurm of two nodes and an sshd on this host, of Debian's packages; every daemon is ended by its PID."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

CONF = """\
ClusterName=test
SlurmctldHost=localhost
SlurmctldPort={ctld}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={directory}/munge.sock
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool-%n
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd-%n.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmdTimeout=10
KillWait=5
ReturnToService=2
InactiveLimit=0
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=2
GresTypes=gpu
NodeName=n1 NodeAddr=127.0.0.1 NodeHostname=localhost Port={n1} CPUs=2 Gres=gpu:2
NodeName=n2 NodeAddr=127.0.0.1 NodeHostname=localhost Port={n2} CPUs=2 Gres=gpu:2
PartitionName=grace Nodes=n1,n2 Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=30
PartitionName=abrupt Nodes=n1,n2 PriorityTier=1 PreemptMode=REQUEUE
PartitionName=high Nodes=n1,n2 PriorityTier=10 PreemptMode=OFF
"""


def needed(program: str, *packages: str) -> str:
    """The path of a daemon, installed by apt-get where that is possible; a skip where there is no apt-get."""
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
    if not found:
        if not shutil.which("apt-get"):
            pytest.skip(f"{program} is not here, nor apt-get to install {', '.join(packages)}")
        assert os.geteuid() == 0, f"{program} is not here: as root, apt-get install {' '.join(packages)}"
        command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
        done = subprocess.run(
            command,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-500:]}{done.stderr[-1500:]}"
        found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
    assert found, f"{' '.join(packages)} brought no {program}"
    return found


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def until(true: Callable[[], object], seconds: float, what: Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what()
        time.sleep(0.3)


@dataclass
class Slurm:
    """A cluster that runs, and the variables that its programs need."""

    directory: Path
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        return {"SLURM_CONF": str(self.directory / "slurm.conf")}

    def __call__(self, *words: str) -> str:
        done = subprocess.run(words, env={**os.environ, **self.env}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout.strip()

    def start(self, name: str, *words: str) -> None:
        log = (self.directory / f"{name}.out").open("ab")
        with log:
            self.daemons[name] = subprocess.Popen(words, env={**os.environ, **self.env}, stdout=log, stderr=log)

    def start_node(self, name: str) -> None:
        self.start(name, needed("slurmd", "slurmd"), "-D", "-N", name)

    def state(self, job: str) -> str:
        """The state of a job that waits or runs, such as PENDING; empty where it has ended."""
        return self("squeue", "--noheader", f"--jobs={job}", "--format=%T") if job in self.jobs() else ""

    def hurry(self, job: str) -> None:
        """Have a job that was queued again start soon: Slurm waits two minutes, and needs some seconds.

        A slurmd that is given the job in the very second in which it has killed it refuses it for good.
        """
        self("scontrol", "update", f"JobId={job}", "StartTime=now+5")

    def jobs(self) -> list[str]:
        return self("squeue", "--noheader", "--format=%i").split()

    def node_dies(self, name: str) -> None:
        """As if its power were cut: its daemon, and all that runs under it, are killed at once."""
        found = set()
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                env = process.environ()
                if env.get("SLURMD_NODENAME") == name and env.get("SLURM_CONF") == self.env["SLURM_CONF"]:
                    # What runs there has it in its environment, its slurmstepd, which is no child of slurmd, has not.
                    found |= {process, *(one for one in process.parents() if one.name() == "slurmstepd")}
        assert found, f"nothing runs on {name}"
        self.daemons[name].kill()
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.daemons[name].wait()

    def end(self) -> None:
        for name, daemon in reversed(self.daemons.items()):
            if daemon.poll() is None:
                daemon.send_signal(signal.SIGTERM)
                try:
                    daemon.wait(20)
                except subprocess.TimeoutExpired:
                    daemon.kill()
                    print(f"{name} had to be killed")


@contextmanager
def slurm(directory: Path) -> Iterator[Slurm]:
    """A cluster of the nodes n1 and n2, which are slurmds of this host."""
    munged = needed("munged", "munge")
    slurmctld = needed("slurmctld", "slurmctld", "slurmd", "slurm-client")
    for name in ("state", "spool-n1", "spool-n2"):
        (directory / name).mkdir()
    ports = {name: free_port() for name in ("ctld", "n1", "n2")}
    (directory / "slurm.conf").write_text(CONF.format(directory=directory, **ports))
    (directory / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")  # counted as two GPUs
    key = directory / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    found = Slurm(directory)
    with ExitStack() as stack:
        stack.callback(found.end)
        parts = {"key-file": key, "socket": directory / "munge.sock", "pid-file": directory / "munged.pid"}
        parts |= {"seed-file": directory / "munge.seed", "log-file": directory / "munged.log"}
        words = [f"--{name}={path}" for name, path in parts.items()]
        found.start("munged", munged, "--force", "--foreground", *words)
        until((directory / "munge.sock").exists, 20, lambda: (directory / "munged.out").read_text())
        found.start("slurmctld", slurmctld, "-D")
        found.start_node("n1")
        found.start_node("n2")
        idle = ["sinfo", "--noheader", "--Node", "--partition=grace", "--format=%T"]

        def ready() -> bool:
            done = subprocess.run(idle, env={**os.environ, **found.env}, capture_output=True, text=True, check=False)
            return done.stdout.split() == ["idle", "idle"]

        until(ready, 60, lambda: (directory / "slurmctld.out").read_text()[-3000:])
        yield found
        found("scancel", "--full", "--user=root")
        until(lambda: not found.jobs(), 60, lambda: "a job is left")


@contextmanager
def sshd(directory: Path) -> Iterator[list[str]]:
    """An sshd on loopback with keys of its own; yields the words that ssh needs to reach it."""
    daemon, port = needed("sshd", "openssh-server"), free_port()
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)], check=True)
    (directory / "authorized").write_text((directory / "user.pub").read_text())
    (directory / "known").write_text(f"* {(directory / 'host.pub').read_text()}")
    Path("/run/sshd").mkdir(exist_ok=True)  # where it locks a part of itself in
    settings = {
        "Port": str(port), "ListenAddress": "127.0.0.1", "HostKey": str(directory / "host"), "StrictModes": "no",
        "AuthorizedKeysFile": str(directory / "authorized"), "PasswordAuthentication": "no", "UsePAM": "no",
        "PermitRootLogin": "prohibit-password", "PidFile": "none",
    }  # fmt: skip
    (directory / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    with (directory / "sshd.log").open("ab") as log:
        child = subprocess.Popen([daemon, "-D", "-e", "-f", str(directory / "sshd_config")], stderr=log, stdout=log)
    words = ["-F", "none", "-p", str(port), "-i", str(directory / "user")]
    words += ["-o", f"UserKnownHostsFile={directory / 'known'}", "-o", "StrictHostKeyChecking=yes"]
    try:

        def answers() -> bool:
            assert child.poll() is None, (directory / "sshd.log").read_text()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        until(answers, 20, lambda: (directory / "sshd.log").read_text())
        yield words
    finally:
        child.terminate()
        child.wait(20)
