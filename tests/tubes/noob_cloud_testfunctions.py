"""Functions that the executors' suite calls in other processes."""

from __future__ import annotations

import threading
import time


def double(value, *, plus=0):
    return value * 2 + plus


def add(left, right):
    return left + right


def nap(seconds, value=None):
    time.sleep(seconds)
    return value


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
