"""The seam, as far as it concerns sockets: Io, in Python or in C. See seam.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import BusyResourceError
from ..future import PENDING, Future, Ready
from ..seam import native

if TYPE_CHECKING or native is None:
    from .plain_io import Io
else:
    native.set_up_io(Future, Ready, PENDING, BusyResourceError)
    Io = native.Io

__all__ = ["Io"]
