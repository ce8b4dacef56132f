"""timm models as feature extractors: families, weights, normalisation, sizes, and what a user gets wrong.

Axes: B images, F channels, H W pixels or positions of the map.
"""

from __future__ import annotations

import json

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from tasks.core.errors import ModelError
from tasks.nn.backbone import build_backbone, freeze_batchnorm, token_grid

SMALL = "test_resnet"  # timm's own tiny models, for tests
SMALL_VIT = "test_vit"


def backbone(name=SMALL, weights=None, image_px=(64, 96), **options):
    return build_backbone(name, weights=weights, options=options, image_px=image_px)


@pytest.mark.parametrize(
    ("name", "num_features", "map_size"),
    [
        ("resnet50", 2048, (2, 3)),
        ("mobilenetv2_100", 1280, (2, 3)),
        ("mobilenetv3_large_100", 960, (2, 3)),
        ("efficientnet_b0", 1280, (2, 3)),
        ("tf_efficientnetv2_s", 1280, (2, 3)),
        ("tf_efficientnetv2_l", 1280, (2, 3)),
        ("tresnet_l", 2432, (2, 3)),
        ("tresnet_v2_l", 2048, (2, 3)),
        ("convnext_atto", 320, (2, 3)),
        ("vit_tiny_patch16_224", 192, (4, 6)),
        ("deit_tiny_distilled_patch16_224", 192, (4, 6)),
        ("swin_tiny_patch4_window7_224", 768, (2, 3)),
        ("vgg11", 512, (2, 3)),
    ],
)
def test_every_family_gives_a_feature_map(name, num_features, map_size):
    with torch.device("meta"):  # shapes only: TResNet-L and EfficientNetV2-L take seconds otherwise
        shape = tuple(
            build_backbone(name, weights=None, options={}, image_px=(64, 96))(torch.empty(2, 3, 64, 96)).shape
        )
    assert shape == (2, num_features, *map_size)


@pytest.mark.parametrize(
    "name",
    [SMALL, SMALL_VIT, "mobilenetv3_small_050", "test_efficientnet", "test_convnext", "swin_tiny_patch4_window7_224"],
)
def test_no_parameter_is_left_without_a_gradient(name):
    net = backbone(name)
    features_BFHW = net(torch.randn(2, 3, 64, 96))
    assert features_BFHW.shape[1] == net.num_features
    features_BFHW.sum().backward()
    assert not [n for n, p in net.named_parameters() if p.grad is None]


def test_tokens_return_to_where_their_patch_was():
    net = backbone(SMALL_VIT)
    features_BFHW = net.eval()(torch.randn(1, 3, 64, 96))
    tokens_BTF = net.net.forward_features(torch.zeros(1, 3, 64, 96))
    assert features_BFHW.shape == (1, 64, 4, 6)
    assert tokens_BTF.shape[1] == 24 + net.net.num_prefix_tokens
    images = torch.randn(1, 3, 64, 96)
    position = net.net.forward_features(images)[0, net.net.num_prefix_tokens + 6 * 2 + 5]
    torch.testing.assert_close(net(images)[0, :, 2, 5], position)


@pytest.mark.parametrize(
    ("num_tokens", "size", "grid"),
    [(49, (224, 224), (7, 7)), (24, (64, 96), (4, 6)), (24, (96, 64), (6, 4)), (12, (32, 96), (2, 6))],
)
def test_the_token_grid_has_the_aspect_ratio_of_the_image(num_tokens, size, grid):
    assert token_grid(num_tokens, *size) == grid


# ---------------------------------------------------------------- weights and normalisation


def save_weights(path, name=SMALL, **options):
    net = timm.create_model(name, **options)
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, path)
    return net


@pytest.mark.parametrize("num_classes", [0, 5, 1000])
def test_a_file_is_loaded_whole_whatever_its_classifier(tmp_path, num_classes):
    theirs = save_weights(tmp_path / "w.safetensors", num_classes=num_classes).eval()
    ours = backbone(weights=str(tmp_path / "w.safetensors")).eval()
    images = torch.randn(1, 3, 64, 96)
    torch.testing.assert_close(ours(images), theirs.forward_features(images))


def test_position_embeddings_follow_another_image_size(tmp_path):
    save_weights(tmp_path / "w.safetensors", SMALL_VIT)
    net = backbone(SMALL_VIT, weights=str(tmp_path / "w.safetensors"), image_px=(64, 96))
    assert net(torch.randn(1, 3, 64, 96)).shape[2:] == (4, 6)


