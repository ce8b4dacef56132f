"""The Tagger: probabilities, saving, carrying heads over, and what does not fit.

Axes: B images, C labels.
"""

from __future__ import annotations

import inspect
import json

import numpy as np
import pytest
import torch

from tasks.core.errors import ModelError
from tasks.nn.backbone import build_backbone
from tasks.nn.cooccurrence import Cooccurrence
from tasks.nn.heads import HEADS
from tasks.nn.losses import LOSSES
from tasks.nn.model import (
    Tagger,
    check_fit,
    load_config,
    load_model,
    model_sha256,
    save_model,
    start_from,
    transfer_head,
    xavier_init,
)

IMAGE_PX = (32, 48)
LABELS = ["cat", "dog", "tree", "lamp", "forest"]
SMALL = {"decoder_dim": 16, "ffn_dim": 16, "num_heads": 2, "hidden_dim": 16}


def options_of(head: str, **more) -> dict:
    accepted = inspect.signature(HEADS[head]).parameters
    return {k: v for k, v in {**SMALL, **more}.items() if k in accepted}


def build(
    head: str = "linear", labels=LABELS, seed: int = 0, *, backbone="test_resnet", groups=(), scale=1.0, **more
) -> Tagger:
    torch.manual_seed(seed)
    network = build_backbone(backbone, weights=None, options={}, image_px=IMAGE_PX)
    context = {}
    if "cooccurrence" in inspect.signature(HEADS[head]).parameters:
        targets_NC = np.random.default_rng(0).random((50, len(labels))) < 0.4
        context = {"cooccurrence": Cooccurrence.count(targets_NC, np.ones_like(targets_NC)), "label_names": labels}
    built = HEADS[head](network.num_features, len(labels), **context, **options_of(head, **more))
    return Tagger(network, built, labels=labels, logit_scale=scale, groups=groups).eval()


def config(head: str = "linear", **more) -> dict:
    return {
        "head": {"name": head, "options": options_of(head, **more)},
        "image_px": list(IMAGE_PX),
        "resize": "stretch",
    }


def images(b: int = 2) -> torch.Tensor:
    return torch.randn(b, 3, *IMAGE_PX, generator=torch.Generator().manual_seed(0))


# ---------------------------------------------------------------- probabilities


def test_scores_are_a_sigmoid_of_the_scaled_logit():
    logits_BC = torch.tensor([[0.0, 1.0, -1.0, 0.5, 0.1]])
    torch.testing.assert_close(build(scale=23.0).scores(logits_BC), torch.sigmoid(23 * logits_BC))


def test_exclusive_groups_are_a_softmax_when_trained_so():
    logits_BC = torch.tensor([[0.0, 1.0, -1.0, 0.5, 0.1]])
    scores_BC = build(groups=[[0, 2], [3, 4]]).scores(logits_BC)
    torch.testing.assert_close(scores_BC[:, [0, 2]], logits_BC[:, [0, 2]].softmax(1))
    torch.testing.assert_close(scores_BC[:, [3, 4]].sum(1), torch.ones(1))
    torch.testing.assert_close(scores_BC[:, 1], torch.sigmoid(logits_BC[:, 1]))


def test_scores_of_half_precision_logits_are_single_precision():
    assert build().scores(torch.zeros(1, 5, dtype=torch.bfloat16)).dtype == torch.float32


def test_the_embedding_is_the_average_of_the_feature_map():
    model = build("ml_decoder")
    logits_BC, features_BF = model.forward_with_features(images())
    torch.testing.assert_close(logits_BC, model(images()))
    torch.testing.assert_close(features_BF, model.embed(images()))
    torch.testing.assert_close(features_BF, model.backbone(images()).mean((2, 3)))


# ---------------------------------------------------------------- Xavier


def test_xavier_draws_matrices_within_its_bound_and_clears_biases():
    head = HEADS["linear"](30, 10)
    torch.nn.init.ones_(head.classifier.bias)
    xavier_init(head, generator=torch.Generator().manual_seed(0))
    bound = (6 / (30 + 10)) ** 0.5
    assert 0.8 * bound < head.classifier.weight.abs().max() <= bound
    assert (head.classifier.bias == 0).all()


def test_xavier_leaves_norms_and_fixed_queries_alone():
    head = HEADS["ml_decoder"](16, 4, **options_of("ml_decoder"))
    queries = head.queries_QD.clone()
    xavier_init(head)
    assert torch.equal(head.queries_QD, queries)
    assert (head.decoder.norm1.weight == 1).all()
    assert (head.decoder.attention.in_proj_bias == 0).all()


# ---------------------------------------------------------------- head and loss


