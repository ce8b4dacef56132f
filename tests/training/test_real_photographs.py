"""The real network on real photographs of many sizes, packed as the pipeline packs them."""

import tarfile

import numpy as np
import pyarrow as pa
import pytest
import torch

from tasks.images.shards import ShardReader, write_shards
from tasks.nn.backbone import build_backbone
from tasks.nn.heads import HEADS
from tasks.nn.losses import LOSSES
from tasks.nn.model import Tagger
from tasks.training.augment import resize
from tasks.training.data import ImageSet
from tasks.training.inference import infer
from tasks.training.loop import Surroundings, TrainingData, train
from tests.training import toy

LABELS = ["bird", "cat", "dog"]
PAPER_POLICY = [{"name": "rand_augment"}, {"name": "cutout", "p": 0.5, "size": 0.4}, {"name": "hflip"}]
OTX_POLICY = [{"name": "hflip"}, {"name": "augmix"}, {"name": "rotate", "p": 0.35, "degrees": 10}]


@pytest.fixture(scope="module")
def photographs(real_data, tmp_path_factory):
    """A reader of 24 VOC photographs whose short side is 96 px."""
    folder = tmp_path_factory.mktemp("photographs")
    with tarfile.open(real_data / "voc" / "VOC2012-animals-train" / "images.tar") as archive:
        members = [m for m in archive if m.name.endswith(".jpg")][:24]
        archive.extractall(folder, members, filter="data")
    table = pa.table({"image_id": [f"voc/{i:02d}" for i in range(24)], "uri": [m.name for m in members]})
    write_shards(table, folder / "shards", root=folder, short_side_px=96, images_per_file=10)
    return ShardReader(folder / "shards")


def labelled(reader, rows):
    rng = np.random.default_rng(0)
    targets_NC = (rng.random((24, 3)) < 0.4).astype(np.uint8)[rows]
    known_NC = (rng.random((24, 3)) < 0.8)[rows]
    ids = [reader.image_ids[i] for i in rows]
    return ImageSet(reader, ids, (48, 64), "letterbox", targets_NC, known_NC)


def network(head, loss):
    torch.manual_seed(0)
    backbone = build_backbone("mobilenetv3_small_050", weights=None, options={}, image_px=(48, 64))
    small = {"angular": True, "num_groups": 2, "decoder_dim": 16, "num_heads": 2, "ffn_dim": 16}
    options = small if head == "ml_decoder" else {}
    criterion = LOSSES[loss](len(LABELS))
    model = Tagger(
        backbone, HEADS[head](backbone.num_features, 3, **options), labels=LABELS, logit_scale=criterion.logit_scale
    )
    return model, criterion


@pytest.mark.parametrize(
    ("head", "loss", "policy"), [("ml_decoder", "aam", PAPER_POLICY), ("angular_linear", "aam", OTX_POLICY)]
)
def test_the_published_recipes_run_on_real_photographs_and_repeat_to_the_bit(photographs, head, loss, policy, tmp_path):
    settings = toy.settings(
        epochs=2,
        batch_size=8,
        lr=0.005,
        sam={"enabled": True, "rho": 0.05, "adaptive": False},
        augment=policy,
        channels_last=True,
        early_stopping={"rule": "paper", "patience": 5},
    )
    data = TrainingData(labelled(photographs, range(16)), labelled(photographs, range(16, 24)))
    results = []
    for attempt in range(2):
        model, criterion = network(head, loss)
        results.append(
            train(
                model,
                criterion,
                data,
                settings,
                seed=0,
                surroundings=Surroundings(tmp_path / str(attempt), device=torch.device("cpu"), num_workers=attempt),
            )
        )
    assert results[0].history == results[1].history
    assert all(torch.equal(v, results[1].state[k]) for k, v in results[0].state.items())
    assert all(np.isfinite(row["loss"]) for row in results[0].history)


def test_photographs_of_every_shape_are_scored_with_embeddings(photographs):
    assert len({photographs[i].shape for i in range(24)}) > 3
    model, _ = network("linear", "bce")
    images = labelled(photographs, range(24))
    scores_NC, embeddings_ND = infer(model, images, batch_size=7, device=torch.device("cpu"), with_embeddings=True)
    assert scores_NC.shape == (24, 3)
    assert embeddings_ND.shape == (24, model.backbone.num_features)
    alone = resize(images.image(5), images.image_px, images.resize)[None]
    one = model.eval().scores(model(alone))[0].detach().numpy()
    np.testing.assert_allclose(scores_NC[5], one, atol=1e-5)
