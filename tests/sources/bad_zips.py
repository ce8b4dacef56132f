"""What may be wrong with a zip file: functions of the bytes of a good one."""

from __future__ import annotations

LOCAL, CENTRAL = b"PK\x03\x04", b"PK\x01\x02"


def _field(data: bytes, local: int, central: int, value: int) -> bytes:
    """A 2-byte field of the first member's local and central header, at these offsets, set."""
    changed = bytearray(data)
    for signature, at in ((LOCAL, local), (CENTRAL, central)):
        start = data.index(signature) + at
        changed[start : start + 2] = value.to_bytes(2, "little")
    return bytes(changed)


DAMAGES = {
    "encrypted": lambda data: _field(data, 6, 8, 1),
    "method unknown": lambda data: _field(data, 8, 10, 97),
    "said to be deflated": lambda data: _field(data, 8, 10, 8),
    "name of the member": lambda data: data.replace(b"PK\x03\x04", b"PK\x03\x05", 1),
    "content": lambda data: data.replace(data[60:70], bytes(10), 1),
}
"""{name: damage}; the first member is stored, not compressed, and longer than 70 bytes."""
