"""DSN, keyword arguments and environment into one frozen :class:`Options`."""

from __future__ import annotations

import contextlib
import ipaddress
import math
import os
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, tzinfo
from enum import Enum
from typing import Any, Literal, TypedDict, get_args
from urllib.parse import unquote
from zoneinfo import ZoneInfo

from .errors import InterfaceError
from .protocol.rows import TimestampAs
from .protocol.zones import local_timezone

ENVIRONMENT_DSN = "AIOTAOS_DSN"
ADAPTER_PORT = 6041
NATIVE_PORT = 6030
_CLOUD_PORT = 443
_CLOUD_HOSTS = ("cloud.tdengine.com", "cloud.taosdata.com")

TlsMode = Literal["verify_identity", "verify_ca", "none"]
CancelMode = Literal["auto", "kill", "leave"]
RestAuth = Literal["basic", "taosd"]
ClientDriver = Literal["native", "websocket"]


class Road(Enum):
    """The ways to a server."""

    WEBSOCKET = "WebSocket"
    REST = "REST"
    NATIVE = "native"
    EMBEDDED = "embedded"

    @property
    def binds(self) -> bool:
        """Whether it carries prepared statements, so that rows are bound and not written in SQL."""
        return self is not Road.REST


_DRIVERS: dict[str, tuple[Road, bool]] = {
    "ws": (Road.WEBSOCKET, False),
    "wss": (Road.WEBSOCKET, True),
    "taosws": (Road.WEBSOCKET, False),
    "taoswss": (Road.WEBSOCKET, True),
    "taosws+ws": (Road.WEBSOCKET, False),
    "taosws+wss": (Road.WEBSOCKET, True),
    "taos+ws": (Road.WEBSOCKET, False),
    "taos+wss": (Road.WEBSOCKET, True),
    "http": (Road.REST, False),
    "https": (Road.REST, True),
    "taosrest": (Road.REST, False),
    "taosrest+http": (Road.REST, False),
    "taosrest+https": (Road.REST, True),
    "taos+http": (Road.REST, False),
    "taos+https": (Road.REST, True),
    "taos": (Road.NATIVE, False),
    "embedded": (Road.EMBEDDED, False),
}


