"""Twenty bytes go from one task to another by UDP, while a third one prints.

The words are those of trale's own example: Executor.spawn is spawn, Timer.sleep is sleep.

Run:  python examples/udp.py --port 9998
See:  Hello A!
      Sent 20 bytes  and  Received 20 bytes from 127.0.0.1:...  (in either order)
      Hello B!
      Hello C!
"""

import argparse

from trale_py import Executor, Timer, UdpSocket

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, default=9998)
port = parser.parse_args().port


async def hello() -> None:
    await Timer.sleep(0.5)
    print("Hello A!")
    await Timer.sleep(1)
    print("Hello B!")
    await Timer.sleep(1)
    print("Hello C!")


async def receive() -> None:
    with UdpSocket.bind(("127.0.0.1", port)) as sock:
        data, (host, from_port) = await sock.recv_from(1500)
    print(f"Received {len(data)} bytes from {host}:{from_port}")


async def send() -> None:
    with UdpSocket.bind("127.0.0.1:0") as sock:
        await Timer.sleep(1)  # by then the other socket is there
        sent = await sock.send_to(b"\xad" * 20, ("127.0.0.1", port))
    print(f"Sent {sent} bytes")


tasks = [Executor.spawn(hello()), Executor.spawn(receive()), Executor.spawn(send())]
for task in tasks:
    task.join()
