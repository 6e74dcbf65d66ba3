"""The runtime's segmenter, bundle, polygons and thresholds against arithmetic and the peers' own files."""

import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime import Segmenter, UserError, read_bundle
from runtime.bundle import foreign_labels, spread_palette, stated_normalisation
from runtime.polygons import polygons
from runtime.threshold_segmenter import binary, grey, otsu, otsu_value
from tests import tiny_tflite as tiny
from tests.shared import CAMVID, PEERS, needs
from tests.tiny import REPOSITORY


@pytest.fixture
def ours(tmp_path, mask_bytes) -> Path:
    return tiny.write_bundle(tmp_path / "ours.tflite", mask_bytes)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def one_sentence(error: pytest.ExceptionInfo, *parts: str) -> None:
    text = str(error.value)
    assert "\n" not in text and text.endswith("."), text
    for part in parts:
        assert part in text, (part, text)


def test_ids_labels_and_palette_of_our_own_file(ours):
    rgb, ids = tiny.colours()
    found = Segmenter(ours).segment(rgb)
    assert found.ids.dtype == np.uint8 and (found.ids == ids).all()
    assert found.labels == tiny.LABELS and found.palette == tiny.PALETTE and found.seconds > 0
    assert (found.colour()[ids == 2] == (0, 0, 200)).all()
    assert (found.overlay(0.0) == rgb).all() and (found.overlay(1.0) == found.colour()).all()
    assert (cv2.imdecode(np.frombuffer(found.mask_png(), np.uint8), cv2.IMREAD_UNCHANGED) == ids).all()
    assert (
        cv2.imdecode(np.frombuffer(found.colour_png(), np.uint8), cv2.IMREAD_COLOR_RGB)[..., 0].max()
    ) == 200


def test_legend_counts_pixels(ours):
    rgb, _ = tiny.colours()
    rgb[:, :, :] = (9, 200, 9)
    rgb[:2, :6] = (200, 9, 9)  # 12 of 96 pixels
    legend = Segmenter(ours).segment(rgb).legend()
    assert [(row["id"], row["name"], row["colour"]) for row in legend] == [
        (1, "green", [0, 200, 0]),
        (0, "red", [200, 0, 0]),
    ]
    assert [row["share"] for row in legend] == [84 / 96, 12 / 96]


@pytest.mark.parametrize("size", [(8, 12), (16, 24), (5, 7), (31, 90), (1, 1)])
def test_ids_come_back_at_the_images_own_size(ours, size):
    rgb, ids = tiny.colours()
    sample_image = cv2.resize(rgb, (size[1], size[0]), interpolation=cv2.INTER_NEAREST)
    found = Segmenter(ours).segment(sample_image)
    assert found.ids.shape == size and found.overlay(0.4).shape == (*size, 3)
    if size == (16, 24):  # doubled, the bands stay the bands away from their edges
        assert (found.ids == np.kron(ids, np.ones((2, 2), np.uint8))).mean() > 0.9


@pytest.mark.parametrize(
    ("dtype", "out"), [("uint8", "int64"), ("uint8", "int32"), ("float32", "float32"), ("int8", "uint8")]
)
def test_every_number_type_of_masks(tmp_path, dtype, out):
    path = write(tmp_path / "x.tflite", tiny.mask_model(dtype=dtype, out=out))
    rgb, ids = tiny.colours()
    segmenter = Segmenter(path)
    found = segmenter.segment(rgb)
    assert segmenter.output == "mask" and segmenter.bundle is None
    assert (found.ids == ids).all()
    assert found.labels[:2] == ("class 0", "class 1")


@pytest.mark.parametrize("quantised", [False, True], ids=["float", "int8"])
def test_a_sigmoid_is_the_score_of_one_class(tmp_path, quantised):
    """Red above the middle is the class, and all else is background."""
    path = tmp_path / "binary.tflite"
    path.write_bytes(tiny.sigmoid_model(quantised=quantised))
    segmenter = Segmenter(path)
    rgb, _ = tiny.colours()
    assert segmenter.output == "scores" and len(segmenter.labels) == 2
    np.testing.assert_array_equal(segmenter.segment(rgb).ids, rgb[..., 0] > 127)
    scores = segmenter.scores(rgb)
    expected = 1 / (1 + np.exp(-(rgb[..., 0].astype(np.float64) - 127.5) / 32))
    np.testing.assert_allclose(scores[..., 1], expected, atol=0.02 if quantised else 1e-5)
    np.testing.assert_allclose(scores.sum(-1), 1, atol=1e-6)


