from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiotaos.errors import ProtocolError
from aiotaos.protocol import messages
from aiotaos.protocol.messages import (
    ConnArgs,
    ConnectionOption,
    DatabaseReply,
    Envelope,
    ExecReply,
    FetchReply,
    InfoReply,
    InsertArgs,
    InsertReply,
    NumFieldsReply,
    OptionsArgs,
    ParametersReply,
    PrepareArgs,
    PrepareReply,
    QueryReply,
    ReqIdArgs,
    ResultArgs,
    ResultIdArgs,
    SqlArgs,
    StatementArgs,
    StatementReply,
    StatementResultReply,
    StatusReply,
    Stmt2InitArgs,
    TableNameArgs,
    VersionReply,
    parse,
    reply,
    request,
)
from aiotaos.types import Field, Precision, TypeCode

REPLIES = {
    "version": VersionReply,
    "conn": VersionReply,
    "query": QueryReply,
    "binary_query": QueryReply,
    "fetch": FetchReply,
    "get_current_db": DatabaseReply,
    "get_server_info": InfoReply,
    "check_server_status": StatusReply,
    "num_fields": NumFieldsReply,
    "insert": InsertReply,
    "init": StatementReply,
    "prepare": PrepareReply,
    "set_table_name": StatementReply,
    "set_tags": StatementReply,
    "bind": StatementReply,
    "add_batch": StatementReply,
    "exec": ExecReply,
    "stmt2_init": StatementReply,
    "stmt2_prepare": PrepareReply,
    "stmt2_bind": StatementReply,
    "stmt2_exec": ExecReply,
    "stmt2_result": StatementResultReply,
    "stmt2_close": StatementReply,
}
# Replies that leave members out: read, but not written again.
PARTIAL = (VersionReply, PrepareReply, StatementResultReply)
RECORDINGS = ["connect", "types_ms", "types_us", "types_ns", "decimals_blobs", "tags_json"]
RECORDINGS += ["many_blocks", "errors", "json_ws", "stmt1", "stmt2", "schemaless", "schemaless_ws"]


# Requests


@pytest.mark.parametrize(
    ("action", "args", "text"),
    [
        ("version", None, '{"action":"version"}'),
        ("get_current_db", ReqIdArgs(4), '{"action":"get_current_db","args":{"req_id":4}}'),
        (
            "query",
            SqlArgs(1, 'a"\\涛'),
            '{"action":"query","args":{"req_id":1,"sql":"a\\"\\\\涛"}}',
        ),
        ("fetch", ResultArgs(2, 9), '{"action":"fetch","args":{"req_id":2,"id":9}}'),
        (
            "num_fields",
            ResultIdArgs(44, 9999),
            '{"action":"num_fields","args":{"req_id":44,"result_id":9999}}',
        ),
        (
            "options_connection",
            OptionsArgs(45, [ConnectionOption(1, "UTC"), ConnectionOption(-1)]),
            '{"action":"options_connection","args":{"req_id":45,"options":'
            '[{"option":1,"value":"UTC"},{"option":-1,"value":null}]}}',
        ),
        (
            "stmt2_init",
            Stmt2InitArgs(1, single_stb_insert=True),
            '{"action":"stmt2_init","args":{"req_id":1,"single_stb_insert":true,'
            '"single_table_bind_once":false}}',
        ),
        (
            "stmt2_prepare",
            PrepareArgs(2, 1, "select ?", get_fields=True),
            '{"action":"stmt2_prepare","args":{"req_id":2,"stmt_id":1,"sql":"select ?",'
            '"get_fields":true}}',
        ),
        (
            "prepare",
            PrepareArgs(2, 1, "select ?"),
            '{"action":"prepare","args":{"req_id":2,"stmt_id":1,"sql":"select ?"}}',
        ),
        ("exec", StatementArgs(3, 1), '{"action":"exec","args":{"req_id":3,"stmt_id":1}}'),
        (
            "set_table_name",
            TableNameArgs(4, 1, "涛"),
            '{"action":"set_table_name","args":{"req_id":4,"stmt_id":1,"name":"涛"}}',
        ),
        (
            "insert",
            InsertArgs(5, 1, "u", 0, "a b=1", "tb"),
            '{"action":"insert","args":{"req_id":5,"protocol":1,"precision":"u","ttl":0,'
            '"data":"a b=1","table_name_key":"tb"}}',
        ),
        (
            "conn",
            ConnArgs(req_id=2**63 - 1, user="root", password="taosdata", mode=0),
            '{"action":"conn","args":{"req_id":9223372036854775807,"user":"root",'
            '"password":"taosdata","mode":0}}',
        ),
        (
            "conn",
            ConnArgs(tz="UTC", app="a", ip="::1", connector="c", totp_code="1", bearer_token="t"),
            '{"action":"conn","args":{"tz":"UTC","app":"a","ip":"::1","connector":"c",'
            '"totp_code":"1","bearer_token":"t"}}',
        ),
    ],
)
def test_requests(action, args, text):
    assert request(action, args) == text
    read = msgspec.json.decode(text, type=messages.Request)
    assert read.action == action
    if args is not None:
        assert msgspec.json.decode(read.args, type=type(args)) == args


