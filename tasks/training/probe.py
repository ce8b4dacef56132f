"""A head that starts learned: its classifier is fitted on the features of the frozen backbone before the first epoch.

    minimise over W, b    sum of the loss over known entries + |W|^2 / (2 prior) + |b|^2 / (2 BIAS_VARIANCE)

with logits W z + b. z are the pooled features of the images as they are, not augmented, each scaled to mean 0 and
variance 1; the loss is that of the run. One prior for all labels is chosen by cross-validation. With BCE that is ridge
logistic regression, scikit-learn's LogisticRegression(C=prior) but for the weak prior on b, which keeps a label without
a known absence or presence finite. The cosines of an angular head are bounded, so there the scale of the loss takes the
place of the prior: W alone, on the features as they are, nothing to choose.

Axes: N images, D features, C labels.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tasks.core.errors import ParamsError
from tasks.nn.heads.base import Head, cosines
from tasks.nn.heads.linear import AngularLinear, Linear
from tasks.nn.losses.base import MultiLabelLoss
from tasks.nn.model import Tagger
from tasks.training import checkpoint, seeds
from tasks.training.data import ImageSet
from tasks.training.distributed import default_device, is_main_process
from tasks.training.inference import infer

logger = logging.getLogger(__name__)

FILE = "probe.safetensors"
LARGEST_SET = 20_000
"""Images that are looked at; of more, so many drawn from the seed."""
NUM_FOLDS = 3
LOGIT_VARIANCES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""What is tried: the prior variance of a logit, D times that of a weight."""
BIAS_VARIANCE = 100.0
MAX_ITERATIONS = 200


def check_head(kind: type[Head]) -> None:
    """Raise ParamsError unless heads of this kind are a classifier on pooled features."""
    if not issubclass(kind, (Linear, AngularLinear)):
        raise ParamsError(
            "params.yaml: finetune.probe: only heads linear and angular_linear are fitted on pooled features. "
            "Set model.head.name to one of them, or finetune.probe to false."
        )


def fit_head(
    model: Tagger, loss: MultiLabelLoss, images: ImageSet, folder: Path, *, seed: int, num_workers: int = 0
) -> None:
    """Put the fitted classifier into `model.head`; a function of the seed, the weights, the images and the loss.

    folder: of the run's checkpoints. The fit is kept there, so that a resumed run starts from the same bytes on
    another number of threads too.
    Raises ParamsError for a head that is no classifier on pooled features.
    """
    head = model.head
    check_head(type(head))
    options = sorted((name, value) for name, value in vars(loss).items() if not name.startswith("_"))
    fingerprint = checkpoint.fingerprint(
        type(loss), options, *loss.buffers(), seed, *images.facts(), *model.state_dict().values()
    )
    saved = checkpoint.read(folder / FILE)
    if saved is not None and saved.state["fingerprint"] == fingerprint:
        head.classifier.load_state_dict(saved.part("classifier"))
        return
    drawn_N = torch.randperm(len(images), generator=seeds.generator(seed, seeds.PROBE))[:LARGEST_SET].sort().values
    images, device = images.take(drawn_N.numpy()), default_device()
    # A copy in the layout that is twice as fast on a CPU; the model itself stays as a resumed run finds it.
    frozen = copy.deepcopy(model).to(device, memory_format=torch.channels_last)
    features_ND = infer(
        frozen, images, batch_size=128, device=device, with_embeddings=True, num_workers=num_workers
    ).embeddings_ND
    fit = _fit_cosines if head.angular else _fit_logits
    fitted = fit(
        torch.from_numpy(features_ND).double(),
        torch.from_numpy(images.targets_NC),
        torch.from_numpy(images.known_NC),
        copy.deepcopy(loss).cpu(),  # some losses remember what they have seen
        seed=seed,
    )
    head.classifier.load_state_dict(fitted)
    if is_main_process():
        checkpoint.write(folder / FILE, {"classifier": head.classifier.state_dict()}, {"fingerprint": fingerprint})


