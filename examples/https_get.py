"""A GET by HTTPS: HTTP/1.1 by h11, over TLS, the server's certificate checked.

Run:  python examples/https_get.py https://www.python.org/
See:  the status, the name in the certificate, and how long the body is
"""

import sys
from urllib.parse import urlsplit

import h11

from trale_py import block_on, tls


async def get(url: str) -> None:
    parts = urlsplit(url)
    async with await tls.connect((parts.hostname, parts.port or 443), timeout=10) as stream:
        http = h11.Connection(h11.CLIENT)
        headers = [("Host", parts.hostname), ("Connection", "close")]
        request = h11.Request(method="GET", target=parts.path or "/", headers=headers)
        await stream.write_all(http.send(request) + http.send(h11.EndOfMessage()))
        size = 0
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await stream.read())
            elif isinstance(event, h11.Response):
                names = [name for _, name in stream.getpeercert()["subjectAltName"]]
                print(event.status_code, "from", names[0], "by", stream.version())
            elif isinstance(event, h11.Data):
                size += len(event.data)
            else:
                print(size, "bytes")
                return


block_on(get(sys.argv[1] if len(sys.argv) > 1 else "https://www.python.org/"))
