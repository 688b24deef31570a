"""Finding and loading libtaos, its settings for the process, and forks.

The libraries are small ones that are made here; each has the version it was made with.
"""

import ctypes
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from aiotaos.errors import InterfaceError, NotSupportedError
from aiotaos.transport.native import loading
from aiotaos.transport.native.loading import configure, load

COMPILER = shutil.which("cc")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler (cc) here")
has_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

# Keeps what it is told to set, and refuses what begins with "bad".
SOURCE = r"""
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static char told[1024];
static int failed;

const char *taos_get_client_info(void) { return VERSION; }
int taos_errno(void *res) { return failed; }
const char *taos_errstr(void *res) { return "Invalid config option"; }
const char *taos_get_server_info(void *taos) { return told; }
void *taos_connect(const char *ip, const char *user, const char *pass, const char *db,
                   uint16_t port) {
  return told;
}
int taos_options(int option, const void *arg, ...) {
  if (strncmp(arg, "bad", 3) == 0) {
    failed = (int)0x80000119;
    return failed;
  }
  if (strncmp(arg, "mute", 4) == 0) return -1;
  snprintf(told + strlen(told), sizeof told - strlen(told), "%d=%s;", option, (const char *)arg);
  return 0;
}
#ifdef WRAPPER
int taosDriverInit(int driver) { return 0; }
#endif
"""


@pytest.fixture
def make(tmp_path):
    source = tmp_path / "source.c"
    source.write_text(SOURCE)

    def make(version="3.3.7.5", folder="lib", name=loading._NAMES[""], wrapper=False):
        path = tmp_path / folder / name
        path.parent.mkdir(exist_ok=True)
        flags = ["-DWRAPPER"] if wrapper else []
        subprocess.run(
            [
                COMPILER,
                "-shared",
                "-fPIC",
                f'-DVERSION="{version}"',
                *flags,
                "-o",
                str(path),
                str(source),
            ],
            check=True,
        )
        return path

    return make


@pytest.fixture(autouse=True)
def nothing_elsewhere(monkeypatch, tmp_path):
    """Neither the machine's libraries nor what other tests have found."""
    monkeypatch.delenv(loading.ENVIRONMENT_LIBRARY, raising=False)
    monkeypatch.setattr(loading, "_found", {})
    monkeypatch.setattr(loading, "_loaded", {})
    monkeypatch.setattr(loading, "_PLACES", (str(tmp_path / "usual"),))
    monkeypatch.setitem(loading._NAMES, "", "libtaos-for-tests.so")
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)


def told(taosc):
    return taosc.taos_get_server_info(None).decode()


# Where it is found.


def test_a_path(make):
    path = make("3.2.1.0")
    taosc = load(path)
    assert taosc.path == str(path)
    assert taosc.version == (3, 2, 1, 0)
    assert not taosc.touched


def test_one_for_each_file(make, tmp_path):
    path, other = make(), make(folder="other")
    link = tmp_path / "link.so"
    link.symlink_to(path)
    taosc = load(path)
    assert load(str(path)) is taosc
    assert load(link) is taosc
    assert load(other) is not taosc


def test_threads_that_load_at_once_have_the_same(make):
    path = make()
    start = threading.Barrier(4)

    def load_it(_):
        start.wait()
        return load(path)

    with ThreadPoolExecutor(4) as threads:
        assert len({id(taosc) for taosc in threads.map(load_it, range(4))}) == 1


def test_a_directory(make):
    path = make(name="libtaos-for-tests.so")
    assert load(path.parent).path == str(path)


def test_the_environment(make, monkeypatch):
    path, other = make(), make(folder="other")
    monkeypatch.setenv("TAOS_LIBRARY_PATH", str(path))
    assert load().path == str(path)
    assert load(other).path == str(other)


def test_find_library(make, monkeypatch):
    path = make()
    wanted = []
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: wanted.append(name) or str(path))
    assert load().path == str(path)
    assert wanted == ["taos"]
    load()
    assert wanted == ["taos"]  # it takes long


def test_the_usual_places(make):
    path = make(folder="usual", name="libtaos-for-tests.so")
    assert load().path == str(path)


# What is said when there is none.


def test_every_place_is_named_with_what_is_wrong_there(make, monkeypatch, tmp_path):
    text = tmp_path / "text.so"
    text.write_text("no library")
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: str(text))
    with pytest.raises(InterfaceError) as caught:
        load()
    first, *places = str(caught.value).splitlines()
    assert "library_path or TAOS_LIBRARY_PATH" in first
    assert "2.0 or newer is needed" in first
    assert len(places) == 3
    assert places[0].startswith(f"  {text} (find_library): ")
    assert len(places[0]) > len(f"  {text} (find_library): ")
    assert places[0].count(str(text)) == 1
    assert places[1].startswith("  libtaos-for-tests.so (the system's loader): ")
    assert places[2] == f"  {tmp_path / 'usual' / 'libtaos-for-tests.so'}: not found"


