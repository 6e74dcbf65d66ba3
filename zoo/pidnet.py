"""PIDNet (Xu et al. 2023, arXiv:2206.02066): DDRNet's two branches and a third that looks for boundaries.

The paper reads the branches as a controller: P keeps details at stride 8, I goes down to 64 for context, D marks where
details, and not context, are to be trusted. Deviations from the paper, which are those of the authors' code:

- The last ReLU of each stage stands outside of it, as in DDRNet (zoo/ddrnet.py), whose blocks these are.
- Resizing is bilinear with half-pixel centres; `align_corners` says how logits are resized, which the authors' code
  does with corners aligned; half-pixel centres are LiteRT's own and faster there.
- `after_relu` lets both heads for the loss read their maps after the ReLU that follows, as those of the authors' own
  checkpoints do, whose ReLU overwrites what they read.
- `size_divisor=64` pads the image within the network (docs/explanation/padding.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
from keras import layers, ops

from zoo import contract
from zoo.ddrnet import (
    basic_block,
    basic_stage,
    bottleneck,
    dappm,
    head,
    norm_relu_conv,
    pooled_maps,
    pyramid_end,
    relu,
    stem,
)
from zoo.layers import (
    TORCH_EPSILON,
    Concatenate,
    ResizeCornersLike,
    ResizeLike,
    conv_norm,
    cut,
    imagenet_normalisation,
    padded,
)


@dataclass(frozen=True)
class Sizes:
    """A variant: channels of the stem, of a branch of the pyramid pooling and of the heads; blocks a stage before the
    branches part and in P, and in I; `light` takes the parallel pyramid, the light fusion and a narrow D."""

    channels: int
    pyramid_filters: int
    head_filters: int
    stem_blocks: int
    branch_blocks: int
    light: bool


# Table 1 and section 4.3, with the pyramid and heads of the authors' code.
SIZES = {
    "pidnet_s": Sizes(32, 96, 128, stem_blocks=2, branch_blocks=3, light=True),
    "pidnet_m": Sizes(64, 96, 128, stem_blocks=2, branch_blocks=3, light=True),
    "pidnet_l": Sizes(64, 112, 256, stem_blocks=3, branch_blocks=4, light=False),
}


def pidnet(
    *,
    classes: int = 19,
    image_size: contract.ImageSize = None,
    variant: str = "pidnet_s",
    sizes: Mapping[str, Any] | None = None,
    auxiliary: bool = True,
    after_relu: bool = False,
    align_corners: bool = False,
    size_divisor: int = 1,
    batch_norm_momentum: float = 0.99,
) -> keras.Model:
    """PIDNet: image (B, H, W, 3), RGB 0..255 -> {"logits": (B, H, W, classes) float32}.

    image_size is (H, W), or None for any size; `variant` is a row of SIZES and `sizes` replaces fields of it;
    `auxiliary` adds what the loss "pidnet" reads (figure 4): "aux_logits" of P, as large as the logits, and
    "boundary_logits" (B, H, W, 1) of D; `after_relu`, `align_corners` and `size_divisor` see above. Raises ValueError
    on a value that makes no sense.
    """
    contract.check_classes(classes)
    contract.check_count("size_divisor", size_divisor)
    row = contract.variant(SIZES, variant, sizes)
    momentum = contract.check_fraction("batch_norm_momentum", batch_norm_momentum)
    image = contract.image_input(contract.check_image_size(image_size))
    seen, _ = padded(image, size_divisor)

    x = stem(imagenet_normalisation(seen), row.channels, row.stem_blocks, momentum)
    details, fused, boundary = _branches(x, row, momentum)
    heads = partial(head, momentum=momentum, resize=ResizeCornersLike if align_corners else ResizeLike)
    outputs = {contract.LOGITS: heads(fused, seen, classes, filters=row.head_filters)}
    if auxiliary:
        if after_relu:
            details, boundary = relu(details, "auxiliary_in"), relu(boundary, "boundary_in")
        outputs[contract.AUX_LOGITS] = heads(
            details,
            seen,
            classes,
            filters=row.head_filters,
            prefix="auxiliary_",
            output=contract.AUX_LOGITS,
        )
        outputs[contract.BOUNDARY_LOGITS] = heads(
            boundary, seen, 1, filters=row.channels, prefix="boundary_", output=contract.BOUNDARY_LOGITS
        )
    return keras.Model(image, cut(outputs, image, size_divisor), name="pidnet")


def _branches(x: Any, row: Sizes, momentum: float) -> tuple[Any, Any, Any]:
    """(B, H/8, W/8, 2 * channels) -> what three heads read: P after stage 3, the fusion of all, D after stage 4."""
    filters = row.channels
    norm: dict[str, Any] = {"momentum": momentum, "epsilon": TORCH_EPSILON}
    i = p = d = details = boundary = x
    for layer, wide in ((3, 4 * filters), (4, 8 * filters)):
        i = basic_stage(i, wide, row.branch_blocks, stride=2, momentum=momentum, name=f"layer{layer}_i")
        i = relu(i, f"layer{layer}_i")
        p = basic_stage(p, 2 * filters, row.stem_blocks, momentum=momentum, name=f"layer{layer}_p")
        p = pag(p, conv_norm(i, 2 * filters, **norm, name=f"compression{layer}"), filters, momentum, layer)
        d = _boundary_stage(d, row, layer, momentum)
        difference = conv_norm(i, d.shape[-1], 3, **norm, name=f"diff{layer}")
        difference = ResizeLike(name=f"diff{layer}_upsample")([difference, d])
        d = layers.Add(name=f"diff{layer}_add")([d, difference])
        details, boundary = (p if layer == 3 else details), d
        p, d = relu(p, f"layer{layer}_p"), relu(d, f"layer{layer}_d")
    for block in (1, 2):
        name = f"layer5_i_block{block}"
        i = bottleneck(i, 8 * filters, stride=3 - block, momentum=momentum, name=name)
    p = bottleneck(p, 2 * filters, momentum=momentum, name="layer5_p_block1")
    d = bottleneck(d, 2 * filters, momentum=momentum, name="layer5_d_block1")
    pyramid = pappm if row.light else dappm
    i = ResizeLike(name="pyramid_upsample")([pyramid(i, row.pyramid_filters, 4 * filters, momentum), p])
    return details, (light_bag if row.light else bag)(p, i, d, momentum), boundary


def _boundary_stage(d: Any, row: Sizes, layer: int, momentum: float) -> Any:
    """D's block of stage 3 or 4: 2 * channels, in the light variants only from stage 4 on."""
    name = f"layer{layer}_d_block1"
    if row.light and layer == 4:
        return bottleneck(d, row.channels, momentum=momentum, name=name)
    return basic_block(d, row.channels if row.light else 2 * row.channels, momentum=momentum, name=name)


