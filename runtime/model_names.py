"""Models by name: ROWS is a literal table of what ships with Kerbside and of public checkpoints that are known
to convert.

A score is what somebody measured and wrote down: its data and where it was read stand beside it. None is ours
but those of docs/models/. A licence is that of the files; the data that they were trained on have terms of
their own, such as Cityscapes', which are for research. MLPerf Mobile's DeepLabV3+ of ADE20K is no row and does not
ship, nor does what began with its backbone: the repository that publishes its files names no licence.
"""

import difflib
from typing import NamedTuple

from runtime.errors import UserError

WHERE = "kerbside list has all"
DATA = ("camvid", "cityscapes", "voc")  # as they stand in the names


class File(NamedTuple):
    """`source`: models/FILE, which ships; https://...; or hf://OWNER/NAME[@REVISION], on the Hugging Face Hub.
    `bytes`: None where its publisher does not say. `sha256`: all 64 digits, or its first 8, which is all that
    OpenMMLab and PyTorch say, in the name of the file; "" where the Hub says it at each download."""

    source: str
    bytes: int | None
    sha256: str


class Row(NamedTuple):
    """`tflite` is what `Segmenter` and `kerbside run` take, `weights` what `zoo.load` and `--init` take: a
    FILE.weights.h5, or a checkpoint that zoo.convert reads. `score` is in %, of `read`."""

    tflite: File | None
    weights: File | None
    licence: str
    score: str
    read: str


CORAL = File(
    "https://raw.githubusercontent.com/google-coral/test_data/master/"
    "deeplab_mobilenet_edgetpu_slim_cityscapes_quant.tflite",
    2157328,
    "322fe29945cb1693f426952f2a330ab67ea5678545ddee6f2548e0cfd0ca03e5",
)
OPENMMLAB = "https://download.openmmlab.com/mmsegmentation/v0.5/"
MMSEGMENTATION = "open-mmlab/mmsegmentation, configs/"

