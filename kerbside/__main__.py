"""`kerbside COMMAND ...`: one name for the commands that `python -m` starts; each has its own --help."""

import importlib.util
import runpy
import sys

from runtime import installation, opencv
from runtime.version import VERSION

# Command: the module that `python -m` would start, the extra that it needs, and what it does.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "train": ("training.train", "train", "train a model of the zoo, or go on training it"),
    "evaluate": ("training.evaluate", "train", "measure a run or a .tflite on labelled images"),
    "compare": ("training.compare", "train", "measure several on the same images"),
    "convert": ("zoo.convert", "train", "make a public checkpoint a model of the zoo"),
    "export": ("export", "train", "write a run as a .tflite, SavedModel, ONNX or OpenVINO"),
    "fit": ("export.offload", "train", "which operations of a .tflite stay off an accelerator, and why"),
    "run": ("runtime", "", "segment images, folders and videos with a .tflite or a model's name"),
    "benchmark": ("kerbside.benchmark", "", "time, size, memory and mIoU of files, as a table and a JSON"),
    "list": ("kerbside.listing", "", "the models that have a name: what ships, and public checkpoints"),
    "push": ("kerbside.push", "train", "make a model repository on the Hugging Face Hub of a run"),
    "app": ("streamlit", "app", "open the page in a browser"),
    "data": ("training.data.inspect", "train", "look at a data set before it is trained on"),
}
# What is installed where an extra is.
SIGNS = {"train": "tensorflow", "app": "streamlit"}


def usage() -> str:
    rows = [f"  {name:<10}{what} (python -m {module})" for name, (module, _, what) in COMMANDS.items()]
    return "\n".join(
        ["usage: kerbside COMMAND ... | --version", "", *rows, "", "kerbside COMMAND --help says more."]
    )


def main(argv: list[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0
    if words[0] == "--version":
        print(VERSION)
        return 0
    if words[0] not in COMMANDS:
        return _refused(f"kerbside has no command '{words[0]}': choose one of {', '.join(COMMANDS)}.")
    module, extra, _ = COMMANDS[words[0]]
    if extra and importlib.util.find_spec(SIGNS[extra]) is None:
        wanted = f"what is not installed here: pip install '.[{extra}]' in the checkout"
        return _refused(f"kerbside {words[0]} needs {wanted}")
    opencv.end_in_a_sentence()
    rest = words[1:]
    if module == "streamlit":
        import cv2  # noqa: F401  the page would show the traceback to its visitors

        # Of two addresses the last counts: this machine alone, unless another is given.
        page = str(installation.shipped() / "streamlit_app.py")
        rest = ["run", page, "--server.address", "localhost", *rest]
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


def _refused(sentence: str) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
