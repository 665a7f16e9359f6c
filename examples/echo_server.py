"""An echo server for many clients at once.

Run:  python examples/echo_server.py --port 5000
      nc 127.0.0.1 5000                  (in other terminals, as many as you like)
See:  listening on 127.0.0.1:5000
      127.0.0.1:43210 came
      127.0.0.1:43210 went, 12 bytes
      and after Ctrl-C:  bye
"""

import argparse

from trale_py import TcpListener, TcpStream, spawn

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, default=5000)
port = parser.parse_args().port


async def echo(stream: TcpStream) -> None:
    host, port = stream.peer_addr[:2]
    print(f"{host}:{port} came", flush=True)
    count = 0
    try:
        async with stream:
            while data := await stream.read():
                await stream.write_all(data)
                count += len(data)
    except ConnectionError as error:
        print(f"{host}:{port} {error}", flush=True)
    print(f"{host}:{port} went, {count} bytes", flush=True)


async def serve(listener: TcpListener) -> None:
    async for stream in listener:
        spawn(echo(stream))


with TcpListener.bind(("127.0.0.1", port)) as listener:
    print("listening on {}:{}".format(*listener.local_addr), flush=True)
    try:
        spawn(serve(listener)).join()
    except KeyboardInterrupt:
        print("bye")
