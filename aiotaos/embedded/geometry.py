"""Well-known text to well-known binary, for GEOMETRY literals."""

from __future__ import annotations

import re
import struct

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_POINT = re.compile(rf"\s*({_NUMBER})\s+({_NUMBER})\s*")
_TEXT = re.compile(r"\s*(POINT|LINESTRING|POLYGON)\s*\((.*)\)\s*", re.IGNORECASE | re.DOTALL)
_RINGS = re.compile(r"\s*\(([^()]*)\)\s*(?:,(?=\s*\()|$)")
_CODES = {"POINT": 1, "LINESTRING": 2, "POLYGON": 3}
_MIN_LINE = 2
_MIN_RING = 4


def wkb(text: str) -> bytes | None:
    """Translate a POINT, LINESTRING or POLYGON; None if the text is none of these."""
    match = _TEXT.fullmatch(text)
    if match is None:
        return None
    kind, body = match[1].upper(), match[2]
    head = struct.pack("<BI", 1, _CODES[kind])
    if kind == "POINT":
        points = _points(body)
        return head + points[0] if points is not None and len(points) == 1 else None
    if kind == "LINESTRING":
        points = _points(body)
        if points is None or len(points) < _MIN_LINE:
            return None
        return head + struct.pack("<I", len(points)) + b"".join(points)
    return _polygon(head, body)


def _polygon(head: bytes, body: str) -> bytes | None:
    rings = []
    position = 0
    while position < len(body):
        match = _RINGS.match(body, position)
        points = _points(match[1]) if match is not None else None
        if match is None or points is None or len(points) < _MIN_RING or points[0] != points[-1]:
            return None
        rings.append(struct.pack("<I", len(points)) + b"".join(points))
        position = match.end()
    return head + struct.pack("<I", len(rings)) + b"".join(rings) if rings else None


def _points(text: str) -> list[bytes] | None:
    points = []
    for part in text.split(","):
        match = _POINT.fullmatch(part)
        if match is None:
            return None
        points.append(struct.pack("<dd", float(match[1]), float(match[2])))
    return points
