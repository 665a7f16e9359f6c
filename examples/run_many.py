"""Many programs, some at a time, with a limit of time for each.

Run:  python examples/run_many.py
See:  how each of ten programs ended; one takes too long and is killed
"""

from trale_py import Semaphore, block_on, gather, process

AT_ONCE = Semaphore(4)


async def attempt(n: int) -> str:
    seconds = 1000 if n == 7 else n / 100
    async with AT_ONCE:
        try:
            done = await process.run(
                ["sh", "-c", f"sleep {seconds}; echo program {n}; exit {n % 3}"],
                capture_output=True,
                timeout=1,
            )
        except process.TimeoutExpired as error:
            return f"program {n}: killed after {error.timeout} s"
    return f"{done.stdout.decode().strip()}: exit status {done.returncode}"


async def main() -> None:
    for line in await gather(*map(attempt, range(10))):
        print(line)


block_on(main())
