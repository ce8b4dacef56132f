"""export.json and the ledger entry: how near the exported file is to torch, and what its variants cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.core.ledger import Ledger
from tasks.core.tables import sha256_of
from tasks.export.onnx_file import Parity


def export_report(
    exported: Path,
    parity: Parity,
    variants: Mapping[str, dict],
    detector: Mapping[str, Any] | None,
    *,
    tolerance: float,
    opset: int,
) -> dict:
    """export.json. variants: of `variant_costs.write_variants`.  detector: of `detector_files.ship_detector`."""
    return {
        "max_score_difference": f"{parity.max_score_difference:.1e}",  # text: numbers are rounded to 6 decimals
        "unlike_decisions": parity.unlike_decisions,
        "images": parity.num_images,
        "tolerance": tolerance,
        "opset": opset,
        "sha256": sha256_of(exported),
        "size_bytes": exported.stat().st_size,
        **({"variants": dict(variants)} if variants else {}),
        **({"detector": {key: detector[key] for key in ("file", "sha256", "labels")}} if detector else {}),
    }


def export_ledger(
    num_labels: int, parity: Parity, variants: Mapping[str, dict], detector: Mapping[str, Any] | None
) -> Ledger:
    """The ledger entry of the stage: every label of the model is in the file."""
    ledger = Ledger("export")
    ledger.num_in("labels", num_labels)
    ledger.num_out("labels", num_labels)
    ledger.note(
        f"scores as torch's up to {parity.max_score_difference:.1e}, {parity.unlike_decisions} unlike decisions, on "
        f"{parity.num_images} images"
    )
    if detector:
        labels = ", ".join(detector["labels"])
        ledger.note(f"{detector['origin']} in {detector['file']} is blended with the model's scores of {labels}")
    for name, cost in variants.items():
        ledger.note(f"{name}: {cost['unlike_decisions']} unlike decisions on {cost['images']} evaluated images")
    return ledger