@dataclass(frozen=True, slots=True)
class Address:
    """Host and port of one server."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class OptionArguments(TypedDict, total=False):
    """Keyword arguments of :func:`aiotaos.connect`; see :class:`Options` for their meaning.

    None stands for not given.
    """

    driver: str | None
    host: str | None
    port: int | None
    user: str | None
    password: str | None
    database: str | None
    timezone: str | ZoneInfo | None
    timestamp: TimestampAs | type | None
    token: str | None
    bearer_token: str | None
    totp_code: str | None
    compression: bool | None
    rest_auth: RestAuth | None
    read_buffer_size: int | None
    connect_timeout: float | None
    read_timeout: float | None
    write_timeout: float | None
    conn_retries: int | None
    retry_backoff_ms: int | None
    retry_backoff_max_ms: int | None
    retry_writes: bool | None
    cancel: CancelMode | None
    keep_alive: float | None
    adapter_ha: bool | None
    tls_mode: TlsMode | None
    tls_ca: str | None
    user_app: str | None
    user_ip: str | None
    conn_mode: int | None
    data: str | None
    auth: str | None
    library_path: str | None
    client_driver: ClientDriver | None
    config_dir: str | None
    charset: str | None
    locale: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to reach a server, and how to speak with it.

    Defaults and units are those of TDengine's official clients. In a DSN each of the attributes
    from ``timezone`` on is a parameter of the same name (``conn_timeout`` is understood as
    ``connect_timeout``, and of the Go client's ``disableCompression`` and ``readBufferSize``).

    Attributes:
        road: WebSocket, REST, native or embedded; given by the DSN's scheme (or ``driver=``).
        tls: Whether the link is encrypted (``wss``, ``https``).
        addresses: The servers; one suffices.
        user: Login name.
        password: Password.
        database: Current database after connecting, or None.
        timezone: IANA name of the session's time zone; None means the server's for SQL and this
            machine's for datetimes.
        timestamp: What TIMESTAMPs become: ``"datetime"``, ``"int"`` or ``"datetime64"``.
        token: Token of TDengine Cloud.
        bearer_token: Token that takes the place of user and password.
        totp_code: Second factor of the login.
        compression: Whether to ask for compression of the link.
        rest_auth: How to log in over REST: ``"basic"`` sends user and password with each request,
            ``"taosd"`` a token that the server gives for them.
        read_buffer_size: Bytes of an answer over REST that are gathered before their rows are
            decoded.
        connect_timeout: Seconds until a session must stand, all retries included.
        read_timeout: Seconds that an answer may take; the default of every ``timeout=``.
        write_timeout: Seconds that sending a request may take.
        conn_retries: How often a failed attempt to connect is repeated, for each address; and how
            often a call is, that failed for a passing reason.
        retry_backoff_ms: Pause before the first retry, ms; doubled each time.
        retry_backoff_max_ms: Longest pause, ms.
        retry_writes: Whether writes too are repeated when it is not known if they have run.
        cancel: What becomes of a query that is cancelled or times out: ``"kill"`` stops it on the
            server, ``"leave"`` lets it run, ``"auto"`` stops those that ran for more than 2 s.
        keep_alive: Seconds without a sign of the server after which it is asked for one, and after
            as many again the session is lost; infinity: never.
        adapter_ha: Whether to learn the other servers of the cluster from the server.
        tls_mode: ``"verify_identity"`` checks certificate and host name, ``"verify_ca"`` the
            certificate alone, ``"none"`` nothing.
        tls_ca: Certificate authority: path of a PEM file, or the PEM text; None: the system's.
        user_app: Name of the application, shown by ``show connections`` (23 bytes).
        user_ip: Address of the client, shown by ``show connections``.
        conn_mode: 0, or 1 for BI mode.
        data: File in which an embedded server keeps its data; None: in memory.
        auth: MD5 of the password, as 32 hexadecimal digits, that takes the place of the password;
            for the native road.
        library_path: libtaos, for the native road: its file, its directory, or a name for the
            system's loader; None: wherever it is found.
        client_driver: The driver that a libtaos of 3.3.6 or newer loads: ``"native"`` speaks with
            taosd, ``"websocket"`` with taosAdapter; None: the one that is set, or the native one.
            This and the next three hold for the whole process, from its first native connection
            on.
        config_dir: Directory of the taos.cfg that libtaos reads; None: libtaos' own.
        charset: Encoding of text in libtaos: ``UTF-8``, which is the default; there is no other.
        locale: Locale of libtaos, as ``en_US.UTF-8``; None: the system's.
    """

    road: Road = Road.WEBSOCKET
    tls: bool = False
    addresses: tuple[Address, ...] = (Address("localhost", ADAPTER_PORT),)
    user: str = "root"
    password: str = field(default="taosdata", repr=False)
    database: str | None = None
    timezone: str | None = None
    timestamp: TimestampAs = "datetime"
    token: str | None = field(default=None, repr=False)
    bearer_token: str | None = field(default=None, repr=False)
    totp_code: str | None = field(default=None, repr=False)
    compression: bool = False
    rest_auth: RestAuth = "basic"
    read_buffer_size: int = 131_072
    connect_timeout: float = 10.0
    read_timeout: float = 300.0
    write_timeout: float = 10.0
    conn_retries: int = 5
    retry_backoff_ms: int = 200
    retry_backoff_max_ms: int = 2000
    retry_writes: bool = False
    cancel: CancelMode = "auto"
    keep_alive: float = 30.0
    adapter_ha: bool = False
    tls_mode: TlsMode = "verify_identity"
    tls_ca: str | None = field(default=None, repr=False)
    user_app: str | None = None
    user_ip: str | None = None
    conn_mode: int = 0
    data: str | None = None
    auth: str | None = field(default=None, repr=False)
    library_path: str | None = None
    client_driver: ClientDriver | None = None
    config_dir: str | None = None
    charset: str | None = None
    locale: str | None = None

    @property
    def tz(self) -> tzinfo:
        """The zone that datetimes are given in."""
        return ZoneInfo(self.timezone) if self.timezone else local_timezone()

    @property
    def scheme(self) -> str:
        """``ws``, ``wss``, ``http``, ``https``, ``taos`` or ``embedded``."""
        if self.road is Road.WEBSOCKET:
            return "wss" if self.tls else "ws"
        if self.road is Road.REST:
            return "https" if self.tls else "http"
        return "taos" if self.road is Road.NATIVE else "embedded"

    def endpoint(self, address: Address) -> str:
        """``scheme://host:port``, without credentials."""
        return f"{self.scheme}://{address}"

    @classmethod
    def make(cls, dsn: str | None = None, /, **arguments: Any) -> Options:
        """Read a DSN and keyword arguments; an argument beats the DSN.

        Without a DSN and without ``host``, the environment's ``AIOTAOS_DSN`` is taken if set.

        Raises:
            InterfaceError: Something is unknown or malformed; the message names it and says what
                was expected. Secrets are not shown.
        """
        given = dict(
            _official(name, value) for name, value in arguments.items() if value is not None
        )
        if dsn is None and "host" not in given and "driver" not in given:
            dsn = os.environ.get(ENVIRONMENT_DSN)
            if dsn == "":
                raise InterfaceError(
                    f"{ENVIRONMENT_DSN}: it is set, but empty; unset it or fill it"
                )
        values = _read_dsn(dsn) if dsn is not None else _Parts()
        if "driver" in given:
            values.road, values.tls = _driver(given.pop("driver"))
        port = _port("port", given.pop("port")) if "port" in given else None
        own_host = "host" in given
        if own_host:
            values.hosts = _text("host", given.pop("host"))
        merged = _read_parameters(values.parameters) | _read_parameters(given)
        by_taosd = values.road is Road.NATIVE and merged.get("client_driver") != "websocket"
        usual = NATIVE_PORT if by_taosd else ADAPTER_PORT
        addresses = _addresses(values.hosts or "localhost", usual, values.tls, port)
        if port is not None and not own_host:
            addresses = tuple(dict.fromkeys(Address(item.host, port) for item in addresses))
        for name, road in _OF_ROAD.items():
            if name in merged and values.road is not road:
                scheme = "taos" if road is Road.NATIVE else "embedded"
                raise InterfaceError(f"{name} is an option of {scheme}:// alone")
        return cls(road=values.road, tls=values.tls, addresses=addresses, **merged)


