"""SAM's prompts as tokens (Kirillov et al. 2023, arXiv:2304.02643, section 3 and appendix A): points, boxes.

A batch holds N prompts an image, (B, N, ...), which share its embedding; inside they are one long batch, B * N.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import initializers, layers, ops

# The labels of points. A slot that is not used is UNUSED; EMPTY and ZERO are what the references pad with.
FOREGROUND, BACKGROUND, UNUSED = 1, 0, -2
EMPTY = -1  # "not a point": a learnt token, attended to, which the references add where there is no box
ZERO = -10  # Hugging Face's filling: a token of zeros, attended to
NO_BOX = (0.0, 0.0, -1.0, -1.0)  # any box whose right side lies left of its left side
LEFT_OUT = -3e4  # added to a score, leaves nothing of it after the softmax; half precision can hold it


@keras.saving.register_keras_serializable("kerbside")
class PromptEncoder(layers.Layer):
    """Points and boxes as tokens, and the grid of the image embedding in the same code (section 3, appendix A).

    [points (B, N, P, 2), labels (B, N, P), boxes (B, N, 4)] -> tokens (B * N, P + 2, width), `left_out`
    (B * N, P + 2), which is LEFT_OUT for the slots that are not used and else 0, and the positions of the grid
    (1, h * w, width). All float32, since positions are turned into phases.

    A place (x, y), in -1..1, becomes sin and cos of 2 pi (x, y) G (random Fourier features, Tancik et al. 2020);
    the token adds what kind of point it is. The last two slots hold the corners of the box; without one, they
    hold the token "not a point" and nothing.
    Weights: positions (2, width / 2), which is G and is not trained, kinds (4, width): background, foreground,
    first and second corner; empty (1, width).
    """

    def __init__(self, image_size: Sequence[int], grid: Sequence[int], width: int, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.image_size, self.grid, self.width = tuple(image_size), tuple(grid), width

    def build(self, input_shape: Any) -> None:
        self.positions = self.add_weight(
            shape=(2, self.width // 2), initializer=initializers.RandomNormal(stddev=1.0), name="positions",
            trainable=False,
        )  # fmt: skip
        normal = initializers.RandomNormal(stddev=1.0)  # as PyTorch's embeddings begin
        self.kinds = self.add_weight(shape=(4, self.width), initializer=normal, name="kinds")
        self.empty = self.add_weight(shape=(1, self.width), initializer=normal, name="empty")

    def call(self, inputs: list[Any]) -> tuple[Any, Any, Any]:
        points, labels, boxes = inputs
        slots = ops.shape(points)[2]
        points = ops.reshape(points, (-1, slots, 2))  # (B * N, P, 2)
        labels = ops.reshape(ops.cast(labels, "int32"), (-1, slots))  # (B * N, P)
        boxes = ops.reshape(boxes, (-1, 4))  # (B * N, 4)
        has_box = ops.cast(boxes[:, 2:3] >= boxes[:, 0:1], "float32")  # (B * N, 1)
        used = 1.0 - _is(labels, UNUSED)  # (B * N, P)
        first = ops.maximum(has_box, ops.max(used, axis=1, keepdims=True))  # a corner, or "not a point"
        tokens = ops.concatenate([self._points(points, labels), self._corners(boxes, has_box)], axis=1)
        left_out = LEFT_OUT * (1.0 - ops.concatenate([used, first, has_box], axis=1))
        return tokens, left_out, self._fourier(self._grid())

    def _points(self, points: Any, labels: Any) -> Any:
        """(B * N, P, width)."""
        place = self._fourier(self._unit(points))
        is_point = _is(labels, FOREGROUND) + _is(labels, BACKGROUND)
        return (
            place * is_point[..., None]
            + self.kinds[0] * _is(labels, BACKGROUND)[..., None]
            + self.kinds[1] * _is(labels, FOREGROUND)[..., None]
            + self.empty * _is(labels, EMPTY)[..., None]
        )

    def _corners(self, boxes: Any, has_box: Any) -> Any:
        """(B * N, 2, width)."""
        place = self._fourier(self._unit(ops.reshape(boxes, (-1, 2, 2)))) + self.kinds[2:4]
        without = ops.concatenate([self.empty, ops.zeros_like(self.empty)], axis=0)  # (2, width)
        has_box = has_box[..., None]
        return place * has_box + without * (1.0 - has_box)

    def _unit(self, places: Any) -> Any:
        """Pixels -> -1..1 from side to side, the centre of a pixel lying half a pixel in."""
        height, width = self.image_size
        return 2.0 * (places + 0.5) / ops.array([width, height], "float32") - 1.0

    def _grid(self) -> np.ndarray:
        """The centres of the tokens of the image, (1, h * w, 2)."""
        y, x = ((np.arange(side) + 0.5) / side for side in self.grid)
        places = np.stack(np.meshgrid(x, y), axis=-1).reshape(1, -1, 2)
        return (2 * places - 1).astype("float32")

    def _fourier(self, places: Any) -> Any:
        """(..., 2) -> (..., width)."""
        phases = 2.0 * np.pi * ops.matmul(places, self.positions)
        return ops.concatenate([ops.sin(phases), ops.cos(phases)], axis=-1)

    def compute_output_spec(self, inputs: list[Any]) -> tuple[keras.KerasTensor, ...]:
        slots = None if inputs[0].shape[2] is None else inputs[0].shape[2] + 2
        places = self.grid[0] * self.grid[1]
        return (
            keras.KerasTensor((None, slots, self.width), dtype="float32"),
            keras.KerasTensor((None, slots), dtype="float32"),
            keras.KerasTensor((1, places, self.width), dtype="float32"),
        )

    def get_config(self) -> dict[str, Any]:
        own = {"image_size": self.image_size, "grid": self.grid, "width": self.width}
        return {**super().get_config(), **own}


def _is(labels: Any, label: int) -> Any:
    return ops.cast(ops.equal(labels, label), "float32")


@keras.saving.register_keras_serializable("kerbside")
class OutputTokens(layers.Layer):
    """Puts the learnt tokens that answers are read from before those of the prompt (figure 14).

    [tokens (B, T, width), left_out (B, T)] -> the same with 5 + T. Weights: iou_token (1, width), mask_tokens
    (4, width): the single mask, then the three.
    """

    def build(self, input_shape: Any) -> None:
        normal, width = initializers.RandomNormal(stddev=1.0), input_shape[0][-1]
        self.iou_token = self.add_weight(shape=(1, width), initializer=normal, name="iou_token")
        self.mask_tokens = self.add_weight(shape=(4, width), initializer=normal, name="mask_tokens")

    def call(self, inputs: list[Any]) -> tuple[Any, Any]:
        tokens, left_out = inputs
        own = ops.concatenate([self.iou_token, self.mask_tokens], axis=0)[None]  # (1, 5, width)
        own = own + ops.zeros_like(tokens[:, :1])
        return ops.concatenate([own, tokens], axis=1), ops.pad(left_out, ((0, 0), (5, 0)))

    def compute_output_spec(self, inputs: list[Any]) -> tuple[keras.KerasTensor, ...]:
        batch, slots, width = inputs[0].shape
        slots = None if slots is None else slots + 5
        return (
            keras.KerasTensor((batch, slots, width), dtype=self.compute_dtype),
            keras.KerasTensor((batch, slots), dtype=self.compute_dtype),
        )


@keras.saving.register_keras_serializable("kerbside")
class DenseEmbedding(layers.Layer):
    """Adds the embedding of "no mask" to the image embedding and repeats it for each prompt of its image.

    [embedding (B, h, w, width), boxes (B, N, 4)] -> (B * N, h * w, width). Weight: no_mask (1, width).
    """

    def build(self, input_shape: Any) -> None:
        normal = initializers.RandomNormal(stddev=1.0)
        self.no_mask = self.add_weight(shape=(1, input_shape[0][-1]), initializer=normal, name="no_mask")

    def call(self, inputs: list[Any]) -> Any:
        embedding, boxes = inputs
        height, columns, width = embedding.shape[1:]
        x = ops.reshape(embedding + self.no_mask, (-1, 1, height * columns, width))
        x = x + ops.zeros_like(boxes[:, :, :1, None])  # (B, N, h * w, width)
        return ops.reshape(x, (-1, height * columns, width))

    def compute_output_spec(self, inputs: list[Any]) -> keras.KerasTensor:
        _, height, columns, width = inputs[0].shape
        return keras.KerasTensor((None, height * columns, width), dtype=self.compute_dtype)


@keras.saving.register_keras_serializable("kerbside")
class Unfold(layers.Layer):
    """(B * N, ...) -> (B, N, ...), N being that of the boxes (B, N, 4)."""

    def call(self, inputs: list[Any]) -> Any:
        x, boxes = inputs
        return ops.reshape(x, (-1, ops.shape(boxes)[1], *x.shape[1:]))

    def compute_output_spec(self, inputs: list[Any]) -> keras.KerasTensor:
        x, boxes = inputs
        return keras.KerasTensor((*boxes.shape[:2], *x.shape[1:]), dtype=self.compute_dtype)
