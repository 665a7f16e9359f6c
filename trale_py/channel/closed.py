"""What is raised when nothing more comes, or something was missed."""

from __future__ import annotations


class Closed(Exception):
    """The channel was closed. A sender finds in ``value`` what it did not get rid of."""

    __module__ = "trale_py.channel"

    def __init__(self, value: object = None) -> None:
        super().__init__("this channel is closed")
        self.value = value

    def __reduce__(self) -> tuple[type[Closed], tuple[object]]:
        return type(self), (self.value,)


class Lagged(Exception):
    """``n`` values came and went before this receiver of a broadcast took them."""

    __module__ = "trale_py.channel"

    def __init__(self, n: int) -> None:
        super().__init__(f"{n} values were missed")
        self.n = n

    def __reduce__(self) -> tuple[type[Lagged], tuple[int]]:
        return type(self), (self.n,)
