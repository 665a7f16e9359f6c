"""A database from a script: asyncpg if there is a PostgreSQL server, else aiosqlite.

Run:  python examples/database.py postgresql://user@host/database     (needs asyncpg)
      python examples/database.py                                     (needs aiosqlite)
See:  3 rows, in one transaction: ['one', 'two', 'three']
"""

import sys

from trale_py import aio, block_on

ROWS = [(1, "one"), (2, "two"), (3, "three")]


async def with_postgres(dsn):
    import asyncpg

    # A function and its arguments: it is called in an asyncio task, where the loop is.
    async with aio(asyncpg.create_pool, dsn, min_size=1) as pool:
        connection = await aio(pool.acquire)
        await aio(connection.execute, "create temp table numbers (n int, name text)")
        async with aio(connection.transaction()):
            await aio(connection.executemany, "insert into numbers values ($1, $2)", ROWS)
            cursor = connection.cursor("select name from numbers order by n")
            names = [row["name"] async for row in aio(cursor)]
        await aio(pool.release, connection)
    return names


async def with_sqlite():
    import aiosqlite

    async with aio(aiosqlite.connect, ":memory:") as database:
        await aio(database.execute, "create table numbers (n int, name text)")
        await aio(database.executemany, "insert into numbers values (?, ?)", ROWS)
        await aio(database.commit)
        cursor = await aio(database.execute, "select name from numbers order by n")
        names = [name async for (name,) in aio(cursor)]
        await aio(cursor.close)
    return names


names = block_on(with_postgres(sys.argv[1]) if sys.argv[1:] else with_sqlite())
print(f"{len(names)} rows, in one transaction: {names}")
