"""Augmentation against NumPy, OpenCV and colorsys, eagerly and inside tf.data."""

import colorsys
import dataclasses
import math

import cv2
import numpy as np
import pytest
import tensorflow as tf

from runtime.errors import UserError
from training.data import augment
from training.data.augmentation import NONE, Augmentation

GENERATOR = np.random.default_rng(0)
IMAGE = GENERATOR.integers(0, 256, (48, 64, 3), np.uint8)
LABEL = GENERATOR.integers(0, 12, (48, 64), np.uint8)


def samples(image, label, numbers, crop, augmentation):
    """Samples made inside tf.data as NumPy arrays; the first two are also made eagerly and compared.

    Ids agree bit for bit. A pixel may round the other way, because a graph fuses products and sums.
    """
    pairs = [(7, number) for number in numbers]
    dataset = tf.data.Dataset.from_tensor_slices(np.array(pairs, np.int64))
    rgb, ids = tf.constant(image), tf.constant(label)
    made = list(
        dataset.map(lambda pair: augment.apply(rgb, ids, pair, crop, augmentation)).as_numpy_iterator()
    )
    for pair, inside in list(zip(pairs, made, strict=True))[:2]:
        eager = augment.apply(rgb, ids, tf.constant(pair, tf.int64), crop, augmentation)
        assert eager[0].dtype == eager[1].dtype == tf.uint8
        difference = np.abs(eager[0].numpy().astype(int) - inside[0])
        assert difference.max() <= 1 and (difference > 0).mean() < 0.01
        assert np.array_equal(eager[1].numpy(), inside[1])
    return made


def run(image, label, number, crop, augmentation):
    return samples(image, label, [number], crop, augmentation)[0]


def warp_with(matrix, crop, image=IMAGE, label=LABEL):
    pixels, ids = augment.warp(tf.constant(image), tf.constant(label), tf.constant(matrix, tf.float32), crop)
    return pixels.numpy(), ids.numpy()


def matrix_of(crop, scale=1.0, offset=(0.0, 0.0), angle=0.0, mirrored=0.0):
    values = {"scale": scale, "offset": offset, "angle": angle, "mirrored": mirrored}
    return augment.affine(
        crop=crop, **{name: tf.constant(value, tf.float32) for name, value in values.items()}
    )


def test_nothing_changes_when_nothing_is_switched_on():
    pixels, ids = run(IMAGE, LABEL, 0, (48, 64), NONE)
    assert np.array_equal(pixels, IMAGE) and np.array_equal(ids, LABEL)


def test_flip_is_an_exact_mirror():
    pixels, ids = run(IMAGE, LABEL, 0, (48, 64), dataclasses.replace(NONE, flip=1.0))
    assert np.array_equal(pixels, IMAGE[:, ::-1]) and np.array_equal(ids, LABEL[:, ::-1])


@pytest.mark.parametrize("crop", [(31, 33), (32, 64), (1, 1)])
def test_an_unscaled_crop_is_an_exact_window(crop):
    """Red is the column and green the row, so the crop itself says where it was cut."""
    rows, columns = np.mgrid[0:48, 0:64].astype(np.uint8)
    image = np.stack([columns, rows, rows], axis=-1)
    corners = set()
    for pixels, ids in samples(image, LABEL, range(20), crop, NONE):
        x, y = pixels[0, 0, :2].astype(int)
        assert np.array_equal(pixels, image[y : y + crop[0], x : x + crop[1]])
        assert np.array_equal(ids, LABEL[y : y + crop[0], x : x + crop[1]])
        corners.add((x, y))
    assert len(corners) > 5


@pytest.mark.parametrize("offset", [(3, 5), (-2, -7), (4, -7), (0, 0)])
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_short_cut_is_what_the_warp_gives(offset, mirrored):
    crop = (40, 78) if offset[1] < 0 else (40, 50)
    pixels, ids = augment.cut(
        tf.constant(IMAGE), tf.constant(LABEL), tf.constant(offset), tf.constant(mirrored), crop
    )
    matrix = matrix_of(crop, offset=np.array(offset, np.float32), mirrored=float(mirrored))
    expected = warp_with(matrix.numpy(), crop)
    assert np.array_equal(pixels.numpy(), expected[0]) and np.array_equal(ids.numpy(), expected[1])


def test_crops_reach_every_corner_and_no_further():
    offsets = [
        float(augment.crop_offset(tf.constant(10.0), 7, tf.constant(d, tf.float32)))
        for d in np.linspace(0, 1, 99)
    ]
    assert sorted(set(offsets)) == [0, 1, 2, 3]
    offsets = [
        float(augment.crop_offset(tf.constant(7.9), 10, tf.constant(d, tf.float32)))
        for d in np.linspace(0, 1, 99)
    ]
    assert sorted(set(offsets)) == [-3, -2, -1, 0]


