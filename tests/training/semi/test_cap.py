import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tasks.core.errors import ParamsError
from tasks.training.semi.cap import class_proportions, class_thresholds
from tests.training import toy

SCORES = np.array([[0.9], [0.8], [0.7], [0.6], [0.5], [0.4], [0.3], [0.2], [0.1], [0.05]])


def test_the_share_of_a_label_counts_known_entries_alone():
    targets = np.array([[1, 1], [0, 0], [1, 0], [0, 0]])
    known = np.array([[1, 0], [1, 0], [0, 0], [1, 0]], bool)
    shares = class_proportions(targets, known)
    assert shares[0] == pytest.approx(1 / 3)  # the third image is not known to be anything
    assert np.isnan(shares[1])


def test_thresholds_by_hand():
    # 10 images, share 0.3: present from rank 3 from the top; trusted present from rank floor(0.5 * 3) = 1;
    # trusted absent up to rank floor(0.8 * 7) = 5 from the bottom.
    limits = class_thresholds(SCORES, np.array([0.3]), present_rate=0.5, absent_rate=0.8)
    assert [float(t[0]) for t in limits] == [0.7, 0.9, 0.4]


def test_with_full_rates_nearly_everything_is_decided():
    # min(1, 0.998) * 7 = 6.986: one rank short of all negatives, as in the released code
    limits = class_thresholds(SCORES, np.array([0.3]))
    assert [float(t[0]) for t in limits] == [0.7, 0.7, 0.5]


def test_a_label_too_rare_for_one_positive_gets_none():
    limits = class_thresholds(SCORES, np.array([0.09]))
    assert limits.present_C[0] == np.inf
    method = toy.method("cap", epochs=13)
    method.proportions_C = np.array([0.09])
    targets, believed = method.decide(SCORES)
    assert targets.sum() == 0
    assert believed.sum() == 9  # the lower ranks are trusted as absent, the highest score stays unknown


def test_a_label_of_which_nothing_is_known_gets_no_pseudo_label_at_all():
    method = toy.method("cap", epochs=13)
    method.proportions_C = np.array([np.nan])
    assert not method.decide(SCORES)[1].any()


def test_a_share_that_is_a_round_number_of_images_loses_none_to_rounding():
    scores = np.linspace(0, 1, 100)[:, None]
    assert (scores >= class_thresholds(scores, np.array([0.29])).present_C).sum() == 29  # 0.29 * 100 = 28.999…


@given(
    arrays(np.float64, (17, 3), elements=st.floats(0, 1), unique=True),
    arrays(np.float64, 3, elements=st.floats(0, 1)),
)
def test_every_label_gets_as_many_positives_as_its_share_predicts(scores, shares):
    method = toy.method("cap", epochs=13)
    method.proportions_C = shares
    targets, believed = method.decide(scores)
    assert targets.sum(axis=0).tolist() == np.floor(shares * 17 + 1e-9).astype(int).tolist()
    assert believed[targets == 1].all()


def test_an_image_with_two_labels_of_an_exclusive_group_stays_unknown_there():
    method = toy.method("cap", epochs=13, groups=((0, 1),))
    method.proportions_C = np.array([0.5, 0.5, 0.5])
    scores = np.array([[0.9, 0.8, 0.9], [0.1, 0.9, 0.2], [0.8, 0.1, 0.8], [0.2, 0.3, 0.1]])
    targets, believed = method.decide(scores)
    assert targets[:, :2].tolist() == [[1, 1], [0, 1], [1, 0], [0, 0]]
    assert believed[:, :2].any(axis=1).tolist() == [False, True, True, False]


def test_labels_are_made_anew_every_epoch_after_the_warm_up():
    method = toy.method("cap", epochs=5, warmup_epochs=2)
    assert [method.is_due(epoch) for epoch in range(5)] == [False, False, True, True, True]
    seldom = toy.method("cap", epochs=6, warmup_epochs=2, every_epochs=3)
    assert [epoch for epoch in range(6) if seldom.is_due(epoch)] == [2, 5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warmup_epochs": 12}, r"warmup_epochs must lie in \[1, epochs\), found 12 of 12 epochs"),
        ({"warmup_epochs": 0}, r"warmup_epochs must lie in \[1, epochs\), found 0 of 12 epochs"),
        ({"warmup_epochs": 2, "present_rate": 1.2}, r"present_rate must lie in \(0, 1\], found 1.2"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(ParamsError, match=message):
        toy.method("cap", epochs=12, **options)
