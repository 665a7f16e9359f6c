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
    def trale_recv_many(
        self, fd: int, space: CData, names: CData, lengths: CData, count: int
    ) -> int: ...
    def trale_send_many(
        self, fd: int, data: bytes, names: bytes, lengths: Sequence[int], count: int
    ) -> int: ...

ffi: _FFI
lib: _Lib
