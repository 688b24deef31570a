"""Words of TDengine's SQL."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .faults import syntax_error

_TOKEN = re.compile(
    r"""
    (?P<space>\s+|--[^\n]*|/\*.*?\*/)
  | (?P<string>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*")
  | (?P<quoted>`(?:[^`]|``)+`)
  | (?P<duration>\d+[bunasmhdwy](?![A-Za-z0-9_]))
  | (?P<number>(?:0[xX][0-9a-fA-F]+|(?:\d+\.\d*|\.\d+|\d+)(?:[eE][+-]?\d+)?)(?![A-Za-z0-9_]))
  | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<mark>\?)
  | (?P<sign><>|<=|>=|!=|->|\|\||[-+*/%=<>(),.;&|])
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_QUOTED = re.compile(r"""('(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"|`[^`]*`)""", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)|''|\"\"", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", "'": "'", '"': '"'}


@dataclass(frozen=True, slots=True)
class Token:
    """A word.

    Attributes:
        kind: ``word``, ``quoted``, ``string``, ``number``, ``duration``, ``mark`` (a ``?``),
            ``sign`` or ``end``.
        text: As written, but a quoted name or a string without its quotes and escapes.
        start: Where it begins in the statement.
        end: Where it ends.
    """

    kind: str
    text: str
    start: int
    end: int


def unescape(text: str, quote: str) -> str:
    """Take the escapes out of a string's inside."""
    if "\\" not in text and quote not in text:
        return text

    def replace(match: re.Match[str]) -> str:
        escaped = match[1]
        if escaped is None:
            return quote if match[0][0] == quote else match[0]
        if escaped in "%_":  # left for LIKE to interpret
            return match[0]
        return _ESCAPED.get(escaped, escaped)

    return _ESCAPE.sub(replace, text)


def lower(sql: str) -> str:
    """Lower case outside of quotes, as TDengine does before it reads a statement."""
    parts = _QUOTED.split(sql)
    parts[::2] = map(str.lower, parts[::2])
    return "".join(parts)


def has_quoted_name(sql: str) -> bool:
    """Whether there is a name between back-ticks."""
    return any(part.startswith("`") for part in _QUOTED.split(sql)[1::2])


def tokenize(sql: str) -> list[Token]:
    """Split a statement into its words; the last one is of the kind ``end``."""
    tokens = []
    position = 0
    while position < len(sql):
        match = _TOKEN.match(sql, position)
        if match is None:
            raise syntax_error(sql[position:])
        kind = match.lastgroup or "space"
        text = match[0]
        if kind == "string":
            text = unescape(text[1:-1], text[0])
        elif kind == "quoted":
            text = text[1:-1].replace("``", "`")
        if kind != "space":
            tokens.append(Token(kind, text, position, match.end()))
        position = match.end()
    while tokens and tokens[-1].text == ";" and tokens[-1].kind == "sign":
        tokens.pop()
    tokens.append(Token("end", "", len(sql), len(sql)))
    return tokens
