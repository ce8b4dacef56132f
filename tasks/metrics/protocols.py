"""Named measuring protocols: every choice that moves a number although scores and labels stay the same.

Differences between the published codes are facts read from them: Alibaba-MIIL/ASL `validate.py`, ML-GCN `util.py`, the
mmcls functions that OTX 1 calls, and the VOC 2007 development kit. docs/protocols.md shows them on the same scores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from tasks.core.errors import ProtocolError, did_you_mean
from tasks.metrics.arithmetic import AbsentLabels
from tasks.metrics.ranking import Ties

Unknown = Literal["ignored", "absent", "present"]
"""What an unknown (image, label) pair counts as."""


@dataclass(frozen=True)
class Protocol:
    """How scores and labels become numbers.

    average_precision: a key of AVERAGE_PRECISIONS.
    ties: how images with equal scores are ranked in average precision.
    unknown_in_ap, unknown_in_f1: what an unknown entry counts as; the codes differ between the two.
    absent_labels: what a label without a known positive does to mAP and to CP, CR, CF1.
    threshold: decision threshold on probabilities where none were fitted.
    strict: a label is predicted when score > threshold (True) or score >= threshold (False).
    class_f1: what CP, CR and CF1 mean, a key of CLASS_F1.
    never_predicted: a label predicted on no image has precision 0 ("zero"), or is given one false prediction, which
        enters OP as well ("one_false").
    top3: "fixed" predicts the three best labels of each image; "thresholded" only those that also reach the threshold.
    """

    name: str
    source: str
    average_precision: str
    ties: Ties
    unknown_in_ap: Unknown
    unknown_in_f1: Unknown
    absent_labels: AbsentLabels
    threshold: float
    strict: bool
    class_f1: str
    never_predicted: Literal["zero", "one_false"]
    top3: Literal["fixed", "thresholded"]

    def stamp(
        self,
        *,
        image_ids: Sequence[str],
        labels: Sequence[str],
        absent_labels: Sequence[str],
        threshold_rule: str,
        weights_kind: str,
    ) -> dict:
        """What was measured and how, JSON-ready; two results whose stamps differ must not be compared.

        image_ids, labels: in any order; only their sets count.  absent_labels: labels without a known positive.
        threshold_rule: where the thresholds came from.  weights_kind: raw, ema, or "unknown" for foreign scores.
        """
        return {
            **asdict(self),
            "num_images": len(image_ids),
            "images_sha256": _hash_of_set(image_ids),
            "num_labels": len(labels),
            "labels_sha256": _hash_of_set(labels),
            "labels_without_positives": sorted(absent_labels),
            "threshold_rule": threshold_rule,
            "weights_kind": weights_kind,
        }


def _hash_of_set(names: Sequence[str]) -> str:
    """SHA-256 of the sorted names; each is preceded by its length, so that no two sets spell the same text."""
    digest = hashlib.sha256()
    for name in sorted(names):
        encoded = name.encode()
        digest.update(f"{len(encoded)}:".encode() + encoded)
    return digest.hexdigest()


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="tagwright",
            source="this project: unknown is never a negative, ties as scikit-learn, absent labels left out and listed",
            average_precision="all_ranks",
            ties="grouped",
            unknown_in_ap="ignored",
            unknown_in_f1="ignored",
            absent_labels="excluded",
            threshold=0.5,
            strict=False,
            class_f1="harmonic",
            never_predicted="zero",
            top3="fixed",
        ),
        Protocol(
            name="asl",
            source="Alibaba-MIIL/ASL validate.py and its mAP helper",
            average_precision="all_ranks",
            ties="later_first",  # argsort()[::-1]; ours is the stable one, theirs depends on the processor
            unknown_in_ap="absent",
            unknown_in_f1="absent",
            absent_labels="zero",
            threshold=0.8,
            strict=True,
            class_f1="mean",
            never_predicted="zero",
            top3="fixed",
        ),
        Protocol(
            name="mlgcn",
            source="ML-GCN util.py AveragePrecisionMeter(difficult_examples=True)",
            average_precision="all_ranks",
            ties="earlier_first",
            unknown_in_ap="ignored",
            unknown_in_f1="absent",  # its evaluation() counts a predicted difficult object as a false prediction
            absent_labels="undefined",
            threshold=0.5,  # logit >= 0
            strict=False,
            class_f1="harmonic",
            never_predicted="one_false",
            top3="thresholded",
        ),
        Protocol(
            name="otx",
            source="OpenVINO Training Extensions 1.x, through mmcls mAP and average_performance",
            average_precision="all_ranks",
            ties="earlier_first",
            unknown_in_ap="ignored",
            unknown_in_f1="absent",
            absent_labels="zero",
            threshold=0.5,
            strict=False,
            class_f1="harmonic",
            never_predicted="zero",
            top3="fixed",
        ),
        Protocol(
            name="voc07",
            source="PASCAL VOC 2007 development kit, classification; it has no F1 figures, they follow tagwright",
            average_precision="eleven_point",
            ties="earlier_first",
            unknown_in_ap="ignored",
            unknown_in_f1="ignored",
            absent_labels="excluded",
            threshold=0.5,
            strict=False,
            class_f1="harmonic",
            never_predicted="zero",
            top3="fixed",
        ),
    )
}


def protocol_named(name: str) -> Protocol:
    """The protocol of that name. Raises ProtocolError with the nearest known one."""
    if name not in PROTOCOLS:
        raise ProtocolError(f"protocol '{name}' is unknown. {did_you_mean(name, PROTOCOLS)}")
    return PROTOCOLS[name]
