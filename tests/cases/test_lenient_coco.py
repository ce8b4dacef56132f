"""Cases: fields of a COCO file that image labels do not need never refuse it."""

from __future__ import annotations

import pytest

from tasks.sources import coco
from tests.sources import deliveries
from tests.sources.deliveries import check_source, coco_document, source_pairs, write_json

ODD = {
    "iscrowd null": lambda d: [a.update(iscrowd=None) for a in d["annotations"] if not a["iscrowd"]],
    "iscrowd false and true": lambda d: [a.update(iscrowd=bool(a["iscrowd"])) for a in d["annotations"]],
    "area a list": lambda d: d["annotations"][0].update(area=[25]),
    "area null": lambda d: d["annotations"][0].update(area=None),
    "area text": lambda d: d["annotations"][0].update(area="25"),
    "licenses null": lambda d: d.update(licenses=None),
    "no licenses": lambda d: d.pop("licenses"),
    "segmentation of another kind": lambda d: d["annotations"][0].update(segmentation={"counts": "x", "size": [1, 2]}),
    "NaN as Python writes it": lambda d: d["annotations"][0].update(area=float("nan"), bbox=[0, 0, float("inf"), 1]),
    "ids as pandas writes them": lambda d: [
        a.update(category_id=float(a["category_id"]), image_id=float(a["image_id"])) for a in d["annotations"]
    ],
    "ids of categories as pandas writes them": lambda d: [c.update(id=float(c["id"])) for c in d["categories"]],
    "info null": lambda d: d.update(info=None),
    "bbox text": lambda d: d["annotations"][0].update(bbox="1,2,3,4"),
}


@pytest.mark.parametrize("change", ODD.values(), ids=ODD)
def test_a_field_that_labels_do_not_need_does_not_refuse_the_file(tmp_path, change):
    options = deliveries.coco(tmp_path)
    expected = source_pairs(coco.read("s", tmp_path, **options).labels)
    document = coco_document()
    change(document)
    write_json(tmp_path / "annotations/instances.json", document)
    raw = coco.read("s", tmp_path, **options)
    assert source_pairs(raw.labels) == expected
    check_source(raw, "s")


def test_a_name_that_holds_nan_stays_as_it_is(tmp_path):
    document = coco_document()
    document["images"][0]["file_name"] = 'x, NaN, \\"Infinity.jpg'
    document["annotations"][0]["area"] = float("nan")
    write_json(tmp_path / "annotations/instances.json", document)
    uris = coco.read("s", tmp_path).images["uri"].to_pylist()
    assert uris[0].endswith('x, NaN, \\"Infinity.jpg')
