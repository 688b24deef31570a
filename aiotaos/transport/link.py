"""A WebSocket on an asyncio transport: the sans-I/O core of ``websockets``, driven by hand.

There is no queue and no reader task: a message is handed to its receiver in the very call in which
its last bytes arrive, pings are answered in the same call.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from typing import cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidMessage
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from .framing import BINARY, MAX_MESSAGE, OTHER, TEXT, Masks, Message, Splitter

_PING = b"aiotaos"
_SHORT = 4096  # bytes of a message that is sent together with others
_LINGER = 2.0  # seconds in which what is written must leave before the connection is dropped


class _QuietLogger(logging.LoggerAdapter[logging.Logger]):
    """Keeps frames, and the passwords in them, out of debug logs."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's name
        return level > logging.DEBUG and super().isEnabledFor(level)


_logger = _QuietLogger(logging.getLogger("aiotaos.websocket"), {})


class Link(asyncio.BufferedProtocol):
    """One WebSocket connection.

    Args:
        uri: Where to; may carry a secret and is never shown.
        compression: Whether to offer permessage-deflate.
        keep_alive: Seconds of silence after which a ping is sent; after as many again the link is
            dropped. Infinity: never.
        on_text: Receives each text message, as UTF-8 bytes.
        on_binary: Receives each binary message.
        on_lost: Called once when the link ends, however it ends, with the reason.
    """

    def __init__(
        self,
        uri: str,
        *,
        compression: bool,
        keep_alive: float,
        on_text: Callable[[Message], None],
        on_binary: Callable[[Message], None],
        on_lost: Callable[[Exception], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._core = ClientProtocol(
            parse_uri(uri),
            extensions=[ClientPerMessageDeflateFactory()] if compression else None,
            max_size=MAX_MESSAGE,
            logger=_logger,
        )
        self._receivers = {TEXT: on_text, BINARY: on_binary}
        self._splitter = Splitter()
        self._masks = Masks()
        self._head: bytearray | None = bytearray()  # the answer to the handshake, as far as it came
        self._out: list[bytes] = []
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._writable = asyncio.Event()
        self._writable.set()
        self._opcode = Opcode.TEXT
        self._fragments: list[Message] = []
        self._ending = False
        self._lost = False
        self._flush_due = False
        self._reaper: asyncio.TimerHandle | None = None
        self._keep_alive = keep_alive
        self._heard = 0.0
        self._pinged: float | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._silence: float | None = None
        self._unsent = 0

    async def open(self) -> None:
        """Wait for the handshake to succeed.

        Raises:
            InvalidHandshake: The answer was not that of a WebSocket, or there was none.
        """
        await self._opened

    @property
    def congested(self) -> bool:
        """Whether the write buffer is full; :meth:`writable` waits until it is not."""
        return not self._writable.is_set()

    async def writable(self) -> None:
        """Wait until the write buffer has room."""
        await self._writable.wait()

    def send_text(self, data: bytes, *, soon: bool = False) -> None:
        """Send a text message; nothing is sent when the link is about to end.

        With ``soon``, a short one goes out in the next turn of the loop, together with others:
        a call of the system for each is what many small queries cost most.
        """
        self._send(TEXT, data, soon)

    def send_binary(self, data: bytes, *, soon: bool = False) -> None:
        """Send a binary message; arguments as :meth:`send_text`."""
        self._send(BINARY, data, soon)

    def _send(self, opcode: int, data: bytes, soon: bool) -> None:
        if self._core.state is not State.OPEN:
            return
        if not self._core.extensions:
            self._out.append(self._masks.frame(opcode, data))
        elif opcode == TEXT:
            self._core.send_text(data)
        else:
            self._core.send_binary(data)
        if not soon or len(data) > _SHORT:
            self._flush()
        elif not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    async def close(self) -> None:
        """Do the closing handshake and wait for the end of the connection."""
        if self._ended.done():
            return
        if self._opened.done() and not self._ending:
            self._core.send_close(CloseCode.NORMAL_CLOSURE)
            self._flush()
        await asyncio.shield(self._ended)

    def abort(self) -> None:
        """Drop the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._core.send_request(self._core.connect())
        self._flush()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._splitter.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        self._heard = self._loop.time()
        if self._head is not None:
            behind = self._shake_hands(self._head, self._splitter.take(nbytes))
            nbytes = len(behind)
            self._splitter.buffer()[:nbytes] = behind
        for opcode, message in self._splitter.received(nbytes):
            if opcode == OTHER:
                self._feed_core(bytes(message))
            elif self._core.state is State.OPEN:
                self._receivers[opcode](message)
        if self._core.close_rcvd is not None or self._core.parser_exc is not None:
            self._end()

    def _shake_hands(self, head: bytearray, data: bytes) -> bytes:
        """Let the core read the answer to the handshake; gives what came behind it."""
        head += data
        end = head.find(b"\r\n\r\n") + 4
        if end < 4:
            self._feed_core(data)
            return b""
        before = len(head) - len(data)
        self._feed_core(data[: end - before])
        if self._core.state is not State.OPEN:  # refused; there may be a body that says why
            self._feed_core(data[end - before :])
            return b""
        self._head = None
        return data[end - before :]

    def _feed_core(self, data: bytes) -> None:
        if data:
            self._core.receive_data(data)
            self._flush()
            self._dispatch()

    def eof_received(self) -> None:
        self._core.receive_eof()
        self._dispatch()
        self._end()  # what is still to be written must not keep callers waiting

    def connection_lost(self, exc: Exception | None) -> None:
        self._core.receive_eof()
        self._dispatch()
        self._writable.set()
        for timer in (self._reaper, self._watch):
            if timer is not None:
                timer.cancel()
        self._fail(exc or self._reason())
        self._ended.set_result(None)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # The rest.

    def _start_watch(self) -> None:
        self._heard = self._loop.time()
        if math.isfinite(self._keep_alive):
            self._watch = self._loop.call_later(self._keep_alive, self._check_alive)

    def _check_alive(self) -> None:
        """Look whether the server is still there; the loop has read what had come before this."""
        if self._ending:
            return
        now = self._loop.time()
        unsent = 0 if self._transport is None else self._transport.get_write_buffer_size()
        if unsent < self._unsent:  # it reads what is sent, the ping stands behind that
            self._heard = now
        self._unsent = unsent
        if self._pinged is not None and self._heard < self._pinged:
            self._silence = now - self._heard
            self._fail(self._reason())
            self.abort()
            return
        self._pinged = None
        due = self._heard + self._keep_alive
        if now >= due:
            self._pinged = now
            self._core.send_ping(_PING)
            self._flush()
            due = now + self._keep_alive
        self._watch = self._loop.call_at(due, self._check_alive)

    def _end(self) -> None:
        """The WebSocket is over, the TCP connection soon will be."""
        if self._ending or self._transport is None:
            return
        self._ending = True
        self._fail(self._reason())
        self._transport.close()
        self._reaper = self._loop.call_later(_LINGER, self._transport.abort)

    def _fail(self, reason: Exception) -> None:
        if not self._lost:
            self._lost = True
            self._on_lost(reason)

    def _refuse(self, reason: Exception) -> None:
        if not isinstance(reason, InvalidHandshake):  # before websockets 14.2: what the parser said
            invalid = InvalidMessage("did not receive a valid HTTP response")
            invalid.__cause__ = reason
            reason = invalid
        self._opened.set_exception(reason)
        self._opened.exception()  # open() may have been cancelled; then nobody asks

    def _reason(self) -> Exception:
        close, broken = self._core.close_rcvd, self._core.parser_exc
        if self._silence is not None:
            return ConnectionResetError(f"no sign of the server for {self._silence:.1f} s")
        if close is not None:
            told = f"code {close.code}, {close.reason}" if close.reason else f"code {close.code}"
            return ConnectionResetError(f"the server closed the session ({told})")
        if broken is not None and not isinstance(broken, EOFError):
            return ConnectionResetError(f"broken WebSocket frame: {broken}")
        return ConnectionResetError("the connection was closed by the other side")

    def _flush(self) -> None:
        self._flush_due = False
        transport = self._transport
        parts = [*self._out, *self._core.data_to_send()]
        self._out.clear()
        if transport is None or transport.is_closing():
            return
        if len(parts) > 1 and all(parts) and max(map(len, parts)) <= 2 * _SHORT:
            parts = [b"".join(parts)]
        for data in parts:
            if data:
                transport.write(data)
            elif transport.can_write_eof():
                transport.write_eof()
            else:
                transport.close()

    def _dispatch(self) -> None:
        for event in self._core.events_received():
            if isinstance(event, Frame):
                self._frame(event)
            elif not self._opened.done() and self._core.handshake_exc is None:
                self._opened.set_result(None)
                self._start_watch()
        if self._core.handshake_exc is not None and not self._opened.done():
            self._refuse(self._core.handshake_exc)

    def _frame(self, frame: Frame) -> None:
        if frame.opcode in self._receivers:
            if frame.fin:  # compressed
                self._receivers[frame.opcode](frame.data)
                return
            self._opcode = frame.opcode
            self._fragments = [frame.data]
        elif frame.opcode is Opcode.CONT:
            self._fragments.append(frame.data)
            if frame.fin:
                data = b"".join(self._fragments)
                self._fragments = []
                self._receivers[self._opcode](data)
