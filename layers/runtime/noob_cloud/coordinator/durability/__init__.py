"""A coordinator that outlives its machine: lease, replica, barrier.

    with Durability(Place.parse("s3://bucket/prefix"), folder) as durable:
        serve(durable.path, epoch=durable.epoch, guarded by durable.barrier())

Litestream copies the queue's file to S3 while it is written. An answer that reveals a commit
leaves after the commit is there (`Barrier`) and while the lease is provably held (`Lease`), so
whatever was acknowledged survives the loss of the machine, and two coordinators never acknowledge
at once.
"""

from noob_cloud.coordinator.durability.barrier import Barrier, Guard
from noob_cloud.coordinator.durability.keeper import Durability
from noob_cloud.coordinator.durability.lease import Lease
from noob_cloud.coordinator.durability.litestream import Litestream, restore
from noob_cloud.coordinator.durability.place import Place
from noob_cloud.exceptions import LeaseTakenError, ReplicaError

__all__ = [
    "Barrier",
    "Durability",
    "Guard",
    "Lease",
    "LeaseTakenError",
    "Litestream",
    "Place",
    "ReplicaError",
    "restore",
]