def _fit_logits(
    features_ND: Tensor, targets_NC: Tensor, known_NC: Tensor, loss: MultiLabelLoss, *, seed: int
) -> dict[str, Tensor]:
    """weight (C, D) and bias (C,) for features as they are."""
    centre_D = features_ND.mean(0)
    spread_D = features_ND.std(0, correction=0)
    spread_D[spread_D == 0] = 1.0
    z_ND = (features_ND - centre_D) / spread_D
    num_images, num_features = z_ND.shape
    fold_N = torch.randperm(num_images, generator=seeds.generator(seed, seeds.PROBE, 1)) % min(NUM_FOLDS, num_images)
    held_out = np.zeros(len(LOGIT_VARIANCES))
    for fold in range(NUM_FOLDS if num_images > NUM_FOLDS else 0):
        inside, outside = fold_N != fold, fold_N == fold
        fitted = None
        for i, variance in enumerate(LOGIT_VARIANCES):  # each starts from the one before it
            fitted = ridge(
                z_ND[inside], targets_NC[inside], known_NC[inside], loss, prior=variance / num_features, start=fitted
            )
            logits_MC = z_ND[outside] @ fitted[:, :-1].T + fitted[:, -1]
            held_out[i] += loss.sum_and_count(logits_MC, targets_NC[outside], known_NC[outside])[0].item()
    best = int(held_out.argmin())
    weight_CE = ridge(z_ND, targets_NC, known_NC, loss, prior=LOGIT_VARIANCES[best] / num_features)
    per_entry = held_out / max(int(known_NC.sum()), 1)
    logger.info(
        "probe: %d features of %d images; prior variance of a logit %g, held-out loss %.4f (%.4f at %g, %.4f at %g)",
        num_features, num_images, LOGIT_VARIANCES[best], per_entry[best],
        per_entry[0], LOGIT_VARIANCES[0], per_entry[-1], LOGIT_VARIANCES[-1],
    )  # fmt: skip
    weight_CD = weight_CE[:, :-1] / spread_D
    return {"weight": weight_CD, "bias": weight_CE[:, -1] - weight_CD @ centre_D}


def ridge(
    z_ND: Tensor,
    targets_NC: Tensor,
    known_NC: Tensor,
    loss: MultiLabelLoss,
    *,
    prior: float,
    start: Tensor | None = None,
) -> Tensor:
    """float64 (C, D + 1), the last column the bias: minimum of the module's objective, weight variance `prior` > 0."""
    num_labels = targets_NC.shape[1]
    weight_CE = torch.zeros(num_labels, z_ND.shape[1] + 1, dtype=torch.float64) if start is None else start.clone()

    def cost(weight_CE: Tensor) -> Tensor:
        logits_NC = z_ND @ weight_CE[:, :-1].T + weight_CE[:, -1]
        total, _ = loss.sum_and_count(logits_NC, targets_NC, known_NC)
        penalty = weight_CE[:, :-1].square().sum() / prior + weight_CE[:, -1].square().sum() / BIAS_VARIANCE
        return (total + penalty / 2) / len(z_ND)

    return _minimised(cost, weight_CE)


def _fit_cosines(
    features_ND: Tensor, targets_NC: Tensor, known_NC: Tensor, loss: MultiLabelLoss, *, seed: int
) -> dict[str, Tensor]:
    """weight (C, D) of unit rows, from the direction in which a label's images differ from the mean image."""
    unit_ND = nn.functional.normalize(features_ND, dim=1)
    present_NC = (targets_NC.double() * known_NC).double()
    mean_CD = (present_NC.T @ unit_ND) / present_NC.sum(0).clamp(min=1).unsqueeze(1)
    start_CD = mean_CD - unit_ND.mean(0)

    def cost(weight_CD: Tensor) -> Tensor:
        return loss.sum_and_count(cosines(unit_ND, weight_CD), targets_NC, known_NC)[0] / len(unit_ND)

    return {"weight": nn.functional.normalize(_minimised(cost, nn.functional.normalize(start_CD, dim=1)), dim=1)}


def _minimised(cost: Callable[[Tensor], Tensor], weight: Tensor) -> Tensor:
    """Where L-BFGS ends from `weight`."""
    weight = weight.requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight], max_iter=MAX_ITERATIONS, tolerance_grad=1e-6, tolerance_change=1e-10, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = cost(weight)
        value.backward()
        return value

    optimizer.step(closure)
    return weight.detach()
