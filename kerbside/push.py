"""kerbside push RUN ORG/NAME: a model repository on the Hugging Face Hub, made of a run or of FILE.weights.h5.

It holds NAME.weights.h5 with NAME.json, which build the model again, the .tflite files of RUN/export, a
README.md with tags and what was measured, and SHA256SUMS, by which hf://ORG/NAME is checked wherever a model is
asked for. Nothing leaves this machine without --yes: until then the command shows what it would send. The token
is that of `hf auth login` or HF_TOKEN.
"""

import argparse
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime import strict_json
from runtime.bundle import read_note
from runtime.errors import UserError, exit_on_user_error, first_line
from runtime.fetch import SUMS
from runtime.files import file_sha256, write_whole

REPOSITORY = re.compile(r"[\w][\w.-]{0,95}/[\w][\w.-]{0,95}")
LICENCE = "apache-2.0"
CARD = "README.md"


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="kerbside push", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("run", metavar="RUN", help="a run folder, FILE.weights.h5, or a name of kerbside list")
    made.add_argument("repository", metavar="ORG/NAME", help="the model repository, made if it is not there")
    made.add_argument("--yes", action="store_true", help="send it; without, only show what would be sent")
    made.add_argument("--private", action="store_true", help="make the repository private")
    made.add_argument(
        "--licence", default=LICENCE, metavar="ID", help=f"as the Hub calls it (default {LICENCE})"
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    if not REPOSITORY.fullmatch(args.repository):
        raise UserError(
            f"{args.repository} is no name of a repository: one is ORG/NAME, such as me/street-model."
        )
    if not re.fullmatch(r"[\w.-]+", args.licence):
        raise UserError(f"--licence {args.licence} is none that the Hub knows: one is {LICENCE}.")
    with tempfile.TemporaryDirectory() as folder:
        staged = stage(args.run, args.repository, args.licence, Path(folder))
        for path in staged:
            print(f"{path.name:<60}{path.stat().st_size / 1e6:10.2f} MB  {file_sha256(path)[:12]}")
        if not args.yes:
            print(f"\n{(Path(folder) / CARD).read_text(encoding='utf-8')}")
            print(f"nothing was sent: with --yes these {len(staged)} files go to {args.repository}.")
            return 0
        address = send(Path(folder), args.repository, args.private)
    print(f"{address}: Segmenter('hf://{args.repository}'), zoo.load('hf://{args.repository}')")
    return 0


def stage(run: str, repository: str, licence: str, folder: Path) -> list[Path]:
    """Everything that goes into the repository, written into a folder. UserError where the run cannot be used."""
    from training.start_tensorflow import start_tensorflow

    start_tensorflow()  # and only now what brings it: a wrong argument answers at once
    from training.runs import converted_weights
    from training.runs.trained_run import load
    from zoo.convert import model_config

    found = load(run)
    stem = repository.partition("/")[2]
    weights = folder / f"{stem}{model_config.SUFFIX}"
    model_config.write(weights, found.model(), converted_weights.card(found))
    files = {path.name: path for path in exported(found.folder, found.label)}
    for name, path in files.items():
        shutil.copyfile(path, folder / name)
    card = card_text(repository, licence, found, list(files.values()), measured(found.folder, files.values()))
    write_whole(folder / CARD, card.encode())
    listed = sorted(path for path in folder.iterdir() if path.name != CARD)
    sums = "".join(f"{file_sha256(path)}  {path.name}\n" for path in listed)
    write_whole(folder / SUMS, sums.encode())
    return sorted(folder.iterdir())


def exported(folder: Path, label: str) -> list[Path]:
    """The .tflite files that were made of it: those of RUN/export, and beside weights those whose name begins alike."""
    found = sorted((folder / "export").glob("*.tflite"))
    return [path for path in found if path.name.startswith(label)]


def measured(folder: Path, files: Any) -> list[tuple[str, str, str, float]]:
    """(what, data, metric, value 0..1) of everything that was measured: evaluations of the run, and what its files say
    of themselves."""
    rows = []
    for path in sorted(folder.glob("evaluation/*/scores.json")):
        try:
            scores = strict_json.read(path)
        except (OSError, ValueError):
            continue  # somebody's half of a file: nothing that was measured
        value = scores.get("miou") if isinstance(scores, dict) else None
        if isinstance(value, float) and value == value:
            rows.append(("float32", path.parent.name, "mIoU", value))
    for file in files:
        note = read_note(file)
        scores = note.get("scores", {})
        value = scores.get("miou")
        if isinstance(value, float) and value == value:
            data = f"{note.get('data') or 'unknown'}-{scores.get('split', 'val')}"
            rows.append((file.name, data, "mIoU", value))
    return rows


def card_text(
    repository: str,
    licence: str,
    found: Any,
    files: Sequence[Path],
    rows: Sequence[tuple[str, str, str, float]],
) -> str:
    """README.md as the Hub reads it: metadata as YAML between two lines of dashes, then text."""
    spec = found.spec
    head = [
        "---",
        f"license: {licence}",
        "library_name: keras",
        "pipeline_tag: image-segmentation",
        "tags:",
        *(
            f"- {tag}"
            for tag in ("kerbside", "semantic-segmentation", "road-scenes", "keras", "tflite", found.name)
        ),
        *_model_index(repository, rows),
        "---",
    ]
    stem = repository.partition("/")[2]
    lines = [
        f"# {stem}",
        "",
        f"{found.name} for semantic segmentation, {len(spec.classes)} classes: {', '.join(spec.classes)}.",
        "Made with Kerbside. RGB images 0..255 in; normalisation is part of the graph.",
        "",
        "```python",
        "import zoo",
        f'model = zoo.load("hf://{repository}")  # images (B, H, W, 3) -> {{"logits": (B, H, W, classes)}}',
        "```",
    ]
    if files:
        lines += ["", f"On a device, without TensorFlow: `kerbside run hf://{repository} IMAGE --out masks`."]
    lines += ["", "| file | data | metric | % |", "|---|---|---|---|"]
    lines += [f"| {what} | {data} | {metric} | {100 * value:.2f} |" for what, data, metric, value in rows]
    if not rows:
        lines += ["| | | mIoU | not measured |"]
    if found.learnt_from:
        lines += ["", "## What it has learnt from", ""]
        lines += [
            f"- {one['what']} ({one['how']}): {one['terms']}. {one['read']}".rstrip()
            for one in found.learnt_from
        ]
    if found.source:
        lines += ["", f"Converted from {found.source.get('kind')}: {found.source.get('name')}."]
    return "\n".join([*head, "", *lines, ""])


def _model_index(repository: str, rows: Sequence[tuple[str, str, str, float]]) -> list[str]:
    """The measured figures as the Hub shows them; nothing where nothing was measured."""
    if not rows:
        return []
    results = []
    for what, data, metric, value in rows:
        results += [
            "  - task: {type: image-segmentation}",
            f"    dataset: {{type: {data}, name: {data}}}",
            f"    metrics: [{{type: mean_iou, name: '{metric}, {what}', value: {100 * value:.2f}}}]",
        ]
    return ["model-index:", f"- name: {repository.partition('/')[2]}", "  results:", *results]


def send(folder: Path, repository: str, private: bool) -> str:
    """Make the repository if it is not there, and send all files in one commit; its address. UserError where the Hub
    refuses or cannot be reached."""
    import huggingface_hub
    from huggingface_hub import errors

    api = huggingface_hub.HfApi()
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Made by kerbside push")
    except errors.HfHubHTTPError as error:
        code = getattr(error.response, "status_code", "?")
        reason = (
            "log in with hf auth login, or set HF_TOKEN" if code in (401, 403) else first_line(error)[:200]
        )
        raise UserError(f"{repository} was not taken by the Hub ({code}): {reason}.") from error
    except Exception as error:  # of the HTTP library, which changes, and of sockets
        raise UserError(
            f"{repository} was not sent to the Hub at {huggingface_hub.constants.ENDPOINT}: {first_line(error)[:200]}."
        ) from error
    return str(address)


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
