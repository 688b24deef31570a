"""What a consumer is told: keywords, DSN, the official dictionary, and what of it is sent."""

from __future__ import annotations

import json
import logging
import pickle

import pytest

from aiotaos import Consumer, Error, InterfaceError
from aiotaos.consumer_options import ConsumerOptions
from aiotaos.options import Address, Road
from tests.subscribing import Subscriptions

KEYWORDS = {
    "group_id": "g1",
    "client_id": "c1",
    "auto_offset_reset": "earliest",
    "enable_auto_commit": False,
    "auto_commit_interval_ms": 250,
    "session_timeout_ms": 7000,
    "heartbeat_interval_ms": 1500,
    "max_poll_interval_ms": 60000,
    "fetch_max_wait_ms": 20,
    "min_poll_rows": 100,
    "msg_with_table_name": True,
    "experimental_snapshot_enable": False,
    "enable_replay": False,
    "msg_enable_batchmeta": True,
    "msg_consume_excluded": False,
}
PROPERTIES = {
    "group.id": "g1",
    "client.id": "c1",
    "auto.offset.reset": "earliest",
    "enable.auto.commit": "false",
    "auto.commit.interval.ms": "250",
    "session.timeout.ms": "7000",
    "heartbeat.interval.ms": "1500",
    "max.poll.interval.ms": "60000",
    "fetch.max.wait.ms": "20",
    "min.poll.rows": "100",
    "msg.with.table.name": "true",
    "experimental.snapshot.enable": "false",
    "enable.replay": "false",
    "msg.enable.batchmeta": "1",
    "msg.consume.excluded": "0",
}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    monkeypatch.delenv("AIOTAOS_DSN", raising=False)


def make(source=None, **arguments):
    return ConsumerOptions.make(source, arguments)


def refused(source=None, **arguments):
    """The text of the InterfaceError that the constructor raises."""
    with pytest.raises(InterfaceError) as raised:
        Consumer(source, **arguments)
    return raised.value.message


# What is understood.


def test_defaults():
    told = make(group_id="g1")
    assert told.options.addresses == (Address("localhost", 6041),)
    assert told.options.road is Road.WEBSOCKET
    assert (told.options.user, told.options.password) == ("root", "taosdata")
    assert (told.group_id, told.client_id) == ("g1", "")
    assert (told.auto_commit, told.commit_interval) == (True, 5.0)
    assert (told.poll_interval, told.rows_of_cut) == (300.0, 4096)
    assert told.properties == {"group.id": "g1"}


def test_keywords():
    told = make(**KEYWORDS)
    assert told.properties == PROPERTIES
    assert (told.group_id, told.client_id) == ("g1", "c1")
    assert (told.auto_commit, told.commit_interval) == (False, 0.25)
    assert (told.poll_interval, told.rows_of_cut) == (60.0, 100)


def test_dictionary():
    assert make(PROPERTIES) == make(**KEYWORDS)


def test_keywords_in_a_dictionary():
    told = make({"group.id": "g1", "host": "db", "timezone": "UTC", "read_timeout": 3})
    assert told.options.addresses == (Address("db", 6041),)
    assert (told.options.timezone, told.options.read_timeout) == ("UTC", 3.0)


@pytest.mark.parametrize("spelling", ["group.id", "group_id"])
def test_dsn(spelling):
    told = make(
        f"ws://u:p@db:7041/power?{spelling}=g%201&auto.offset.reset=earliest&timezone=UTC"
        "&enable.auto.commit=false&min_poll_rows=5&nosuch.key=x%26y"
    )
    assert told.options.addresses == (Address("db", 7041),)
    assert (told.options.user, told.options.password) == ("u", "p")
    assert (told.options.database, told.options.timezone) == ("power", "UTC")
    assert told.auto_commit is False
    assert told.properties == {
        "group.id": "g 1",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": "false",
        "min.poll.rows": "5",
        "nosuch.key": "x&y",
    }


def test_keywords_beat_the_dsn_and_the_dictionary():
    assert make("ws://db?group.id=g1&user_app=a", group_id="g2", user_app="b").group_id == "g2"
    assert make("ws://db?group.id=g1&user_app=a", user_app="b").options.user_app == "b"
    told = make({"group.id": "g1", "td.connect.user": "u1"}, group_id="g2", user="u2")
    assert (told.group_id, told.options.user) == ("g2", "u2")


