"""The DHT of 500 nodes, of which 150 are dead and 50 hostile: what is announced is found, with few queries, the same every time."""

from __future__ import annotations

import pytest

from unchoke.testing.dht import simulate


@pytest.mark.long
def test_500_nodes_of_which_a_third_is_dead_and_a_tenth_hostile() -> None:
    report = simulate(seed=7, nodes=500, trials=100, dead=0.3, hostile=0.1)
    assert report.success >= 0.99, report.table()
    assert report.most_queries <= 60, report.table()
    assert report == simulate(seed=7, nodes=500, trials=100, dead=0.3, hostile=0.1)
