"""Thresholds fitted on one half of a real detector's scores keep what they promise on the other half."""

from __future__ import annotations

import pytest

from tests.benchmarks.thresholds import f1_by_rule, precision_kept, rescaled

SHRUNK, PLAIN = "per label, shrunk x 1.0", "per label, best F1"


@pytest.fixture(scope="module")
def rows(detector):
    return f1_by_rule(detector, 20, 0.5)


def test_shrunk_thresholds_are_never_worse_than_the_best_simple_rule(rows):
    simple = max(rows[name]["OF1"] for name in ("0.5 for every label", "one threshold, best OF1", PLAIN))
    assert rows[SHRUNK]["OF1"] > simple - 0.005


def test_shrunk_thresholds_beat_plain_ones_for_rare_labels(rows, detector):
    assert rows[SHRUNK]["rare"] > rows[PLAIN]["rare"]
    fewer_images = f1_by_rule(detector, 20, 0.2)  # nearly half of the labels are rare there
    assert fewer_images[SHRUNK]["rare"] > fewer_images[PLAIN]["rare"] + 0.005


def test_shrinkage_does_no_harm_where_every_label_has_a_scale_of_its_own(detector):
    rows = f1_by_rule(rescaled(detector, 6), 10, 0.5)
    assert rows[SHRUNK]["OF1"] >= rows[PLAIN]["OF1"] - 0.001


@pytest.mark.parametrize("target", [0.8, 0.9, 0.95])
def test_a_target_precision_is_kept_on_the_other_half_nine_times_in_ten(detector, target):
    kept = precision_kept(detector, 20, target, confidence=0.975)
    assert kept["kept"] >= 0.9
    assert kept["kept_within"] >= 0.98
