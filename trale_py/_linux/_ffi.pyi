"""What cffi makes of declarations.h, as far as it is used."""

from collections.abc import Sequence

from _typeshed import ReadableBuffer

class CData: ...

class _FFI:
    def new(self, ctype: str) -> CData: ...
    def from_buffer(self, data: ReadableBuffer) -> CData: ...
    def unpack(self, array: CData, length: int) -> list[int]: ...

class _Lib:
    TRALE_DATAGRAMS: int
    TRALE_SLOT: int
    TRALE_NAME: int
    TRALE_RECEIVERS: int
    def trale_recv_many(
        self,
        fd: int,
        space: CData,
        names: CData,
        name_lengths: CData,
        lengths: CData,
        count: int,
    ) -> int: ...
    def trale_send_many(
        self,
        fd: int,
        data: bytes,
        names: bytes,
        name_lengths: Sequence[int],
        lengths: Sequence[int],
        count: int,
    ) -> int: ...
    def trale_signals_open(self, eventfd: int, wanted: int, chain: bool) -> int: ...
    def trale_signals_take(self, receiver: int) -> int: ...
    def trale_signals_close(self, receiver: int) -> int: ...
    def trale_signals_forget(self) -> None: ...
    def trale_clock_timer_open(self, clock: int) -> int: ...
    def trale_clock_timer_set(self, timer: int, seconds: int, nanoseconds: int) -> int: ...

ffi: _FFI
lib: _Lib
