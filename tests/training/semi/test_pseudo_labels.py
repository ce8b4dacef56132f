import numpy as np
import pytest
import torch

from tasks.core.errors import ParamsError
from tasks.nn.losses.bce import BinaryCrossEntropy
from tasks.training.data import Batch, Extra, ImageSet, Step
from tasks.training.distributed import World
from tests.training import toy

SCORES = np.array([[0.9, 0.4, 0.1], [0.5, 0.2, 0.6]], np.float32)


def unlabelled(num_images: int, targets=None, known=None) -> ImageSet:
    images = toy.image_set(num_images)
    blank = np.zeros((num_images, 3))
    return ImageSet(
        images.reader,
        images.image_ids,
        images.image_px,
        targets_NC=np.asarray(blank if targets is None else targets).astype(np.uint8),
        known_NC=np.asarray(blank if known is None else known).astype(bool),
    )


def test_scores_between_the_two_thresholds_stay_unknown():
    targets, believed = toy.method("pseudo_labels", present_from=0.6, absent_below=0.3).decide(SCORES)
    assert targets.tolist() == [[1, 0, 0], [0, 0, 1]]
    assert believed.tolist() == [[True, False, True], [False, True, True]]


def test_without_a_gap_every_label_is_decided():
    targets, believed = toy.method("pseudo_labels").decide(SCORES)
    assert targets.tolist() == [[1, 0, 0], [1, 0, 1]]
    assert believed.all()


def test_an_exclusive_group_has_exactly_one_label_whatever_the_scores():
    targets, believed = toy.method("pseudo_labels", groups=((0, 1),)).decide(SCORES * 0.5)
    assert targets[:, :2].tolist() == [[1, 0], [1, 0]]
    assert believed[:, :2].all()


def test_a_group_whose_first_label_is_unsure_stays_unknown():
    _, believed = toy.method("pseudo_labels", groups=((0, 1),), group_from=0.8).decide(SCORES)
    assert believed.tolist() == [[True, True, True], [False, False, True]]


def test_labels_are_given_once_before_the_first_epoch_of_both():
    method = toy.method("pseudo_labels", epochs=6, labelled_share=0.5)
    method.attach(toy.image_set(), unlabelled(2))
    scored_at = []
    for epoch in range(6):
        method.start_epoch(epoch, lambda epoch=epoch: scored_at.append(epoch) or SCORES)
    assert scored_at == [3] == [method.first_epoch]


def test_before_they_are_labelled_nothing_is_known():
    method = toy.method("pseudo_labels")
    method.attach(toy.image_set(), unlabelled(2))
    assert not method.memory["known_UC"].any()


def test_a_verdict_on_an_image_is_never_overwritten():
    method = toy.method("pseudo_labels", epochs=2)
    method.attach(toy.image_set(), unlabelled(2, targets=[[0, 1, 0], [0, 0, 0]], known=[[1, 1, 0], [0, 0, 0]]))
    method.start_epoch(1, lambda: SCORES)
    assert method.memory["targets_UC"].tolist() == [[0, 1, 0], [1, 0, 1]]
    assert method.memory["known_UC"].all()


def test_an_exclusive_group_is_decided_around_a_verdict():
    method = toy.method("pseudo_labels", epochs=2, groups=([0, 1, 2],))
    method.attach(toy.image_set(), unlabelled(2, targets=[[0, 1, 0], [0, 0, 0]], known=[[0, 1, 0], [0, 0, 1]]))
    method.start_epoch(1, lambda: SCORES)
    # The first image has label 1, whatever scores best; the second has not 2, its best, so it has 0.
    assert method.memory["targets_UC"].tolist() == [[0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize(("reduction", "divisor"), [("mean", 5), ("batch", 2), ("sum", 1)])
def test_the_term_is_the_runs_own_loss_over_believed_labels_reduced_as_that_loss_is(reduction, divisor):
    method = toy.method("pseudo_labels", epochs=2, present_from=0.6, absent_below=0.45)
    method.attach(toy.image_set(), unlabelled(2))
    method.start_epoch(1, lambda: SCORES)  # the middle one of the second row, 0.5 for label 0, stays unknown
    loss = BinaryCrossEntropy(3, reduction=reduction)
    batch = Batch(torch.empty(0), torch.empty(0, 3), torch.empty(0, 3), Extra(torch.empty(0), torch.tensor([1, 0])))
    step = Step(0, 0, [batch], rows=[0], num_known=3, unlabelled_rows=[1, 0])
    cost = method.cost(torch.zeros(2, 3), batch, loss, World())
    assert float(cost) == pytest.approx(5 * np.log(2))
    assert method.expected(step, loss) == divisor


def test_thresholds_in_the_wrong_order_are_refused():
    with pytest.raises(ParamsError, match=r"absent_below <= present_from <= 1 does not hold for 0\.9 and 0\.5"):
        toy.method("pseudo_labels", absent_below=0.9)


def test_a_run_too_short_for_two_phases_is_refused():
    with pytest.raises(ParamsError, match="leaves no epoch of 1 for one of the two phases"):
        toy.method("pseudo_labels", epochs=1)
