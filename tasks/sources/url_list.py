"""A crawl: a list of addresses found for keywords, downloaded politely, entering as unverified proposals.

    urls.csv        keyword, url (+ licence, attribution, sha256)
    images/         one file an address, named by the hash of the address
    downloads.jsonl what became of each address

`fetch` downloads and is run by a person; `read` only looks at what is there. That an address was found for a keyword
does not make the keyword true of the picture: its origin is `keyword`, and it waits for a model or a person to confirm.
"""

from __future__ import annotations

import hashlib
import os
import urllib.parse
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tasks.core.errors import SourceError
from tasks.sources.files import csv_records, existing_file, image_folder
from tasks.sources.folder import IMAGE_SUFFIXES
from tasks.sources.raw import RawSource, images_table, labels_table
from tasks.sources.transfer.fetch import Request, RetryPolicy
from tasks.sources.transfer.public_sets import fetch_all, read_journal

JOURNAL = "downloads.jsonl"


@dataclass
class Address:
    """One address and everything the list says about it."""

    url: str
    keywords: list[str] = field(default_factory=list)
    licence: str | None = None
    attribution: str | None = None
    sha256: str = ""

    @property
    def native_id(self) -> str:
        return hashlib.sha256(self.url.encode()).hexdigest()[:20]

    @property
    def file_name(self) -> str:
        suffix = os.path.splitext(urllib.parse.urlsplit(self.url).path)[1].lower()
        return self.native_id + (suffix if suffix in IMAGE_SUFFIXES else "")


def read(name: str, root: Path, *, urls: str = "urls.csv", images: str = "images") -> RawSource:
    """What `fetch` has brought so far; addresses that it could not bring are left out and counted by reason.

    urls: CSV under `root`.  images: folder under `root`.  Native ids are hashes of the address.
    Raises SourceError naming file and line.
    """
    root = Path(root)
    addresses, num_rows = read_urls(existing_file(root, urls, option="urls"))
    journal = read_journal(root / JOURNAL)
    missing = Counter(journal[a.url].status if a.url in journal else "not asked for yet" for a in addresses)
    have = [a for a in addresses if a.url in journal and journal[a.url].status == "ok"]
    keywords = sorted({keyword for a in addresses for keyword in a.keywords})
    position = {keyword: j for j, keyword in enumerate(keywords)}
    cells = [i * len(keywords) + position[keyword] for i, a in enumerate(have) for keyword in a.keywords]
    folder = image_folder(root, images)
    table = images_table(
        name,
        [a.native_id for a in have],
        [f"{folder}/{a.file_name}" for a in have],
        licence=[a.licence for a in have],
        attribution=[a.attribution or a.url for a in have],
    )
    stated = sum(len(a.keywords) for a in addresses)
    dropped = [("images", n, f"not downloaded: {status}") for status, n in sorted(missing.items()) if status != "ok"]
    dropped += [
        ("labels", stated - len(cells), "keyword of an image that was not downloaded"),
        ("labels", num_rows - stated, "repeats a keyword of the same address"),
    ]
    return RawSource(
        images=table,
        labels=labels_table(table["image_id"], keywords, np.sort(np.asarray(cells, np.int64)), origin="keyword"),
        coverage=[],
        vocabulary={keyword: keyword for keyword in keywords},
        num_in=[("images", len(addresses)), ("labels", num_rows)],
        dropped=[row for row in dropped if row[1]],
    )


def fetch(
    root: Path,
    *,
    urls: str = "urls.csv",
    images: str = "images",
    min_delay_s: float = 1.0,
    connections: int = 8,
    retries: int = 3,
    timeout_s: float = 30.0,
    max_bytes: int = 50_000_000,
    user_agent: str = RetryPolicy.user_agent,
) -> Counter[str]:
    """Download the addresses of the list; run it again to go on where it stopped. Returns counts of ok, gone, failed.

    min_delay_s: between two requests to one host.  connections: at a time, over all hosts.  max_bytes: of one image.
    user_agent: say who you are and how to reach you.
    """
    root = Path(root)
    addresses, _ = read_urls(existing_file(root, urls, option="urls"))
    manners = RetryPolicy(
        user_agent=user_agent, retries=retries, timeout_s=timeout_s, min_delay_s=min_delay_s, max_bytes=max_bytes
    )
    wanted = [Request(a.url, root / images / a.file_name, a.sha256) for a in addresses]
    outcomes = fetch_all(wanted, root / JOURNAL, manners, connections=connections, what=f"crawl of {root.name}")
    return Counter(outcome.status for outcome in outcomes)


def read_urls(path: Path) -> tuple[list[Address], int]:
    """Distinct addresses in order of the list, with all keywords of each, and the number of rows.

    Raises SourceError for an address that is not http(s), an empty keyword, or facts about an address that disagree.
    """
    addresses: dict[str, Address] = {}
    num_rows = 0
    for line, row in csv_records(path, ["keyword", "url"]):
        num_rows += 1
        url, keyword = row["url"].strip(), row["keyword"].strip()
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise SourceError(f"{path}:{line}: url is {url!r}, expected an http or https address. Correct the row.")
        if not keyword:
            raise SourceError(f"{path}:{line}: keyword is empty. Correct the row.")
        address = addresses.setdefault(url, Address(url))
        if keyword not in address.keywords:
            address.keywords.append(keyword)
        for fact in ("licence", "attribution", "sha256"):
            given = (row.get(fact) or "").strip()
            if given and getattr(address, fact) not in (None, "", given):
                raise SourceError(
                    f"{path}:{line}: {fact} of {url} is {given!r}, above it was {getattr(address, fact)!r}."
                )
            if given:
                setattr(address, fact, given)
    return list(addresses.values()), num_rows
