"""How a function of libtaos is declared, and how it comes to be called.

A declaration is a method without a body: its annotations give the C prototype, for ctypes and for
type checkers alike, its docstring says what the function does. :class:`Functions` resolves it in
the library when it is used first.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import (
    POINTER,
    Array,
    c_bool,
    c_char,
    c_char_p,
    c_int,
    c_int8,
    c_int32,
    c_int64,
    c_uint16,
    c_uint32,
    c_ulong,
    c_void_p,
)
from inspect import get_annotations
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeAlias, TypeVar, cast

from ...errors import InterfaceError, NotSupportedError
from . import structs

if TYPE_CHECKING:
    Pointer = ctypes._Pointer
    Callback = ctypes._CFunctionType
else:

    class Pointer:
        """A pointer's type; ctypes has it for type checkers alone."""

        def __class_getitem__(cls, item: object) -> type:
            return cls

    Callback = object

P = ParamSpec("P")
R = TypeVar("R")

# What stands in a declaration: what Python gives and gets, and what C does. A parameter that C
# fills takes the ctypes object itself, or an array of such: ctypes passes its address.

Int: TypeAlias = Annotated[int, c_int]
Int8: TypeAlias = Annotated[int, c_int8]
Int32: TypeAlias = Annotated[int, c_int32]
Int64: TypeAlias = Annotated[int, c_int64]
UInt16: TypeAlias = Annotated[int, c_uint16]
UInt32: TypeAlias = Annotated[int, c_uint32]
ULong: TypeAlias = Annotated[int, c_ulong]  # 4 bytes on Windows
Bool: TypeAlias = Annotated[bool, c_bool]
Handle: TypeAlias = Annotated[int | None, c_void_p]
"""An opaque pointer, as its address; None is NULL."""
Text: TypeAlias = Annotated[bytes | None, c_char_p]
"""A C string, without its final zero; one that is returned is a copy."""
CharBuffer: TypeAlias = Annotated[Array[c_char] | None, c_char_p]
"""Room for a C string, of ``ctypes.create_string_buffer``."""
Data: TypeAlias = Annotated["int | bytes | Array[Any] | Pointer[Any] | None", c_void_p]
"""Any memory: an address, bytes, an array or a pointer."""
IntOut: TypeAlias = Annotated["c_int | Array[c_int] | None", POINTER(c_int)]
Int32Out: TypeAlias = Annotated["c_int32 | Array[c_int32] | None", POINTER(c_int32)]
BoolOut: TypeAlias = Annotated["c_bool | Array[c_bool] | None", POINTER(c_bool)]
HandleOut: TypeAlias = Annotated["c_void_p | None", POINTER(c_void_p)]
Texts: TypeAlias = Annotated["Array[c_char_p] | Pointer[c_char_p] | None", POINTER(c_char_p)]
TextsOut: TypeAlias = Annotated["Pointer[c_char_p] | None", POINTER(POINTER(c_char_p))]
Ints: TypeAlias = Annotated["Pointer[c_int]", POINTER(c_int)]
Row: TypeAlias = Annotated["Pointer[c_void_p]", POINTER(c_void_p)]
"""TAOS_ROW: an array of addresses, one for each column; false for NULL."""
RowOut: TypeAlias = Annotated["Pointer[c_void_p] | None", POINTER(POINTER(c_void_p))]
Rows: TypeAlias = Annotated["Pointer[Pointer[c_void_p]]", POINTER(POINTER(c_void_p))]

Fields: TypeAlias = Annotated["Pointer[structs.TAOS_FIELD]", POINTER(structs.TAOS_FIELD)]
FieldsE: TypeAlias = Annotated["Pointer[structs.TAOS_FIELD_E]", POINTER(structs.TAOS_FIELD_E)]
FieldsEOut: TypeAlias = Annotated[
    "Pointer[structs.TAOS_FIELD_E] | None", POINTER(POINTER(structs.TAOS_FIELD_E))
]
FieldsAll: TypeAlias = Annotated["Pointer[structs.TAOS_FIELD_ALL]", POINTER(structs.TAOS_FIELD_ALL)]
FieldsAllOut: TypeAlias = Annotated[
    "Pointer[structs.TAOS_FIELD_ALL] | None", POINTER(POINTER(structs.TAOS_FIELD_ALL))
]
MultiBinds: TypeAlias = Annotated[
    "structs.TAOS_MULTI_BIND | Array[structs.TAOS_MULTI_BIND] | None",
    POINTER(structs.TAOS_MULTI_BIND),
]
BindV: TypeAlias = Annotated["structs.TAOS_STMT2_BINDV | None", POINTER(structs.TAOS_STMT2_BINDV)]

AsyncFn: TypeAlias = Annotated[Callback, structs.TAOS_ASYNC_FN]
CommitFn: TypeAlias = Annotated[Callback, structs.tmq_commit_cb]