def test_scores_and_scores_at_half_size(tmp_path):
    rgb, ids = tiny.colours()
    whole = Segmenter(write(tmp_path / "a.tflite", tiny.scores_model()))
    assert whole.output == "scores" and (whole.segment(rgb).ids == ids).all()
    half = Segmenter(write(tmp_path / "b.tflite", tiny.scores_model(stride=2)))
    # reference: the pooled channels enlarged as a whole by OpenCV, argmax last
    pooled = rgb.reshape(4, 2, 6, 2, 3).mean((1, 3)).astype(np.float32) * 0.5
    expected = cv2.resize(pooled, (12, 8), interpolation=cv2.INTER_LINEAR).argmax(-1)
    assert (half.segment(rgb).ids == expected).all()


@pytest.fixture(scope="module")
def scores_bytes() -> bytes:
    return tiny.scores_model()


@pytest.mark.parametrize("fit", ["auto", "letterbox", "tiles"])
@pytest.mark.parametrize(
    "size", [(8, 12), (4, 12), (8, 3), (8, 30), (20, 12), (16, 48), (1, 1), (1, 9), (9, 1)]
)
def test_each_fit_gives_the_true_image_area(ours, tmp_path, scores_bytes, size, fit):
    """Nothing of the border is in ids, shares, scores and outlines, and a pixel's class stays at the pixel."""
    green = np.full((*size, 3), (9, 200, 9), np.uint8)  # the border, grey, is class 0
    found = Segmenter(ours).segment(green, fit)
    assert found.ids.shape == size and found.shares() == {1: 1.0}
    if min(size) > 1:
        assert [row["area"] for row in found.polygons(min_area=1, edges=True)] == [size[0] * size[1]]
    scores = Segmenter(write(tmp_path / "s.tflite", scores_bytes))
    assert scores.segment(green, fit).shares() == {1: 1.0}
    np.testing.assert_allclose(scores.scores(green, fit), np.full((*size, 3), (4.5, 100, 4.5)), atol=1e-4)
    ids = np.repeat(np.arange(size[1]) * 3 // size[1], size[0]).reshape(size[::-1]).T
    bands = np.eye(3, dtype=np.uint8)[ids] * 200
    for segmenter in (Segmenter(ours), scores):
        wrong = segmenter.segment(bands, fit).ids != ids
        assert wrong.sum() <= 2 * 2 * size[0]  # a resized edge may move by a pixel, and there are two edges


def test_auto_is_for_our_own_files_and_others_are_stretched(ours, tmp_path, mask_bytes):
    rgb, _ = tiny.colours(4, 12)
    own, foreign = Segmenter(ours), Segmenter(write(tmp_path / "f.tflite", mask_bytes))
    assert own.placing((4, 12)).fit == "letterbox" and foreign.placing((4, 12)).fit == "stretch"
    assert (own.prepare(rgb)[0, 2:6] == rgb).all() and (own.prepare(rgb)[0, :2] == 128).all()
    assert (foreign.prepare(rgb) == cv2.resize(rgb, (12, 8))[None]).all()
    assert (foreign.prepare(rgb, "letterbox") == own.prepare(rgb)).all()
    assert own.prepare(rgb, "tiles").shape == (3, 8, 12, 3)  # 24 wide: two steps of up to 9
    for call in (own.segment, own.prepare):
        with pytest.raises(UserError) as error:
            call(rgb, "Letterbox")
        one_sentence(error, "fit is 'Letterbox'", "auto, letterbox, stretch, tiles")


def test_an_evaluation_takes_the_fit_that_is_asked_for(ours):
    from evaluation.predictor import open_predictor

    rgb = np.random.default_rng(7).integers(0, 256, (4, 12, 3), np.uint8)
    segmenter, seen = Segmenter(ours), []
    for asked, fit in (
        (None, "auto"),
        ("letterbox", "letterbox"),
        ("stretch", "stretch"),
        ("tiles", "tiles"),
    ):
        predictor = open_predictor(ours, 1, fit=asked)
        seen.append(predictor.predict(rgb))
        assert predictor.fit == fit and (seen[-1] == segmenter.segment(rgb, fit).ids).all()
    assert (seen[0] == seen[1]).all() and (seen[1] != seen[2]).any() and (seen[2] != seen[3]).any()
    with pytest.raises(UserError, match="--fit is 'crop'; it has to be one of"):
        open_predictor(ours, 1, fit="crop")
    with pytest.raises(UserError, match="--fit tiles is for a .tflite, .*runs/x"):
        open_predictor(Path("runs/x"), 1, fit="tiles")


@needs(CAMVID)
def test_auto_is_better_than_stretching_on_a_real_street():
    """Five images of val: 3:1 and 9:16 lose much when they are stretched, 16:9 a little (docs/results/runtime.md)."""
    from benchmarks.shapes import cut
    from evaluation import metrics
    from runtime.image import read_rgb

    root = REPOSITORY
    segmenter = Segmenter(root / "models" / "deeplabv3plus_mobilenet_edgetpu_camvid_int8.tflite")
    for aspect, gain in ((16 / 9, 0), (3, 0.1), (9 / 16, 0.1)):
        matrices = dict.fromkeys(("stretch", "auto"), 0)
        for path in sorted((CAMVID / "val").glob("*.png"))[::20]:
            label = cv2.imread(str(CAMVID / "valannot" / path.name), cv2.IMREAD_UNCHANGED)
            rgb, truth = cut(read_rgb(path), aspect), cut(np.where(label > 10, 255, label), aspect)
            for fit in matrices:
                matrices[fit] += metrics.confusion_matrix(truth, segmenter.segment(rgb, fit).ids, 11)
        miou = {fit: metrics.scores(matrix, segmenter.labels)["miou"] for fit, matrix in matrices.items()}
        assert miou["auto"] > miou["stretch"] + gain, (aspect, miou)


def test_what_each_input_type_is_fed(tmp_path, ours):
    rgb = np.arange(8 * 12 * 3, dtype=np.uint8).reshape(8, 12, 3)
    assert (Segmenter(ours).prepare(rgb)[0] == rgb).all()
    int8 = Segmenter(write(tmp_path / "i.tflite", tiny.mask_model(dtype="int8")))
    assert (int8.prepare(rgb)[0].astype(int) == rgb.astype(int) - 128).all()
    model = tiny.mask_model(dtype="float32")
    stranger = Segmenter(write(tmp_path / "f.tflite", model))
    np.testing.assert_allclose(stranger.prepare(rgb)[0], rgb / 127.5 - 1, atol=1e-6)
    own = Segmenter(tiny.write_bundle(tmp_path / "o.tflite", model))
    assert (own.prepare(rgb)[0] == rgb).all()


def test_threads_share_one_segmenter(ours):
    segmenter = Segmenter(ours)
    rgb, ids = tiny.colours()
    images = [rgb, rgb[:, :, [1, 2, 0]], rgb[:, :, [2, 0, 1]]]
    expected = [ids, (ids + 2) % 3, (ids + 1) % 3]
    wrong = []

    def work(index: int) -> None:
        for _ in range(50):
            if (segmenter.segment(images[index]).ids != expected[index]).any():
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not wrong


def test_bundle_is_read_and_checked(tmp_path, ours, mask_bytes):
    bundle = read_bundle(ours)
    assert bundle.labels == tiny.LABELS and bundle.size == (8, 12) and bundle.facts["model"] == "tiny"
    assert read_bundle(write(tmp_path / "plain.tflite", mask_bytes)) is None

    data = bytearray(ours.read_bytes())
    data[len(mask_bytes) // 2] ^= 1
    with pytest.raises(UserError) as error:
        Segmenter(write(tmp_path / "flipped.tflite", bytes(data)))
    one_sentence(error, "flipped.tflite", "damaged", "SHA-256")

    with pytest.raises(UserError) as error:
        read_bundle(tiny.write_bundle(tmp_path / "new.tflite", mask_bytes, format=2))
    one_sentence(error, "format 2")
    with pytest.raises(UserError) as error:
        read_bundle(tiny.write_bundle(tmp_path / "lack.tflite", mask_bytes, palette=[[1, 2, 3]]))
    one_sentence(error, "kerbside.json")
    with pytest.raises(UserError) as error:
        Segmenter(tiny.write_bundle(tmp_path / "size.tflite", mask_bytes, size=[9, 9]))
    one_sentence(error, "(9, 9)", "(8, 12)")


def test_a_bundle_that_export_writes_is_read(tmp_path, mask_bytes):
    export = pytest.importorskip("export.provenance", reason="needs the export package")
    note = {
        "format": export.FORMAT,
        "labels": list(tiny.LABELS),
        "palette": [list(colour) for colour in tiny.PALETTE],
        "ignore_id": 255,
        "output": "mask",
        "size": [8, 12],
        "model": "deeplabv3plus",
        "data": "scenes",
        "taxonomy": "cityscapes",
        "precision": "int8",
        "scores": {"miou": 0.5},
    }
    path = write(tmp_path / "exported.tflite", export.append(mask_bytes, note))
    bundle = read_bundle(path)
    assert (bundle.model, bundle.data, bundle.taxonomy, bundle.precision, bundle.miou) == (
        "deeplabv3plus",
        "scenes",
        "cityscapes",
        "int8",
        0.5,
    )
    assert (Segmenter(path).segment(tiny.colours()[0]).ids == tiny.colours()[1]).all()


def test_bundle_cut_in_its_archive_is_refused(tmp_path, ours, mask_bytes):
    data = ours.read_bytes()
    for keep in range(len(mask_bytes) + 60, len(data), 40):
        with pytest.raises(UserError) as error:
            Segmenter(write(tmp_path / "cut.tflite", data[:keep]))
        one_sentence(error, "cut.tflite")


def test_id_beyond_our_labels_is_refused(tmp_path, mask_bytes):
    path = tiny.write_bundle(
        tmp_path / "two.tflite", mask_bytes, labels=["red", "green"], palette=[[1, 1, 1], [2, 2, 2]]
    )
    with pytest.raises(UserError) as error:
        Segmenter(path).segment(tiny.colours()[0])
    one_sentence(error, "class id 2", "0 to 1")


def test_files_that_are_no_segmenter(tmp_path):
    import tensorflow as tf

    def refused(function, shape, *parts, dtype="float32"):
        path = write(tmp_path / "other.tflite", tiny.convert(function, shape, dtype))
        with pytest.raises(UserError) as error:
            Segmenter(path, trusted=True).segment(np.zeros((8, 12, 3), np.uint8))
        one_sentence(error, "other.tflite", *parts)

    image = (1, 8, 12, 3)
    refused(lambda x: tf.reduce_mean(x, (1, 2)), image, "(1, 3)")  # a classifier
    refused(lambda x: tf.reshape(x, (1, 96, 3)), image, "(1, 96, 3)")  # boxes
    refused(lambda x: (x + 1, x + 2), image, "2 outputs")
    refused(lambda x: x[:, 0], (1, 3, 8, 12), "(1, 3, 8, 12)")  # channels first
    refused(lambda x: x[..., :1] * 0.5 + 0.3, image, "fractions such as -0.200")
    refused(lambda x: x[..., 0], (1, None, None, 3), "open", "fixed height and width")
    refused(lambda x: x[..., 0] - 1, image, "int32", dtype="int32")
    refused(lambda x: tf.cast(x[..., 0], tf.int32) - 7, image, "class id -", dtype="float32")


@pytest.mark.parametrize(
    ("content", "part"),
    [(b"", "not a TFLite model"), (b"hello world", "b'o wo'"), (b"\0\0\0\0TFL3", "truncated or damaged")],
)
def test_files_that_are_no_tflite(tmp_path, content, part):
    with pytest.raises(UserError) as error:
        Segmenter(write(tmp_path / "bad.tflite", content))
    one_sentence(error, "bad.tflite", part)


def test_missing_file_folder_and_bad_values(tmp_path, ours):
    for path in (tmp_path / "none.tflite", tmp_path):
        with pytest.raises(UserError) as error:
            Segmenter(path)
        one_sentence(error, str(path))
    with pytest.raises(UserError, match="threads is 0"):
        Segmenter(ours, threads=0)
    segmenter = Segmenter(ours)
    for wrong in (np.zeros((8, 12), np.uint8), np.zeros((8, 12, 3)), np.zeros((0, 12, 3), np.uint8)):
        with pytest.raises(UserError, match="uint8 RGB"):
            segmenter.segment(wrong)
    with pytest.raises(UserError, match="opacity is 2"):
        segmenter.segment(tiny.colours()[0]).overlay(2)


TRUNCATE = """
import sys
from runtime import Segmenter, UserError
data, refused = open(sys.argv[1], "rb").read(), 0
for step in range(int(sys.argv[3])):
    keep = 8 + step * (len(data) - 8) // int(sys.argv[3])
    open(sys.argv[2], "wb").write(data[:keep])
    try:
        Segmenter(sys.argv[2], trusted=True)
    except UserError as error:
        assert chr(10) not in str(error)
        refused += 1
print("refused", refused)
"""


@needs(PEERS)
@pytest.mark.parametrize("name", ["deeplabv3_mnv2_pascal_quant", "tflite_support_deeplabv3_voc_257_float"])
def test_truncations_of_a_real_file_neither_crash_nor_pass(tmp_path, name):
    """In a process of its own, because what is tested for is a crash below Python."""
    command = [
        sys.executable,
        "-c",
        TRUNCATE,
        str(PEERS / f"{name}.tflite"),
        str(tmp_path / "t.tflite"),
        "60",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-500:]
    assert "refused 60" in done.stdout


@needs(PEERS, CAMVID)
def test_peers_see_road_cars_and_sky_in_a_real_street():
    from runtime.image import read_rgb

    rgb = read_rgb(CAMVID / "val" / "0016E5_07965.png")
    files = sorted(PEERS.glob("*.tflite"))
    assert len(files) == 6
    car = np.s_[200:240, 385:440]  # where the image shows the parked car, and below it the road
    road = np.s_[330:355, 200:300]
    expected = {"cityscapes": (13, 0), "ade32": (None, 7), "pascal": (7, 0), "voc": (7, 0)}
    for path in files:
        found = Segmenter(path).segment(rgb)
        car_id, road_id = next(ids for part, ids in expected.items() if part in path.name)
        assert (found.ids[road] == road_id).mean() > 0.95, path.name
        if car_id is not None:
            assert (found.ids[car] == car_id).mean() > 0.95, path.name
    voc = PEERS / "tflite_support_deeplabv3_voc_257_float.tflite"
    assert foreign_labels(voc)[7] == "car" and len(foreign_labels(voc)) == 21
    assert stated_normalisation(voc.read_bytes()) == ([127.5], [127.5])
    assert Segmenter(voc).segment(rgb).labels[7] == "car"


def test_generated_palette_is_well_separated():
    colours = np.array(spread_palette(40), float)
    apart = np.abs(colours[:, None] - colours[None]).sum(-1) + 999 * np.eye(40)
    assert len(set(spread_palette(256))) > 250 and apart.min() > 30


def test_polygons_drawn_again_give_the_ids_back():
    rng = np.random.default_rng(3)
    ids = (cv2.GaussianBlur(rng.random((60, 80)).astype(np.float32), (0, 0), 3) * 400 % 4).astype(np.uint8)
    for index in range(4):
        drawn = np.zeros_like(ids)
        area = 0
        for row in polygons(ids, tolerance=0, min_area=1):
            if row["id"] != index:
                continue
            area += row["area"]
            piece = np.zeros_like(ids)
            cv2.fillPoly(piece, [np.array(row["points"])], 1)
            for hole in row["holes"]:
                inside = np.zeros_like(ids)
                cv2.fillPoly(inside, [np.array(hole)], 1)
                cv2.polylines(inside, [np.array(hole)], True, 0)  # the ring around a hole is the region's own
                piece[inside == 1] = 0
            drawn |= piece
        assert ((drawn == 1) == (ids == index)).all() and area == (ids == index).sum()
    sizes = [row["area"] for row in polygons(ids, min_area=30)]
    assert sizes == sorted(sizes, reverse=True) and min(sizes) >= 30


def test_thresholds():
    rgb = np.zeros((4, 256, 3), np.uint8)
    rgb[:] = np.arange(256, dtype=np.uint8)[None, :, None]
    found = binary(rgb, value=99)
    assert (found.ids == (np.arange(256) > 99)).all() and found.labels == ("background", "foreground")
    assert (binary(rgb, value=99, foreground="dark").ids == (np.arange(256) <= 99)).all()
    assert found.legend()[0]["share"] == 156 / 256
    with pytest.raises(UserError, match="300"):
        binary(rgb, value=300)
    with pytest.raises(UserError, match="sideways"):
        binary(rgb, foreground="sideways")


def test_otsu_maximises_the_variance_between_classes():
    rng = np.random.default_rng(5)
    rgb = np.clip(np.where(rng.random((60, 60)) < 0.3, 60, 170) + rng.normal(0, 15, (60, 60)), 0, 255)
    rgb = np.repeat(rgb.astype(np.uint8)[..., None], 3, 2)
    values = grey(rgb).ravel().astype(float)

    def between(cut: int) -> float:  # Otsu 1979, equation 18
        low, high = values[values <= cut], values[values > cut]
        if not len(low) or not len(high):
            return 0.0
        return len(low) * len(high) * (low.mean() - high.mean()) ** 2

    best = max(range(256), key=between)
    assert between(otsu_value(rgb)) == pytest.approx(between(best), rel=1e-9)
    assert (otsu(rgb).ids.ravel() == (values > otsu_value(rgb))).all()
