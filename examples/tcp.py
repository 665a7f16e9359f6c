"""A client that sends back whatever the server sends, while another task prints.

The words are those of trale's own example: Executor.spawn is spawn, Timer.sleep is sleep.

Run:  nc -l -p 5000                      (in one terminal; type lines, end with Ctrl-C)
      python examples/tcp.py --port 5000
See:  your lines come back in the first terminal; here
      Hello A!  Hello B!  Hello C!  and, on stderr,  Conversation finished.  Read N bytes
"""

import argparse
import sys

from trale_py import Executor, TcpStream, Timer

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, default=5000)
port = parser.parse_args().port


async def hello() -> None:
    await Timer.sleep(0.5)
    print("Hello A!")
    await Timer.sleep(1)
    print("Hello B!")
    await Timer.sleep(1)
    print("Hello C!")


async def echo() -> int:
    bytes_read = 0
    async with await TcpStream.connect(("127.0.0.1", port)) as sock:
        while data := await sock.read():
            bytes_read += len(data)
            await sock.write_all(data)
    return bytes_read


task1 = Executor.spawn(hello())
echo_task = Executor.spawn(echo())

bytes_read = echo_task.join()
print(f"Conversation finished.  Read {bytes_read} bytes", file=sys.stderr)
task1.join()
