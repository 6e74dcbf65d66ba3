"""`kerbside list`: the models that have a name, as a table or, with --json, as one JSON object.

Any name stands for its file wherever a model is asked for: zoo.load(NAME), Segmenter(NAME), kerbside run NAME
IMAGE, --init NAME. What is not here is fetched when it is first used, and its hash is checked.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from runtime import fetch
from runtime.errors import exit_on_user_error
from runtime.model_names import ROWS, File, Row

USES = ("run", "load")  # what a row is for: Segmenter and kerbside run; zoo.load and --init


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="kerbside list", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "--json", action="store_true", help="everything: sources, SHA-256, where a score was read"
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    print(json.dumps({name: facts(row) for name, row in ROWS.items()}, indent=1) if args.json else table())
    return 0


def facts(row: Row) -> dict[str, Any]:
    """A row for JSON; `here` says whether a file is on this machine, None of one that huggingface_hub keeps."""
    files = {
        key: None if file is None else {**file._asdict(), "here": is_here(file)}
        for key, file in (("tflite", row.tflite), ("weights", row.weights))
    }
    return {**files, "licence": row.licence, "score": row.score, "read": row.read}


def is_here(file: File) -> bool | None:
    return None if file.source.startswith("hf://") else fetch.place(file).is_file()


def table() -> str:
    """One line a model, and below what the columns mean."""
    rows = [("name", "for", "MB", "here", "licence", "score, %")]
    for name, row in ROWS.items():
        given = [file for file in (row.tflite, row.weights) if file]
        uses = "+".join(use for use, file in zip(USES, (row.tflite, row.weights), strict=True) if file)
        sizes = "+".join(
            "-" if file.bytes is None else f"{file.bytes / 1e6:.1f}" for file in dict.fromkeys(given)
        )
        here = {True: "yes", False: "no", None: "-"}[is_here(given[0])]
        rows.append((name, uses, sizes, here, row.licence, row.score))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join(
        [
            *lines,
            "",
            "run: kerbside run NAME IMAGE --out DIR and Segmenter(NAME); load: zoo.load(NAME) and --init NAME.",
            "What is not here is fetched when it is first used. kerbside list --json has sources and SHA-256.",
        ]
    )


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
