"""Mask2Former's own arithmetic: deformable attention, masked attention, positions, scores and the paper's sizes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from tests import references
from tests.small import SMALL
from zoo.mask2former import AttentionMask, MultiHeadAttention, SemanticScores
from zoo.pixel_decoder import DeformableAttention, LearnedRows, SinePositions

SIDES = ((2, 3), (4, 5), (7, 9))  # of three levels, none of which divides another
TOKENS = sum(height * width for height, width in SIDES)


def tiny(**arguments) -> keras.Model:
    return zoo.build("mask2former", classes=5, **{**SMALL["mask2former"], **arguments})


def maps(batch: int, channels: int) -> list[np.ndarray]:
    return [np.zeros((batch, *side, channels), np.float32) for side in SIDES]


def sampling(heads: int, points: int, channels: int) -> DeformableAttention:
    layer = DeformableAttention(heads, points)
    tokens = np.zeros((1, TOKENS, channels), np.float32)
    layer([tokens, tokens, *maps(1, channels)])
    return layer


def test_deformable_attention_is_hugging_faces_sum_of_grid_samples():
    """With points far beyond the border of every level, where grid_sample gives zeros."""
    torch, heads, points, channels = references.torch(), 4, 2, 16
    references.transformers()
    from transformers.models.mask2former import modeling_mask2former as theirs

    rng, layer = np.random.default_rng(1), sampling(heads, points, channels)
    tokens = rng.normal(size=(2, TOKENS, channels)).astype(np.float32)
    query = rng.normal(size=tokens.shape).astype(np.float32)
    for variable in layer.weights:
        variable.assign(rng.normal(0, 0.5, variable.shape))
    reference = theirs.Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention(
        channels, heads, len(SIDES), points
    )
    parts = {
        "sampling_offsets": layer.sampling_offsets,
        "attention_weights": layer.attention_weights,
        "value_proj": layer.value,
        "output_proj": layer.output_projection,
    }
    with torch.no_grad():
        for name, part in parts.items():
            getattr(reference, name).weight.copy_(torch.tensor(part.kernel.numpy().T))
            getattr(reference, name).bias.copy_(torch.tensor(part.bias.numpy()))
        centres = theirs.Mask2FormerPixelDecoderEncoderOnly.get_reference_points(
            SIDES, torch.ones(2, len(SIDES), 2), "cpu"
        )
        expected, _ = reference(
            torch.tensor(query),
            encoder_hidden_states=torch.tensor(tokens),
            reference_points=centres,
            spatial_shapes_list=SIDES,
        )
    found = np.asarray(layer([query, tokens, *maps(2, channels)]))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5 * np.ptp(expected.numpy()))


def test_a_point_one_pixel_to_the_right_reads_the_neighbour_and_zero_beyond_the_border():
    layer = sampling(heads=1, points=1, channels=2)
    for dense in (layer.value, layer.output_projection):
        dense.kernel.assign(np.eye(2))
    layer.sampling_offsets.bias.assign(np.tile([1.0, 0.0], len(SIDES)))  # x before y, for each level
    # all weight on the finest level
    layer.attention_weights.bias.assign([-50.0, -50.0, 50.0])
    fine = np.random.default_rng(2).normal(size=(7, 9, 2)).astype(np.float32)
    tokens = np.zeros((1, TOKENS, 2), np.float32)
    tokens[0, -63:] = fine.reshape(63, 2)
    found = np.asarray(layer([tokens, tokens, *maps(1, 2)]))[0, -63:].reshape(7, 9, 2)
    expected = np.zeros_like(fine)
    expected[:, :-1] = fine[:, 1:]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_heads_look_around_at_first():
    """Deformable DETR, appendix A.4: eight heads in the eight directions, the n-th point n pixels away."""
    bias = sampling(heads=8, points=4, channels=16).sampling_offsets.bias.numpy().reshape(8, 3, 4, 2)
    directions = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)]
    for head, direction in enumerate(directions):
        for point in range(4):
            expected = np.tile(np.array(direction) * (point + 1), (3, 1))
            np.testing.assert_allclose(bias[head, :, point], expected, atol=1e-5)


def test_sine_positions_are_those_of_the_formula():
    found = np.asarray(SinePositions()(np.zeros((1, 3, 5, 8), np.float32))).reshape(3, 5, 8)
    for row in range(3):
        for column in range(5):
            y, x = (2 * np.pi * (place + 1) / side for place, side in ((row, 3), (column, 5)))
            for start, angle in ((0, y), (4, x)):
                low = angle / 10000 ** (2 / 4)
                expected = [np.sin(angle), np.cos(angle), np.sin(low), np.cos(low)]
                np.testing.assert_allclose(found[row, column, start : start + 4], expected, atol=1e-5)


def test_a_query_attends_to_its_mask_and_to_everything_where_it_has_none():
    """Of 2x2 positions; the first query is on at two of them, the second nowhere."""
    x = np.array([[1.0, -1.0], [-2.0, 3.0]], np.float32).reshape(1, 2, 2, 1)
    positive = np.array([[[1.0], [0.0]]], np.float32)
    mask = np.asarray(AttentionMask()([x, positive]))
    np.testing.assert_array_equal(mask[0, 0], [[0, -1e9, -1e9, 0], [0, 0, 0, 0]])
    nowhere = np.asarray(AttentionMask()([np.abs(x), -np.ones((1, 1, 1), np.float32)]))
    np.testing.assert_array_equal(nowhere, np.zeros((1, 1, 1, 4)))


def test_masked_attention_ignores_what_is_blocked():
    keras.utils.set_random_seed(1)
    attention, rng = MultiHeadAttention(2), np.random.default_rng(3)
    query, key = (rng.normal(size=(1, count, 8)).astype(np.float32) for count in (3, 6))
    mask = np.zeros((1, 1, 3, 6), np.float32)
    mask[..., 4:] = -1e9
    np.testing.assert_allclose(
        attention([query, key, key, mask]), attention([query, key[:, :4], key[:, :4]]), atol=1e-6
    )


@pytest.mark.parametrize("score_stride", [1, 4])
def test_logits_are_the_logarithm_of_the_semantic_scores(score_stride):
    """MaskFormer's equation in NumPy, with OpenCV's bilinear resizing, of the model's queries and masks."""
    import cv2

    model = tiny(score_stride=score_stride)
    found = {key: np.asarray(value) for key, value in model(references.images(33, 47)).items()}
    classes = np.exp(found["query_logits"][0])
    classes = (classes / classes.sum(-1, keepdims=True))[:, :-1]

    def resized(x: np.ndarray) -> np.ndarray:
        return np.stack([cv2.resize(channel, (47, 33), interpolation=cv2.INTER_LINEAR) for channel in x])

    masks = found["mask_logits"][0]
    if score_stride == 1:
        scores = np.tensordot(classes.T, 1 / (1 + np.exp(-resized(masks))), 1)
    else:
        scores = resized(np.tensordot(classes.T, 1 / (1 + np.exp(-masks)), 1))
    np.testing.assert_allclose(np.exp(found["logits"][0]), scores.transpose(1, 2, 0), rtol=1e-3, atol=1e-5)


