"""The seam, as far as it concerns sockets: Io, in Python or in C. See core/engine.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.engine import native

if TYPE_CHECKING or native is None:
    from .plain_io import Io
else:
    Io = native.Io

__all__ = ["Io"]
