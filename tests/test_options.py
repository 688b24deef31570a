"""DSN, keyword arguments and environment."""

from __future__ import annotations

import math
import pickle
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from aiotaos import InterfaceError, Options
from aiotaos.options import Address, Road


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    monkeypatch.delenv("AIOTAOS_DSN", raising=False)


def test_defaults():
    options = Options.make()
    assert options == Options()
    assert options.road is Road.WEBSOCKET
    assert not options.tls
    assert options.addresses == (Address("localhost", 6041),)
    assert (options.user, options.password, options.database) == ("root", "taosdata", None)
    assert (options.timezone, options.timestamp) == (None, "datetime")
    assert (options.token, options.bearer_token, options.totp_code) == (None, None, None)
    assert options.compression is False
    assert options.connect_timeout == 10
    assert options.read_timeout == 300
    assert options.write_timeout == 10
    assert options.conn_retries == 5
    assert (options.retry_backoff_ms, options.retry_backoff_max_ms) == (200, 2000)
    assert (options.tls_mode, options.tls_ca) == ("verify_identity", None)
    assert (options.user_app, options.user_ip, options.conn_mode) == (None, None, 0)
    assert options.data is None
    assert options.scheme == "ws"


@pytest.mark.parametrize(
    ("scheme", "road", "tls", "shown"),
    [
        ("ws", Road.WEBSOCKET, False, "ws"),
        ("WS", Road.WEBSOCKET, False, "ws"),
        ("wss", Road.WEBSOCKET, True, "wss"),
        ("taosws", Road.WEBSOCKET, False, "ws"),
        ("taoswss", Road.WEBSOCKET, True, "wss"),
        ("taosws+ws", Road.WEBSOCKET, False, "ws"),
        ("taosws+wss", Road.WEBSOCKET, True, "wss"),
        ("taos+ws", Road.WEBSOCKET, False, "ws"),
        ("taos+wss", Road.WEBSOCKET, True, "wss"),
        ("http", Road.REST, False, "http"),
        ("https", Road.REST, True, "https"),
        ("taosrest", Road.REST, False, "http"),
        ("taosrest+http", Road.REST, False, "http"),
        ("taosrest+https", Road.REST, True, "https"),
        ("taos+http", Road.REST, False, "http"),
        ("taos+https", Road.REST, True, "https"),
        ("taos", Road.NATIVE, False, "taos"),
        ("embedded", Road.EMBEDDED, False, "embedded"),
    ],
)
def test_drivers(scheme, road, tls, shown):
    for options in (Options.make(f"{scheme}://host"), Options.make(driver=scheme, host="host")):
        assert (options.road, options.tls, options.scheme) == (road, tls, shown)
        (address,) = options.addresses
        port = 6030 if road is Road.NATIVE else 6041
        assert address == Address("host", port)
        assert options.endpoint(address) == f"{shown}://host:{port}"


@pytest.mark.parametrize(
    ("hosts", "addresses"),
    [
        ("", [("localhost", 6041)]),
        ("h", [("h", 6041)]),
        ("h:1", [("h", 1)]),
        (":7", [("localhost", 7)]),
        ("h:65535", [("h", 65535)]),
        ("127.0.0.1:6041", [("127.0.0.1", 6041)]),
        ("[::1]", [("::1", 6041)]),
        ("[::1]:99", [("::1", 99)]),
        ("[fe80::1%25eth0]", [("fe80::1%eth0", 6041)]),
        ("[fe80::1%eth0]:5", [("fe80::1%eth0", 5)]),
        ("a,b:2,[::3]:3", [("a", 6041), ("b", 2), ("::3", 3)]),
        ("a, b", [("a", 6041), ("b", 6041)]),
        ("a:1,a:1,a:2", [("a", 1), ("a", 2)]),
        ("xn--bcher-kva.example", [("xn--bcher-kva.example", 6041)]),
        ("b%C3%BCcher.example", [("bücher.example", 6041)]),
        ("gw.cloud.tdengine.com", [("gw.cloud.tdengine.com", 6041)]),
    ],
)
def test_addresses(hosts, addresses):
    expected = tuple(Address(*address) for address in addresses)
    assert Options.make(f"ws://{hosts}").addresses == expected
    assert Options.make(f"ws://user:pw@{hosts}/db?compression=1").addresses == expected
    if hosts:
        assert Options.make(host=hosts).addresses == expected