def test_a_score_of_nothing_has_a_logarithm():
    queries = np.array([[[0.0, 0.0, 200.0]]], np.float32)  # sure of "no object"
    masks = np.full((1, 2, 2, 1), -200.0, np.float32)
    logits = SemanticScores(1)([queries, masks, np.zeros((1, 8, 8, 3), np.float32)])
    np.testing.assert_allclose(logits, np.log(1e-8), rtol=1e-5)


def test_earlier_layers_come_first_and_start_from_the_untouched_queries():
    model = tiny()
    first, second = (model(references.images(33, 47, seed=seed)) for seed in (1, 2))
    layers = SMALL["mask2former"]["decoder_layers"]
    assert first["aux_query_logits"].shape == (1, layers, 6, 6)
    assert first["aux_mask_logits"].shape == (1, layers, 6, 9, 12)
    # before the first layer, queries know nothing of the image
    np.testing.assert_allclose(first["aux_query_logits"][:, 0], second["aux_query_logits"][:, 0], atol=1e-6)
    assert np.abs(np.asarray(first["query_logits"] - second["query_logits"])).max() > 1e-4


def test_a_graph_whose_batch_and_size_are_known_only_when_it_runs():
    model, images = tiny(), references.images(33, 47, count=2).astype(np.float32)
    run = tf.function(model, input_signature=[tf.TensorSpec((None, None, None, 3))])
    for key, value in model(images).items():
        np.testing.assert_allclose(run(images)[key], value, atol=1e-4)


def test_images_of_a_batch_do_not_mix():
    model, images = tiny(), references.images(33, 47, count=2)
    together = model(images)["logits"]
    for index in range(2):
        alone = model(images[index : index + 1])["logits"]
        np.testing.assert_allclose(alone[0], together[index], atol=1e-4)


@pytest.mark.parametrize(
    ("backbone", "queries", "millions"),
    [
        # Table 1 of the paper, with COCO's 133 classes
        ("swin_tiny", 100, 47),
        pytest.param("resnet50_v1b", 100, 44, marks=pytest.mark.slow),
        pytest.param("swin_small", 100, 69, marks=pytest.mark.slow),
        pytest.param("swin_base", 100, 107, marks=pytest.mark.slow),
        pytest.param("swin_large", 200, 216, marks=pytest.mark.slow),
    ],
)
def test_has_the_papers_parameters(backbone, queries, millions):
    model = zoo.build("mask2former", classes=133, backbone=backbone, queries=queries)
    trainable = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    assert round(trainable / 1e6) == millions


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("classes", 1, "classes"),
        ("queries", 0, "queries"),
        ("hidden", 48, "multiple of 32"),
        ("heads", 5, "multiple of 5"),
        ("points", 0, "points"),
        ("encoder_layers", 0, "encoder_layers"),
        ("decoder_layers", 1.5, "decoder_layers"),
        ("encoder_feedforward", 0, "encoder_feedforward"),
        ("decoder_feedforward", None, "decoder_feedforward"),
        ("score_stride", 2, "score_stride"),
        ("dropout", 1.0, "dropout"),
        ("backbone", "vgg", "unknown backbone"),
        ("backbone_sizes", {"depth": 2}, "no size 'depth'"),
        ("image_size", (0, 64), "image_size"),
    ],
)
def test_refuses_what_makes_no_sense(argument, value, message):
    with pytest.raises(ValueError, match=message):
        zoo.build("mask2former", **{argument: value})


@pytest.mark.parametrize(
    "layer",
    [LearnedRows(3, 8), DeformableAttention(2, 4), MultiHeadAttention(2), SemanticScores(4)],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_are_rebuilt_from_their_configuration(layer):
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
