"""The one place where pixels become a PNG or JPEG, and where too little memory becomes a sentence."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np

from runtime.errors import UserError

# Full resolution of colour: JPEG's usual half would wash thin outlines out.
JPEG = (
    *(cv2.IMWRITE_JPEG_QUALITY, 92),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
)


def encoded(array: np.ndarray, kind: str) -> bytes:
    """Ids or grey, uint8 (H, W), or RGB, uint8 (H, W, 3), as the bytes of a file of this kind, ".png" or ".jpg".

    Raises UserError when the encoder fails: OpenCV says so in a flag, with which come bytes that are no image.
    """
    shown = f"The {kind} of {'x'.join(map(str, array.shape[1::-1]))} pixels"
    with memory_for(shown):
        bgr = array if array.ndim == 2 else array[..., ::-1]
        try:
            good, data = cv2.imencode(kind, np.ascontiguousarray(bgr), JPEG if kind == ".jpg" else [])
        except cv2.error as error:
            raise _unless_memory(
                error, f"{shown} could not be made ({error.err or 'OpenCV failed'})."
            ) from error
        if not good or not data.size:
            raise UserError(f"{shown} could not be made: the encoder failed.")
        return data.tobytes()


def data_uri(image: bytes) -> str:
    """The bytes of a PNG or JPEG as an address that holds all of them."""
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


@contextmanager
def memory_for(shown: str) -> Iterator[None]:
    """Inside the block, too little memory is a UserError about `shown`, an image or a file."""
    try:
        yield
    except (MemoryError, cv2.error) as error:
        if isinstance(error, cv2.error) and error.code != cv2.Error.StsNoMem:
            raise
        raise UserError(
            f"{shown} needs more memory than there is; end other programs, or take a smaller image."
        ) from error


def _unless_memory(error: cv2.error, sentence: str) -> Exception:
    """What becomes of an error of OpenCV: `sentence`, or the error itself where it is memory that failed."""
    return error if error.code == cv2.Error.StsNoMem else UserError(sentence)
