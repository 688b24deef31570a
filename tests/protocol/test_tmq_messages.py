from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiotaos.errors import ProtocolError
from aiotaos.protocol.messages import Envelope, ReqIdArgs, VersionReply, parse, reply, request
from aiotaos.protocol.tmq_messages import (
    NO_OFFSET,
    Assignment,
    AssignmentReply,
    CommittedReply,
    JsonMetaReply,
    MessageArgs,
    MessageFetchReply,
    MessageReply,
    MessageType,
    OffsetArgs,
    OffsetReply,
    PollArgs,
    PollReply,
    PositionReply,
    SubscribeArgs,
    SubscribeReply,
    TopicArgs,
    TopicsReply,
    TopicVgroup,
    TopicVgroupsArgs,
    parse_meta,
)
from aiotaos.types import Field, Precision, TypeCode

ARGUMENTS = {
    "subscribe": SubscribeArgs,
    "poll": PollArgs,
    "fetch_raw_data": MessageArgs,
    "commit": MessageArgs,
    "commit_offset": OffsetArgs,
    "seek": OffsetArgs,
    "assignment": TopicArgs,
    "committed": TopicVgroupsArgs,
    "position": TopicVgroupsArgs,
}
REPLIES = {
    "version": VersionReply,
    "subscribe": SubscribeReply,
    "poll": PollReply,
    "fetch": MessageFetchReply,
    "fetch_json_meta": JsonMetaReply,
    "commit": MessageReply,
    "commit_offset": OffsetReply,
    "seek": Envelope,
    "assignment": AssignmentReply,
    "committed": CommittedReply,
    "position": PositionReply,
    "list_topics": TopicsReply,
    "unsubscribe": Envelope,
}


def texts(recording, name: str, direction: str) -> list[str]:
    """JSON frames of the subscriptions of a recording."""
    return [
        event["data"]
        for event in recording(name).events
        if event["path"] == "/rest/tmq" and event["kind"] == "text" and event["dir"] == direction
    ]


# Requests


@pytest.mark.parametrize(
    ("action", "args", "text"),
    [
        ("version", None, '{"action":"version"}'),
        ("version", ReqIdArgs(1), '{"action":"version","args":{"req_id":1}}'),
        (
            "subscribe",
            SubscribeArgs(2, user="root", password="taosdata", group_id="g", topics=["涛"]),
            '{"action":"subscribe","args":{"req_id":2,"user":"root","password":"taosdata",'
            '"group_id":"g","topics":["涛"]}}',
        ),
        (
            "subscribe",
            SubscribeArgs(
                req_id=2**64 - 1,
                user="u",
                password="p",
                db="d",
                group_id="g",
                client_id="c",
                topics=["a", "b"],
                offset_rest="earliest",
                offset_reset="earliest",
                auto_commit="false",
                auto_commit_interval_ms="5000",
                snapshot_enable="false",
                with_table_name="true",
                enable_batch_meta="1",
                msg_consume_excluded="1",
                msg_consume_rawdata="0",
                session_timeout_ms="12000",
                max_poll_interval_ms="300000",
                config={"min.poll.rows": "1"},
                tz="UTC",
                app="app",
                ip="::1",
                connector="x",
                list_instances=True,
            ),
            '{"action":"subscribe","args":{"req_id":18446744073709551615,"user":"u",'
            '"password":"p","db":"d","group_id":"g","client_id":"c","topics":["a","b"],'
            '"offset_rest":"earliest","offset_reset":"earliest","auto_commit":"false",'
            '"auto_commit_interval_ms":"5000","snapshot_enable":"false",'
            '"with_table_name":"true","enable_batch_meta":"1","msg_consume_excluded":"1",'
            '"msg_consume_rawdata":"0","session_timeout_ms":"12000",'
            '"max_poll_interval_ms":"300000","config":{"min.poll.rows":"1"},"tz":"UTC",'
            '"app":"app","ip":"::1","connector":"x","list_instances":true}}',
        ),
        (
            "poll",
            PollArgs(3),
            '{"action":"poll","args":{"req_id":3,"blocking_time":0,"message_id":0}}',
        ),
        (
            "poll",
            PollArgs(3, blocking_time=500, message_id=2**64 - 1),
            '{"action":"poll","args":{"req_id":3,"blocking_time":500,'
            '"message_id":18446744073709551615}}',
        ),
        *(
            (
                action,
                MessageArgs(4, message_id=7),
                f'{{"action":"{action}","args":{{"req_id":4,"message_id":7}}}}',
            )
            for action in (
                "fetch",
                "fetch_block",
                "fetch_raw",
                "fetch_raw_data",
                "fetch_json_meta",
                "commit",
            )
        ),
        *(
            (
                action,
                OffsetArgs(5, topic="t", vgroup_id=33, offset=9),
                f'{{"action":"{action}","args":{{"req_id":5,"topic":"t","vgroup_id":33,'
                '"offset":9}}',
            )
            for action in ("commit_offset", "seek")
        ),
        (
            "assignment",
            TopicArgs(6, topic="t"),
            '{"action":"assignment","args":{"req_id":6,"topic":"t"}}',
        ),
        *(
            (
                action,
                TopicVgroupsArgs(7, [TopicVgroup("t", 33), TopicVgroup("u", 34)]),
                f'{{"action":"{action}","args":{{"req_id":7,"topic_vgroup_ids":'
                '[{"topic":"t","vgroup_id":33},{"topic":"u","vgroup_id":34}]}}',
            )
            for action in ("committed", "position")
        ),
        ("list_topics", ReqIdArgs(8), '{"action":"list_topics","args":{"req_id":8}}'),
        ("unsubscribe", ReqIdArgs(9), '{"action":"unsubscribe","args":{"req_id":9}}'),
    ],
)
def test_requests(action, args, text):
    assert request(action, args) == text
    if args is not None:
        assert msgspec.json.decode(json.dumps(json.loads(text)["args"]), type=type(args)) == args


