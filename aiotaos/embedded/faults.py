"""What a statement can be refused with: TDengine's code and text."""

from __future__ import annotations

SYNTAX = 0x2600
INCOMPLETE = 0x2601
EXECUTOR = 0x0732
_NEAR_SHOWN = 200


class Fault(Exception):
    """A statement's failure, as the client will see it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def syntax_error(rest: str) -> Fault:
    """The parser's refusal at the place where ``rest`` begins."""
    rest = rest.strip()
    if not rest:
        return Fault(INCOMPLETE, "Incomplete SQL statement")
    return Fault(SYNTAX, f'syntax error near "{rest[:_NEAR_SHOWN]}"')


def insert_error(why: str, rest: str) -> Fault:
    """The refusal of a value in an INSERT."""
    return Fault(0x0216, f"syntax error near '{rest[:_NEAR_SHOWN]}' ({why})")


def unsupported(what: str) -> Fault:
    """The refusal of something that TDengine can do and this server cannot.

    It carries the code of a syntax error, so that nothing is ever ignored or answered wrongly.
    """
    return Fault(SYNTAX, f"not supported by the embedded server: {what}")


def table_of_another() -> Fault:
    """The refusal of rows for a sub-table that belongs to another super table."""
    return Fault(0x061D, "Table already exists in other stables")


def no_table() -> Fault:
    return Fault(0x2603, "Table does not exist")


def no_database() -> Fault:
    return Fault(0x0388, "Database not exist")


def no_column(name: str) -> Fault:
    return Fault(0x2602, f"Invalid column name: {name}")


def table_exists() -> Fault:
    return Fault(0x0603, "Table already exists")


def too_long(column: str) -> Fault:
    return Fault(0x2653, f"Value too long for column/tag: {column}")


def bad_parameter(function: str) -> Fault:
    return Fault(0x2802, f"Invalid parameter data type : {function}")


def query_killed() -> Fault:
    return Fault(0x022D, "Query killed")


def invalid_operation() -> Fault:
    return Fault(0x0200, "Invalid operation")