class _Parts:
    """What a DSN says, not yet checked."""

    def __init__(self) -> None:
        self.road = Road.WEBSOCKET
        self.tls = False
        self.hosts = ""
        self.parameters: dict[str, Any] = {}


def _read_dsn(dsn: str) -> _Parts:
    if not isinstance(dsn, str):
        raise InterfaceError(f"dsn: expected a string, got {type(dsn).__name__}")
    scheme, separator, rest = dsn.strip().partition("://")
    if not separator:
        raise InterfaceError(
            "dsn: expected driver://[user[:password]@]host[:port][/database][?key=value], "
            "found no '://'"
        )
    parts = _Parts()
    parts.road, parts.tls = _driver(scheme)
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    login, at, parts.hosts = authority.rpartition("@")
    if not at and "@" in path + query:
        raise InterfaceError(
            "dsn: an '@' stands behind '/' or '?'; percent-encode special characters of user, "
            "password and parameters"
        )
    user, colon, password = login.partition(":")
    if user:
        parts.parameters["user"] = unquote(user)
    if colon:
        parts.parameters["password"] = unquote(password)
    path = path.rstrip("/")
    if path:
        parts.parameters["database"] = unquote(path)
    for pair in filter(None, query.split("&")):
        name, _, value = pair.partition("=")
        name, given = _official(unquote(name), unquote(value))
        parts.parameters[name] = given
    return parts


def _official(name: str, value: object) -> tuple[str, object]:
    """A parameter under the name that it has here; some go by other names elsewhere."""
    if name == "disableCompression":
        return "compression", not _flag(name, value)
    return _ALIASES.get(name, name), value


def _driver(name: object) -> tuple[Road, bool]:
    found = _DRIVERS.get(name.lower()) if isinstance(name, str) else None
    if found is None:
        # What stands before a misplaced '://' may be a password.
        shown = repr(name) if re.fullmatch(r"[\w+.-]{0,30}", str(name)) else "of the DSN"
        raise InterfaceError(f"driver {shown} is unknown, expected one of {', '.join(_DRIVERS)}")
    return found


def _addresses(text: str, usual: int, tls: bool, port: int | None) -> tuple[Address, ...]:
    if "@" in text:
        raise InterfaceError("host: expected host[:port][,host[:port]…], found an '@' in it")
    found: dict[Address, None] = {}
    for item in text.split(","):
        host, digits = _split_port(item.strip())
        if digits is not None:
            if not digits.isdecimal():  # not shown: without its host, a password stands here
                raise InterfaceError(
                    f"port of {host!r}: expected a whole number from 1 to 65535, got something "
                    "else; user and password stand before an '@'"
                )
            chosen = _port(f"port of {host!r}", digits)
        elif port is not None:
            chosen = port
        elif tls and host.endswith(_CLOUD_HOSTS):
            chosen = _CLOUD_PORT
        else:
            chosen = usual
        found[Address(host, chosen)] = None
    return tuple(found)


