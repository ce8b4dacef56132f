"""One run on the cleaned labels, with the settings of `finetune`: what the stage does once and `ablate` many times.

Axes: N train images, C labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks.core.states import States
from tasks.nn.model import Tagger
from tasks.sampling.few_labels import keep_few_labels
from tasks.sampling.replication import epoch_replicas
from tasks.training.fitting import Network, build_model, build_semi, fit
from tasks.training.loop import OnMetrics, TrainingData, TrainingResult
from tasks.training.semi.stream import unlabelled_images
from tasks.training.settings import FinetuneSettings


@dataclass(frozen=True)
class FinetuneData:
    """Labels of the partitions that take part.

    train: the images to learn from.  validation: those that choose the epoch.
    pool: images without annotations, with what verdicts say of them; only a method of `semi` asks for them.
    replication_N: r(I) of each train image, float64 (N,); None: every image once an epoch.
    """

    train: States
    validation: States
    pool: States | None = None
    replication_N: np.ndarray | None = None


@dataclass(frozen=True)
class Finetuned:
    """model: with the weights of its best epoch.  num_labelled: train images with a known label.

    num_learned: those of them that kept their labels.  num_drawn: images that the method of `semi` drew from.
    """

    model: Tagger
    result: TrainingResult
    num_labelled: int
    num_learned: int
    num_drawn: int


def finetune_once(
    network: Network,
    settings: FinetuneSettings,
    data: FinetuneData,
    name: str,
    *,
    start: Path | None,
    on_metrics: OnMetrics | None = None,
) -> Finetuned:
    """Train on the known labels of `data.train`; the checkpoints, kept under `name`, stay.

    start: a model folder, see `build_model`.
    """
    train = keep_few_labels(data.train, per_class=settings.labelled_per_class, seed=network.seed)
    learned, measured = train.has_known_labels(), data.validation.has_known_labels()
    replicas = None
    if data.replication_N is not None:
        replication_N = data.replication_N[learned]
        replicas = lambda epoch: epoch_replicas(replication_N, seed=network.seed, epoch=epoch)  # noqa: E731

    model, loss = build_model(network, settings.loss, where="params.yaml: finetune.loss", states=train, start=start)
    semi = build_semi(settings.semi, model, epochs=settings.epochs)
    drawn = None if semi is None else network.images(unlabelled_images(semi.draws_from, train, data.pool))
    images = TrainingData(
        network.images(train, learned),
        network.images(data.validation, measured) if len(measured) else None,
        unlabelled=drawn,
        replicas=replicas,
    )
    result = fit(network, settings, name, model, loss, images, probe=settings.probe, semi=semi, on_metrics=on_metrics)
    return Finetuned(
        model, result, len(data.train.has_known_labels()), len(learned), 0 if drawn is None else len(drawn)
    )
