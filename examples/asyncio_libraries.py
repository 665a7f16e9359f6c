"""aiohttp in a plain script: ten pages at once. No async def main, no event loop to run.

Run:  python examples/asyncio_libraries.py        (needs aiohttp)
See:  page 0: 2 kB in 0.1 s  ... and how long all ten took: not ten times as long
"""

import asyncio
import time

from aiohttp import ClientSession, web

from trale_py import aio, block_on, gather, sleep, spawn


async def page(_):  # asyncio code awaits what is trale_py's as it is
    await sleep(0.1)
    return web.Response(text="x" * 2000)


async def serve():
    app = web.Application()
    app.add_routes([web.get("/{n}", page)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner


async def fetch(session, url):
    async with session.get(url) as response:
        return await response.text()


async def time_fetch(session, n, url):  # a task of trale_py's
    began = time.monotonic()
    text = await aio(fetch, session, f"{url}/{n}")
    print(f"page {n}: {len(text) // 1000} kB in {time.monotonic() - began:.1f} s")


async def fetch_all(url):
    async with aio(ClientSession) as session:  # entered and left in one asyncio task
        await gather(*(time_fetch(session, n, url) for n in range(10)))


runner = spawn(aio(serve)).join()
url = f"http://127.0.0.1:{runner.addresses[0][1]}"
began = time.monotonic()
spawn(fetch_all(url)).join()
print(f"ten pages in {time.monotonic() - began:.1f} s")
# What wants the loop itself has it:
asyncio.run_coroutine_threadsafe(runner.cleanup(), aio.loop()).result()
assert block_on(aio(asyncio.sleep, 0, "done")) == "done"
