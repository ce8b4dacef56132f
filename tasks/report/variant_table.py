"""What export.json says of the other files of the model, as one message each."""

from __future__ import annotations

from collections.abc import Mapping

from tasks.core.formatting import number


def variant_messages(export: Mapping) -> dict[str, str]:
    """Variant -> what it costs on the evaluated images; {} where `export.variants` asked for none."""
    return {name: _message(entry) for name, entry in export.get("variants", {}).items()}


def _message(entry: Mapping) -> str:
    cost = "no label to measure the cost in mAP on"
    if entry["mAP"] is not None:
        lost = entry["mAP_points_lost"]
        cost = f"mAP {number(entry['mAP'])}, {abs(lost):.2f} points {'lower' if lost >= 0 else 'higher'}"
    return (
        f"{cost}; {entry['unlike_decisions']:,} decisions on {entry['images']:,} images differ; "
        f"{entry['size_bytes'] / 1e6:.1f} MB"
    )
