"""Swin Transformer (Liu et al. 2021, arXiv:2103.14030, section 3) as a pyramid for dense prediction.

Self-attention within windows, which move by half a window from block to block; the sides halve and the
channels double from stage to stage. Each level has a layer norm of its own at its end, as in the authors'
networks for detection and segmentation.

Deviations:

- Images of any size: each stage is padded with zeros, below and on the right, to whole windows, as in the
  authors' networks for dense prediction. The padding takes part in the attention there as here.
- Windows are cut in two steps of rank 4, and a cyclic shift is a concatenation of two slices: both give the
  very values of the reference and stay within what TFLite has built in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers, ops

from zoo import contract
from zoo.layers import LayerNorm, PadToMultiple, gelu, imagenet_normalisation, normalised, pad_to_multiple

NORM_EPSILON = 1e-5
PATCH = 4  # a side of the images' patches, in pixels
OUTSIDE = -100.0  # added to the score of two positions that are no neighbours in the image


@dataclass(frozen=True)
class Sizes:
    """A Swin Transformer: `blocks` and attention `heads` of each stage, the first stage's `channels`, the side
    of a `window`, the MLP's width over the channels, and the share of residual branches that training skips
    (stochastic depth, arXiv:1603.09382; it rises linearly from 0 to `drop_path` at the last block). Where `scale` is
    given, image * scale + offset, by channel, stands in place of ImageNet's normalisation."""

    blocks: Sequence[int]
    heads: Sequence[int]
    channels: int
    window: int
    mlp_ratio: int = 4
    drop_path: float = 0.3
    scale: tuple[float, float, float] | None = None
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if len(self.blocks) != len(contract.LEVELS) or len(self.heads) != len(contract.LEVELS):
            raise ValueError(
                f"a Swin Transformer has four stages, not {len(self.blocks)} blocks and {len(self.heads)} heads"
            )
        for name, values in (("blocks", self.blocks), ("heads", self.heads)):
            for value in values:
                contract.check_count(name, value)
        contract.check_count("channels", self.channels)
        contract.check_count("window", self.window, at_least=2)
        contract.check_count("mlp_ratio", self.mlp_ratio)
        contract.check_fraction("drop_path", self.drop_path)
        for stage, heads in enumerate(self.heads):
            if (self.channels << stage) % heads:
                raise ValueError(
                    f"heads must divide the channels of their stage, and {heads} does not divide "
                    f"{self.channels << stage}"
                )


# The paper's variants (section 3.3, tables 1 and 7). Base and Large have the window of their weights of 384
# pixels, with which Mask2Former has them; drop_path is Mask2Former's.
SIZES = {
    "swin_tiny": Sizes(blocks=(2, 2, 6, 2), heads=(3, 6, 12, 24), channels=96, window=7),
    "swin_small": Sizes(blocks=(2, 2, 18, 2), heads=(3, 6, 12, 24), channels=96, window=7),
    "swin_base": Sizes(blocks=(2, 2, 18, 2), heads=(4, 8, 16, 32), channels=128, window=12),
    "swin_large": Sizes(blocks=(2, 2, 18, 2), heads=(6, 12, 24, 48), channels=192, window=12),
}


def swin(sizes: Sizes, image_size: contract.ImageSize, output_stride: int, momentum: float) -> keras.Model:
    """A Swin Transformer: RGB 0..255 -> P2 to P5 with 1, 2, 4 and 8 times `sizes.channels`, each normalised.

    It has neither dilation nor batch norm: `output_stride` is 32 and `momentum` unused.
    """
    image = contract.image_input(image_size)
    x = normalised(image, imagenet_normalisation, sizes.scale, sizes.offset)
    x = PadToMultiple(PATCH, name="patches_pad")(x)
    x = layers.Conv2D(sizes.channels, PATCH, strides=PATCH, name="patches_conv")(x)  # (B, H/4, W/4, channels)
    x = _norm(x, "patches_norm")
    pyramid, done = {}, 0
    for stage, level in enumerate(contract.LEVELS):
        if stage:
            x = _patch_merging(x, f"stage{stage + 1}_merge")
        for block in range(sizes.blocks[stage]):
            shift = sizes.window // 2 if block % 2 else 0
            skipped = sizes.drop_path * done / max(1, sum(sizes.blocks) - 1)
            prefix = f"stage{stage + 1}_block{block + 1}"
            x = _block(x, sizes.heads[stage], sizes.window, shift, sizes.mlp_ratio, skipped, prefix)
            done += 1
        pyramid[level] = _norm(x, f"stage{stage + 1}_norm")
    return keras.Model(image, pyramid, name=contract.BACKBONE)


