"""Many values go through the codec at once as they do one by one."""

from __future__ import annotations

import numpy as np
import pytest

from noob_cloud.cid import cid, cid_many
from noob_cloud.codec import DecodeError, canonical, cid_of, dumps_batch, loads_batch


def test_batch_round_trip() -> None:
    """Each value of a batch has its canonical frame, in parts, and its cid."""
    values = [b"x" * 10_000, {"a": (1, 2)}, np.arange(1000), None]
    pairs = dumps_batch(values)

    assert [b"".join(parts) for parts, _ in pairs] == [canonical(value) for value in values]
    assert [name for _, name in pairs] == [cid_of(value) for value in values]
    assert dumps_batch(values, parallel=False)[1] == pairs[1]
    back = loads_batch([parts for parts, _ in pairs], cids=[name for _, name in pairs])
    assert [canonical(value) for value in back] == [canonical(value) for value in values]


def test_batch_with_a_wrong_cid() -> None:
    """A frame that is not what its cid says is named, and nothing is decoded."""
    frames = [canonical(value) for value in ("a", "b")]
    with pytest.raises(DecodeError, match="Frame 1 "):
        loads_batch(frames, cids=[cid(frames[0]), cid(frames[0])])
    with pytest.raises(ValueError, match="1 cids for 2 frames"):
        loads_batch(frames, cids=[cid(frames[0])])
    assert loads_batch(frames, cids=cid_many(frames)) == ["a", "b"]
