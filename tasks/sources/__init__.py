"""Readers of raw annotations, one module a format: files in, a `RawSource` with the source's own classes out.

To add one: write `tasks/sources/<kind>.py` with `read(name, root, *, options) -> RawSource`, where the options are
keyword-only with defaults (they come from `sources.<name>` in params.yaml), account for every raw row in its counts,
and enter it below. The contract test then runs over it; give it a fixture there and its faults in the bad-input table.
"""

from tasks.sources import (
    coco,
    cvat,
    folder,
    label_studio_json,
    openimages,
    otx,
    predictions,
    url_list,
    via,
    voc,
    xml_beside,
    yolo,
)
from tasks.sources.raw import RAW_IMAGES, RawSource

SOURCES = {
    "coco": coco.read,
    "openimages": openimages.read,
    "voc": voc.read,
    "xml_beside": xml_beside.read,
    "yolo": yolo.read,
    "via": via.read,
    "cvat": cvat.read,
    "label_studio": label_studio_json.read,
    "otx": otx.read,
    "folder": folder.read,
    "url_list": url_list.read,
    "predictions": predictions.read,
}

__all__ = ["RAW_IMAGES", "SOURCES", "RawSource"]
