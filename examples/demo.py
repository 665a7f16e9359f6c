"""What trale_py is for, in a few seconds: this is what "make demo" runs.

Run:  python examples/demo.py
See:  timers, tasks joined from a script, TCP and UDP echo over real sockets
"""

import time

from trale_py import TcpListener, TcpStream, UdpSocket, interval, sleep, spawn


def headline(text: str) -> None:
    print(f"\n== {text}")


headline("Timers: three tasks sleep at once")


async def sleeper(name: str, seconds: float) -> str:
    await sleep(seconds)
    return f"{name} slept {seconds} s"


started = time.monotonic()
handles = [spawn(sleeper(name, n / 10)) for n, name in enumerate("ABC", start=1)]
for handle in handles:
    print(handle.join())
print(f"together: {time.monotonic() - started:.1f} s")


async def ticks() -> None:
    count = 0
    async for due in interval(0.05):
        print(f"tick, {time.monotonic() - due:.4f} s late")
        count += 1
        if count == 3:
            return


spawn(ticks()).join()

headline("Spawned from a script, joined from a script: 10,000 tasks")


async def square(n: int) -> int:
    return n * n


started = time.monotonic()
total = sum(handle.join() for handle in [spawn(square(n)) for n in range(10_000)])
print(f"the squares add up to {total}, in {time.monotonic() - started:.2f} s")

headline("TCP: one server, fifty clients, each sends 100 kB and gets it back")


async def echo(stream: TcpStream) -> None:
    async with stream:
        while data := await stream.read():
            await stream.write_all(data)


async def serve(listener: TcpListener, clients: int) -> None:
    with listener:
        for _ in range(clients):
            spawn(echo(await listener.accept()))


async def client(port: int) -> int:
    async with await TcpStream.connect(("127.0.0.1", port)) as stream:
        writer = spawn(write_and_end(stream, bytes(100_000)))
        received = 0
        while data := await stream.read():
            received += len(data)
        await writer
        return received


async def write_and_end(stream: TcpStream, data: bytes) -> None:
    await stream.write_all(data)
    await stream.shutdown()


listener = TcpListener.bind("127.0.0.1:0")
port = listener.local_addr[1]
server = spawn(serve(listener, 50))
started = time.monotonic()
received = sum(handle.join() for handle in [spawn(client(port)) for _ in range(50)])
server.join()
print(f"{received:,} bytes came back, in {time.monotonic() - started:.2f} s")

headline("UDP: twenty datagrams there and back")


async def udp_echo(sock: UdpSocket, count: int) -> None:
    for _ in range(count):
        data, sender = await sock.recv_from()
        await sock.send_to(data, sender)


async def udp_client(port: int) -> int:
    with UdpSocket.bind("127.0.0.1:0") as sock:
        await sock.connect(("127.0.0.1", port))
        for n in range(20):
            await sock.send(b"%d" % n)
            assert await sock.recv() == b"%d" % n
        return 20


with UdpSocket.bind("127.0.0.1:0") as echoing:
    server = spawn(udp_echo(echoing, 20))
    print(f"{spawn(udp_client(echoing.local_addr[1])).join()} came back")
    server.join()

print("\nThat is trale_py.")
