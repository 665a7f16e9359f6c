"""Addresses: what may be written, what may not, and what the kernel is given."""

from __future__ import annotations

import enum
import ipaddress
import socket
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trale_py import TcpListener, TcpStream, UdpSocket, block_on
from trale_py.net.address import (
    Endpoint,
    HostPort,
    _family_of,
    parse,
    resolve,
    show,
    to_bind,
    to_connect,
)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (("127.0.0.1", 5000), HostPort("127.0.0.1", 5000, ())),
        ("127.0.0.1:5000", HostPort("127.0.0.1", 5000, ())),
        ("[::1]:5000", HostPort("::1", 5000, ())),
        (("::1", 5000), HostPort("::1", 5000, ())),
        (("::1", 5000, 7, 3), HostPort("::1", 5000, (7, 3))),
        ("localhost:80", HostPort("localhost", 80, ())),
        (("localhost", 80), HostPort("localhost", 80, ())),
        (":80", HostPort("", 80, ())),
        (("", 80), HostPort("", 80, ())),
        ("[fe80::1%lo]:80", HostPort("fe80::1%lo", 80, ())),
        ("127.0.0.1:0", HostPort("127.0.0.1", 0, ())),
        ("127.0.0.1:65535", HostPort("127.0.0.1", 65535, ())),
    ],
)
def test_accepted(address: Any, expected: HostPort) -> None:
    assert parse(address) == expected


BAD = [
    "",
    "127.0.0.1",
    "127.0.0.1:",
    "127.0.0.1:http",
    "127.0.0.1:-1",
    "127.0.0.1:+80",
    "127.0.0.1: 80",
    "127.0.0.1:80 ",
    "127.0.0.1:8_0",
    "127.0.0.1:٨٠",
    "127.0.0.1:65536",
    "127.0.0.1:" + "9" * 5000,
    "::1:80",
    "[::1]",
    "[]:80",
    "[localhost]:80",
    "[127.0.0.1]:80",
    (),
    ("127.0.0.1",),
    ("::1", 80, 0),
    ("::1", 80, 0, 0, 0),
    ("127.0.0.1", "80"),
    ("127.0.0.1", 80.0),
    ("127.0.0.1", None),
    (b"127.0.0.1", 80),
    (None, 80),
    ("127.0.0.1", -1),
    ("127.0.0.1", 65536),
    ("::1", 80, -1, 0),
    ("::1", 80, 1 << 20, 0),
    ("::1", 80, 0, -1),
    ("::1", 80, 0, 1 << 32),
    ("::1", 80, "0", 0),
    ("127.0.0.1\0", 80),
    ("127.0.0.1\0.example.com", 80),
    ("x" * 256, 80),
    ("x" * 65536, 80),
]


@pytest.mark.parametrize("address", BAD, ids=lambda address: repr(address)[:40])
def test_C21_refused_with_the_value_and_the_forms(address: Any) -> None:
    with pytest.raises(ValueError, match="bad address") as caught:
        parse(address)
    assert repr(address) in str(caught.value)
    for form in ('("127.0.0.1", 5000)', '"127.0.0.1:5000"', '"[::1]:5000"', '("::1", 5000, '):
        assert form in str(caught.value)


@pytest.mark.parametrize("address", [None, 80, b"127.0.0.1:80", ["127.0.0.1", 80], {"x": 1}])
def test_another_type_is_a_type_error(address: Any) -> None:
    with pytest.raises(TypeError, match="the address addr must be") as caught:
        parse(address)
    assert repr(address) in str(caught.value)


# getaddrinfo() reads these as a number, or as any address; ipaddress does not.
NOT_WHAT_THEY_SEEM = [
    "*",
    "1",
    "127.1",
    "127.0.1",
    "0x7f.1",
    "0x7f000001",
    "2130706433",
    "010.0.0.1",
    "127.0.0.01",
    "0",
    "\uff11\uff12\uff17.\uff10.\uff10.\uff11",  # the idna codec makes 127.0.0.1 of it
]


