"""Where OpenCV does not load for want of a system's library: the sentence that says how to get it.

OpenCV's wheel links against libGL, GLib and libxcb, which a bare Debian or Ubuntu, as most containers are, lacks.
"""

import sys
from types import TracebackType

LIBRARIES = "apt-get install -y libgl1 libglib2.0-0 libxcb1"


def remedy(error: BaseException | None) -> str | None:
    """One sentence, if this is `import cv2` without a library of the system; else None."""
    if not isinstance(error, ImportError) or error.name != "cv2" or ".so" not in str(error):
        return None
    return f"OpenCV does not load ({error}): {LIBRARIES}  # as root, on Debian and Ubuntu"


def _instead_of_a_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    said = remedy(error)
    if not said:
        return sys.__excepthook__(kind, error, trace)
    print(f"error: {said}", file=sys.stderr)
    raise SystemExit(2)


def end_in_a_sentence() -> None:
    """For commands alone: from here on the process ends with the sentence and exit code 2. `import cv2` stands at the
    top of many files, before any `main` could catch it."""
    sys.excepthook = _instead_of_a_traceback
