"""TFLite metadata inside the flatbuffer: what the one input and the one output of a segmenter mean.

MediaPipe's ImageSegmenter takes its labels from here, and so do Android's and other tools that read TFLite metadata:
the output names `labels.txt`, which stands in the ZIP behind the flatbuffer (export/provenance.py). A `scores` file
also says that its logits want a softmax, so that MediaPipe's confidence masks are probabilities.

Source: metadata_schema.fbs, version 1.5.0, and image_segmenter_metadata_schema.fbs, version 1.0.0, of MediaPipe
(mediapipe/tasks/metadata). The fields below are written by their numbers in those schemas, because no package that
the product needs brings the generated code. Deviation: there is no author and no licence, which the exporter does
not know.
"""

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from flatbuffers import number_types

from export import surgery
from runtime.bundle import LABELS

NAME = "TFLITE_METADATA"  # of the entry in Model.metadata
IDENTIFIER = b"M001"
PARSER = {"mask": "1.0.0", "scores": "1.5.0"}  # custom metadata came with 1.5.0
SEGMENTER_NAME = "SEGMENTER_METADATA"  # MediaPipe's own, among SubGraphMetadata.custom_metadata
SEGMENTER_IDENTIFIER, SEGMENTER_PARSER = b"V001", "1.0.0"
SOFTMAX = 2  # ImageSegmenterOptions.activation
RGB, GRAYSCALE = 1, 2  # ColorSpaceType
IMAGE_PROPERTIES = 2  # ContentProperties
# AssociatedFileType: labels of an axis (scores, one a class), or of the values themselves (class ids).
LABELS_OF = {"scores": 2, "mask": 3}


def add(
    flatbuffer: bytes, *, name: str, output: str, size: tuple[int, int], given: tuple[int, int] | None = None
) -> bytes:
    """The flatbuffer with TFLite metadata in it; what stood there under the same name is replaced.

    `name` is that of the model, `output` "scores" or "mask", `size` (height, width) in pixels, `given` that of the
    output where it is another.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = surgery.read(flatbuffer)
    entry, content = schema.MetadataT(), schema.BufferT()
    content.data = np.frombuffer(describe(name, output, size, given or size), np.uint8)
    entry.name, entry.buffer = NAME, len(model.buffers)
    kept = [other for other in model.metadata or [] if other.name not in (NAME, NAME.encode())]
    model.buffers, model.metadata = [*model.buffers, content], [*kept, entry]
    return surgery.write(model)


def describe(name: str, output: str, size: tuple[int, int], given_size: tuple[int, int]) -> bytes:
    """The flatbuffer of a ModelMetadata, see `add`."""
    builder = flatbuffers.Builder(1024)
    image = _image(builder, "image", "RGB, 0 to 255, as it is", RGB, size)
    meaning = {"scores": "one logit a class and pixel", "mask": "the class id of each pixel"}[output]
    # Of (1, H, W, C) the axes 1 and 2 are the image.
    axes = (1, 2) if output == "scores" else None
    labels = [_label_file(builder, LABELS_OF[output])]
    given = _image(builder, output, meaning, GRAYSCALE, given_size, axes, labels)
    custom = _tables(builder, [_segmenter(builder)]) if output == "scores" else 0
    graph = _table(
        builder,
        {2: _tables(builder, [image]), 3: _tables(builder, [given]), 9: custom},
    )
    root = _table(
        builder,
        {
            0: builder.CreateString(name),
            1: builder.CreateString("semantic segmentation"),
            3: _tables(builder, [graph]),
            7: builder.CreateString(PARSER[output]),
        },
    )
    builder.Finish(root, IDENTIFIER)
    return bytes(builder.Output())


def _image(
    builder: Any,
    name: str,
    description: str,
    colours: int,
    size: tuple[int, int],
    axes: tuple[int, int] | None = None,
    files: Sequence[int] = (),
) -> int:
    """A TensorMetadata whose content is an image."""
    height, width = size
    extent = _table(builder, {}, {0: ("uint32", width), 1: ("uint32", height)})
    properties = _table(builder, {1: extent}, {0: ("int8", colours)})
    held = _table(builder, {}, {0: ("int32", axes[0]), 1: ("int32", axes[1])}) if axes else 0
    content = _table(builder, {1: properties, 2: held}, {0: ("uint8", IMAGE_PROPERTIES)})
    told = {0: builder.CreateString(name), 1: builder.CreateString(description), 3: content}
    return _table(builder, {**told, 6: _tables(builder, files) if files else 0})


def _label_file(builder: Any, kind: int) -> int:
    """An AssociatedFile."""
    told = {
        0: builder.CreateString(LABELS),
        1: builder.CreateString("one label a line; the line is the class id, from 0"),
    }
    return _table(builder, told, {2: ("int8", kind)})


def _segmenter(builder: Any) -> int:
    """A CustomMetadata that holds a flatbuffer of its own, ImageSegmenterOptions."""
    inner = flatbuffers.Builder(64)
    parser = inner.CreateString(SEGMENTER_PARSER)
    inner.Finish(_table(inner, {1: parser}, {0: ("int8", SOFTMAX)}), SEGMENTER_IDENTIFIER)
    name, data = builder.CreateString(SEGMENTER_NAME), surgery.aligned_bytes(builder, bytes(inner.Output()))
    return _table(builder, {0: name, 1: data})


def _table(builder: Any, places: dict[int, int], numbers: dict[int, tuple[str, int]] | None = None) -> int:
    """A table: field number -> place of a string, vector or table (0: left out), or -> (type, number)."""
    fields = {**places, **(numbers or {})}
    builder.StartObject(1 + max(fields))
    for field, place in places.items():
        builder.PrependUOffsetTRelativeSlot(field, place, 0)
    for field, (kind, number) in (numbers or {}).items():
        builder.PrependSlot(_NUMBERS[kind], field, number, 0)
    return int(builder.EndObject())


_NUMBERS = {
    "int8": number_types.Int8Flags,
    "uint8": number_types.Uint8Flags,
    "int32": number_types.Int32Flags,
    "uint32": number_types.Uint32Flags,
}


def _tables(builder: Any, places: Sequence[int]) -> int:
    """A vector of tables."""
    builder.StartVector(4, len(places), 4)
    for place in reversed(places):
        builder.PrependUOffsetTRelative(place)
    return int(builder.EndVector())
