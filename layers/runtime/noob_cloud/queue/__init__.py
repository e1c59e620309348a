"""Task queues: submit, claim under a lease, settle."""

from noob_cloud.queue.clock import Clock
from noob_cloud.queue.interface import Encoded, HeartbeatReply, Queue, QueueStats, TaskRef
from noob_cloud.queue.sqlite import TaskQueue

__all__ = [
    "Clock",
    "Encoded",
    "HeartbeatReply",
    "Queue",
    "QueueStats",
    "TaskQueue",
    "TaskRef",
]