def test_none_stands_for_not_given():
    told = make(
        {"group.id": "g1", "client.id": None}, client_id=None, user=None, min_poll_rows=None
    )
    assert told == make(group_id="g1")


@pytest.mark.parametrize("key", ["td.connect.ip", "td.connect.host"])
def test_connection_of_the_dictionary(key):
    told = make(
        {
            "group.id": "g1",
            key: "db",
            "td.connect.port": "7041",
            "td.connect.user": "u",
            "td.connect.pass": "p",
            "td.connect.db": "power",
            "td.connect.token": "cloud",
            "td.connect.bearer_token": "bearer",
            "td.connect.websocket.scheme": "wss",
        }
    )
    assert told.options.addresses == (Address("db", 7041),)
    assert told.options.tls
    assert (told.options.user, told.options.password) == ("u", "p")
    assert (told.options.database, told.options.token) == ("power", "cloud")
    assert told.options.bearer_token == "bearer"
    assert told.properties == {"group.id": "g1"}


def test_what_is_empty_in_the_dictionary_is_not_given():
    given = dict.fromkeys(["td.connect.ip", "td.connect.user", "td.connect.token"], "")
    given |= {"group.id": "g1", "td.connect.port": None}
    assert make(given) == make(group_id="g1")


def test_a_host_is_taken_before_the_environment(monkeypatch):
    monkeypatch.setenv("AIOTAOS_DSN", "ws://elsewhere:1")
    assert make({"group.id": "g1"}).options.addresses == (Address("elsewhere", 1),)
    told = make({"group.id": "g1", "td.connect.ip": "db"})
    assert told.options.addresses == (Address("db", 6041),)
    assert make(group_id="g1", host="db").options.addresses == (Address("db", 6041),)


@pytest.mark.parametrize("value", [True, "true", "TRUE", "1", 1, "yes", "on"])
def test_flags_that_are_true(value):
    told = make(group_id="g1", msg_with_table_name=value, msg_enable_batchmeta=value)
    assert told.properties["msg.with.table.name"] == "true"
    assert told.properties["msg.enable.batchmeta"] == "1"


@pytest.mark.parametrize("value", [False, "false", "False", "0", 0, "no", "off"])
def test_flags_that_are_false(value):
    told = make(group_id="g1", enable_auto_commit=value, msg_consume_excluded=value)
    assert told.auto_commit is False
    assert told.properties["msg.consume.excluded"] == "0"


def test_a_replay_is_never_committed_by_itself():
    assert make(group_id="g1", enable_replay=True).auto_commit is False
    assert make(group_id="g1", enable_replay=True, enable_auto_commit=True).auto_commit is False


def test_the_limits_of_names():
    assert make(group_id="站" * 64).group_id == "站" * 64
    assert make(group_id="g", client_id="c" * 255).client_id == "c" * 255
    assert "group.id: expected text of 192 bytes" in refused(group_id="站" * 65)
    assert "client.id: expected text of 255 bytes" in refused(group_id="g", client_id="c" * 256)


def test_it_can_be_pickled_and_compared():
    told = make(**KEYWORDS)
    assert pickle.loads(pickle.dumps(told)) == told
    assert told != make(**{**KEYWORDS, "group_id": "g2"})


# What is refused.

NUMBERS = [
    ("auto_commit_interval_ms", 0),
    ("session_timeout_ms", 6000),
    ("heartbeat_interval_ms", 1000),
    ("max_poll_interval_ms", 1000),
    ("fetch_max_wait_ms", 1),
    ("min_poll_rows", 1),
]
BAD_NUMBERS = ["", "x", "1.5", 7000.0, "-1", True, "٧٠٠٠", [7000], b"7000", 2**31, "9" * 5000]
FLAGS = [name for name, value in KEYWORDS.items() if isinstance(value, bool)]


@pytest.mark.parametrize("value", BAD_NUMBERS, ids=lambda value: repr(value)[:12])
@pytest.mark.parametrize(("name", "least"), NUMBERS)
def test_bad_numbers(name, least, value):
    key = name.replace("_", ".")
    assert refused(group_id="g", **{name: value}).startswith(f"{key}: expected a whole number")
    assert make(group_id="g", **{name: least}).properties[key] == str(least)
    assert key in refused(group_id="g", **{name: least - 1})