def _block(x: Any, heads: int, window: int, shift: int, mlp_ratio: int, skipped: float, prefix: str) -> Any:
    """Attention within windows, then an MLP, each with a shortcut (figure 3b): (B, H, W, C) -> (B, H, W, C)."""
    branch = _norm(x, f"{prefix}_norm1")
    branch = WindowAttention(heads, window, shift, name=f"{prefix}_attention")(branch)
    x = x + _drop_path(branch, skipped, f"{prefix}_drop1")
    channels = x.shape[-1]
    branch = _norm(x, f"{prefix}_norm2")
    branch = gelu(_dense(channels * mlp_ratio, f"{prefix}_mlp1")(branch))
    branch = _dense(channels, f"{prefix}_mlp2")(branch)
    return x + _drop_path(branch, skipped, f"{prefix}_drop2")


def _patch_merging(x: Any, prefix: str) -> Any:
    """2x2 neighbours become one position: (B, H, W, C) -> (B, ceil(H/2), ceil(W/2), 2 * C)."""
    channels = x.shape[-1]
    x = PadToMultiple(2, name=f"{prefix}_pad")(x)
    x = Neighbours(name=f"{prefix}_neighbours")(x)
    x = _norm(x, f"{prefix}_norm")
    return _dense(2 * channels, f"{prefix}_reduction", bias=False)(x)


def _norm(x: Any, name: str) -> Any:
    return LayerNorm(epsilon=NORM_EPSILON, name=name)(x)


def _dense(units: int, name: str, bias: bool = True) -> layers.Dense:
    initializer = keras.initializers.TruncatedNormal(stddev=0.02)
    return layers.Dense(units, use_bias=bias, kernel_initializer=initializer, name=name)


def _drop_path(x: Any, rate: float, name: str) -> Any:
    """Stochastic depth: in training, drop the branch of a whole image, and scale up those that stay."""
    return layers.Dropout(rate, noise_shape=(None, 1, 1, 1), name=name)(x) if rate else x


