"""SAM, the Segment Anything Model (Kirillov et al. 2023, arXiv:2304.02643), prompted by points and boxes.

An image encoder (zoo/backbones/vit.py) runs once an image; a prompt encoder (zoo/prompt_encoder.py) and a mask
decoder (section 3, appendix A, figure 14) turn its embedding and a prompt into three masks, each with an estimate
of its IoU. The two halves are models of their own, `image_encoder` and `prompt_decoder`, so that they can be
exported apart.

Deviations from the paper and its code:

- Masks as prompts are left out; every prompt takes the learnt embedding of "no mask".
- All prompts of a batch have the same number of slots for points and for a box. What a prompt does not use is
  left out of attention, so the answer is that of the reference without it, to rounding.
- The image need not be square: any multiples of the patch.
- The transposed convolutions, whose kernel is as large as their stride, are products of matrices.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers, ops

from zoo import contract
from zoo.backbones.vit import Layout, vit
from zoo.layers import IMAGENET_MEAN, LayerNorm, gelu
from zoo.prompt_encoder import DenseEmbedding, OutputTokens, PromptEncoder, Unfold

IMAGE_ENCODER, PROMPT_DECODER = "image_encoder", "prompt_decoder"
EMBEDDING, POINTS, POINT_LABELS, BOXES = "image_embedding", "points", "point_labels", "boxes"
MASKS, IOU, SINGLE_MASK, SINGLE_IOU = "masks", "iou", "single_mask", "single_iou"

# Around an image that does not fill the input: the colour that the normalisation turns into 0.
PADDING = tuple(255 * mean for mean in IMAGENET_MEAN)


@dataclass(frozen=True)
class Sizes:
    """Sizes of the prompt encoder and the mask decoder; ValueError on such as do not go together."""

    width: int
    blocks: int
    heads: int
    ffn_width: int
    attention_downsampling: int
    iou_layers: int
    iou_width: int
    norm_epsilon: float

    def __post_init__(self) -> None:
        contract.check_count("width", self.width, at_least=8)
        contract.check_counts(
            decoder_blocks=self.blocks, decoder_heads=self.heads, decoder_ffn_width=self.ffn_width,
            attention_downsampling=self.attention_downsampling, iou_layers=self.iou_layers,
            iou_width=self.iou_width,
        )  # fmt: skip
        if self.width % 8 or self.width % (self.heads * self.attention_downsampling):
            raise ValueError(
                f"width must be a multiple of 8 and of decoder_heads x attention_downsampling "
                f"({self.heads} x {self.attention_downsampling}), not {self.width}"
            )


def sam(
    *,
    image_size: contract.ImageSize = (1024, 1024),
    patch: int = 16,
    encoder_width: int = 768,
    encoder_blocks: int = 12,
    encoder_heads: int = 12,
    encoder_ffn_width: int = 3072,
    window: int = 14,
    global_blocks: Sequence[int] = (2, 5, 8, 11),
    width: int = 256,
    decoder_blocks: int = 2,
    decoder_heads: int = 8,
    decoder_ffn_width: int = 2048,
    attention_downsampling: int = 2,
    iou_layers: int = 3,
    iou_width: int = 256,
    decoder_norm_epsilon: float = 1e-5,
) -> keras.Model:
    """SAM with ViT-B, or smaller: (image, prompts) -> masks and their estimated IoU.

    Inputs, a dict, with N prompts an image of P points each (both free):
    `image` (B, H, W, 3), RGB 0..255 of the fixed `image_size`; an image of another shape is resized until it
    fits and stands in the top left corner, with PADDING around it. `points` (B, N, P, 2), (x, y) in pixels of
    that image, the centre of the first pixel being (0, 0). `point_labels` (B, N, P): FOREGROUND, BACKGROUND, or
    UNUSED (EMPTY and ZERO as the references have them). `boxes` (B, N, 4): x1, y1, x2, y2, or NO_BOX.

    Outputs, float32: `masks` (B, N, 3, 4h, 4w), with h = H / patch, logits of the whole, the part and the
    sub-part that an ambiguous prompt may mean; `iou` (B, N, 3), the IoU that the model expects of each, not
    bounded to 0..1. `single_mask` (B, N, 1, 4h, 4w) and `single_iou` (B, N, 1): the fourth mask token, meant for
    prompts of several points or a point and a box.

    The sizes are ViT-B's. `decoder_norm_epsilon` is 1e-5 in the authors' code and 1e-6 in Hugging Face's.
    Raises ValueError on sizes that do not go together.
    """
    size = contract.check_image_size(image_size)
    if size is None:
        raise ValueError("sam needs an image_size (height, width): its position embeddings are for one size")
    layout = Layout(patch, encoder_width, encoder_blocks, encoder_heads, encoder_ffn_width, window,
                    global_blocks, outputs=width)  # fmt: skip
    sizes = Sizes(width, decoder_blocks, decoder_heads, decoder_ffn_width, attention_downsampling,
                  iou_layers, iou_width, decoder_norm_epsilon)  # fmt: skip
    encoder = vit(layout, size, IMAGE_ENCODER)
    decoder = prompt_decoder(size, patch, sizes)
    inputs = {contract.IMAGE: contract.image_input(size), **_prompt_inputs()}
    prompts = {name: inputs[name] for name in (POINTS, POINT_LABELS, BOXES)}
    outputs = decoder({EMBEDDING: encoder(inputs[contract.IMAGE]), **prompts})
    return keras.Model(inputs, outputs, name="sam")


def prompt_decoder(image_size: tuple[int, int], patch: int, sizes: Sizes) -> keras.Model:
    """The second half: image embedding (B, h, w, width) and prompts -> masks and IoU, as `sam` has them."""
    height, columns = image_size[0] // patch, image_size[1] // patch
    embedding = keras.Input((height, columns, sizes.width), dtype="float32", name=EMBEDDING)
    prompts = _prompt_inputs()
    encode = PromptEncoder(image_size, (height, columns), sizes.width, name="prompt_encoder")
    tokens, left_out, grid = encode([prompts[POINTS], prompts[POINT_LABELS], prompts[BOXES]])
    tokens, left_out = OutputTokens(name="output_tokens")([tokens, left_out])  # (B * N, 5 + P + 2, width)
    image = DenseEmbedding(name="no_mask")([embedding, prompts[BOXES]])  # (B * N, h * w, width)
    tokens, image = _TwoWay(sizes)(tokens, image, grid, left_out)

    masks = _masks(tokens, ops.reshape(image, (-1, height, columns, sizes.width)), sizes.width)
    iou = _perceptron(tokens[:, 0, :], (sizes.iou_width,) * (sizes.iou_layers - 1) + (4,), "iou_head")
    masks = Unfold(dtype="float32", name="masks_of_prompts")([masks, prompts[BOXES]])  # (B, N, 4, 4h, 4w)
    iou = Unfold(dtype="float32", name="iou_of_prompts")([iou, prompts[BOXES]])  # (B, N, 4)
    return keras.Model(
        {EMBEDDING: embedding, **prompts},
        {MASKS: masks[:, :, 1:], IOU: iou[:, :, 1:], SINGLE_MASK: masks[:, :, :1], SINGLE_IOU: iou[:, :, :1]},
        name=PROMPT_DECODER,
    )


def _prompt_inputs() -> dict[str, keras.KerasTensor]:
    return {
        POINTS: keras.Input((None, None, 2), dtype="float32", name=POINTS),
        POINT_LABELS: keras.Input((None, None), dtype="int32", name=POINT_LABELS),
        BOXES: keras.Input((None, 4), dtype="float32", name=BOXES),
    }


class _TwoWay:
    """The transformer of the decoder: tokens look at the image and the image at the tokens (figure 14)."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes, self.inner = sizes, sizes.width // sizes.attention_downsampling

    def __call__(self, tokens: Any, image: Any, grid: Any, left_out: Any) -> tuple[Any, Any]:
        """Tokens (B, T, width) and image (B, h * w, width), both rewritten; `grid` is where the image's are."""
        places = tokens  # the prompt's tokens themselves are added wherever tokens attend or are attended to
        for block in range(self.sizes.blocks):
            name = f"decoder_block{block}"
            query = tokens if block == 0 else tokens + places
            found = self._attend(query, query, tokens, f"{name}_self", self.sizes.width, left_out)
            tokens = self._norm(found if block == 0 else tokens + found, f"{name}_self_norm")
            found = self._attend(tokens + places, image + grid, image, f"{name}_to_image", self.inner)
            tokens = self._norm(tokens + found, f"{name}_to_image_norm")
            found = _perceptron(tokens, (self.sizes.ffn_width, self.sizes.width), f"{name}_ffn")
            tokens = self._norm(tokens + found, f"{name}_ffn_norm")
            query, key = image + grid, tokens + places
            found = self._attend(query, key, tokens, f"{name}_to_tokens", self.inner, left_out)
            image = self._norm(image + found, f"{name}_to_tokens_norm")
        found = self._attend(tokens + places, image + grid, image, "decoder_final", self.inner)
        tokens = LayerNorm(epsilon=1e-5, name="decoder_final_norm")(tokens + found)
        return tokens, image

    def _attend(self, query: Any, key: Any, value: Any, name: str, inner: int, left_out: Any = None) -> Any:
        query, key, value = (
            layers.Dense(inner, name=f"{name}_{part}")(x)
            for part, x in (("query", query), ("key", key), ("value", value))
        )
        parts = [query, key, value] if left_out is None else [query, key, value, left_out]
        found = TokenAttention(self.sizes.heads, name=name)(parts)
        return layers.Dense(self.sizes.width, name=f"{name}_out")(found)

    def _norm(self, x: Any, name: str) -> Any:
        return LayerNorm(epsilon=self.sizes.norm_epsilon, name=name)(x)


