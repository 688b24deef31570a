"""TLS: whose certificate is taken, whose is refused, and what is said then."""

from __future__ import annotations

import asyncio
import http
import ssl

import pytest
import trustme

import aiotaos
from aiotaos import InterfaceError


@pytest.fixture(scope="module")
def authority():
    """A private authority."""
    return trustme.CA()


@pytest.fixture(scope="module")
def stranger():
    """Another one, that has signed nothing here."""
    return trustme.CA()


@pytest.fixture(scope="module")
def pem(authority):
    return authority.cert_pem.bytes().decode()


@pytest.fixture(scope="module")
def path(authority, tmp_path_factory):
    """Where the authority's certificate is kept."""
    path = tmp_path_factory.mktemp("tls") / "authority.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


@pytest.fixture(scope="module")
def context(authority):
    """What a server called localhost, and nothing else, has."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture
async def server(start_server, context):
    server = await start_server(ssl=context)
    server.integers("rows", list(range(100_000)), [7])
    return server


def dsn(server, host="localhost"):
    return f"wss://{host}:{server.port}?conn_retries=0"


async def refused(*arguments, **options):
    with pytest.raises(aiotaos.Error) as raised:
        await aiotaos.connect(*arguments, **options)
    return raised.value


async def works(connecting, server, host):
    async with connecting as conn:
        assert conn.endpoint == f"wss://{host}:{server.port}"
        assert (await conn.fetch("rows"))[-1] == (7,)
        assert await conn.fetchval("select 1") == 1


# Accepted.


@pytest.mark.parametrize("mode", [None, "verify_identity", "verify_ca"])
@pytest.mark.parametrize("given", ["pem", "path"])
async def test_a_private_authority(server, request, given, mode):
    options = {"tls_ca": request.getfixturevalue(given)} | ({"tls_mode": mode} if mode else {})
    await works(aiotaos.connect(dsn(server), **options), server, "localhost")


async def test_an_address_in_the_certificate(start_server, authority, pem):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = await start_server(ssl=context)
    async with aiotaos.connect(dsn(server, "127.0.0.1"), tls_ca=pem) as conn:
        assert await conn.fetchval("select 1") == 1


async def test_another_host_name_with_verify_ca(server, pem):
    connecting = aiotaos.connect(dsn(server, "127.0.0.1"), tls_ca=pem, tls_mode="verify_ca")
    await works(connecting, server, "127.0.0.1")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_without_verification(server, host):
    await works(aiotaos.connect(dsn(server, host), tls_mode="none"), server, host)


async def test_options_of_the_dsn(server, path):
    await works(aiotaos.connect(f"{dsn(server)}&tls_ca={path}"), server, "localhost")


async def test_the_driver_as_a_keyword(server, pem):
    connecting = aiotaos.connect(
        driver="wss", host="localhost", port=server.port, tls_ca=pem, conn_retries=0
    )
    await works(connecting, server, "localhost")


async def test_through_a_pool(server, pem):
    async with aiotaos.create_pool(dsn(server), min_size=2, tls_ca=pem) as pool:
        assert len(server.sessions) == 2
        assert (await pool.fetch("rows"))[-1] == (7,)
        async with pool.acquire() as conn:
            assert conn.endpoint == f"wss://localhost:{server.port}"


async def test_a_session_that_is_opened_again(server, pem, server_parts):
    async with aiotaos.connect(dsn(server), tls_ca=pem, conn_retries=1) as conn:
        server.session.abort()
        await server_parts.turns(lambda: " lost" in repr(conn))
        assert await conn.fetchval("select 1") == 1
        assert len(server.sessions) == 2
    assert len(server.logged_in) == 2


# Refused.


@pytest.mark.parametrize("mode", ["verify_identity", "verify_ca"])
@pytest.mark.parametrize("known", [False, True], ids=["system", "stranger"])
async def test_an_unknown_authority(server, stranger, known, mode):
    options = {"tls_ca": stranger.cert_pem.bytes().decode()} if known else {}
    error = await refused(dsn(server), tls_mode=mode, **options)
    assert type(error) is aiotaos.ConnectionError
    assert "the certificate was refused: unable to get local issuer certificate" in error.message
    assert "give its authority as tls_ca" in error.message
    assert error.endpoint == f"wss://localhost:{server.port}"
    assert server.sessions == []


@pytest.mark.parametrize("mode", [None, "verify_identity"])
async def test_another_host_name(server, pem, mode):
    options = {"tls_mode": mode} if mode else {}
    error = await refused(dsn(server, "127.0.0.1"), tls_ca=pem, **options)
    assert type(error) is aiotaos.ConnectionError
    assert "the certificate was refused: IP address mismatch" in error.message
    assert server.sessions == []


async def test_an_unknown_authority_through_a_pool(server):
    async with aiotaos.create_pool(dsn(server)) as pool:
        with pytest.raises(aiotaos.ConnectionError, match="the certificate was refused"):
            await pool.execute("select 1")
    pool = aiotaos.create_pool(dsn(server), min_size=1)
    with pytest.raises(aiotaos.ConnectionError, match="the certificate was refused"):
        await pool.open()
    assert pool.closed


async def test_the_certificate_has_changed(start_server, authority, stranger, context, pem):
    """A session that was lost is not opened again with a server that is another one."""
    server = await start_server(ssl=context)
    server.may_leave = True
    async with aiotaos.connect(dsn(server), tls_ca=pem) as conn:
        await server.stop()
        other = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        stranger.issue_cert("localhost").configure_cert(other)
        impostor = await start_server(port=server.port, ssl=other)
        with pytest.raises(aiotaos.ConnectionError, match="the certificate was refused"):
            await conn.execute("select 1")
        assert impostor.sessions == []
        await impostor.stop()
        await start_server(port=server.port, ssl=context)
        assert await conn.fetchval("select 1") == 1


async def test_tls_where_there_is_none(start_server):
    server = await start_server()
    error = await refused(dsn(server), tls_mode="none")
    assert type(error) is aiotaos.ConnectionError


async def test_no_tls_where_there_is_some(server):
    error = await refused(f"ws://localhost:{server.port}", conn_retries=0)
    assert type(error) is aiotaos.ConnectionError


async def test_a_refused_handshake(start_server, context, pem):
    def refuse(connection, request):
        return connection.respond(http.HTTPStatus.NOT_FOUND, "not here")

    server = await start_server(ssl=context, process_request=refuse)
    error = await refused(dsn(server), tls_ca=pem)
    assert error.http_status == 404


@pytest.mark.parametrize("authority", ["/no/such/file.pem", "-----BEGIN nonsense-----"])
async def test_an_authority_that_cannot_be_read(clean, authority):
    with pytest.raises(InterfaceError, match="tls_ca: expected the path of a PEM file or PEM text"):
        await aiotaos.connect("wss://127.0.0.1:1", tls_ca=authority)


async def test_a_silent_server(tcp_server):
    async def handler(reader, writer):
        await reader.read(-1)

    port = await tcp_server(handler)
    error = await refused(
        f"wss://127.0.0.1:{port}", connect_timeout=0.05, conn_retries=0, tls_mode="none"
    )
    assert isinstance(error, aiotaos.TimeoutError)


async def test_cancelled_in_the_handshake(tcp_server):
    greeted = asyncio.Event()

    async def handler(reader, writer):
        await reader.read(1)
        greeted.set()
        await reader.read(-1)

    port = await tcp_server(handler)
    task = asyncio.ensure_future(_connect(f"wss://127.0.0.1:{port}"))
    await greeted.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _connect(dsn):
    async with aiotaos.connect(dsn):
        pytest.fail("there is a session")