def test_arguments_may_be_absent():
    read = msgspec.json.decode('{"action":"version"}', type=messages.Request)
    assert bytes(read.args) == b"{}"


# Replies


@pytest.mark.parametrize("name", RECORDINGS)
def test_recorded_replies(name, recording):
    """Replies of the real server say the same after reading and writing them, in the same order."""
    seen = 0
    for frame in recording(name).frames("s>c"):
        if isinstance(frame, bytes):
            continue
        said = json.loads(frame)
        refusal = StatementReply if "stmt_id" in said else Envelope
        cls = refusal if said["code"] else REPLIES.get(said["action"], Envelope)
        message = parse(frame, cls)
        written = msgspec.to_builtins(message)
        assert {key: written[key] for key in said} == said
        if cls not in PARTIAL or "version" in said:
            assert reply(message) == frame
        seen += 1
    assert seen > 3


def test_refusal_is_read_as_any_reply():
    text = '{"code":904,"message":"Database not exist","action":"query","req_id":12,"timing":7}'
    message = parse(text, QueryReply)
    assert (message.code, message.message, message.req_id) == (904, "Database not exist", 12)
    assert message.fields() == ()


def test_buffers():
    text = '{"code":0,"req_id":18446744073709551615,"version":"涛"}'
    for data in (text, text.encode(), bytearray(text.encode()), memoryview(text.encode())):
        message = parse(data, VersionReply)
        assert (message.req_id, message.version) == (2**64 - 1, "涛")


def test_unknown_fields_are_ignored():
    assert parse('{"code":0,"list_instances":["a:6041"],"x":{"y":[1]}}', VersionReply).code == 0


def query_reply(**changes: object) -> QueryReply:
    said = {
        "fields_count": 2,
        "fields_names": ["ts", "d"],
        "fields_types": [9, 17],
        "fields_lengths": [8, 16],
        "precision": 2,
        "fields_precisions": [0, 20],
        "fields_scales": [0, 4],
    }
    return parse(json.dumps(said | changes), QueryReply)


def test_fields():
    message = query_reply()
    assert message.precision is Precision.NANOSECOND
    assert message.fields() == (
        Field("ts", TypeCode.TIMESTAMP, 8),
        Field("d", TypeCode.DECIMAL, 16, 20, 4),
    )


def test_fields_of_adapters_that_say_nothing_of_decimals():
    expected = (Field("ts", TypeCode.TIMESTAMP, 8), Field("d", TypeCode.DECIMAL, 16))
    assert query_reply(fields_precisions=None, fields_scales=None).fields() == expected
    assert query_reply(fields_precisions=[], fields_scales=[]).fields() == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"fields_count": 1},
        {"fields_count": 3},
        {"fields_count": -2},
        {"fields_count": 0},
        {"fields_count": 2**62, "fields_precisions": None, "fields_scales": None},
        {"fields_count": 2**70, "fields_precisions": None},
        {"fields_names": None},
        {"fields_names": ["ts"]},
        {"fields_types": [9]},
        {"fields_lengths": None},
        {"fields_lengths": [8, 16, 4]},
        {"fields_precisions": [0]},
        {"fields_scales": [0, 0, 0]},
        {"fields_types": [9, 22]},
        {"fields_types": [-1, 9]},
        {"fields_types": [9, 2**64]},
        {"precision": 3},
        {"precision": -1},
        {"precision": "ms"},
    ],
)
def test_inconsistent_descriptions_are_refused(changes):
    with pytest.raises(ProtocolError, match=r"inconsistent reply|unknown column type|unreadable"):
        query_reply(**changes).fields()


