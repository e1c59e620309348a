"""One coordinator holds the lease at a time, whatever S3 and the clocks do."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from noob_cloud.coordinator.durability import Lease, LeaseTakenError, Place
from noob_cloud.exceptions import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(place: Place, clock: Clock) -> Callable[..., Lease]:
    """Make leases of one place that share a clock."""
    return lambda **more: Lease(place, **({"seconds": 10.0, "clock": clock} | more))


def test_the_first_takes_epoch_one(make):
    lease = make()
    assert not lease.valid()
    taken = lease.try_take()
    assert (taken.epoch, taken.before) == (1, None)
    assert lease.valid()


def test_a_lease_is_trusted_from_before_it_was_asked_for(make, clock):
    lease = make()
    lease.try_take()
    clock.now += 9.9
    assert lease.valid()
    clock.now += 0.1
    assert not lease.valid()


def test_a_renewed_lease_is_never_taken(make, clock):
    one, two = make(), make()
    one.try_take()
    for _ in range(20):
        clock.now += 4
        one.renew()
        assert two.try_take() is None
        assert one.valid()


def test_an_abandoned_lease_is_taken_after_longer_than_it_was_trusted(make, clock):
    one, two = make(), make()
    one.try_take()
    assert two.try_take() is None  # it begins to watch
    clock.now += 12.4
    assert not one.valid()
    assert two.try_take() is None
    clock.now += 0.2
    taken = two.try_take()
    assert (taken.epoch, taken.before.epoch) == (2, 1)
    with pytest.raises(LeaseTakenError, match="epoch 2"):
        one.renew()
    assert one.lost
    with pytest.raises(LeaseTakenError):
        one.renew()


def test_a_released_lease_is_taken_at_once(make):
    one, two = make(), make()
    one.try_take()
    one.release()
    assert not one.valid()
    assert two.try_take().epoch == 2


def test_of_many_that_come_at_once_one_wins(make, clock):
    first = make()
    first.try_take()
    for round_ in range(10):
        rivals = [make() for _ in range(8)]
        assert [rival.try_take() for rival in rivals] == [None] * 8
        clock.now += 13
        with ThreadPoolExecutor(8) as pool:
            taken = [found for found in pool.map(Lease.try_take, rivals) if found]
        assert [found.epoch for found in taken] == [round_ + 2]


def test_a_renewal_whose_answer_was_lost_is_found_again(make, monkeypatch):
    lease = make()
    lease.try_take()
    write = lease.place.client.put_object

    def lose(**words: object) -> None:
        write(**words)
        raise UnavailableError

    monkeypatch.setattr(lease.place.client, "put_object", lose)
    with pytest.raises(UnavailableError):
        lease.renew()
    monkeypatch.setattr(lease.place.client, "put_object", write)
    lease.renew()
    assert lease.valid()
    assert not lease.lost


def test_a_renewal_that_is_found_again_is_not_trusted_anew(make, clock, monkeypatch):
    """Others have counted since it was written, not since it was found."""
    one, two = make(), make()
    one.try_take()
    write = one.place.client.put_object

    def lose(**words: object) -> None:
        write(**words)
        raise UnavailableError

    def away(**words: object) -> None:
        if json.loads(words["Body"])["renewal"] > 1:
            raise UnavailableError
        write(**words)

    monkeypatch.setattr(one.place.client, "put_object", lose)
    with pytest.raises(UnavailableError):
        one.renew()
    assert two.try_take() is None  # it begins to watch
    clock.now += 9
    monkeypatch.setattr(one.place.client, "put_object", away)  # what was written is found, no more
    with pytest.raises(UnavailableError):
        one.renew()
    monkeypatch.setattr(one.place.client, "put_object", write)
    clock.now += 4
    assert two.try_take() is not None
    assert not one.valid()


def test_a_lease_is_given_away_though_the_answer_to_its_renewal_was_lost(make, monkeypatch):
    one, two = make(), make()
    one.try_take()
    write = one.place.client.put_object

    def lose(**words: object) -> None:
        write(**words)
        raise UnavailableError

    monkeypatch.setattr(one.place.client, "put_object", lose)
    with pytest.raises(UnavailableError):
        one.renew()
    monkeypatch.setattr(one.place.client, "put_object", write)
    one.release()
    assert two.try_take() is not None


def test_a_beginning_whose_answer_was_lost_is_begun_anew(make, monkeypatch):
    lease = make()
    write = lease.place.client.put_object

    def lose(**words: object) -> None:
        write(**words)
        raise UnavailableError

    monkeypatch.setattr(lease.place.client, "put_object", lose)
    with pytest.raises(UnavailableError):
        lease.try_take()
    assert not lease.valid()
    monkeypatch.setattr(lease.place.client, "put_object", write)
    assert lease.try_take().epoch == 2


def test_something_else_in_the_lease_s_place_is_left_alone(make):
    lease = make()
    lease.place.client.put_object(
        Bucket=lease.place.bucket, Key=lease.place.key("lease.json"), Body=b"{"
    )
    with pytest.raises(UnavailableError, match="is not what a coordinator wrote"):
        lease.try_take()


@pytest.mark.parametrize("seed", range(5))
def test_two_are_never_valid_at_once(make, place, seed, monkeypatch):
    """Random pauses, lost answers and clocks that run up to a tenth apart."""
    rng = random.Random(seed)
    time = [0.0]
    rates = [rng.uniform(0.95, 1.05) for _ in range(3)]
    leases = [make(clock=lambda rate=rate: time[0] * rate) for rate in rates]
    held: set[int] = set()
    write = place.client.put_object

    def put(**words: object) -> object:
        answer = write(**words) if (fate := rng.random()) < 0.9 else None
        if fate > 0.8:
            raise UnavailableError
        return answer

    monkeypatch.setattr(place.client, "put_object", put)
    for _ in range(300):
        time[0] += rng.expovariate(0.3)
        lease = rng.choice(leases)
        try:
            if lease.epoch and not lease.lost:
                lease.renew()
            elif not lease.lost:
                lease.try_take()
        except UnavailableError:
            pass
        except LeaseTakenError:
            rate = rng.choice(rates)
            leases[leases.index(lease)] = make(clock=lambda rate=rate: time[0] * rate)
        holders = [found.epoch for found in leases if found.valid()]
        assert len(holders) <= 1
        held.update(holders)
    assert len(held) > 2


def test_epochs_are_marked_listed_and_forgotten(place: Place):
    for number in (1, 2, 10, 11):
        place.client.put_object(
            Bucket=place.bucket, Key=f"{place.epoch(number)}/0/some", Body=b"page"
        )
        place.mark(number)
    assert list(place.marked()) == [1, 2, 10, 11]
    place.forget(2)
    assert list(place.marked()) == [1, 10, 11]
    keys = [
        entry["Key"]
        for entry in place.client.list_objects_v2(Bucket=place.bucket, Prefix=place.key("epochs/"))[
            "Contents"
        ]
    ]
    assert keys == [f"{place.epoch(number)}/0/some" for number in (1, 10, 11)]


@pytest.mark.parametrize("url", ["", "bucket/prefix", "file:///x", "s3://", "https://bucket/x"])
def test_a_place_is_in_s3(url):
    with pytest.raises(ValueError, match="s3://bucket/prefix"):
        Place.parse(url)


def test_an_absent_s3_says_so():
    place = Place.parse("s3://some-bucket/x?endpoint_url=http://127.0.0.1:9")
    with pytest.raises(UnavailableError, match=r"s3://some-bucket/x: reading lease.json failed"):
        Lease(place).try_take()
