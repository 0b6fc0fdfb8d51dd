"""The dashboard's files, without a browser: others' code is what it says it is, and nothing needs what the policy forbids."""

from __future__ import annotations

import hashlib
import json
import re

import pytest

from tests.ui.kit import STATIC

UI = STATIC / "ui"
VENDOR = UI / "vendor"
PACKAGES = json.loads((VENDOR / "manifest.json").read_text())["packages"]
FILES = {file["file"]: file for package in PACKAGES for file in package["files"]}
OWN = sorted(path for path in UI.glob("*.*"))


def test_every_vendored_file_is_in_the_manifest() -> None:
    assert {path.name for path in VENDOR.iterdir()} == {*FILES, "manifest.json"}


@pytest.mark.parametrize("name", FILES)
def test_vendored_files_are_unchanged(name: str) -> None:
    """A file is what was vendored, and where that is not what was published, the manifest says what was changed."""
    file = FILES[name]
    assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == file["sha256"]
    assert (file["sha256"] == file["from_sha256"]) is (file["changes"] == [])


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package["name"])
def test_packages_have_version_licence_and_origin(package: dict[str, object]) -> None:
    """Names hold versions, for they are cached for ever; each package brings its licence."""
    name, version = package["name"], package["version"]
    assert package["license"] in ("MIT", "Apache-2.0")
    assert re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", str(package["integrity"]))
    names = [file["file"] for file in package["files"]]  # type: ignore[attr-defined]
    assert f"{name}-{version}.LICENSE.txt" in names
    assert all(str(version) in file for file in names)


def test_the_page_has_nothing_inline() -> None:
    """No script, style or handler in the page itself: the policy allows none."""
    page = (UI / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=|javascript:", page) == []


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_files_need_nothing_from_elsewhere(path: object) -> None:
    """Works offline and below any path: every reference is relative and there."""
    text = path.read_text()  # type: ignore[attr-defined]
    addresses = set(re.findall(r"https?://[^\s\"'`)<>]+", text)) - {"http://www.w3.org/2000/svg"}
    assert addresses == set()
    references = re.findall(r"(?:from|import) \"([^\"]+)\"", text) + re.findall(r"(?:src|href)=\"([^\"$#]+)\"", text)
    assert all(not reference.startswith("/") for reference in references)
    assert [reference for reference in references if not (UI / reference).is_file()] == []


@pytest.mark.parametrize("path", [path for path in OWN if path.suffix == ".js"], ids=lambda path: path.name)
def test_no_text_becomes_markup_or_code(path: object) -> None:
    """What upstreams say is only ever a text node; nothing is evaluated."""
    text = path.read_text()  # type: ignore[attr-defined]
    assert (
        re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc", text) == []
    )