def test_parameters_of_an_insert():
    text = (
        '{"code":0,"stmt_id":7,"is_insert":true,"fields":[{"name":"loc","field_type":10,'
        '"precision":0,"scale":0,"bytes":66,"bind_type":2}],"fields_count":1}'
    )
    message = parse(text, PrepareReply)
    assert (message.stmt_id, message.is_insert, message.fields_count) == (7, True, 1)
    (info,) = message.fields
    assert (info.name, info.field_type, info.bytes, info.bind_type) == ("loc", 10, 66, 2)
    assert parse('{"stmt_id":7}', PrepareReply).is_insert is None
    assert parse('{"stmt_id":7,"fields":null}', ParametersReply).fields is None


@pytest.mark.parametrize("text", ['{"stmt_id":-1.5}', '{"fields":{}}', '{"fields":[1]}'])
def test_unreadable_parameters(text):
    with pytest.raises(ProtocolError, match="unreadable reply"):
        parse(text, PrepareReply)


def test_result_description():
    fields = query_reply().fields()
    names, types, lengths, precisions, scales = messages.result_description(fields)
    described = QueryReply(
        fields_count=2,
        fields_names=names,
        fields_types=types,
        fields_lengths=lengths,
        fields_precisions=precisions,
        fields_scales=scales,
    )
    assert json.loads(reply(described))["fields_types"] == [9, 17]
    assert described.fields() == fields


# Damage


@pytest.mark.parametrize(
    "data",
    [
        "",
        "null",
        "[]",
        "1",
        '"text"',
        "{",
        '{"code":"0"}',
        '{"code":1.5}',
        '{"code":null}',
        '{"message":1}',
        '{"req_id":1e400}',
        '{"req_id":' + "9" * 5000 + "}",
        '{"fields_names":[1]}',
        '{"fields_types":{"a":1}}',
        '{"is_update":1}',
        '{"x":' + "[" * 100_000,
        '{"message":"\ud800"}',
        b'{"message":"\xff"}',
        b'{"message":"\xed\xa0\x80"}',
        b"\xff\xfe",
        b"\0",
    ],
    ids=lambda data: repr(data)[:30],
)
def test_unreadable_replies(data):
    with pytest.raises(ProtocolError, match="unreadable reply"):
        parse(data, QueryReply)


ORIGINAL = (
    b'{"code":0,"message":"","action":"query","req_id":10,"timing":2,"id":1,"is_update":false,'
    b'"affected_rows":0,"fields_count":1,"fields_names":["\xe6\xb6\x9b"],"fields_types":[9],'
    b'"fields_lengths":[8],"precision":0,"fields_precisions":[0],"fields_scales":[0]}'
)


def check(data: bytes | str, cls: type[Envelope]) -> None:
    try:
        message = parse(data, cls)
        fields = message.fields() if isinstance(message, QueryReply) else ()
    except ProtocolError:
        return
    assert type(message) is cls
    assert all(isinstance(field, Field) for field in fields)
    assert isinstance(reply(message), str)


def test_every_truncation_is_refused():
    for size in range(len(ORIGINAL)):
        with pytest.raises(ProtocolError):
            parse(ORIGINAL[:size], QueryReply)


@settings(max_examples=600, deadline=None)
@given(
    edits=st.lists(
        st.tuples(
            st.integers(0, len(ORIGINAL)),
            st.integers(0, 3),
            st.binary(max_size=2) | st.sampled_from([b"null", b"-1", b"[", b'"', b"1e9", b"{}"]),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_damaged_replies(edits):
    data = bytearray(ORIGINAL)
    for position, removed, inserted in edits:
        data[position : position + removed] = inserted
    check(bytes(data), QueryReply)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40) | st.text(max_size=40), st.sampled_from(list(REPLIES.values())))
def test_random_replies(data, cls):
    check(data, cls)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*QueryReply.__struct_fields__]),
        st.none()
        | st.booleans()
        | st.integers()
        | st.text(max_size=3)
        | st.lists(st.integers(-1, 30) | st.text(max_size=3), max_size=3),
    )
)
def test_random_objects(said):
    check(json.dumps(said), QueryReply)
