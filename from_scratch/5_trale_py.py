"""Step 5: trale_py. The program of step 4, with what was missing, and what it takes to get it.

Run:  python from_scratch/5_trale_py.py
See:  hello 0, hello 1, hello 2
      the server was cancelled: enough
      ValueError: out of the task, with its traceback

What you have built is all here, by the same names: Future, poll, PENDING, Waker, Executor, Reactor.
docs/learn.md says where each of them is, and what was added.
"""

from trale_py import TaskCancelled, TcpListener, TcpStream, gather, sleep, spawn


async def echo(stream: TcpStream) -> None:
    async with stream:  # closed however it ends: the end, an error, a cancellation
        while data := await stream.read():
            await sleep(0.1)
            await stream.write_all(data)


async def server(listener: TcpListener) -> None:
    async for stream in listener:
        spawn(echo(stream))


async def client(n: int, listener: TcpListener) -> str:
    async with await TcpStream.connect(listener.local_addr) as stream:
        await stream.write_all(b"hello %d" % n)
        return (await stream.read()).decode()


async def all_clients(listener: TcpListener) -> tuple[str, ...]:
    return await gather(*(client(n, listener) for n in range(3)))


async def fail() -> None:
    raise ValueError("out of the task, with its traceback")


with TcpListener.bind("127.0.0.1:0") as listener:
    serving = spawn(server(listener))
    print(*spawn(all_clients(listener)).join(), sep=", ")  # a result
    serving.cancel("enough")
    try:
        serving.join()
    except TaskCancelled as cancelled:
        print("the server was cancelled:", cancelled.reason)
try:
    spawn(fail()).join()
except ValueError as error:
    print("ValueError:", error)
