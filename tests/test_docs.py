"""The pages of docs/: all are in the site's table of contents, links lead somewhere, and the site builds."""

import argparse
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import site
from tests.tiny import REPOSITORY

DOCS = REPOSITORY / "docs"
TEXTS = {
    path: path.read_text(encoding="utf-8")
    for path in sorted(
        [*REPOSITORY.glob("*.md"), *DOCS.rglob("*.md"), *(REPOSITORY / "examples").rglob("README.md")]
    )
    if site.MADE not in path.parents and path != site.CLI and path.name != "CHANGELOG.md"
}
LINK = re.compile(r"\]\(([^)\s]*)\)")


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE
    )
    return {
        re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-") for heading in headings
    }


def in_contents(entry: Any) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    parts = entry.values() if isinstance(entry, dict) else entry
    return [page for part in parts for page in in_contents(part)]


def made(path: Path) -> bool:
    """Whether `make docs` writes this page, so that git has it not."""
    return path == site.CLI or site.MADE in path.parents


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_link_leads_somewhere(path: Path) -> None:
    for link in LINK.findall(TEXTS[path]):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        there = (path.parent / target).resolve() if target else path
        if made(there):
            continue
        assert there.exists(), f"{path.name}: {link}"
        if anchor:
            assert anchor in anchors(TEXTS[there]), f"{path.name}: {link}"
        if DOCS in path.parents:
            assert DOCS in there.parents, f"{path.name}: {link} leads out of the site; name the file instead"


def test_the_table_of_contents_has_each_page_once() -> None:
    listed = in_contents(yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    pages = {path.relative_to(DOCS).as_posix() for path in TEXTS if DOCS in path.parents}
    generated = {path.relative_to(DOCS).as_posix() for path in site.generated()}
    assert sorted(listed) == sorted(pages | generated)


def test_a_parser_is_found_wherever_a_command_builds_it() -> None:
    def main(argv: object) -> int:
        command = argparse.ArgumentParser(prog="python -m x")
        command.add_argument("--size", metavar="HxW", help="rows | columns, 50%% of *it*")
        command.parse_args(argv)
        raise AssertionError

    (action,) = site.parser_of(main)._actions[1:]
    assert site.row(action) == r"| `--size HxW` | rows \| columns, 50% of \*it\* |"


@pytest.mark.skipif(
    importlib.util.find_spec("zensical") is None, reason="needs pip install -r requirements-docs.txt"
)
def test_the_site_builds_and_every_command_is_in_it() -> None:
    """Strictly: a link, an anchor or a name of the reference that leads nowhere ends the build."""
    assert site.main([]) == 0
    page = (REPOSITORY / ".site" / "reference" / "cli.html").read_text(encoding="utf-8")
    for flag in ("--freeze-bn", "--mask-stride", "--polygons", "--calibration-images", "--submission"):
        assert flag in page
