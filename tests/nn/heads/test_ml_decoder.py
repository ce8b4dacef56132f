"""ML-Decoder against timm's layers, its groups, its frozen queries and its angular form."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from timm.layers.ml_decoder import MLDecoder as TimmMLDecoder

from tasks.nn.heads import HEADS
from tests.nn.heads.test_contract import build, features


@pytest.mark.parametrize("num_labels", [20, 250])
def test_it_computes_what_timm_s_layers_compute(num_labels):
    torch.manual_seed(0)
    theirs, ours = TimmMLDecoder(num_labels, initial_num_features=16).eval(), HEADS["ml_decoder"](16, num_labels).eval()
    layer = theirs.decoder.layers[0]
    ours.projection.load_state_dict(theirs.embed_standart.state_dict())
    ours.queries_QD.copy_(theirs.query_embed.weight)
    ours.decoder.attention.load_state_dict(layer.multihead_attn.state_dict())
    for own, other in (
        ("norm1", "norm1"),
        ("norm2", "norm2"),
        ("norm3", "norm3"),
        ("ffn_in", "linear1"),
        ("ffn_out", "linear2"),
    ):
        getattr(ours.decoder, own).load_state_dict(getattr(layer, other).state_dict())
    ours.group_weight_QDG.data.copy_(theirs.duplicate_pooling)
    ours.bias_C.data.copy_(torch.randn(num_labels))

    # timm's own forward fails on current torch (its layer has no self_attn), so its parts are called one by one.
    memory = theirs.embed_standart(features().flatten(2).transpose(1, 2)).relu()
    queries = theirs.query_embed.weight[:, None].expand(-1, 3, -1)
    hidden_BQD = layer(queries, memory.transpose(0, 1)).transpose(0, 1)
    grouped = torch.stack([hidden_BQD[:, i] @ theirs.duplicate_pooling[i] for i in range(hidden_BQD.shape[1])], dim=1)
    torch.testing.assert_close(ours(features()), grouped.flatten(1)[:, :num_labels] + ours.bias_C, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("num_labels", "queries", "labels_each"),
    [(1, 1, 1), (20, 20, 1), (80, 80, 1), (101, 100, 2), (500, 100, 5), (601, 100, 7)],
)
def test_queries_and_labels_a_query_follow_the_vocabulary(num_labels, queries, labels_each):
    head = HEADS["ml_decoder"](16, num_labels)
    assert (head.num_queries, head.labels_per_query) == (queries, labels_each)


def test_neighbouring_labels_share_a_query():
    # 5 labels, 2 queries: labels 0 to 2 belong to query 0, labels 3 and 4 to query 1
    head = build("ml_decoder", 5, num_groups=2).eval()
    before = head(features())
    head.queries_QD[1] = 0
    changed = ~torch.isclose(head(features()), before).all(dim=0)
    assert changed.tolist() == [False, False, False, True, True]


def test_the_queries_are_drawn_once_and_never_trained():
    head = build("ml_decoder")
    assert "queries_QD" not in dict(head.named_parameters())
    assert "queries_QD" in head.state_dict()


def test_the_order_of_the_positions_does_not_matter():
    head, features_BFHW = build("ml_decoder").eval(), features()
    shuffled = features_BFHW.flatten(2)[:, :, torch.randperm(20)].unflatten(2, (4, 5))
    torch.testing.assert_close(head(features_BFHW), head(shuffled), rtol=1e-4, atol=1e-5)


def test_the_angular_form_adds_a_trainable_bias_to_the_cosine():
    head = build("ml_decoder", angular=True).eval()
    before = head(features())
    head.bias_C.data += 0.25
    torch.testing.assert_close(head(features()), before + 0.25)


def test_the_angular_form_does_not_see_the_length_of_its_vectors():
    head = build("ml_decoder", angular=True).eval()
    before = head(features())
    head.group_weight_QDG.data *= 5
    torch.testing.assert_close(head(features()), before)


def test_the_angular_form_lets_negative_projections_through():
    for angular, slope in ((True, 0.2), (False, 0.0)):
        activation = build("ml_decoder", angular=angular).activation
        torch.testing.assert_close(activation(torch.tensor(-1.0)), torch.tensor(-slope))


def test_in_training_a_query_is_added_to_its_own_dropout():
    head = build("ml_decoder", dropout=0.5)
    seen = []
    head.decoder.norm1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    head.train()(features())
    query = head.queries_QD.expand_as(seen[0])
    ratio = (seen[0] / query).round(decimals=3)
    assert set(ratio.unique().tolist()) == {1.0, 3.0}  # 1 + 0 where dropped, 1 + 1/0.5 where kept


def test_no_group_at_all_is_refused():
    with pytest.raises(ValueError, match="num_groups must be at least 1, found 0"):
        build("ml_decoder", num_groups=0)


def test_a_width_that_heads_cannot_share_is_refused():
    with pytest.raises(ValueError, match=r"decoder_dim 18 must be a multiple of num_heads \(4\)"):
        build("ml_decoder", decoder_dim=18, num_heads=4)


def test_a_single_query_answers_for_everything():
    head = build("ml_decoder", 7, num_groups=1).eval()
    hidden = []
    head.decoder.register_forward_hook(lambda *args: hidden.append(args[2]))
    logits_BC = head(features())
    torch.testing.assert_close(logits_BC, F.linear(hidden[0][:, 0], head.group_weight_QDG[0].T, head.bias_C))