def _split_port(item: str) -> tuple[str, str | None]:
    match = re.fullmatch(r"\[([^\[\]]*)\](?::(.*))?", item)
    if match:
        host, digits = match[1].replace("%25", "%"), match[2]  # RFC 6874
        literal, percent, scope = host.partition("%")
        try:
            ipaddress.IPv6Address(literal)
        except ValueError:
            raise InterfaceError(f"host {host!r} is not an IPv6 address") from None
        if percent and not re.fullmatch(r"[\w.-]+", scope, re.ASCII):
            raise InterfaceError(f"host {host!r}: expected the name of an interface behind the %")
        return host, digits
    host, colon, digits = item.partition(":")
    if ":" in digits:
        raise InterfaceError(f"host {item!r}: an IPv6 address stands in brackets, as in [::1]:6041")
    if not host and not colon:
        raise InterfaceError("host: expected host[:port][,host[:port]…], found an empty one")
    host = unquote(host)
    try:
        host.encode("idna")
    except UnicodeError:
        raise InterfaceError(f"host {host!r} is not a host name") from None
    if re.search(r"[\x00-\x20\x7f/@?#\\%:\[\]]", unicodedata.normalize("NFKC", host)):
        raise InterfaceError(
            f"host {host!r} is malformed; percent-encode special characters of user and password"
        )
    return host or "localhost", digits if colon else None


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise InterfaceError(f"{name}: expected a non-empty string, got {value!r}")
    return _encodable(name, value)


def _charset(name: str, value: object) -> str:
    if not isinstance(value, str) or value.lower() not in ("utf-8", "utf8"):
        raise InterfaceError(
            f"{name}: expected UTF-8, in which libtaos is given all text, got {value!r}"
        )
    return "UTF-8"


