"""How much a label counts, by its known positives."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.nn.losses.class_weights import BETA, class_weights

KNOWN_NC = np.ones((100, 3), bool)
TARGETS_NC = np.zeros((100, 3), np.uint8)
TARGETS_NC[:40, 0] = TARGETS_NC[:10, 1] = TARGETS_NC[:2, 2] = 1


def test_none_weighs_nothing():
    assert class_weights("none", TARGETS_NC, KNOWN_NC) is None


def test_inverse_is_one_over_the_frequency():
    weights_C = class_weights("inverse", TARGETS_NC, KNOWN_NC)
    assert weights_C.mean() == pytest.approx(1)
    np.testing.assert_allclose(weights_C / weights_C[0], [1, 4, 20], rtol=1e-5)


def test_effective_number_is_that_of_the_source():
    weights_C = class_weights("effective_number", TARGETS_NC, KNOWN_NC)
    expected = [(1 - BETA) / (1 - BETA**n) for n in (40, 10, 2)]
    np.testing.assert_allclose(weights_C, np.divide(expected, np.mean(expected)), rtol=1e-5)


@pytest.mark.parametrize("name", ["inverse", "effective_number"])
def test_unknown_entries_are_not_counted(name):
    known_NC = KNOWN_NC.copy()
    known_NC[20:40, 0] = False  # half the positives of the first label
    halved_NC = TARGETS_NC.copy()
    halved_NC[20:40, 0] = 0
    unknown = class_weights(name, TARGETS_NC, known_NC)
    np.testing.assert_array_equal(unknown, class_weights(name, halved_NC, known_NC))
    frequency = {"inverse": 20 / 80, "effective_number": None}[name]
    if frequency:
        assert unknown[1] / unknown[0] == pytest.approx(frequency / 0.1, rel=1e-5)


@pytest.mark.parametrize("name", ["inverse", "effective_number"])
def test_a_label_that_is_never_present_counts_as_one_that_is_once(name):
    targets_NC = TARGETS_NC.copy()
    targets_NC[:, 2] = 0
    once_NC = targets_NC.copy()
    once_NC[5, 2] = 1
    np.testing.assert_array_equal(class_weights(name, targets_NC, KNOWN_NC), class_weights(name, once_NC, KNOWN_NC))