def function(
    *, since: str = "2.0", until: str | None = None, instead: str | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Declare a function of libtaos.

    Args:
        since: The version that has it.
        until: The last version that has it, if it was taken out.
        instead: What can be used where it is missing.
    """

    def declare(declared: Callable[P, R]) -> Callable[P, R]:
        return cast("Callable[P, R]", Declaration(declared, since, until, instead))

    return declare


class Declaration:
    """A function of libtaos, on the class; on an object it is the function of its library.

    Attributes:
        name: Its name in C.
        since: The version that has it.
        until: The last version that has it, or None.
        instead: What can be used where it is missing, or None.
    """

    def __init__(
        self,
        declared: Callable[..., object],
        since: str,
        until: str | None,
        instead: str | None,
    ) -> None:
        self.name = declared.__name__
        self.since = since
        self.until = until
        self.instead = instead
        self.__doc__ = declared.__doc__
        self._declared = declared

    def __repr__(self) -> str:
        hints = self._declared.__annotations__.copy()
        result = hints.pop("return")
        return f"{self.name}({', '.join(f'{k}: {v}' for k, v in hints.items())}) -> {result}"

    def __get__(self, functions: Functions | None, owner: type) -> object:
        return self if functions is None else functions.resolve(self)

    def prototype(self) -> tuple[type[Any] | None, list[type[Any]]]:
        """The types for ctypes: of what it returns, and of its parameters."""
        hints = get_annotations(self._declared, eval_str=True)
        result = _ctype(hints.pop("return"))
        return result, [cast("type[Any]", _ctype(hint)) for hint in hints.values()]


def _ctype(hint: Any) -> type[Any] | None:
    if hint is type(None):
        return None
    metadata = getattr(hint, "__metadata__", None)
    return cast("type[Any]", metadata[0] if metadata is not None else hint)


class Functions:
    """A loaded library whose functions are declared.

    Attributes:
        path: The file, or the name under which the system's loader found it.
        version: Version of the library, four numbers.
        touched: Whether functions have been used that a fork does not survive.
        first_use: Called before the first of these.
        started: Whether functions have been used that start the library's threads; the settings
            of the process cannot be changed after that.
    """

    path: str
    version: tuple[int, ...]
    touched: bool = False
    started: bool = False
    first_use: Callable[[], None] | None = None
    _library: ctypes.CDLL | None

    @property
    def version_text(self) -> str:
        """The version as ``3.3.7.5``."""
        return ".".join(map(str, self.version))

    def has(self, name: str) -> bool:
        """Whether the library has a function of this name.

        A library from 3.3.6 on passes calls to its driver, which may have fewer.
        """
        declared = getattr(type(self), name, None)
        symbol = declared.name if isinstance(declared, Declaration) else name
        return hasattr(self._living(), symbol)

    def resolve(self, declaration: Declaration) -> Callable[..., object]:
        """The function of the library; from then on it stands in the object itself.

        Raises:
            NotSupportedError: The library does not have it.
            InterfaceError: The library was in use before a fork, or its driver cannot be loaded.
        """
        name = declaration.name
        try:
            found = getattr(self._living(), name)
        except AttributeError:
            raise NotSupportedError(self._missing(declaration)) from None
        found.restype, found.argtypes = declaration.prototype()
        if name not in _HARMLESS and not self.touched:
            if self.first_use is not None:
                self.first_use()
            self.touched = True
        if name in _STARTING:
            self.started = True
        self.__dict__[name] = found
        return cast("Callable[..., object]", found)

    def quick(self, name: str) -> Callable[..., Any]:
        """A function that keeps the GIL while it runs: for what only looks at memory.

        Handing the GIL to another thread and waiting to have it back costs a hundred times what
        such a function does. Nothing that waits, and nothing that calls back, may be called so.

        Raises:
            NotSupportedError: The library does not have it.
        """
        declaration = getattr(type(self), name)
        library = ctypes.PyDLL(None, handle=self._living()._handle)
        try:
            found = library[declaration.name]
        except AttributeError:
            raise NotSupportedError(self._missing(declaration)) from None
        found.restype, found.argtypes = declaration.prototype()
        return cast("Callable[..., Any]", found)

    def abandon(self) -> None:
        """Make it unusable: in a process that was forked off."""
        self._library = None
        for name in declarations(type(self)):
            self.__dict__.pop(name, None)

    def _living(self) -> ctypes.CDLL:
        if self._library is None:
            raise InterfaceError(
                "libtaos does not survive a fork: it was in use in the process that this one was "
                "forked from; start processes with spawn, as multiprocessing.set_start_method does"
            )
        return self._library

    def _missing(self, declaration: Declaration) -> str:
        text = f"{declaration.name}: libtaos {self.version_text} ({self.path}) does not have it"
        if declaration.until is not None:
            text += f", {declaration.until} was the last"
        elif declaration.since != "2.0":
            text += f", it came with {declaration.since}"
        return f"{text}; use {declaration.instead}" if declaration.instead else text


_HARMLESS = frozenset({"taos_get_client_info"})
_STARTING = frozenset(
    {
        "taos_init",
        "taos_cleanup",  # nothing can be set after it, either
        "taos_connect",
        "taos_connect_auth",
        "taos_connect_totp",
        "taos_connect_token",
        "taos_connect_test",
        "taos_connect_with",
        "taos_connect_with_dsn",
        "taos_check_server_status",
        "tmq_consumer_new",
    }
)


def declarations(functions: type[Functions]) -> dict[str, Declaration]:
    """All functions that are declared, by their names."""
    found: dict[str, Declaration] = {}
    for owner in reversed(functions.__mro__):
        found |= {
            name: value for name, value in vars(owner).items() if isinstance(value, Declaration)
        }
    return found
