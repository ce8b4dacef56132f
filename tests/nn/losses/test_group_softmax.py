"""Cross-entropy in exclusive groups when all, some or nothing of a group is known."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from tasks.nn.losses import LOSSES

ALL = torch.ones(2, 5, dtype=torch.bool)
LOGITS_NC = torch.tensor([[1.0, 2.0, 0.5, -1.0, 3.0], [0.0, 0.0, 0.0, 2.0, -2.0]])
TARGETS_NC = torch.tensor([[0, 1, 0, 1, 0], [1, 0, 0, 0, 1]])


def loss(groups, **options):
    return LOSSES["group_softmax"](5, groups, **options)


def test_a_group_is_a_softmax_cross_entropy_and_the_rest_binary():
    ce = F.cross_entropy(LOGITS_NC[:, :3], torch.tensor([1, 0]), reduction="sum")
    bce = F.binary_cross_entropy_with_logits(LOGITS_NC[:, 3:], TARGETS_NC[:, 3:].float(), reduction="sum")
    torch.testing.assert_close(loss([[0, 1, 2]], reduction="sum")(LOGITS_NC, TARGETS_NC, ALL), ce + bce)


def test_weights_multiply_their_groups_as_in_a_sum_of_losses():
    # 5 * CE(letters) + CE(digits), the mean over the batch
    letters = F.cross_entropy(LOGITS_NC[:, :3], torch.tensor([1, 0]))
    digits = F.cross_entropy(LOGITS_NC[:, 3:], torch.tensor([0, 1]))
    value = loss([[0, 1, 2], [3, 4]], group_weights=[5.0, 1.0])(LOGITS_NC, TARGETS_NC, ALL)
    torch.testing.assert_close(value, 5 * letters + digits)


def test_groups_of_different_sizes_do_not_leak_into_each_other():
    alone = loss([[0, 1, 2]], outside_weight=0.0, reduction="sum")(LOGITS_NC, TARGETS_NC, ALL)
    with_a_smaller = loss([[3, 4], [0, 1, 2]], group_weights=[0.0, 1.0], reduction="sum")(LOGITS_NC, TARGETS_NC, ALL)
    torch.testing.assert_close(alone, with_a_smaller)


def test_a_known_absence_leaves_the_other_members_to_share_the_probability():
    # equal logits over three, one known absent: -log(2/3)
    known_NC = torch.tensor([[True, False, False, False, False]])
    value = loss([[0, 1, 2]])(torch.zeros(1, 5), torch.zeros(1, 5), known_NC)
    assert value.item() == pytest.approx(math.log(3 / 2), abs=1e-6)


def test_a_known_presence_is_enough_though_the_other_members_are_unknown():
    known_NC = torch.tensor([[False, True, False, False, False]])
    value = loss([[0, 1, 2]])(LOGITS_NC[:1], TARGETS_NC[:1], known_NC)
    torch.testing.assert_close(value, F.cross_entropy(LOGITS_NC[:1, :3], torch.tensor([1])))


def test_a_group_whose_members_are_all_absent_teaches_nothing():
    known_NC = torch.tensor([[True, True, True, False, False]])
    assert loss([[0, 1, 2]])(LOGITS_NC[:1], torch.zeros(1, 5), known_NC) == 0


def test_a_group_of_one_is_a_free_label():
    torch.testing.assert_close(
        loss([[0]], reduction="mean")(LOGITS_NC, TARGETS_NC, ALL), LOSSES["bce"](5)(LOGITS_NC, TARGETS_NC, ALL)
    )
    assert loss([[0]]).softmax_groups == []


def test_the_groups_of_inference_are_those_of_training():
    assert loss([[0, 1, 2], [4]]).softmax_groups == [[0, 1, 2]]


def test_weights_that_do_not_match_the_groups_are_refused():
    with pytest.raises(ValueError, match="group_weights has 1 values, the taxonomy has 2 exclusive groups"):
        loss([[0, 1], [2, 3]], group_weights=[1.0])


def test_a_label_in_two_groups_is_refused():
    with pytest.raises(ValueError, match="two exclusive groups"):
        loss([[0, 1], [1, 2]])


def test_a_group_counts_as_its_present_member_does_and_as_its_members_on_average_where_none_is_known():
    by_label = loss([[0, 1, 2]], outside_weight=0.0, reduction="sum")
    by_label.weigh_labels(torch.tensor([0.5, 2.0, 3.5, 1.0, 1.0]))
    costs = F.cross_entropy(LOGITS_NC[:, :3], torch.tensor([1, 0]), reduction="none")
    torch.testing.assert_close(by_label(LOGITS_NC, TARGETS_NC, ALL), 2.0 * costs[0] + 0.5 * costs[1])
    none_present = torch.tensor([[False, False, True, True, True]])  # the third is known to be absent
    left = -torch.log_softmax(LOGITS_NC[:1, :3], 1)[:, :2].logsumexp(1)
    torch.testing.assert_close(
        by_label(LOGITS_NC[:1], torch.zeros(1, 5), none_present), 2.0 * left.sum(), rtol=1e-5, atol=1e-5
    )
