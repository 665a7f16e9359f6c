"""Channels: values on their way between tasks, and between tasks and threads.

============================  ==========================================================
``channel(capacity)``         each value to one receiver; the senders wait when it is full
``oneshot()``                 one value, once
``broadcast(capacity)``       each value to every receiver; a slow receiver misses some
``watch(initial)``            the newest value only, for any number of receivers
============================  ==========================================================

Each is a pair: an end to send and an end to receive, and either may be used by any number
of tasks and threads at once. ``close()`` on either closes it for all.
"""

from .broadcast import BroadcastReceiver, BroadcastSender, broadcast
from .closed import Closed, Lagged
from .oneshot import OneshotReceiver, OneshotSender, oneshot
from .queue import Receiver, Sender, channel
from .watch import WatchReceiver, WatchSender, watch

__all__ = [
    "BroadcastReceiver",
    "BroadcastSender",
    "Closed",
    "Lagged",
    "OneshotReceiver",
    "OneshotSender",
    "Receiver",
    "Sender",
    "WatchReceiver",
    "WatchSender",
    "broadcast",
    "channel",
    "oneshot",
    "watch",
]


def __dir__() -> list[str]:
    return sorted(__all__)
