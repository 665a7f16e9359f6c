"""Computations on a Dask cluster, awaited like any task. Here the cluster is two processes.

Run:  pip install '.[dask]'
      python examples/cluster.py
See:  the main thread counts meanwhile: ... turns
      primes below 100000: 9592
      computed by 2 processes, none of them this one

Client("tcp://scheduler:8786") instead of the LocalCluster, and it is many machines.
"""

import os

from dask.distributed import Client, LocalCluster

from trale_py import gather, spawn, spawn_blocking

STEP = 10_000


def count_primes(start: int, stop: int) -> tuple[int, int]:
    """How many there are, and which process counted: this runs on the cluster."""
    count = sum(
        all(n % divisor for divisor in range(2, int(n**0.5) + 1))
        for n in range(max(start, 2), stop)
    )
    return count, os.getpid()


async def count_all(stop: int, client: Client) -> tuple[tuple[int, int], ...]:
    cluster = client.get_executor()
    return await gather(
        *(
            spawn_blocking(count_primes, start, start + STEP, executor=cluster)
            for start in range(0, stop, STEP)
        )
    )


def main() -> None:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        counting = spawn(count_all(100_000, client))
        turns = 0
        while not counting.done():
            turns += 1
        print("the main thread counts meanwhile:", turns, "turns")
        parts = counting.join()
        print("primes below 100000:", sum(count for count, _ in parts))
        processes = {process for _, process in parts}
        print(f"computed by {len(processes)} processes, none of them this one")
        assert os.getpid() not in processes


if __name__ == "__main__":  # the processes of the cluster import this file
    main()
