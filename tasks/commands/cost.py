"""Multiply-accumulates and parameters of the last run's model, for one image."""

from __future__ import annotations

from dataclasses import asdict

from tasks.commands import print_json
from tasks.nn.macs import count_cost
from tasks.nn.model import load_config, load_model
from tasks.params import load_params


def command() -> None:
    """Multiply-accumulates and parameters of the last run's model, for one image.

    Example: python -m tasks cost
    """
    folder = load_params().paths.finetuned
    print_json(asdict(count_cost(load_model(folder), tuple(load_config(folder)["image_px"]))))