ROWS: dict[str, Row] = {
    "deeplabv3-edgetpu-cityscapes": Row(
        tflite=File(
            "models/deeplabv3_mobilenet_edgetpu_cityscapes_int8.tflite",
            2570295,
            "cd1e3f23d2cfdb09ce359c8d03f60b3420382cd3b88f916dcae27eb393c7f33d",
        ),
        weights=File(
            "models/deeplabv3_mobilenet_edgetpu_cityscapes.weights.h5",
            4745438,
            "e0a4273bb492ba97676f7f46f3f5abf4362f31eae948f2f3e8389056eafb4ee2",
        ),
        licence="Apache-2.0",
        score="55.09 mIoU, CamVid train in 11 common classes, never seen",
        read="docs/models/deeplabv3_mobilenet_edgetpu_cityscapes.md",
    ),
    "deeplabv3-edgetpu-cityscapes-coral": Row(
        tflite=CORAL,
        weights=CORAL,
        licence="Apache-2.0",
        score="54.56 mIoU, CamVid train in 11 common classes, never seen",
        read="docs/models/deeplabv3_mobilenet_edgetpu_cityscapes.md",
    ),
    "deeplabv3plus-edgetpu-camvid": Row(
        tflite=File(
            "models/deeplabv3plus_mobilenet_edgetpu_camvid_int8.tflite",
            2297819,
            "39951f264334aeafac55e373f42f47688a04fce1078d8db6f344fa7f23e96a72",
        ),
        weights=File(
            "models/deeplabv3plus_mobilenet_edgetpu_camvid.weights.h5",
            4272854,
            "90e1eace69745bef743b853910ee217cffd3862ce16815869e485b36c9ba144b",
        ),
        licence="Apache-2.0",
        score="76.22 mIoU, CamVid val, 480x360",
        read="docs/models/deeplabv3plus_mobilenet_edgetpu_camvid.md",
    ),
    "deeplabv3plus-edgetpu-camvid-720x960": Row(
        tflite=File(
            "models/deeplabv3plus_mobilenet_edgetpu_camvid_720x960_int8.tflite",
            2296420,
            "133323cdb3495f0f0de28986daac690416d6080d5a27e304e6bb0e34f695a319",
        ),
        weights=File(
            "models/deeplabv3plus_mobilenet_edgetpu_camvid.weights.h5",
            4272854,
            "90e1eace69745bef743b853910ee217cffd3862ce16815869e485b36c9ba144b",
        ),
        licence="Apache-2.0",
        score="81.14 mIoU, CamVid val, 480x360",
        read="docs/models/deeplabv3plus_mobilenet_edgetpu_camvid.md",
    ),
    "pidnet-s-cityscapes": Row(
        tflite=None,
        weights=File(
            f"{OPENMMLAB}pidnet/pidnet-s_2xb6-120k_1024x1024-cityscapes/"
            "pidnet-s_2xb6-120k_1024x1024-cityscapes_20230302_191700-bb8e3bcc.pth",
            None,
            "bb8e3bcc",
        ),
        licence="Apache-2.0",
        score="78.74 mIoU, Cityscapes val",
        read=f"{MMSEGMENTATION}pidnet/metafile.yaml",
    ),
    "pidnet-m-cityscapes": Row(
        tflite=None,
        weights=File(
            f"{OPENMMLAB}pidnet/pidnet-m_2xb6-120k_1024x1024-cityscapes/"
            "pidnet-m_2xb6-120k_1024x1024-cityscapes_20230301_143452-f9bcdbf3.pth",
            None,
            "f9bcdbf3",
        ),
        licence="Apache-2.0",
        score="80.22 mIoU, Cityscapes val",
        read=f"{MMSEGMENTATION}pidnet/metafile.yaml",
    ),
    "bisenetv2-cityscapes": Row(
        tflite=None,
        weights=File(
            f"{OPENMMLAB}bisenetv2/bisenetv2_fcn_4x8_1024x1024_160k_cityscapes/"
            "bisenetv2_fcn_4x8_1024x1024_160k_cityscapes_20210903_000032-e1a2eed6.pth",
            None,
            "e1a2eed6",
        ),
        licence="Apache-2.0",
        score="75.76 mIoU, Cityscapes val",
        read=f"{MMSEGMENTATION}bisenetv2/metafile.yaml",
    ),
    "stdc1-cityscapes": Row(
        tflite=None,
        weights=File(
            f"{OPENMMLAB}stdc/stdc1_in1k-pre_512x1024_80k_cityscapes/"
            "stdc1_in1k-pre_512x1024_80k_cityscapes_20211125_213942-880bb7d0.pth",
            None,
            "880bb7d0",
        ),
        licence="Apache-2.0",
        score="75.10 mIoU, Cityscapes val",
        read=f"{MMSEGMENTATION}stdc/README.md",
    ),
    "stdc2-cityscapes": Row(
        tflite=None,
        weights=File(
            f"{OPENMMLAB}stdc/stdc2_in1k-pre_512x1024_80k_cityscapes/"
            "stdc2_in1k-pre_512x1024_80k_cityscapes_20211125_220437-d2c469f8.pth",
            None,
            "d2c469f8",
        ),
        licence="Apache-2.0",
        score="77.17 mIoU, Cityscapes val",
        read=f"{MMSEGMENTATION}stdc/README.md",
    ),
    "lraspp-mobilenetv3-voc": Row(
        tflite=None,
        weights=File(
            "https://download.pytorch.org/models/lraspp_mobilenet_v3_large-d234d4ea.pth", None, "d234d4ea"
        ),
        licence="BSD-3-Clause",
        score="57.9 mIoU, COCO val2017 in Pascal VOC's classes",
        read="pytorch/vision, torchvision/models/segmentation/lraspp.py",
    ),
    "segformer-b0-cityscapes": Row(
        tflite=None,
        weights=File("hf://nvidia/segformer-b0-finetuned-cityscapes-1024-1024", None, ""),
        licence="NVIDIA's own, not for commercial use",
        score="not read",
        read="",
    ),
}


def row(name: str) -> Row | None:
    """The row of a name; None where it is none."""
    return ROWS.get(name)


def of_its_data(name: str) -> list[str]:
    """The names of the table whose data set the other name has too: of "unet-camvid" those of CamVid."""
    words = set(name.split("-")) & set(DATA)
    return [one for one in ROWS if words & set(one.split("-"))]


def nearest(name: str) -> str | None:
    """The name of the table that is most like another, of the same data set where it says one; None where none is."""
    among = of_its_data(name) or ROWS
    return next(iter(difflib.get_close_matches(name, among, n=1, cutoff=0.6)), None)


def misspelt(name: str) -> UserError | None:
    """What is said of a name that is not in the table but is like one that is, or of its data set; None otherwise."""
    near, others = nearest(name), of_its_data(name)
    if near:
        return UserError(f"{name} is no file and no model's name; did you mean {near}? {WHERE}.")
    if others:
        return UserError(
            f"{name} is no file and no model's name; for its data set there are {', '.join(others)}; {WHERE}."
        )
    return None
