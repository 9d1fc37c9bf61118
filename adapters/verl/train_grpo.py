"""Runs verl's GRPO trainer on the config that the plan wrote; inside its environment. It starts Ray, and ends it.

Usage: python -m adapters.verl.train_grpo [OPTIONS] backend/train.yaml
    --chat-template FILE         the model's own otherwise
    --model-revision REVISION    of the model on the hub
    --node-rank N --ended FILE   one of several nodes

On several nodes each runs it; node 0 trains, and tells the others by FILE when it has ended.

The config runs under verl's own entry too (`python -m verl.trainer.main_ppo --config-dir backend --config-name train`).
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from adapters.verl import ray_nodes
from adapters.verl.checkpoints import same_world
from adapters.verl.compose import compose

GRACE_S = 12.0


class Lost(Exception):
    """A process of the training died by itself; the message says which, and why."""


def main(file: Path, template: Path | None, revision: str | None, rank: int, ended: Path | None) -> None:
    config = compose(file, revision)
    ended = ended.resolve() if ended else None
    # Ray puts its driver's working directory on the import path of every worker: it must be none that holds data.
    elsewhere = tempfile.mkdtemp(prefix="recipe-grpo-")
    os.chdir(elsewhere)
    directory = ray_nodes.directory(config, rank)
    segments = directory.with_name(f"{directory.name}.segments")
    _clear(directory, segments)  # of an attempt that was killed
    signal.signal(signal.SIGTERM, _end)
    threading.Thread(target=_go_on_noting, args=(segments,), daemon=True).start()
    runner = os.getppid()
    threading.Thread(target=_end_with_runner, args=(runner, directory, segments), daemon=True).start()
    try:
        if ended and rank:
            ray_nodes.take_part(config, rank, ended)
        else:
            with ray_nodes.token(), ray_nodes.head(config, ended) if ended else nullcontext():
                _train(config, template, segments)
    finally:
        if os.getppid() != runner:
            _kill_rest()
        _clear(directory, segments)
        shutil.rmtree(elsewhere, ignore_errors=True)


def _train(config: Any, template: Path | None, segments: Path) -> None:
    import ray
    from omegaconf import open_dict
    from verl.trainer.main_ppo import run_ppo
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config
    from verl.utils.device import auto_set_device

    from adapters.verl.grpo_trainer import Runner

    same_world(config.trainer.resume_from_path, config.trainer.nnodes * config.trainer.n_gpus_per_node)
    if template:
        with open_dict(config):
            config.actor_rollout_ref.model.custom_chat_template = template.read_text(encoding="utf-8")
    auto_set_device(config)
    validate_config(config, need_reference_policy(config), need_critic(config))
    init = ray.init

    def init_and_watch(**options: Any) -> Any:
        context = init(**options)
        signal.signal(signal.SIGTERM, _end)  # Ray has put its own in place, which ends all without the clean-up
        signal.signal(signal.SIGUSR1, _end)
        threading.Thread(target=_watch, daemon=True).start()
        return context

    ray.init = init_and_watch
    try:
        run_ppo(config, task_runner_class=ray.remote(Runner))
    except SystemExit as end:
        raise Lost(_lost[0]) if _lost else end from None
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        _note_shared_memory(segments)
        ray.shutdown()


_lost: list[str] = []  # what _watch found, for the main thread


def _watch() -> None:
    """Interrupt the main thread when an actor died by itself: verl 0.9.1 may wait for its replies for ever."""
    from ray._private.state import actors
    from ray.exceptions import RaySystemError

    while not _lost:
        time.sleep(5)
        with suppress(RaySystemError):  # Ray has ended
            _lost.extend(filter(None, map(_death, actors(actor_state_name="DEAD").values())))
    os.kill(os.getpid(), signal.SIGUSR1)


def _death(actor: dict[str, Any]) -> str:
    """How an actor died, where it was not told to."""
    short_of_memory, died = actor["DeathCause"].oom_context, actor["DeathCause"].actor_died_error_context
    by_itself = died.Reason.Name(died.reason) in ("WORKER_DIED", "NODE_DIED")
    message = short_of_memory.error_message or (died.error_message if by_itself else "")
    return f"{actor['ActorClassName']} died: {message}" if message else ""


def _note_shared_memory(file: Path) -> None:
    """Write down what our processes hold of it: Ray ends vLLM before that can give its queues back, 400 MB a run."""
    import psutil

    noted = file.read_text(encoding="utf-8") if file.is_file() else ""
    found = set(noted.splitlines())
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            found |= {held.path for held in child.memory_maps() if held.path.startswith("/dev/shm/")}
    text = "\n".join(sorted(found))
    if text != noted:
        file.write_text(text, encoding="utf-8")


def _go_on_noting(file: Path) -> None:
    while True:
        _note_shared_memory(file)
        time.sleep(10)


def _end_with_runner(runner: int, directory: Path, segments: Path) -> None:
    """End all at once where the runner is gone and SIGTERM, which the kernel then sends, has not ended us in time.

    Ray may not let go: of a main thread that waits for it, or of its own shutdown.
    """
    while os.getppid() == runner:
        time.sleep(1)
    time.sleep(GRACE_S)
    _note_shared_memory(segments)
    _kill_rest()
    _clear(directory, segments)
    os._exit(128 + signal.SIGTERM)


def _kill_rest() -> None:
    """Kill what else carries the run's mark: workers of Ray and vLLM's engine outlive a raylet that has ended."""
    import psutil

    for other in psutil.process_iter():
        with suppress(psutil.Error):
            if other.pid != os.getpid() and other.environ().get("RECIPE_RUN") == os.environ["RECIPE_RUN"]:
                other.kill()


def _clear(directory: Path, segments: Path) -> None:
    """Remove Ray's directory, and the shared memory that was written down."""
    for name in segments.read_text(encoding="utf-8").splitlines() if segments.is_file() else []:
        Path(name).unlink(missing_ok=True)
    segments.unlink(missing_ok=True)
    for _ in range(10):  # what ends may still be writing into it
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return
        time.sleep(0.5)


def _end(number: int, _frame: Any) -> None:
    sys.exit(128 + number)  # so that the clean-up runs; Ray's waiting lets no other exception through


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--chat-template", type=Path)
    parser.add_argument("--model-revision")
    parser.add_argument("--node-rank", type=int, default=0)
    parser.add_argument("--ended", type=Path)
    parser.add_argument("file", type=Path)
    given = parser.parse_args()
    main(given.file, given.chat_template, given.model_revision, given.node_rank, given.ended)
