"""fastai's multi-label learner as its tutorial on Pascal VOC has it. Runs in an environment of its own, and imports
nothing of this repository: PYTHON fastai_peer.py FOLDER CPU_SECONDS SEED PX WEIGHTS

FOLDER has the JPEGs and photographs.json: {labels: [...], train: {file: [present labels]}, test: [file, ...]}. An
unknown label is an absent one here: fastai has no third state. Writes scores.npy, float32 (test images, labels), and
run.json: {epochs, cpu_s}.

fastai's defaults: vision_learner and its head, batches of 64, fine_tune with one frozen epoch and base rate 0.002,
aug_transforms; images come to twice the side and are augmented to it, as in the tutorial (460 and 224 px). Nothing is
validated on the way.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

TRIAL_BATCHES = 2
BATCH_SIZE = 64


def train_and_score(folder: Path, *, cpu_s: float, seed: int, px: int, weights: str) -> None:
    import numpy as np
    import torch
    from fastai.vision import all as fastai

    photographs = json.loads((folder / "photographs.json").read_text(encoding="utf-8"))
    labels_of = photographs["train"]

    def learner(files: list[str]) -> fastai.Learner:
        fastai.set_seed(seed)
        block = fastai.DataBlock(
            blocks=(fastai.ImageBlock, fastai.MultiCategoryBlock(vocab=photographs["labels"])),
            get_x=lambda name: folder / name,
            get_y=labels_of.get,
            splitter=lambda items: (list(range(len(items))), []),
            item_tfms=fastai.Resize(2 * px),
            batch_tfms=fastai.aug_transforms(size=px),
        )
        loaders = block.dataloaders(files, bs=BATCH_SIZE, num_workers=0, device=torch.device("cpu"))
        overlay = {"file": weights}
        return fastai.vision_learner(loaders, "tf_efficientnet_lite0", pretrained_cfg_overlay=overlay)

    def seconds(step, *args) -> float:
        began = time.process_time()
        step(*args)
        return time.process_time() - began

    few = learner(list(labels_of)[: TRIAL_BATCHES * BATCH_SIZE])
    times = len(labels_of) / (TRIAL_BATCHES * BATCH_SIZE)
    frozen_s = times * seconds(few.fit_one_cycle, 1)
    few.unfreeze()
    epochs = max(1, round((cpu_s - frozen_s) / (times * seconds(few.fit_one_cycle, 1))))

    learn = learner(list(labels_of))
    spent = seconds(learn.fine_tune, epochs)
    scores_NC, _ = learn.get_preds(dl=learn.dls.test_dl(photographs["test"]))
    np.save(folder / "scores.npy", scores_NC.numpy())
    (folder / "run.json").write_text(json.dumps({"epochs": epochs + 1, "cpu_s": spent}), encoding="utf-8")


if __name__ == "__main__":
    _, folder, cpu_s, seed, px, weights = sys.argv
    train_and_score(Path(folder), cpu_s=float(cpu_s), seed=int(seed), px=int(px), weights=weights)
