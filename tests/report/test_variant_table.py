from __future__ import annotations

from tasks.report.variant_table import variant_messages

INT8 = {"mAP": 0.9612, "mAP_points_lost": 0.094, "unlike_decisions": 1203, "images": 500, "size_bytes": 2_500_000}


def test_a_variant_says_what_it_costs():
    assert variant_messages({"variants": {"int8": INT8}}) == {
        "int8": "mAP 0.961, 0.09 points lower; 1,203 decisions on 500 images differ; 2.5 MB"
    }


def test_a_gain_is_called_one():
    assert "0.30 points higher" in variant_messages({"variants": {"fp16": INT8 | {"mAP_points_lost": -0.3}}})["fp16"]


def test_where_map_is_undefined_no_number_is_made_up():
    entry = INT8 | {"mAP": None, "mAP_points_lost": None}
    assert variant_messages({"variants": {"int8": entry}})["int8"].startswith("no label to measure")


def test_without_variants_there_is_nothing_to_say():
    assert variant_messages({"size_bytes": 1}) == {}
