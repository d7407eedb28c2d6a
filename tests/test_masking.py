"""What of a URL may be shown: where it leads, and nothing that says who asks."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.masking import masked, scrubbed

KEY = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://t.org/announce", "http://t.org/announce"),
        ("https://t.org:443/announce.php?passkey=" + KEY, "https://t.org:443/announce.php?…"),
        (f"http://t.org/{KEY}/announce?x=y", "http://t.org/…/announce?…"),
        (f"http://t.org/announce/{KEY}", "http://t.org/announce/…"),
        (f"http://t.org/a/{KEY}/b/announce", "http://t.org/…/announce"),
        (f"https://user:{KEY}@t.org/announce#x", "https://t.org/announce"),
        (f"http://t.org?{KEY}", "http://t.org?…"),
        ("udp://t.org:1", "udp://t.org:1"),
        ("udp://[::1]:1/", "udp://[::1]:1/"),
        ("http://t.org/x.pe/", "http://t.org/…/"),
        ("http://t\x1b[2J.org/announce", "http://t[2J.org/announce"),
        ("announce", "…"),
        ("", "…"),
        ("java\nscript://x", "…"),
    ],
)
def test_what_is_shown(url: str, shown: str) -> None:
    assert masked(url) == shown


def test_what_is_shown_is_short() -> None:
    assert len(masked(f"http://{'h' * 9999}/{'announce/x/' * 9999}")) <= 120


@settings(max_examples=60)
@given(st.text(), st.lists(st.sampled_from([KEY, "announce", "", "x", f"k={KEY}"]), max_size=6), st.booleans())
def test_no_key_is_ever_shown(host: str, parts: list[str], in_query: bool) -> None:
    shown = masked(f"http://{host}/{'/'.join(parts)}{'?' if in_query else '/'}{KEY}")
    assert KEY not in shown
    assert shown == "".join(c for c in shown if c.isprintable())


def test_a_tracker_that_repeats_the_key_does_not_give_it_away() -> None:
    url = f"https://bob:secret-word@t.org/{KEY}/announce?user=7&auth=abcdefghij"
    said = f"no such key {KEY}, abcdefghij is not 7, ask secret-word to announce"
    assert scrubbed(said, url) == "no such key …, … is not 7, ask … to announce"
    assert scrubbed(said, "nonsense") == said
    assert scrubbed("announce", "http://t/announce") == "announce"