def test_a_crop_larger_than_the_image_is_filled_with_void():
    pixels, ids = run(IMAGE, LABEL, 3, (60, 80), NONE)
    outside = ids == 255
    assert (~outside).sum() == 48 * 64
    y, x = np.argwhere(~outside)[0]
    assert np.array_equal(ids[y : y + 48, x : x + 64], LABEL)
    assert np.array_equal(pixels[y : y + 48, x : x + 64], IMAGE)
    assert (pixels[outside] == 116).all()


def test_a_quarter_turn_is_numpys():
    """Anticlockwise as seen: np.rot90 once."""
    square, ids = IMAGE[:48, :48], LABEL[:48, :48]
    pixels, turned = warp_with(matrix_of((48, 48), angle=math.pi / 2), (48, 48), square, ids)
    assert np.abs(pixels - np.rot90(square)).max() < 0.05
    assert np.array_equal(turned, np.rot90(ids))


def test_twice_the_size_is_opencvs_resize():
    pixels, ids = warp_with(matrix_of((96, 128), scale=2.0), (96, 128))
    expected = cv2.resize(IMAGE.astype(np.float32), (128, 96), interpolation=cv2.INTER_LINEAR)
    assert np.abs(pixels - expected)[1:-1, 1:-1].max() < 0.01  # the border blends with the fill instead
    assert np.array_equal(ids, LABEL.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("number", range(6))
def test_any_warp_is_opencvs(number):
    draw = np.random.default_rng(number)
    matrix = matrix_of(
        (40, 50),
        scale=draw.uniform(0.5, 2),
        offset=draw.uniform(-20, 40, 2),
        angle=draw.uniform(-1, 1),
        mirrored=float(number % 2),
    ).numpy()
    pixels, ids = warp_with(matrix, (40, 50))
    # In float32 OpenCV interpolates to 1/32 of a pixel: smooth the noise so that this hardly shows.
    smooth = cv2.GaussianBlur(IMAGE, (0, 0), 3).astype(np.float32)
    pixels, _ = warp_with(matrix, (40, 50), smooth.astype(np.uint8))
    flags = cv2.WARP_INVERSE_MAP
    expected = cv2.warpAffine(
        np.floor(smooth), matrix, (50, 40), flags=flags | cv2.INTER_LINEAR, borderValue=(116, 116, 116)
    )
    inside = cv2.erode((ids != 255).astype(np.uint8), np.ones((5, 5))) > 0
    assert np.abs(pixels - expected)[inside].max(initial=0) < 1.5
    nearest = cv2.warpAffine(LABEL, matrix, (50, 40), flags=flags | cv2.INTER_NEAREST, borderValue=255)
    assert (ids == nearest).mean() > 0.97  # ties and 1/32 pixels


def test_image_and_label_map_move_together():
    """An image painted from its labels: after any warp its colours still say the same ids."""
    blobs = (cv2.resize(GENERATOR.random((6, 8)).astype(np.float32), (64, 48)) * 4).astype(np.uint8)
    image = np.repeat((blobs * 60)[..., None], 3, axis=2)
    motion = dataclasses.replace(NONE, scale=(0.6, 2.0), rotation=20.0, flip=0.5)
    for pixels, ids in samples(image, blobs, range(12), (40, 56), motion):
        counted = ids != 255
        edges = cv2.dilate(cv2.Laplacian(ids, cv2.CV_16S).astype(np.float32) ** 2, np.ones((3, 3))) > 0
        flat = counted & ~edges
        assert flat.sum() > 30
        assert (np.round(pixels[..., 0] / 60)[flat] == ids[flat]).mean() > 0.99
        assert set(np.unique(ids)) <= {*np.unique(blobs), 255}


def test_cutting_the_needed_part_out_changes_nothing():
    image = np.random.default_rng(3).integers(0, 256, (300, 400, 3), np.uint8)
    label = image[..., 0] % 20
    for offset, angle in [((100, 200), 0.1), ((-10, -10), -0.2), ((280, 390), 0.0), ((900, 900), 0.3)]:
        matrix = matrix_of((32, 40), scale=1.3, offset=offset, angle=angle)
        pixels, ids = warp_with(matrix.numpy(), (32, 40), image, label)
        whole = tf.raw_ops.ImageProjectiveTransformV3(
            images=image[None].astype(np.float32),
            transforms=tf.concat([tf.reshape(matrix, [1, 6]), [[0.0, 0.0]]], 1),
            output_shape=[32, 40],
            fill_value=116.0,
            interpolation="BILINEAR",
            fill_mode="CONSTANT",
        )[0].numpy()
        assert np.abs(pixels - whole).max() < 0.05
        assert ids.shape == (32, 40)
    assert (ids == 255).all()  # the last one lies outside


# Colours


def recolour(pixels, *, brightness=1.0, contrast=1.0, saturation=1.0, hue=0.0, pivot=100.0):
    values = dict(brightness=brightness, contrast=contrast, saturation=saturation, hue=hue, pivot=pivot)
    matrix, shift = augment.colour_map(**{name: tf.constant(value) for name, value in values.items()})
    return augment.recolour(tf.constant(pixels, tf.float32), matrix, shift).numpy()


def test_neutral_colours_change_nothing():
    assert np.abs(recolour(IMAGE) - IMAGE).max() < 1e-3


def test_brightness_and_contrast_are_their_formulas():
    image = IMAGE.astype(np.float32)
    assert np.abs(recolour(IMAGE, brightness=1.2) - 1.2 * image).max() < 2e-3
    assert np.abs(recolour(IMAGE, contrast=0.7) - (0.7 * (image - 100) + 100)).max() < 2e-3


def test_no_saturation_is_tensorflows_grey():
    grey = tf.image.rgb_to_grayscale(IMAGE.astype(np.float32)).numpy()
    assert np.abs(recolour(IMAGE, saturation=0.0) - grey).max() < 0.05  # TF rounds 0.587 to 0.5870


def test_hue_turns_in_colorsys_yiq():
    turn = 0.13
    for red, green, blue in IMAGE.reshape(-1, 3)[:20] / 255.0:
        luma, i, q = colorsys.rgb_to_yiq(red, green, blue)
        turned = complex(i, q) * complex(math.cos(2 * math.pi * turn), math.sin(2 * math.pi * turn))
        pixel = np.array([[[red, green, blue]]], np.float32)
        found = recolour(pixel, hue=turn)[0, 0]
        expected = np.array(colorsys.rgb_to_yiq(*found))
        assert np.abs(expected - [luma, turned.real, turned.imag]).max() < 0.01  # colorsys rounds to 2 digits


def test_the_pivot_is_the_images_mean():
    smooth = cv2.GaussianBlur(np.tile(IMAGE, (8, 8, 1)), (0, 0), 8)
    assert abs(float(augment.mean_grey(tf.constant(smooth))) - smooth.mean()) < 2.0


@pytest.mark.parametrize("sigma", [0.3, 0.8, 1.2])
def test_blur_is_opencvs(sigma):
    size = 2 * math.ceil(3 * 1.2) + 1
    pixels = IMAGE.astype(np.float32)
    found = augment.blur(tf.constant(pixels), tf.constant(sigma), 1.2).numpy()
    expected = cv2.GaussianBlur(pixels, (size, size), sigma, borderType=cv2.BORDER_REFLECT_101)
    assert np.abs(found - expected).max() < 0.01


# Randomness


def test_all_of_it_at_once_gives_the_same_pixels_every_time():
    everything = Augmentation(rotation=10.0, hue=0.1, blur=0.9)
    first = samples(IMAGE, LABEL, range(8), (32, 40), everything)
    again = samples(IMAGE, LABEL, reversed(range(8)), (32, 40), everything)[::-1]
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one[0], other[0]) and np.array_equal(one[1], other[1])
    assert len({pixels.tobytes() for pixels, _ in first}) == 8