def test_nothing_else_is_tried_when_a_path_is_wrong(make, monkeypatch, tmp_path):
    make(folder="usual", name="libtaos-for-tests.so")
    missing = tmp_path / "missing.so"
    with pytest.raises(InterfaceError) as caught:
        load(missing)
    assert str(caught.value).splitlines()[1:] == [f"  {missing} (library_path): not found"]
    monkeypatch.setenv("TAOS_LIBRARY_PATH", str(missing))
    with pytest.raises(InterfaceError) as caught:
        load()
    assert str(caught.value).splitlines()[1:] == [f"  {missing} (TAOS_LIBRARY_PATH): not found"]


def test_what_failed_is_tried_again(make, tmp_path):
    path = tmp_path / "lib" / "late.so"
    with pytest.raises(InterfaceError, match="not found"):
        load(path)
    make(name="late.so")
    assert load(path).path == str(path)


def test_too_old(make):
    path = make("1.6.6.1")
    with pytest.raises(InterfaceError) as caught:
        load(path)
    [_, place] = str(caught.value).splitlines()
    assert place.startswith(f"  {path} (library_path): its version is 1.6.6.1, 2.0 or newer is")
    assert "stmt2 3.3.5" in place


def test_another_library(tmp_path):
    source, path = tmp_path / "other.c", tmp_path / "other.so"
    source.write_text("int other(void) { return 0; }")
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", str(path), str(source)], check=True)
    with pytest.raises(InterfaceError, match="is not libtaos: it has no taos_get_client_info"):
        load(path)


# Settings of the process.


def test_settings_in_their_order(make, tmp_path):
    taosc = load(make())
    configure(
        taosc,
        timezone="UTC",
        charset="UTF-8",
        locale="C.UTF-8",
        config_dir=tmp_path,
        driver="native",
    )
    assert told(taosc) == f"6=native;3={tmp_path};0=C.UTF-8;1=UTF-8;2=UTC;"
    assert taosc.settings == {
        "driver": "native",
        "config_dir": str(tmp_path),
        "locale": "C.UTF-8",
        "charset": "UTF-8",
        "timezone": "UTC",
    }


def test_the_same_again(make, tmp_path, monkeypatch):
    taosc = load(make())
    monkeypatch.chdir(tmp_path)
    configure(taosc, config_dir=".", timezone="UTC")
    taosc.taos_connect(None, None, None, None, 0)
    configure(taosc)
    configure(taosc, config_dir=tmp_path, timezone="UTC", driver="native")
    assert told(taosc) == f"3={tmp_path};2=UTC;"


def test_something_else(make):
    taosc = load(make())
    configure(taosc, timezone="UTC")
    with pytest.raises(InterfaceError, match="timezone: 'Asia/Tokyo' is wanted, but 'UTC' is set"):
        configure(taosc, timezone="Asia/Tokyo")
    assert told(taosc) == "2=UTC;"


def test_libraries_have_settings_of_their_own(make):
    one, other = load(make()), load(make(folder="other"))
    configure(one, timezone="UTC")
    configure(other, timezone="Asia/Tokyo")
    assert (told(one), told(other)) == ("2=UTC;", "2=Asia/Tokyo;")


def test_after_the_first_connection(make):
    taosc = load(make())
    taosc.taos_connect(None, None, None, None, 0)
    with pytest.raises(InterfaceError, match="charset: 'UTF-8' comes too late"):
        configure(taosc, charset="UTF-8")
    assert told(taosc) == ""


def test_refusals(make):
    taosc = load(make())
    with pytest.raises(InterfaceError, match="timezone: libtaos refuses 'mute': it answers -1"):
        configure(taosc, timezone="mute")
    with pytest.raises(InterfaceError) as caught:
        configure(taosc, locale="C", charset="bad")
    assert str(caught.value) == "charset: libtaos refuses 'bad': [0x0119] Invalid config option"
    configure(taosc, charset="UTF-8", locale="C")
    assert told(taosc) == "0=C;1=UTF-8;"


def test_a_configuration_that_is_not_there(make, tmp_path):
    taosc = load(make())
    with pytest.raises(InterfaceError, match=r"config_dir: .*none does not exist"):
        configure(taosc, config_dir=tmp_path / "none")
    assert told(taosc) == ""


# The driver.


