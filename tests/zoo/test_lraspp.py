"""LR-ASPP against its own arithmetic, and what an exported file of it is made of."""

import keras
import numpy as np
import pytest

import zoo
from export import audit, tflite
from tests import references

SMALL = {"backbone": "efficientnet_lite0", "backbone_sizes": {"width": 0.25, "depth": 0.4}, "filters": 8}


def test_the_head_is_that_of_figure_10():
    """Scores of the weighed features of stride 16, resized, and of the features of stride 8, in NumPy."""
    keras.utils.set_random_seed(1)
    model = zoo.build("lraspp", classes=3, **SMALL)
    rng = np.random.default_rng(1)
    for variable in model.weights:
        if variable.path.startswith("head_bn") and not variable.path.endswith("gamma"):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    image = references.images(64, 96)
    pyramid = {level: np.asarray(x) for level, x in model.get_layer("backbone")(image).items()}
    assert pyramid["P5"].shape[1:3] == (4, 6) and pyramid["P3"].shape[1:3] == (8, 12)

    def weights(name):
        return [np.asarray(value) for value in model.get_layer(name).get_weights()]

    gamma, beta, mean, variance = weights("head_bn")
    x = pyramid["P5"] @ weights("head_conv")[0][0, 0]
    x = np.maximum((x - mean) / np.sqrt(variance + 1e-3) * gamma + beta, 0)
    gate = pyramid["P5"].mean((1, 2), keepdims=True) @ weights("gate_conv")[0][0, 0]
    x = x / (1 + np.exp(-gate))
    # the features are resized here, and their scores in ours: both are linear
    x = np.asarray(keras.ops.image.resize(x, (8, 12)))
    high, low = weights("classifier"), weights("low_level_classifier")
    scores = x @ high[0][0, 0] + high[1] + pyramid["P3"] @ low[0][0, 0] + low[1]
    expected = np.asarray(keras.ops.image.resize(scores, (64, 96)))
    references.assert_parity(np.asarray(model(image)["logits"]), expected)


@pytest.mark.slow
def test_an_int8_file_is_whole_in_xnnpack():
    """But for the class of each pixel, which XNNPACK has no operation for: no other op is left, and one partition."""
    model = zoo.build("lraspp", classes=3, image_size=(64, 96), **SMALL)
    flatbuffer = tflite.convert(model, (64, 96), "int8", "mask", list(references.images(64, 96, 2)))
    found = audit.audit(flatbuffer)
    assert set(found.left) <= {"ARG_MAX", "CAST"} and found.partitions == 1


def test_values_that_make_no_sense():
    with pytest.raises(ValueError, match="filters must be a whole number of at least 1, not 0"):
        zoo.build("lraspp", filters=0)
    with pytest.raises(ValueError, match="unknown variant 'paper2'; choose one of paper, torchvision"):
        zoo.build("lraspp", variant="paper2")
