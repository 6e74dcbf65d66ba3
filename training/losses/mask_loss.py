"""Mask2Former's loss: give each class of an image to one query, then grade the query's class and mask.

Cheng, Misra, Schwing, Kirillov, Girdhar, "Masked-attention Mask Transformer for Universal Image Segmentation"
(2022, arXiv:2112.01527), section 3.2, "Improving training efficiency", and section 4.1, "Training settings", for
points and weights; Cheng, Schwing, Kirillov, "Per-Pixel Classification is Not All You Need" (2021,
arXiv:2107.06278), section 3.2, for matching and the two parts of the loss; Kirillov et al., "PointRend" (2020,
arXiv:1912.08193), section 3.1, for where the points lie.

Targets are made from label maps: every class that is in an image is one segment. Void pixels (255) belong to no
segment, which makes them background in every mask and not left out, as in the authors' semantic training and in
Hugging Face's image processor.

Deviations: no more points are drawn than the predicted mask has pixels (the paper's 12,544 hold from 448x448 crops
on; below, more would only cost time). Points come from a seed, so that a resumed run draws the same ones.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from scipy.optimize import linear_sum_assignment

from training.data.spec import VOID_ID

POINTS = 12544  # 112 x 112, section 3.2
OVERSAMPLING = 3  # PointRend's k
UNCERTAIN = (3, 4)  # PointRend's beta, 0.75: three of four points lie where the mask is least sure
CLASS_WEIGHT, BCE_WEIGHT, DICE_WEIGHT = 2.0, 5.0, 5.0  # section 4.1: the same for matching and loss
NO_OBJECT_WEIGHT = 0.1


def mask2former(
    outputs: dict[str, tf.Tensor],
    labels: tf.Tensor,
    class_weights: Sequence[float] | None = None,
    *,
    seed: tf.Tensor | Sequence[int] = (0, 0),
    points: int = POINTS,
) -> tf.Tensor:
    """2 x classification and 5 x binary cross-entropy + 5 x dice, (2,), each summed over every layer's predictions.

    The loss is the sum of both. They are means over different things: over the queries, of which one that is to
    predict "no object" weighs 0.1, and over the segments.

    `outputs`: `query_logits` (B, Q, C + 1), the last of which is "no object", and `mask_logits` (B, Q, h, w); for
    deep supervision also `aux_query_logits` (B, L, Q, C + 1) and `aux_mask_logits` (B, L, Q, h, w), one prediction
    for each earlier layer. `labels` (B, H, W) integers, 255 void; H x W need not be h x w. `seed`, two integers,
    decides all points. An image that is all void has no segment: its queries learn "no object".
    Raises ValueError for `class_weights`, which this loss has no place for: it counts masks, not pixels.
    """
    if class_weights is not None:
        raise ValueError("the loss mask2former takes no class weights")
    layers = [(outputs["query_logits"], outputs["mask_logits"])]
    if "aux_query_logits" in outputs:
        earlier = (tf.unstack(outputs[key], axis=1) for key in ("aux_query_logits", "aux_mask_logits"))
        layers += zip(*earlier, strict=True)
    present = present_classes(labels, layers[0][0].shape[-1] - 1)
    masks = tf.maximum(tf.reduce_sum(tf.cast(present, tf.float32)), 1.0)
    seeds = tf.random.experimental.stateless_split(seed, len(layers))
    return tf.add_n(
        [
            layer_loss(
                tf.cast(queries, tf.float32), tf.cast(drawn, tf.float32), labels, present, masks, one, points
            )
            for (queries, drawn), one in zip(layers, tf.unstack(seeds), strict=True)
        ]
    )


def mask2former_normalisers(
    outputs: dict[str, tf.Tensor], labels: tf.Tensor, class_weights: Sequence[float] | None
) -> tf.Tensor:
    """The sum of the queries' weights and the number of segments, (2,). Every class that is present takes a query."""
    queries, classes = outputs["query_logits"].shape[1], outputs["query_logits"].shape[2] - 1
    present = tf.reduce_sum(tf.cast(present_classes(labels, classes), tf.float32), axis=1)  # (B,)
    matched = tf.minimum(present, float(queries))
    weights = matched + NO_OBJECT_WEIGHT * (queries - matched)
    return tf.stack([tf.reduce_sum(weights), tf.reduce_sum(present)])


