"""Thresholds on grey as models: a fixed one, Otsu's (1979), and Otsu's for several levels (Liao et al. 2001).

The floor under every trained network: grey values fall into two or more regions, and each region votes for the
classes that it held on the training images. Nothing is optimised; the votes are counted in one pass.

Sources: N. Otsu, "A threshold selection method from gray-level histograms", IEEE SMC 1979, as cv2.threshold
computes it (two levels); P.-S. Liao, T.-S. Chen, P.-C. Chung, "A fast algorithm for multilevel thresholding",
JISE 2001, as skimage.filters.threshold_multiotsu computes it (three and four). Grey is ITU-R BT.601 in the
fixed-point arithmetic of cv2.cvtColor, the same on all 2^24 colours.

Deviations:

- cv2.threshold rounds in double precision, so within a stretch of empty grey levels, where every threshold parts
  the image alike, it may stop anywhere; here it is the first. The masks are the same.
- A region is t[i-1] < grey <= t[i], as cv2.threshold cuts and as both criteria count. The example in skimage's
  documentation cuts with np.digitize at grey >= t, one grey level lower; np.digitize(grey, t, right=True) is ours.
- threshold_multiotsu raises for an image of fewer grey values than levels; here each value is a region of its
  own and the upper regions stay empty. An image of one grey value, with two levels, has the threshold 0, as
  cv2.threshold has it.
- Exact up to 2^24 pixels (16.7 million) an image, the whole numbers that float32 holds.
"""

from typing import Any

import keras
from keras import layers, ops

from zoo import contract

GREYS = 256
BT601 = (9798, 19235, 3735)  # 0.299, 0.587, 0.114 in units of 2^-15, and 32768 in all
CV2_LEAST_SHARE = 2.0**-23  # FLT_EPSILON: cv2.threshold leaves out a side that holds less than this
MOST_LEVELS = 4
NEVER = -1e30  # the criterion of thresholds that are not allowed
SLAB = 32  # first thresholds tried at a time with four levels: 8 MB instead of 64


def threshold(*, classes: int = 19, image_size: contract.ImageSize = None, value: int = 127) -> keras.Model:
    """A fixed threshold: image (B, H, W, 3), RGB 0..255 -> {"logits": (B, H, W, classes) float32}.

    Region 1 is grey > `value` (0..255, at 255 it is empty), region 0 the rest, as cv2.threshold cuts. The logits
    of a region are the logarithm of its classes' shares, once counted (`RegionVotes`). Raises ValueError on a value
    that makes no sense.
    """
    contract.check_classes(classes)
    if contract.check_count("value", value, at_least=0) >= GREYS:
        raise ValueError(f"value must be a grey level, 0 to {GREYS - 1}, not {value!r}")
    image = contract.image_input(contract.check_image_size(image_size))
    regions = ops.cast(grey_level(image) > value, "float32")  # (B, H, W)
    logits = RegionVotes(2, classes, name=contract.LOGITS)(regions)
    return keras.Model(image, {contract.LOGITS: logits}, name="threshold")


def otsu(*, classes: int = 19, image_size: contract.ImageSize = None, levels: int = 2) -> keras.Model:
    """Otsu's thresholds: image (B, H, W, 3), RGB 0..255 -> {"logits": (B, H, W, classes) float32}.

    Each image is cut into `levels` (2 to 4) regions of grey, those whose means lie farthest apart. The logits of
    a region are the logarithm of its classes' shares, once counted (`RegionVotes`). Raises ValueError on a value
    that makes no sense.
    """
    contract.check_classes(classes)
    if contract.check_count("levels", levels, at_least=2) > MOST_LEVELS:
        raise ValueError(f"levels must be at most {MOST_LEVELS}, not {levels!r}")
    image = contract.image_input(contract.check_image_size(image_size))
    grey = grey_level(image)  # (B, H, W)
    cuts = OtsuThresholds(levels, name="thresholds")(grey)  # (B, levels - 1)
    above = [ops.cast(grey > ops.reshape(cuts[:, i], (-1, 1, 1)), "float32") for i in range(levels - 1)]
    logits = RegionVotes(levels, classes, name=contract.LOGITS)(sum(above[1:], above[0]))
    return keras.Model(image, {contract.LOGITS: logits}, name="otsu")


