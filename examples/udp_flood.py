"""A hundred thousand datagrams to an echo server and back, up to 64 in one system call.

Run:  python examples/udp_flood.py --count 100000
See:  100000 datagrams there and back
      ... each second, ... received in one system call
"""

import argparse

from trale_py import UdpSocket, block_on, now, spawn

parser = argparse.ArgumentParser()
parser.add_argument("--count", type=int, default=100_000)
total = parser.parse_args().count
WINDOW = 128  # on their way at a time: more might not fit into the sockets' buffers


async def send_all(sock, pairs):
    while pairs:
        del pairs[: await sock.send_many(pairs)]


async def echo(sock):
    while True:
        await send_all(sock, await sock.recv_many(64))  # what comes out of one fits the other


async def flood(sock, addr):
    sent = received = calls = 0
    while received < total:
        count = min(64, WINDOW - (sent - received), total - sent)
        await send_all(sock, [(b"x" * 100, addr)] * count)
        sent += count
        received += len(await sock.recv_many(64))
        calls += 1
    return calls


with UdpSocket.bind("127.0.0.1:0") as client, UdpSocket.bind("127.0.0.1:0") as server:
    echoing = spawn(echo(server))
    start = now()
    calls = block_on(flood(client, server.local_addr))
    seconds = now() - start
    echoing.cancel()

print(f"{total} datagrams there and back")
print(f"{total / seconds:,.0f} each second, {total / calls:.1f} received in one system call")
