"""What changes only the machine, never a result: every TAGWRIGHT_ variable, read here and nowhere else.

TAGWRIGHT_WORKERS     processes for decoding and hashing; 0 or unset: every core
TAGWRIGHT_DEVICE      cpu | cuda | cuda:1 | mps; unset: the best there is
TAGWRIGHT_PROCESSES   processes of one training on this machine, one a GPU; unset: 1
                      (of several machines: torchrun's PET_NNODES, PET_NODE_RANK, PET_MASTER_ADDR, PET_MASTER_PORT)
TAGWRIGHT_CACHE       folder of what is known of image files, of params.yaml and of past runs; unset: .cache
TAGWRIGHT_API_KEY     key that clients of `serve` must send; unset: none
TAGWRIGHT_LOG         level of the log; unset: INFO
TAGWRIGHT_WEBHOOK     address that is told of a failed run, a refused result and a waiting review; unset: nobody is
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote


def num_workers() -> int:
    """Processes for decoding and hashing."""
    return int(os.environ.get("TAGWRIGHT_WORKERS", "0")) or len(os.sched_getaffinity(0))


def loader_workers(*, accelerated: bool = False) -> int:
    """Loader processes: none on a small machine, where a second process costs more than it decodes.

    accelerated: the network runs elsewhere, which would wait while this process decodes: one at least.
    """
    return min(8, num_workers() // 2) if num_workers() >= 4 else int(accelerated)


def device_name() -> str:
    """The device that was asked for, '' when none was."""
    return os.environ.get("TAGWRIGHT_DEVICE", "")


def num_processes() -> int:
    """Processes that a training is spread over; 1 in a process that torchrun started."""
    return 1 if "RANK" in os.environ else int(os.environ.get("TAGWRIGHT_PROCESSES", "1"))


def num_machines() -> int:
    """Machines that a training is spread over, in torchrun's own variable; 1 in a process that torchrun started."""
    return 1 if "RANK" in os.environ else int(os.environ.get("PET_NNODES", "1"))


def image_cache(source: str) -> Path:
    """What is known of the image files of a source; speed only, outside the graph."""
    return Path(os.environ.get("TAGWRIGHT_CACHE", ".cache")) / "images" / f"{quote(source, safe='')}.parquet"


def scratch_folder() -> Path:
    """Where arrays lie that are too large for the memory; outside the graph."""
    return Path(os.environ.get("TAGWRIGHT_CACHE", ".cache")) / "scratch"


def checked_params() -> Path:
    """Which params.yaml was found valid with which code; speed only, outside the graph."""
    return Path(os.environ.get("TAGWRIGHT_CACHE", ".cache")) / "checked_params"


def training_speeds() -> Path:
    """How fast the last trainings were; for estimates only, outside the graph."""
    return Path(os.environ.get("TAGWRIGHT_CACHE", ".cache")) / "training_speeds.json"


def api_key() -> str:
    """Key that clients of the service must send, '' for none."""
    return os.environ.get("TAGWRIGHT_API_KEY", "")


def log_level() -> str:
    """Level of the log."""
    return os.environ.get("TAGWRIGHT_LOG", "INFO")


def webhook() -> str:
    """Address that is told what nobody watches, '' for none; a secret."""
    return os.environ.get("TAGWRIGHT_WEBHOOK", "")