def _secret(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise InterfaceError(f"{name}: expected a string, got {type(value).__name__}")
    return _encodable(name, value)


def _encodable(name: str, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InterfaceError(f"{name}: it has characters that UTF-8 cannot encode") from None
    return value


def _required_secret(name: str, value: object) -> str:
    if not _secret(name, value):
        raise InterfaceError(f"{name}: expected a non-empty string")
    return str(value)


def _token(name: str, value: object) -> str:
    text = _required_secret(name, value)
    if not text.isprintable() or not text.isascii():
        raise InterfaceError(f"{name}: expected printable ASCII characters alone")
    return text


def _auth(name: str, value: object) -> str:
    text = _secret(name, value)
    if not re.fullmatch(r"[0-9A-Fa-f]{32}", text):
        raise InterfaceError(
            f"{name}: expected the MD5 of the password as 32 hexadecimal digits, got "
            f"{len(text)} characters that are something else"
        )
    return text.lower()  # as TDengine stores it


def _flag(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        lowered = value.lower()
        if lowered in ("", "true", "1", "yes", "on"):  # as official clients: empty means true
            return True
        if lowered in ("false", "0", "no", "off"):
            return False
    raise InterfaceError(f"{name}: expected true or false, got {value!r}")


def _integer(name: str, value: object, low: int, high: int) -> int:
    number: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
        number = int(value)
    if number is None or not low <= number <= high:
        raise InterfaceError(f"{name}: expected a whole number from {low} to {high}, got {value!r}")
    return number


def _port(name: str, value: object) -> int:
    return _integer(name, value, 1, 65535)


def _count(name: str, value: object) -> int:
    return _integer(name, value, 0, 1_000_000)


def _milliseconds(name: str, value: object) -> int:
    return _integer(name, value, 0, 86_400_000)


def _mode(name: str, value: object) -> int:
    return _integer(name, value, 0, 1)


def seconds(name: str, value: object) -> float:
    """Check a time-out: a positive number of seconds; infinity means no limit.

    Raises:
        InterfaceError: It is something else.
    """
    number = math.nan
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError, ValueError):
            number = float(value)
    if not number > 0:
        shown = repr(value)[:40]
        raise InterfaceError(f"{name}: expected a positive number of seconds, got {shown}")
    return number


def whole_number(name: str, value: object, least: int = 0) -> int:
    """Check a number of something.

    Raises:
        InterfaceError: It is not a whole number, or less than ``least``.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InterfaceError(f"{name}: expected a whole number from {least}, got {value!r}")
    return value


def timezone_name(name: str, value: object) -> str:
    """Check the name of a time zone.

    Raises:
        InterfaceError: There is none of this name.
    """
    if isinstance(value, ZoneInfo):
        value = value.key
    text = _text(name, value)
    try:
        ZoneInfo(text)
    except (KeyError, OSError, ValueError):
        raise InterfaceError(
            f"{name}: expected an IANA name such as 'Asia/Shanghai', got {text!r} "
            "(on a machine without time zone data, install the package tzdata)"
        ) from None
    return text


def _timestamp(name: str, value: object) -> TimestampAs:
    if value in ("datetime", datetime):
        return "datetime"
    if value in ("int", int):
        return "int"
    if value == "datetime64" or (isinstance(value, type) and value.__name__ == "datetime64"):
        return "datetime64"
    raise InterfaceError(f"{name}: expected 'datetime', 'int' or 'datetime64', got {value!r}")


def _tls_mode(name: str, value: object) -> TlsMode:
    return _one_of(name, value, get_args(TlsMode))  # type: ignore[return-value]


def _rest_auth(name: str, value: object) -> RestAuth:
    return _one_of(name, value, get_args(RestAuth))  # type: ignore[return-value]


def _client_driver(name: str, value: object) -> ClientDriver:
    return _one_of(name, value, get_args(ClientDriver))  # type: ignore[return-value]


def _buffer_size(name: str, value: object) -> int:
    return _integer(name, value, 1, 2**30)


def _cancel_mode(name: str, value: object) -> CancelMode:
    return _one_of(name, value, get_args(CancelMode))  # type: ignore[return-value]


def _one_of(name: str, value: object, choices: tuple[str, ...]) -> str:
    if isinstance(value, str) and value in choices:
        return value
    *first, last = map(repr, choices)
    raise InterfaceError(f"{name}: expected {', '.join(first)} or {last}, got {value!r}")


def _ip(name: str, value: object) -> str:
    text = _text(name, value)
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise InterfaceError(f"{name}: expected an IP address, got {value!r}") from None


_PARAMETERS: dict[str, Callable[[str, object], object]] = {
    "user": _text,
    "password": _secret,
    "database": _text,
    "timezone": timezone_name,
    "timestamp": _timestamp,
    "token": _required_secret,
    "bearer_token": _token,
    "totp_code": _required_secret,
    "compression": _flag,
    "rest_auth": _rest_auth,
    "read_buffer_size": _buffer_size,
    "connect_timeout": seconds,
    "read_timeout": seconds,
    "write_timeout": seconds,
    "conn_retries": _count,
    "retry_backoff_ms": _milliseconds,
    "retry_backoff_max_ms": _milliseconds,
    "retry_writes": _flag,
    "cancel": _cancel_mode,
    "keep_alive": seconds,
    "adapter_ha": _flag,
    "tls_mode": _tls_mode,
    "tls_ca": _required_secret,
    "user_app": _text,
    "user_ip": _ip,
    "conn_mode": _mode,
    "data": _text,
    "auth": _auth,
    "library_path": _text,
    "client_driver": _client_driver,
    "config_dir": _text,
    "charset": _charset,
    "locale": _text,
}
_OF_ROAD = {"data": Road.EMBEDDED} | dict.fromkeys(
    ("auth", "library_path", "client_driver", "config_dir", "charset", "locale"), Road.NATIVE
)
_ALIASES = {"conn_timeout": "connect_timeout", "readBufferSize": "read_buffer_size"}
assert set(_PARAMETERS) == {item.name for item in fields(Options)} - {"road", "tls", "addresses"}


def _read_parameters(given: Mapping[str, object]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in given.items():
        check = _PARAMETERS.get(name)
        if check is None:
            raise InterfaceError(
                f"unknown option {name!r}, expected one of {', '.join(sorted(_PARAMETERS))}; "
                "as keywords also driver, host, port, row_factory, hooks; of connections "
                "on_reconnect; of pools min_size, max_size, max_waiting, acquire_timeout, "
                "max_idle, max_lifetime, check, configure, reset"
            )
        values[name] = check(name, value)
    return values
