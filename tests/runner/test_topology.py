"""Topology from environment variables."""

from __future__ import annotations

import pytest

from adapters.contract import Topology
from recipes import UserError
from runner.machine.topology import check_present, topology

NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}
FOUR = {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}


@pytest.mark.parametrize(
    "env,expected",
    [
        (NO_GPU, Topology()),
        (FOUR, Topology(gpus=4, processes=4, devices=tuple("0123"))),
        (FOUR | {"N_GPUS": "2"}, Topology(gpus=2, processes=2, devices=tuple("01"))),
        (FOUR | {"NPROC_PER_NODE": "2"}, Topology(gpus=2, processes=2, devices=tuple("01"))),
        (FOUR | {"N_GPUS": "0"}, Topology()),
        (NO_GPU | {"NPROC_PER_NODE": "2"}, Topology(processes=2)),
        (NO_GPU | {"N_GPUS": "8"}, Topology(gpus=8, processes=8)),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, Topology()),
        (
            NO_GPU | {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1234"},
            Topology(nodes=2, node_rank=1, master_addr="10.0.0.1", master_port=1234),
        ),
        (
            NO_GPU | {"SLURM_NNODES": "2", "SLURM_NODEID": "1", "MASTER_ADDR": "n1"},
            Topology(nodes=2, node_rank=1, master_addr="n1"),
        ),
    ],
)
def test_the_variables_that_users_know(env: dict[str, str], expected: Topology) -> None:
    assert topology(env) == expected


@pytest.mark.parametrize(
    "env,message",
    [
        ({"N_GPUS": "two"}, "N_GPUS='two'; allowed: a whole number"),
        ({"NNODES": "-1"}, "NNODES='-1'"),
        ({"MASTER_PORT": "65536"}, "MASTER_PORT=65536; allowed: 1 to 65535"),
        ({"CUDA_VISIBLE_DEVICES": "1, 1"}, "CUDA_VISIBLE_DEVICES='1, 1' names a device twice"),
        ({"NNODES": "2", "NODE_RANK": "2", "MASTER_ADDR": "a"}, "allowed: 0 to 1"),
        ({"NNODES": "2"}, "every node needs MASTER_ADDR"),
    ],
)
def test_a_wrong_variable_is_named(env: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        topology(NO_GPU | env)


def test_one_can_plan_for_more_gpus_than_are_here_but_not_run() -> None:
    with pytest.raises(UserError, match="N_GPUS=8, but 0 GPUs are free here"):
        check_present(topology(NO_GPU | {"N_GPUS": "8"}))