def layer_loss(
    query_logits: tf.Tensor,
    mask_logits: tf.Tensor,
    labels: tf.Tensor,
    present: tf.Tensor,
    masks: tf.Tensor,
    seed: tf.Tensor,
    points: int,
) -> tf.Tensor:
    """The two parts of the loss of one layer's prediction, (2,).

    `present` (B, C): the classes that are in each image, `masks` of them in the whole batch."""
    matching_seed, mask_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    points = tf.minimum(points, tf.reduce_prod(tf.shape(mask_logits)[2:]))
    cost = matching_cost(query_logits, mask_logits, labels, matching_seed, points)
    given = match(cost, present)  # (B, Q)
    classification = class_loss(query_logits, given)
    bce, dice = mask_losses(mask_logits, labels, given, query_logits.shape[-1] - 1, mask_seed, points)
    return tf.stack([CLASS_WEIGHT * classification, (BCE_WEIGHT * bce + DICE_WEIGHT * dice) / masks])


def present_classes(labels: tf.Tensor, classes: int) -> tf.Tensor:
    """Which classes each label map holds, (B, C) bool."""
    images = tf.shape(labels)[0]
    ids = tf.reshape(tf.cast(labels, tf.int32), [images, -1])
    bins = tf.reshape(ids + (VOID_ID + 1) * tf.range(images)[:, None], [-1])
    counts = tf.math.unsorted_segment_sum(tf.ones_like(bins), bins, (VOID_ID + 1) * images)
    return tf.reshape(counts, [images, VOID_ID + 1])[:, :classes] > 0


def matching_cost(
    query_logits: tf.Tensor, mask_logits: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, points: tf.Tensor
) -> tf.Tensor:
    """What it costs to give a class to a query, (B, Q, C), on points that all masks of an image share."""
    mask_logits = tf.stop_gradient(mask_logits)
    probabilities = tf.nn.softmax(tf.stop_gradient(query_logits))[..., :-1]
    classes = probabilities.shape[-1]
    images, queries = tf.shape(mask_logits)[0], mask_logits.shape[1]
    where = random_points([images, points, 2], seed)
    # Queries last: one look-up then reads a whole row of them.
    maps = tf.transpose(mask_logits, [0, 2, 3, 1])
    positions, weights = neighbours(where, tf.range(images), tf.shape(maps)[1:3])
    values = tf.gather(tf.reshape(maps, [-1, queries]), positions)  # (B, P, 4, Q)
    logits = tf.reduce_sum(weights[..., None] * values, axis=2)  # (B, P, Q)
    truth = _class_shares(labels, where, classes)  # (B, P, C)

    negative = tf.nn.softplus(
        logits
    )  # cross-entropy with background; with foreground it is less by the logit
    bce = tf.matmul(negative - logits, truth, transpose_a=True)
    bce += tf.matmul(negative, 1.0 - truth, transpose_a=True)
    sure = tf.sigmoid(logits)
    overlap = 2.0 * tf.matmul(sure, truth, transpose_a=True)
    sizes = tf.reduce_sum(sure, axis=1)[:, :, None] + tf.reduce_sum(truth, axis=1)[:, None, :]
    dice = 1.0 - (overlap + 1.0) / (sizes + 1.0)
    bce /= tf.cast(points, tf.float32)
    return BCE_WEIGHT * bce - CLASS_WEIGHT * probabilities + DICE_WEIGHT * dice


def match(cost: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
    """The class that each query is to predict, (B, Q) int32, C where it is "no object".

    The cheapest one-to-one assignment of the present classes (Kuhn's Hungarian method). With more classes than
    queries, the classes that cost most get none.
    """
    # Declared stateless, which it is: else it would count as a side effect, which deterministic runs order.
    given = tf.numpy_function(_assign, [cost, present], tf.int32, stateful=False)
    return tf.ensure_shape(given, cost.shape[:2])


def _assign(cost: np.ndarray, present: np.ndarray) -> np.ndarray:
    given = np.full(cost.shape[:2], cost.shape[2], np.int32)
    # SciPy refuses NaN. The loss will not be finite either, and the step is skipped for that.
    cost = np.where(np.isfinite(cost), cost, np.finfo(np.float32).max)
    for image, classes in enumerate(map(np.flatnonzero, present)):
        queries, columns = linear_sum_assignment(cost[image][:, classes])
        given[image, queries] = classes[columns]
    return given


def class_loss(query_logits: tf.Tensor, given: tf.Tensor) -> tf.Tensor:
    """Cross-entropy over all queries of the batch, the mean weighted 1, and 0.1 for "no object"."""
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=given, logits=query_logits)
    weight = tf.where(given == query_logits.shape[-1] - 1, NO_OBJECT_WEIGHT, 1.0)
    return tf.reduce_sum(weight * loss) / tf.reduce_sum(weight)


