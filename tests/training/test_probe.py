"""The head that starts learned, held against scikit-learn on the same frozen features."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from tasks.core.errors import ParamsError
from tasks.nn.backbone import build_backbone
from tasks.nn.heads import HEADS
from tasks.nn.losses import LOSSES
from tasks.nn.model import Tagger
from tasks.training import probe
from tasks.training.inference import infer
from tasks.training.loop import Surroundings, TrainingData, train
from tasks.training.validation import mean_average_precision
from tests.training import toy

PX = 24


@pytest.fixture(scope="module")
def images():
    """90 images whose labels follow from their colours, a third of them unknown."""
    return toy.image_set(90, side=PX, known=0.67)


def tagger(head: str = "linear", loss: str = "bce", **options) -> tuple[Tagger, torch.nn.Module]:
    torch.manual_seed(0)
    backbone = build_backbone("test_resnet", weights=None, options={}, image_px=(PX, PX))
    criterion = LOSSES[loss](3, **options)
    model = Tagger(
        backbone, HEADS[head](backbone.num_features, 3), labels=list("abc"), logit_scale=criterion.logit_scale
    )
    return model, criterion


def scored(model, images):
    return infer(model, images, batch_size=64, device=torch.device("cpu"), with_embeddings=True)


def of_sklearn(features_ND, images, prior: float) -> np.ndarray:
    """Scores of one logistic regression a label, on the images where it is known."""
    z_ND = StandardScaler().fit_transform(features_ND.astype(np.float64))
    scores_NC = np.zeros(images.targets_NC.shape)
    for c, known_N in enumerate(images.known_NC.T):
        fitted = LogisticRegression(C=prior, max_iter=2000, tol=1e-8)
        fitted.fit(z_ND[known_N], images.targets_NC[known_N, c])
        scores_NC[:, c] = fitted.predict_proba(z_ND)[:, 1]
    return scores_NC


@pytest.mark.parametrize("variance", [0.3, 10.0])
def test_a_probe_scores_as_the_logistic_regression_of_scikit_learn_on_the_same_frozen_features(
    images, variance, tmp_path, monkeypatch
):
    monkeypatch.setattr(probe, "LOGIT_VARIANCES", (variance,))
    model, loss = tagger()
    features_ND = scored(model, images).embeddings_ND
    probe.fit_head(model, loss, images, tmp_path, seed=0)
    ours_NC = scored(model, images).scores_NC
    theirs_NC = of_sklearn(features_ND, images, prior=variance / features_ND.shape[1])
    np.testing.assert_allclose(ours_NC, theirs_NC, atol=2e-3)
    ours, theirs = (mean_average_precision(s, images.targets_NC, images.known_NC) for s in (ours_NC, theirs_NC))
    assert ours == pytest.approx(theirs, abs=0.002)


def test_what_is_unknown_changes_nothing(images, tmp_path):
    other = np.where(images.known_NC, images.targets_NC, 1).astype(np.uint8)
    heads = []
    for i, labels in enumerate((images, replace(images, targets_NC=other))):
        model, loss = tagger()
        probe.fit_head(model, loss, labels, tmp_path / str(i), seed=0)
        heads.append(model.head.classifier.weight)
    assert torch.equal(*heads)


def test_a_label_that_is_known_nowhere_or_never_absent_stays_finite(images, tmp_path):
    known_NC, targets_NC = images.known_NC.copy(), images.targets_NC.copy()
    known_NC[:, 0] = False
    targets_NC[:, 1] = known_NC[:, 1]
    model, loss = tagger()
    probe.fit_head(model, loss, replace(images, targets_NC=targets_NC, known_NC=known_NC), tmp_path, seed=0)
    scores_NC = scored(model, images).scores_NC
    assert (scores_NC[:, 0] == 0.5).all()
    assert ((scores_NC[:, 1] > 0.9) & (scores_NC[:, 1] < 0.9999999)).all()


def test_cross_validation_takes_the_stronger_prior_where_the_labels_are_noise(images, tmp_path, caplog):
    caplog.set_level("INFO")
    noise_NC = np.random.default_rng(0).integers(0, 2, images.targets_NC.shape).astype(np.uint8)
    for i, labels in enumerate((images, replace(images, targets_NC=noise_NC))):
        model, loss = tagger()
        probe.fit_head(model, loss, labels, tmp_path / str(i), seed=0)
    learned, noise = (float(m.split("prior variance of a logit ")[1].split(",")[0]) for m in caplog.messages)
    assert noise == probe.LOGIT_VARIANCES[0] < learned


@pytest.mark.parametrize("loss", ["aam", "am_binary"])
def test_an_angular_head_is_fitted_under_its_own_loss(images, loss, tmp_path):
    model, criterion = tagger("angular_linear", loss)
    before = scored(model, images).scores_NC
    probe.fit_head(model, criterion, images, tmp_path, seed=0)
    after = scored(model, images).scores_NC
    before, after = (mean_average_precision(s, images.targets_NC, images.known_NC) for s in (before, after))
    assert after > before + 0.1
    torch.testing.assert_close(model.head.classifier.weight.norm(dim=1), torch.ones(3))


def test_a_fit_is_repeated_to_the_bit_and_taken_from_its_file_on_resuming(images, tmp_path, monkeypatch):
    heads = []
    for folder in ("a", "b", "a"):
        model, loss = tagger()
        probe.fit_head(model, loss, images, tmp_path / folder, seed=0)
        heads.append(model.head.classifier.weight)
        if folder == "b":
            monkeypatch.setattr(probe, "infer", None)  # what would be called for a second fit
    assert torch.equal(heads[0], heads[1])
    assert torch.equal(heads[0], heads[2])


def test_other_labels_are_not_given_the_fit_of_these(images, tmp_path):
    heads = []
    for labels in (images, replace(images, targets_NC=1 - images.targets_NC)):
        model, loss = tagger()
        probe.fit_head(model, loss, labels, tmp_path, seed=0)
        heads.append(model.head.classifier.weight)
    assert not torch.equal(*heads)


def test_a_head_that_is_no_classifier_on_pooled_features_is_refused(images, tmp_path):
    model, loss = tagger("otx_nonlinear", "aam")
    with pytest.raises(ParamsError, match=r"finetune\.probe: only heads linear and angular_linear"):
        probe.fit_head(model, loss, images, tmp_path, seed=0)


def test_a_factor_of_zero_trains_the_head_alone(images, tmp_path):
    model, loss = tagger()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    settings = toy.settings(epochs=1, backbone_lr_factor=0.0, weight_decay=0.1, optimizer={"name": "adamw"})
    train(model, loss, TrainingData(images), settings, seed=0, surroundings=Surroundings(tmp_path))
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"head.classifier.weight", "head.classifier.bias"}