@pytest.mark.parametrize("host", ["gw.us.cloud.tdengine.com", "gw.cloud.taosdata.com"])
def test_the_cloud_is_at_443(host):
    assert Options.make(f"wss://{host}").addresses == (Address(host, 443),)
    assert Options.make(f"wss://{host}:8443").addresses == (Address(host, 8443),)


def test_endpoints_of_ipv6():
    options = Options.make("wss://[::1]:99")
    assert options.endpoint(options.addresses[0]) == "wss://[::1]:99"


@pytest.mark.parametrize(
    ("login", "user", "password"),
    [
        ("", "root", "taosdata"),
        ("me@", "me", "taosdata"),
        ("me:@", "me", ""),
        (":pw@", "root", "pw"),
        ("me:pw@", "me", "pw"),
        ("m%40e:p%3Aw%2F%3F%23%40%25+@", "m@e", "p:w/?#@%+"),
        ("me:p:w@", "me", "p:w"),
        ("me:p@w@", "me", "p@w"),
        ("%E6%B6%9B:%F0%9F%9A%80@", "涛", "🚀"),
    ],
)
def test_user_and_password(login, user, password):
    options = Options.make(f"ws://{login}host/db")
    assert (options.user, options.password) == (user, password)
    assert options.addresses == (Address("host", 6041),)


@pytest.mark.parametrize(
    ("path", "database"),
    [
        ("", None),
        ("/", None),
        ("/power", "power"),
        ("/power/", "power"),
        ("/p%2Fw", "p/w"),
        ("/%E6%B6%9B", "涛"),
    ],
)
def test_databases(path, database):
    assert Options.make(f"ws://host{path}").database == database
    assert Options.make(f"ws://host{path}?user_app=x").database == database


PARAMETERS = {
    "timezone": [("Asia/Kolkata", "Asia/Kolkata"), ("UTC", "UTC"), ("Asia%2FTokyo", "Asia/Tokyo")],
    "timestamp": [("datetime", "datetime"), ("int", "int"), ("datetime64", "datetime64")],
    "token": [("abc%26", "abc&")],
    "bearer_token": [("abc", "abc")],
    "totp_code": [("012345", "012345")],
    "compression": [
        *((text, True) for text in ("", "true", "True", "1", "yes", "on")),
        *((text, False) for text in ("false", "FALSE", "0", "no", "off")),
    ],
    "connect_timeout": [("2.5", 2.5), ("inf", math.inf), ("1e-3", 0.001)],
    "conn_timeout": [("3", 3.0)],
    "read_timeout": [("60", 60.0)],
    "write_timeout": [("0.5", 0.5)],
    "conn_retries": [("0", 0), ("7", 7), ("1000000", 1_000_000)],
    "retry_backoff_ms": [("0", 0), ("86400000", 86_400_000)],
    "retry_backoff_max_ms": [("1", 1)],
    "tls_mode": [(mode, mode) for mode in ("verify_identity", "verify_ca", "none")],
    "tls_ca": [("%2Fetc%2Fca.pem", "/etc/ca.pem"), ("/etc/ca.pem", "/etc/ca.pem")],
    "user_app": [("my%20app", "my app")],
    "user_ip": [("10.0.0.1", "10.0.0.1"), ("%3A%3A1", "::1")],
    "conn_mode": [("0", 0), ("1", 1)],
    "user": [("me", "me")],
    "password": [("pw", "pw"), ("", "")],
    "database": [("power", "power")],
}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [(name, text, value) for name, pairs in PARAMETERS.items() for text, value in pairs],
)
def test_parameters(name, text, value):
    options = Options.make(f"ws://host?user_app=other&{name}={text}&")
    name = "connect_timeout" if name == "conn_timeout" else name
    assert getattr(options, name) == value
    assert type(getattr(options, name)) is type(value)
    if name != "tls_ca" and "%" not in text:
        assert getattr(Options.make("ws://host", **{name: text}), name) == value


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("timezone", ZoneInfo("Asia/Tokyo"), "Asia/Tokyo"),
        ("timestamp", int, "int"),
        ("timestamp", datetime, "datetime"),
        ("timestamp", np.datetime64, "datetime64"),
        ("compression", True, True),
        ("compression", False, False),
        ("connect_timeout", 3, 3.0),
        ("read_timeout", math.inf, math.inf),
        ("conn_retries", 0, 0),
        ("conn_mode", 1, 1),
        ("user_ip", "0:0:0:0:0:0:0:1", "::1"),
        ("password", "", ""),
    ],
)
def test_arguments(name, given, value):
    options = Options.make(host="host", **{name: given})
    assert getattr(options, name) == value
    assert type(getattr(options, name)) is type(value)