@pytest.mark.parametrize("name", ["tmq_data", "tmq_meta"])
def test_recorded_requests(name, recording):
    """What the official client sent: the same text, but for what it sends to ``subscribe``."""
    seen = set()
    for text in texts(recording, name, "c>s"):
        said = json.loads(text)
        if "args" not in said:
            continue
        args = msgspec.convert(said["args"], ARGUMENTS[said["action"]])
        seen.add(said["action"])
        written = request(said["action"], args)
        if said["action"] != "subscribe":
            assert written == text
            continue
        del said["args"]["offset_seek"]  # None, and unknown to the adapter
        given = {key: value for key, value in said["args"].items() if value}
        assert json.loads(written)["args"] == given
    assert seen == (set(ARGUMENTS) if name == "tmq_data" else {"subscribe", "poll"})


# Replies


@pytest.mark.parametrize("name", ["tmq_data", "tmq_meta"])
def test_recorded_replies(name, recording):
    """Replies of the real server say the same after reading and writing them, in the same order."""
    seen = 0
    for text in texts(recording, name, "s>c"):
        cls = REPLIES[json.loads(text)["action"]]
        message = parse(text, cls)
        assert message.code == 0
        if cls is SubscribeReply:
            assert (message.version, message.list_instances) == ("3.3.7.5", None)
        else:
            assert reply(message) == text
        seen += 1
    assert seen > 3


@pytest.mark.parametrize("name", ["tmq_data", "tmq_meta"])
def test_recorded_messages(name, recording):
    """Where the messages came from, as the official client said it."""
    polls = [
        parse(text, PollReply)
        for text in texts(recording, name, "s>c")
        if '"action":"poll"' in text
    ]
    got = [poll for poll in polls if poll.have_message]
    said = [entry["message"] for entry in recording(name).expected if "message" in entry]
    expected = [tuple(one.values()) if isinstance(one, dict) else tuple(one) for one in said]
    assert [(poll.topic, poll.database, poll.vgroup_id) for poll in got] == expected
    kind = MessageType.DATA if name == "tmq_data" else MessageType.META
    assert {poll.message_type for poll in got} == {kind}
    empty = [poll for poll in polls if not poll.have_message]
    assert {(poll.message_id, poll.message_type, poll.topic) for poll in empty} <= {(0, 0, "")}