def grey_level(image: Any) -> Any:
    """RGB 0..255, (B, H, W, 3) float32 -> grey, whole numbers 0..255, (B, H, W) float32.

    cv2.cvtColor's fixed-point sum, in float32: every partial sum is a whole number below 2^24, hence exact.
    """
    red, green, blue = (weight * image[..., i] for i, weight in enumerate(BT601))
    return ops.clip(ops.floor((red + green + blue + 2**14) * 2.0**-15), 0, GREYS - 1)


@keras.saving.register_keras_serializable("kerbside")
class RegionVotes(layers.Layer):
    """The logits of each pixel's region: regions (B, H, W), whole numbers -> (B, H, W, classes) float32.

    `table`, (regions, classes), is not trained but counted: the logarithm of each class's share of the region's
    pixels. Until then region i votes for class i.
    """

    def __init__(self, regions: int, classes: int, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.regions, self.classes = regions, classes

    def build(self, input_shape: Any) -> None:
        shape = (self.regions, self.classes)
        self.table = self.add_weight(shape=shape, initializer="identity", trainable=False, name="table")

    def call(self, regions: Any) -> Any:
        return ops.take(self.table, ops.cast(regions, "int32"), axis=0)

    def compute_output_spec(self, regions: Any) -> keras.KerasTensor:
        return keras.KerasTensor((*regions.shape, self.classes), dtype="float32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "regions": self.regions, "classes": self.classes}


@keras.saving.register_keras_serializable("kerbside")
class OtsuThresholds(layers.Layer):
    """Otsu's thresholds of each image: grey (B, H, W), whole numbers 0..255 -> (B, levels - 1), ascending."""

    def __init__(self, levels: int, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.levels = levels

    def call(self, grey: Any) -> Any:
        counts = _histogram(grey)
        if self.levels == 2:
            return ops.cast(_two_levels(counts)[:, None], "float32")
        search = _three_levels if self.levels == 3 else _four_levels
        chosen = ops.cast(search(*_criteria(counts)), "float32")
        return _unless_few_values(counts, chosen)

    def compute_output_spec(self, grey: Any) -> keras.KerasTensor:
        return keras.KerasTensor((grey.shape[0], self.levels - 1), dtype="float32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "levels": self.levels}


def _histogram(grey: Any) -> Any:
    """How many pixels have each grey value: (B, H, W) -> (B, 256) float32, whole numbers."""
    batch = ops.shape(grey)[0]
    # One row of 256 bins an image, all in one segment sum: two whole numbers a pixel are all the memory it takes.
    bins = (
        ops.reshape(ops.cast(grey, "int32"), (batch, -1)) + GREYS * ops.arange(batch, dtype="int32")[:, None]
    )
    bins = ops.reshape(bins, (-1,))
    # Ones that are computed: as a constant they would be most of an exported file.
    ones = ops.cast(bins >= 0, "int32")
    counts = ops.segment_sum(ones, bins, num_segments=batch * GREYS)
    return ops.cast(ops.reshape(counts, (batch, GREYS)), "float32")


# Two levels. The variance between the sides of threshold t is, up to a constant factor,
# (N S(t) - n(t) S)^2 / (n(t) (N - n(t))) with n(t) and S(t) the count and the sum of the grey values up to t:
# fractions of 100-bit whole numbers. cv2.threshold compares them in double precision. float32, all that TFLite has,
# would choose another threshold on real images, so each number here is the sum of a pair of float32 (Dekker, "A
# floating-point technique for extending the available precision", 1971): 48 bits.


def _two_levels(counts: Any) -> Any:
    """Otsu's threshold as cv2.threshold has it: (B, 256) -> (B,), the first of the best; 0 when none parts it."""
    below = ops.cumsum(counts, axis=1)  # n(t), exact
    total = below[:, -1:]  # N
    sums = _pair_sum_of_greys(counts)  # S(t)
    whole = (sums[0][:, -1:], sums[1][:, -1:])  # S
    zero = ops.zeros_like(below)
    distance = _subtract(_multiply((total, ops.zeros_like(total)), sums), _multiply((below, zero), whole))
    above = total - below
    # A side without pixels would divide by zero; such a threshold is never chosen.
    low, high = ops.maximum(below, 1.0), ops.maximum(above, 1.0)
    variance = _multiply(_divide(distance, (low, zero)), _divide(distance, (high, zero)))
    allowed = ops.minimum(below, above) >= total * CV2_LEAST_SHARE
    coarse = ops.where(allowed, variance[0], 0.0)
    best = ops.max(coarse, axis=1, keepdims=True)
    tied = ops.logical_and(ops.equal(coarse, best), best > 0)
    return _first_of_the_best(ops.where(tied, variance[1], NEVER))


def _pair_sum_of_greys(counts: Any) -> Any:
    """S(t), the sum of the grey values up to t, as a pair: (B, 256), (B, 256).

    The counts are cut into digits of 8 bits, so that no sum of float32 passes 2^24 = 256 x 256 x 256.
    """
    greys = ops.arange(GREYS, dtype="float32")
    digits, rest = [], counts
    for _ in range(3):
        upper = ops.floor(rest * 2.0**-8)
        digits.append(ops.cumsum(greys * (rest - upper * 2.0**8), axis=1))
        rest = upper
    sums = (digits[0], ops.zeros_like(counts))
    for place, digit in enumerate(digits[1:], 1):
        high, low = _two_sum(sums[0], digit * 256.0**place)
        sums = _two_sum(high, low + sums[1])
    return sums


def _two_sum(a: Any, b: Any) -> Any:
    """a + b and what float32 rounds away of it (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _two_product(a: Any, b: Any) -> Any:
    """a b and what float32 rounds away of it (Dekker)."""
    product = a * b
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


def _halves(a: Any) -> Any:
    """a as the sum of two numbers of 12 bits (Veltkamp)."""
    wide = a * 4097.0
    high = wide - (wide - a)
    return high, a - high


def _subtract(x: Any, y: Any) -> Any:
    high, low = _two_sum(x[0], -y[0])
    return _two_sum(high, low + (x[1] - y[1]))


def _multiply(x: Any, y: Any) -> Any:
    high, low = _two_product(x[0], y[0])
    return _two_sum(high, low + (x[0] * y[1] + x[1] * y[0]))


def _divide(x: Any, y: Any) -> Any:
    quotient = x[0] / y[0]
    rest = _subtract(x, _multiply((quotient, ops.zeros_like(quotient)), y))
    return _two_sum(quotient, rest[0] / y[0])


# Three and four levels. The criterion is a sum of one term a region, m^2 / z, with z and m the sums of p and i p over
# its bins; p is a grey value's share of the pixels and i its place from the darkest value in the image. What
# follows adds, in float32, what threshold_multiotsu adds, in its order, so that ties break alike.


def _criteria(counts: Any) -> Any:
    """The terms of the lowest region up to t, of the highest above t, of one above t and up to u.

    (B, 256) -> (B, 256), (B, 256), (B, 256, 256); NEVER where such thresholds are not allowed.
    """
    greys = ops.arange(GREYS, dtype="float32")
    lowest, highest = _lowest_and_highest(counts)
    shares = counts / ops.sum(counts, axis=1, keepdims=True)
    # The reference starts its first moment at p[0], not at 0 p[0], and keeps no term for a region of the darkest value
    # alone. Both change which thresholds win, so both are here.
    places = ops.maximum(greys - lowest, 0.0) + ops.cast(ops.equal(greys, lowest), "float32")
    zeroth, first = ops.cumsum(shares, axis=1), ops.cumsum(places * shares, axis=1)  # (B, 256)
    bottom = ops.where(greys > lowest, _term(zeroth, first), 0.0)
    top = _term(zeroth[:, -1:] - zeroth, first[:, -1:] - first)
    between = _term(zeroth[:, None] - zeroth[:, :, None], first[:, None] - first[:, :, None])  # (B, t, u)
    bottom = ops.where(greys >= lowest, bottom, NEVER)
    top = ops.where(greys < highest, top, NEVER)
    between = ops.where(greys[:, None] < greys[None], between, NEVER)
    return bottom, top, between


def _term(zeroth: Any, first: Any) -> Any:
    filled = zeroth > 0
    return ops.where(filled, first * first / ops.where(filled, zeroth, 1.0), 0.0)


def _lowest_and_highest(counts: Any) -> Any:
    """The darkest and the brightest grey value that is there, each (B, 1) float32."""
    greys = ops.arange(GREYS, dtype="float32")
    there = counts > 0
    lowest = ops.min(ops.where(there, greys, float(GREYS)), axis=1, keepdims=True)
    return lowest, ops.max(ops.where(there, greys, -1.0), axis=1, keepdims=True)


def _three_levels(bottom: Any, top: Any, between: Any) -> Any:
    """Every pair of thresholds: (B, 2) int32, the first of the best."""
    return ops.stack(_best_pair((bottom[:, :, None] + top[:, None]) + between), axis=1)


def _four_levels(bottom: Any, top: Any, between: Any) -> Any:
    """Every three thresholds t < u < v, a slab of t at a time: (B, 3) int32, the first of the best."""
    best = []
    for start in range(0, GREYS, SLAB):
        slab, rest = slice(start, start + SLAB), slice(start, None)  # u and v lie above t
        sums = bottom[:, slab, None, None] + top[:, None, None, rest]
        sums = (sums + between[:, slab, rest, None]) + between[:, None, rest, rest]  # (B, t, u, v)
        best.append(ops.max(ops.max(sums, axis=3), axis=2))
    t = _first_of_the_best(ops.concatenate(best, axis=1))
    sums = _chosen(bottom[..., None], t)[:, None] + top[:, None]
    sums = (sums + _chosen(between, t)[..., None]) + between  # (B, u, v)
    return ops.stack([t, *_best_pair(sums)], axis=1)


def _best_pair(sums: Any) -> tuple[Any, Any]:
    """The place of the largest, the first of them row by row: (B, 256, 256) -> (B,), (B,) int32."""
    row = _first_of_the_best(ops.max(sums, axis=2))
    return row, _first_of_the_best(_chosen(sums, row))


def _first_of_the_best(values: Any) -> Any:
    """(..., N) -> (...) int32. Not ops.argmax, whose care for -0.0 takes an op that TFLite lacks."""
    count = values.shape[-1]
    is_best = ops.equal(values, ops.max(values, axis=-1, keepdims=True))
    return ops.min(ops.where(is_best, ops.arange(count, dtype="int32"), count), axis=-1)


def _chosen(rows: Any, index: Any) -> Any:
    """rows[b, index[b]]: (B, N, C), (B,) int32 -> (B, C)."""
    picked = ops.equal(ops.arange(rows.shape[1], dtype="int32"), index[:, None])
    return ops.sum(rows * ops.cast(picked, rows.dtype)[..., None], axis=1)


def _unless_few_values(counts: Any, cuts: Any) -> Any:
    """The cuts, but each grey value a region of its own where there are no more values than regions."""
    greys = ops.arange(GREYS, dtype="float32")
    there = ops.cast(counts > 0, "float32")
    ranks = there * ops.cumsum(
        there, axis=1
    )  # 1 for the darkest value, 2 for the next; 0 where there is none
    values = ops.sum(there, axis=1, keepdims=True)  # how many there are, (B, 1)
    own = []
    for rank in range(1, cuts.shape[1] + 1):
        value = ops.sum(greys * ops.cast(ops.equal(ranks, float(rank)), "float32"), axis=1, keepdims=True)
        own.append(ops.where(values >= rank, value, GREYS - 1.0))
    return ops.where(values <= cuts.shape[1] + 1, ops.concatenate(own, axis=1), cuts)
