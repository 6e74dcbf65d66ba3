"""Public checkpoints -> ours: SOURCES is the table, `recognise` finds the row that knows a checkpoint."""

from collections.abc import Callable

from zoo.convert import recognition
from zoo.convert.by_hand import write_config as write_config
from zoo.convert.checkpoint import Checkpoint, Match
from zoo.convert.layouts import (
    deeplab_tflite,
    huggingface_mask2former,
    huggingface_sam,
    huggingface_segformer,
    keras_hub,
    mmsegmentation,
    mmsegmentation_realtime,
    mmsegmentation_segformer,
    realtime_authors,
    smp,
    torchvision,
    torchvision_mobile,
)
from zoo.convert.model_config import rebuild as rebuild

# What a checkpoint may be, in words, and the function that knows it. The first that answers is right.
SOURCES: dict[str, Callable[[Checkpoint], Match | None]] = {
    source.KNOWN: source.recognise
    for source in (
        huggingface_segformer,
        huggingface_mask2former,
        huggingface_sam,
        mmsegmentation_segformer,
        torchvision,
        torchvision_mobile,
        mmsegmentation,
        mmsegmentation_realtime,
        realtime_authors,
        smp,
        keras_hub,
        deeplab_tflite,
    )
}


def recognise(checkpoint: Checkpoint) -> Match:
    """What the checkpoint is. Raises ValueError, naming what is known, when no source knows it."""
    match = recognition.found(checkpoint, SOURCES.values())
    if match is not None:
        return match
    first = ", ".join(list(checkpoint.tensors)[:3]) or "no tensors"
    raise ValueError(
        f"is of no layout that is known here (it begins with {first:.200}); known are {'; '.join(SOURCES)}"
    )