@pytest.mark.parametrize("head", sorted(HEADS))
@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_cosines_need_an_angular_loss_and_logits_a_plain_one(head, loss):
    model, built = build(head), LOSSES[loss](5)
    if model.head.angular == built.angular:
        check_fit(model.head, built)
    else:
        with pytest.raises(ModelError, match=rf"head {head} .*loss {loss}|loss {loss} .*head {head}"):
            check_fit(model.head, built)


def test_an_angular_loss_on_a_linear_head_says_what_to_do():
    with pytest.raises(ModelError, match=r"loss aam needs cosines, head linear gives logits\. Use head angular_linear"):
        check_fit(build().head, LOSSES["aam"](5))


# ---------------------------------------------------------------- saving and loading


@pytest.mark.parametrize("head", sorted(HEADS))
def test_a_saved_model_scores_as_before(tmp_path, head):
    model = build(head, scale=9.770123456789, groups=[[0, 1]])
    save_model(tmp_path / "m", model, config(head))
    loaded = load_model(tmp_path / "m")
    assert torch.equal(loaded.scores(loaded(images())), model.scores(model(images())))
    assert (loaded.labels, loaded.logit_scale, loaded.groups) == (model.labels, model.logit_scale, model.groups)
    assert (loaded.backbone.mean, loaded.backbone.std) == (model.backbone.mean, model.backbone.std)
    assert not loaded.training


def test_a_graph_model_loads_where_its_word_vectors_are_not(tmp_path):
    vectors = tmp_path / "vectors.npz"
    np.savez(vectors, labels=np.array(LABELS), vectors=np.random.default_rng(0).random((5, 12)).astype(np.float32))
    model = build("gat", node_features="glove", glove=str(vectors))
    save_model(tmp_path / "m", model, config("gat", node_features="glove", glove=str(vectors)))
    vectors.unlink()
    assert torch.equal(load_model(tmp_path / "m")(images()), model(images()))


def test_a_transformer_of_another_size_loads_at_that_size(tmp_path):
    model = build(backbone="test_vit")
    save_model(tmp_path / "m", model, config())
    assert torch.equal(load_model(tmp_path / "m")(images()), model(images()))


def test_the_same_weights_give_the_same_bytes_and_the_same_hash(tmp_path):
    for name in ("a", "b"):
        save_model(tmp_path / name, build(seed=3), config())
    for file in ("model.safetensors", "model.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert model_sha256(tmp_path / "a") == model_sha256(tmp_path / "b")
    save_model(tmp_path / "b", build(seed=4), config())
    assert model_sha256(tmp_path / "a") != model_sha256(tmp_path / "b")


def test_what_the_caller_adds_travels_along(tmp_path):
    save_model(tmp_path, build(), {**config(), "weights_kind": "ema"})
    assert load_config(tmp_path)["weights_kind"] == "ema"
    assert load_config(tmp_path)["labels"] == LABELS


def test_channels_last_weights_are_saved_too(tmp_path):
    model = build()
    expected = model(images())
    save_model(tmp_path, model.to(memory_format=torch.channels_last), config())
    torch.testing.assert_close(load_model(tmp_path)(images()), expected)


def test_half_a_save_is_noticed(tmp_path):
    save_model(tmp_path, build(seed=1), config())
    old = (tmp_path / "model.json").read_text()
    save_model(tmp_path, build(seed=2), config())
    (tmp_path / "model.json").write_text(old)  # as if killed between the two files
    with pytest.raises(ModelError, match=r"not the weights that model\.json describes"):
        load_model(tmp_path)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"no model there \(model\.json missing or damaged\)"):
        load_model(tmp_path)


