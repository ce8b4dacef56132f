"""A torchvision detector's boxes become a file that `kind: predictions` reads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import get_model

from tasks.commands.detect import detect, image_scores
from tasks.core.errors import ModelError, SourceError
from tasks.images.decode import open_rgb
from tasks.sources import predictions

NETWORK, CATEGORIES = "ssdlite320_mobilenet_v3_large", ["__background__", "cat", "N/A", "key"]


class Found(torch.nn.Module):
    """Detects what it was made with, and looks at the picture as torchvision's detectors do."""

    def __init__(self, **boxes: list[float]) -> None:
        super().__init__()
        self.boxes = [(CATEGORIES.index(name), score) for name, scores in boxes.items() for score in scores]

    def forward(self, images):
        assert images[0].shape == (3, 20, 30)
        assert images[0].max() <= 1
        labels, scores = zip(*self.boxes, strict=True) if self.boxes else ((), ())
        return [{"labels": torch.tensor(labels), "scores": torch.tensor(scores, dtype=torch.float64)}]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_file(get_model(NETWORK, weights=None, weights_backbone=None, num_classes=len(CATEGORIES)).state_dict(), path)
    return path


def test_a_label_scores_what_its_best_box_scores():
    image = Image.new("RGB", (30, 20), "white")
    assert image_scores(Found(key=[0.2, 0.7], cat=[0.1]), image, CATEGORIES) == {"cat": 0.1, "key": 0.7}
    assert image_scores(Found(), image, CATEGORIES) == {}


def test_the_file_is_one_that_a_source_of_predictions_reads_and_a_broken_image_disturbs_no_other(
    tmp_path, weights, caplog
):
    for name in ("a.png", "b.png"):
        pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"no image")
    paths = [str(tmp_path / name) for name in ("a.png", "broken.png", "b.png")]
    out = tmp_path / "detector.parquet"
    assert detect(NETWORK, weights, paths, out, open_image=open_rgb, categories=CATEGORIES) == 2
    assert "broken.png" in caplog.text
    source = predictions.read("yolo", out, of="photos", origin="detector:yolo")
    assert set(source.labels["image_id"].to_pylist()) == {"photos/a.png", "photos/b.png"}
    assert set(source.labels["label"].to_pylist()) <= {"cat", "key"}


def test_weights_of_another_network_and_an_unknown_network_are_one_line(tmp_path, weights):
    with pytest.raises(ModelError, match=r"not the weights of ssdlite.* with 91 categories"):
        detect(NETWORK, weights, [], tmp_path / "x.parquet", open_image=open_rgb)
    with pytest.raises(ModelError, match=r"no detector .*Did you mean"):
        detect("fasterrcnn_resnet50_fpn_v3", weights, [], tmp_path / "x.parquet", open_image=open_rgb)
    with pytest.raises(SourceError, match="no image could be read"):
        detect(NETWORK, weights, [], tmp_path / "x.parquet", open_image=open_rgb, categories=CATEGORIES)
