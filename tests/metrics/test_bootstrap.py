"""Resampling by weights equals evaluating the drawn images; intervals cover; groups stay together."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.metrics import METRICS, PROTOCOLS, Scored
from tasks.metrics.average_precision import AVERAGE_PRECISIONS
from tasks.metrics.bootstrap import (
    WeightedCounts,
    intervals,
    normal_interval,
    percentile_interval,
    resample,
    subsample_batches,
    weight_batches,
    weighted_metrics,
)
from tasks.metrics.ranking import rank_pooled
from tests.benchmarks import intervals as simulation


def made_up(num_images=60, num_labels=5, seed=0):
    rng = np.random.default_rng(seed)
    targets = (rng.random((num_images, num_labels)) < 0.3).astype(np.uint8)
    scores = np.clip(0.3 * targets + 0.7 * rng.random(targets.shape), 0, 1).round(1).astype(np.float32)
    return scores, targets, rng.random(targets.shape) < 0.8


def scored(data, protocol="tagwright"):
    return Scored(*data, np.full(data[0].shape[1], 0.45), PROTOCOLS[protocol], keep_order=True)


def weights(num_images, num_resamples, resample_by=None, seed=0):
    batches = list(weight_batches(num_images, num_resamples, resample_by=resample_by, seed=seed))
    assert all(batch.shape[1] <= 32 for batch in batches)
    return np.concatenate(batches, axis=1)


def test_every_resample_draws_as_many_images_as_there_are():
    assert (weights(60, 40).sum(axis=0) == 60).all()


def test_images_of_a_group_are_drawn_together():
    drawn = weights(6, 40, resample_by=["x", "y", "x", "z", "y", "x"])
    np.testing.assert_array_equal(drawn[[0, 0, 1]], drawn[[2, 5, 4]])
    assert (drawn[0] + drawn[1] + drawn[3] == 3).all()  # three groups, three draws


def test_a_resample_equals_evaluating_the_drawn_images_one_by_one():
    data = made_up()
    drawn = weights(60, 40, seed=3)
    resampled = weighted_metrics(scored(data))(drawn)
    for b in (0, 33, 39):
        images = np.repeat(np.arange(60), drawn[:, b].astype(int))
        copy = scored(tuple(m[images] for m in data))
        for name, values in resampled.headline.items():
            assert values[b] == pytest.approx(METRICS[name](copy), abs=1e-12, nan_ok=True), name
        np.testing.assert_allclose(resampled.ap_BC[b], copy.ap_C, atol=1e-12)


@pytest.mark.parametrize("protocol", sorted(set(PROTOCOLS) - {"tagwright"}))
def test_every_protocol_resamples_its_own_definitions(protocol):
    data = made_up()
    drawn = weights(60, 3, seed=3)
    resampled = weighted_metrics(scored(data, protocol))(drawn)
    for b in range(3):
        copy = scored(tuple(m[np.repeat(np.arange(60), drawn[:, b].astype(int))] for m in data), protocol)
        for name in ("OP", "OR", "OF1", "CP", "CR", "CF1", "image_F1"):
            assert resampled.headline[name][b] == pytest.approx(METRICS[name](copy), abs=1e-12), name
        # Copies of an image are one operating point when weighted, and take a rank each when ranked by position.
        assert resampled.headline["mAP"][b] == pytest.approx(METRICS["mAP"](copy), abs=0.03)


def test_pooled_counts_of_a_resample_equal_those_of_the_drawn_images():
    data = made_up()
    pooled, drawn = rank_pooled(*data, keep_order=True), weights(60, 8)
    tp, predicted, positives = WeightedCounts(pooled, pooled.points, 60)(drawn)
    for b in range(8):
        images = np.repeat(np.arange(60), drawn[:, b].astype(int))
        s, t = (m[images][data[2][images]] for m in data[:2])
        assert positives[0, b] == t.sum()
        for k, score in enumerate(pooled.points.score_K):
            assert (predicted[k, b], tp[k, b]) == ((s >= score).sum(), t[s >= score].sum())


def test_a_subsample_draws_three_quarters_of_the_groups_once():
    drawn = next(subsample_batches(8, 5, resample_by=["x", "x", "y", "y", "z", "z", "w", "w"], seed=0))
    np.testing.assert_array_equal(drawn[::2], drawn[1::2])
    assert (drawn.sum(axis=0) == 6).all()
    assert set(np.unique(drawn)) == {0, 1}


@pytest.mark.parametrize("form", sorted(set(AVERAGE_PRECISIONS) - {"eleven_point"}))
def test_a_positive_left_out_leaves_the_precision_of_those_above_it(form):
    # best first: present, absent, present, present
    tp, predicted = np.array([1.0, 2, 3]), np.array([1.0, 3, 4])
    above = {"all_ranks": [2 / 3, 1 / 2, 2 / 3], "envelope": [2 / 3, 2 / 3, 2 / 3]}[form]  # the first takes the best
    assert AVERAGE_PRECISIONS[form](tp, predicted, 3, left_out=True) == pytest.approx(np.mean(above))


def test_a_positive_that_stands_above_all_and_alone_is_found_with_certainty():
    assert AVERAGE_PRECISIONS["all_ranks"](np.array([1.0]), np.array([1.0]), 1, left_out=True) == 1
    assert AVERAGE_PRECISIONS["all_ranks"](np.array([1.0]), np.array([4.0]), 1, left_out=True) == 0


def test_random_scores_have_no_ap_above_their_share_of_positives_without_bias():
    rng = np.random.default_rng(0)
    targets = (rng.random((200, 400)) < 0.02).astype(np.uint8)
    data = scored((rng.random(targets.shape).astype(np.float32), targets, np.ones(targets.shape, bool)))
    unbiased = resample(data, 2).headline["mAP"].mean()
    assert METRICS["mAP"](data) > 1.8 * 0.02
    assert unbiased == pytest.approx(0.02, rel=0.3)


def test_subsamples_scatter_as_the_mean_of_all_images_does():
    data = scored(made_up(400))
    values = resample(data, 400).headline["image_F1"]
    image_f1 = METRICS["image_F1"](data)
    counts = data.image_counts
    of_images = 2 * counts.tp / np.maximum(counts.predicted + counts.positives, 1)
    assert values.mean() == pytest.approx(image_f1)
    assert values.std() == pytest.approx(of_images.std() / np.sqrt(400), rel=0.1)


def test_a_mean_over_labels_of_which_many_lack_positives_has_no_interval_and_says_why():
    scores, targets, known = made_up()
    targets[:, :2] = 0
    result = intervals(scored((scores, targets, known)), list("abcde"), 20)
    assert result["metrics"]["mAP"] is None
    assert result["mAP_without_bias"] is None
    assert result["why"]["mAP"].startswith("2 of 5 labels have no positive among these images")
    assert result["metrics"]["OF1"] is not None


def test_a_label_with_fewer_than_ten_positives_has_no_interval():
    scores, targets, known = made_up(200)
    known[:] = True
    targets[:, 1] = 0
    targets[:9, 1] = 1
    result = intervals(scored((scores, targets, known)), list("abcde"), 20)["labels"]
    assert result["b"] == {"AP": None, "F1": None}
    assert result["a"]["AP"] is not None


@pytest.mark.slow
@pytest.mark.parametrize("num_labels", [12, 80])
@pytest.mark.parametrize("num_images", [172, 500])
def test_95_percent_intervals_hold_the_population_s_value(num_images, num_labels):
    """200 draws from a population whose metrics are known; rare labels, a weak model, 60 resamples each."""
    held = simulation.coverage(num_images, num_labels, "weak", num_draws=200, num_resamples=60)
    for name in ("mAP", "OF1", "CF1"):
        assert 0.88 <= held[name].covered <= 0.99 or held[name].printed < 0.2, (name, held[name])


def test_intervals_of_log_odds_stay_within_their_range():
    low, high = normal_interval(np.array([0.9, 1.0, 0.98]), log_odds=True)
    assert 0 < low < 0.96 < high < 1


def test_intervals_hold_the_value_and_shrink_with_more_images():
    labels = list("abcde")
    few, many = scored(made_up(60)), scored(made_up(3000))
    widths = []
    for data in (few, many):
        result = intervals(data, labels, 200)
        low, high = result["metrics"]["mAP"]
        assert low <= METRICS["mAP"](data) <= high
        assert result["drawn_by"] == "image"
        widths.append(high - low)
    assert widths[1] < widths[0] / 3


def test_copies_of_images_narrow_the_interval_unless_drawn_by_group():
    data = made_up(100)
    tripled = tuple(np.repeat(m, 3, axis=0) for m in data)
    group_ids = [str(i // 3) for i in range(300)]
    honest, fooled, grouped = (
        np.diff(intervals(scored(d), list("abcde"), 300, resample_by=by)["metrics"]["OF1"])[0]
        for d, by in ((data, None), (tripled, None), (tripled, group_ids))
    )
    assert fooled < 0.75 * honest
    assert grouped == pytest.approx(honest, rel=0.2)


def test_a_label_that_is_never_drawn_has_no_interval():
    scores, targets, known = made_up()
    targets[:, 2] = 0
    result = intervals(scored((scores, targets, known)), list("abcde"), 20)
    assert result["labels"]["c"] == {"AP": None, "F1": None}


def test_percentiles_leave_out_undefined_resamples_and_hold_infinite_ones():
    values = np.array([[0.0, np.nan, np.inf], [1.0, np.nan, 0.5], [np.nan, np.nan, np.inf]])
    low, high = percentile_interval(values)
    np.testing.assert_array_equal(low, [0, np.nan, 0.5])
    np.testing.assert_array_equal(high, [1, np.nan, np.inf])
