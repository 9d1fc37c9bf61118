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
        ({"NNODES": "0"}, "NNODES=0; allowed: 1 or more"),
        ({"NNODES": "2", "NODE_RANK": "2", "MASTER_ADDR": "a"}, "NODE_RANK=2 with NNODES=2; allowed: 0 to 1"),
        ({"N_GPUS": "8", "NPROC_PER_NODE": "2"}, "N_GPUS=8 with NPROC_PER_NODE=2: each GPU has one process"),
        *(
            ({"MASTER_ADDR": wrong}, "MASTER_ADDR=.*; allowed: a host's name or address alone; the port is MASTER_PORT")
            for wrong in ("10.0.0.1:29500", "bad host", "   ", "http://a", "hôte")
        ),
        *(
            ({"CUDA_VISIBLE_DEVICES": wrong}, "CUDA_VISIBLE_DEVICES=.* names '.*'; allowed: numbers or ids of GPUs")
            for wrong in ("abc", "0 1", "0;1", "0,one")
        ),
        ({"MASTER_PORT": "65536"}, "MASTER_PORT=65536; allowed: 1 to 65535"),
        ({"CUDA_VISIBLE_DEVICES": "1, 1"}, "CUDA_VISIBLE_DEVICES='1, 1' names a device twice"),
        ({"NNODES": "2", "NODE_RANK": "2", "MASTER_ADDR": "a"}, "allowed: 0 to 1"),
        ({"NNODES": "2"}, "every node needs MASTER_ADDR"),
    ],
)
def test_a_wrong_variable_is_named(env: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        topology(NO_GPU | env)


@pytest.mark.parametrize("head", ["node-1.cluster_2.local", "10.0.0.1", "fe80::1%eth0", "::1", "2001:db8::7"])
def test_a_host_is_taken_as_it_is_written(head: str) -> None:
    assert topology(NO_GPU | {"NNODES": "2", "MASTER_ADDR": head}).master_addr == head


@pytest.mark.parametrize(
    "seen,count", [("GPU-8f3a-1,MIG-GPU-1/2/3", 2), ("NoDevFiles", 0), ("", 0), ("-1", 0), ("0, 2", 2)]
)
def test_devices_have_numbers_or_ids(seen: str, count: int) -> None:
    assert topology({"CUDA_VISIBLE_DEVICES": seen}).gpus == count


def test_one_can_plan_for_more_gpus_than_are_here_but_not_run() -> None:
    with pytest.raises(UserError, match="N_GPUS=8, but 0 GPUs are free here"):
        check_present(topology(NO_GPU | {"N_GPUS": "8"}))
