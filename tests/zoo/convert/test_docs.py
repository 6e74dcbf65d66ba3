"""docs/how-to/checkpoints.md says what each source assumes, as the tables in the code have it."""

import pytest

from tests.tiny import REPOSITORY
from zoo.convert import inputs
from zoo.convert.layouts import (
    huggingface_mask2former,
    huggingface_sam,
    huggingface_segformer,
    mmsegmentation,
    mmsegmentation_segformer,
    smp,
    torchvision,
    torchvision_mobile,
)
from zoo.convert.options import text

PAGE = (REPOSITORY / "docs" / "how-to" / "checkpoints.md").read_text(encoding="utf-8")
TABLES = {
    "torchvision": torchvision.UNSAID,
    "torchvision on MobileNetV3": torchvision_mobile.UNSAID,
    "Unet": smp.UNSAID["Unet"],
    "DeepLabV3Plus": smp.UNSAID["DeepLabV3Plus"],
    "mmsegmentation": mmsegmentation.UNSAID,
    "mmsegmentation's SegFormer": mmsegmentation_segformer.UNSAID,
    "Hugging Face's SegFormer": huggingface_segformer.UNSAID,
    "Hugging Face's Mask2Former": huggingface_mask2former.UNSAID,
    "SAM": huggingface_sam.UNSAID,
    "all": {
        "mean": inputs.IMAGENET_MEAN,
        "std": inputs.IMAGENET_DEVIATION,
        "factor": 1 / 255,
        "channels": "rgb",
    },
}


@pytest.mark.parametrize("source", TABLES)
def test_the_page_has_what_the_table_has(source):
    pairs = " ".join(f"{name}={text(value)}" for name, value in TABLES[source].items())
    assert f"`{pairs}`" in PAGE
