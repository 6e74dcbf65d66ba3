"""Public checkpoints -> ours: SOURCES is the table, `recognise` finds the row that knows a checkpoint."""

from collections.abc import Callable

from zoo.convert import (
    huggingface_mask2former,
    huggingface_sam,
    huggingface_segformer,
    keras_hub,
    mmsegmentation,
    mmsegmentation_segformer,
    smp,
    torchvision,
)
from zoo.convert.card import rebuild as rebuild
from zoo.convert.checkpoint import Checkpoint, Match

# What a checkpoint may be, in words, and the function that knows it. The first that answers is right.
SOURCES: dict[str, Callable[[Checkpoint], Match | None]] = {
    "Hugging Face's SegFormer": huggingface_segformer.recognise,
    "Hugging Face's Mask2Former": huggingface_mask2former.recognise,
    "SAM of Hugging Face and of its authors": huggingface_sam.recognise,
    "mmsegmentation's SegFormer": mmsegmentation_segformer.recognise,
    "torchvision's DeepLabV3 and FCN": torchvision.recognise,
    "mmsegmentation's DeepLabV3+, DeepLabV3 and FCN": mmsegmentation.recognise,
    "segmentation_models_pytorch's Unet and DeepLabV3Plus": smp.recognise,
    "KerasHub's DeepLabV3ImageSegmenter": keras_hub.recognise,
}


def recognise(checkpoint: Checkpoint) -> Match:
    """What the checkpoint is. Raises ValueError, naming what is known, when no source knows it."""
    for source in SOURCES.values():
        match = source(checkpoint)
        if match is not None:
            return match
    first = ", ".join(list(checkpoint.tensors)[:3]) or "no tensors"
    raise ValueError(
        f"is of no layout that is known here (it begins with {first}); known are {'; '.join(SOURCES)}"
    )
