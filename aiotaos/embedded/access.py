"""Who may come in: one user, by password or by a token given for it."""

from __future__ import annotations

import base64
import binascii
import secrets

from .faults import Fault

USER = "root"
PASSWORD = "taosdata"


class RefusedError(Exception):
    """An ``Authorization`` header that cannot be used."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Access:
    """Checks credentials; tokens are valid as long as the server runs."""

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(48)

    def check(self, user: str, password: str) -> None:
        """Check a user and a password.

        Raises:
            Fault: One of them is wrong.
        """
        if user != USER:
            raise Fault(0x0351, "Invalid user")
        if not secrets.compare_digest(password.encode(), PASSWORD.encode()):
            raise Fault(0x0357, "Authentication failure")

    def check_header(self, header: str | None) -> None:
        """Check an ``Authorization`` header.

        Raises:
            RefusedError: There is none, or it is of no use.
            Fault: It names the wrong user or password.
        """
        if not header:
            raise RefusedError(0x1105, "no auth info input")
        scheme, _, value = header.partition(" ")
        if scheme == "Basic":
            self.check(*_basic(value))
        elif scheme == "Taosd":
            if not secrets.compare_digest(value.encode(), self.token.encode()):
                raise RefusedError(0x1125, "invalid taosd Authorization")
        else:
            raise RefusedError(0x1122, "invalid auth type")


def _basic(value: str) -> tuple[str, str]:
    try:
        user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        user = password = ""
    if not user or not password:
        raise RefusedError(0x1124, "invalid basic Authorization")
    return user, password
