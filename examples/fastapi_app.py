"""A FastAPI app under uvicorn, beside a main thread that computes: it answers all the same.

Run:  python examples/fastapi_app.py 8000         (needs fastapi and uvicorn)
      curl http://127.0.0.1:8000/
See:  {"hello":"world","primes":1229}, and more primes each time; Ctrl-C ends both
"""

import sys

import fastapi
import uvicorn

from trale_py import aio, sleep, spawn

app = fastapi.FastAPI()
primes = []


@app.get("/")
async def hello():
    await sleep(0.001)  # trale_py's, in a handler of FastAPI's
    return {"hello": "world", "primes": len(primes)}


def search():
    """What the main thread does: plain Python, and no await."""
    n = 2
    while True:
        if all(n % prime for prime in primes if prime * prime <= n):
            primes.append(n)
        n += 1


config = uvicorn.Config(app, port=int(sys.argv[1]), log_level="warning")
server = uvicorn.Server(config)
serving = spawn(aio(server.serve))
try:
    search()
except KeyboardInterrupt:
    server.should_exit = True
    serving.join()
    print("served to the end")
