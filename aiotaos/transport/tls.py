"""TLS contexts."""

from __future__ import annotations

import ssl

from ..errors import InterfaceError
from ..options import Options


def make_context(options: Options) -> ssl.SSLContext:
    """The TLS context that the options ask for. Reads files: call it in a worker thread.

    Raises:
        InterfaceError: The certificate authority cannot be read.
    """
    context = ssl.create_default_context()
    if options.tls_ca is not None:
        try:
            if "-----BEGIN" in options.tls_ca:
                context.load_verify_locations(cadata=options.tls_ca)
            else:
                context.load_verify_locations(cafile=options.tls_ca)
        except (OSError, ValueError) as error:
            raise InterfaceError(
                f"tls_ca: expected the path of a PEM file or PEM text: {error}"
            ) from error
    if options.tls_mode != "verify_identity":
        context.check_hostname = False
    if options.tls_mode == "none":
        context.verify_mode = ssl.CERT_NONE
    return context
