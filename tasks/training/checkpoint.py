"""The state of a run on disk: one safetensors file, replaced in one move; nothing is ever unpickled.

    latest.safetensors         tensors, and in the file's metadata the rest as JSON (cursor, history, run id, ...)
    best-<step>.safetensors    raw and EMA weights of the best epoch so far; `latest` names the one that counts

No random state is stored: every stream is a function of the seed and the cursor (seeds.py).
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tasks.core.atomic_files import atomic_path
from tasks.core.seals import SEAL, seal, seal_of

logger = logging.getLogger(__name__)

LATEST = "latest.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """tensors: named tensors on the CPU.  state: what JSON can hold."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors called `<name>/...`, without that prefix."""
        prefix = f"{name}/"
        return {key.removeprefix(prefix): t for key, t in self.tensors.items() if key.startswith(prefix)}


def write(path: Path, parts: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
    """Write parts (name -> named tensors) and state to `path` atomically."""
    tensors = {
        # A copy of its own for each tensor: the format refuses shared and non-contiguous memory.
        f"{part}/{name}": tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for part, named in parts.items()
        for name, tensor in named.items()
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"state": json.dumps(state), "seal": SEAL})
        seal(temporary)


def read(path: Path) -> Checkpoint | None:
    """What `write` wrote; None, with a log line, when the file is missing or damaged."""
    if not path.exists():
        return None
    if (state := seal_of(path)) != "whole":
        logger.warning("%s is not as it was written (checksum %s) and is ignored", path, state)
        return None
    try:
        with safe_open(path, "pt") as file:
            state = json.loads(file.metadata()["state"])
            return Checkpoint({key: file.get_tensor(key) for key in file.keys()}, state)  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        logger.warning("%s is not a readable checkpoint (%s) and is ignored", path, error)
        return None


def read_latest(folder: Path, *, fingerprint: str) -> Checkpoint | None:
    """The latest checkpoint of the run with this fingerprint; None, with a log line, when it belongs to another run."""
    checkpoint = read(folder / LATEST)
    if checkpoint is None:
        return None
    if checkpoint.state["fingerprint"] != fingerprint:
        logger.warning(
            "%s was written under other params, data or initial weights and is ignored; training starts anew",
            folder / LATEST,
        )
        return None
    return checkpoint


def remove(folder: Path) -> None:
    """Delete the folder of a run whose result is safely written, with what a kill may have left half-written in it."""
    shutil.rmtree(folder, ignore_errors=True)


def remove_runs(folder: Path, prefix: str) -> None:
    """Delete the folders of all runs in `folder` whose names start with `prefix`."""
    for run in folder.glob(f"{prefix}*"):
        remove(run)


def fingerprint(*things: object) -> str:
    """Hash of what a run's result follows from: arrays and tensors by their bytes, other things by their repr."""
    digest = hashlib.sha256()
    for thing in things:
        if isinstance(thing, Tensor):
            thing = thing.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        digest.update(np.ascontiguousarray(thing).tobytes() if isinstance(thing, np.ndarray) else repr(thing).encode())
        digest.update(b"\0")
    return digest.hexdigest()


# ---------------------------------------------------------------- optimiser state by parameter name


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """`<parameter>/<slot>` -> tensor (momentum, moments, step counts) for groups made by `parameter_groups`."""
    return {
        f"{name}/{slot}": value
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
        for slot, value in optimizer.state.get(parameter, {}).items()
        if value is not None
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` took, on each parameter's device and in its memory layout."""
    parameters: dict[str, nn.Parameter] = {
        name: parameter
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
    }
    for key, value in tensors.items():
        name, _, slot = key.rpartition("/")
        parameter = parameters[name]
        if value.shape == parameter.shape:
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        optimizer.state[parameter][slot] = value
