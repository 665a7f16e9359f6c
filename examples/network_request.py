"""Three requests wait on a channel, at once; a thread plays the network that answers them.

Run:  python examples/network_request.py
See:  users: asked
      posts: asked
      photos: asked
      users: 'data of users'
      posts: 'data of posts'
      photos: 'data of photos'
      all three after 0.2 s
"""

import threading
import time

from trale_py import gather, spawn
from trale_py.channel import OneshotSender, Receiver, Sender, channel, oneshot


def network(requests: Receiver[tuple[str, OneshotSender[str]]]) -> None:
    """Takes requests, and answers each of them 0.2 seconds later."""
    waiting = []
    for name, reply in requests:
        waiting.append((time.monotonic() + 0.2, name, reply))
        if len(waiting) == 3:
            break
    for due, name, reply in waiting:
        time.sleep(max(0.0, due - time.monotonic()))
        reply.send(f"data of {name}")


async def request(name: str, requests: Sender[tuple[str, OneshotSender[str]]]) -> str:
    reply, answer = oneshot()
    await requests.send((name, reply))
    print(f"{name}: asked")
    data: str = await answer.recv()
    print(f"{name}: {data!r}")
    return data


async def main(requests: Sender[tuple[str, OneshotSender[str]]]) -> None:
    await gather(*(request(name, requests) for name in ("users", "posts", "photos")))


started = time.monotonic()
tx, rx = channel(10)
thread = threading.Thread(target=network, args=(rx,))
thread.start()
spawn(main(tx)).join()
print(f"all three after {time.monotonic() - started:.1f} s")
