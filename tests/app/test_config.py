"""Settings from all four places, in order, and mistakes that are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from unchoke.app.config import ConfigError, Directories, load_settings
from unchoke.engine.settings import Settings


def configured(tmp_path: Path, text: str) -> Path:
    (tmp_path / "config.toml").write_text(text)
    return tmp_path


def test_nothing_given_is_the_default(tmp_path: Path) -> None:
    assert load_settings(tmp_path / "not there", {}) == Settings()


def test_command_line_then_environment_then_file_then_default(tmp_path: Path) -> None:
    home = configured(tmp_path, "[network]\nport = 1\nmax_half_open = 1\nmax_connections = 1\n[disk]\nthreads = 7\n")
    env = {"UNCHOKE_NETWORK__PORT": "2", "UNCHOKE_NETWORK__MAX_HALF_OPEN": "2", "UNCHOKE_HOME": "x", "PATH": "y"}
    settings = load_settings(home, env, {"network": {"port": 3, "max_connections": None}})
    network = settings.network
    assert (network.port, network.max_half_open, network.max_connections, settings.disk.threads) == (3, 2, 1, 7)
    assert network.idle_timeout == Settings().network.idle_timeout


@pytest.mark.parametrize(("text", "value"), [("0", False), ("false", False), ("1", True), ("true", True)])
def test_switches_in_the_environment(tmp_path: Path, text: str, value: bool) -> None:
    assert load_settings(tmp_path, {"UNCHOKE_NETWORK__DISCOVERY": text}).network.discovery is value


def test_numbers_and_text_in_the_environment(tmp_path: Path) -> None:
    env = {"UNCHOKE_NETWORK__CONNECT_TIMEOUT": "2.5", "UNCHOKE_NETWORK__BIND": "127.0.0.1"}
    network = load_settings(tmp_path, env).network
    assert (network.connect_timeout, network.bind) == (2.5, "127.0.0.1")


@pytest.mark.parametrize(
    ("text", "routers"),
    [
        ("dht.example:6881", ("dht.example:6881",)),
        ("[2001:db8::1]:2", ("[2001:db8::1]:2",)),
        ("one.example:1, [2001:db8::1]:2,", ("one.example:1", "[2001:db8::1]:2")),
        ('["one.example:1", "[2001:db8::1]:2"]', ("one.example:1", "[2001:db8::1]:2")),
        ("", ()),
        ("[]", ()),
    ],
)
def test_a_list_in_the_environment(tmp_path: Path, text: str, routers: tuple[str, ...]) -> None:
    assert load_settings(tmp_path, {"UNCHOKE_DHT__ROUTERS": text}).dht.routers == routers


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[network]\nport = 'x'\n", ["config.toml", "network.port", "int"]),
        ("[network]\nprot = 1\n", ["config.toml", "network.prot", "is it network.port?"]),
        ("[nothing]\nhere = 1\n", ["config.toml", "nothing.here"]),
        ("port = 1\n", ["config.toml", "no setting port"]),
        ("network = 1\n", ["config.toml", "no setting network"]),
        ("[network\n", ["config.toml"]),
        ("[network.port]\nx = 1\n", ["config.toml", "network.port", "int"]),
    ],
)
def test_mistakes_in_the_file_name_it_and_the_key(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(configured(tmp_path, text), {})
    assert caught.value.exit_code == 2
    for word in words:
        assert word in str(caught.value)


def test_a_file_that_is_no_text_or_no_file(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"config\.toml"):
        load_settings(tmp_path, {})
    (tmp_path / "config.toml").unlink()
    (tmp_path / "config.toml").mkdir()
    with pytest.raises(ConfigError, match=r"config\.toml"):
        load_settings(tmp_path, {})


def test_mistakes_in_the_environment_name_the_variable(tmp_path: Path) -> None:
    for name, value in (("UNCHOKE_NETWORK__PORT", "many"), ("UNCHOKE_NETWORK__PROT", "1"), ("UNCHOKE_X__Y__Z", "1")):
        with pytest.raises(ConfigError, match=name):
            load_settings(tmp_path, {name: value})


def test_mistakes_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"network\.prot"):
        load_settings(tmp_path, {}, {"network": {"prot": 1}})
    with pytest.raises(ConfigError, match=r"network\.port"):
        load_settings(tmp_path, {}, {"network": {"port": "x"}})


def test_a_home_keeps_everything_together(tmp_path: Path) -> None:
    dirs = Directories.find(tmp_path)
    assert dirs.config_file == tmp_path / "config.toml"
    for path in (dirs.config, dirs.data, dirs.cache, dirs.runtime):
        assert path == tmp_path or path.parent == tmp_path
    assert len({dirs.config, dirs.data, dirs.cache, dirs.runtime}) == 4
    assert list(tmp_path.iterdir()) == []


def test_without_a_home_the_operating_system_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "c"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "d"))
    dirs = Directories.find()
    assert "unchoke" in dirs.config.parts
    assert "unchoke" in dirs.data.parts
