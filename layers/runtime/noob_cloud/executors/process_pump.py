"""Receive what workers answer: in the thread that waits for a result, else in one of our own.

Two epolls, one inside the other: the inner holds the workers, the outer the inner and a wake-up.
Our thread sleeps on the outer. A thread that waits for a result mutes the inner in the outer and
polls the workers itself, so that an answer wakes the thread that needs it. It stays muted until
our thread, which then looks every few milliseconds, finds that nobody has waited since.
"""

from __future__ import annotations

import os
import select
import threading
from time import monotonic
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from noob_cloud.executors.process_link import Link

__all__ = ["Pump"]

_LONGEST = 0.05
"""Seconds a waiting thread sleeps before it looks again what is due."""
_LINGER = 0.005
"""Seconds between two looks whether somebody still receives in our place."""


class _Handler(Protocol):
    """What the pump calls; the pool."""

    def on_ready(self, link: Link) -> None:
        """Read what a worker has sent, or notice its end."""

    def on_wake(self) -> bool:
        """Start workers, or stop; false to end the thread."""

    def on_tick(self, now: float) -> float | None:
        """Do what is due; give the seconds until the next time, or None."""


class Pump:
    """Polls the workers of one pool."""

    def __init__(self, handler: _Handler) -> None:
        self._handler = handler
        self._lock = threading.RLock()
        self._links: dict[int, Link] = {}
        self._workers = select.epoll()
        self._all = select.epoll()
        self._all.register(self._workers, select.EPOLLIN)
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._all.register(self._wake_fd, select.EPOLLIN)
        self._muted = False
        self._pumped = 0
        self._ended = False
        self._waking = threading.Lock()
        self._thread: threading.Thread | None = None
        self.drowsy = False
        """Our thread sleeps without a time to look what is due."""

    def start(self) -> None:
        """Start our thread, once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="noob-cloud-pool", daemon=True)
            self._thread.start()

    @property
    def started(self) -> bool:
        """Whether our thread has been started."""
        return self._thread is not None

    def join(self) -> None:
        """Wait for our thread to end; from that thread itself, do not."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def wake(self) -> None:
        """Have our thread look what is to be done."""
        with self._waking:
            if not self._ended:
                os.eventfd_write(self._wake_fd, 1)

    def close(self) -> None:
        """Close the descriptors; from our thread when it ends, or when it was never started."""
        with self._lock, self._waking:
            if not self._ended:
                self._ended = True
                self._all.close()
                self._workers.close()
                os.close(self._wake_fd)

    def rouse(self) -> None:
        """Have our thread look from now on what is due."""
        self.drowsy = False
        self.wake()

    def add(self, link: Link) -> None:
        """Listen to a worker."""
        for fd in (link.source, link.pidfd):
            self._links[fd] = link
            self._workers.register(fd, select.EPOLLIN)

    def remove(self, link: Link) -> None:
        """Listen to it no more; before its descriptors are closed."""
        for fd in (link.source, link.pidfd):
            if self._links.pop(fd, None) is not None:
                self._workers.unregister(fd)

    def pump(self, until: Callable[[], bool], timeout: float | None) -> None:
        """Receive in this thread until `until()`, or `timeout`; at once if another thread does."""
        if self._thread is None or not self._lock.acquire(blocking=False):
            return
        if self._ended:
            self._lock.release()
            return
        try:
            self._mute()
            deadline = None if timeout is None else monotonic() + timeout
            patience = 0.0002
            while not until():
                if deadline is not None:
                    patience = min(patience, deadline - monotonic())
                    if patience <= 0:
                        return
                patience = self._turn(patience)
        finally:
            self._lock.release()

    def help(self, *, mute: bool = False) -> None:
        """Receive what is there already, unless another thread does.

        Args:
            mute: whoever calls this does so again soon, so our thread may sleep.
        """
        if self._lock.acquire(blocking=False):
            try:
                if not self._ended:
                    if mute:
                        self._mute()
                    self._turn(0)
            finally:
                self._lock.release()

    def _turn(self, patience: float) -> float:
        """Receive once; give how long the next turn may sleep."""
        for fd, _ in self._workers.poll(patience):
            link = self._links.get(fd)
            if link is not None:
                self._handler.on_ready(link)
        return min(self._handler.on_tick(monotonic()) or _LONGEST, _LONGEST) if patience else 0

    def _mute(self) -> None:
        self._pumped += 1
        if not self._muted:
            self._muted = True
            self._all.modify(self._workers, 0)
            self.wake()

    def _unmute(self) -> None:
        if self._muted:
            self._muted = False
            self._all.modify(self._workers, select.EPOLLIN)

    def _serve(self) -> None:
        pumped = 0
        while True:
            due: float | None = _LINGER
            if self._lock.acquire(blocking=False):  # else a waiting thread looks what is due
                try:
                    if self._muted and pumped == self._pumped:
                        self._unmute()
                    pumped = self._pumped
                    if not self._muted:
                        due = self._handler.on_tick(monotonic())
                finally:
                    self._lock.release()
            self.drowsy = due is None
            events = self._all.poll(due)
            self.drowsy = False
            for fd, _ in events:
                if fd == self._wake_fd:
                    os.eventfd_read(self._wake_fd)
                else:
                    self.help()
            if not self._handler.on_wake():
                break
        self.close()