def test_an_option_without_a_value_in_a_dsn_is_empty():
    assert Options.make("ws://host?compression").compression is True


def test_none_is_not_given():
    everything = dict.fromkeys(
        ("driver", "host", "port", "user", "password", "database", "timezone", "data")
    )
    assert Options.make("ws://me@host:1/db", **everything) == Options.make("ws://me@host:1/db")


# Which beats which.


def test_arguments_beat_the_dsn():
    options = Options.make(
        "ws://me:pw@host:1/db?timezone=UTC&read_timeout=5",
        driver="wss",
        user="you",
        password="secret",
        database="other",
        timezone="Asia/Tokyo",
        read_timeout=7,
    )
    assert (options.tls, options.user, options.password) == (True, "you", "secret")
    assert (options.database, options.timezone, options.read_timeout) == ("other", "Asia/Tokyo", 7)
    assert options.addresses == (Address("host", 1),)


def test_a_host_beats_the_hosts_of_the_dsn():
    options = Options.make("ws://me@a:1,b:2/db", host="c")
    assert options.addresses == (Address("c", 6041),)
    assert (options.user, options.database) == ("me", "db")
    assert Options.make("ws://a:1", host="c:3,d").addresses == (Address("c", 3), Address("d", 6041))


def test_a_port_beats_the_ports_of_the_dsn():
    assert Options.make("ws://a:1,b:2", port=3).addresses == (Address("a", 3), Address("b", 3))
    assert Options.make("ws://a,a:2", port="3").addresses == (Address("a", 3),)
    assert Options.make(host="c", port=9).addresses == (Address("c", 9),)
    assert Options.make(host="c:1,d", port=9).addresses == (Address("c", 1), Address("d", 9))
    assert Options.make(port=9).addresses == (Address("localhost", 9),)


def test_the_environment_stands_in_for_a_dsn(monkeypatch):
    monkeypatch.setenv("AIOTAOS_DSN", "wss://env:pw@envhost:77/envdb?read_timeout=9")
    options = Options.make()
    assert (options.scheme, options.user, options.database) == ("wss", "env", "envdb")
    assert options.addresses == (Address("envhost", 77),)
    assert Options.make(database="mine").database == "mine"
    assert Options.make(database="mine").user == "env"
    assert Options.make(port=9).addresses == (Address("envhost", 9),)


@pytest.mark.parametrize(
    ("dsn", "arguments"), [("ws://h", {}), (None, {"host": "h"}), (None, {"driver": "ws"})]
)
def test_the_environment_is_not_asked(monkeypatch, dsn, arguments):
    monkeypatch.setenv("AIOTAOS_DSN", "nonsense")
    assert Options.make(dsn, **arguments).user == "root"
    with pytest.raises(InterfaceError, match="found no '://'"):
        Options.make()


def test_a_repeated_parameter_the_last_counts():
    assert Options.make("ws://h?read_timeout=1&read_timeout=2").read_timeout == 2


def test_spaces_around_a_dsn():
    assert Options.make(" ws://host/db\n") == Options.make("ws://host/db")


# What is refused.


