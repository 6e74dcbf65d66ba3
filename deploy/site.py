"""The site of docs/: `make docs`.

    python -m deploy.site [--pages-only]

First the pages that are made from something else, which git does not keep: the command line's from the parsers
themselves, the tutorials' from examples/notebooks. Then zensical builds .site/ and fails where a link, an anchor or a
name of the Python reference leads nowhere.
"""

import argparse
import importlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest import mock

from deploy import notebooks
from kerbside.__main__ import COMMANDS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CLI = DOCS / "reference" / "cli.md"
MADE = DOCS / "tutorials"
# Commands that `kerbside` does not have.
FURTHER = {
    "runtime.prompted": "cut out what a SAM finds at points or in a box",
    "runtime.benchmark": "the latency of one file",
    "export.audit": "the operations of a .tflite, and what XNNPACK leaves",
    "export.quantization_report": "which layers lose most in 8 bits",
    "export.add_confidence": "how sure: write it into a file that is there",
}


HIDDEN = (argparse.SUPPRESS, "show this help message and exit")


class _Seen(Exception):
    """Raised in place of parsing: a command has built its parser."""


def parser_of(main: Callable[[Sequence[str]], object]) -> argparse.ArgumentParser:
    """The parser that a command builds, wherever it does."""
    seen: list[argparse.ArgumentParser] = []

    def keep(self: argparse.ArgumentParser, *_: object) -> None:
        seen.append(self)
        raise _Seen

    with mock.patch.object(argparse.ArgumentParser, "parse_known_args", keep):
        try:
            main(["--help"])
        except _Seen:
            pass
    return seen[0]


def cli_page() -> str:
    """docs/reference/cli.md."""
    parts = [
        "# Command line",
        "Made by `make docs` from the commands' own parsers. `kerbside COMMAND` is `python -m MODULE`, with the same "
        "options. A command that is used wrongly says why in one sentence and ends with exit code 2.",
    ]
    for name, (module, _, what) in COMMANDS.items():
        if module != "streamlit":
            parts += _section(f"kerbside {name}", module, what)
    for module, what in FURTHER.items():
        parts += _section(f"python -m {module}", module, what)
    return "\n\n".join(parts) + "\n"


def _section(title: str, module: str, what: str) -> Iterator[str]:
    package = importlib.import_module(module)
    command = importlib.import_module(f"{module}.__main__") if hasattr(package, "__path__") else package
    parser = parser_of(command.main)
    yield f"## {title}"
    yield f"{what[0].upper()}{what[1:]} (`python -m {module}`)."
    yield f"```text\n{parser.format_usage().removeprefix('usage: ').rstrip()}\n```"
    for group in parser._action_groups:
        rows = [row(action) for action in group._group_actions if action.help not in HIDDEN]
        if rows:
            yield f"**{group.title}**"
            yield "\n".join(["| | |", "|---|---|", *rows])
    if parser.epilog:
        yield cell(parser.epilog)


def row(action: argparse.Action) -> str:
    """`-x, --flag NAME` and its help, as a row of a table."""
    words = argparse.HelpFormatter("")._format_action_invocation(action)
    text = (action.help or "") % {**vars(action), "prog": ""} if action.help else ""
    return f"| `{words}` | {cell(text)} |"


def cell(text: str) -> str:
    """Plain text that Markdown and HTML leave as it is."""
    return " ".join(re.sub(r"([\\`*_\[\]|<>])", r"\\\1", text).split())


def generated() -> list[Path]:
    """The pages of docs/ that are written here."""
    return [CLI, *(MADE / f"{path.stem}.md" for path in notebooks.names())]


def write_pages() -> None:
    CLI.write_text(cli_page(), encoding="utf-8")
    MADE.mkdir(exist_ok=True)
    for path in notebooks.names():
        (MADE / f"{path.stem}.md").write_text(notebooks.page(path, MADE), encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    command = argparse.ArgumentParser(
        prog="python -m deploy.site", description=(__doc__ or "").splitlines()[0]
    )
    command.add_argument("--pages-only", action="store_true", help="do not build .site/")
    options = command.parse_args(argv)
    write_pages()
    if options.pages_only:
        return 0
    zensical = Path(sys.executable).with_name("zensical")
    return subprocess.run([zensical, "build", "--strict", "--clean"], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
