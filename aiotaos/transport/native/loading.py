"""Finding libtaos, loading it once, and its settings that hold for the whole process.

Where it is looked for, if no path is given: the environment's ``TAOS_LIBRARY_PATH``, what
:func:`ctypes.util.find_library` finds, the system's loader, the directories that TDengine's
installers use. A path that was given, or is in the environment, must be right: nothing else is
tried then.

From 3.3.6 on libtaos is a wrapper, which loads its driver (``libtaosnative``, or ``libtaosws`` for
the WebSocket driver) at the first call, from where the system's loader finds it. Here the driver is
loaded before that, first of all from beside the library, so that one path suffices for both.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ...errors import InterfaceError, NotSupportedError
from ...home import after_fork
from ...options import ClientDriver
from .structs import Option
from .taosc import Taosc, plain_code

ENVIRONMENT_LIBRARY = "TAOS_LIBRARY_PATH"
OLDEST = (2, 0)
"""The oldest version that can be used."""
WRAPPER = (3, 3, 6)
"""The version from which on there are drivers."""
NEEDED = (
    "2.0 or newer is needed, for subscriptions to topics 3.0, for stmt2 3.3.5, for options of a "
    "connection and the choice of a driver 3.3.6, for tokens and second factors 3.4"
)

if sys.platform == "win32":
    _NAMES = {"": "taos.dll", "native": "taosnative.dll", "websocket": "taosws.dll"}
    _PLACES = ("C:\\TDengine\\driver", "C:\\TDengine", "C:\\Windows\\System32")
elif sys.platform == "darwin":
    _NAMES = {
        "": "libtaos.dylib",
        "native": "libtaosnative.dylib",
        "websocket": "libtaosws.dylib",
    }
    _PLACES = ("/usr/local/lib", "/usr/local/taos/driver", "/opt/homebrew/lib")
else:
    _NAMES = {"": "libtaos.so", "native": "libtaosnative.so", "websocket": "libtaosws.so"}
    _PLACES = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/taos/driver")

_lock = threading.RLock()
_loaded: dict[int, Taosc] = {}
"""What is loaded, by the handle that the system's loader gives: one for each file."""
_found: dict[str | None, Taosc] = {}
"""What was found for a path, or for none."""


def load(library_path: str | os.PathLike[str] | None = None) -> Taosc:
    """Load libtaos, or give the one that is loaded: one for each file. May take a while.

    Args:
        library_path: The file, its directory, or a name for the system's loader; None: wherever it
            is found.

    Raises:
        InterfaceError: None was found that can be used; the message names each place and what was
            wrong there. Or the library was in use in the process that this one was forked from.
    """
    named = os.fspath(library_path) if library_path is not None else None
    wanted = named or os.environ.get(ENVIRONMENT_LIBRARY) or None
    with _lock:
        known = _found.get(wanted)
        if known is not None:
            known.has("taos_connect")  # not after a fork
            return known
        failures: list[str] = []
        tried: set[str] = set()
        for origin, place in _places(named):
            if place in tried:
                continue
            tried.add(place)
            try:
                taosc = _open(place)
            except (NotSupportedError, OSError) as error:
                failures.append(f"{place}{origin}: {_reason(place, error)}")
                continue
            _found[wanted] = taosc
            return taosc
    raise InterfaceError(
        f"libtaos, TDengine's client library, cannot be loaded; {NEEDED}. "
        "Install TDengine's client, or say where it is with library_path or "
        f"{ENVIRONMENT_LIBRARY}. Tried:\n" + "\n".join(f"  {failure}" for failure in failures)
    )


def _places(named: str | None) -> Iterator[tuple[str, str]]:
    """Where to look, each with what is said of where that comes from."""
    if named is not None:
        yield " (library_path)", _file(named)
        return
    environment = os.environ.get(ENVIRONMENT_LIBRARY)
    if environment:
        yield f" ({ENVIRONMENT_LIBRARY})", _file(environment)
        return
    found = ctypes.util.find_library("taos")
    if found is not None:
        yield " (find_library)", found
    yield " (the system's loader)", _NAMES[""]
    for directory in _PLACES:
        yield "", os.path.join(directory, _NAMES[""])


def _file(path: str) -> str:
    return os.path.join(path, _NAMES[""]) if os.path.isdir(path) else path


def _open(place: str) -> Taosc:
    library = _load_file(place)
    known = _loaded.get(library._handle)
    if known is not None:
        known.has("taos_connect")  # not after a fork
        return known
    taosc = Taosc(library, os.path.abspath(place) if os.path.dirname(place) else place)
    if taosc.version < OLDEST:
        raise NotSupportedError(f"its version is {taosc.version_text}, {NEEDED}")
    taosc.first_use = partial(_settle_driver, taosc)
    _loaded[library._handle] = taosc
    return taosc


def _load_file(place: str) -> ctypes.CDLL:
    if os.path.dirname(place):
        if not os.path.exists(place):
            raise FileNotFoundError
        place = os.path.abspath(place)
    return ctypes.CDLL(place)


