"""A crawl as a source: pictures found for keywords, entering as unverified proposals.

`python -m tasks download` brings the files (tasks/sources/transfer/crawl.py); `read` only looks at what is there. That
an address was found for a keyword does not make the keyword true of the picture: its origin is `keyword`, and it waits
for a model or a person to confirm.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from tasks.sources.files import existing_file, image_folder
from tasks.sources.raw import RawSource, images_table, labels_table
from tasks.sources.transfer.addresses import shown
from tasks.sources.transfer.crawl import JOURNAL, read_urls
from tasks.sources.transfer.fetch_all import read_journal


def read(name: str, root: Path, *, urls: str = "urls.csv", images: str = "images") -> RawSource:
    """What `download` has brought so far; addresses that it could not bring are left out and counted by reason.

    urls: CSV under `root`.  images: folder under `root`.  Native ids are hashes of the address.
    Raises SourceError naming file and line.
    """
    root = Path(root)
    addresses, num_rows = read_urls(existing_file(root, urls, option="urls"))
    journal = read_journal(root / JOURNAL)
    missing = Counter(
        journal[place].status if (place := shown(a.url)) in journal else "not asked for yet" for a in addresses
    )
    have = [a for a in addresses if (place := shown(a.url)) in journal and journal[place].status == "ok"]
    keywords = sorted({keyword for a in addresses for keyword in a.keywords})
    position = {keyword: j for j, keyword in enumerate(keywords)}
    entries = [i * len(keywords) + position[keyword] for i, a in enumerate(have) for keyword in a.keywords]
    folder = image_folder(root, images)
    table = images_table(
        name,
        [a.native_id for a in have],
        [f"{folder}/{a.file_name}" for a in have],
        licence=[a.licence for a in have],
        attribution=[a.attribution or shown(a.url) for a in have],
    )
    num_pairs = sum(len(a.keywords) for a in addresses)
    dropped = [("images", n, f"not downloaded: {status}") for status, n in sorted(missing.items()) if status != "ok"]
    dropped += [
        ("labels", num_pairs - len(entries), "keyword of an image that was not downloaded"),
        ("labels", num_rows - num_pairs, "repeats a keyword of the same address"),
    ]
    return RawSource(
        images=table,
        labels=labels_table(table["image_id"], keywords, np.sort(np.asarray(entries, np.int64)), origin="keyword"),
        coverage=[],
        vocabulary={keyword: keyword for keyword in keywords},
        num_in=[("images", len(addresses)), ("labels", num_rows)],
        dropped=[row for row in dropped if row[1]],
    )
