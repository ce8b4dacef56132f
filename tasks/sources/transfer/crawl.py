"""The addresses of a crawl: the list that names them, and their polite download.

urls.csv         keyword, url (+ licence, attribution, sha256)
images/          one file an address, named by the hash of the address
downloads.jsonl  what became of each address
"""

from __future__ import annotations

import hashlib
import os
import urllib.parse
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tasks.core.errors import SourceError
from tasks.core.image_suffixes import IMAGE_SUFFIXES
from tasks.sources.files import csv_records, existing_file
from tasks.sources.transfer.addresses import is_web, shown
from tasks.sources.transfer.fetch import Request, RetryPolicy
from tasks.sources.transfer.fetch_all import fetch_all

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


def download(
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
    policy = RetryPolicy(
        user_agent=user_agent, retries=retries, timeout_s=timeout_s, min_delay_s=min_delay_s, max_bytes=max_bytes
    )
    requests = [Request(a.url, root / images / a.file_name, a.sha256) for a in addresses]
    results = fetch_all(requests, root / JOURNAL, policy, connections=connections, what=f"crawl of {root.name}")
    return Counter(result.status for result in results)


def read_urls(path: Path) -> tuple[list[Address], int]:
    """Distinct addresses in order of the list, with all keywords of each, and the number of rows.

    Raises SourceError for an address that is not http(s), an empty keyword, or facts about an address that disagree.
    """
    addresses: dict[str, Address] = {}
    num_rows = 0
    for line, row in csv_records(path, ["keyword", "url"]):
        num_rows += 1
        url, keyword = row["url"].strip(), row["keyword"].strip()
        if not is_web(url):
            raise SourceError(
                f"{path}:{line}: url is {shown(url)!r}, expected an http or https address. Correct the row."
            )
        if not keyword:
            raise SourceError(f"{path}:{line}: keyword is empty. Correct the row.")
        address = addresses.setdefault(url, Address(url))
        if keyword not in address.keywords:
            address.keywords.append(keyword)
        for fact in ("licence", "attribution", "sha256"):
            value = (row.get(fact) or "").strip()
            if value and getattr(address, fact) not in (None, "", value):
                raise SourceError(
                    f"{path}:{line}: {fact} of {shown(url)} is {value!r}, above it was {getattr(address, fact)!r}."
                )
            if value:
                setattr(address, fact, value)
    return list(addresses.values()), num_rows
