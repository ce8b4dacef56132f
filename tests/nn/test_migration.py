"""Head surgery, for every entry of HEADS."""

from __future__ import annotations

import pytest
import torch

from tasks.core.errors import ModelError
from tasks.nn.heads import HEADS
from tasks.nn.migration import migrated_model
from tasks.nn.model import load_model, save_model
from tests.nn.test_model import build, config, images

GRAPHS = {"gat", "gat_ml_decoder", "ml_gcn"}
EVERY = pytest.mark.parametrize("head", sorted(HEADS))
BY_ROW = pytest.mark.parametrize("head", sorted(HEADS.keys() - GRAPHS))
RENAMED = ["feline", "dog", "tree", "lamp", "wood"]
#          lamp+cat merged, dog split in two, forest stays, a new one, tree is lost
CHANGED = ["thing", "puppy", "hound", "forest", "bird"]
ORIGINS = [{3: 30.0, 0: 10.0}, {1: 1.0}, {1: 1.0}, {4: 1.0}, {}]


def saved(folder, head: str, **more):
    old = build(head, seed=1, **more)
    save_model(folder, old, config(head))
    return old


@EVERY
def test_renamed_labels_score_exactly_as_before(tmp_path, head):
    old = saved(tmp_path, head)
    model, carried = migrated_model(tmp_path, RENAMED, [{c: 1.0} for c in range(5)])
    assert (model.labels, carried) == (RENAMED, RENAMED)
    assert torch.equal(model(images()), old(images()))


@BY_ROW
def test_parts_of_a_split_score_as_the_whole_and_labels_that_moved_as_before(tmp_path, head):
    old = saved(tmp_path, head)
    model, carried = migrated_model(tmp_path, CHANGED, ORIGINS)
    assert carried == ["thing", "puppy", "hound", "forest"]
    old_BC, new_BC = old(images()), model(images())
    for new, before in ((1, 1), (2, 1), (3, 4)):
        torch.testing.assert_close(new_BC[:, new], old_BC[:, before])


@BY_ROW
def test_a_merged_label_scores_as_the_weighted_mean_of_its_parts_or_as_the_most_frequent_one(tmp_path, head):
    old = saved(tmp_path, head)
    model, _ = migrated_model(tmp_path, CHANGED, ORIGINS)
    merged_B = model(images())[:, 0]
    rows = old.head.state_dict().get("classifier.weight")
    if rows is None:
        torch.testing.assert_close(merged_B, old(images())[:, 3])
    else:
        torch.testing.assert_close(model.head.state_dict()["classifier.weight"][0], 0.75 * rows[3] + 0.25 * rows[0])
    if head == "linear":
        torch.testing.assert_close(merged_B, 0.75 * old(images())[:, 3] + 0.25 * old(images())[:, 0])


@BY_ROW
def test_a_new_label_starts_afresh_alike_for_the_same_seed(tmp_path, head):
    saved(tmp_path, head)
    first, _ = migrated_model(tmp_path, CHANGED, ORIGINS, seed=3)
    again, _ = migrated_model(tmp_path, CHANGED, ORIGINS, seed=3)
    other, _ = migrated_model(tmp_path, CHANGED, ORIGINS, seed=4)
    assert torch.equal(first(images()), again(images()))
    assert not torch.equal(first(images())[:, 4], other(images())[:, 4])


@pytest.mark.parametrize("head", sorted(GRAPHS))
@pytest.mark.parametrize("origins", [ORIGINS, [{c: 1.0} for c in (1, 0, 2, 3, 4)]], ids=["merged and split", "moved"])
def test_a_head_made_of_the_label_graph_is_refused_in_one_line(tmp_path, head, origins):
    saved(tmp_path, head)
    with pytest.raises(ModelError, match=f"head {head} is made of the graph of all its labels") as error:
        migrated_model(tmp_path, CHANGED, origins)
    assert "\n" not in str(error.value)


def test_ml_decoder_with_shared_queries_tells_which_labels_it_could_not_carry(tmp_path):
    save_model(tmp_path, build("ml_decoder", seed=1, num_groups=2), config("ml_decoder", num_groups=2))
    # 5 labels on 2 queries: cat dog tree | lamp forest. Now lamp shares a query with cat, whose query comes first.
    _, carried = migrated_model(tmp_path, ["cat", "lamp", "forest", "tree"], [{c: 1.0} for c in (0, 3, 4, 2)])
    assert carried == ["cat", "forest"]


def test_softmax_groups_follow_where_the_model_was_trained_with_them(tmp_path):
    saved(tmp_path, "linear", groups=[[0, 1]])
    assert migrated_model(tmp_path, CHANGED, ORIGINS, groups=[[1, 2]])[0].groups == [[1, 2]]
    saved(tmp_path, "linear")
    assert migrated_model(tmp_path, CHANGED, ORIGINS, groups=[[1, 2]])[0].groups == []


def test_scale_backbone_and_normalisation_stay(tmp_path):
    old = build("angular_linear", seed=1, scale=23.0)
    save_model(tmp_path, old, config("angular_linear"))
    model, _ = migrated_model(tmp_path, CHANGED, ORIGINS)
    assert model.logit_scale == 23.0
    assert torch.equal(model.embed(images()), old.embed(images()))


def test_the_migrated_model_saves_and_loads(tmp_path):
    saved(tmp_path / "old", "query2label")
    model, _ = migrated_model(tmp_path / "old", CHANGED, ORIGINS)
    save_model(tmp_path / "new", model, config("query2label"))
    assert torch.equal(load_model(tmp_path / "new")(images()), model(images()))