@pytest.mark.parametrize(
    ("dsn", "told"),
    [
        ("", "dsn: expected driver://"),
        ("host", "found no '://'"),
        ("host:6041", "found no '://'"),
        ("ws:/host", "found no '://'"),
        (5, "dsn: expected a string, got int"),
        (b"ws://host", "dsn: expected a string, got bytes"),
        ("://host", "driver '' is unknown, expected one of ws, wss, taosws"),
        ("mysql://host", "driver 'mysql' is unknown"),
        ("ws+x://host", r"driver 'ws\+x' is unknown"),
        ("ws://host:", r"port of 'host': expected a whole number from 1 to 65535, got something"),
        ("ws://host:0", "port of 'host': expected a whole number from 1 to 65535, got '0'"),
        ("ws://host:65536", "got '65536'"),
        ("ws://host:-1", "got something else"),
        ("ws://host:x", "got something else"),
        ("ws://host:٣", "port of 'host'"),
        ("ws://" + "a" * 70 + ".example", "is not a host name"),
        ("ws://a..b", "is not a host name"),
        ("ws://%23", "host '#' is malformed"),
        ("ws://ex℀mple.com", "is malformed"),
        ("ws://[fe80::1%25%0d%0a]", "the name of an interface"),
        ("ws://a%00b", "is malformed"),
        ("ws://::1", r"an IPv6 address stands in brackets, as in \[::1\]:6041"),
        ("ws://[::1", r"host '\[::1'|an IPv6 address stands in brackets"),
        ("ws://[nonsense]", "host 'nonsense' is not an IPv6 address"),
        ("ws://[127.0.0.1]", "host '127.0.0.1' is not an IPv6 address"),
        ("ws://a,,b", "host: expected .* found an empty one"),
        ("ws://a,", "found an empty one"),
        ("ws://a b", "host 'a b' is malformed"),
        ("ws://a#b", "host 'a#b' is malformed"),
        (
            "ws://host?nosuch=1",
            "unknown option 'nosuch', expected one of adapter_ha, auth, bearer_token, .* user_ip",
        ),
        ("ws://host?host=x", "unknown option 'host'"),
        ("ws://host?road=x", "unknown option 'road'"),
        ("ws://host?data=x", "data is an option of embedded:// alone"),
        ("ws://me:p/w@host", "an '@' stands behind '/' or '\\?'; percent-encode"),
        ("ws://me:p?w@host", "an '@' stands behind '/' or '\\?'; percent-encode"),
    ],
)
def test_malformed_dsns(dsn, told):
    with pytest.raises(InterfaceError, match=told):
        Options.make(dsn)


BAD = {
    "driver": ["", "nosuch", 5],
    "host": ["", 5, "a@b", "::1", ["a"]],
    "port": [0, 65536, -1, "x", 1.5, True, "1" * 30],
    "user": ["", 5],
    "password": [5, b"pw"],
    "database": ["", 5],
    "timezone": ["", "Nowhere/Land", "Asia", 5, "../etc/passwd", UTC, "Asia/Tok\0yo"],
    "timestamp": ["", "float", float, 5],
    "token": ["", 5],
    "bearer_token": ["", 5],
    "totp_code": ["", 123456],
    "compression": ["maybe", 2, 1.0],
    "connect_timeout": [0, -1, math.nan, "soon", True, "", "nan", [1]],
    "read_timeout": [0, "-1"],
    "write_timeout": [0, "zero"],
    "conn_retries": [-1, 1_000_001, "many", 1.5, True, "²"],
    "retry_backoff_ms": [-1, 86_400_001, "0x10"],
    "retry_backoff_max_ms": [-1, " 5"],
    "tls_mode": ["", "verify", True],
    "tls_ca": ["", 5],
    "user_app": ["", 5],
    "user_ip": ["localhost", "", "1.2.3", 5],
    "conn_mode": [2, -1, "x", True],
    "auth": ["", "abc", "g" * 32, "a" * 33, 5, b"a" * 32],
    "client_driver": ["", "rest", "NATIVE", True],
    "data": ["/tmp/file"],
    "nosuch": [1],
}


@pytest.mark.parametrize(("name", "value"), [(name, v) for name in BAD for v in BAD[name]])
def test_bad_arguments(name, value):
    with pytest.raises(InterfaceError) as raised:
        Options.make("ws://h", **{name: value})
    assert name in raised.value.message
    assert raised.value.code is None


def test_data_is_for_embedded_servers():
    assert Options.make("embedded://", data="file.db").data == "file.db"
    assert Options.make("embedded://?data=%2Ftmp%2Ffile.db").data == "/tmp/file.db"


