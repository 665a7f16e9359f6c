"""An echo server for one connection, while another task prints.

The words are those of trale's own example: Executor.spawn is spawn, Timer.sleep is sleep.

Run:  python examples/tcp_serv.py --port 5000
      nc 127.0.0.1 5000                  (in another terminal; type lines, end with Ctrl-C)
See:  Hello A!  Hello B!  Hello C!  Hello D!  and, on stderr,
      Conversation finished.  Read N bytes
"""

import argparse
import sys

from trale_py import Executor, TcpListener, Timer

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, default=5000)
port = parser.parse_args().port


async def hello() -> None:
    await Timer.sleep(0.5)
    print("Hello A!")
    for name in "BCD":
        await Timer.sleep(1)
        print(f"Hello {name}!")


async def echo() -> int:
    bytes_read = 0
    with TcpListener.bind(("127.0.0.1", port)) as listener:
        conn = await listener.accept()
    # Only one connection is wanted: from here on the port is closed.
    with conn:
        while data := await conn.read():
            bytes_read += len(data)
            await conn.write_all(data)
    return bytes_read


task1 = Executor.spawn(hello())
echo_task = Executor.spawn(echo())

bytes_read = echo_task.join()
print(f"Conversation finished.  Read {bytes_read} bytes", file=sys.stderr)
task1.join()
