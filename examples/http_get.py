"""A GET twice: as a future written by hand, in the poll protocol, and as a coroutine.

Run:  python examples/http_get.py
See:  HTTP/1.0 200 OK, hello from /by-hand  (and from /with-TcpStream)
"""

import socket

from trale_py import PENDING, Future, Interest, Reactor, Ready, TcpListener, TcpStream, spawn


class HttpGet(Future[bytes]):
    def __init__(self, address, request):
        self.sock = socket.create_connection(address)  # to wait for that is left out here
        self.sock.setblocking(False)
        self.request, self.response, self.registration = request, b"", None

    def poll(self, cx):  # called whenever there may be news, until it returns Ready
        if self.registration is not None:
            self.registration.cancel()  # this call may come before what it waits for
        try:
            while self.request:
                self.request = self.request[self.sock.send(self.request) :]
            while data := self.sock.recv(4096):
                self.response += data
        except BlockingIOError:  # the reactor will know when to go on: it gets the waker
            want = Interest.WRITABLE if self.request else Interest.READABLE
            self.registration = Reactor.get().register_waker(self.sock.fileno(), cx.waker, want)
            return PENDING
        self.sock.close()
        return Ready(self.response)

    def drop(self):  # the await was cancelled
        if self.registration is not None:
            self.registration.cancel()
        self.sock.close()


async def http_get(address, request):
    async with await TcpStream.connect(address) as stream:
        await stream.write_all(request)
        response = b""
        while data := await stream.read():
            response += data
        return response


async def serve(listener):
    for _ in range(2):  # so many will ask
        async with await listener.accept() as stream:
            path = (await stream.read_until(b"\r\n\r\n")).split()[1]
            await stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhello from " + path)


with TcpListener.bind("127.0.0.1:0") as listener:
    spawn(serve(listener))
    for how, get in (b"by-hand", HttpGet), (b"with-TcpStream", http_get):
        response = spawn(get(listener.local_addr, b"GET /%s HTTP/1.0\r\n\r\n" % how)).join()
        print(*response.decode().split("\r\n\r\n"), sep=", ")
