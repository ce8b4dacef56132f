"""What people hand in: Open Images CSVs."""

from __future__ import annotations

from tests.sources.bad_input.case import Case, remove, text

HUMAN = "ImageID,Source,LabelName,Confidence\n"


CASES = [
    Case("no file", remove("human.csv"), ("human.csv: no such file", "'labels'")),
    Case("empty file", text("human.csv", ""), ("human.csv: empty file",)),
    Case("only a header", text("human.csv", HUMAN)),
    Case(
        "wrong header",
        text("human.csv", "ImageId,Source,LabelName,Confidence\na,b,c,1\n"),
        ("human.csv:1", "no column 'ImageID'", "'ImageId'"),
    ),
    Case("BOM and CRLF", text("human.csv", (HUMAN + "a,v,/m/x,1\n").replace("\n", "\r\n"), "utf-8-sig")),
    Case("no line break at the end", text("human.csv", HUMAN + "a,v,/m/x,1")),
    Case(
        "truncated row",
        text("human.csv", HUMAN + "a,v,/m/x,1\nb,v"),
        ("human.csv:3", "2 values under 4 columns"),
    ),
    Case(
        "too many values",
        text("human.csv", HUMAN + "a,v,/m/x,1,9\n"),
        ("human.csv:2", "5 values under 4 columns"),
    ),
    Case(
        "confidence is no number",
        text("human.csv", HUMAN + "a,v,/m/x,1\nb,v,/m/x,yes\n"),
        ("human.csv:3", "Confidence", "'yes' is no number"),
    ),
    Case(
        "confidence NaN",
        text("human.csv", HUMAN + "a,v,/m/x,nan\n"),
        ("human.csv", "row 1", "Confidence nan"),
    ),
    Case(
        "machine labels given as human",
        text("human.csv", HUMAN + "a,v,/m/x,0.7\n"),
        ("row 1", "0.7", "machine_labels"),
    ),
    Case(
        "machine confidence above 1",
        text("machine.csv", HUMAN + "aa,m,/m/x,1.5\n"),
        ("machine.csv", "row 1", "[0, 1]"),
    ),
    Case("no image id", text("human.csv", HUMAN + ",v,/m/x,1\n"), ("human.csv:2", "ImageID: empty")),
    Case("ids that look like numbers", text("human.csv", HUMAN + "000123,v,/m/x,1\n1e5,v,/m/x,1\n")),
    Case("id with a slash", text("human.csv", HUMAN + "a/b,v,/m/x,1\n")),
    Case(
        "id that leads out",
        text("human.csv", HUMAN + "../../x,v,/m/x,1\n"),
        ("refused image name", "../../x"),
    ),
    Case("odd labels", text("human.csv", HUMAN + 'a,v,__proto__,1\na,v,../x,0\na,v,"a, ""b"" 🎈",1\n')),
    Case("duplicate rows", text("human.csv", HUMAN + "a,v,/m/x,1\n" * 3)),
    Case("negative boxes", text("boxes.csv", "ImageID,LabelName,XMin,IsGroupOf\naa,/m/x,-0.5,-1\n")),
    Case(
        "box flags missing where they count",
        text("boxes.csv", "ImageID,LabelName\naa,/m/x\n"),
        ("boxes.csv:1", "no column 'IsGroupOf'"),
    ),
    Case(
        "not UTF-8",
        text("classes.csv", "LabelName,DisplayName\n/m/1,Caf\xe9\n", "latin-1"),
        ("classes.csv", "not UTF-8"),
    ),
    Case(
        "class with two names",
        text("classes.csv", "/m/1,a\n/m/1,b\n"),
        ("classes.csv:2", "'/m/1'", "'a' and 'b'"),
    ),
    Case("class name with a bare comma", text("classes.csv", "/m/1,a, b\n"), ("classes.csv:1", "3 values")),
    Case(
        "class file with another header",
        text("classes.csv", "MID,Name\n/m/1,a\n"),
        ("classes.csv:1", "LabelName,DisplayName"),
    ),
    Case("class file empty", text("classes.csv", ""), ("classes.csv: empty file",)),
    Case(
        "no images folder and no address",
        says=("neither a folder", "OriginalURL"),
        options={"images": ""},
    ),
    Case(
        "an image in two splits",
        text("t.csv", HUMAN + "aa,v,/m/x,1\n"),
        ("'aa'", "two splits"),
        {"labels": {"a": "human.csv", "b": "t.csv"}},
    ),
    Case(
        "image list with an id twice",
        text("l.csv", "ImageID\naa\naa\n"),
        ("l.csv", "'aa' occurs twice"),
        {"image_list": "l.csv"},
    ),
]
