"""Readers of raw annotations, one module a format: files in, a `RawSource` in the source's own vocabulary out.

To add one: write `tasks/sources/<kind>.py` with `read(name, root, *, options) -> RawSource`, where the options are
keyword-only with defaults (they come from `sources.<name>` in params.yaml), account for every raw row in its counts,
and enter it below. The contract test then runs over it; give it a fixture there and its faults in the bad-input table.
"""

from tasks.demo import digits, symbols
from tasks.sources import coco, folder, openimages, otx, predictions, url_list, voc
from tasks.sources.raw import RAW_IMAGES, RawSource
from tasks.sources.transfer import public_sets as download

SOURCES = {
    "coco": coco.read,
    "openimages": openimages.read,
    "voc": voc.read,
    "otx": otx.read,
    "folder": folder.read,
    "url_list": url_list.read,
    "predictions": predictions.read,
}

DEMOS = {"digits": digits.write, "symbols": symbols.write}
"""Embedded data sets, written to disk in the suppliers' own formats: `write(out, *, seed, options)`."""

DOWNLOADERS = {"coco": download.coco, "openimages": download.openimages, "url_list": url_list.fetch}
"""What a person runs before `ingest`, where the files are not at hand: `downloader(root, *, options)`."""

__all__ = ["DEMOS", "DOWNLOADERS", "RAW_IMAGES", "SOURCES", "RawSource"]