@pytest.mark.parametrize("value", ["", "maybe", 2, 1.0, [True], b"true"])
@pytest.mark.parametrize("name", FLAGS)
def test_bad_flags(name, value):
    key = name.replace("_", ".")
    assert refused(group_id="g", **{name: value}).startswith(f"{key}: expected true or false")


@pytest.mark.parametrize("value", ["", "Earliest", "middle", 1, True])
def test_bad_resets(value):
    assert refused(group_id="g", auto_offset_reset=value) == (
        f"auto.offset.reset: expected 'earliest', 'latest' or 'none', got {value!r}"
    )


@pytest.mark.parametrize(
    ("value", "named"),
    [(5, "group.id: expected text"), ("a:b", "group.id: expected a name without ':'")],
)
def test_bad_groups(value, named):
    assert refused(group_id=value).startswith(named)


@pytest.mark.parametrize("name", ["group_id", "client_id"])
def test_names_that_cannot_be_sent(name):
    given = {"group_id": "g", name: "\ud800"}
    assert name.replace("_", ".") in refused(**given)


@pytest.mark.parametrize(
    ("source", "given"),
    [
        (None, {}),
        ("ws://db", {}),
        ("ws://db?group.id=", {}),
        ({}, {}),
        ({"client.id": "c"}, {}),
        ({"group.id": None}, {}),
        (None, {"group_id": ""}),
        (None, {"group_id": None}),
    ],
)
def test_no_group(source, given):
    assert refused(source, **given) == "group_id: expected the name of the group, got none"


@pytest.mark.parametrize("scheme", ["http", "https", "taosrest"])
def test_rest_is_refused(scheme):
    expected = "a consumer reads over WebSocket or libtaos: use ws://, wss:// or taos://"
    assert refused(f"{scheme}://db?group.id=g") == expected
    assert refused(group_id="g", driver=scheme, host="db") == expected
    given = {"group.id": "g", "td.connect.ip": "db", "td.connect.websocket.scheme": scheme}
    assert refused(given) == expected


def test_the_native_road():
    told = ConsumerOptions.make("taos://db?group.id=g&library_path=/lib/libtaos.so", {})
    assert told.options.road is Road.NATIVE
    assert told.options.addresses[0].port == 6030


@pytest.mark.parametrize(
    ("source", "given", "named"),
    [
        (None, {"nosuch": 1}, "unknown option 'nosuch'"),
        ({"nosuch": 1}, {}, "unknown option 'nosuch'"),
        ("ws://db?nosuch=1", {}, "unknown option 'nosuch'"),
        ({5: 1}, {}, "configuration: expected names, got 5"),
        ({"nosuch.key": [1]}, {}, "nosuch.key: expected text or a number, got list"),
        (["group.id"], {}, "expected a DSN or a dictionary of options, got list"),
        (5, {}, "expected a DSN or a dictionary of options, got int"),
        ("db:6041", {}, "dsn: expected driver://"),
        ({"td.connect.port": "x"}, {}, "port: expected a whole number"),
        ({"td.connect.websocket.scheme": "ftp"}, {}, "driver 'ftp' is unknown"),
        (None, {"read_timeout": 0}, "read_timeout: expected a positive number of seconds"),
        (None, {"read_ahead": 0}, "read_ahead: expected a whole number from 1, got 0"),
        (None, {"read_ahead": "1"}, "read_ahead: expected a whole number from 1, got '1'"),
    ],
)
def test_what_else_is_refused(source, given, named):
    assert refused(source, **{"group_id": "g", **given}).startswith(named)


def test_unknown_keywords_of_a_consumer_are_named_with_its_own():
    """Whoever mistypes an option of a consumer is shown those of a consumer."""
    assert "group_id" in refused(group_id="g", gruop_id="g")


def test_official_keys_of_a_connection_in_a_dsn():
    told = make(
        "ws://elsewhere?group.id=g&td.connect.ip=db&td.connect.port=7041&td.connect.user=u"
        "&td.connect.pass=gehe%40im&td.connect.websocket.scheme=wss"
    )
    assert told.options == make("wss://u:gehe%40im@db:7041?group.id=g").options
    assert told.properties == {"group.id": "g"}
    assert "gehe" not in repr(told)


# Secrets.


