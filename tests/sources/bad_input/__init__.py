"""What people really hand in, a module for each kind of source."""

from tests.sources.bad_input import coco, folder, openimages, otx, predictions, url_list, voc, xml_beside

BAD_INPUT = {
    "coco": coco.CASES,
    "folder": folder.CASES,
    "openimages": openimages.CASES,
    "otx": otx.CASES,
    "predictions": predictions.CASES,
    "url_list": url_list.CASES,
    "voc": voc.CASES,
    "xml_beside": xml_beside.CASES,
}