def test_recorded_offsets(recording):
    """Assignments and offsets, as the official client said them."""
    said = {
        action: [
            parse(text, REPLIES[action])
            for text in texts(recording, "tmq_data", "s>c")
            if f'"action":"{action}"' in text
        ]
        for action in ("assignment", "position", "committed", "commit_offset")
    }
    expected = recording("tmq_data").expected
    assert [
        [(one.vgroup_id, one.offset, one.begin, one.end) for one in message.assignment]
        for message in said["assignment"]
    ] == [
        [tuple(vgroup) for vgroup in entry["assignment"][0][1]]
        for entry in expected
        if "assignment" in entry
    ]
    assert [message.position for message in said["position"]] == [
        [entry["position"]] for entry in expected if "position" in entry
    ]
    assert [message.committed for message in said["committed"]] == [
        [entry["committed"]] for entry in expected if entry.get("committed") is not None
    ]
    assert [
        [message.topic, message.vgroup_id, message.offset] for message in said["commit_offset"]
    ] == [entry["commit_offset"] for entry in expected if "commit_offset" in entry]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '{"code":0,"message":"","action":"subscribe","req_id":1,"timing":2,'
            '"version":"3.4.0.0","list_instances":["a:6041"]}',
            SubscribeReply(0, "", "subscribe", 1, 2, "3.4.0.0", ["a:6041"]),
        ),
        (
            '{"code":0,"message":"","action":"poll","req_id":1,"timing":2,"have_message":true,'
            '"topic":"t","database":"d","vgroup_id":3,"message_type":3,'
            '"message_id":9223372036854775807,"offset":-2147459066}',
            PollReply(0, "", "poll", 1, 2, True, "t", "d", 3, 3, 2**63 - 1, -2147459066),
        ),
        (
            '{"code":65535,"message":"message has been freed","action":"fetch","req_id":1,'
            '"timing":2,"message_id":5}',
            MessageFetchReply(65535, "message has been freed", "fetch", 1, 2, 5),
        ),
        (
            '{"code":0,"message":"","action":"fetch_json_meta","req_id":1,"timing":2,'
            '"message_id":5,"data":{"type":"drop"}}',
            JsonMetaReply(0, "", "fetch_json_meta", 1, 2, 5, {"type": "drop"}),
        ),
        (
            '{"code":0,"message":"","action":"assignment","req_id":1,"timing":2,"assignment":'
            '[{"vgroup_id":1,"offset":2,"begin":0,"end":3}]}',
            AssignmentReply(0, "", "assignment", 1, 2, [Assignment(1, 2, 0, 3)]),
        ),
        (
            '{"code":0,"message":"","action":"committed","req_id":1,"timing":2,"committed":'
            "[-2147467247,5]}",
            CommittedReply(0, "", "committed", 1, 2, [NO_OFFSET, 5]),
        ),
        (
            '{"code":0,"message":"","action":"list_topics","req_id":1,"timing":2,"topics":["t"]}',
            TopicsReply(0, "", "list_topics", 1, 2, ["t"]),
        ),
        (
            '{"code":0,"message":"","action":"list_topics","req_id":1,"timing":2,"topics":null}',
            TopicsReply(0, "", "list_topics", 1, 2, None),
        ),
    ],
)
def test_replies(text, expected):
    message = parse(text, type(expected))
    assert message == expected
    assert json.loads(reply(message)).items() >= json.loads(text).items()


def test_no_offset_is_the_error_code_of_an_offset_that_is_missing():
    assert NO_OFFSET & 0xFFFF_FFFF == 0x8000_4011


def test_fields_of_a_block():
    message = parse(
        '{"code":0,"message":"","action":"fetch","req_id":1,"timing":2,"message_id":1,'
        '"completed":false,"table_name":"t","rows":2,"fields_count":2,'
        '"fields_names":["ts","n"],"fields_types":[9,10],"fields_lengths":[8,16],"precision":1}',
        MessageFetchReply,
    )
    assert (message.table_name, message.rows, message.completed) == ("t", 2, False)
    assert message.precision is Precision.MICROSECOND
    assert message.fields() == (
        Field("ts", TypeCode.TIMESTAMP, 8),
        Field("n", TypeCode.NCHAR, 16),
    )
    assert MessageFetchReply(completed=True).fields() == ()
    message.fields_types = [9]
    with pytest.raises(ProtocolError, match="inconsistent reply: 2 columns"):
        message.fields()


@pytest.mark.parametrize(
    ("text", "cls"),
    [
        ('{"message_id":-1}', MessageReply),
        ('{"message_id":9223372036854775808}', PollReply),
        ('{"have_message":1}', PollReply),
        ('{"offset":"1"}', PollReply),
        ('{"assignment":[1]}', AssignmentReply),
        ('{"assignment":[{"offset":1.5}]}', AssignmentReply),
        ('{"committed":[null]}', CommittedReply),
        ('{"position":{}}', PositionReply),
        ('{"topics":[1]}', TopicsReply),
        ('{"precision":3}', MessageFetchReply),
        ('{"data":', JsonMetaReply),
    ],
)
def test_unreadable_replies(text, cls):
    with pytest.raises(ProtocolError, match="unreadable reply"):
        parse(text, cls)


# Changes of tables

CREATE = {"type": "create", "tableName": "s", "tableType": "super", "columns": [], "new key": 1}
DROP = {"type": "drop", "tableName": "a", "tableType": "child"}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (None, []),
        (CREATE, [CREATE]),
        ({"tmq_meta_version": "1.0", "metas": [CREATE, DROP]}, [CREATE, DROP]),
        ({"tmq_meta_version": "1.0", "metas": []}, []),
    ],
)
def test_meta(data, expected):
    text = json.dumps({"code": 0, "message_id": 1, "data": data})
    assert parse_meta(parse(text, JsonMetaReply).data) == expected


@pytest.mark.parametrize("data", [[], [CREATE], "drop", 1, True, {"metas": None}, {"metas": [1]}])
def test_unreadable_meta(data):
    with pytest.raises(ProtocolError, match="unreadable meta message"):
        parse_meta(data)


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["metas", "type", "x"]), inner, max_size=3)
        ),
        max_leaves=6,
    )
)
def test_random_meta(data):
    try:
        metas = parse_meta(data)
    except ProtocolError:
        return
    assert isinstance(metas, list)
    assert all(isinstance(meta, dict) for meta in metas)