def test_secrets_are_shown_nowhere():
    secrets = {"td.connect.pass": "geheim1", "td.connect.token": "geheim2"}
    given = {"group.id": "g", **secrets, "td.connect.bearer_token": "geheim3"}
    shown = repr(make(given)) + repr(Consumer(given)) + str(Consumer(given))
    assert "geheim" not in shown
    assert "geheim" not in repr(make("ws://root:geheim@db?group.id=g&token=geheim"))
    assert "geheim" not in refused("ws://root:geheim@db?group.id=g&min.poll.rows=x&token=geheim")
    assert "geheim" not in refused({**given, "td.connect.port": "x"})
    assert "geheim" not in refused({**given, "session.timeout.ms": "x"})
    assert "geheim" not in refused({"group.id": "g", "td.connect.pass": ["geheim"]})


async def test_secrets_are_in_no_log_and_no_error(server, caplog):
    caplog.set_level(logging.DEBUG)

    async def refuse(session, request):
        reply = {"code": 0xFFFF, "message": "no", "action": "subscribe", "req_id": request.req_id}
        return [json.dumps(reply)]

    server.handlers = {"subscribe": refuse}
    consumer = Consumer(server.dsn, group_id="g", password="geheim1", bearer_token="geheim2")
    with pytest.raises(Error) as raised:
        await consumer.subscribe("q")
    await consumer.close()
    assert "geheim" not in caplog.text + str(raised.value) + repr(raised.value)


# What is sent.


async def sent(server, **options):
    """The arguments of ``subscribe``."""
    subscriptions = Subscriptions(server)
    async with Consumer(server.dsn, **options) as consumer:
        await consumer.subscribe(["q", "r"])
    (arguments,) = subscriptions.subscribed
    return arguments


async def test_little_is_sent(server):
    assert await sent(server, group_id="g1") == {
        "user": "root",
        "password": "taosdata",
        "group_id": "g1",
        "topics": ["q", "r"],
        "auto_commit": "false",
        "connector": "aiotaos",
    }
    assert server.paths == ["/rest/tmq"]


async def test_all_is_sent(server):
    arguments = await sent(
        server,
        **KEYWORDS,
        user="u",
        password="p",
        database="power",
        timezone="Asia/Shanghai",
        user_app="app",
        user_ip="10.1.2.3",
        adapter_ha=True,
        token="cloud token",
        bearer_token="bearer",
    )
    assert arguments == {
        "user": "u",
        "password": "p",
        "db": "power",
        "group_id": "g1",
        "client_id": "c1",
        "topics": ["q", "r"],
        "offset_rest": "earliest",
        "offset_reset": "earliest",
        "auto_commit": "false",
        "snapshot_enable": "false",
        "with_table_name": "true",
        "enable_batch_meta": "1",
        "msg_consume_excluded": "0",
        "session_timeout_ms": "7000",
        "max_poll_interval_ms": "60000",
        "config": {
            "heartbeat.interval.ms": "1500",
            "fetch.max.wait.ms": "20",
            "min.poll.rows": "100",
            "enable.replay": "false",
            "td.connect.token": "bearer",
        },
        "tz": "Asia/Shanghai",
        "app": "app",
        "ip": "10.1.2.3",
        "connector": "aiotaos",
        "list_instances": True,
    }
    assert server.paths == ["/rest/tmq?token=cloud%20token"]


async def test_the_server_never_commits_by_itself(server):
    """It would commit what was read ahead."""
    arguments = await sent(server, group_id="g", enable_auto_commit=True, auto_commit_interval_ms=1)
    assert arguments["auto_commit"] == "false"
    assert "auto_commit_interval_ms" not in arguments
    assert "config" not in arguments


async def test_properties_that_are_not_known_here_are_passed_on(server):
    subscriptions = Subscriptions(server)
    host, _, port = server.endpoint.removeprefix("ws://").partition(":")
    properties = {"a.flag": True, "a.number": 5, "a.float": 0.5, "a.text": "x", "a.nothing": None}
    given = {"group.id": "g", "td.connect.ip": host, "td.connect.port": port, **properties}
    async with Consumer(given) as consumer:
        await consumer.subscribe("q")
    assert subscriptions.subscribed[0]["config"] == {
        "a.flag": "true",
        "a.number": "5",
        "a.float": "0.5",
        "a.text": "x",
    }
