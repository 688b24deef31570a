from __future__ import annotations

import builtins
import copy
import pickle

import pytest

from aiotaos import errors
from aiotaos.errors import Error, class_of, server_error

TREE = {
    "Warning": "builtins.Warning",
    "Error": "builtins.Exception",
    "InterfaceError": "Error",
    "DatabaseError": "Error",
    "DataError": "DatabaseError",
    "OperationalError": "DatabaseError",
    "ConnectionError": "OperationalError builtins.ConnectionError",
    "AuthenticationError": "ConnectionError",
    "ConnectionLost": "ConnectionError",
    "TimeoutError": "OperationalError builtins.TimeoutError",
    "ProtocolError": "OperationalError",
    "IntegrityError": "DatabaseError",
    "InternalError": "DatabaseError",
    "ProgrammingError": "DatabaseError",
    "NotSupportedError": "DatabaseError",
    "StatementError": "DatabaseError",
    "ResultError": "DatabaseError",
    "SchemalessError": "DatabaseError",
    "PoolFull": "OperationalError",
    "WriteError": "OperationalError",
    "TmqError": "DatabaseError",
}
CLASSES = [getattr(errors, name) for name in TREE if name != "Warning"]


@pytest.mark.parametrize(("name", "bases"), TREE.items())
def test_tree(name, bases):
    expected = tuple(
        getattr(builtins, base.removeprefix("builtins."))
        if base.startswith("builtins.")
        else getattr(errors, base)
        for base in bases.split()
    )
    assert getattr(errors, name).__bases__ == expected


def test_tree_is_complete():
    found = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, BaseException)
    }
    assert found == set(TREE)


def test_builtin_handlers_catch_them():
    with pytest.raises(builtins.TimeoutError):
        raise errors.TimeoutError("no answer within 5 s")
    with pytest.raises(builtins.ConnectionError):
        raise errors.AuthenticationError("wrong password", code=0x0357)
    with pytest.raises(OSError, match="closed"):
        raise errors.ConnectionLost("closed")


CODES = {
    0x0003: "AuthenticationError",
    0x000B: "OperationalError",
    0x0018: "OperationalError",
    0x0102: "OperationalError",
    0x0112: "DataError",
    0x0127: "DataError",
    0x0115: "InternalError",
    0x0118: "ProgrammingError",
    0x0134: "AuthenticationError",
    0x013D: "DataError",
    0x0200: "ProgrammingError",
    0x0203: "DataError",
    0x020B: "ConnectionError",
    0x0213: "ConnectionError",
    0x0215: "ConnectionError",
    0x0216: "ProgrammingError",
    0x0217: "ProgrammingError",
    0x0219: "ProgrammingError",
    0x021B: "SchemalessError",
    0x0224: "DataError",
    0x022A: "StatementError",
    0x022B: "ProgrammingError",
    0x022C: "StatementError",
    0x022D: "OperationalError",
    0x0236: "StatementError",
    0x0237: "NotSupportedError",
    0x02FF: "InternalError",
    0x0303: "ProgrammingError",
    0x0350: "IntegrityError",
    0x0351: "AuthenticationError",
    0x0357: "AuthenticationError",
    0x0360: "IntegrityError",
    0x0362: "ProgrammingError",
    0x0374: "ProgrammingError",
    0x0380: "ProgrammingError",
    0x0381: "IntegrityError",
    0x0388: "ProgrammingError",
    0x03D3: "OperationalError",
    0x03E0: "IntegrityError",
    0x03E1: "TmqError",
    0x03EB: "TmqError",
    0x0408: "OperationalError",
    0x0503: "OperationalError",
    0x0603: "IntegrityError",
    0x060B: "DataError",
    0x0618: "ProgrammingError",
    0x073B: "OperationalError",
    0x0800: "OperationalError",
    0x0903: "OperationalError",
    0x2600: "ProgrammingError",
    0x2601: "ProgrammingError",
    0x2603: "ProgrammingError",
    0x2605: "DataError",
    0x2616: "ProgrammingError",
    0x2653: "DataError",
    0x26FF: "InternalError",
    0x2800: "ProgrammingError",
    0x3000: "SchemalessError",
    0x3002: "SchemalessError",
    0x4001: "TmqError",
    0x4017: "TmqError",
    0x1124: "AuthenticationError",
    0xFFFD: "ProgrammingError",
    0xFFFE: "OperationalError",
    0xFFFF: "OperationalError",
    0x5000: "DatabaseError",
    0xE001: "DatabaseError",
}


