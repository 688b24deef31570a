"""SQL text: finding placeholders, and writing values and names as literals.

The words are those of TDengine's lexer (``parTokenizer.c``): strings in single or double quotes
with backslash escapes or doubled quotes, names in back-ticks, ``--`` and ``/* */`` comments.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

import msgspec
import numpy as np

from ..errors import DataError, StatementError
from .times import iso_utc

_WORDS = re.compile(
    r"""
    '(?:[^'\\]|\\.|'')*(?:'|$)
  | "(?:[^"\\]|\\.|"")*(?:"|$)
  | `[^`]*(?:`|$)
  | --[^\n]*
  | /\*.*?(?:\*/|$)
  | (?P<placeholder>\?)
    """,
    re.VERBOSE | re.DOTALL,
)
_LEADING = re.compile(r"(?:\s+|--[^\n]*(?:\n|$)|/\*.*?\*/)*", re.DOTALL)
_WORD = re.compile(r"[A-Za-z_]+")
_READS = re.compile(r"[(\s]*(?:select|show|describe|desc|explain)\b", re.IGNORECASE)
_NAME = r"((?:`[^`]+`|\w+)(?:\s*\.\s*(?:`[^`]+`|\w+))?)"
_USING_NAME = re.compile(rf"\busing\s+{_NAME}", re.IGNORECASE)
_INTO_NAME = re.compile(rf"\binto\s+{_NAME}", re.IGNORECASE)
_USED = re.compile(r"use\s*(?:`([^`]+)`|\b(\w+))", re.IGNORECASE)
_VALUES = re.compile(r"\bvalues\s*(?=\()", re.IGNORECASE)
_INTO = re.compile(r"\binto\s*$", re.IGNORECASE)
_ESCAPES = str.maketrans({"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t"})
_MOST = 10**76
_NAME_PART = re.compile(r"`([^`]+)`|([^`.]+)")


def placeholders(sql: str) -> list[int]:
    """Where the ``?`` of a statement stand: those outside strings, names and comments."""
    if "?" not in sql:
        return []
    return [match.start() for match in _WORDS.finditer(sql) if match["placeholder"]]


def without_leading_comments(sql: str) -> str:
    """A statement from its first word on; the server's prepare does not skip comments."""
    return sql[_start(sql) :]


def _start(sql: str) -> int:
    """Where the first word stands."""
    leading = _LEADING.match(sql)
    assert leading is not None  # it matches nothing, too
    return leading.end()


def first_word(sql: str) -> str:
    """The first word of a statement, in lower case."""
    word = _WORD.match(sql, _start(sql))
    return word[0].lower() if word else ""


def reads(sql: str) -> bool:
    """Whether a statement changes nothing, so that it may be run twice."""
    return _READS.match(sql, _start(sql)) is not None


def used_database(sql: str) -> str | None:
    """The database that a ``USE`` names, as TDengine stores it; None if it names none."""
    found = _USED.fullmatch(_blanked(sql).strip("; \t\r\n"))
    if found is None:
        return None
    return found[1] or found[2].lower()


def binds_table_name(sql: str) -> bool:
    """Whether an INSERT has a ``?`` in the place of its table's name."""
    places = placeholders(sql)
    return bool(places) and _INTO.search(sql, 0, places[0]) is not None


def creates_table(sql: str) -> bool:
    """Whether an INSERT makes a sub-table that does not exist: it has ``USING … TAGS``."""
    return _USING_NAME.search(_blanked(sql)) is not None


def inserted_table(sql: str) -> str | None:
    """The table or super table that an INSERT names, as it is written; None where it is a ``?``."""
    blanked = _blanked(sql)
    found = _USING_NAME.search(blanked) or _INTO_NAME.search(blanked)
    return sql[found.start(1) : found.end(1)] if found else None


def _blanked(sql: str) -> str:
    """A statement of the same length in which strings and comments are blank."""
    return _WORDS.sub(_blank, sql)


def _blank(match: re.Match[str]) -> str:
    """Hide what stands in strings and comments; names and placeholders are kept."""
    text = match[0]
    return text if text[0] in "`?" else " " * len(text)


def render(sql: str, parameters: Sequence[object]) -> str:
    """Put literals in the place of the ``?``; the name of a table becomes an identifier.

    Raises:
        StatementError: There are more or fewer parameters than ``?``, or one has no literal.
        DataError: A parameter cannot be written.
    """
    return _filled(sql, placeholders(sql), parameters, names_table=binds_table_name(sql))


def _filled(
    sql: str, places: Sequence[int], parameters: Sequence[object], *, names_table: bool
) -> str:
    check_count(len(places), parameters)
    pieces: list[str] = []
    position = 0
    for index, (place, value) in enumerate(zip(places, parameters, strict=True)):
        if names_table and index == 0:
            written = table_identifier(value)
        else:
            written = literal(value, f"parameter {index + 1}")
        pieces += (sql[position:place], written)
        position = place + 1
    return "".join((*pieces, sql[position:]))


class Rendered(NamedTuple):
    """An INSERT of some rows.

    Attributes:
        sql: The statement.
        first: Index of its first row.
        last: Index of its last row.
    """

    sql: str
    first: int
    last: int


def render_rows(sql: str, rows: Sequence[object], size: int) -> list[Rendered]:
    """An INSERT as often as rows of parameters ask for it, with many rows in one statement.

    Args:
        sql: The INSERT; rows share a statement if all of its ``?`` stand behind ``VALUES``.
        rows: Values for the ``?``, row by row.
        size: Longest statement, bytes, that rows share.

    Raises:
        StatementError: As :func:`render`; the message names the row.
        DataError: As :func:`render`; the message names the row.
    """
    places = placeholders(sql)
    names_table = binds_table_name(sql)
    head, tail = _values_group(sql, places)
    texts = [
        _rendered_row(index, row, sql[head:tail], [place - head for place in places], names_table)
        for index, row in enumerate(rows)
    ]
    if (head, tail) == (0, len(sql)):
        return [Rendered(text, index, index) for index, text in enumerate(texts)]
    room = size - len(sql[:head].encode("utf-8", "surrogatepass"))
    ends = np.cumsum([len(text.encode("utf-8", "surrogatepass")) + 1 for text in texts])
    statements: list[Rendered] = []
    first = 0
    while first < len(texts):
        before = int(ends[first - 1]) if first else 0
        after = max(int(np.searchsorted(ends, before + room, side="right")), first + 1)
        text = sql[:head] + " ".join(texts[first:after])
        statements.append(Rendered(text, first, after - 1))
        first = after
    return statements


def _values_group(sql: str, places: Sequence[int]) -> tuple[int, int]:
    """Where the values stand that rows share a statement by; the whole where they cannot."""
    blanked = _blanked(sql)
    heads = [found.end() for found in _VALUES.finditer(blanked)]
    tail = blanked.rfind(")") + 1
    if len(heads) == 1 and heads[0] < tail and not blanked[tail:].strip("; \t\r\n"):
        group = blanked[heads[0] : tail]
        if group.count("(") == 1 and places and places[0] > heads[0]:
            return heads[0], tail
    return 0, len(sql)


def _rendered_row(
    index: int, row: object, sql: str, places: Sequence[int], names_table: bool
) -> str:
    if isinstance(row, (str, bytes)) or not isinstance(row, (Sequence, np.ndarray)):
        raise StatementError(
            f"row {index}: expected a sequence of {len(places)} values, got {row!r}"
        )
    try:
        return _filled(sql, places, list(row), names_table=names_table)
    except (DataError, StatementError) as error:
        error.say(f"row {index}: {error.message}")
        raise


def check_count(expected: int, parameters: Sequence[object]) -> None:
    """Check the number of parameters.

    Raises:
        StatementError: It is not the number of ``?``.
    """
    if len(parameters) != expected:
        hint = ""
        if len(parameters) == 1 and isinstance(parameters[0], (tuple, list)):
            hint = "; a row is given as *row"
        raise StatementError(
            f"the statement has {expected} placeholders and got {len(parameters)} parameters{hint}"
        )


def literal(value: object, what: str = "value") -> str:
    """A value as TDengine's SQL writes it.

    Args:
        value: None, ``bool``, ``int``, ``float``, ``Decimal``, ``str``, ``bytes``, an aware
            ``datetime``, a ``dict`` for a JSON tag, or a scalar of numpy's.
        what: What the value is, for errors.

    Raises:
        StatementError: The value is of another type.
        DataError: It is not finite, has no time zone, or has a character SQL cannot hold.
    """
    if isinstance(value, (datetime, np.datetime64)):
        return f"'{iso_utc(value, what)}'"
    if isinstance(value, np.generic):
        value = value.item()
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if abs(value) >= _MOST:
            raise DataError(f"{what}: an integer of more than 76 digits cannot be written in SQL")
        return int.__repr__(value)  # whatever a subclass makes of itself
    if isinstance(value, float):
        if not math.isfinite(value):
            raise DataError(f"{what}: {value!r} cannot be written in SQL")
        return float.__repr__(value)
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise DataError(f"{what}: {value!r} cannot be written in SQL")
        return Decimal.__format__(value, "f")
    if isinstance(value, str):
        return _string(value, what)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"'\\x{bytes(value).hex()}'"
    if isinstance(value, dict):
        return _string(_json(value, what), what)
    raise StatementError(
        f"{what}: {value!r} has no literal; expected None, bool, int, float, Decimal, str, "
        "bytes, an aware datetime or a dict"
    )


def _json(value: dict[object, object], what: str) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{what}: {value!r} is not JSON: {error}") from None


def _string(value: str, what: str) -> str:
    if "\0" in value:
        raise DataError(f"{what}: {value[:60]!r} has a NUL character, which SQL cannot hold")
    return f"'{str.translate(value, _ESCAPES)}'"


def identifier(name: str) -> str:
    """A name in back-ticks: taken literally.

    Raises:
        StatementError: It is empty or has a back-tick in it.
    """
    if not isinstance(name, str) or not name or "`" in name or "\0" in name:
        raise StatementError(f"name: expected a string without back-ticks, got {name!r}")
    return f"`{name}`"


def table_identifier(name: object) -> str:
    """``table`` or ``database.table``, with or without back-ticks, in back-ticks.

    Raises:
        StatementError: It is something else.
    """
    parts = []
    position = 0
    while isinstance(name, str) and (match := _NAME_PART.match(name, position)):
        parts.append(match[1] or match[2])
        position = match.end()
        if position == len(name):
            if len(parts) <= 2:
                return ".".join(map(identifier, parts))
            break
        if name[position] != ".":
            break
        position += 1
    raise StatementError(f"table: expected 'table' or 'database.table', got {name!r}")