def test_switching_one_operation_off_leaves_the_others():
    full = Augmentation(rotation=10.0)
    plain = dataclasses.replace(full, brightness=0, contrast=0, saturation=0, hue=0, blur=0)
    with_all = samples(IMAGE, LABEL, range(4), (32, 40), full)
    without = samples(IMAGE, LABEL, range(4), (32, 40), plain)
    for one, other in zip(with_all, without, strict=True):
        assert np.array_equal(one[1], other[1])
    assert not np.array_equal(with_all[0][0], without[0][0])


def test_probabilities_and_ranges_are_kept():
    """A lone bright column tells the flip; the share of a wide crop that is inside tells the scale."""
    label = np.zeros((50, 50), np.uint8)
    label[:, :25] = 1
    image = np.zeros((50, 50, 3), np.uint8)
    flipped, widths = 0, []
    motion = dataclasses.replace(NONE, flip=0.3, scale=(0.5, 1.5))
    step = tf.function(
        lambda n: augment.apply(tf.constant(image), tf.constant(label), tf.stack([7, n]), (100, 100), motion)[
            1
        ]
    )
    for number in range(400):
        ids = step(tf.constant(number, tf.int64)).numpy()
        row = ids[(ids != 255).any(axis=1)][5]
        row = row[row != 255]
        flipped += row[0] == 0
        widths.append(len(row) / 50)
    assert 0.3 - 0.08 < flipped / 400 < 0.3 + 0.08  # 3.5 standard deviations
    assert 0.47 < min(widths) < 0.55 and 1.45 < max(widths) < 1.53
    assert abs(np.mean(widths) - 1.0) < 0.05


def test_a_crop_of_one_row_can_be_blurred():
    pixels, _ = run(IMAGE, LABEL, 0, (1, 8), dataclasses.replace(NONE, blur=1.0))
    assert pixels.shape == (1, 8, 3)


def test_augmentation_survives_json_and_refuses_nonsense():
    import json

    there = json.loads(json.dumps(dataclasses.asdict(Augmentation())))
    assert Augmentation(**there) == Augmentation()
    for wrong in (
        {"flip": 1.5},
        {"scale": (2.0, 0.5)},
        {"scale": (0.0, 1.0)},
        {"hue": 0.7},
        {"rotation": -1.0},
        {"blur": math.nan},
    ):
        with pytest.raises(UserError, match=next(iter(wrong))):
            Augmentation(**wrong)
