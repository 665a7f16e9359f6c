"""A web server for the files of a directory: HTTP/1.1, many clients, and no trust in any of them.

Run:  pip install '.[web]'
      python examples/web_server.py --port 8000 --patience 10 examples
      curl http://127.0.0.1:8000/            (sends index.html, if there is one)
See:  serving /home/you/site at http://127.0.0.1:8000/
      and after Ctrl-C:  bye

It is longer than the other examples because most of it is saying no: to paths that lead out
of the directory, to what is no regular file, to clients that are slow or send too much.
"""

import argparse
import mimetypes
import os
import re
import stat
from collections import Counter
from email.utils import formatdate
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote_to_bytes

import h11

from trale_py import TcpListener, TcpStream, fail_after, move_on_after, spawn, spawn_blocking

HEAD_BYTES = 16 * 1024  # request line and headers together
CHUNK = 64 * 1024  # one of these has to get through within the patience we have
PER_CLIENT = 100  # connections from one address at a time

parser = argparse.ArgumentParser()
parser.add_argument("directory", nargs="?", default=".", type=Path)
parser.add_argument("--port", type=int, default=8000)
parser.add_argument("--patience", type=float, default=10, help="seconds for a head, or a chunk")
args = parser.parse_args()
connections: Counter[str] = Counter()


class Refused(Exception):
    """The argument is the status to answer with."""


def open_inside(root: int, target: bytes) -> tuple[BinaryIO, int, str]:
    """Open the file that a request's target names, below ``root``. It blocks: run it in a thread.

    Step by step from the directory's descriptor, and by no symbolic link: so neither ".." nor a
    link leads out, and a directory that is replaced by a link between check and use is no way out.
    """
    # A proxy may ask for "http://host/path", and every server must answer that (RFC 9112, 3.2.2).
    full = re.match(rb"(?i:https?)://[^/?#]+", target)
    path = target[full.end() :] if full else target
    path = unquote_to_bytes(
        path.partition(b"?")[0] or (b"/" if full else b"")
    )  # once: %252e is a name with a % in it
    if not path.startswith(b"/") or b"\0" in path:
        raise Refused(400)
    *folders, name = path[1:].split(b"/")
    name = name or b"index.html"
    if {b"", b".", b".."} & {*folders, name}:
        raise Refused(404)
    here, opened = root, []
    try:
        for part in folders:
            here = os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            opened.append(here)
        here = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=here)
        opened.append(here)
        # O_PATH has opened nothing yet: to open a FIFO waits, and to open a device may do things.
        status = os.fstat(here)
        if not stat.S_ISREG(status.st_mode):
            raise Refused(404)
        kind = mimetypes.guess_type(os.fsdecode(name))[0] or "application/octet-stream"
        return Path(f"/proc/self/fd/{here}").open("rb", buffering=0), status.st_size, kind
    except OSError:  # not there, no directory, a link, a name that is too long, not to be read
        raise Refused(404) from None
    finally:
        for fd in opened:
            os.close(fd)


async def next_event(stream: TcpStream, conn: h11.Connection) -> h11.Event:
    while (event := conn.next_event()) is h11.NEED_DATA:
        conn.receive_data(await stream.read())
    return event


async def send(stream: TcpStream, conn: h11.Connection, event: h11.Event) -> None:
    with fail_after(args.patience):
        await stream.write_all(conn.send(event) or b"")


def headers(length: int, kind: str, *more: tuple[str, str]) -> list[tuple[str, str]]:
    common = [("date", formatdate(usegmt=True)), ("x-content-type-options", "nosniff")]
    return [*common, ("content-length", str(length)), ("content-type", kind), *more]


async def answer(stream: TcpStream, conn: h11.Connection, root: int) -> bool:
    """Take one request and answer it. False: that was the last one."""
    with fail_after(args.patience):  # for all of the head, however many bytes it comes in
        request = await next_event(stream, conn)
    if isinstance(request, h11.ConnectionClosed):
        return False
    fields = dict(request.headers)
    if b"transfer-encoding" in fields or fields.get(b"content-length", b"0") != b"0":
        raise Refused(413)
    if request.method not in (b"GET", b"HEAD"):
        raise Refused(405)
    file, size, kind = await spawn_blocking(open_inside, root, request.target)
    with file:
        await send(stream, conn, h11.Response(status_code=200, headers=headers(size, kind)))
        while size and request.method == b"GET":
            data = await spawn_blocking(file.read, min(size, CHUNK))
            if not data:  # the file has become shorter: the client will see that some is missing
                return False
            await send(stream, conn, h11.Data(data=data))
            size -= len(data)
    await send(stream, conn, h11.EndOfMessage())
    return isinstance(conn.next_event(), h11.EndOfMessage) and conn.our_state is h11.DONE


async def refuse(stream: TcpStream, conn: h11.Connection, status: int) -> None:
    if conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
        fields = headers(0, "text/plain", ("connection", "close"))
        await send(stream, conn, h11.Response(status_code=status, headers=fields))
        await send(stream, conn, h11.EndOfMessage())
        await stream.shutdown()
        with move_on_after(1):  # a close with bytes unread would take the answer with it
            while await stream.read():
                pass


async def talk(stream: TcpStream, client: str, root: int) -> None:
    conn = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
    try:
        async with stream:
            try:
                while await answer(stream, conn, root):
                    conn.start_next_cycle()
            except Refused as refused:
                await refuse(stream, conn, refused.args[0])
            except h11.RemoteProtocolError as error:
                await refuse(stream, conn, error.error_status_hint)
    except (ConnectionError, TimeoutError):
        pass  # it has gone, or it was too slow
    finally:
        connections[client] -= 1


async def serve(listener: TcpListener, root: int) -> None:
    async for stream in listener:
        client = stream.peer_addr[0]
        if connections[client] >= PER_CLIENT:
            stream.close()
            continue
        connections[client] += 1
        spawn(talk(stream, client, root))


with TcpListener.bind(("127.0.0.1", args.port)) as listener:
    root = os.open(args.directory, os.O_PATH | os.O_DIRECTORY)
    port = listener.local_addr[1]
    print(f"serving {args.directory.resolve()} at http://127.0.0.1:{port}/", flush=True)
    try:
        spawn(serve(listener, root)).join()
    except KeyboardInterrupt:
        print("bye")
