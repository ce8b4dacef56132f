"""Downloads of raw files, which a person runs before `ingest`: one file, many files, and whole data sets.

To add one: write `tasks/sources/transfer/<kind>.py` with a function `(root, *, options)`, where the options are
keyword-only with defaults (they come from `download.<name>` in params.yaml), and enter it below. It takes the addresses
as options, and run again it goes on where it stopped.
"""

from tasks.sources.transfer import crawl, public_sets

DOWNLOADERS = {"coco": public_sets.coco, "openimages": public_sets.openimages, "url_list": crawl.download}

__all__ = ["DOWNLOADERS"]
