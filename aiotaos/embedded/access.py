"""Who may come in: one user, by password or by a token given for it."""

from __future__ import annotations

import base64
import binascii
import secrets

from .faults import Fault

USER = "root"
PASSWORD = "taosdata"
_TOKEN_BYTES = 48


class RefusedError(Exception):
    """A request that never becomes a statement.

    Attributes:
        status: The HTTP status that says so.
    """

    def __init__(self, code: int, message: str, status: int = 401) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


class Access:
    """Checks credentials, and gives tokens that stand for them.

    Attributes:
        token: What a login gets; valid until :meth:`expire_tokens`.
    """

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(_TOKEN_BYTES)

    def expire_tokens(self) -> None:
        """Make every token that was given invalid; the next login gets another."""
        self.token = secrets.token_urlsafe(_TOKEN_BYTES)

    def check(self, user: str, password: str) -> None:
        """Check a user and a password.

        Raises:
            Fault: One of them is wrong.
        """
        if user != USER:
            raise Fault(0x0351, "Invalid user")
        if not secrets.compare_digest(password.encode(), PASSWORD.encode()):
            raise Fault(0x0357, "Authentication failure")

    def read_header(self, header: str | None) -> tuple[str, str]:
        """The user and the password that an ``Authorization`` header stands for, unchecked.

        Raises:
            RefusedError: There is none, or it is of no use.
        """
        if not header:
            raise RefusedError(0x1105, "no auth info input")
        header = header.strip()
        scheme, value = header[:5], header[6:]
        if scheme == "Basic" and value:
            return _basic(value)
        if scheme == "Taosd" and value:
            if not secrets.compare_digest(value.encode("utf-8", "replace"), self.token.encode()):
                raise RefusedError(0x1125, "invalid taosd Authorization")
            return USER, PASSWORD
        raise RefusedError(0x1122, "invalid type of Authorization")

    def check_header(self, header: str | None) -> None:
        """Check an ``Authorization`` header.

        Raises:
            RefusedError: There is none, or it is of no use.
            Fault: It names the wrong user or password.
        """
        self.check(*self.read_header(header))


def _basic(value: str) -> tuple[str, str]:
    try:
        user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        user = password = ""
    if not user or not password:
        raise RefusedError(0x1124, "invalid basic Authorization")
    return user, password
