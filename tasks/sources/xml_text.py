"""XML as tools write it: any declared encoding, byte-order marks, and no entities."""

from __future__ import annotations

import codecs
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from tasks.core.errors import SourceError

ENCODINGS = {"ansi": "cp1252", "gb2312": "gb18030", "gbk": "gb18030", "unicode": "utf-16"}
"""What a declared encoding is read as: names that Python lacks, and the larger set that holds a smaller one."""


def read_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file.

    Raises SourceError when it does not parse or declares entities (no annotation tool's file does: they serve to
    exhaust memory or to read other files).
    """
    text = _xml_text(path)
    if "<!ENTITY" in text:
        raise SourceError(f"{path}: refused: it declares XML entities. Fetch it from a source you trust.")
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise SourceError(f"{path}: not valid XML ({error}). Fetch it again.") from error


def _xml_text(path: Path) -> str:
    """The text of an XML file by its byte-order mark or its declaration, without the declaration; UTF-8 by default."""
    data = path.read_bytes()
    declared = re.match(rb"""\s*<\?xml[^>]*?encoding\s*=\s*["']([^"']+)["']""", data)
    encoding = declared.group(1).decode("ascii", "replace").lower() if declared else "utf-8"
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        encoding = "utf-16"
    elif data.startswith(codecs.BOM_UTF8):
        encoding = "utf-8-sig"
    try:
        text = data.decode(ENCODINGS.get(encoding, encoding))
    except LookupError as error:
        raise SourceError(f"{path}: encoding {encoding!r} is unknown. Save the file as UTF-8.") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: not valid XML: no {encoding} text ({error.reason}). Save it as UTF-8.") from error
    return re.sub(r"^\s*<\?xml.*?\?>", "", text, count=1, flags=re.DOTALL)
