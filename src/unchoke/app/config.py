"""Configuration: settings from the command line, ``UNCHOKE_SECTION__KEY``, ``config.toml`` and defaults, in that order.

Also where the program keeps its files. ``config.toml`` is only ever read here. Every mistake is a ConfigError that names
the file or variable and the key; unknown keys are mistakes too, since a misspelt limit is no limit.
"""

from __future__ import annotations

import os
import tomllib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeAlias, get_origin, get_type_hints

import msgspec

from unchoke.engine.settings import Settings
from unchoke.errors import UnchokeError

#: The names down to a setting: section and key, and more for sections inside sections.
Key: TypeAlias = tuple[str, ...]

PREFIX = "UNCHOKE_"


class ConfigError(UnchokeError):
    """A setting that does not exist, or with a value it cannot have."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Directories:
    """Where configuration, data (resume records, .torrent copies), cache and run-time files (socket, lock) are."""

    config: Path
    data: Path
    cache: Path
    runtime: Path

    @classmethod
    def find(cls, home: Path | None = None) -> Directories:
        """All in ``home``, or where the operating system wants them. Nothing is made."""
        if home is not None:
            return cls(home, home / "data", home / "cache", home / "run")
        from platformdirs import PlatformDirs

        dirs = PlatformDirs("unchoke", appauthor=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # without XDG_RUNTIME_DIR (cron, sudo) it would warn about its fallback
            runtime = dirs.user_runtime_path
        return cls(dirs.user_config_path, dirs.user_data_path, dirs.user_cache_path, runtime)

    @property
    def config_file(self) -> Path:
        return self.config / "config.toml"


def load_settings(
    home: Path | None = None,
    env: Mapping[str, str] | None = None,
    overrides: Mapping[str, Mapping[str, object]] | None = None,
) -> Settings:
    """The settings in force. ``overrides`` ({section: {key: value}}) is the command line; a value of None is not given.

    Raises ConfigError.
    """
    known = dict(_known(Settings))
    given: dict[Key, object] = {}
    layers = (
        _from_file(Directories.find(home).config_file, known),
        _from_env(os.environ if env is None else env, known),
        _from_overrides(overrides or {}, known),
    )
    for layer in layers:
        given.update(layer)
    settings = _build(Settings, (), given)
    assert isinstance(settings, Settings)
    return settings


def _known(section: type, above: Key = ()) -> Iterator[tuple[Key, Any]]:
    """Every setting with its type."""
    hints = get_type_hints(section)
    for field in fields(section):
        hint = hints[field.name]
        if isinstance(hint, type) and is_dataclass(hint):
            yield from _known(hint, (*above, field.name))
        else:
            yield (*above, field.name), hint


def _build(section: type, above: Key, given: Mapping[Key, object]) -> object:
    """The section's dataclass with what is given, and defaults for the rest."""
    hints = get_type_hints(section)
    values: dict[str, object] = {}
    for field in fields(section):
        key = (*above, field.name)
        hint = hints[field.name]
        if isinstance(hint, type) and is_dataclass(hint):
            values[field.name] = _build(hint, key, given)
        elif key in given:
            values[field.name] = given[key]
    try:
        return section(**values)
    except ValueError as error:  # a class may refuse values that have the right type
        raise ConfigError(f"settings of {'.'.join(above) or 'the session'}: {error}") from None


def _from_file(path: Path, known: Mapping[Key, Any]) -> Iterator[tuple[Key, object]]:
    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError are such
        raise ConfigError(f"{path}: {error}") from None
    for key, value in _leaves(content, known):
        yield key, _checked(value, _hint(key, known, f"{path}"), f"{path}: {'.'.join(key)}", strict=True)


def _leaves(table: Mapping[str, object], known: Mapping[Key, Any], above: Key = ()) -> Iterator[tuple[Key, object]]:
    for name, value in table.items():
        key = (*above, name)
        if isinstance(value, dict) and key not in known:
            yield from _leaves(value, known, key)
        else:
            yield key, value


def _from_env(env: Mapping[str, str], known: Mapping[Key, Any]) -> Iterator[tuple[Key, object]]:
    for name, text in sorted(env.items()):
        if not name.startswith(PREFIX) or "__" not in name:
            continue  # UNCHOKE_HOME and its like are no settings
        key = tuple(name.removeprefix(PREFIX).lower().split("__"))
        hint = _hint(key, known, f"environment variable {name}")
        yield key, _from_text(text, hint, f"environment variable {name}")


def _from_text(text: str, hint: Any, where: str) -> object:
    """A value written as text: plain, a list with commas between, or as TOML writes lists and tables."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except ValueError:
        value = text
    if get_origin(hint) is tuple and not isinstance(value, list):
        words = [word.strip() for word in text.split(",")]
        return _checked([word for word in words if word], hint, where, strict=False)
    try:
        return _checked(text, hint, where, strict=False)
    except ConfigError:
        return _checked(value, hint, where, strict=True)


def _from_overrides(
    overrides: Mapping[str, Mapping[str, object]], known: Mapping[Key, Any]
) -> Iterator[tuple[Key, object]]:
    for key, value in _leaves(overrides, known):
        if value is not None:
            yield key, _checked(value, _hint(key, known, "command line"), ".".join(key), strict=True)


def _hint(key: Key, known: Mapping[Key, Any], where: str) -> Any:
    if key in known:
        return known[key]
    from difflib import get_close_matches

    near = get_close_matches(".".join(key), [".".join(other) for other in known], n=1)
    raise ConfigError(f"{where}: there is no setting {'.'.join(key)}{f'; is it {near[0]}?' if near else ''}")


def _checked(value: object, hint: Any, where: str, *, strict: bool) -> object:
    try:
        return msgspec.convert(value, hint, strict=strict)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}, not {value!r}") from None