def test_real_imagenet_weights_recognise_nothing_less_than_timm_does(real_data):
    path = real_data / "weights" / "mobilenetv2_100.imagenet.safetensors"
    half = {"mean": [0.5] * 3, "std": [0.5] * 3}
    ours = backbone("mobilenetv2_100", str(path), (224, 224), pad_type="same", **half).eval()
    theirs = timm.create_model("mobilenetv2_100", pad_type="same")
    theirs.load_state_dict(load_file(path))
    images = torch.randn(1, 3, 224, 224)
    torch.testing.assert_close(ours(images), theirs.eval().forward_features(images))
    assert (ours.mean, ours.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_normalisation_is_that_of_the_weights(tmp_path):
    # the architecture's own; the file's; the option's
    assert backbone("resnet10t").mean == pytest.approx((0.485, 0.456, 0.406))
    assert backbone(SMALL).std == (0.5, 0.5, 0.5)
    path = tmp_path / "w.safetensors"
    save_weights(path)
    path.with_suffix(".json").write_text(json.dumps({"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]}))
    assert backbone(weights=str(path)).mean == (0.1, 0.2, 0.3)
    assert backbone(weights=str(path), mean=[0.0, 0.0, 0.0]).mean == (0.0, 0.0, 0.0)
    assert backbone(weights=str(path), mean=[0.0, 0.0, 0.0]).std == (1.0, 1.0, 1.0)


def test_normalisation_is_found_in_the_configuration_the_hub_gives(tmp_path):
    save_weights(tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": {"mean": [0.4] * 3, "std": [0.6] * 3}}))
    net = backbone(weights=str(tmp_path / "model.safetensors"))
    assert (net.mean[0], net.std[0]) == (0.4, 0.6)


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """A stand-in for the hub: a local cache that holds one tag, and no network."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("tasks.nn.backbone._hub_has_address", lambda: False)
    repository = tmp_path / "models--timm--test_resnet.r160_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc").mkdir(parents=True)
    save_weights(repository / "snapshots" / "abc" / "model.safetensors", num_classes=1000)
    return repository


@pytest.mark.parametrize("weights", ["timm", "r160_in1k", "test_resnet.r160_in1k"])
def test_a_timm_tag_is_taken_from_the_local_cache(hub_cache, weights):
    theirs = load_file(hub_cache / "snapshots" / "abc" / "model.safetensors")
    torch.testing.assert_close(backbone(weights=weights).net.conv1[0].weight.data, theirs["conv1.0.weight"])


def test_a_tag_in_the_name_is_the_default_tag(hub_cache):
    assert backbone("test_resnet.r160_in1k", "timm").name == "test_resnet"


def test_offline_with_a_tag_is_one_line_that_says_what_to_put_where(hub_cache):
    with pytest.raises(ModelError) as caught:
        backbone("tf_efficientnetv2_s", "in21k")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("model.backbone.weights: tf_efficientnetv2_s.in21k is not in the local cache")
    assert "Fetch model.safetensors of timm/tf_efficientnetv2_s.in21k" in message
    assert "set weights: to its path, or set weights: null" in message


# ---------------------------------------------------------------- frozen batch norm


def test_frozen_batch_norm_survives_train_and_learns_nothing():
    net = backbone()
    freeze_batchnorm(net)
    net.train()
    before = {k: v.clone() for k, v in net.state_dict().items() if "running" in k}
    net(torch.randn(4, 3, 64, 96)).sum().backward()
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in before.items())
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms
    assert all(not m.training and m.weight.grad is None for m in norms)
    assert net.net.training


def test_batch_norm_that_is_not_frozen_learns():
    net = backbone().train()
    before = net.net.bn1.running_mean.clone() if hasattr(net.net, "bn1") else None
    net(torch.randn(4, 3, 64, 96))
    assert before is not None
    assert not torch.equal(before, net.net.bn1.running_mean)


def test_asking_for_the_feature_size_changes_nothing():
    net = backbone().train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    assert net.feature_size((64, 96)) == (net.num_features, 2, 3)
    assert net.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


# ---------------------------------------------------------------- what a user gets wrong


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "mobilenetv2_10"}, "timm has no 'mobilenetv2_10'. Did you mean .*'mobilenetv2_100'"),
        ({"weights": "r160"}, "test_resnet has no tag 'r160'. Did you mean 'r160_in1k'?"),
        ({"weights": "missing.safetensors"}, "missing.safetensors: no such file"),
        ({"weights": "model.pth"}, "model.pth: only .safetensors files are read, nothing is unpickled"),
        ({"padtype": "same"}, "timm's test_resnet refuses them .*'padtype'"),
        ({"name": "vit_tiny_patch16_224", "img_size": 224}, "vit_tiny_patch16_224: cannot take images of 64x96 px"),
    ],
)
def test_a_mistake_is_one_line(arguments, message):
    with pytest.raises(ModelError, match=message) as caught:
        backbone(**arguments)
    assert "\n" not in str(caught.value)


def test_weights_of_another_shape_name_the_file_and_the_first_tensor(tmp_path):
    save_weights(tmp_path / "w.safetensors", "test_efficientnet")
    with pytest.raises(ModelError, match=r"w\.safetensors: these weights do not fit timm's test_resnet: ") as caught:
        backbone(weights=str(tmp_path / "w.safetensors"))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_file_that_is_not_safetensors_is_refused(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"not at all")
    with pytest.raises(ModelError, match=r"w\.safetensors: not a readable safetensors file"):
        backbone(weights=str(tmp_path / "w.safetensors"))
