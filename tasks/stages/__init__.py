"""The stages of dvc.yaml, one module each: take from the workspace, call the domain, put back, book the ledger.

To add one: `tasks/stages/NAME.py` with `run(params)`, or `run(params, item)` for a stage with `foreach`; a `NAME:`
block in dvc.yaml, and a section of that name in params.yaml where it has settings. Its module may say

    TRAINS = True       several processes may share it (TAGWRIGHT_PROCESSES), of several machines too (PET_NNODES)
    RECORDED = False    it leaves no run in MLflow
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from types import ModuleType

from tasks.core import checked
from tasks.core.edits import refuse_edited
from tasks.core.environment import num_machines, num_processes
from tasks.core.errors import ParamsError, did_you_mean
from tasks.core.socket_folder import name_socket_folder
from tasks.params import Params, load_params


def run_stage(stage: str) -> int:
    """Run `STAGE` or `STAGE@ITEM`, recorded in MLflow where that is installed; returns the exit status."""
    name, _, item = stage.partition("@")
    params, module = load_params(), importlib.import_module(f"tasks.stages.{name}")
    arguments = stage_arguments(name, item, module, params)
    if not checked.is_valid():  # the first stage after an edit, which is `code` where DVC runs them
        from tasks.commands.check import check_params

        check_params()
    if getattr(module, "TRAINS", False) and num_processes() * num_machines() > 1:
        sys.stdout.flush()
        # In place of this process, so that what stops it stops them.
        os.execv(sys.executable, [sys.executable, *torchrun(num_processes(), num_machines()), "tasks", stage])
    name_socket_folder()
    if not getattr(module, "RECORDED", True):
        module.run(*arguments)
        return 0
    from tasks import tracking

    section = params.sources[item] if item else getattr(params, name, None)
    with tracking.stage_run(stage, section.model_dump(mode="json") if section else {}):
        module.run(*arguments)
        refuse_edited(name, item, params.model_dump(mode="json"), load_params().model_dump(mode="json"))
    return 0


def stage_arguments(name: str, item: str, module: ModuleType, params: Params) -> tuple:
    """What `run` takes. Raises ParamsError when the item is missing, unknown or one too many."""
    takes_item = len(inspect.signature(module.run).parameters) == 2
    if takes_item and item not in params.sources:
        problem = f"'{item}' is not under `sources:`" if item else "it needs a source"
        raise ParamsError(f"{name}: {problem}. {did_you_mean(item, params.sources)} Write {name}@SOURCE.")
    if item and not takes_item:
        raise ParamsError(f"{name}: this stage takes no '@{item}'. Write `python -m tasks {name}`.")
    return (params, item) if takes_item else (params,)


def torchrun(processes: int, machines: int) -> list[str]:
    """Arguments of Python that start a module in that many processes of this machine, one a GPU.

    machines: which of them this is, and where the first one is, torchrun reads from PET_NODE_RANK, PET_MASTER_ADDR and
    PET_MASTER_PORT itself.
    """
    where = "--standalone" if machines == 1 else f"--nnodes={machines}"
    return ["-m", "tasks.training.launcher", where, f"--nproc-per-node={processes}", "-m"]