@keras.saving.register_keras_serializable("kerbside")
class Neighbours(layers.Layer):
    """Each 2x2 positions as one, columns before rows in the channels: (B, H, W, C) -> (B, H/2, W/2, 4 * C)."""

    def call(self, x: Any) -> Any:
        _, height, width, channels = ops.shape(x)
        x = ops.reshape(x, (-1, 2, width, channels))  # (B * H/2, row, W, C)
        x = ops.transpose(x, (0, 2, 1, 3))  # (B * H/2, W, row, C), of which W is (W/2, column)
        return ops.reshape(x, (-1, height // 2, width // 2, 4 * channels))

    def compute_output_spec(self, x: Any) -> keras.KerasTensor:
        sides = [side and side // 2 for side in x.shape[1:3]]
        return keras.KerasTensor((x.shape[0], *sides, 4 * x.shape[3]), dtype=self.compute_dtype)


@keras.saving.register_keras_serializable("kerbside")
class RelativePositionBias(layers.Layer):
    """Adds to the score of two positions of a window what a table has for their distance (equation 4).

    Scores are (N, heads, window^2, window^2), the table is ((2 * window - 1)^2, heads).
    """

    def __init__(self, heads: int, window: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.heads, self.window = heads, window

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.relative_position_bias_table = self.add_weight(
            shape=((2 * self.window - 1) ** 2, self.heads),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            name="relative_position_bias_table",
        )
        super().build(shape)

    def call(self, scores: Any) -> Any:
        area = self.window**2
        row, column = ops.arange(area) // self.window, ops.arange(area) % self.window
        rows = row[:, None] - row + self.window - 1  # (window^2, window^2), 0 .. 2 * window - 2
        columns = column[:, None] - column + self.window - 1
        index = ops.reshape(rows * (2 * self.window - 1) + columns, (-1,))
        bias = ops.take(self.relative_position_bias_table, index, axis=0)  # (window^4, heads)
        return scores + ops.reshape(ops.transpose(bias), (1, self.heads, area, area))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads, "window": self.window}


@keras.saving.register_keras_serializable("kerbside")
class WindowAttention(layers.Layer):
    """Multi-head self-attention within windows, the image being shifted cyclically (section 3.2).

    (B, H, W, C) -> (B, H, W, C) for any H and W. A shifted window at the border holds parts of the image that
    are no neighbours; they do not attend to each other.
    """

    def __init__(self, heads: int, window: int, shift: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.heads, self.window, self.shift = heads, window, shift

    def build(self, shape: tuple[int | None, ...]) -> None:
        channels = int(shape[-1] or 0)
        self.query, self.key, self.value, self.projection = (
            _dense(channels, name) for name in ("query", "key", "value", "projection")
        )
        for part in (self.query, self.key, self.value, self.projection):
            part.build((None, self.window**2, channels))
        self.bias = RelativePositionBias(self.heads, self.window, dtype="float32", name="bias")
        self.bias.build((None, self.heads, self.window**2, self.window**2))
        super().build(shape)

    def call(self, x: Any) -> Any:
        _, height, width, channels = ops.shape(x)
        x = _roll(pad_to_multiple(x, self.window), -self.shift)
        _, padded_height, padded_width, _ = ops.shape(x)
        windows = _partition(x, self.window)  # (B * windows, window^2, C)
        query = self._heads(self.query(windows) * (channels // self.heads) ** -0.5)
        scores = ops.matmul(query, ops.transpose(self._heads(self.key(windows)), (0, 1, 3, 2)))
        # (B * windows, heads, window^2, window^2), in float32 for the softmax's sake
        scores = self.bias(ops.cast(scores, "float32"))
        if self.shift:
            scores = scores + self._mask(padded_height, padded_width, ops.shape(x)[0])
        weights = ops.cast(ops.softmax(scores, axis=-1), self.compute_dtype)
        x = ops.transpose(ops.matmul(weights, self._heads(self.value(windows))), (0, 2, 1, 3))
        x = self.projection(ops.reshape(x, (-1, self.window**2, channels)))
        x = _roll(_merge(x, self.window, padded_height, padded_width), self.shift)
        return x[:, :height, :width]

    def _heads(self, x: Any) -> Any:
        """(N, window^2, C) -> (N, heads, window^2, C / heads)."""
        x = ops.reshape(x, (-1, self.window**2, self.heads, x.shape[-1] // self.heads))
        return ops.transpose(x, (0, 2, 1, 3))

    def _mask(self, height: Any, width: Any, batch: Any) -> Any:
        """0 within a part of the image, OUTSIDE between two: (B * windows, 1, window^2, window^2)."""
        rows, columns = self._parts(height), self._parts(width)
        parts = ops.reshape(3 * rows[:, None] + columns, (1, height, width, 1))
        parts = _partition(parts, self.window)  # (windows, window^2, 1)
        apart = ops.not_equal(parts, ops.transpose(parts, (0, 2, 1)))
        mask = ops.expand_dims(ops.cast(apart, "float32") * OUTSIDE, 1)
        alone = isinstance(batch, int) and batch == 1  # spares an exported graph the copy
        return mask if alone else ops.tile(mask, (batch, 1, 1, 1))

    def _parts(self, side: Any) -> Any:
        """Of each position along a side: 0, or 1 in the last window, or 2 where it came round."""
        position = ops.arange(side)
        last = ops.cast(position >= side - self.window, "int32")
        return last + ops.cast(position >= side - self.shift, "int32")

    def compute_output_spec(self, x: Any) -> keras.KerasTensor:
        return keras.KerasTensor(x.shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads, "window": self.window, "shift": self.shift}


def _roll(x: Any, shift: int) -> Any:
    """(B, H, W, C) with each position's content `shift` positions further on, cyclically."""
    if not shift:
        return x
    x = ops.concatenate([x[:, -shift:], x[:, :-shift]], axis=1)
    return ops.concatenate([x[:, :, -shift:], x[:, :, :-shift]], axis=2)


def _partition(x: Any, window: int) -> Any:
    """(B, H, W, C) -> (B * windows, window^2, C)."""
    _, _, width, channels = ops.shape(x)
    x = ops.reshape(x, (-1, window, width // window, window * channels))  # (B * H/window, row, W/window, ...)
    x = ops.transpose(x, (0, 2, 1, 3))  # (B * H/window, W/window, row, column * C)
    return ops.reshape(x, (-1, window**2, channels))


def _merge(windows: Any, window: int, height: Any, width: Any) -> Any:
    """(B * windows, window^2, C) -> (B, H, W, C)."""
    channels = ops.shape(windows)[-1]
    x = ops.reshape(windows, (-1, width // window, window, window * channels))
    x = ops.transpose(x, (0, 2, 1, 3))  # (B * H/window, row, W/window, column * C)
    return ops.reshape(x, (-1, height, width, channels))
