"""SAM's image encoder: a plain ViT with windowed attention (Li et al. 2022, arXiv:2203.16527, "ViTDet").

Tokens keep their place in the image, (B, h, w, C), all the way. It gives one level and no pyramid, and its
position embeddings fix the image's size, so it is no row of BACKBONES. Sizes of ViT-B, -L and -H: Dosovitskiy
et al. 2021, table 1; which blocks attend globally: SAM (arXiv:2304.02643), appendix A, and its code.

Deviations, none of which changes what is computed: linear layers are 1x1 convolutions, which quantises with a
scale per channel; windows are cut and attention is laid out in at most four axes, which is what small devices
and their delegates take.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import initializers, layers, ops

from zoo import contract
from zoo.layers import LayerNorm, gelu, imagenet_normalisation

NORM_EPSILON = 1e-6
# Beyond so many tokens the heads attend one after the other: at 1024x1024 the scores of ViT-B's 12 take 800 MB.
MANY = 1024
Pair = tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """Sizes of a ViT. `window` is the side of a window in tokens, `global_blocks` are the blocks (from 0) that
    attend to the whole image instead, `outputs` the channels that the neck leaves."""

    patch: int
    width: int
    blocks: int
    heads: int
    ffn_width: int
    window: int
    global_blocks: Sequence[int]
    outputs: int

    def __post_init__(self) -> None:
        for name in ("patch", "width", "blocks", "heads", "ffn_width", "window", "outputs"):
            contract.check_count(f"the encoder's {name}", getattr(self, name))
        if self.width % self.heads:
            raise ValueError(f"the encoder's width {self.width} cannot be shared out to {self.heads} heads")
        is_list = isinstance(self.global_blocks, Sequence) and not isinstance(self.global_blocks, str)
        if not is_list or not all(block in range(self.blocks) for block in self.global_blocks):
            raise ValueError(
                f"global_blocks must be numbers of blocks, 0 to {self.blocks - 1}, not {self.global_blocks!r}"
            )


def vit(layout: Layout, image_size: Pair, name: str) -> keras.Model:
    """The encoder: RGB 0..255 (B, H, W, 3) -> the image embedding (B, H / patch, W / patch, outputs).

    Raises ValueError when a side of `image_size` is no multiple of the patch.
    """
    if any(side % layout.patch for side in image_size):
        raise ValueError(f"image_size must be multiples of the patch, {layout.patch} pixels: {image_size}")
    image = contract.image_input(image_size)
    x = layers.Conv2D(
        layout.width, layout.patch, strides=layout.patch, kernel_initializer=_small(), name="patch_embedding"
    )(imagenet_normalisation(image))  # (B, h, w, width)
    x = PositionEmbedding(name="position")(x)
    for block in range(layout.blocks):
        window = None if block in layout.global_blocks else layout.window
        x = _block(x, layout, window, f"block{block}")
    x = layers.Conv2D(layout.outputs, 1, use_bias=False, name="neck_reduce")(x)
    x = _norm(x, "neck_reduce_norm")
    x = layers.Conv2D(layout.outputs, 3, padding="same", use_bias=False, name="neck_smooth")(x)
    return keras.Model(image, _norm(x, "neck_smooth_norm"), name=name)


def _block(x: Any, layout: Layout, window: int | None, name: str) -> Any:
    """Attention and a two-layer perceptron, each behind a norm and with a shortcut around."""
    y = _norm(x, f"{name}_attention_norm")
    size = y.shape[1:3]
    if window is not None:
        y = cut_windows(y, window)  # (B * windows, window, window, C)
    y = _linear(y, 3 * layout.width, f"{name}_qkv")
    y = RelativeAttention(layout.heads, name=f"{name}_attention")(y)
    y = _linear(y, layout.width, f"{name}_projection")
    if window is not None:
        y = join_windows(y, size)
    x = layers.Add(name=f"{name}_attention_add")([x, y])
    y = _linear(_norm(x, f"{name}_ffn_norm"), layout.ffn_width, f"{name}_ffn_in")
    y = _linear(gelu(y), layout.width, f"{name}_ffn_out")
    return layers.Add(name=f"{name}_ffn_add")([x, y])


def cut_windows(x: Any, side: int) -> Any:
    """(B, h, w, C) -> (B * windows, side, side, C), rows of windows first.

    Where `side` does not divide h or w, zeros are added below and to the right; they are attended to, as the
    authors' code has it.
    """
    height, width, channels = x.shape[1:]
    rows, columns = -(-height // side), -(-width // side)
    x = ops.pad(x, ((0, 0), (0, rows * side - height), (0, columns * side - width), (0, 0)))
    x = ops.reshape(x, (-1, side, columns, side * channels))  # (B * rows, side, columns, side * C)
    x = ops.transpose(x, (0, 2, 1, 3))  # (B * rows, columns, side, side * C)
    return ops.reshape(x, (-1, side, side, channels))


def join_windows(x: Any, size: Pair) -> Any:
    """The inverse of `cut_windows`: -> (B, *size, C), without what was added."""
    (height, width), (side, channels) = size, x.shape[2:]
    rows, columns = -(-height // side), -(-width // side)
    x = ops.reshape(x, (-1, columns, side, side * channels))  # (B * rows, columns, side, side * C)
    x = ops.transpose(x, (0, 2, 1, 3))  # (B * rows, side, columns, side * C)
    x = ops.reshape(x, (-1, rows * side, columns * side, channels))
    return x[:, :height, :width, :]


@keras.saving.register_keras_serializable("kerbside")
class PositionEmbedding(layers.Layer):
    """Adds a learnt vector to each place of a map: (B, h, w, C) -> the same. Weight: pos_embed (1, h, w, C)."""

    def build(self, input_shape: Any) -> None:
        self.pos_embed = self.add_weight(
            shape=(1, *input_shape[1:]), initializer=_small(), name="pos_embed", trainable=True
        )

    def call(self, x: Any) -> Any:
        return x + self.pos_embed


@keras.saving.register_keras_serializable("kerbside")
class RelativeAttention(layers.Layer):
    """Multi-head self-attention over a map with decomposed relative positions: (B, h, w, 3 C) -> (B, h, w, C).

    The input is query, key and value one after the other, each shared out to `heads`. The score of a query at
    (i, j) and a key at (k, l) is q.key / sqrt(d) + q.rel_pos_h[i - k + h - 1] + q.rel_pos_w[j - l + w - 1], with
    d = C / heads (ViTDet, section 3; MViTv2, arXiv:2112.01526, equation 4). Weights: rel_pos_h (2 h - 1, d),
    rel_pos_w (2 w - 1, d). Scores and softmax are float32 under any dtype policy.
    """

    def __init__(self, heads: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.heads = heads

    def build(self, input_shape: Any) -> None:
        _, height, width, channels = input_shape
        self.depth = channels // 3 // self.heads
        for name, side in (("rel_pos_h", height), ("rel_pos_w", width)):
            shape = (2 * side - 1, self.depth)
            setattr(self, name, self.add_weight(shape=shape, initializer=_small(), name=name))

    def call(self, x: Any) -> Any:
        height, width, channels = x.shape[1:]
        query, key, value = (self._split(part) for part in ops.split(x, 3, axis=-1))  # (B, heads, h * w, d)
        if height * width > MANY:
            heads = [[part[:, head] for part in (query, key, value)] for head in range(self.heads)]
            found = ops.stack([self._attend(head, height, width) for head in heads], axis=1)
        else:
            flat = [ops.reshape(part, (-1, height * width, self.depth)) for part in (query, key, value)]
            found = self._attend(flat, height, width)  # (B * heads, h * w, d)
            found = ops.reshape(found, (-1, self.heads, height * width, self.depth))
        return ops.reshape(ops.transpose(found, (0, 2, 1, 3)), (-1, height, width, channels // 3))

    def _split(self, x: Any) -> Any:
        """(B, h, w, C) -> (B, heads, h * w, d)."""
        x = ops.reshape(x, (-1, x.shape[1] * x.shape[2], self.heads, self.depth))
        return ops.transpose(x, (0, 2, 1, 3))

    def _attend(self, parts: Sequence[Any], height: int, width: int) -> Any:
        """One head, or several of them in the batch: three (B, h * w, d) -> (B, h * w, d)."""
        (query, key, value), places = parts, height * width
        scores = ops.matmul(query * self.depth**-0.5, ops.transpose(key, (0, 2, 1)))
        scores = ops.reshape(ops.cast(scores, "float32"), (-1, places, height, width))
        scores = scores + self._along_rows(query, height, width) + self._along_columns(query, height, width)
        shares = ops.softmax(ops.reshape(scores, (-1, places, places)))
        return ops.matmul(ops.cast(shares, self.compute_dtype), value)

    def _along_rows(self, query: Any, height: int, width: int) -> Any:
        """The part of the scores that the keys of a row share: (B, h * w, h, 1)."""
        table = ops.take(self.rel_pos_h, _offsets(height), axis=0)  # (h, key's row, d)
        # Row by row of the queries: one plain product of (h, B * w, d) and (h, d, h).
        query = ops.transpose(ops.reshape(query, (-1, height, width, self.depth)), (1, 0, 2, 3))
        found = self._per_line(query, table)  # (h, B * w, h)
        found = ops.transpose(ops.reshape(found, (height, -1, width, height)), (1, 0, 2, 3))
        return ops.reshape(found, (-1, height * width, height, 1))

    def _along_columns(self, query: Any, height: int, width: int) -> Any:
        """The part of the scores that the keys of a column share: (B, h * w, 1, w)."""
        table = ops.take(self.rel_pos_w, _offsets(width), axis=0)  # (w, key's column, d)
        query = ops.transpose(ops.reshape(query, (-1, height, width, self.depth)), (2, 0, 1, 3))
        found = self._per_line(query, table)  # (w, B * h, w)
        found = ops.transpose(ops.reshape(found, (width, -1, height, width)), (1, 2, 0, 3))
        return ops.reshape(found, (-1, height * width, 1, width))

    def _per_line(self, query: Any, table: Any) -> Any:
        lines = query.shape[0]
        table = ops.transpose(table, (0, 2, 1))
        found = ops.matmul(ops.reshape(query, (lines, -1, self.depth)), table)
        return ops.cast(found, "float32")

    def compute_output_spec(self, x: Any) -> keras.KerasTensor:
        return keras.KerasTensor((*x.shape[:-1], x.shape[-1] // 3), dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads}


def _offsets(side: int) -> np.ndarray:
    """Which relative position stands between query i and key k: (side, side), i - k + side - 1."""
    places = np.arange(side)
    return places[:, None] - places[None, :] + side - 1


def _norm(x: Any, name: str) -> Any:
    return LayerNorm(epsilon=NORM_EPSILON, name=name)(x)


def _linear(x: Any, filters: int, name: str) -> Any:
    """The same linear layer at every place: (B, h, w, C) -> (B, h, w, filters)."""
    return layers.Conv2D(filters, 1, kernel_initializer=_small(), name=name)(x)


def _small() -> Any:
    return initializers.TruncatedNormal(stddev=0.02)