def mask_losses(
    mask_logits: tf.Tensor,
    labels: tf.Tensor,
    given: tf.Tensor,
    classes: int,
    seed: tf.Tensor,
    points: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Binary cross-entropy and dice of the matched masks, each a sum over them; 0 where none is matched."""
    matched = tf.where(given < classes)  # (N, 2): image and query
    image, query = tf.unstack(tf.cast(matched, tf.int32), axis=1)
    wanted = tf.gather_nd(given, matched)  # (N,)
    rows = image * tf.shape(mask_logits)[1] + query
    where = uncertain_points(tf.stop_gradient(mask_logits), rows, seed, points)
    logits = _masks_at(mask_logits, rows, where)  # (N, P)
    truth = _labels_at(labels, image, where, wanted)

    bce = tf.nn.sigmoid_cross_entropy_with_logits(labels=truth, logits=logits)
    sure = tf.sigmoid(logits)
    overlap = 2.0 * tf.reduce_sum(sure * truth, axis=1)
    dice = 1.0 - (overlap + 1.0) / (tf.reduce_sum(sure, axis=1) + tf.reduce_sum(truth, axis=1) + 1.0)
    return tf.reduce_sum(bce) / tf.cast(points, tf.float32), tf.reduce_sum(dice)


def uncertain_points(
    mask_logits: tf.Tensor, rows: tf.Tensor, seed: tf.Tensor, points: tf.Tensor
) -> tf.Tensor:
    """Points (N, P, 2) for each matched mask: the least sure of 3P random ones, and a quarter of plain random ones."""
    many_seed, rest_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    masks = tf.shape(rows)[0]
    many = random_points([masks, OVERSAMPLING * points, 2], many_seed)
    uncertain = UNCERTAIN[0] * points // UNCERTAIN[1]
    chosen = tf.math.top_k(-tf.abs(_masks_at(mask_logits, rows, many)), uncertain, sorted=False).indices
    rest = random_points([masks, points - uncertain, 2], rest_seed)
    return tf.concat([tf.gather(many, chosen, batch_dims=1), rest], axis=1)


def random_points(shape: Sequence[int | tf.Tensor], seed: tf.Tensor) -> tf.Tensor:
    """(..., 2): x and y, uniform in 0..1 from edge to edge."""
    return tf.random.stateless_uniform(shape, seed)


def neighbours(points: tf.Tensor, rows: tf.Tensor, size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The four pixels around each point, for bilinear interpolation.

    `points` (N, P, 2), x and y in 0..1 from edge to edge; `rows` (N,) says in which map of a (R, h, w) stack each
    row of points lies. Returns positions in the flattened stack (N, P, 4) int32 and weights (N, P, 4) float32. A
    pixel outside the map weighs 0, as in PyTorch's grid_sample(align_corners=False, padding_mode="zeros").
    """
    height, width = tf.unstack(size)
    x = points[..., 0] * tf.cast(width, tf.float32) - 0.5
    y = points[..., 1] * tf.cast(height, tf.float32) - 0.5
    positions, weights = [], []
    for down in (0, 1):
        for right in (0, 1):
            row, column = tf.floor(y) + down, tf.floor(x) + right
            weight = (1.0 - tf.abs(y - row)) * (1.0 - tf.abs(x - column))
            row, column = tf.cast(row, tf.int32), tf.cast(column, tf.int32)
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            positions.append(tf.where(inside, row * width + column, 0))
            weights.append(tf.where(inside, weight, 0.0))
    first = (rows * height * width)[:, None, None]
    return first + tf.stack(positions, axis=-1), tf.stack(weights, axis=-1)


def _masks_at(mask_logits: tf.Tensor, rows: tf.Tensor, points: tf.Tensor) -> tf.Tensor:
    """Masks (B, Q, h, w) read at the points of each row of B x Q, (N, P)."""
    positions, weights = neighbours(points, rows, tf.shape(mask_logits)[2:])
    return tf.reduce_sum(weights * tf.gather(tf.reshape(mask_logits, [-1]), positions), axis=-1)


def _labels_at(labels: tf.Tensor, rows: tf.Tensor, points: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
    """The share of each point, (N, P) in 0..1, that is of the wanted class (N,)."""
    positions, weights = neighbours(points, rows, tf.shape(labels)[1:])
    ids = tf.gather(tf.reshape(tf.cast(labels, tf.int32), [-1]), positions)
    return tf.reduce_sum(tf.where(ids == wanted[:, None, None], weights, 0.0), axis=-1)


def _class_shares(labels: tf.Tensor, points: tf.Tensor, classes: int) -> tf.Tensor:
    """The share of each point that is of each class, (B, P, C) in 0..1; void is of none."""
    positions, weights = neighbours(points, tf.range(tf.shape(labels)[0]), tf.shape(labels)[1:])
    ids = tf.gather(tf.reshape(tf.cast(labels, tf.int32), [-1]), positions)
    shares = tf.one_hot(ids, classes)  # (B, P, 4, C): 255 lies beyond the classes and gives zeros
    return tf.reduce_sum(weights[..., None] * shares, axis=2)
