"""The one face of byte streams, on every kind that there is."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from trale_py import (
    BusyResourceError,
    ClosedResourceError,
    DelimiterNotFound,
    IncompleteRead,
    TaskCancelled,
    gather,
)

from ..support.net_helpers import executor_turn, parked, run
from .kinds import KINDS, Kind, Pair

BIG = bytes(range(256)) * 4096


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture
def pair(kind: Kind) -> Iterator[Pair]:
    """Two that are connected: the first writes what the second reads."""
    with kind.connect() as both:
        yield both


@pytest.fixture
def ending(kind: Kind, pair: Pair) -> Pair:
    """The first can be half-closed."""
    if not kind.ends:
        pytest.skip("it has no half-close")
    return pair


@pytest.fixture
def two_way(kind: Kind, pair: Pair) -> Pair:
    if not kind.two_way:
        pytest.skip("it has one direction")
    return pair


def cancelled(handle: Any) -> None:
    handle.cancel()
    with pytest.raises(TaskCancelled):
        handle.join(20)


def test_what_is_written_is_read(pair: Pair) -> None:
    one, other = pair

    async def both() -> tuple[bytes, ...]:
        await one.write_all(b"hello world")
        return await other.read_exact(5), await other.read_until(b"o"), await other.read_exact(3)

    assert run(both()) == (b"hello", b" wo", b"rld")


def test_read_returns_what_there_is(pair: Pair) -> None:
    one, other = pair
    run(one.write_all(b"ab"))
    assert run(other.read(1)) == b"a"
    assert run(other.read()) == b"b"


def test_readinto(pair: Pair) -> None:
    one, other = pair
    space = bytearray(b"....")
    run(one.write_all(b"xy"))
    assert run(other.readinto(memoryview(space)[1:3])) == 2
    assert space == b".xy."
    space.append(1)  # no view of it is left


def test_readinto_takes_what_was_read_ahead(pair: Pair) -> None:
    one, other = pair
    run(one.write_all(b"a\nbcd"))
    assert run(other.read_until(b"\n")) == b"a\n"
    run(other.peek())
    space = bytearray(2)
    assert run(other.readinto(space)) >= 1
    assert space.startswith(b"b")


def test_peek_takes_nothing(pair: Pair) -> None:
    one, other = pair
    run(one.write_all(b"abc"))
    assert run(other.peek(2)) in (b"a", b"ab")
    assert run(other.peek(1)) == b"a"
    assert run(other.read_exact(3)) == b"abc"


def test_peek_at_the_end(ending: Pair) -> None:
    one, other = ending
    run(one.shutdown())
    assert (run(other.peek()), run(other.read()), run(other.peek())) == (b"", b"", b"")


def test_peek_waits_and_a_cancelled_one_has_read_nothing(pair: Pair) -> None:
    one, other = pair
    waiting = parked(other.peek())
    cancelled(waiting)
    waiting = parked(other.peek())
    run(one.write_all(b"x"))
    assert waiting.join(20) == b"x"
    assert run(other.read(1)) == b"x"


def test_read_exact_that_is_cancelled_loses_nothing(pair: Pair) -> None:
    one, other = pair
    run(one.write_all(b"12"))
    waiting = parked(other.read_exact(4))
    cancelled(waiting)
    run(one.write_all(b"34"))
    assert run(other.read_exact(4)) == b"1234"


def test_the_stream_ends_too_early(ending: Pair) -> None:
    one, other = ending
    run(one.write_all(b"12"))
    run(one.shutdown())
    with pytest.raises(IncompleteRead) as caught:
        run(other.read_exact(3))
    assert caught.value.partial == b"12"


def test_C16_read_until_has_a_limit(pair: Pair) -> None:
    one, other = pair
    run(one.write_all(b"123456789"))
    with pytest.raises(DelimiterNotFound):
        run(other.read_until(b"\n", limit=4))
    assert run(other.read_exact(9)) == b"123456789"


def test_lines(ending: Pair) -> None:
    one, other = ending

    async def write() -> None:
        await one.write_all(b"a\r\nb\n\nlast")
        await one.shutdown()

    async def read() -> list[bytes]:
        return [line async for line in other.lines()]

    async def both() -> Any:
        return await gather(write(), read())

    assert run(both())[1] == [b"a", b"b", b"", b"last"]


def test_C11_half_close_both_ways(ending: Pair, two_way: Pair) -> None:
    one, other = two_way

    async def drain(stream: Any) -> bytes:
        parts = []
        while data := await stream.read():
            parts.append(data)
        return b"".join(parts)

    async def write(stream: Any) -> None:
        await stream.write_all(BIG[:65536])
        await stream.shutdown()
        with pytest.raises((BrokenPipeError, ClosedResourceError)):
            await stream.write(b"more")

    async def both() -> Any:
        await one.write_all(b"q")
        await one.shutdown()
        assert await other.read_exact(1) == b"q"
        assert await other.read() == b""
        return await gather(write(other), drain(one))

    assert run(both())[1] == BIG[:65536]


def test_C14_many_small_buffers(pair: Pair) -> None:
    one, other = pair
    parts = [bytes([n % 256]) for n in range(5000)]
    parts[2500:2500] = [b"", b"long" * 500, bytearray(b"other"), b""]

    async def both() -> Any:
        return await gather(one.write_all(parts), other.read_exact(7005))

    assert run(both())[1] == b"".join(parts)


def test_C12_a_list_that_is_cut_off_ends_the_writing(pair: Pair) -> None:
    one, _ = pair
    space = bytearray(100_000)
    writing = parked(one.write_all([space, b"x" * 1_000_000]))
    assert not writing.done()
    cancelled(writing)
    with pytest.raises(BrokenPipeError, match=r"an earlier write_all sent \d+ of 1100000 bytes"):
        run(one.write(b"x"))
    space.append(1)


def test_C13_nothing_to_write(pair: Pair) -> None:
    one, other = pair
    for nothing in (b"", [], [b"", b""]):
        assert run(one.write_all(nothing)) is None
    assert run(one.write(b"")) == 0
    run(one.write_all(b"x"))
    assert run(other.read()) == b"x"
    one.close()
    for call in (one.write, one.write_all):
        with pytest.raises(ClosedResourceError):
            run(call(b""))


def test_C13_nothing_to_read(pair: Pair) -> None:
    for n in (0, -1):
        for call in (pair[0].read, pair[0].peek):
            with pytest.raises(ValueError, match=f"n must be 1 or more, not {n}"):
                run(call(n))


def test_B6_two_readers_and_two_writers(two_way: Pair) -> None:
    one, other = two_way
    reading = parked(one.read())
    for second in (
        one.read,
        one.peek,
        lambda: one.read_exact(1),
        lambda: one.readinto(bytearray(1)),
    ):
        with pytest.raises(BusyResourceError, match="another task is already reading from"):
            run(second())
    writing = parked(one.write_all(BIG))
    for second in (lambda: one.write(b"x"), lambda: one.write_all([b"x"]), one.shutdown):
        with pytest.raises(BusyResourceError, match="another task is already writing to"):
            run(second())
    run(other.write_all(b"y"))
    assert reading.join(20) == b"y"
    cancelled(writing)


def test_B1_a_close_wakes_reader_and_writer(two_way: Pair) -> None:
    one, _ = two_way
    reading, writing = parked(one.read_exact(1)), parked(one.write_all([BIG, BIG]))
    one.close()
    executor_turn()
    for handle in (reading, writing):
        with pytest.raises(ClosedResourceError):
            handle.join(20)
    one.close()


def test_C15_a_writer_waits_for_its_reader(pair: Pair) -> None:
    one, _ = pair
    tracemalloc.start()
    try:
        writing = parked(one.write_all(BIG))
        assert not writing.done()
        assert tracemalloc.get_traced_memory()[1] < len(BIG) // 2
    finally:
        tracemalloc.stop()
    cancelled(writing)


def test_messages_name_the_argument(pair: Pair) -> None:
    one, _ = pair
    bad: Any = 3
    with pytest.raises(TypeError, match="data must be bytes-like, not int"):
        run(one.write(bad))
    with pytest.raises(TypeError, match=r"data\[1\] must be bytes-like, not int"):
        run(one.write_all([b"", bad]))
    with pytest.raises(TypeError, match="buf must be bytes-like, not int"):
        run(one.readinto(bad))
    with pytest.raises(TypeError, match="buf must be writable"):
        run(one.readinto(b"bytes"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="n must be an int, not '3'"):
        run(one.peek("3"))  # type: ignore[arg-type]


def test_a_full_stream_goes_on_when_it_is_read(pair: Pair) -> None:
    one, other = pair

    async def both() -> Any:
        return await gather(one.write_all(BIG), other.read_exact(len(BIG)))

    assert run(both())[1] == BIG


def test_C11_half_close_of_one_direction(ending: Pair) -> None:
    one, other = ending

    async def both() -> Any:
        async def write() -> None:
            await one.write_all(BIG[:100_000])
            await one.shutdown()

        return await gather(write(), other.read_exact(100_000))

    assert run(both())[1] == BIG[:100_000]
    assert run(other.read()) == b""
