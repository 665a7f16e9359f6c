"""Fetch a thousand pages, fifty at a time, and keep what failed. The pages are its own.

Run:  python examples/download.py
See:  997 pages, 3 failures, 49 KiB  (and a bar meanwhile, if tqdm is installed)
      /999: no such page
"""

from trale_py import TcpStream, map_concurrent, serve, timeout

try:
    from tqdm import tqdm
except ImportError:

    def tqdm(pages, **_):
        return pages


async def page(stream: TcpStream) -> None:
    path = (await stream.read_until(b"\r\n", limit=1000)).split()[1].decode()
    found = int(path[1:]) < 997
    body = b"page" + path.encode() * 10 if found else b"no such page"
    status = b"200 OK" if found else b"404 Not Found"
    await stream.write_all(b"HTTP/1.0 " + status + b"\r\n\r\n" + body)
    await stream.shutdown()


class Missing(Exception):
    pass


async def fetch(url: tuple) -> bytes:
    address, path = url
    async with await TcpStream.connect(address) as stream:
        await stream.write_all(b"GET " + path.encode() + b" HTTP/1.0\r\n\r\n")
        reply = b""
        while data := await timeout(10, stream.read()):
            reply += data
    head, _, body = reply.partition(b"\r\n\r\n")
    if b" 200 " not in head:
        raise Missing(f"{path}: {body.decode()}")
    return body


with serve(page, "127.0.0.1:0", limit=200) as server:
    urls = [(server.addresses[0], f"/{n}") for n in range(1000)]
    pages = map_concurrent(fetch, urls, limit=50, return_exceptions=True)
    results = list(tqdm(pages, total=len(urls)))

failures = [one for one in results if isinstance(one, Exception)]
size = sum(len(one) for one in results if isinstance(one, bytes))
print(f"{len(results) - len(failures)} pages, {len(failures)} failures, {size // 1024} KiB")
print(failures[-1])
