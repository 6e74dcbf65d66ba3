"""Prompts drawn from label maps, so that SAM can be trained and measured on semantic data (section 3, appendix A
of Kirillov et al. 2023, arXiv:2304.02643).

A prompt asks for a region: a connected piece of one class. It is a point inside it or its box, jittered; half of
the training prompts add further points, in the region and beside it. Deviations: the paper draws further points
where the last prediction was wrong, 8 to 11 times over, and feeds that prediction back; here they are drawn at
once. NumPy and OpenCV, keyed on (seed, sample number), so that a resume draws the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import keras
import numpy as np
import tensorflow as tf

from runtime.image import resize_ids
from runtime.prompted import fit, fitted_size, full_size, scaled
from training.data.pipeline import DecodedCache
from training.data.spec import VOID_ID, DatasetSpec
from training.distributed import ALONE, Cluster
from zoo.prompt_encoder import BACKGROUND, FOREGROUND, NO_BOX, UNUSED

PROMPTS, SLOTS = 8, 4  # prompts an image, and points that each may have
LEAST_AREA = 32  # pixels of a region; smaller ones are a pixel or two in a mask
JITTER, MOST_JITTER = (
    0.1,
    20.0,
)  # of a box's corners: standard deviation in sides of it, and the limit in pixels
MORE_POINTS = 0.5  # share of the training prompts that have more than one element
INSIDE, OUTSIDE = 1, 0
VALIDATION_SEED = 0


@dataclass(frozen=True)
class Prompt:
    """`points` float32 (SLOTS, 2) as (x, y), `labels` int32 (SLOTS,), `box` float32 (4,); `region` uint8 (H, W):
    INSIDE, OUTSIDE, or 255 where nothing counts; `several`: it has more than one element; `class_id` of the
    region."""

    points: np.ndarray
    labels: np.ndarray
    box: np.ndarray
    region: np.ndarray
    several: bool
    class_id: int


def draw(
    label: np.ndarray, rng: np.random.Generator, *, by_box: bool | None = None, more: float = 0.0
) -> Prompt | None:
    """A prompt for a region of `label`, uint8 (H, W); None where no region has LEAST_AREA pixels.

    The class is drawn first and then the region, so that rare classes are asked for as often as roads.
    `by_box` None lets chance decide between point and box; `more` is the chance of further points.
    """
    found = _region(label, rng)
    if found is None:
        return None
    inside, class_id = found
    points, labels = np.zeros((SLOTS, 2), np.float32), np.full(SLOTS, UNUSED, np.int32)
    box, used = np.array(NO_BOX, np.float32), 0
    bounds = _bounds(inside)
    if rng.random() < 0.5 if by_box is None else by_box:
        box = _jittered(bounds, rng, label.shape)
    else:
        points[0], labels[0], used = _point(inside, rng), FOREGROUND, 1
    several = bool(rng.random() < more)
    for slot in range(used, int(rng.integers(used + 1, SLOTS + 1)) if several else used):
        beside = _beside(inside, bounds, label)
        foreground = rng.random() < 0.5 or not beside.any()
        points[slot] = _point(inside if foreground else beside, rng)
        labels[slot] = FOREGROUND if foreground else BACKGROUND
    region = np.where(label == VOID_ID, VOID_ID, np.where(inside, INSIDE, OUTSIDE)).astype(np.uint8)
    return Prompt(points, labels, box, region, several, class_id)


def _region(label: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, int] | None:
    """A connected piece of one class, bool (H, W), and the class."""
    for class_id in rng.permutation(np.setdiff1d(label, [VOID_ID])):
        count, pieces, stats, _ = cv2.connectedComponentsWithStats((label == class_id).astype(np.uint8))
        large = [piece for piece in range(1, count) if stats[piece, cv2.CC_STAT_AREA] >= LEAST_AREA]
        if large:
            return pieces == rng.choice(large), int(class_id)
    return None


def _bounds(inside: np.ndarray) -> np.ndarray:
    """The smallest box around a region, x1, y1, x2, y2: the first and last pixels that belong to it."""
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return np.array([columns[0], rows[0], columns[-1], rows[-1]], np.float32)


def _jittered(bounds: np.ndarray, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    sides = np.tile(bounds[2:] - bounds[:2], 2)
    noise = np.clip(rng.normal(0, JITTER, 4) * sides, -MOST_JITTER, MOST_JITTER)
    low, high = np.sort((bounds + noise).reshape(2, 2), axis=0)
    limit = np.array([shape[1] - 1, shape[0] - 1])
    return np.concatenate([np.clip(low, 0, limit), np.clip(high, 0, limit)]).astype(np.float32)


def _point(where: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """(x, y) of a pixel, each as likely as the other."""
    places = np.flatnonzero(where)
    row, column = divmod(int(places[rng.integers(len(places))]), where.shape[1])
    return column, row


def _beside(inside: np.ndarray, bounds: np.ndarray, label: np.ndarray) -> np.ndarray:
    """What does not belong to the region, counts, and lies within half its sides of it, bool (H, W)."""
    x1, y1, x2, y2 = (int(side) for side in bounds)
    dx, dy = max(4, (x2 - x1) // 2), max(4, (y2 - y1) // 2)
    near = np.zeros_like(inside)
    near[max(0, y1 - dy) : y2 + dy + 1, max(0, x1 - dx) : x2 + dx + 1] = True
    return near & ~inside & (label != VOID_ID)


def preparation(model: keras.Model) -> Callable[..., tuple[dict[str, Any], dict[str, Any]]]:
    """The function that makes of one augmented sample, (image, label, seed), the model's inputs and targets.

    Targets: `region` uint8 (PROMPTS, h, w) at the size of the masks, 255 where nothing counts; `several` bool
    (PROMPTS,).
    """
    height, width = model.output["masks"].shape[3:]

    def numpy(label: np.ndarray, seed: np.ndarray) -> tuple[np.ndarray, ...]:
        rng = np.random.default_rng([int(part) for part in seed])
        prompts = [draw(label, rng, more=MORE_POINTS) or _nothing(label) for _ in range(PROMPTS)]
        return (
            np.stack([prompt.points for prompt in prompts]),
            np.stack([prompt.labels for prompt in prompts]),
            np.stack([prompt.box for prompt in prompts]),
            np.stack([_shrunk(prompt.region, (height, width)) for prompt in prompts]),
            np.array([prompt.several for prompt in prompts]),
        )

    kinds = [tf.float32, tf.int32, tf.float32, tf.uint8, tf.bool]

    def prepare(image: tf.Tensor, label: tf.Tensor, seed: tf.Tensor) -> tuple[dict[str, Any], dict[str, Any]]:
        # stateful=False: tf.data runs stateful functions one at a time under enable_op_determinism.
        found = tf.numpy_function(numpy, [label, seed], kinds, stateful=False)
        shapes = ((PROMPTS, SLOTS, 2), (PROMPTS, SLOTS), (PROMPTS, 4), (PROMPTS, height, width), (PROMPTS,))
        found = [tf.ensure_shape(tensor, shape) for tensor, shape in zip(found, shapes, strict=True)]
        inputs = {"image": image, "points": found[0], "point_labels": found[1], "boxes": found[2]}
        return inputs, {"region": found[3], "several": found[4]}

    return prepare


def _nothing(label: np.ndarray) -> Prompt:
    """Where there is no region to ask for: some point, and no pixel that counts."""
    points, labels = np.zeros((SLOTS, 2), np.float32), np.full(SLOTS, UNUSED, np.int32)
    labels[0] = FOREGROUND
    region = np.full(label.shape, VOID_ID, np.uint8)
    return Prompt(points, labels, np.array(NO_BOX, np.float32), region, False, VOID_ID)


def _shrunk(region: np.ndarray, mask: tuple[int, int]) -> np.ndarray:
    """A region at the size of the masks: a pixel is what most of its counted pixels are."""
    size = (mask[1], mask[0])
    counted = cv2.resize((region != VOID_ID).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    inside = cv2.resize((region == INSIDE).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    found = (inside >= 0.5 * counted).astype(np.uint8)
    return np.where(counted < 0.5, VOID_ID, found).astype(np.uint8)


def fixed(label: np.ndarray, index: int) -> list[Prompt]:
    """The prompts that validation and export ask of image `index`, the same ones always: half of them one
    point, half of them a box; none where there is no region."""
    rng = np.random.default_rng([VALIDATION_SEED, index])
    drawn = [draw(label, rng, by_box=number % 2 == 1) for number in range(PROMPTS)]
    return [prompt for prompt in drawn if prompt is not None]


def inputs(image: np.ndarray, asked: list[Prompt], frame: tuple[int, int]) -> dict[str, np.ndarray]:
    """An image, uint8 (H, W, 3), and its prompts as SAM takes them, a batch of one."""
    size = image.shape[:2]
    return {
        "image": fit(image, frame)[None],
        "points": np.stack([scaled(prompt.points, size, frame) for prompt in asked])[None],
        "point_labels": np.stack([prompt.labels for prompt in asked])[None],
        "boxes": np.stack([scaled(prompt.box, size, frame) for prompt in asked])[None],
    }


def elements(prompt: Prompt) -> dict[str, Any]:
    """A prompt as `runtime.PromptedSegmenter` takes it."""
    used = prompt.labels != UNUSED
    box = prompt.box if prompt.box[2] >= prompt.box[0] else None
    return {"points": prompt.points[used], "labels": prompt.labels[used], "box": box}


def intersection_over_union(mask: np.ndarray, region: np.ndarray) -> float:
    """Of a mask bool (H, W) and a region, over the pixels that count."""
    counted, inside = region != VOID_ID, region == INSIDE
    return float((mask & inside).sum() / max(1, ((mask | inside) & counted).sum()))


class Validator:
    """Asks fixed prompts of each validation image; mIoU is the mean IoU, over prompts, of the mask that the
    model itself scores best with the region asked for, at the image's own size."""

    def __init__(
        self,
        model: keras.Model,
        spec: DatasetSpec,
        cache: DecodedCache,
        loss: Callable[..., tf.Tensor],
        cluster: Cluster = ALONE,
        scale: float = 1.0,
    ) -> None:
        assert scale == 1  # a Recipe has seen to it
        self.spec, self.cache, self.cluster = spec, cache, cluster
        shape = model.input["image"].shape
        self.frame = (shape[1], shape[2])
        self.mask = tuple(model.output["masks"].shape[3:])

        @tf.function(reduce_retracing=True)
        def predict(inputs: dict[str, tf.Tensor], targets: dict[str, tf.Tensor]) -> tuple[Any, ...]:
            outputs = model(inputs, training=False)
            return outputs["masks"], outputs["iou"], loss(outputs, targets)

        self.predict = predict

    def __call__(self) -> tuple[dict[str, Any], float, list[tuple[np.ndarray, ...]]]:
        previews: dict[int, tuple[np.ndarray, ...]] = {}
        last = len(self.cache.examples) - 1
        shown = {round(part * last / 3) for part in range(4)}
        images = []
        for index in range(self.cluster.index, last + 1, self.cluster.size):
            found, preview = self._image(index)
            images.append(found)
            if index in shown and preview:
                previews[index] = preview
        if self.cluster.chief:  # who draws the previews; another worker has counted these images
            drawn = {index: self._image(index)[1] for index in shown if index % self.cluster.size}
            previews.update({index: preview for index, preview in drawn.items() if preview})
        images = self.cluster.interleaved(images)
        ious, accuracies, losses = ([value for found in images for value in found[key]] for key in range(3))
        scores = {"miou": _mean(ious), "pixel_accuracy": _mean(accuracies), "prompts": len(ious)}
        return scores, _mean(losses), [previews[index] for index in sorted(previews)]

    def _image(self, index: int) -> tuple[tuple[list[float], ...], tuple[np.ndarray, ...] | None]:
        """IoU and accuracy of each prompt and the loss of one image, nothing where there is no region; a preview."""
        image, label = self.cache.read(index)
        prompts = fixed(label, index)
        if not prompts:
            return ([], [], []), None
        masks, loss = self._masks(image, prompts)
        counted = [prompt.region != VOID_ID for prompt in prompts]
        right = [mask == (prompt.region == INSIDE) for mask, prompt in zip(masks, prompts, strict=True)]
        ious = [
            intersection_over_union(mask, prompt.region) for mask, prompt in zip(masks, prompts, strict=True)
        ]
        accuracies = [float(hit[where].mean()) for hit, where in zip(right, counted, strict=True)]
        return (ious, accuracies, [loss]), (image, *_painted(masks[0], prompts[0], len(self.spec.classes)))

    def _masks(self, image: np.ndarray, prompts: list[Prompt]) -> tuple[list[np.ndarray], float]:
        """The best-scored mask of each prompt, bool (H, W), and the loss."""
        size = image.shape[:2]
        regions = [_framed(prompt.region, self.frame) for prompt in prompts]
        targets = {
            "region": np.stack([_shrunk(region, self.mask) for region in regions])[None],
            "several": np.array([[prompt.several for prompt in prompts]]),
        }
        tensors = tf.nest.map_structure(tf.constant, (inputs(image, prompts, self.frame), targets))
        masks, scores, loss = self.predict(*tensors)
        best = scores.numpy()[0].argmax(-1)
        logits = [mask[choice] for mask, choice in zip(masks.numpy()[0], best, strict=True)]
        return [full_size(mask, size, self.frame) > 0 for mask in logits], float(loss)


def _framed(region: np.ndarray, frame: tuple[int, int]) -> np.ndarray:
    """A region where the image lies in the frame; beyond it nothing counts."""
    small = resize_ids(region, fitted_size(region.shape, frame))
    framed = np.full(frame, VOID_ID, np.uint8)
    framed[: small.shape[0], : small.shape[1]] = small
    return framed


def _painted(mask: np.ndarray, prompt: Prompt, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Truth and prediction of one prompt as class ids: the region in its class's colour, the rest in another's."""
    rest = (prompt.class_id + 1) % classes
    truth = np.where(prompt.region == INSIDE, prompt.class_id, rest).astype(np.uint8)
    truth[prompt.region == VOID_ID] = VOID_ID
    return truth, np.where(mask, prompt.class_id, rest).astype(np.uint8)


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else 0.0