def test_a_description_that_lacks_something_is_refused(tmp_path):
    save_model(tmp_path, build(), config())
    content = load_config(tmp_path)
    del content["groups"]
    (tmp_path / "model.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"model\.json: lacks groups"):
        load_model(tmp_path)


def test_nothing_is_pickled(tmp_path):
    save_model(tmp_path, build(), config())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.json", "model.safetensors"]
    json.loads((tmp_path / "model.json").read_text())


# ---------------------------------------------------------------- carrying over


NEW_LABELS = ["forest", "bird", "cat", "lamp"]
CARRYING = ["linear", "angular_linear", "otx_nonlinear", "ml_decoder", "query2label"]


@pytest.mark.parametrize("head", CARRYING)
def test_shared_labels_are_scored_as_before_in_their_new_columns(head):
    old, new = build(head, seed=1), build(head, NEW_LABELS, seed=2)
    new.backbone.load_state_dict(old.backbone.state_dict())
    carried = transfer_head(old.state_dict(), old.labels, new)
    assert carried == ["forest", "cat", "lamp"]
    old_BC, new_BC = old(images()), new(images())
    for label in carried:
        torch.testing.assert_close(new_BC[:, NEW_LABELS.index(label)], old_BC[:, LABELS.index(label)])


@pytest.mark.parametrize("head", CARRYING)
def test_labels_that_only_the_new_model_knows_keep_their_fresh_weights(head):
    old, new, fresh = build(head, seed=1), build(head, NEW_LABELS, seed=2), build(head, NEW_LABELS, seed=2)
    transfer_head(old.state_dict(), old.labels, new)
    row = NEW_LABELS.index("bird")
    for name, value in new.head.state_dict().items():
        axis = new.head.label_axes.get(name)
        if axis is not None:
            assert torch.equal(value.select(axis, row), fresh.head.state_dict()[name].select(axis, row)), name


def test_ml_decoder_takes_labels_out_of_groups():
    # pre-training: 5 labels, 2 queries (3 labels each); fine-tuning: one query a label
    old, new = build("ml_decoder", seed=1, num_groups=2), build("ml_decoder", NEW_LABELS, seed=2)
    new.backbone.load_state_dict(old.backbone.state_dict())
    assert transfer_head(old.state_dict(), old.labels, new) == ["forest", "cat", "lamp"]
    torch.testing.assert_close(new(images())[:, 2], old(images())[:, 0])


def test_ml_decoder_does_not_mix_labels_of_different_queries_in_one():
    # one query a label before, two labels a query now: each query keeps the first label it can answer for
    old, new = build("ml_decoder", seed=1), build("ml_decoder", ["forest", "cat", "dog", "lamp"], seed=2, num_groups=2)
    new.backbone.load_state_dict(old.backbone.state_dict())
    assert transfer_head(old.state_dict(), old.labels, new) == ["forest", "dog"]
    torch.testing.assert_close(new(images())[:, 2], old(images())[:, 1])


@pytest.mark.parametrize("head", ["gat", "gat_ml_decoder", "ml_gcn"])
def test_a_graph_head_keeps_the_graph_of_its_own_vocabulary(head):
    old, new = build(head, seed=1, node_features="learned"), build(head, NEW_LABELS, seed=2, node_features="learned")
    adjacency_CC = new.head.label_graph.adjacency_CC.clone()
    assert transfer_head(old.state_dict(), old.labels, new) == ["forest", "cat", "lamp"]
    assert torch.equal(new.head.label_graph.adjacency_CC, adjacency_CC)
    assert torch.equal(new.head.label_graph.nodes_CD[2], old.head.label_graph.nodes_CD[0])
    assert torch.equal(new.head.label_graph.layers[1].weight, old.head.label_graph.layers[1].weight)


def test_a_head_of_another_kind_carries_nothing():
    new = build("ml_decoder", NEW_LABELS, seed=2)
    before = {k: v.clone() for k, v in new.state_dict().items()}
    old = build("linear", seed=1)
    assert transfer_head(old.state_dict(), old.labels, new) == []
    assert all(torch.equal(v, before[k]) for k, v in new.state_dict().items())


def test_vocabularies_without_a_common_label_share_the_body_only():
    old, new = build("ml_decoder", seed=1), build("ml_decoder", ["x", "y"], seed=2)
    assert transfer_head(old.state_dict(), old.labels, new) == []
    assert torch.equal(new.head.projection.weight, old.head.projection.weight)


def test_fine_tuning_starts_from_a_saved_model(tmp_path):
    old, new = build("ml_decoder", seed=1), build("ml_decoder", NEW_LABELS, seed=2)
    save_model(tmp_path, old, config("ml_decoder"))
    assert start_from(new, tmp_path) == ["forest", "cat", "lamp"]
    torch.testing.assert_close(new(images())[:, 2], old(images())[:, 0])


def test_a_saved_model_with_another_backbone_cannot_be_the_start(tmp_path):
    save_model(tmp_path, build(), config())
    with pytest.raises(ModelError, match="its backbone is test_resnet, this model's is test_efficientnet"):
        start_from(build(backbone="test_efficientnet"), tmp_path)


# ---------------------------------------------------------------- small inputs


@pytest.mark.parametrize("head", sorted(HEADS))
@pytest.mark.parametrize("labels", [["cat"], LABELS])
def test_one_class_and_a_batch_of_one_train(head, labels):
    model = build(head, labels).train()
    loss = LOSSES["aam" if model.head.angular else "asl"](len(labels))
    value = loss(model(images(1)), torch.ones(1, len(labels)), torch.ones(1, len(labels)))
    value.backward()
    assert value.isfinite()
    assert model.scores(model.eval()(images(1))).shape == (1, len(labels))