@pytest.mark.parametrize("host", NOT_WHAT_THEY_SEEM)
def test_C21_a_host_that_only_getaddrinfo_takes_for_a_literal(host: str) -> None:
    for address in ((host, 80), f"{host}:80"):
        with pytest.raises(ValueError, match="neither an IP address nor") as caught:
            parse(address)
        assert repr(address) in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "nonsense",
        ("127.0.0.1", -1),
        "*:8000",
        ("127.1", 8000),
        ("127.0.0.1\0", 8000),
        ("127.0.0.1\0.example.com", 8000),
        ("127.0.0.1", 65536),
    ],
)
def test_C21_addresses_are_checked_at_the_call_not_at_the_await(address: Any) -> None:
    """Everywhere, and by the fast ways too."""
    with pytest.raises(ValueError, match="bad address"):
        TcpStream.connect(address)
    with pytest.raises(ValueError, match="bad address"):
        TcpListener.bind(address)
    with pytest.raises(ValueError, match="bad address"):
        UdpSocket.bind(address)
    with UdpSocket.bind("127.0.0.1:0") as sock:
        with pytest.raises(ValueError, match="bad address"):
            sock.send_to(b"x", address)
        with pytest.raises(ValueError, match="bad address"):
            sock.send_many([(b"x", address)])
        with pytest.raises(ValueError, match="bad address"):
            sock.connect(address)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("127.0.0.1:65536", "not 65536;"),
        ("127.0.0.1:http", "not 'http';"),
        ("127.0.0.1:", "not '';"),
        (("127.0.0.1", -1), "not -1;"),
        (("127.0.0.1", "80"), "not '80';"),
    ],
)
def test_a_bad_port_is_shown(address: Any, shown: str) -> None:
    with pytest.raises(ValueError, match="port") as caught:
        parse(address)
    assert shown in str(caught.value)


class Port(enum.IntEnum):
    ANY = 0
    HTTP = 80


def test_a_port_may_be_any_int() -> None:
    target = parse(("::1", Port.HTTP, Port.ANY, Port.HTTP))
    assert target == HostPort("::1", 80, (0, 80))
    assert {type(number) for number in (target.port, *target.rest)} == {int}
    assert parse(("127.0.0.1", True)).port == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_port_of_every_call_may_be_an_int_enum(host: str) -> None:
    async def main() -> None:
        with (
            TcpListener.bind((host, Port.ANY)) as listener,
            UdpSocket.bind((host, Port.ANY)) as udp,
        ):
            ours = enum.IntEnum(  # type: ignore[misc]
                "ours", {"TCP": listener.local_addr[1], "UDP": udp.local_addr[1]}
            )
            with await TcpStream.connect((host, ours.TCP)), await listener.accept():
                pass
            assert await udp.send_to(b"1", (host, ours.UDP)) == 1
            assert await udp.send_many([(b"2", (host, ours.UDP))]) == 1
            await udp.connect((host, ours.UDP))
            assert [await udp.recv(), await udp.recv()] == [b"1", b"2"]

    block_on(main())


hosts = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


@given(hosts, st.integers(0, 65535))
@settings(deadline=None, max_examples=200)
def test_text_and_tuple_mean_the_same(host: Any, port: int) -> None:
    text = f"[{host}]:{port}" if host.version == 6 else f"{host}:{port}"
    assert parse(text) == parse((str(host), port)) == HostPort(str(host), port, ())
    assert show((str(host), port)) == text
    assert parse(show((str(host), port))) == parse(text)


@given(hosts, st.integers(0, 65535))
@settings(deadline=None, max_examples=100)
def test_what_the_kernel_gets_is_what_was_written(host: Any, port: int) -> None:
    endpoint = parse((str(host), port)).literal()
    assert endpoint is not None
    family = socket.AF_INET6 if host.version == 6 else socket.AF_INET
    assert endpoint.family == family
    assert socket.inet_pton(family, str(endpoint.address[0]).split("%")[0]) == host.packed
    assert endpoint.address[1] == port


