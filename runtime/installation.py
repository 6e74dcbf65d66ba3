"""Where the files that ship with Kerbside lie: beside the packages in a checkout, in kerbside/share/ of a wheel."""

import os
from pathlib import Path

_ABOVE = Path(__file__).parents[1]  # the checkout, or site-packages
_SHARE = _ABOVE / "kerbside" / "share"


def installed() -> bool:
    """Whether this is a wheel's copy, beside which nothing is to be written."""
    return _SHARE.is_dir()


def shipped() -> Path:
    """The folder of models/, examples/, docs/models/ and streamlit_app.py, as they lie in the repository."""
    return _SHARE if installed() else _ABOVE


def model_file(path: str | os.PathLike[str]) -> Path:
    """`path` itself; where there is no such file, the shipped one of that name (`models/x.tflite`, or `x.tflite`), so
    that a command of the README runs in any folder."""
    path = Path(path)
    ours = shipped() / "models" / path.name
    named = path.parent in (Path(), Path("models"))
    return ours if named and not path.exists() and ours.is_file() else path