@pytest.mark.parametrize(("code", "name"), CODES.items(), ids=lambda value: f"{value}")
def test_class_of_a_code(code, name):
    assert class_of(code).__name__ == name
    error = server_error(code, "refused")
    assert type(error) is getattr(errors, name)
    assert error.code == code


def test_every_code_has_a_class():
    for code in range(0x10000):
        assert issubclass(class_of(code), errors.DatabaseError)


def test_server_error():
    error = server_error(
        -2147473920, " syntax error \n", req_id=7, sql="selec 1", endpoint="ws://db1:6041"
    )
    assert type(error) is errors.ProgrammingError
    assert (error.code, error.message, error.req_id) == (0x2600, "syntax error", 7)
    assert (error.sql, error.endpoint, error.may_have_run) == ("selec 1", "ws://db1:6041", None)
    assert str(error) == "[0x2600] syntax error (at ws://db1:6041, req_id 7)"


@pytest.mark.parametrize("message", ["", " \n"])
def test_server_error_without_message(message):
    assert str(server_error(0x000B, message)) == "[0x000B] the server gave no message"


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({}, "lost"),
        ({"code": 0}, "[0x0000] lost"),
        ({"code": 0xFFFF}, "[0xFFFF] lost"),
        ({"endpoint": "ws://a:1"}, "lost (at ws://a:1)"),
        ({"req_id": 0}, "lost (req_id 0)"),
        ({"may_have_run": True}, "lost (the statement may have run)"),
        ({"may_have_run": False}, "lost"),
        ({"sql": "select 1"}, "lost"),
        (
            {"code": 11, "endpoint": "ws://a:1", "req_id": 3, "may_have_run": True},
            "[0x000B] lost (at ws://a:1, req_id 3, the statement may have run)",
        ),
    ],
)
@pytest.mark.parametrize("cls", CLASSES)
def test_text(cls, facts, text):
    error = cls("lost", **facts)
    assert str(error) == text
    assert repr(error) == f"{cls.__name__}('lost')"
    assert error.args == ("lost",)
    assert {name: getattr(error, name) for name in facts} == facts


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("duplicate", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy])
def test_copies(cls, duplicate):
    error = cls("lost", code=11, req_id=3, sql="x" * 300, endpoint="ws://a:1", may_have_run=True)
    error.http_status = 403
    error.add_note("while testing")
    twin = duplicate(error)
    assert type(twin) is cls
    assert vars(twin) == vars(error)
    assert (str(twin), repr(twin), twin.args) == (str(error), repr(error), error.args)


@pytest.mark.parametrize(
    ("sql", "shown"),
    [
        ("", ""),
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 199 + "…"),
        ("涛" * 1000, "涛" * 199 + "…"),
    ],
)
def test_statement_is_cut(sql, shown):
    assert Error("wrong", sql=sql).sql == shown


@pytest.mark.parametrize(
    ("sql", "shown"),
    [
        ("create user u pass 'secret' sysinfo 1", "create user u pass '***' sysinfo 1"),
        ('ALTER USER u PASS\n"secret"', "ALTER USER u PASS\n'***'"),
        ("create user u pass'it''s secret' x", "create user u pass'***' x"),
        (r"create user u pass 'it\'s secret' x", "create user u pass '***' x"),
        ("create user u pass 'secret", "create user u pass '***'"),
        ("create user u pass '" + "secret" * 30 + "'", "create user u pass '***'"),
        ("create user u pass '" + "secret" * 300 + "' x", "create user u pass '***'…"),
        ("select '" + "x" * 380 + "' pass 'secret'", "select '" + "x" * 191 + "…"),
        ("select 'a' from compass where v = 'b'", "select 'a' from compass where v = 'b'"),
    ],
)
def test_passwords_are_masked(sql, shown):
    error = Error("wrong", sql=sql)
    assert error.sql == shown
    assert "secret" not in f"{error} {error!r} {vars(error)}"


def test_no_statement():
    assert Error("wrong").sql is None
