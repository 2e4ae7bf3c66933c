"""The processes of one training or evaluation as ranks of one group."""

from __future__ import annotations

import logging
import os
from datetime import timedelta

import ignite.distributed as idist
import torch
import torch.distributed as dist

TORCHRUN = {"RANK", "LOCAL_RANK", "WORLD_SIZE"}  # what it tells its processes
# Longer than any rank is left waiting: for pictures, or for another's last scans.
PATIENCE = timedelta(minutes=30)


def join_ranks() -> int:
    """Joins the processes that torchrun started into one group, by NCCL on GPUs, else by gloo.

    Each takes the GPU of its local rank, which ``ignite.distributed.device`` then gives. Without
    torchrun there is nothing to join: the process is rank 0 of 1. Leave the group by
    ``ignite.distributed.finalize``.

    Returns:
        The rank of this process, 0 to the number of all minus 1.

    Raises:
        ValueError: a machine has fewer GPUs than processes, or the ranks cannot meet.
    """
    if os.environ.keys() >= TORCHRUN and not dist.is_initialized():
        _join(int(os.environ["LOCAL_RANK"]))
    return idist.get_rank()


def _join(local_rank: int) -> None:
    gpus = torch.cuda.device_count()
    if gpus and local_rank >= gpus:
        processes = os.environ.get("LOCAL_WORLD_SIZE", "more")
        raise ValueError(
            f"a machine must have a GPU for each of its processes, got {gpus} GPUs and {processes} "
            "processes; --nproc_per_node says how many are started"
        )
    # Ignite would take the ranks from Slurm, which started torchrun and not these processes.
    job = os.environ.pop("SLURM_JOB_ID", None)
    try:
        idist.initialize("nccl" if gpus else "gloo", timeout=PATIENCE)
    except dist.DistError as error:
        place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"the ranks must be able to meet at the free port {place}, got {reason}"
        ) from error
    finally:
        if job is not None:
            os.environ["SLURM_JOB_ID"] = job
    if idist.get_rank() > 0:
        logging.disable(logging.INFO)  # the first rank says the same
