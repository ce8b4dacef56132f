"""Metrics of anyone's scores against anyone's labels, under a named protocol.

Axes: N images, C labels. The test images are those of the labels table, in the order of their ids, less those that the
thresholds are fitted on. A pair without a score scores 0, a pair without a state is unknown. Images that only the
predictions hold are counted in the answer but not tested.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import typer

from tasks.commands import print_json, read_lines
from tasks.core.errors import ProtocolError, TableError, did_you_mean
from tasks.evaluation.external_scores import AlignedScores, align_scores, read_long_labels, read_long_scores
from tasks.evaluation.measure import evaluate
from tasks.evaluation.scored_run import ScoredRun, write_scored_run
from tasks.metrics.protocols import protocol_named
from tasks.thresholds import RULES
from tasks.thresholds.document import thresholds_by_label
from tasks.thresholds.fit import FittedThresholds, fit


def score_run(
    predictions: pa.Table,
    labels: pa.Table,
    *,
    protocol: str = "tagwright",
    threshold_rule: str = "fixed",
    threshold_options: Mapping[str, float] | None = None,
    fit_on_ids: Sequence[str] | None = None,
    absent_if_missing: bool = False,
    bootstrap: int = 0,
    seed: int = 0,
) -> tuple[dict, ScoredRun]:
    """Compare long scores with long labels: a JSON-ready result, and the run for a later `compare`.

    predictions: SCORES.  labels: STATES.  protocol: a key of PROTOCOLS.
    threshold_rule: a key of RULES; "fixed" takes the protocol's threshold unless `threshold_options` name another.
    fit_on_ids: images to fit the thresholds on; they are not tested. Every rule but "fixed" needs them.
    absent_if_missing: the labels are exhaustive, so that a pair without a row is absent, not unknown.
    bootstrap: resamples for 95 % intervals, 0 for none.  seed: of the resampling.
    The result is that of `evaluate`, with "thresholds" {label: {threshold, support, reason, …}} and "images" (counts).
    Raises TableError for tables that do not fit each other; ProtocolError for an unknown protocol or rule, and for
    thresholds that would be fitted on the images they are tested on.
    """
    named = protocol_named(protocol)
    aligned = align_scores(predictions, labels, absent_if_missing=absent_if_missing)
    rows_to_fit, rows_to_test = _divided(aligned.image_ids, threshold_rule, fit_on_ids)
    options = ({"threshold": named.threshold} if threshold_rule == "fixed" else {}) | dict(threshold_options or {})
    fitted = _thresholds(aligned, rows_to_fit, threshold_rule, options)
    arrays = [matrix[rows_to_test] for matrix in (aligned.scores_NC, aligned.targets_NC, aligned.known_NC)]
    test_ids = [aligned.image_ids[i] for i in rows_to_test]
    result = evaluate(
        *arrays,
        aligned.labels,
        test_ids,
        fitted.values_C,
        protocol=protocol,
        threshold_rule=f"{threshold_rule}({', '.join(f'{k}={v:g}' for k, v in sorted(options.items()))})",
        bootstrap=bootstrap,
        seed=seed,
    )
    result["protocol"]["absent_if_missing"] = absent_if_missing
    result["thresholds"] = thresholds_by_label(fitted, aligned.labels)
    result["images"] = {
        "tested": len(rows_to_test),
        "fitted_on": len(rows_to_fit),
        "tested_without_any_score": int(np.count_nonzero(~aligned.has_score_N[rows_to_test])),
        "only_in_predictions": aligned.num_only_in_predictions,
    }
    result["label_gaps"] = aligned.label_gaps
    return result, ScoredRun(test_ids, aligned.labels, *arrays, fitted.values_C, None, result["protocol"])


def _divided(image_ids: list[str], rule: str, fit_on_ids: Sequence[str] | None) -> tuple[np.ndarray, np.ndarray]:
    """Rows to fit thresholds on and rows to test. Raises ProtocolError when the two would not be apart."""
    if rule not in RULES:
        raise ProtocolError(f"threshold rule '{rule}' is unknown. {did_you_mean(rule, RULES)}")
    if rule == "fixed":
        if fit_on_ids is not None:
            raise ProtocolError(
                "the rule 'fixed' fits nothing: leave out the images to fit on, or choose another rule."
            )
        return np.arange(0), np.arange(len(image_ids))
    if fit_on_ids is None:
        raise ProtocolError(
            f"the rule '{rule}' fits thresholds, and fitted on the tested images they look better than they are: "
            "name other images to fit on (--fit-on IDS.txt, one id a line)."
        )
    foreign = sorted(set(fit_on_ids) - set(image_ids))
    if foreign:
        near = did_you_mean(foreign[0], image_ids)
        raise TableError(f"{len(foreign)} ids to fit on are not in the labels, e.g. '{foreign[0]}'. {near}")
    fits = np.isin(np.asarray(image_ids, dtype=object), np.asarray(list(fit_on_ids), dtype=object))
    if not fits.any() or fits.all():
        left = "no image to fit thresholds on" if not fits.any() else "no image left to test"
        raise ProtocolError(f"the ids to fit on leave {left}. List a part of the {len(image_ids)} labelled images.")
    return np.flatnonzero(fits), np.flatnonzero(~fits)


def _thresholds(aligned: AlignedScores, rows: np.ndarray, rule: str, options: dict[str, float]) -> FittedThresholds:
    known = [field.name for field in fields(RULES[rule]) if field.kw_only]
    foreign = sorted(set(options) - set(known))
    if foreign:
        near = did_you_mean(foreign[0], known) or "It has none."
        raise ProtocolError(f"threshold rule '{rule}': unknown option '{foreign[0]}'. {near}")
    try:
        made = RULES[rule](**options)
    except ValueError as error:
        raise ProtocolError(f"threshold rule '{rule}': {error}") from error
    return fit(made, aligned.scores_NC[rows], aligned.targets_NC[rows], aligned.known_NC[rows])


def command(
    predictions: Annotated[Path, typer.Option(help="table of image_id, label, score; a missing pair scores 0")],
    labels: Annotated[Path, typer.Option(help="table of image_id, label, state: 1, 0, or -1 unknown")],
    protocol: Annotated[str, typer.Option(help="tagwright, asl, mlgcn, otx or voc07")] = "tagwright",
    thresholds: Annotated[str, typer.Option(help="a rule of tasks/thresholds")] = "fixed",
    fit_on: Annotated[Path | None, typer.Option(help="image ids to fit thresholds on, one a line")] = None,
    absent_if_missing: Annotated[bool, typer.Option(help="the labels are exhaustive: no row is absent")] = False,
    bootstrap: Annotated[int, typer.Option(min=0, help="resamples for 95 % intervals")] = 0,
    save: Annotated[Path | None, typer.Option(help="write the scored run here, for `compare`")] = None,
) -> None:
    """Metrics of any scores against any labels, as one JSON object.

    Example: python -m tasks score --predictions scores.csv --labels labels.csv
    """
    result, run = score_run(
        read_long_scores(predictions),
        read_long_labels(labels),
        protocol=protocol,
        threshold_rule=thresholds,
        fit_on_ids=read_lines(fit_on) if fit_on else None,
        absent_if_missing=absent_if_missing,
        bootstrap=bootstrap,
    )
    if save:
        write_scored_run(save, run)
    print_json({**result.pop("metrics"), **result})  # headline numbers first: {"mAP": …, "OF1": …, "labels": {…}, …}
