"""Each fuzz target stands a little broken input; ``python -m fuzz`` gives it more."""

from __future__ import annotations

from random import Random

import pytest
from fuzz.__main__ import feed
from fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_good_input_is_read(name: str) -> None:
    target = TARGETS[name]
    for seed in target.seeds:
        target.read(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_broken_input_raises_what_it_may(name: str) -> None:
    count = 60 if name == "dht-node" else 400
    assert feed(TARGETS[name], Random(7), count=count)[0] == count
