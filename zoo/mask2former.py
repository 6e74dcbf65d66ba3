"""Mask2Former (Cheng et al. 2022, arXiv:2112.01527) for semantic segmentation: queries that each find a class and a
mask, and attend only to what their mask of the layer before covers.

The pixel decoder is in zoo/pixel_decoder.py. Sizes are the paper's (section 4.1): 100 queries, 6 encoder and 9
decoder layers, 256 channels; its Swin-L on ImageNet-21K has 200 queries.

Deviations:

- Images are not padded to multiples of 32 first; odd sides are rounded up level by level.
- Masks for the attention come from mask features that were resized, not from masks that were: resizing and the
  product with the queries are both linear, so the order does not matter, and this way there is little to resize.
- `logits` are the logarithm of the semantic scores (section 3 of MaskFormer, arXiv:2107.06278: the sum over
  queries of class probability times mask probability). Their softmax is the scores, scaled to sum to 1, and their
  argmax the scores' own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import layers, ops

from zoo import backbones, contract
from zoo.layers import LayerNorm, ResizeLike, resize
from zoo.pixel_decoder import GROUPS, LEVELS, NORM_EPSILON, LearnedRows, drop, layer_norm, mlp, pixel_decoder

QUERY_LOGITS = "query_logits"
MASK_LOGITS = "mask_logits"
AUX_QUERY_LOGITS = "aux_query_logits"
AUX_MASK_LOGITS = "aux_mask_logits"
LEAST_SCORE = 1e-8  # that a logarithm is taken of
BLOCKED = -1e9  # added to the score of what a query may not attend to


def mask2former(
    *,
    classes: int = 19,
    image_size: contract.ImageSize = None,
    backbone: str = "swin_tiny",
    backbone_sizes: Mapping[str, Any] | None = None,
    queries: int = 100,
    hidden: int = 256,
    heads: int = 8,
    points: int = 4,
    encoder_layers: int = 6,
    encoder_feedforward: int = 1024,
    decoder_layers: int = 9,
    decoder_feedforward: int = 2048,
    dropout: float = 0.0,
    score_stride: int = 1,
    batch_norm_momentum: float = 0.99,
) -> keras.Model:
    """Mask2Former: image (B, H, W, 3), RGB 0..255 -> a dict, all float32:

    - `logits` (B, H, W, classes): the logarithm of the semantic scores, at most log(queries);
    - `query_logits` (B, queries, classes + 1), before the softmax; the last is "no object";
    - `mask_logits` (B, queries, ceil(H/4), ceil(W/4)), before the sigmoid;
    - `aux_query_logits` (B, L, ...) and `aux_mask_logits` (B, L, ...): what the L = decoder_layers earlier layers
      predict, the untouched queries first, for deep supervision; a graph that does not use them leaves them out.

    image_size is (H, W), or None for any size. `backbone_sizes` replaces fields of the backbone's row. `hidden`
    channels are shared by encoder, decoder and masks. `score_stride` 1 resizes masks to the image before they
    are summed, as the paper's code does; 4 sums them at stride 4 and resizes the scores, which takes a 16th of the
    work and memory and moves borders by a fraction of a pixel. Raises ValueError on a value that makes no sense.
    """
    _check(classes, queries, hidden, heads, points, encoder_layers, decoder_layers, score_stride)
    contract.check_counts(encoder_feedforward=encoder_feedforward, decoder_feedforward=decoder_feedforward)
    contract.check_fraction("dropout", dropout)

    image = contract.image_input(contract.check_image_size(image_size))
    features = backbones.build(backbone, image_size, 32, batch_norm_momentum, backbone_sizes)
    mask_features, maps, positions = pixel_decoder(
        features(image),
        hidden=hidden,
        heads=heads,
        points=points,
        encoder_layers=encoder_layers,
        feedforward=encoder_feedforward,
        dropout=dropout,
    )
    predictions = _transformer_decoder(
        mask_features, maps, positions, queries, heads, decoder_layers, decoder_feedforward, dropout
    )
    class_predictor = layers.Dense(classes + 1, dtype="float32", name="class_predictor")
    found = [(class_predictor(query), mask) for query, mask in predictions]
    return keras.Model(image, _outputs(image, mask_features, found, score_stride), name="mask2former")


def _check(
    classes: Any,
    queries: Any,
    hidden: Any,
    heads: Any,
    points: Any,
    encoder_layers: Any,
    decoder_layers: Any,
    score_stride: Any,
) -> None:
    contract.check_classes(classes)
    contract.check_counts(
        queries=queries, points=points, encoder_layers=encoder_layers, decoder_layers=decoder_layers,
        heads=heads, hidden=hidden,
    )  # fmt: skip
    for name, divisor in (("group norm's groups", GROUPS), ("heads", heads)):
        if hidden % divisor:
            raise ValueError(f"hidden must be a multiple of {divisor} ({name}), not {hidden!r}")
    if score_stride not in (1, 4):
        raise ValueError(f"score_stride must be 1 or 4, not {score_stride!r}")


def _outputs(
    image: Any, mask_features: Any, found: list[tuple[Any, Any]], score_stride: int
) -> dict[str, Any]:
    """The outputs by name, of the class logits and mask embeddings of every prediction, the last being the best."""
    *earlier, (query_logits, embedding) = found
    product = MaskProduct(dtype="float32", name="mask_product")
    masks = product([mask_features, embedding])  # (B, H/4, W/4, Q)
    scores = SemanticScores(score_stride, dtype="float32", name=contract.LOGITS)
    aux_masks = [ops.transpose(product([mask_features, mask]), (0, 3, 1, 2)) for _, mask in earlier]
    return {
        contract.LOGITS: scores([query_logits, masks, image]),
        QUERY_LOGITS: query_logits,
        MASK_LOGITS: ops.transpose(masks, (0, 3, 1, 2)),
        AUX_QUERY_LOGITS: ops.stack([query for query, _ in earlier], axis=1),
        AUX_MASK_LOGITS: ops.stack(aux_masks, axis=1),
    }


def _transformer_decoder(
    mask_features: Any,
    maps: Sequence[Any],
    positions: Sequence[Any],
    queries: int,
    heads: int,
    decoder_layers: int,
    feedforward: int,
    dropout: float,
) -> list[tuple[Any, Any]]:
    """Masked attention, self-attention and an MLP, layer by layer (figure 2, right), each layer on the next level.

    Gives (normalised queries (B, Q, hidden), mask embedding (B, Q, hidden)) before the first and after each layer.
    """
    hidden = mask_features.shape[-1]
    resized = [
        ResizeLike(dtype="float32", name=f"mask_features_{level}")([mask_features, x])
        for level, x in zip(LEVELS, maps, strict=True)
    ]
    of_level = LearnedRows(len(maps), hidden, name="decoder_level_embedding")(mask_features)
    flat = layers.Reshape((-1, hidden))
    memory = [flat(x) + of_level[:, level : level + 1] for level, x in enumerate(maps)]  # (B, h * w, hidden)
    keys = [tokens + position for tokens, position in zip(memory, positions, strict=True)]
    x = LearnedRows(queries, hidden, name="query_features")(mask_features)  # (B, Q, hidden)
    place = LearnedRows(queries, hidden, name="query_positions")(mask_features)

    norm = LayerNorm(epsilon=NORM_EPSILON, name="decoder_norm")
    embedder = [
        layers.Dense(hidden, activation=activation, name=f"mask_embedding{index + 1}")
        for index, activation in enumerate(("relu", "relu", None))
    ]
    predictions = [_prediction(x, norm, embedder)]
    for index in range(decoder_layers):
        level, prefix = index % len(maps), f"decoder_layer{index + 1}"
        mask = AttentionMask(dtype="float32", name=f"{prefix}_mask")([resized[level], predictions[-1][1]])
        cross = MultiHeadAttention(heads, name=f"{prefix}_cross_attention")
        branch = cross([x + place, keys[level], memory[level], mask])
        x = layer_norm(x + drop(branch, dropout), f"{prefix}_norm1")
        branch = MultiHeadAttention(heads, name=f"{prefix}_self_attention")([x + place, x + place, x])
        x = layer_norm(x + drop(branch, dropout), f"{prefix}_norm2")
        x = layer_norm(x + mlp(x, feedforward, dropout, prefix), f"{prefix}_norm3")
        predictions.append(_prediction(x, norm, embedder))
    return predictions


def _prediction(x: Any, norm: Any, embedder: Sequence[Any]) -> tuple[Any, Any]:
    normalised = norm(x)
    embedding = normalised
    for dense in embedder:
        embedding = dense(embedding)
    return normalised, embedding


@keras.saving.register_keras_serializable("kerbside")
class MaskProduct(layers.Layer):
    """How well each position fits each query: [map (B, H, W, C), embedding (B, Q, C)] -> (B, H, W, Q)."""

    def call(self, inputs: Sequence[Any]) -> Any:
        return _product(*inputs)

    def compute_output_spec(self, inputs: Sequence[Any]) -> keras.KerasTensor:
        x, embedding = inputs
        return keras.KerasTensor((*x.shape[:3], embedding.shape[1]), dtype=self.compute_dtype)


def _product(x: Any, embedding: Any) -> Any:
    _, height, width, channels = ops.shape(x)
    x = ops.matmul(ops.reshape(x, (-1, height * width, channels)), ops.transpose(embedding, (0, 2, 1)))
    return ops.reshape(x, (-1, height, width, embedding.shape[1]))


@keras.saving.register_keras_serializable("kerbside")
class AttentionMask(layers.Layer):
    """Where each query's mask is off (section 3.2.1, equation 3): BLOCKED there, 0 where it is on.

    [map (B, H, W, C), embedding (B, Q, C)] -> (B, 1, Q, H * W). A query whose mask is off everywhere may attend to
    everything. No gradient flows through it.
    """

    def call(self, inputs: Sequence[Any]) -> Any:
        x, embedding = inputs
        x = ops.reshape(x, (ops.shape(x)[0], -1, x.shape[-1]))  # (B, H * W, C)
        masks = ops.stop_gradient(ops.matmul(embedding, ops.transpose(x, (0, 2, 1))))  # (B, Q, H * W)
        anywhere = ops.max(masks, axis=-1, keepdims=True) >= 0.0
        blocked = ops.logical_and(masks < 0.0, anywhere)
        return ops.expand_dims(ops.cast(blocked, "float32") * BLOCKED, 1)

    def compute_output_spec(self, inputs: Sequence[Any]) -> keras.KerasTensor:
        x, embedding = inputs
        _, height, width, _ = x.shape
        tokens = height * width if height and width else None
        return keras.KerasTensor((x.shape[0], 1, embedding.shape[1], tokens), dtype=self.compute_dtype)


@keras.saving.register_keras_serializable("kerbside")
class MultiHeadAttention(layers.Layer):
    """[query (B, Q, C), key (B, N, C), value (B, N, C), optionally a mask (B, 1, Q, N)] -> (B, Q, C).

    The mask is added to the scores. Keras' own layer is made of einsum, which TFLite does not have built in.
    """

    def __init__(self, heads: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.heads = heads

    def build(self, shapes: Sequence[Any]) -> None:
        channels = shapes[0][-1]
        self.query, self.key, self.value, self.projection = (
            layers.Dense(channels, name=name) for name in ("query", "key", "value", "projection")
        )
        for part in (self.query, self.key, self.value, self.projection):
            part.build((None, None, channels))

    def call(self, inputs: Sequence[Any]) -> Any:
        query, key, value, *mask = inputs
        channels = query.shape[-1]
        depth = channels // self.heads
        query = self._heads(self.query(query) * depth**-0.5)
        key = ops.transpose(self._heads(self.key(key)), (0, 1, 3, 2))
        scores = ops.cast(ops.matmul(query, key), "float32")  # (B, heads, Q, N), for the softmax's sake
        if mask:
            scores = scores + ops.cast(mask[0], "float32")
        weights = ops.cast(ops.softmax(scores, axis=-1), self.compute_dtype)
        x = ops.transpose(ops.matmul(weights, self._heads(self.value(value))), (0, 2, 1, 3))
        return self.projection(ops.reshape(x, (-1, ops.shape(x)[1], channels)))

    def _heads(self, x: Any) -> Any:
        """(B, N, C) -> (B, heads, N, C / heads)."""
        x = ops.reshape(x, (-1, ops.shape(x)[1], self.heads, x.shape[-1] // self.heads))
        return ops.transpose(x, (0, 2, 1, 3))

    def compute_output_spec(self, inputs: Sequence[Any]) -> keras.KerasTensor:
        return keras.KerasTensor(inputs[0].shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads}


@keras.saving.register_keras_serializable("kerbside")
class SemanticScores(layers.Layer):
    """The logarithm of the sum over queries of class times mask probability, at the image's size.

    [class logits (B, Q, C + 1), masks (B, h, w, Q), image (B, H, W, 3)] -> (B, H, W, C).
    """

    def __init__(self, stride: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stride = stride

    def call(self, inputs: Sequence[Any]) -> Any:
        query_logits, masks, image = inputs
        classes = ops.softmax(query_logits, axis=-1)[..., :-1]  # (B, Q, C), "no object" left out
        size = ops.shape(image)[1:3]
        if self.stride == 1:
            masks = resize(masks, size)
        scores = _product(ops.sigmoid(masks), ops.transpose(classes, (0, 2, 1)))
        if self.stride != 1:
            scores = resize(scores, size)
        return ops.log(ops.maximum(scores, LEAST_SCORE))

    def compute_output_spec(self, inputs: Sequence[Any]) -> keras.KerasTensor:
        query_logits, _, image = inputs
        return keras.KerasTensor((*image.shape[:3], query_logits.shape[-1] - 1), dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "stride": self.stride}