@keras.saving.register_keras_serializable("kerbside")
class TokenAttention(layers.Layer):
    """Multi-head scaled dot-product attention between lists of tokens, without weights of its own.

    [query (B, Q, C), key (B, K, C), value (B, K, C)], and maybe `left_out` (B, K), which is added to the scores
    -> (B, Q, C). The softmax is computed in float32 under any dtype policy.
    """

    def __init__(self, heads: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.heads = heads

    def call(self, inputs: list[Any]) -> Any:
        query, key, value = (self._split(x) for x in inputs[:3])  # (B, heads, Q or K, C / heads)
        scale = query.shape[-1] ** -0.5
        scores = ops.cast(ops.matmul(query * scale, ops.transpose(key, (0, 1, 3, 2))), "float32")
        if len(inputs) == 4:
            scores = scores + ops.cast(inputs[3], "float32")[:, None, None, :]
        found = ops.matmul(ops.cast(ops.softmax(scores), self.compute_dtype), value)
        found = ops.transpose(found, (0, 2, 1, 3))  # (B, Q, heads, C / heads)
        return ops.reshape(found, (-1, ops.shape(inputs[0])[1], inputs[0].shape[-1]))

    def _split(self, x: Any) -> Any:
        x = ops.reshape(x, (-1, ops.shape(x)[1], self.heads, x.shape[-1] // self.heads))
        return ops.transpose(x, (0, 2, 1, 3))

    def compute_output_spec(self, inputs: list[Any]) -> keras.KerasTensor:
        return keras.KerasTensor(inputs[0].shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads}


def _masks(tokens: Any, image: Any, width: int) -> Any:
    """Each mask token becomes a filter over the image, four times as fine: (B, 4, 4h, 4w)."""
    x = Upscale(width // 4, name="upscale1")(image)
    x = gelu(LayerNorm(epsilon=1e-6, name="upscale1_norm")(x))
    x = gelu(Upscale(width // 8, name="upscale2")(x))  # (B, 4h, 4w, width / 8)
    filters = [
        _perceptron(tokens[:, 1 + index, :], (width, width, width // 8), f"mask{index}_filter")
        for index in range(4)
    ]
    return Filter(dtype="float32", name="filter")([ops.stack(filters, axis=1), x])


@keras.saving.register_keras_serializable("kerbside")
class Filter(layers.Layer):
    """Filters (B, M, C) over a map (B, h, w, C) -> (B, M, h, w)."""

    def call(self, inputs: list[Any]) -> Any:
        filters, x = inputs
        height, width, channels = x.shape[1:]
        x = ops.transpose(ops.reshape(x, (-1, height * width, channels)), (0, 2, 1))
        return ops.reshape(ops.matmul(filters, x), (-1, filters.shape[1], height, width))

    def compute_output_spec(self, inputs: list[Any]) -> keras.KerasTensor:
        filters, x = inputs
        return keras.KerasTensor(
            (filters.shape[0], filters.shape[1], *x.shape[1:3]), dtype=self.compute_dtype
        )


@keras.saving.register_keras_serializable("kerbside")
class Upscale(layers.Layer):
    """A transposed convolution with kernel 2 and stride 2: (B, h, w, C) -> (B, 2h, 2w, filters).

    Each pixel becomes four, none of which another pixel reaches, so it is a product of matrices and a reshape.
    Weights: kernel (C, 4 * filters), its columns ordered by row, column and filter; bias (filters,).
    """

    def __init__(self, filters: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters = filters

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight(shape=(input_shape[-1], 4 * self.filters), name="kernel")
        self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")

    def call(self, x: Any) -> Any:
        height, width = x.shape[1:3]
        x = ops.matmul(x, self.kernel)  # (B, h, w, 4 * filters)
        x = ops.reshape(x, (-1, width, 2, 2 * self.filters))  # (B * h, w, row, column and filter)
        x = ops.transpose(x, (0, 2, 1, 3))  # (B * h, row, w, column and filter)
        return ops.reshape(x, (-1, 2 * height, 2 * width, self.filters)) + self.bias

    def compute_output_spec(self, x: Any) -> keras.KerasTensor:
        batch, height, width, _ = x.shape
        return keras.KerasTensor((batch, 2 * height, 2 * width, self.filters), dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "filters": self.filters}


def _perceptron(x: Any, widths: Sequence[int], name: str) -> Any:
    """Dense layers with ReLU in between."""
    for index, width in enumerate(widths):
        activation = "relu" if index < len(widths) - 1 else None
        x = layers.Dense(width, activation=activation, name=f"{name}{index}")(x)
    return x