def test_options_of_libtaos():
    options = Options.make(
        f"taos://?auth={'A0' * 16}&config_dir=%2Fetc%2Ftaos&charset=UTF-8",
        library_path="libtaos.so",
        locale="C",
        client_driver="native",
    )
    assert (options.auth, options.config_dir, options.charset) == ("a0" * 16, "/etc/taos", "UTF-8")
    assert (options.library_path, options.locale) == ("libtaos.so", "C")
    assert (options.client_driver, options.addresses) == ("native", (Address("localhost", 6030),))
    options = Options.make("taos://h,i:1?client_driver=websocket")
    assert options.client_driver == "websocket"
    assert options.addresses == (Address("h", 6041), Address("i", 1))
    with pytest.raises(InterfaceError, match=r"auth is an option of taos:// alone"):
        Options.make("ws://", auth="a0" * 16)


# Secrets.


def test_secrets_are_not_shown():
    options = Options.make(
        "wss://me:S3CR3T@host?token=S3CR3T&totp_code=S3CR3T",
        bearer_token="S3CR3T",
        tls_ca="-----BEGIN S3CR3T",
    )
    assert "S3CR3T" not in repr(options)
    assert "S3CR3T" not in str(options)
    assert "me" in repr(options)
    assert "5ec2e7" not in repr(Options.make("taos://me@host", auth="5ec2e7" * 5 + "00"))


@pytest.mark.parametrize(
    "dsn",
    [
        "ws//me:S3CR3T@host",
        "me:S3CR3T@host",
        "nosuch://me:S3CR3T@host",
        "ws://me:S3CR3T/x@host",
        "ws://me:S3CR3T?x@host",
        "ws://me:S3CR3T@host:port",
        "ws://me:S3CR3T@host?nosuch=S3CR3T",
        "ws://me:S3CR3T@[host]",
        "ws://me:S3CR3T@ho st",
        "ws://me:S3CR3T@a,,b",
        "ws://host?token=&password=S3CR3T",
        "taos://host?auth=S3CR3T",
        "ws://host?auth=S3CR3T",
    ],
)
def test_secrets_are_not_in_errors(dsn):
    with pytest.raises(InterfaceError) as raised:
        Options.make(dsn)
    assert "S3CR3T" not in str(raised.value) + repr(raised.value)


@pytest.mark.parametrize(
    "name", ["password", "token", "bearer_token", "totp_code", "tls_ca", "auth"]
)
def test_a_secret_of_a_wrong_type_is_not_shown(name):
    with pytest.raises(InterfaceError) as raised:
        Options.make(**{name: b"S3CR3T"})
    assert raised.value.message == f"{name}: expected a string, got bytes"
    with pytest.raises(InterfaceError):
        Options.make(host="me:S3CR3T@host")


# The rest.


def test_options_are_frozen_and_can_be_compared_and_pickled():
    options = Options.make("ws://me:pw@a,b/db?timezone=UTC")
    with pytest.raises(AttributeError):
        options.user = "you"
    assert options == Options.make("ws://me:pw@a:6041,b:6041/db", timezone="UTC")
    assert hash(options) == hash(Options.make("ws://me:pw@a,b/db?timezone=UTC"))
    assert pickle.loads(pickle.dumps(options)) == options


def test_zones(monkeypatch):
    assert Options.make(timezone="Asia/Tokyo").tz == ZoneInfo("Asia/Tokyo")
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    assert Options.make().tz == ZoneInfo("Asia/Kolkata")


@pytest.mark.parametrize(
    "dsn",
    [
        "ws://root:S3CRET",
        "ws:root:S3CRET@host/db?x=http://y",
        "ws://%23?token=S3CRET",
        "ws://root:S3/CRET@host",
    ],
)
def test_a_misplaced_secret_is_not_shown(dsn):
    with pytest.raises(InterfaceError) as raised:
        Options.make(dsn)
    assert "S3" not in str(raised.value)


@pytest.mark.parametrize("name", ["user", "password", "database", "token", "user_app"])
def test_text_that_utf8_cannot_encode(name):
    with pytest.raises(InterfaceError, match=f"{name}: it has characters that UTF-8"):
        Options.make("ws://", **{name: "x\ud800"})


def test_a_time_out_that_is_no_float():
    with pytest.raises(InterfaceError, match="read_timeout: expected a positive number"):
        Options.make("ws://", read_timeout=10**400)


def test_an_empty_environment_is_a_mistake(monkeypatch):
    monkeypatch.setenv("AIOTAOS_DSN", "")
    with pytest.raises(InterfaceError, match="AIOTAOS_DSN: it is set, but empty"):
        Options.make()
    assert Options.make(host="db").addresses == (Address("db", 6041),)