def pag(p: Any, i: Any, filters: int, momentum: float, layer: int) -> Any:
    """Pixel-attention guidance (figure 5, equation 3): P takes from I, (B, h, w, C) of a lower resolution, where a
    dot product of both says that they mean the same: sigma * i + (1 - sigma) * p."""
    norm: dict[str, Any] = {"momentum": momentum, "epsilon": TORCH_EPSILON}
    theirs = conv_norm(i, filters, **norm, name=f"pag{layer}_i")
    theirs = ResizeLike(name=f"pag{layer}_i_upsample")([theirs, p])
    own = conv_norm(p, filters, **norm, name=f"pag{layer}_p")
    alike = ops.sum(own * theirs, axis=-1, keepdims=True)  # (B, H/8, W/8, 1)
    sigma = layers.Activation("sigmoid", name=f"pag{layer}_sigma")(alike)
    i = ResizeLike(name=f"pag{layer}_upsample")([i, p])
    return p + sigma * (i - p)


def pappm(x: Any, filters: int, out: int, momentum: float) -> Any:
    """Parallel aggregation pyramid pooling (figure 6): DDRNet's pyramid, whose scales do not wait for one another."""
    first, *means = pooled_maps(x, filters, momentum)
    scales = [layers.Add(name=f"pyramid_{index}_add")([mean, first]) for index, mean in enumerate(means, 1)]
    y = Concatenate(name="pyramid_scales")(scales)
    y = norm_relu_conv(y, y.shape[-1], 3, groups=len(scales), momentum=momentum, name="pyramid_process")
    return pyramid_end(x, [first, y], out, momentum)


def light_bag(p: Any, i: Any, d: Any, momentum: float) -> Any:
    """Light boundary-attention guidance (figure 7b, equation 5): (B, h, w, C) of all three -> (B, h, w, C)."""
    sigma = layers.Activation("sigmoid", name="fusion_sigma")(d)
    norm: dict[str, Any] = {"momentum": momentum, "epsilon": TORCH_EPSILON}
    detail = conv_norm(p + (i - sigma * i), p.shape[-1], **norm, name="fusion_p")
    context = conv_norm(i + sigma * p, p.shape[-1], **norm, name="fusion_i")
    return layers.Add(name="fusion_add")([detail, context])


def bag(p: Any, i: Any, d: Any, momentum: float) -> Any:
    """Boundary-attention guidance (figure 7a, equation 4): P at boundaries, I elsewhere, and a 3x3 convolution."""
    sigma = layers.Activation("sigmoid", name="fusion_sigma")(d)
    return norm_relu_conv(i + sigma * (p - i), p.shape[-1], 3, momentum=momentum, name="fusion")
