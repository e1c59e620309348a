"""Functions that the executors' suite calls in other processes."""

from __future__ import annotations

import threading
import time
from pathlib import Path


def double(value, *, plus=0):
    return value * 2 + plus


def add(left, right):
    return left + right


def nap(seconds, value=None):
    time.sleep(seconds)
    return value


def wait_for_file(path):
    deadline = time.monotonic() + 60
    while not Path(path).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody made {path}")
        time.sleep(0.01)


def fail(value):
    raise ValueError(f"no {value}")


def fail_on_seven(value):
    if value == 7:
        raise ValueError("seven")
    return value


def make_lock():
    return threading.Lock()


class Counter:
    def __init__(self):
        self.count = 0

    def bump(self):
        self.count += 1
        return self.count