@given(st.ip_addresses().map(str) | st.text("0123456789abcdefx.:", max_size=20))
@settings(deadline=None, max_examples=300)
def test_a_literal_is_what_ipaddress_takes(host: str) -> None:
    try:
        family = _family_of(host)
        expected = ipaddress.ip_address(host).version
    except ValueError:
        assert family is None
    else:
        assert family == {4: socket.AF_INET, 6: socket.AF_INET6}[expected]


@pytest.mark.slow
@given(st.text(max_size=30) | st.tuples(st.text(max_size=30), st.integers()))
@settings(deadline=None, max_examples=300)
def test_whatever_is_written_it_is_an_address_or_a_value_error(address: Any) -> None:
    try:
        target = parse(address)
    except ValueError:
        pass
    else:
        assert 0 <= target.port <= 65535
        target.literal()  # an endpoint or None, but no error


def test_C20_flow_and_scope_reach_the_kernel() -> None:
    assert parse(("fe80::1", 5000, 7, 3)).literal() == Endpoint(
        socket.AF_INET6, ("fe80::1", 5000, 7, 3)
    )


@pytest.mark.parametrize("address", [("", 0), "0.0.0.0:0", ":0"])
def test_bind_to_all_addresses(address: Any) -> None:
    assert to_bind(address) == Endpoint(socket.AF_INET, ("0.0.0.0", 0))


def test_bind_to_localhost_needs_no_name_server() -> None:
    assert to_bind("localhost:80") == Endpoint(socket.AF_INET, ("127.0.0.1", 80))


@pytest.mark.parametrize("host", ["example.org", "x" * 64, "a..b", "\u2603" * 60, "ex ample"])
def test_C21_bind_refuses_a_name(host: str) -> None:
    with pytest.raises(ValueError, match="cannot bind to") as caught:
        to_bind((host, 80))
    assert repr((host, 80)) in str(caught.value)
    assert not isinstance(caught.value, UnicodeError)


def test_connect_refuses_an_empty_host() -> None:
    with pytest.raises(ValueError, match="it has no host"):
        to_connect(":80")


@pytest.mark.parametrize("host", ["x" * 64, "a..b", "\u2603" * 60, "."])
def test_C21_a_name_that_cannot_be_encoded_is_unknown(host: str) -> None:
    with pytest.raises(socket.gaierror):
        block_on(resolve(parse((host, 80))))
    with pytest.raises(socket.gaierror):
        block_on(TcpStream.connect((host, 80)))


def test_a_look_up_that_failed_shows_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: HostPort) -> list[Endpoint]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(HostPort, "look_up", fails)
    with pytest.raises(socket.gaierror, match=r"Temporary failure .*: 'some\.name'") as caught:
        block_on(TcpStream.connect("some.name:80"))
    assert caught.value.errno == socket.EAI_AGAIN


def test_a_look_up_that_finds_no_ip_address_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HostPort, "look_up", lambda _: [])
    with pytest.raises(socket.gaierror, match=r"'some\.name'"):
        block_on(TcpStream.connect("some.name:80"))


def test_a_name_becomes_all_its_addresses() -> None:
    endpoints = block_on(resolve(parse("localhost:80")))
    assert endpoints
    for family, address in endpoints:
        assert (family, address[0]) in {(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")}
        assert address[1] == 80


def test_an_ip_address_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HostPort, "look_up", lambda self: pytest.fail(f"looked up {self.host}"))
    assert block_on(resolve(parse("127.0.0.1:80"))) == [Endpoint(socket.AF_INET, ("127.0.0.1", 80))]


def test_C22_the_time_for_looking_up_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def slow(_: HostPort) -> list[Endpoint]:
        assert release.wait(20)
        return []

    monkeypatch.setattr(HostPort, "look_up", slow)
    try:
        with pytest.raises(TimeoutError):
            block_on(TcpStream.connect("localhost:80", timeout=0.01))
    finally:
        release.set()