def _reason(place: str, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "not found"
    # The system's loader begins with the file's name.
    return str(error).removeprefix(f"{place}: ")


def configure(
    taosc: Taosc,
    *,
    config_dir: str | os.PathLike[str] | None = None,
    driver: ClientDriver | None = None,
    charset: str | None = None,
    locale: str | None = None,
    timezone: str | None = None,
) -> None:
    """Set what holds for the whole process; to be called before the first connection.

    None leaves a setting as it is. The same can be said again at any time. The driver comes first:
    the first other setting, or call, makes it ``"native"``.

    Args:
        taosc: The library.
        config_dir: Directory of taos.cfg, or the file.
        driver: ``"native"``, or ``"websocket"`` for connections by way of taosAdapter.
        charset: Encoding of text, as ``UTF-8``.
        locale: Locale, as ``en_US.UTF-8``.
        timezone: Time zone, as ``Asia/Shanghai``.

    Raises:
        InterfaceError: Something else is set already, it is too late to set it, the library
            refuses it, or the driver cannot be loaded.
        NotSupportedError: The library is too old to have drivers.
    """
    if driver not in (None, "native", "websocket"):
        raise InterfaceError(f"driver: expected 'native' or 'websocket', got {driver!r}")
    given = {
        "config_dir": os.path.abspath(config_dir) if config_dir is not None else None,
        "locale": locale,
        "charset": charset,
        "timezone": timezone,
    }
    with _lock:
        if driver is not None:
            _choose_driver(taosc, driver)
        for name, value in given.items():
            if value is None or not _is_new(taosc, name, value):
                continue
            # libtaos answers success to a directory that is not there, and goes on without it.
            if name == "config_dir" and not os.path.exists(value):
                raise InterfaceError(f"config_dir: {value} does not exist")
            _set(taosc, name, value)
            taosc.settings[name] = value


_OPTIONS = {
    "driver": Option.DRIVER,
    "config_dir": Option.CONFIGDIR,
    "locale": Option.LOCALE,
    "charset": Option.CHARSET,
    "timezone": Option.TIMEZONE,
}


def _choose_driver(taosc: Taosc, driver: ClientDriver) -> None:
    if taosc.version < WRAPPER and driver != "native":
        raise NotSupportedError(
            f"driver: libtaos {taosc.version_text} ({taosc.path}) has none but its own; "
            f"{'.'.join(map(str, WRAPPER))} has others"
        )
    if not _is_new(taosc, "driver", driver):
        return
    if taosc.version < WRAPPER:
        taosc.settings["driver"] = driver
        return
    _load_driver(taosc, driver)
    taosc.settings["driver"] = driver
    try:
        _set(taosc, "driver", driver)
    except InterfaceError:
        del taosc.settings["driver"]
        raise


def _settle_driver(taosc: Taosc) -> None:
    """Before the first use: without a choice, the driver is the native one."""
    with _lock:
        if "driver" not in taosc.settings:
            _load_driver(taosc, "native")
            taosc.settings["driver"] = "native"


def _load_driver(taosc: Taosc, driver: ClientDriver) -> None:
    """Load the driver, so that the wrapper finds it.

    Left to itself, it would look where the library is not, and print to stdout what is wrong.
    """
    is_wrapper = taosc.has("taosDriverInit") or (
        sys.platform == "win32" and taosc.version >= WRAPPER
    )
    if not is_wrapper:
        return
    name = _NAMES[driver]
    library = Path(taosc.path)
    beside = [library.with_name(name), library.resolve().with_name(name)]
    places = [str(place) for place in beside] if library.is_absolute() else []
    places += [str(Path(sys.executable).parent.parent / "lib" / name), name]
    failures = []
    for place in dict.fromkeys(places):
        try:
            _load_file(place)
        except OSError as error:
            failures.append(f"{place}: {_reason(place, error)}")
        else:
            return
    raise InterfaceError(
        f"the {driver} driver of libtaos {taosc.version_text} ({taosc.path}) cannot be loaded. "
        "Tried:\n" + "\n".join(f"  {failure}" for failure in failures)
    )


def _is_new(taosc: Taosc, name: str, value: str) -> bool:
    known = taosc.settings.get(name)
    label = "client_driver" if name == "driver" else name
    if known == value:
        return False
    if known is not None:
        raise InterfaceError(
            f"{label}: {value!r} is wanted, but {known!r} is set already; libtaos has one for the "
            "whole process"
        )
    if taosc.started:
        raise InterfaceError(
            f"{label}: {value!r} comes too late; libtaos takes it before the first connection of "
            "the process only"
        )
    return True


def _set(taosc: Taosc, name: str, value: str) -> None:
    answer = taosc.taos_options(_OPTIONS[name], os.fsencode(value))
    if answer:
        code, text = taosc.error()
        detail = f"[0x{code or plain_code(answer):04X}] {text}" if code else f"it answers {answer}"
        if name == "locale":
            detail += "; it must be installed on this machine"
        raise InterfaceError(f"{name}: libtaos refuses {value!r}: {detail}")


def _abandon() -> None:
    """In a process that was forked off: what is not in use can be used, the rest never."""
    global _lock
    _lock = threading.RLock()  # a thread of the parent may have held it
    for taosc in _loaded.values():
        if taosc.touched:
            taosc.abandon()


after_fork(_abandon)
