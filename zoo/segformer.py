"""SegFormer (Xie et al. 2021, arXiv:2105.15203): a Mix Transformer and a decoder of linear layers.

Deviations from the paper:

- The fusion (equation 4, third line: a linear layer on the four upsampled maps) is computed as four linear layers,
  each at its own level's size, upsampled and summed. A linear layer at each position and a bilinear resize commute,
  so it is the same function; at 512x1024 it takes a third of the multiplications, and no map of 4C channels.
- The encoder's deviations are listed in backbones/mix_transformer.py. Other backbones of the zoo fit the decoder.
- `decoder_norm` gives the head of mmsegmentation: batch norm and ReLU follow each level's linear layer.
- `size_divisor=32` pads the image within the network (docs/explanation/padding.md); the references stretch the maps
  of other sizes.
- Batch norm and ReLU follow the fusion and dropout precedes the classifier, as in the authors' code.
"""

from collections.abc import Mapping
from typing import Any

import keras
from keras import initializers, layers

from zoo import backbones, contract
from zoo.heads import logits
from zoo.layers import TORCH_EPSILON, ResizeLike, batch_norm, cut, padded

# C of section 4.1: 256 for B0 and B1, 768 for the rest.
DECODER_FILTERS = {"mit_b0": 256, "mit_b1": 256, "mit_b2": 768, "mit_b3": 768, "mit_b4": 768, "mit_b5": 768}
OTHER_DECODER_FILTERS = 256


def segformer(
    *,
    classes: int = 19,
    image_size: contract.ImageSize = None,
    backbone: str = "mit_b0",
    backbone_sizes: Mapping[str, Any] | None = None,
    decoder_filters: int | None = None,
    decoder_norm: bool = False,
    size_divisor: int = 1,
    dropout: float = 0.1,
    batch_norm_momentum: float = 0.99,
) -> keras.Model:
    """SegFormer on any backbone: image (B, H, W, 3), RGB 0..255 -> {"logits": (B, H, W, classes) float32}.

    image_size is (H, W), or None for any size of 29 pixels a side or more; `backbone_sizes` replaces
    fields of the backbone's row, such as {"drop_path": 0.0} of a Mix Transformer's `Layout`; `decoder_filters`
    None takes the paper's for the backbone; `decoder_norm` and `size_divisor` see above; `dropout` drops whole
    channels before the classifier. Raises ValueError on a value that makes no sense.
    """
    contract.check_classes(classes)
    contract.check_fraction("dropout", dropout)
    contract.check_count("size_divisor", size_divisor)
    momentum = contract.check_fraction("batch_norm_momentum", batch_norm_momentum)
    if decoder_filters is None:
        decoder_filters = DECODER_FILTERS.get(backbone, OTHER_DECODER_FILTERS)
    contract.check_count("decoder_filters", decoder_filters)

    image = contract.image_input(contract.check_image_size(image_size))
    seen, size = padded(image, size_divisor)
    features = backbones.build(backbone, size, 32, momentum, sizes=backbone_sizes)
    x = _decoder(features(seen), decoder_filters, decoder_norm, momentum)
    x = layers.SpatialDropout2D(dropout, name="dropout")(x)  # (B, H/4, W/4, decoder_filters)
    outputs = {contract.LOGITS: logits(x, seen, classes)}
    return keras.Model(image, cut(outputs, image, size_divisor), name="segformer")


def _decoder(pyramid: Mapping[str, Any], filters: int, norm: bool, momentum: float) -> Any:
    """Equation 4 without its last line: P2 to P5 -> (B, H/4, W/4, filters)."""
    summands = []
    for level in contract.LEVELS:
        x = layers.Conv2D(filters, 1, use_bias=not norm, name=f"decoder_{level}_linear")(pyramid[level])
        if norm:
            x = batch_norm(x, momentum=momentum, epsilon=TORCH_EPSILON, name=f"decoder_{level}_bn")
            x = layers.ReLU(name=f"decoder_{level}_relu")(x)
        # This level's quarter of the fusion's kernel, (1, 1, 4 * filters, filters): its inputs count for He's rule.
        initial = initializers.VarianceScaling(2.0 / len(contract.LEVELS), distribution="untruncated_normal")
        x = layers.Conv2D(
            filters, 1, use_bias=False, kernel_initializer=initial, name=f"decoder_{level}_fusion"
        )(x)
        summands.append(ResizeLike(name=f"decoder_{level}_upsample")([x, pyramid["P2"]]))
    x = layers.Add(name="decoder_sum")(summands)
    x = batch_norm(x, momentum=momentum, epsilon=TORCH_EPSILON, name="decoder_bn")
    return layers.ReLU(name="decoder_relu")(x)
