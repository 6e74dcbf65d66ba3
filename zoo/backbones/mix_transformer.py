"""Mix Transformer, the encoder of SegFormer (Xie et al. 2021, arXiv:2105.15203, section 3.1), as a pyramid.

Tokens keep their place in the image, (B, H, W, C), all the way: any height and width will do, and there is no
position embedding to interpolate. Deviations from the paper, all of them those of the authors' own code, whose
weights are what there is to load:

- The Mix-FFN widens four times in every stage (table 6 of the paper has eight in the first two), and stage 2 of
  B2 and B3 has four blocks (three there).
- Where the reduction ratio does not divide the side of a feature map, the rows and columns that are left over at
  the far side take no part in keys and values.
- Linear layers are 1x1 convolutions, which is the same arithmetic and quantises with a scale per channel.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import keras
from keras import initializers, layers, ops

from zoo import contract
from zoo.layers import LayerNorm, gelu, imagenet_normalisation, normalised

Four = tuple[int, int, int, int]


@dataclass(frozen=True)
class Layout:
    """A Mix Transformer; tuples have a value for each of the four stages (C, L, N, R, E, K, S of table 6).

    `drop_path` is the share of samples that skip a residual branch of the last block (stochastic depth); it
    grows linearly from 0 at the first. `epsilon` is that of the layer norms: 1e-6 in the authors' blocks. Where
    `scale` is given, image * scale + offset, by channel, stands in place of ImageNet's normalisation.
    """

    widths: Four
    blocks: Four
    heads: Four = (1, 2, 5, 8)
    reductions: Four = (8, 4, 2, 1)
    expansions: Four = (4, 4, 4, 4)
    kernels: Four = (7, 3, 3, 3)
    strides: Four = (4, 2, 2, 2)
    drop_path: float = 0.1
    epsilon: float = 1e-6
    scale: tuple[float, float, float] | None = None
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        for field in fields(self)[:-4]:
            values = getattr(self, field.name)
            is_list = isinstance(values, Sequence) and not isinstance(values, str) and len(values) == 4
            if not is_list:
                raise ValueError(f"{field.name} must be four whole numbers, one a stage, not {values!r}")
            for value in values:
                contract.check_count(field.name, value)
        contract.check_fraction("drop_path", self.drop_path)
        if not 0 < contract.check_fraction("epsilon", self.epsilon):
            raise ValueError(f"epsilon must be above 0, not {self.epsilon!r}")
        for width, heads in zip(self.widths, self.heads, strict=True):
            if width % heads:
                raise ValueError(f"widths {width} cannot be shared out to {heads} heads")
        if tuple(self.strides) != (4, 2, 2, 2):
            raise ValueError(f"strides must be (4, 2, 2, 2), those of P2 to P5, not {self.strides!r}")


# Table 6, with the deviations above.
LAYOUTS = {
    "mit_b0": Layout(widths=(32, 64, 160, 256), blocks=(2, 2, 2, 2)),
    "mit_b1": Layout(widths=(64, 128, 320, 512), blocks=(2, 2, 2, 2)),
    "mit_b2": Layout(widths=(64, 128, 320, 512), blocks=(3, 4, 6, 3)),
    "mit_b3": Layout(widths=(64, 128, 320, 512), blocks=(3, 4, 18, 3)),
    "mit_b4": Layout(widths=(64, 128, 320, 512), blocks=(3, 8, 27, 3)),
    "mit_b5": Layout(widths=(64, 128, 320, 512), blocks=(3, 6, 40, 3)),
}


def mix_transformer(
    layout: Layout, image_size: contract.ImageSize, output_stride: int, momentum: float
) -> keras.Model:
    """A Mix Transformer: RGB 0..255 -> P2 to P5 at strides 4 to 32, with the channels of `layout.widths`.

    `output_stride` can only be 32 and there is no batch norm for `momentum`. Raises ValueError on an image so
    small that a stage has no key to attend to: a side of 29 pixels at least with the paper's reductions.
    """
    _check_size(layout, image_size)
    image = contract.image_input(image_size)
    total = sum(layout.blocks)
    x, done, pyramid = normalised(image, imagenet_normalisation, layout.scale, layout.offset), 0, {}
    for stage, level in enumerate(contract.LEVELS):
        name = f"stage{stage + 1}"
        x = _patch_embedding(x, layout, stage, name)
        for block in range(layout.blocks[stage]):
            drop_path = layout.drop_path * done / max(total - 1, 1)
            x = _block(x, layout, stage, drop_path, f"{name}_block{block + 1}")
            done += 1
        x = pyramid[level] = _norm(x, layout, f"{name}_norm")
    return keras.Model(image, pyramid, name=contract.BACKBONE)


def _check_size(layout: Layout, image_size: contract.ImageSize) -> None:
    """Each stage must have a key: its side is ceil(pixels / stride so far), and each key covers R of it."""
    stride, least = 1, 1
    for step, reduction in zip(layout.strides, layout.reductions, strict=True):
        stride *= step
        least = max(least, (reduction - 1) * stride + 1)
    if image_size is not None and min(image_size) < least:
        raise ValueError(f"image_size must be at least {least} pixels a side for this backbone: {image_size}")


def _patch_embedding(x: Any, layout: Layout, stage: int, name: str) -> Any:
    """Overlapping patches (equation 3 ff.): (B, H, W, C) -> (B, ceil(H / stride), ceil(W / stride), width)."""
    kernel, stride = layout.kernels[stage], layout.strides[stage]
    # Padded by hand on all sides, as the weights were trained; "same" pads even sizes more at the far side.
    x = layers.ZeroPadding2D(kernel // 2, name=f"{name}_patch_pad")(x)
    x = layers.Conv2D(
        layout.widths[stage], kernel, strides=stride, kernel_initializer=_fan_out(), name=f"{name}_patch_conv"
    )(x)
    return _norm(x, layout, f"{name}_patch_norm")


def _block(x: Any, layout: Layout, stage: int, drop_path: float, name: str) -> Any:
    """Efficient self-attention and Mix-FFN, each behind a norm and with a shortcut around (figure 2)."""
    for branch, norm in ((_attention, "attention_norm"), (_mix_ffn, "ffn_norm")):
        y = branch(_norm(x, layout, f"{name}_{norm}"), layout, stage, name)
        # One draw a sample: the whole branch is there or not.
        dropped = layers.Dropout(drop_path, noise_shape=(None, 1, 1, 1), name=f"{name}_{norm}_drop_path")
        y = dropped(y) if drop_path else y
        x = layers.Add(name=f"{name}_{norm}_add")([x, y])
    return x


def _attention(x: Any, layout: Layout, stage: int, name: str) -> Any:
    """Attention to keys and values of a map that is `reduction` times smaller (equations 1 and 2)."""
    width, reduction = layout.widths[stage], layout.reductions[stage]
    small = x
    if reduction > 1:
        small = layers.Conv2D(
            width, reduction, strides=reduction, kernel_initializer=_fan_out(), name=f"{name}_reduction"
        )(x)  # (B, H // reduction, W // reduction, width)
        small = _norm(small, layout, f"{name}_reduction_norm")
    query = _linear(x, width, f"{name}_query")
    key, value = _linear(small, width, f"{name}_key"), _linear(small, width, f"{name}_value")
    y = SpatialAttention(layout.heads[stage], name=f"{name}_attention")([query, key, value])
    return _linear(y, width, f"{name}_projection")


def _mix_ffn(x: Any, layout: Layout, stage: int, name: str) -> Any:
    """Widen, 3x3 depthwise convolution (which tells where a token is), GELU, narrow again (equation 3)."""
    width = layout.widths[stage]
    x = _linear(x, width * layout.expansions[stage], f"{name}_ffn_in")
    x = layers.DepthwiseConv2D(
        3, padding="same", depthwise_initializer=_fan_out(), name=f"{name}_ffn_depthwise"
    )(x)
    return _linear(gelu(x), width, f"{name}_ffn_out")


@keras.saving.register_keras_serializable("kerbside")
class SpatialAttention(layers.Layer):
    """Multi-head scaled dot-product attention between two feature maps, without weights of its own.

    [query (B, H, W, C), key (B, h, w, C), value (B, h, w, C)] -> (B, H, W, C); C is shared out to `heads`. The
    softmax is computed in float32 under any dtype policy.
    """

    def __init__(self, heads: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.heads = heads

    def call(self, inputs: list[Any]) -> Any:
        query, key, value = inputs
        size = ops.shape(query)
        channels = query.shape[-1]
        scale = (channels // self.heads) ** -0.5
        query = self._split(query * scale, (0, 2, 1, 3))  # (B, heads, H * W, C / heads)
        key = self._split(key, (0, 2, 3, 1))  # (B, heads, C / heads, h * w)
        value = self._split(value, (0, 2, 1, 3))  # (B, heads, h * w, C / heads)
        scores = ops.cast(ops.matmul(query, key), "float32")  # (B, heads, H * W, h * w)
        shares = ops.cast(ops.softmax(scores), self.compute_dtype)
        found = ops.transpose(ops.matmul(shares, value), (0, 2, 1, 3))  # (B, H * W, heads, C / heads)
        return ops.reshape(found, (-1, size[1], size[2], channels))

    def _split(self, x: Any, order: Four) -> Any:
        height, width, channels = ops.shape(x)[1:]
        x = ops.reshape(x, (-1, height * width, self.heads, channels // self.heads))
        return ops.transpose(x, order)

    def compute_output_spec(self, inputs: list[Any]) -> keras.KerasTensor:
        return keras.KerasTensor(inputs[0].shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads}


def _norm(x: Any, layout: Layout, name: str) -> Any:
    return LayerNorm(epsilon=layout.epsilon, name=name)(x)


def _linear(x: Any, filters: int, name: str) -> Any:
    """The same linear layer at every position: (B, H, W, C) -> (B, H, W, filters)."""
    initial = initializers.TruncatedNormal(stddev=0.02)
    return layers.Conv2D(filters, 1, kernel_initializer=initial, name=name)(x)


def _fan_out() -> Callable[..., Any]:
    """Of the authors' convolutions: normal with variance 2 / (outputs that a weight reaches)."""
    return initializers.VarianceScaling(2.0, mode="fan_out", distribution="untruncated_normal")
