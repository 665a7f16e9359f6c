"""An echo server with TLS, and a client that trusts its certificate and no other.

Run:  python examples/tls_echo.py
See:  client: TLSv1.3, b'hello'
"""

import ssl
import subprocess
import tempfile
from pathlib import Path

from trale_py import TcpListener, spawn, tls


def self_signed(folder: str) -> tuple[Path, Path]:
    """A certificate for localhost, and its key. Real ones come from an authority."""
    key, certificate = Path(folder, "key.pem"), Path(folder, "certificate.pem")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost"
    options = ["-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate]
    subprocess.run([*command.split(), *options], check=True, capture_output=True)
    return certificate, key


async def echo(stream):
    async with stream:  # its handshake is part of the first read: the listener does not wait
        while data := await stream.read():
            await stream.write_all(data)
        await stream.shutdown()


async def serve(listener):
    async for stream in listener:
        spawn(echo(stream))


async def talk(address, context):
    async with await tls.connect(address, context=context, server_hostname="localhost") as stream:
        await stream.write_all(b"hello")
        await stream.shutdown()  # a peer that gets no close_notify takes it for an attack
        print(f"client: {stream.version()}, {await stream.read_exact(5)}")


with tempfile.TemporaryDirectory() as folder:
    certificate, key = self_signed(folder)
    for_server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    for_server.load_cert_chain(certificate, key)
    for_client = ssl.create_default_context(cafile=str(certificate))
with tls.TlsListener(TcpListener.bind("127.0.0.1:0"), for_server) as listener:
    server = spawn(serve(listener))
    spawn(talk(listener.local_addr, for_client)).join()
    server.cancel()
