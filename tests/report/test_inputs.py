"""What the page takes from the stages' files."""

from __future__ import annotations

from tasks.params import load_params
from tasks.report.inputs import settings_of, shown_mistakes
from tests.imports import ROOT


def test_the_worst_mistakes_are_spread_over_labels_in_their_order():
    worst = [{"label": label, "image_id": str(n)} for n, label in enumerate("aaabacbb")]
    shown = [m["image_id"] for m in shown_mistakes(worst, most=4, most_of_a_label=2)]
    assert shown == ["0", "1", "3", "5"]
    assert len(shown_mistakes(worst, most=9, most_of_a_label=9)) == 8
    assert shown_mistakes(worst, most=0, most_of_a_label=3) == []


def test_the_settings_name_network_size_loss_and_rate():
    params = load_params(ROOT / "params.yaml")
    assert settings_of(params.model, params.finetune) == {
        "network": "test_resnet with head linear, 64 x 64 px (stretch)",
        "fine-tuning": "12 epochs of batches of 32, loss bce, adamw at 0.005",
    }
