"""RFC 3339 texts to ticks, by column operations: exact to the nanosecond, never through a float."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import ProtocolError
from ..types import Precision

Ticks: TypeAlias = npt.NDArray[np.int64]
_Cells: TypeAlias = npt.NDArray[np.uint8]

_SECONDS = len("2024-03-01T00:00:00")
_ZULU, _OFFSET = len("Z"), len("+08:00")
_INSTANT = re.compile(
    r"([+-]?\d{4,9})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:Z|([+-])(\d\d):(\d\d))",
    re.ASCII,
)
_SHAPE = np.frombuffer(b"0000-00-00T00:00:00.000000000", np.uint8)
_IS_DIGIT = np.equal(_SHAPE, ord("0"))
_OFFSET_DIGITS = [1, 2, 4, 5]
_WHOLE_MINUTES = 94_694_400  # 1973: from then on offsets are of whole minutes
_FIRST_YEAR, _LAST_YEAR = 1678, 2261  # which 64 bits of nanoseconds hold as a whole


def ticks_of_texts(
    texts: Sequence[str],
    precision: Precision = Precision.MILLISECOND,
    zone: tzinfo | None = None,
) -> tuple[Ticks, Precision]:
    """The ticks of instants such as ``2022-06-29T05:50:55.401Z`` or ``…+08:00``.

    Args:
        texts: The instants; how many digits their fractions have may differ, as it does where
            zeros at the end are left away.
        precision: The least precision of the ticks.
        zone: The zone that they are written in, where it is known. Offsets are written without the
            seconds that many had before there was standard time.

    Returns:
        The ticks, and their precision: finer than the given one where a fraction has more digits.

    Raises:
        ProtocolError: A text is no instant, or lies beyond 64 bits.
    """
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    data = np.frombuffer("".join(texts).encode("ascii", "replace"), np.uint8)
    ends = np.cumsum(lengths)
    kinds = lengths * 2 + (data[ends - 1] == ord("Z")) if lengths.all() else lengths * 2
    forms = np.unique(kinds).tolist()
    groups: list[tuple[npt.NDArray[np.intp], _Cells, int]] = []
    unusual: list[int] = []
    for form in forms:
        rows = np.flatnonzero(kinds == form)
        length, is_zulu = divmod(form, 2)
        if len(forms) == 1:
            cells = data.reshape(len(texts), length)
        else:
            cells = data[(ends[rows] - length)[:, None] + np.arange(length)]
        width = length - (_ZULU if is_zulu else _OFFSET)
        if _is_plain(cells, width):
            groups.append((rows, cells, width))
        else:
            unusual += rows.tolist()
    digits = [width - _SECONDS - 1 for _, _, width in groups]
    digits += [len(_match(texts[row])[7] or "") for row in unusual]
    precision = max(precision, Precision((max(*digits, 1, 1) - 1) // 3))
    ticks = np.empty(len(texts), np.int64)
    for rows, cells, width in groups:
        found = _ticks(cells, width, precision)
        if found is None:
            unusual += rows.tolist()
        else:
            ticks[rows] = found
    for row in unusual:
        ticks[row] = _one(texts[row], precision)
    if zone is not None:
        for row in np.flatnonzero(ticks < _WHOLE_MINUTES * precision.ticks_per_second).tolist():
            ticks[row] -= _left_out(texts[row], zone) * precision.ticks_per_second
    return ticks, precision


def _left_out(text: str, zone: tzinfo) -> int:
    """The seconds of an offset that its text leaves out."""
    match = _match(text)
    if match[8] is None or len(match[1]) != len("0000"):
        return 0
    minutes = (int(match[9]) * 60 + int(match[10])) * (-1 if match[8] == "-" else 1)
    wall = datetime.fromisoformat(text[:_SECONDS])
    for fold in (0, 1):
        offset = wall.replace(tzinfo=zone, fold=fold).utcoffset()
        seconds = offset // timedelta(seconds=1) if offset is not None else 0
        if int(seconds / 60) == minutes:
            return seconds - minutes * 60
    return 0


def _is_plain(cells: _Cells, width: int) -> bool:
    """Whether texts of one length, a row of bytes each, have the form of a year of four digits."""
    if not _SECONDS <= width <= len(_SHAPE) or width == _SECONDS + 1:
        return False
    clock, is_digit = cells[:, :width], _IS_DIGIT[:width]
    if ((clock - ord("0"))[:, is_digit] > 9).any():  # uint8: what is below wraps around
        return False
    if (clock[:, ~is_digit] != _SHAPE[:width][~is_digit]).any():
        return False
    offset = cells[:, width:]
    if offset.shape[1] == _ZULU:
        return True
    return bool(
        ((offset[:, 0] == ord("+")) | (offset[:, 0] == ord("-"))).all()
        and (offset[:, 3] == ord(":")).all()
        and ((offset - ord("0"))[:, _OFFSET_DIGITS] <= 9).all()
    )


def _ticks(cells: _Cells, width: int, precision: Precision) -> Ticks | None:
    """The ticks of texts of plain form; None if one of them is no time, or beyond 64 bits."""
    packed = np.ascontiguousarray(cells[:, :width]).view(f"S{width}").reshape(-1)
    try:
        ticks: Ticks = packed.astype(f"M8[{precision.unit}]").view(np.int64)
    except ValueError:  # no such day or hour
        return None
    if precision is Precision.NANOSECOND:
        years = packed.astype("M8[Y]").view(np.int64) + 1970
        if years.min() < _FIRST_YEAR or years.max() > _LAST_YEAR:
            return None  # numpy does not tell what is beyond 64 bits
    if cells.shape[1] == width + _ZULU:
        return ticks
    offset = cells[:, width:].astype(np.int64)
    minutes = (offset[:, _OFFSET_DIGITS] - ord("0")) @ np.array([600, 60, 10, 1])
    east = np.where(offset[:, 0] == ord("-"), -minutes, minutes)
    ticks -= east * (60 * precision.ticks_per_second)
    return ticks


def _match(text: str) -> re.Match[str]:
    match = _INSTANT.fullmatch(text)
    if match is None:
        raise ProtocolError(f"expected a time as RFC 3339 writes it, got {text[:60]!r}")
    return match


def _one(text: str, precision: Precision) -> int:
    """The ticks of one instant, of whatever year."""
    match = _match(text)
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    fraction, sign = match[7] or "", match[8]
    east = (int(match[9]) * 60 + int(match[10])) * (-1 if sign == "-" else 1) if sign else 0
    try:
        days = int(np.datetime64(f"{year:05d}-{month:02d}-{day:02d}", "D").astype(np.int64))
    except ValueError:
        raise ProtocolError(f"there is no such day: {text[:60]!r}") from None
    if hour > 23 or minute > 59 or second > 59:
        raise ProtocolError(f"there is no such time of day: {text[:60]!r}")
    seconds = ((days * 24 + hour) * 60 + minute - east) * 60 + second
    ticks = seconds * precision.ticks_per_second
    ticks += int(fraction.ljust(9, "0")) * precision.ticks_per_second // 1_000_000_000
    if not -(2**63) <= ticks < 2**63:
        raise ProtocolError(f"a time beyond 64 bits of {precision.unit}: {text[:60]!r}")
    return ticks
