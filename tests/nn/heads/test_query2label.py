"""Query2Label: queries, positions, and the angular form done right."""

from __future__ import annotations

import math

import pytest
import torch

from tasks.nn.heads import HEADS
from tasks.nn.heads.query2label import sine_position
from tests.nn.heads.test_contract import build, features


def test_the_position_code_is_the_formula_of_its_paper():
    height, width, dim = 3, 2, 8
    code = sine_position(height, width, dim, like=torch.zeros(1)).reshape(height, width, dim)
    half = dim // 2
    for row in range(height):
        for column in range(width):
            y, x = (row + 1) / height * 2 * math.pi, (column + 1) / width * 2 * math.pi
            expected = []
            for position in (y, x):
                for i in range(half):
                    angle = position / 10000 ** (2 * (i // 2) / half)
                    expected.append(math.sin(angle) if i % 2 == 0 else math.cos(angle))
            torch.testing.assert_close(code[row, column], torch.tensor(expected), rtol=1e-4, atol=1e-6)


def test_where_a_cell_stands_matters():
    head, features_BFHW = build("query2label").eval(), features()
    assert not torch.allclose(head(features_BFHW), head(features_BFHW.flip(3)), atol=1e-4)


def test_each_label_has_its_own_query():
    head = build("query2label").eval()
    before = head(features())
    head.queries_CD.data[2] += 1
    changed = ~torch.isclose(head(features()), before, atol=1e-5).all(dim=0)
    assert changed.tolist() == [False, False, True, False, False, False, False]


def test_the_angular_form_is_a_cosine_a_label():
    head = build("query2label", angular=True).eval()
    seen = []
    head.norm.register_forward_hook(lambda *args: seen.append(args[2]))
    cosines_BC = head(features())
    expected = torch.cosine_similarity(seen[0], head.weight_CD.expand_as(seen[0]), dim=2)
    torch.testing.assert_close(cosines_BC, expected)


def test_the_projection_can_be_left_out_where_widths_agree():
    assert isinstance(HEADS["query2label"](16, 3, keep_projection=False).projection, torch.nn.Identity)
    assert isinstance(HEADS["query2label"](16, 3, keep_projection=False, hidden_dim=8).projection, torch.nn.Conv2d)


def test_a_width_that_heads_cannot_share_is_refused():
    with pytest.raises(ValueError, match=r"hidden_dim 18 must be a multiple of 4 and of num_heads \(4\)"):
        HEADS["query2label"](18, 3)
