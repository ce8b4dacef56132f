"""What people hand in: folders and their table of labels."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from tests.sources.bad_input.case import Case, text

CASES = [
    Case("no folder", says=("no such folder",), options={"manifest": "", "images": "nope"}),
    Case(
        "no image column",
        text("manifest.csv", "place,present\na.jpg,cat\n"),
        ("manifest.csv:1", "no column 'image'"),
    ),
    Case("empty manifest", text("manifest.csv", ""), ("manifest.csv: empty file",)),
    Case("BOM and CRLF", text("manifest.csv", "image,present,absent,unknown\r\na.jpg,cat,,\r\n", "utf-8-sig")),
    Case(
        "label present and absent",
        text("manifest.csv", "image,present,absent\na.jpg,cat|dog,dog\n"),
        ("manifest.csv:2", "'dog' is both present and absent"),
    ),
    Case(
        "image listed twice",
        text("manifest.csv", "image,present\na.jpg,cat\na.jpg,dog\n"),
        ("manifest.csv:3", "'a.jpg'", "manifest.csv:2"),
    ),
    Case("short row", text("manifest.csv", "image,present\na.jpg\n"), ("manifest.csv:2", "1 values under 2")),
    Case(
        "unclosed quote",
        text("manifest.csv", 'image,present\na.jpg,"cat\n'),
        ("manifest.csv", "not valid CSV"),
    ),
    Case(
        "image that leads out",
        text("manifest.csv", "image,present\n../a.jpg,cat\n"),
        ("manifest.csv:2", "refused"),
    ),
    Case("image without name", text("manifest.csv", "image,present\n,cat\n"), ("manifest.csv:2", "image is ''")),
    Case(
        "a column that means nothing",
        text("manifest.csv", "image,present,lables\na.jpg,cat,dog\n"),
        ("manifest.csv:1", "column 'lables' means nothing", "'labels'", "ignore_columns"),
    ),
    Case(
        "a column that means nothing, declared so",
        text("manifest.csv", "image,present,lables\na.jpg,cat,dog\n"),
        options={"ignore_columns": ["lables"]},
    ),
    Case(
        "a column of marks beside labels",
        text("manifest.csv", "image,label,front\na.jpg,cat,1\n"),
        ("column 'front' means nothing",),
    ),
    Case(
        "a class's column with a count",
        text("_classes.csv", "filename, cat, dog\na.jpg, 1, 2\n"),
        ("column 'dog' means nothing", "' 2'", "_classes.csv:2"),
        {"manifest": "_classes.csv"},
    ),
    Case(
        "two columns of images",
        text("manifest.csv", "file,path,label\na.jpg,b.jpg,cat\n"),
        ("'file' and 'path'", "ignore_columns"),
    ),
    Case(
        "labels cut by commas",
        text("manifest.csv", 'image,labels\na.jpg,"cat,dog"\n'),
        ("manifest.csv:2", "'cat,dog' one label or several", "separator"),
    ),
    Case(
        "labels with commas",
        text("manifest.csv", 'image,labels\na.jpg,"cat,dog"\n'),
        options={"separator": "|"},
    ),
    Case(
        "labels cut by two signs",
        text("manifest.csv", 'image,labels\na.jpg,"cat,dog"\nb.jpg,cat;dog\n'),
        ("manifest.csv:3", "'cat;dog' one label or several"),
        {"separator": ","},
    ),
    Case(
        "several columns that mean nothing",
        text("manifest.csv", "image,label,site,observer\na.jpg,cat,1,ann\n"),
        ("column 'site' means nothing", "`ignore_columns: [site, observer]`"),
    ),
    Case(
        "scores in columns of classes",
        text("manifest.csv", "image,cat,dog\na.jpg,0.9,0.1\n"),
        ("column 'cat'", "'0.9'", "Columns of classes hold 1, 0, -1 or nothing"),
    ),
    Case(
        "1 and -1 in columns of classes",
        text("manifest.csv", "image,cat,dog\na.jpg,1,-1\n"),
        ("never 0", "`minus_one: absent`"),
    ),
    Case(
        "1 and -1 in columns of classes, declared",
        text("manifest.csv", "image,cat,dog\na.jpg,1,-1\n"),
        options={"minus_one": "absent"},
    ),
    Case("a wrong minus_one", says=("'minus_one' is 'absnt'", "'absent'"), options={"minus_one": "absnt"}),
    Case(
        "a misspelt split",
        text("manifest.csv", "image,label,split\na.jpg,cat,tset\n"),
        ("official split 'tset'", "'test'"),
    ),
    Case(
        "ignored column that is not there",
        says=("'ignore_columns': no column 'lables'",),
        options={"ignore_columns": ["lables"]},
    ),
    Case(
        "not Parquet",
        text("m.parquet", "oops"),
        ("m.parquet: not a readable Parquet file",),
        {"manifest": "m.parquet"},
    ),
    Case(
        "numbers as labels",
        lambda root: pq.write_table(pa.table({"image": ["a"], "present": [7]}), root / "m.parquet"),
        ("m.parquet:1", "present is 7"),
        {"manifest": "m.parquet"},
    ),
    Case("wrong value of labels", says=("'labels'", "'folders'"), options={"labels": "folder"}),
]
