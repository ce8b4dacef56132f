"""What every entry of HEADS must hold to; a new entry is tested here before anyone writes a test for it.

Axes: B images, C labels, F channels, H W positions.
"""

from __future__ import annotations

import inspect
import io
import warnings

import numpy as np
import onnxruntime
import pytest
import torch

from tasks.nn.cooccurrence import Cooccurrence
from tasks.nn.heads import HEADS

EVERY = pytest.mark.parametrize("name", sorted(HEADS))
ANGULAR = pytest.mark.parametrize(
    "name", sorted(n for n, h in HEADS.items() if h.angular or "angular" in inspect.signature(h).parameters)
)
NUM_FEATURES = 16
SMALL = {"decoder_dim": 16, "ffn_dim": 32, "num_heads": 2, "hidden_dim": 24}


def cooccurrence(num_labels: int) -> Cooccurrence:
    targets_NC = np.random.default_rng(0).random((200, num_labels)) < 0.4
    return Cooccurrence.count(targets_NC, np.ones_like(targets_NC))


def build(name: str, num_labels: int = 7, **options):
    torch.manual_seed(0)
    parameters = inspect.signature(HEADS[name]).parameters
    context = {"cooccurrence": cooccurrence(num_labels), "label_names": [f"label {j}" for j in range(num_labels)]}
    context = {k: v for k, v in context.items() if k in parameters}
    small = {k: v for k, v in SMALL.items() if k in parameters}
    return HEADS[name](NUM_FEATURES, num_labels, **context, **{**small, **options})


def features(b: int = 3, h: int = 4, w: int = 5) -> torch.Tensor:
    return torch.randn(b, NUM_FEATURES, h, w, generator=torch.Generator().manual_seed(1))


@EVERY
def test_options_are_keyword_only_and_have_defaults(name):
    parameters = list(inspect.signature(HEADS[name]).parameters.values())
    assert [p.name for p in parameters[:2]] == ["num_features", "num_labels"]
    assert all(p.default is not p.empty for p in parameters[2:])


@EVERY
@pytest.mark.parametrize("num_labels", [1, 7, 130])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 4, 7)])
def test_one_logit_a_label_for_any_map_any_batch_and_any_vocabulary(name, num_labels, shape):
    head = build(name, num_labels)
    for mode in (True, False):
        logits_BC = head.train(mode)(features(*shape))
        assert logits_BC.shape == (shape[0], num_labels)
        assert logits_BC.isfinite().all()


@EVERY
def test_the_gradient_reaches_every_parameter_and_the_features(name):
    without_dropout = {"dropout": 0.0} if "dropout" in inspect.signature(HEADS[name]).parameters else {}
    head, features_BFHW = build(name, **without_dropout), features().requires_grad_()
    (head(features_BFHW) * torch.randn(3, 7, generator=torch.Generator().manual_seed(2))).sum().backward()
    assert features_BFHW.grad.abs().sum() > 0
    without_gradient = [n for n, p in head.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without_gradient


@EVERY
def test_an_image_is_scored_alike_alone_and_in_a_batch(name):
    head = build(name).eval()
    torch.testing.assert_close(head(features())[:1], head(features()[:1]), rtol=1e-5, atol=1e-6)


@ANGULAR
def test_angular_heads_give_cosines_in_single_precision(name):
    head = build(name, **({} if HEADS[name].angular else {"angular": True})).eval()
    assert head.angular
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cosines_BC = head(features() * 100)
    assert cosines_BC.dtype == torch.float32
    assert cosines_BC.abs().max() <= 1


@EVERY
def test_it_survives_half_precision(name):
    head = build(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = head(features()).float().sum()
    loss.backward()
    assert loss.isfinite()


@EVERY
@pytest.mark.parametrize("angular", [False, True])
def test_it_exports_to_onnx_and_agrees_for_another_batch_size(name, angular):
    if angular and "angular" not in inspect.signature(HEADS[name]).parameters:
        pytest.skip(f"{name} has one form only")
    head = build(
        name, **({"angular": angular} if "angular" in inspect.signature(HEADS[name]).parameters else {})
    ).eval()
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The tracing exporter: it is quick, and control flow that depends on values would show as a wrong constant.
        torch.onnx.export(
            head, (features(2),), file, input_names=["x"], dynamic_axes={"x": {0: "b"}}, opset_version=18, dynamo=False
        )
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    ours = head(features(3)).detach().numpy()
    np.testing.assert_allclose(session.run(None, {"x": features(3).numpy()})[0], ours, atol=1e-4)


@EVERY
def test_the_same_seed_builds_the_same_head(name):
    for (key, a), b in zip(build(name).state_dict().items(), build(name).state_dict().values(), strict=True):
        assert torch.equal(a, b), key
