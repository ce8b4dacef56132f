"""`score`: anyone's scores against anyone's labels, and one clear line for every table that does not fit."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.commands.score import score_run
from tasks.core.errors import ProtocolError, TableError
from tasks.core.prediction_table import Predictions, write_predictions
from tasks.evaluation.external_scores import SCORES, STATES, align_scores, read_long_labels, read_long_scores

SCORE_ROWS = [("1", "cat", 0.9), ("1", "dog", 0.2), ("2", "dog", 0.7), ("3", "cat", 0.6), ("extra", "cat", 0.5)]
STATE_ROWS = [("1", "cat", 1), ("1", "dog", 0), ("2", "cat", -1), ("2", "dog", 1), ("3", "cat", 0), ("4", "dog", 1)]


def long(rows, schema):
    columns = [pa.array(column) for column in zip(*rows, strict=True)] if rows else [pa.array([])] * 3
    return pa.table(columns, names=schema.names)


def tables_of(score_rows=SCORE_ROWS, state_rows=STATE_ROWS):
    return long(score_rows, SCORES), long(state_rows, STATES)


def score(predictions, labels, **options):
    return score_run(predictions, labels, **options)[0]


def with_row(rows, *row):
    return [*rows, row]


# ---------------------------------------------------------------- what is tested


def test_missing_scores_are_zero_missing_states_unknown_and_the_images_are_those_of_the_labels():
    aligned = align_scores(*tables_of(), absent_if_missing=False)
    assert (aligned.image_ids, aligned.labels) == (["1", "2", "3", "4"], ["cat", "dog"])
    np.testing.assert_array_equal(aligned.scores_NC, np.float32([[0.9, 0.2], [0, 0.7], [0.6, 0], [0, 0]]))
    np.testing.assert_array_equal(aligned.known_NC, [[1, 1], [0, 1], [1, 0], [0, 1]])
    np.testing.assert_array_equal(aligned.targets_NC[aligned.known_NC], [1, 0, 1, 0, 1])


def test_absent_if_missing_fills_pairs_without_a_row_but_not_those_said_to_be_unknown():
    aligned = align_scores(*tables_of(), absent_if_missing=True)
    np.testing.assert_array_equal(aligned.known_NC, [[1, 1], [0, 1], [1, 1], [1, 1]])
    assert aligned.targets_NC.sum() == 3


def test_the_answer_says_how_many_images_were_tested_and_how_many_were_not():
    assert score(*tables_of())["images"] == {
        "tested": 4,
        "fitted_on": 0,
        "tested_without_any_score": 1,
        "only_in_predictions": 1,
    }


def test_the_answer_is_json_with_map_ap_f1_thresholds_supports_and_protocol():
    result = json.loads(json.dumps(score(*tables_of(), bootstrap=10), allow_nan=False))
    # cat: images 1 yes 0.9, 3 no 0.6 -> AP 1.  dog: 2 yes 0.7, 1 no 0.2, 4 yes 0 -> (1 + 2/3) / 2.
    assert result["labels"]["cat"]["AP"] == 1
    assert result["labels"]["dog"]["AP"] == pytest.approx((1 + 2 / 3) / 2)
    assert result["metrics"]["mAP"] == pytest.approx((1 + (1 + 2 / 3) / 2) / 2)
    # At 0.5: predicted cat on 1 (right) and 3 (wrong), dog on 2 (right); dog on 4 is missed.
    assert (result["metrics"]["OP"], result["metrics"]["OR"]) == pytest.approx((2 / 3, 2 / 3))
    assert result["labels"]["dog"]["positives"] == 2
    assert result["thresholds"]["dog"]["threshold"] == 0.5
    assert result["protocol"]["name"] == "tagwright"
    assert result["protocol"]["num_images"] == 4


def test_the_order_of_rows_does_not_matter():
    assert score(*tables_of()) == score(*tables_of(SCORE_ROWS[::-1], STATE_ROWS[::-1]))


def test_the_fixed_threshold_is_the_protocols_own():
    assert score(*tables_of(), protocol="asl")["thresholds"]["cat"]["threshold"] == 0.8
    assert score(*tables_of(), threshold_options={"threshold": 0.65})["labels"]["cat"]["predicted"] == 1


def made_up(num_images=200, seed=0):
    rng = np.random.default_rng(seed)
    rows = [(str(i), label, int(rng.random() < 0.4)) for i in range(num_images) for label in ("cat", "dog")]
    scored = [(i, label, 0.3 * state + 0.7 * float(rng.random())) for i, label, state in rows]
    return tables_of(scored, rows)


def test_thresholds_are_fitted_on_the_named_images_and_tested_on_the_others():
    fit_on = [str(i) for i in range(0, 200, 2)]
    result, run = score_run(*made_up(), threshold_rule="per_label_f1", fit_on_ids=fit_on)
    assert not set(run.image_ids) & set(fit_on)
    assert result["images"]["tested"] == result["images"]["fitted_on"] == 100
    assert result["labels"]["cat"]["threshold"] == result["thresholds"]["cat"]["threshold"] != 0.5
    assert result["thresholds"]["cat"]["support"] > 20


def test_options_of_a_rule_are_stamped():
    result = score(
        *made_up(),
        threshold_rule="f_beta",
        threshold_options={"beta": 2},
        fit_on_ids=[str(i) for i in range(50)],
    )
    assert result["protocol"]["threshold_rule"] == "f_beta(beta=2)"


def test_the_real_detector_reaches_its_stated_map(real_data):
    folder = real_data / "predictions"
    result = score(
        read_long_scores(folder / "voc2007_test_detector_a.parquet"),
        read_long_labels(folder / "voc2007_test_labels.parquet"),
    )
    assert round(result["metrics"]["mAP"], 4) == 0.9104
    assert result["images"]["tested"] == 4952


# ---------------------------------------------------------------- tables that do not fit

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("score_rows", "state_rows", "message"),
    [
        ([], STATE_ROWS, "predictions: the table has no rows"),
        (SCORE_ROWS, [], "labels: the table has no rows"),
        (
            with_row(SCORE_ROWS, "4", "cat", NAN),
            STATE_ROWS,
            "1 rows have a score that is not a finite number, e.g. nan",
        ),
        (with_row(SCORE_ROWS, "4", "cat", INF), STATE_ROWS, "image '4', label 'cat'"),
        (with_row(SCORE_ROWS, "4", "cat", None), STATE_ROWS, "column 'score' has 1 empty values"),
        (with_row(SCORE_ROWS, None, "cat", 0.5), STATE_ROWS, "column 'image_id' has 1 empty values"),
        (
            SCORE_ROWS,
            with_row(STATE_ROWS, "4", "cat", 2),
            "a state that is not 1 (present), 0 (absent) or -1 (unknown)",
        ),
        (
            with_row(SCORE_ROWS, "1", "cat", 0.1),
            STATE_ROWS,
            "predictions: 1 pairs occur more than once, e.g. image '1'",
        ),
        (SCORE_ROWS, with_row(STATE_ROWS, "1", "cat", 1), "labels: 1 pairs occur more than once, e.g. image '1'"),
        ([("1", "Cat", 0.5)], STATE_ROWS, "no label in common: 'Cat' and 'cat'"),
        ([("a/1.jpg", "cat", 0.5), ("a/1.jpg", "dog", 0.5)], STATE_ROWS, "no image in common: 'a/1.jpg' and '1'"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_in_one_line(score_rows, state_rows, message):
    with pytest.raises(TableError) as caught:
        score(*tables_of(score_rows, state_rows))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_label_that_is_never_predicted_scores_zero_and_a_foreign_one_is_listed():
    result = score(*tables_of(with_row(SCORE_ROWS, "1", "cart", 0.1), with_row(STATE_ROWS, "1", "cow", 1)))
    assert result["label_gaps"] == {"only_in_predictions": ["cart"], "without_any_score": ["cow"]}
    assert "cart" not in result["labels"]
    assert result["labels"]["cow"]["predicted"] == 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"protocol": "als"}, ProtocolError, "Did you mean 'asl'?"),
        ({"threshold_rule": "global"}, ProtocolError, "threshold rule 'global' is unknown. Did you mean 'global_f1'?"),
        ({"threshold_rule": "global_f1"}, ProtocolError, "fitted on the tested images they look better than they are"),
        ({"fit_on_ids": ["1"]}, ProtocolError, "the rule 'fixed' fits nothing"),
        ({"threshold_rule": "global_f1", "fit_on_ids": ["9"]}, TableError, "1 ids to fit on are not in the labels"),
        ({"threshold_rule": "global_f1", "fit_on_ids": []}, ProtocolError, "no image to fit thresholds on"),
        ({"threshold_rule": "global_f1", "fit_on_ids": ["1", "2", "3", "4"]}, ProtocolError, "no image left to test"),
        (
            {"threshold_rule": "f_beta", "fit_on_ids": ["1"], "threshold_options": {"bta": 2}},
            ProtocolError,
            "unknown option 'bta'. Did you mean 'beta'?",
        ),
        (
            {"threshold_rule": "f_beta", "fit_on_ids": ["1"], "threshold_options": {"beta": -1}},
            ProtocolError,
            "beta must be above 0, found -1",
        ),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_in_one_line(options, error, message):
    with pytest.raises(error) as caught:
        score(*tables_of(), **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- files


def write(path, table):
    match path.suffix:
        case ".parquet":
            pq.write_table(table, path)
        case ".csv":
            names = table.column_names
            lines = [",".join(names), *(",".join(str(row[n]) for n in names) for row in table.to_pylist())]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        case ".json":
            path.write_text(json.dumps(table.to_pylist()), encoding="utf-8")
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()), encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".json", ".jsonl"])
def test_every_kind_of_file_gives_the_same_answer(tmp_path, suffix):
    predictions, labels = tables_of()
    read = (
        read_long_scores(write(tmp_path / f"scores{suffix}", predictions)),
        read_long_labels(write(tmp_path / f"labels{suffix}", labels)),
    )
    assert score(*read) == score(predictions, labels)


def test_ids_of_digits_keep_their_zeros_in_csv(tmp_path):
    (tmp_path / "s.csv").write_text("image_id,label,score\n000012,7,0.5\n", encoding="utf-8")
    assert read_long_scores(tmp_path / "s.csv").to_pylist() == [{"image_id": "000012", "label": "7", "score": 0.5}]


def test_ids_that_are_numbers_are_read_as_text(tmp_path):
    pq.write_table(pa.table({"image_id": [12], "label": ["cat"], "score": [0.5]}), tmp_path / "s.parquet")
    assert read_long_scores(tmp_path / "s.parquet")["image_id"].to_pylist() == ["12"]


def test_a_predictions_table_of_the_pipeline_is_read_too(tmp_path):
    scores = np.float32([[0.25, 0.75], [0.5, 1.0]])
    write_predictions(
        tmp_path / "p.parquet", Predictions(["1", "2"], ["test"] * 2, ["cat", "dog"], scores, "abc", "ema")
    )
    read = read_long_scores(tmp_path / "p.parquet")
    assert [tuple(row.values()) for row in read.to_pylist()] == [
        ("1", "cat", 0.25),
        ("1", "dog", 0.75),
        ("2", "cat", 0.5),
        ("2", "dog", 1.0),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "none.csv: no such file"),
        ("empty.csv", "", "empty.csv: the file is empty"),
        ("scores.txt", "x", "expected a file named .parquet, .csv, .json, .jsonl, found '.txt'"),
        (
            "s.csv",
            "image_id,label,confidence\n1,cat,0.5\n",
            "column 'score' is missing; found image_id, label, confidence",
        ),
        ("s.csv", "image_id,label,score\n1,cat,high\n", "not a readable csv file"),
        ("s.csv", "image_id,label,score\n1,cat\n", "not a readable csv file"),
        ("s.json", "[{", "not a readable json file"),
        ("s.json", "[1, 2]", 'expected records such as {"image_id": …, "label": …, "score": …}'),
        ("s.json", '[{"image_id": "1", "label": "cat", "score": "high"}]', "column 'score' is string, expected float"),
        ("s.jsonl", '{"image_id": "1"}\n{"', "not a readable jsonl file"),
        ("s.parquet", "PAR1 no", "not a readable Parquet file"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_what_is_wrong(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(TableError) as caught:
        read_long_scores(path)
    assert message in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_with_a_header_only_is_refused_when_scored(tmp_path):
    (tmp_path / "s.csv").write_text("image_id,label,score\n", encoding="utf-8")
    with pytest.raises(TableError, match="predictions: the table has no rows"):
        score(read_long_scores(tmp_path / "s.csv"), tables_of()[1])


def test_a_state_between_the_states_is_refused(tmp_path):
    (tmp_path / "l.csv").write_text("image_id,label,state\n1,cat,0.5\n", encoding="utf-8")
    with pytest.raises(TableError, match="not a readable csv file"):
        read_long_labels(tmp_path / "l.csv")
