"""Mask2Former's pixel decoder (arXiv:2112.01527, section 3.2.2 and appendix): the MSDeformAttn of Deformable DETR
(Zhu et al. 2021, arXiv:2010.04159, section 4.1 and appendix A.2) over three levels, then one step of FPN.

Each position of the levels P5, P4 and P3 looks at a few points of all three, which it chooses itself; the result
at P3 is brought to stride 4 and added to P2. Maps are (B, H, W, C); tokens are the positions of the three levels
one after another, coarse to fine, (B, N, C).

Deviations: none in what is computed. Points are read by one look-up in a table that has the four pixels around
each point in a row, zeros around the image, instead of a sampling op, which TFLite does not have.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from zoo.layers import LayerNorm, ResizeLike

NORM_EPSILON = 1e-5
GROUPS = 32  # of every group norm
LEVELS = ("P5", "P4", "P3")  # that the encoder reads, in the order of its tokens
TEMPERATURE = 10000.0  # of the sine positions, DETR's


def pixel_decoder(
    pyramid: dict[str, Any],
    *,
    hidden: int,
    heads: int,
    points: int,
    encoder_layers: int,
    feedforward: int,
    dropout: float,
) -> tuple[Any, list[Any], list[Any]]:
    """P2 to P5 -> the mask features (B, H/4, W/4, hidden), and for P5, P4, P3 their maps (B, h, w, hidden) and sine
    positions (1, h * w, hidden)."""
    maps = [_projected(pyramid[level], hidden, f"encoder_{level}") for level in LEVELS]
    sines = [SinePositions(name=f"sine_{level}")(x) for level, x in zip(LEVELS, maps, strict=True)]
    flat = layers.Reshape((-1, hidden))
    tokens = layers.Concatenate(axis=1, name="encoder_tokens")([flat(x) for x in maps])  # (B, N, hidden)
    of_level = LearnedRows(len(LEVELS), hidden, name="encoder_level_embedding")(tokens)  # (B, 3, hidden)
    positions = layers.Concatenate(axis=1, name="encoder_positions")(
        [sine + of_level[:, level : level + 1] for level, sine in enumerate(sines)]
    )
    for index in range(encoder_layers):
        prefix = f"encoder_layer{index + 1}"
        attention = DeformableAttention(heads, points, name=f"{prefix}_attention")
        branch = attention([tokens + positions, tokens, *maps])
        tokens = layer_norm(tokens + drop(branch, dropout), f"{prefix}_norm1")
        tokens = layer_norm(tokens + mlp(tokens, feedforward, dropout, prefix), f"{prefix}_norm2")
    maps = SplitLevels(name="encoder_maps")([tokens, *maps])
    x = layers.Conv2D(hidden, 1, use_bias=False, name="fpn_lateral_conv")(pyramid["P2"])
    x = group_norm(x, "fpn_lateral_norm")
    x = x + ResizeLike(name="fpn_upsample")([maps[-1], x])
    x = layers.Conv2D(hidden, 3, padding="same", use_bias=False, name="fpn_output_conv")(x)
    x = ops.relu(group_norm(x, "fpn_output_norm"))
    return layers.Conv2D(hidden, 1, name="mask_features")(x), maps, sines


def _projected(x: Any, hidden: int, prefix: str) -> Any:
    return group_norm(layers.Conv2D(hidden, 1, name=f"{prefix}_conv")(x), f"{prefix}_norm")


def group_norm(x: Any, name: str) -> Any:
    return layers.GroupNormalization(GROUPS, epsilon=NORM_EPSILON, name=name)(x)


def layer_norm(x: Any, name: str) -> Any:
    return LayerNorm(epsilon=NORM_EPSILON, name=name)(x)


def drop(x: Any, rate: float) -> Any:
    return layers.Dropout(rate)(x) if rate else x


def mlp(x: Any, width: int, dropout: float, prefix: str) -> Any:
    """A transformer's feed-forward network, with dropout within and after it: (B, N, C) -> (B, N, C)."""
    channels = x.shape[-1]
    x = drop(layers.Dense(width, activation="relu", name=f"{prefix}_mlp1")(x), dropout)
    return drop(layers.Dense(channels, name=f"{prefix}_mlp2")(x), dropout)


