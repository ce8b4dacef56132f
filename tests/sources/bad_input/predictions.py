"""What people hand in: predictions of vendors and models."""

from __future__ import annotations

from tests.sources.bad_input.case import Case, remove, text, truncated

CASES = [
    Case("no file", remove("vendor.json"), ("vendor.json: no such file",)),
    Case("empty file", text("vendor.json", ""), ("vendor.json: empty file",)),
    Case("truncated", truncated("vendor.json"), ("vendor.json", "not valid JSON")),
    Case("a number", text("vendor.json", "5"), ("vendor.json", "found int")),
    Case("names are no names", text("vendor.json", '{"1": "cat"}'), ("image '1'", '"cat"')),
    Case("null name", text("vendor.json", '{"1": [null]}'), ("image '1'", "label is None")),
    Case(
        "score NaN",
        text("p.csv", "image_id,label,score\n1,cat,nan\n"),
        ("p.csv: line 2", "nan is outside [0, 1]"),
        {"file": "p.csv"},
    ),
    Case(
        "score in percent",
        text("p.csv", "image_id,label,score\n1,cat,87\n"),
        ("line 2", "Divide percentages by 100"),
        {"file": "p.csv"},
    ),
    Case(
        "score is no number",
        text("p.csv", "image_id,label,score\n1,cat,high\n"),
        ("line 2", "'high' is no number"),
        {"file": "p.csv"},
    ),
    Case(
        "no label column",
        text("p.csv", "image_id,etikett\n1,cat\n"),
        ("p.csv: no column label",),
        {"file": "p.csv"},
    ),
    Case(
        "BOM, CRLF, quotes and emoji",
        text("p.csv", 'image_id,label\r\n1,"cat, ""tabby"" 🐈"\r\n', "utf-8-sig"),
        options={"file": "p.csv"},
    ),
    Case(
        "other names for the columns, and semicolons",
        text("p.csv", "File Name;Class;Confidence\r\n1;cat;0.9\r\n", "utf-8-sig"),
        options={"file": "p.csv"},
    ),
    Case(
        "unknown format",
        text("p.xml", "<a/>"),
        ("p.xml", "Use .csv, .json or .parquet"),
        {"file": "p.xml"},
    ),
    Case("origin of nobody", says=("origin is 'acme'", "vendor:<name>"), options={"origin": "acme"}),
    Case("odd names", text("vendor.json", '{"a/b": ["__proto__", "../x", "number 4 "]}')),
    Case("number as id", text("vendor.json", '[{"image_id": 7, "label": "cat", "score": 1}]')),
    Case("record without label", text("vendor.json", '[{"image_id": 7}]'), ("no column label",)),
]
