"""What people really hand in, a module for each kind of source."""

from tests.sources.bad_input import (
    coco,
    cvat,
    folder,
    label_studio,
    openimages,
    otx,
    predictions,
    url_list,
    via,
    voc,
    xml_beside,
    yolo,
)

BAD_INPUT = {
    "coco": coco.CASES,
    "folder": folder.CASES,
    "openimages": openimages.CASES,
    "yolo": yolo.CASES,
    "via": via.CASES,
    "cvat": cvat.CASES,
    "label_studio": label_studio.CASES,
    "otx": otx.CASES,
    "predictions": predictions.CASES,
    "url_list": url_list.CASES,
    "voc": voc.CASES,
    "xml_beside": xml_beside.CASES,
}