def test_the_driver_comes_first(make):
    taosc = load(make())
    configure(taosc, timezone="UTC")
    with pytest.raises(InterfaceError, match="driver: 'websocket' is wanted, but 'native' is set"):
        configure(taosc, driver="websocket")
    assert told(taosc) == "2=UTC;"


def test_a_driver_that_is_unknown(make):
    taosc = load(make())
    with pytest.raises(InterfaceError, match="expected 'native' or 'websocket', got 'rest'"):
        configure(taosc, driver="rest")


def test_libraries_without_drivers(make):
    taosc = load(make("3.3.5.8"))
    configure(taosc, driver="native")
    assert told(taosc) == ""
    other = load(make("2.6.0.34", folder="other"))
    with pytest.raises(NotSupportedError, match=r"libtaos 2.6.0.34 .*; 3.3.6 has others"):
        configure(other, driver="websocket")


def is_loaded(path):
    try:
        ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD)
    except OSError:
        return False
    return True


@pytest.mark.skipif(not hasattr(os, "RTLD_NOLOAD"), reason="the loader does not tell")
@pytest.mark.parametrize("driver", ["native", "websocket"])
def test_the_driver_beside_the_library(make, driver):
    taosc = load(make(wrapper=True))
    beside = {name: make(name=loading._NAMES[name]) for name in ("native", "websocket")}
    assert [name for name in beside if is_loaded(beside[name])] == []
    configure(taosc, driver=driver)
    assert [name for name in beside if is_loaded(beside[name])] == [driver]
    assert told(taosc) == f"6={driver};"


@pytest.mark.skipif(not hasattr(os, "RTLD_NOLOAD"), reason="the loader does not tell")
def test_the_driver_beside_the_file_that_a_link_means(make, tmp_path):
    link = tmp_path / "link.so"
    link.symlink_to(make(wrapper=True))
    beside = make(name=loading._NAMES["native"])
    configure(load(link), driver="native")
    assert is_loaded(beside)


@pytest.mark.skipif(not hasattr(os, "RTLD_NOLOAD"), reason="the loader does not tell")
def test_without_a_choice_the_first_call_loads_the_native_driver(make):
    taosc = load(make(wrapper=True))
    beside = make(name=loading._NAMES["native"])
    assert not is_loaded(beside)
    assert taosc.taos_connect(None, None, None, None, 0)
    assert is_loaded(beside)
    assert taosc.settings == {"driver": "native"}


def test_a_driver_that_cannot_be_loaded(make, monkeypatch):
    names = {"native": "libtaosnative-for-tests.so", "websocket": "libtaosws-for-tests.so"}
    for driver, name in names.items():
        monkeypatch.setitem(loading._NAMES, driver, name)
    path = make(wrapper=True)
    taosc = load(path)
    broken = path.with_name(names["websocket"])
    broken.write_text("no library")
    with pytest.raises(InterfaceError) as caught:
        configure(taosc, driver="websocket")
    first, *places = str(caught.value).splitlines()
    assert first == (f"the websocket driver of libtaos 3.3.7.5 ({path}) cannot be loaded. Tried:")
    assert len(places) == 3
    assert places[0].startswith(f"  {broken}: ")
    assert "not found" not in places[0]
    assert places[1].endswith(f"{names['websocket']}: not found")
    assert places[2].startswith(f"  {names['websocket']}: ")
    for _ in range(2):
        with pytest.raises(InterfaceError, match="the native driver of libtaos"):
            taosc.taos_connect(None, None, None, None, 0)
    make(name=names["native"])
    assert taosc.taos_connect(None, None, None, None, 0)


# Forks.

FORKED = """
import os, sys
from aiotaos.errors import InterfaceError
from aiotaos.transport.native.loading import configure, load

used, unused = load(sys.argv[1]), load(sys.argv[2])
used.taos_errno(None)

def outcome(call):
    try:
        return call()
    except InterfaceError as error:
        return str(error).partition(":")[0]

pid = os.fork()
if not pid:
    print(outcome(lambda: used.taos_errno(None)))
    print(outcome(lambda: load(sys.argv[1])))
    print(outcome(lambda: load(sys.argv[3])))
    print(outcome(lambda: configure(used, timezone="UTC")))
    print(load(sys.argv[2]) is unused, unused.taos_errno(None), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
print(used.taos_errno(None), load(sys.argv[1]) is used)
"""


@has_fork
def test_a_fork(make, tmp_path):
    used, unused, link = make(), make(folder="unused"), tmp_path / "link.so"
    link.symlink_to(used)
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORKED, str(used), str(unused), str(link)],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert ran.stderr == ""
    forked = "libtaos does not survive a fork"
    assert ran.stdout.splitlines() == [forked, forked, forked, forked, "True 0", "0 True"]
