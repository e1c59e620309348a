"""What a coordinator offers beside its queue: tubes, runs without a client, workers, events."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote, urlencode

import msgspec
from msgspec.msgpack import Ext

from noob_cloud.codec import canonical
from noob_cloud.codec.limits import DEFAULT
from noob_cloud.coordinator import wire
from noob_cloud.coordinator.run import RunState, new_run_id
from noob_cloud.coordinator.transport import FRAME_PLEASE, FRAMES, PATIENCE, Transport
from noob_cloud.exceptions import TubeNotFoundError
from noob_cloud.queue.remote import RemoteQueue
from noob_cloud.task import TaskPriority
from noob_cloud.tracing import submitting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from noob_cloud.queue.bodies import Blobs
    from noob_cloud.task import Token
    from noob_cloud.tubes import TubeSource

_PAGE: Final = 100
_LONGEST_POLL: Final = 20.0


class CoordinatorClient:
    """A coordinator's tubes, runs, workers and events; `queue` has its tasks.

    Args:
        url: of the coordinator.
        token: bearer token; by default the environment's `NOOB_CLOUD_TOKEN`.
        patience: how long the coordinator may be away, in seconds.
        transport: instead of a new one.
        blobs: the coordinator's blob store, where it can be reached without the coordinator.
    """

    def __init__(
        self,
        url: str = "",
        token: str | None = None,
        *,
        patience: float = PATIENCE,
        transport: Transport | None = None,
        blobs: Blobs | None = None,
    ) -> None:
        self._transport = transport or Transport(url, token=token, patience=patience)
        self.queue = RemoteQueue(transport=self._transport, blobs=blobs)
        self.blobs = self.queue.blobs

    @property
    def url(self) -> str:
        """Where the coordinator is."""
        return self._transport.url

    # ---- tubes

    def send_tube(self, tube: TubeSource) -> str:
        """Make a tube known; return its cid."""
        cid: str = self._transport.send("POST", "/tubes", tube.document, headers=FRAMES).json()[
            "cid"
        ]
        return cid

    def tube(self, cid: str) -> TubeSource:
        """Return a tube that the coordinator knows.

        Raises:
            TubeNotFoundError: it does not.
        """
        from noob_cloud.tubes import TubeSource  # noqa: PLC0415 - few clients need it

        document = self._transport.send("GET", f"/tubes/{quote(cid, safe='')}").body
        found = TubeSource.from_document(document)
        if found.cid != cid:
            raise TubeNotFoundError(f"The coordinator has {found.cid} under {cid}.", tube=cid)
        return found

    # ---- runs

    def submit_run(
        self,
        tube: TubeSource | str,
        *,
        n: int | None = None,
        inputs: Sequence[Mapping[str, Any]] | None = None,
        run_id: str | None = None,
        placement: Any = None,
        priority: int = TaskPriority.NORMAL,
        affinity_tags: Iterable[str] = (),
    ) -> str:
        """Submit a run that needs no client: a worker drives it.

        Args:
            tube: the tube, or the cid of one that the coordinator knows.
            n: epochs to run; None with `inputs`, or for all there are.
            inputs: process-scoped input of each epoch.
            run_id: names the run; the same name adds nothing.
            placement: where nodes may run, as `NAME.cloud.yaml` says it.
            priority: of the driver's task.
            affinity_tags: of the worker that drives it.

        Returns:
            The run's id.
        """
        body = wire.NewRun(
            tube if isinstance(tube, str) else self.send_tube(tube),
            n,
            wire.pack(None if inputs is None else [dict(x) for x in inputs]),
            run_id or new_run_id(),  # named here: sent again, it is the same run
            wire.pack(placement),
            int(priority),
            tuple(affinity_tags),
        )
        with submitting("run", run_id=body.run_id, tube=body.tube) as headers:
            reply = self._transport.send(
                "POST", "/runs", wire.to_frame(body), headers={**FRAMES, **headers}
            )
        found: str = reply.json()["run_id"]
        return found

    def run(self, run_id: str) -> RunState:
        """Return a run as it stands.

        Raises:
            RunNotFoundError: there is none with this id.
        """
        return _state(self._transport.send("GET", f"/runs/{quote(run_id, safe='')}").json())

    def runs(self, limit: int = 50) -> list[RunState]:
        """Return the latest runs."""
        found = self._transport.send("GET", f"/runs?limit={limit}").json()["runs"]
        return [_state(run) for run in found]

    def cancel_run(self, run_id: str) -> bool:
        """Cancel a run and its tasks; False if it had ended."""
        path = f"/runs/{quote(run_id, safe='')}/cancel"
        return bool(self._transport.send("POST", path).json()["cancelled"])

    def watch_run(self, run_id: str, *, timeout: float | None = None) -> Iterator[RunState]:
        """Yield how a run stands, each time that may have changed, until it has ended.

        Raises:
            TimeoutError: it has not ended within `timeout` seconds.
        """
        give_up = None if timeout is None else monotonic() + timeout
        last = self.events(wait=0.0)[1]
        while True:
            state = self.run(run_id)
            yield state
            if state.ended:
                return
            left = 2.0 if give_up is None else min(2.0, give_up - monotonic())
            if left <= 0:
                raise TimeoutError(f"The run {run_id} is {state.status} after {timeout} s.")
            last = self.events(last, wait=left)[1]

    def run_results(self, run_id: str, first: int = 0) -> Iterator[Any]:
        """Yield the run's results so far, in the order of the epochs."""
        for result in self.run_pages(run_id, first):
            packed = result.packed
            if type(packed) is Ext and packed.code == wire.BLOB:
                packed = Ext(wire.PACKED, self.blobs.get(bytes(packed.data).decode()))
            yield wire.unpack(packed)

    def run_cids(self, run_id: str) -> list[str]:
        """Return the cid of each of the run's results so far."""
        return [result.cid for result in self.run_pages(run_id)]

    def run_pages(self, run_id: str, first: int = 0) -> Iterator[wire.Result]:
        """Yield the run's results as they travel."""
        page = first // _PAGE
        while True:
            path = f"/runs/{quote(run_id, safe='')}/results?page={page}&size={_PAGE}"
            reply = self._transport.send("GET", path, headers=FRAME_PLEASE)
            found = wire.from_frame(wire.Results, reply.body, DEFAULT)
            yield from (result for result in found.results if result.position >= first)
            page += 1
            if page * _PAGE >= found.total:
                return

    def post_results(
        self, run_id: str, first: int, results: Sequence[Any], *, task_id: int, token: Token
    ) -> int:
        """Keep results of a run that one drives; return how many it has.

        Raises:
            LeaseLostError: another worker drives it now.
        """
        path, done = f"/runs/{quote(run_id, safe='')}/results", 0
        for page in _pages(results, self.blobs.put):
            body = wire.Posted(task_id, (token.epoch, token.attempt), first, page)
            reply = self._transport.send("POST", path, wire.to_frame(body), headers=FRAMES)
            done = int(reply.json()["done"])
            first += len(page)
        return done

    # ---- looking

    def workers(self) -> list[dict[str, Any]]:
        """Return the workers that the coordinator has heard of."""
        found: list[dict[str, Any]] = self._transport.send("GET", "/workers").json()["workers"]
        return found

    def capacity(self) -> dict[str, Any]:
        """Return where workers are had and what they cost, and what was learned of nodes."""
        found: dict[str, Any] = self._transport.send("GET", "/capacity").json()
        return found

    def events(
        self, after: int | None = None, *, wait: float = 0.0
    ) -> tuple[list[dict[str, Any]], int]:
        """Return events behind `after`, waiting for one if need be, and where to go on."""
        wait = min(wait, _LONGEST_POLL)
        query = {"wait": wait} | ({} if after is None else {"after": after})
        found = self._transport.send("GET", f"/events?{urlencode(query)}", wait=wait).json()
        return found["events"], found["last"]

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _pages(results: Iterable[Any], put: Callable[[bytes], str]) -> Iterator[list[Any]]:
    """Yield results packed, as they fit into requests; large ones go to the blob store."""
    page: list[Any] = []
    size = 0
    for result in results:
        (packed,) = wire.by_cid([Ext(wire.PACKED, canonical(result))], put)
        size += wire.size_of(packed)
        if page and size > wire.LARGE:
            yield page
            page, size = [], wire.size_of(packed)
        page.append(packed)
    yield page


def _state(run: Mapping[str, Any]) -> RunState:
    return msgspec.convert(dict(run), RunState)
