"""The pins and pyproject.toml agree: `make lock` was run after a range was changed. No network is asked."""

import importlib.metadata
import re
import sys

import pytest
from packaging.requirements import Requirement

from deploy.lock import LAYERS, PYTHONS, Layer, blocks, plain
from tests.installed import PROJECT, PYPROJECT
from tests.tiny import REPOSITORY

RUN_IT = "run `make lock`"
BY_FILE = {layer.file: layer for layer in LAYERS}
FILES = [layer.file for layer in LAYERS]
AGREE = pytest.mark.parametrize("layer", LAYERS, ids=FILES)


def pinned(file: str) -> dict[str, str]:
    """Package -> version, of one file alone."""
    text = (REPOSITORY / file).read_text(encoding="utf-8")
    return {
        plain(name): version for name, version in re.findall(r"^([\w.-]+)==([^\s\\]+)", text, re.MULTILINE)
    }


def together(layer: Layer) -> dict[str, str]:
    """What is installed when a file and those that it stands upon are."""
    below = together(BY_FILE[layer.upon]) if layer.upon else {}
    return below | pinned(layer.file)


def asked(layer: Layer) -> list[Requirement]:
    """What pyproject.toml asks for in a layer; an extra that takes in another is written out."""
    words = list(PROJECT["dependencies"])
    for name in layer.asked:
        words += (
            PYPROJECT["dependency-groups"][name] if name == "dev" else PROJECT["optional-dependencies"][name]
        )
    return [one for one in map(Requirement, words) if one.name != "kerbside"]


def needed(layer: Layer) -> set[str]:
    """All that it takes, by what the installed packages say they need; of what is not installed, the name alone."""
    found: dict[str, set[str]] = {}
    ahead = asked(layer)
    while ahead:
        one = ahead.pop()
        name = plain(one.name)
        if name in found and one.extras <= found[name]:
            continue
        found[name] = found.get(name, set()) | one.extras
        try:
            further = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        chosen = ("", *found[name])
        ahead += [
            next_one
            for next_one in map(Requirement, further)
            if next_one.marker is None or any(next_one.marker.evaluate({"extra": extra}) for extra in chosen)
        ]
    return set(found)


@AGREE
def test_every_range_has_its_pin(layer: Layer) -> None:
    pins = together(layer)
    for one in asked(layer):
        version = pins.get(plain(one.name))
        assert version, f"{one.name} is not in {layer.file}: {RUN_IT}"
        assert one.specifier.contains(version), (
            f"{layer.file} pins {one.name} {version}, not {one.specifier}: {RUN_IT}"
        )


@AGREE
def test_every_pin_is_needed_and_all_that_is_needed_is_pinned(layer: Layer) -> None:
    if layer.file == "requirements-extras.txt":
        pytest.importorskip("datasets", reason="requirements-extras.txt is not installed")
        pytest.importorskip("mlflow", reason="requirements-extras.txt is not installed")
    if layer.file == "requirements-docs.txt":
        pytest.importorskip("zensical", reason="requirements-docs.txt is not installed")
    pins, needs = set(together(layer)), needed(layer)
    assert needs <= pins, f"not in {layer.file}: {needs - pins}; {RUN_IT}"
    if sys.version_info[:2] == tuple(map(int, PYTHONS[0].split("."))):  # a newer Python may need fewer
        assert pins <= needs, f"nothing asks for {pins - needs} of {layer.file}: {RUN_IT}"


def test_no_pin_stands_twice_and_none_disagrees() -> None:
    for layer in LAYERS:
        below = together(BY_FILE[layer.upon]) if layer.upon else {}
        assert not set(below) & set(pinned(layer.file)), layer.file
    seen: dict[str, str] = {}
    for file in [*FILES, "requirements-parity.txt"]:
        for name, version in pinned(file).items():
            assert seen.setdefault(name, version) == version, (
                f"{file} pins {name} {version}, another {seen[name]}"
            )


@AGREE
def test_a_file_takes_in_the_one_below_and_has_the_hashes_of_each_pin(layer: Layer) -> None:
    text = (REPOSITORY / layer.file).read_text(encoding="utf-8")
    assert re.findall(r"^-r (.+)$", text, re.MULTILINE) == (
        [layer.upon] if layer.upon and layer.taken_in else []
    )
    found = blocks(text)
    assert found.keys() == pinned(layer.file).keys()
    assert all("--hash=sha256:" in block for block in found.values())
