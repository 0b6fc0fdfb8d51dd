"""Adapters by name: built-in ones, those of installed distributions, and what is said of those that cannot be used."""

from __future__ import annotations

import importlib
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import pytest

from adapters import registry
from adapters.api import Adapter, Resume, Session, SourceConfig, Stream


class ToyConfig(SourceConfig):
    """`adapter: toy`."""

    colour: str = "red"


class Toy(Adapter[ToyConfig]):
    """The smallest adapter."""

    Config: ClassVar[type[SourceConfig]] = ToyConfig

    def streams(self) -> list[Stream]:
        return []

    def open(self, stream: Stream, resume: Resume, ticket: bytes | None) -> Session:
        raise NotImplementedError


class Unfinished(Adapter[ToyConfig]):
    """Lacks what an adapter must have."""

    Config: ClassVar[type[SourceConfig]] = ToyConfig


class Unconfigured(Toy):
    """Its Config is no source's."""

    Config: ClassVar[type[SourceConfig]] = dict  # type: ignore[assignment]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Installs a distribution with one entry point, as pip leaves it behind."""
    monkeypatch.syspath_prepend(str(tmp_path))
    module = ModuleType("toy_adapter")
    module.__dict__.update(Toy=Toy, Unfinished=Unfinished, Unconfigured=Unconfigured, text="no class")
    monkeypatch.setitem(sys.modules, "toy_adapter", module)

    def install(target: str, name: str = "toy", distribution: str = "mainstem-toy") -> None:
        directory = tmp_path / f"{distribution.replace('-', '_')}-1.2.dist-info"
        directory.mkdir()
        (directory / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        (directory / "entry_points.txt").write_text(f"[mainstem.adapters]\n{name} = {target}\n")
        importlib.invalidate_caches()

    return install


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_built_in_adapters_load(name: str) -> None:
    """Each name of the table is an adapter whose configuration accepts that name."""
    adapter = registry.load(name)
    assert issubclass(adapter, Adapter)
    assert adapter.Config.model_fields["adapter"].annotation.__args__ == (name,)


def test_built_in_table_equals_the_declared_entry_points() -> None:
    """What the distribution declares for others to see is what the table says."""
    declared = {
        point.name: point.value
        for point in metadata.entry_points(group=registry.GROUP)
        if point.dist is not None and point.dist.name == "mainstem"
    }
    assert declared == registry.BUILT_IN


def test_unknown_name_lists_what_there_is(install) -> None:
    """The message names every adapter that could have been meant, installed ones included."""
    install("toy_adapter:Toy")
    with pytest.raises(registry.AdapterUnavailable) as caught:
        registry.load("trivers")
    assert str(caught.value) == "there is no adapter 'trivers'; available: triverse, emit, catalyst, toy"


def test_installed_adapter_loads(install) -> None:
    """An entry point is enough to be found."""
    install("toy_adapter:Toy")
    assert registry.load("toy") is Toy


def test_listing_imports_nothing(install) -> None:
    """Foreign code runs only when a configuration names it."""
    install("toy_adapter_that_is_not_there:Toy")
    assert registry.available() == ["triverse", "emit", "catalyst", "toy"]


def test_built_in_name_cannot_be_taken(install) -> None:
    """A third-party distribution that offers `triverse` is not even imported."""
    install("toy_adapter:Toy", name="triverse")
    assert registry.load("triverse").__module__.startswith("adapters.triverse")
    assert registry.available() == ["triverse", "emit", "catalyst"]


def test_name_claimed_twice(install) -> None:
    """Which of two would win is chance, so neither does."""
    install("toy_adapter:Toy", distribution="toy-a")
    install("toy_adapter:Toy", distribution="toy-b")
    with pytest.raises(registry.AdapterUnavailable) as caught:
        registry.load("toy")
    assert (
        str(caught.value)
        == "adapter 'toy' is offered more than once: by toy-a 1.2 and toy-b 1.2; uninstall all but one"
    )


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("missing_module:Toy", " cannot be imported: ModuleNotFoundError: No module named 'missing_module'"),
        ("toy_adapter:Missing", " cannot be imported: AttributeError: module 'toy_adapter' has no attribute 'Missing'"),
        ("toy_adapter:text", ": toy_adapter:text is not a subclass of adapters.api.Adapter"),
        ("toy_adapter:Unfinished", ": toy_adapter:Unfinished does not implement open, streams"),
        ("toy_adapter:Unconfigured", ": Config is not a subclass of adapters.api.SourceConfig"),
    ],
)
def test_unusable_plug_in_is_named_with_its_origin(install, target: str, why: str) -> None:
    """The message says which adapter, from which distribution and version, and why."""
    install(target)
    with pytest.raises(registry.AdapterUnavailable) as caught:
        registry.load("toy")
    assert str(caught.value) == f"adapter 'toy' (mainstem-toy 1.2){why}"


def test_plug_in_that_raises_while_imported(install, tmp_path: Path) -> None:
    """Whatever foreign code raises becomes a message."""
    (tmp_path / "toy_broken.py").write_text("raise RuntimeError('needs libtoy')\n")
    install("toy_broken:Toy")
    with pytest.raises(registry.AdapterUnavailable, match="cannot be imported: RuntimeError: needs libtoy"):
        registry.load("toy")
