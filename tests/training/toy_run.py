"""Toy training runs as a program, so that tests can kill one or start it with torchrun.

    python -m tests.training.toy_run OUT '{"plain": {"epochs": 2}, "sam": {"sam": {...}, "model": {"norm": "none"}}}'

Each run leaves OUT/NAME/{history.json,last.safetensors,best.safetensors}.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tasks.nn.losses import LOSSES
from tasks.training.distributed import is_main_process
from tasks.training.loop import Surroundings, TrainingData, TrainingResult, train
from tests.training import toy


def run(folder: Path, changes: dict[str, Any]) -> tuple[TrainingResult, dict[str, Tensor]]:
    """One run with checkpoints in folder/checkpoints. Returns its result and the weights of its last step.

    changes: fields of `toy.settings`, of which `loss` is a name; and model, loss_options, num_images, step_delay_s,
    semi (name -> options), workers (processes of each loader).
    """
    changes = dict(changes)
    model = toy.tagger(**changes.pop("model", {}))
    loss = LOSSES[changes.pop("loss", "bce")](3, **changes.pop("loss_options", {}))
    epochs = changes.get("epochs", 3)
    semi = [toy.method(name, epochs=epochs, **options) for name, options in changes.pop("semi", {}).items()]
    workers = changes.pop("workers", 0)
    delay_s = changes.pop("step_delay_s", 0.0)
    model.register_forward_pre_hook(lambda *_: time.sleep(delay_s))
    data = TrainingData(
        toy.image_set(changes.pop("num_images", 13)),
        toy.image_set(9, seed=3),
        unlabelled=toy.image_set(11, known=0.1, seed=7) if semi else None,
    )
    result = train(
        model,
        loss,
        data,
        toy.settings(**changes),
        seed=5,
        surroundings=Surroundings(folder / "checkpoints", num_workers=workers),
        semi=semi[0] if semi else None,
    )
    return result, {k: v.detach().clone() for k, v in model.state_dict().items()}


def main(out: Path, runs: dict[str, dict]) -> None:
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.INFO)
    for name, changes in runs.items():
        result, last = run(out / name, changes)
        if is_main_process():
            (out / name / "history.json").write_text(json.dumps(result.history))
            save_file(last, out / name / "last.safetensors")
            save_file(result.state, out / name / "best.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