@keras.saving.register_keras_serializable("kerbside")
class LearnedRows(layers.Layer):
    """Rows of weights that are the same for every image: a tensor (B, ...) -> (B, rows, channels)."""

    def __init__(self, rows: int, channels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rows, self.channels = rows, channels

    def build(self, shape: Any) -> None:
        normal = keras.initializers.RandomNormal(stddev=1.0)
        self.weight = self.add_weight(shape=(self.rows, self.channels), initializer=normal, name="weight")

    def call(self, like: Any) -> Any:
        rows = ops.expand_dims(ops.convert_to_tensor(self.weight, self.compute_dtype), 0)
        batch = ops.shape(like)[0]
        alone = isinstance(batch, int) and batch == 1  # spares an exported graph the copy
        return rows if alone else ops.tile(rows, (batch, 1, 1))

    def compute_output_spec(self, like: Any) -> keras.KerasTensor:
        return keras.KerasTensor((like.shape[0], self.rows, self.channels), dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rows": self.rows, "channels": self.channels}


@keras.saving.register_keras_serializable("kerbside")
class SinePositions(layers.Layer):
    """Where each position of a map lies, as sines of its row and column (DETR, arXiv:2005.12872, appendix A.4).

    (B, H, W, C) -> (1, H * W, C): the first half of the channels tells the row, the second the column, both
    scaled to 0..2 pi over the map; C / 2 is even.
    """

    def call(self, x: Any) -> Any:
        _, height, width, channels = ops.shape(x)
        rows = ops.expand_dims(self._sines(height, channels // 2), 1)  # (H, 1, C / 2)
        columns = ops.expand_dims(self._sines(width, channels // 2), 0)  # (1, W, C / 2)
        rows = ops.tile(rows, (1, width, 1))
        columns = ops.tile(columns, (height, 1, 1))
        positions = ops.concatenate([rows, columns], axis=-1)  # (H, W, C)
        return ops.cast(ops.reshape(positions, (1, height * width, channels)), self.compute_dtype)

    def _sines(self, side: Any, channels: int) -> Any:
        """(side, channels): sine and cosine in turns, of ever lower frequency."""
        place = (ops.cast(ops.arange(side), "float32") + 1.0) * (2 * math.pi)
        place = place / (ops.cast(side, "float32") + 1e-6)
        period = TEMPERATURE ** (2 * (np.arange(channels) // 2) / channels)
        angle = ops.expand_dims(place, -1) / period.astype(np.float32)
        return ops.where(np.arange(channels) % 2 == 0, ops.sin(angle), ops.cos(angle))

    def compute_output_spec(self, x: Any) -> keras.KerasTensor:
        _, height, width, channels = x.shape
        tokens = height * width if height and width else None
        return keras.KerasTensor((1, tokens, channels), dtype=self.compute_dtype)


@keras.saving.register_keras_serializable("kerbside")
class SplitLevels(layers.Layer):
    """[tokens (B, N, C), then the maps they came from] -> those maps with the tokens' content, (B, H, W, C) each."""

    def call(self, inputs: Sequence[Any]) -> list[Any]:
        tokens, *maps = inputs
        found, start = [], 0
        for like in maps:
            height, width = ops.shape(like)[1:3]
            level = tokens[:, start : start + height * width]
            found.append(ops.reshape(level, (-1, height, width, tokens.shape[-1])))
            start = start + height * width
        return found

    def compute_output_spec(self, inputs: Sequence[Any]) -> list[keras.KerasTensor]:
        tokens, *maps = inputs
        return [
            keras.KerasTensor((*like.shape[:3], tokens.shape[-1]), dtype=self.compute_dtype) for like in maps
        ]


@keras.saving.register_keras_serializable("kerbside")
class DeformableAttention(layers.Layer):
    """Multi-scale deformable attention: [query (B, N, C), tokens (B, N, C), the L maps they are of] -> (B, N, C).

    Each of the N positions chooses, for each head and level, `points` points around its own place and how much
    each counts; what it gets is their sum, read bilinearly from the projected tokens, zero outside the map.
    """

    def __init__(self, heads: int, points: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.heads, self.points = heads, points

    def build(self, shapes: Sequence[Any]) -> None:
        channels, levels = shapes[0][-1], len(shapes) - 2
        count = self.heads * levels * self.points
        around = keras.initializers.Constant(self._compass(levels))
        # In float32 throughout: half precision would place points some hundredths of a pixel wrong.
        self.sampling_offsets = layers.Dense(
            2 * count, kernel_initializer="zeros", bias_initializer=around, dtype="float32", name="offsets"
        )
        self.attention_weights = layers.Dense(
            count, kernel_initializer="zeros", dtype="float32", name="weights"
        )
        self.value = layers.Dense(channels, name="value")
        self.output_projection = layers.Dense(channels, name="output")
        for part in (self.sampling_offsets, self.attention_weights, self.value, self.output_projection):
            part.build((None, None, channels))

    def _compass(self, levels: int) -> np.ndarray:
        """The first offsets: each head looks in a direction of its own, its points 1, 2, 3, ... pixels away."""
        angle = np.arange(self.heads) * 2 * np.pi / self.heads
        direction = np.stack([np.cos(angle), np.sin(angle)], -1)
        direction /= np.abs(direction).max(-1, keepdims=True)
        steps = np.arange(1, self.points + 1)
        offsets = direction[:, None, None] * steps[:, None]  # (heads, 1, points, 2)
        return np.tile(offsets, (1, levels, 1, 1)).reshape(-1).astype(np.float32)

    def call(self, inputs: Sequence[Any]) -> Any:
        query, tokens, *maps = inputs
        sides = [ops.shape(x)[1:3] for x in maps]
        channels, depth = tokens.shape[-1], tokens.shape[-1] // self.heads
        table = self._table(self.value(tokens), sides)  # (B * cells * heads, 4 * depth)
        batch, count = ops.shape(query)[:2]
        grouped = (batch, count, self.heads, len(sides) * self.points)
        share = ops.softmax(ops.reshape(self.attention_weights(query), grouped), axis=-1)
        rows, right, down = self._cells(ops.reshape(self.sampling_offsets(query), (*grouped[:3], -1)), sides)
        corners = [(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right]
        flat = [ops.reshape(share * corner, (-1, grouped[3])) for corner in corners]
        weights = ops.reshape(
            ops.stack(flat, axis=-1), (-1, 1, 4 * grouped[3])
        )  # (B * N * heads, 1, 4 L points)
        found = ops.take(table, ops.reshape(rows, (-1,)), axis=0)  # (B * N * heads * L * points, 4 * depth)
        found = ops.reshape(found, (-1, 4 * grouped[3], depth))
        mixed = ops.matmul(ops.cast(weights, self.compute_dtype), found)  # (B * N * heads, 1, depth)
        return self.output_projection(ops.reshape(mixed, (batch, count, channels)))

    def _table(self, values: Any, sides: Sequence[tuple[Any, Any]]) -> Any:
        """Tokens (B, N, C) -> a row for each cell between four pixels and each head: those pixels' values.

        A map of h x w pixels with zeros around has (h + 1) x (w + 1) cells.
        """
        depth, start, found = values.shape[-1] // self.heads, 0, []
        for height, width in sides:
            x = ops.reshape(values[:, start : start + height * width], (-1, height, width, values.shape[-1]))
            x = ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
            corners = [x[:, :-1, :-1], x[:, :-1, 1:], x[:, 1:, :-1], x[:, 1:, 1:]]
            cells = (height + 1) * (width + 1) * self.heads
            rows = [ops.reshape(corner, (-1, cells, depth)) for corner in corners]
            found.append(ops.concatenate(rows, axis=-1))  # (B, cells * heads, 4 * depth)
            start = start + height * width
        return ops.reshape(ops.concatenate(found, axis=1), (-1, 4 * depth))

    def _cells(self, offsets: Any, sides: Sequence[tuple[Any, Any]]) -> tuple[Any, Any, Any]:
        """Offsets (B, N, heads, L * points * 2) in pixels, x before y -> the row of the table for each point, and
        how far to the right and down in its cell it lies, 0..1; all (B, N, heads, L * points)."""
        places_y, places_x = self._places(sides)  # (1, N, 1, 1), in 0..1
        heights, widths = (self._of_points([side[axis] for side in sides]) for axis in (0, 1))
        # A place in 0..1 lies at place * width - 1/2 in pixels, and 1 further with the zeros around. Outside these
        # all is zero, so that points may be drawn to the border.
        x = ops.clip(offsets[..., 0::2] + places_x * widths + 0.5, 0.0, widths + 1.0)
        y = ops.clip(offsets[..., 1::2] + places_y * heights + 0.5, 0.0, heights + 1.0)
        column, row = ops.minimum(ops.floor(x), widths), ops.minimum(ops.floor(y), heights)
        cells = [(height + 1) * (width + 1) for height, width in sides]
        starts = self._of_points([sum(cells[:level]) for level in range(len(cells))])
        cell = ops.cast(starts + row * (widths + 1.0) + column, "int32")
        batch = ops.shape(offsets)[0]
        if not (isinstance(batch, int) and batch == 1):
            cell = cell + sum(cells) * ops.reshape(ops.arange(batch), (-1, 1, 1, 1))
        heads = ops.reshape(ops.arange(self.heads), (1, 1, -1, 1))
        return cell * self.heads + heads, x - column, y - row

    def _places(self, sides: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
        """The centre of each token's pixel on its own map, y and x in 0..1: (1, N, 1, 1) each."""
        rows, columns = [], []
        for height, width in sides:
            y = (ops.cast(ops.arange(height), "float32") + 0.5) / ops.cast(height, "float32")
            x = (ops.cast(ops.arange(width), "float32") + 0.5) / ops.cast(width, "float32")
            rows.append(ops.reshape(ops.tile(ops.expand_dims(y, 1), (1, width)), (-1,)))
            columns.append(ops.reshape(ops.tile(ops.expand_dims(x, 0), (height, 1)), (-1,)))
        return tuple(ops.reshape(ops.concatenate(part), (1, -1, 1, 1)) for part in (rows, columns))

    def _of_points(self, of_levels: Sequence[Any]) -> Any:
        """One number a level -> one a point: (L * points,) float32."""
        return ops.stack([ops.cast(value, "float32") for value in of_levels for _ in range(self.points)])

    def compute_output_spec(self, inputs: Sequence[Any]) -> keras.KerasTensor:
        return keras.KerasTensor(inputs[0].shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads, "points": self.points}
