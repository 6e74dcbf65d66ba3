"""A `scores` file in MediaPipe's ImageSegmenter: our labels, and the class ids of our own runtime."""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest

from export import OUTPUTS, metadata, surgery
from runtime import Segmenter
from tests.elsewhere import mediapipe_segment
from tests.exported import NAMES, colour_examples, colour_files

SIZE = (96, 128)
SAME = 0.999  # of the pixels
MADE = [(precision, output) for precision in ("fp32", "int8") for output in OUTPUTS]

pytest.importorskip("mediapipe", reason="needs mediapipe, see requirements-parity.txt")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[tuple[str, str], Path]:
    return colour_files(tmp_path_factory.mktemp("runs"), SIZE)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_class_ids_and_labels_are_those_of_our_runtime(files, precision):
    noise = np.random.default_rng(3).integers(0, 256, (*SIZE, 3), np.uint8)
    for rgb in (noise, colour_examples(SIZE, 2)[1].read()[0]):
        by_mask = Segmenter(files[precision, "mask"]).segment(rgb).ids
        by_scores = Segmenter(files[precision, "scores"]).segment(rgb).ids
        labels, ids, _ = mediapipe_segment(files[precision, "scores"], rgb)
        assert labels == list(NAMES)
        assert len(np.unique(ids)) == len(NAMES)
        assert min((ids == by_mask).mean(), (ids == by_scores).mean(), (by_mask == by_scores).mean()) >= SAME


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_confidence_masks_are_the_softmax_of_our_scores(files, precision):
    rgb = np.random.default_rng(4).integers(0, 256, (*SIZE, 3), np.uint8)
    scores = Segmenter(files[precision, "scores"]).scores(rgb).astype(np.float64)
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    _, _, shares = mediapipe_segment(files[precision, "scores"], rgb)
    np.testing.assert_allclose(shares, powers / powers.sum(-1, keepdims=True), atol=1e-5)


def flatbuffer_content(flatbuffer: bytes) -> "tuple[object, bytes]":
    model = surgery.read(flatbuffer)
    (entry,) = [entry for entry in model.metadata if entry.name in (b"TFLITE_METADATA", "TFLITE_METADATA")]
    return model, bytes(model.buffers[entry.buffer].data)


@pytest.mark.parametrize("output", ["scores", "mask"])
def test_metadata_reads_back_by_the_code_of_its_schema(files, output):
    from mediapipe.tasks.metadata import image_segmenter_metadata_schema_py_generated as segmenter_schema
    from mediapipe.tasks.metadata import metadata_schema_py_generated as schema

    _, content = flatbuffer_content(files["int8", output].read_bytes())
    assert schema.ModelMetadata.ModelMetadataBufferHasIdentifier(content, 0)
    told = schema.ModelMetadataT.InitFromPackedBuf(content, 0)
    assert (told.name, told.minParserVersion) == (b"colour", {"scores": b"1.5.0", "mask": b"1.0.0"}[output])
    (graph,) = told.subgraphMetadata
    (taken,), (given,) = graph.inputTensorMetadata, graph.outputTensorMetadata
    image = taken.content.contentProperties
    assert isinstance(image, schema.ImagePropertiesT)
    assert image.colorSpace == schema.ColorSpaceType.RGB
    assert (image.defaultSize.height, image.defaultSize.width) == SIZE
    kind = schema.AssociatedFileType
    (labels,) = given.associatedFiles
    assert labels.name == b"labels.txt"
    assert labels.type == {"scores": kind.TENSOR_AXIS_LABELS, "mask": kind.TENSOR_VALUE_LABELS}[output]
    if output == "mask":
        assert given.content.range is None and graph.customMetadata is None
        return
    assert (given.content.range.min, given.content.range.max) == (1, 2)
    (custom,) = graph.customMetadata
    data = bytes(custom.data)
    assert custom.name == b"SEGMENTER_METADATA"
    assert segmenter_schema.ImageSegmenterOptions.ImageSegmenterOptionsBufferHasIdentifier(data, 0)
    options = segmenter_schema.ImageSegmenterOptionsT.InitFromPackedBuf(data, 0)
    assert options.activation == segmenter_schema.Activation.SOFTMAX


@pytest.mark.parametrize(("precision", "output"), MADE)
def test_tensors_stand_at_multiples_of_16_bytes(files, precision, output):
    """schema.fbs of TFLite: `data:[ubyte] (force_align: 16)`."""
    from ai_edge_litert import schema_py_generated as schema

    data = files[precision, output].read_bytes()
    model = schema.Model.GetRootAs(data, 0)
    places = []
    for index in range(model.BuffersLength()):
        field = model.Buffers(index)._tab
        offset = field.Offset(4)
        if offset and field.VectorLen(offset):
            places.append(field.Vector(offset))
    assert len(places) >= 5 and not [place for place in places if place % 16]


def test_metadata_is_replaced_and_not_added_twice(files):
    once = metadata.add(files["fp32", "mask"].read_bytes(), name="a", output="scores", size=SIZE)
    twice = metadata.add(once, name="b", output="scores", size=SIZE)
    _, content = flatbuffer_content(twice)
    assert content == metadata.describe("b", "scores", SIZE, SIZE)
