"""Keep what C++ writes to stderr away from the user, where it is chatter and its errors come as exceptions."""

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOCK = threading.Lock()  # stderr belongs to the whole process


@contextmanager
def stderr_closed() -> Iterator[None]:
    """Inside the block file descriptor 2 leads nowhere, for this process and the libraries in it."""
    with _LOCK:
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)


@contextmanager
def stderr_on_failure() -> Iterator[None]:
    """Hold back what C++ writes to stderr (pages of it for a sound conversion) unless something fails."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            sys.stderr.flush()
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
