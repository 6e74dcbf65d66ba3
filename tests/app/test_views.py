"""What the page does to an image, as functions: borders, hidden classes, palettes, agreement, archives."""

import io
import json
import threading
import zipfile

import cv2
import numpy as np
import pytest

from app import agreement, archive, palettes, views
from runtime.bundle import read_note, same_weights
from runtime.errors import UserError
from runtime.segmenter import Segmentation, Segmenter
from runtime.video import checked_video, segment_video
from tests import tiny_tflite as tiny
from tests.tiny_tflite import video

LABELS = ("road", "car", "tree")
PALETTE = ((128, 64, 128), (0, 0, 142), (107, 142, 35))


def found(ids, labels=LABELS, palette=PALETTE) -> Segmentation:
    ids = np.array(ids, np.uint8)
    rgb = np.full((*ids.shape, 3), (50, 100, 150), np.uint8)
    return Segmentation(ids, labels, palette, 0.01, rgb)


def test_a_hidden_class_shows_the_image_and_the_others_their_tint():
    one = found([[0, 1, 2]])
    shown = views.overlay(one, 1.0, hidden=(1,))
    assert shown[0].tolist() == [list(PALETTE[0]), [50, 100, 150], list(PALETTE[2])]
    half = views.overlay(one, 0.5)[0, 0]
    assert half.tolist() == [(50 + 128) // 2, (100 + 64) // 2, (150 + 128) // 2]


def test_borders_lie_on_both_sides_and_nowhere_else():
    ids = np.array([[0] * 5 + [1] * 5] * 4, np.uint8)
    assert (views.borders(ids) == [255] * 4 + [0, 1] + [255] * 4).all()
    assert (views.borders(ids, thickness=2) == [255] * 3 + [0, 0, 1, 1] + [255] * 3).all()
    with pytest.raises(UserError, match="the thickness is 0"):
        views.borders(ids, thickness=0)


def test_a_screen_gets_no_more_than_it_can_show():
    big = found(np.zeros((300, 1000)))
    assert views.for_a_screen(big, 500).ids.shape == (150, 500)
    assert views.for_a_screen(big, 500).rgb.shape == (150, 500, 3)
    assert views.for_a_screen(big, 1000) is big


def test_colours_for_the_colour_blind_begin_with_okabe_and_ito_and_stay_apart():
    assert (
        palettes.safe_palette(8) == palettes.OKABE_ITO and palettes.safe_palette(2) == palettes.OKABE_ITO[:2]
    )
    cityscapes = json.loads(CITYSCAPES)
    for count in (11, 19):
        ours = palettes.safe_palette(count)
        assert len(set(ours)) == count
        assert least_apart(ours) > 15 > 2 * least_apart(cityscapes[:count])


# The palette of the data set's own 19 classes (cityscapesscripts, helpers/labels.py).
CITYSCAPES = """[[128,64,128],[244,35,232],[70,70,70],[102,102,156],[190,153,153],[153,153,153],[250,170,30],
[220,220,0],[107,142,35],[152,251,152],[70,130,180],[220,20,60],[255,0,0],[0,0,142],[0,0,70],[0,60,100],[0,80,100],
[0,0,230],[119,11,32]]"""


def least_apart(colours) -> float:
    lab = palettes.as_seen(np.array(colours, np.uint8))
    apart = np.linalg.norm(lab[:, :, None] - lab[:, None], axis=3) + 1e9 * np.eye(len(colours))
    return float(apart.min())


def test_simulated_vision_keeps_greys_and_takes_the_red_of_the_red_blind():
    """The rows of Machado's matrices add up to 1, so that greys stay; a protanope sees pure red as dark as
    0.152286 + 0.114503 - 0.003882 of the linear parts say."""
    grey = palettes.as_seen(np.array([[119, 119, 119]], np.uint8))
    assert np.abs(grey - grey[:1]).max() < 0.05
    normal, protan = palettes.as_seen(np.array([[255, 0, 0]], np.uint8))[:2, 0]
    luminance = 0.2126 * 0.152286 + 0.7152 * 0.114503  # of sRGB's primaries; negative blue is cut off
    assert protan[0] == pytest.approx(116 * luminance ** (1 / 3) - 16, abs=0.5)
    assert normal[0] == pytest.approx(116 * 0.2126 ** (1 / 3) - 16, abs=0.5)


def test_recoloured_keeps_the_classes():
    one = found([[0, 1, 2]])
    safe = palettes.recoloured(one, palettes.SAFE)
    assert (safe.ids == one.ids).all() and safe.labels == LABELS and safe.palette == palettes.OKABE_ITO[:3]
    assert palettes.recoloured(one, palettes.OWN) is one
    with pytest.raises(UserError, match="the palette 'loud' is none"):
        palettes.recoloured(one, "loud")


def test_models_agree_by_name_whatever_their_ids_and_cases_are():
    one = found([[0, 0, 1, 2]])
    other = found([[2, 2, 2, 1]], labels=("Tree", "CAR", "Road"))
    assert agreement.agreement([one, other]).tolist() == [[1, 0.5], [0.5, 1]]
    assert agreement.extra_answers([one, other]).tolist() == [[0, 0, 1, 1]]
    rows = agreement.common_disputes(one, other)
    assert {(row["first"], row["second"], row["share"]) for row in rows} == {
        ("car", "road", 0.25),
        ("tree", "car", 0.25),
    }


def test_the_map_of_differences_counts_the_answers():
    three = [found([[0, 0, 0, 1]]), found([[0, 1, 1, 1]]), found([[0, 1, 2, 1]])]
    assert agreement.extra_answers(three).tolist() == [[0, 1, 2, 0]]
    drawn = agreement.map_of_differences(three)[0]
    assert drawn[1].tolist() == [240, 228, 66] and drawn[2].tolist() == [230, 159, 0]  # Okabe and Ito
    assert drawn[0].tolist() == [60, 60, 60]  # 0.6 of the mean of 50, 100, 150
    with pytest.raises(UserError, match="two or more"):
        agreement.agreement(three[:1])
    with pytest.raises(UserError, match="sizes"):
        agreement.agreement([three[0], found([[0]])])


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("street.png", "street"),
        ("../../etc/passwd", "passwd"),
        ("C:\\x\\holiday.jpg", "holiday"),
        ("a/..", "picture"),
        ("\x00\n.png", "picture"),
        ("Straße 1.jpeg", "Straße 1"),
        ("x" * 300 + ".png", "x" * 100),
    ],
)
def test_names_of_strangers_become_names_of_files(name, stem):
    assert archive.safe_stem(name) == stem


def test_the_zip_holds_every_file_of_every_image_and_names_the_bad():
    one, other = found(np.repeat([[0, 1]], 6, axis=0).repeat(6, axis=1)), found(np.full((9, 9), 2))

    def bad() -> Segmentation:
        raise UserError("b.png is empty.")

    jobs = [("a.png", lambda: one), ("b.png", bad), ("../a.png", lambda: other)]
    with zipfile.ZipFile(io.BytesIO(archive.zipped(jobs, 1.0, hidden=(2,), facts={"method": "m"}))) as file:
        assert file.testzip() is None
        names = set(file.namelist())
        ends = ("_mask.png", "_colour.png", "_overlay.png", ".json", "_polygons.json")
        assert names == {f"{stem}{end}" for stem in ("a", "a_2") for end in ends} | {"summary.json"}
        mask = cv2.imdecode(np.frombuffer(file.read("a_mask.png"), np.uint8), cv2.IMREAD_UNCHANGED)
        assert (mask == one.ids).all()
        overlay = cv2.imdecode(np.frombuffer(file.read("a_2_overlay.png"), np.uint8), cv2.IMREAD_COLOR_RGB)
        assert (overlay == other.rgb).all()  # its only class is hidden
        summary = json.loads(file.read("summary.json"))
        assert summary["method"] == "m" and summary["could_not_be_read"] == ["b.png is empty."]
        shapes = json.loads(file.read("a_polygons.json"))
        assert shapes["size"] == [6, 12] and [row["area"] for row in shapes["polygons"]] == [36, 36]


def test_no_two_images_share_a_file_in_the_zip():
    one = found(np.zeros((4, 4), np.int64))
    long = "x" * 120
    names = [
        "a.png",
        "a.jpg",
        "a_2.png",
        "A.bmp",
        "a_polygons.png",
        "summary.png",
        f"{long}.png",
        f"{long}.jpg",
    ]
    with zipfile.ZipFile(io.BytesIO(archive.zipped([(name, lambda: one) for name in names], 1.0))) as file:
        written = [name.casefold() for name in file.namelist()]
    assert len(written) == len(set(written)) == 5 * len(names) + 1
    assert archive.own_names(["a.png", "b.png", "a.jpg"]) == ["a.png", "b.png", "a_2.png"]


def test_float_and_int8_of_the_same_weights_find_each_other(tmp_path):
    model = tiny.mask_model()
    facts = {"weights_sha256": "a" * 64}
    names = {"b8": {"precision": "int8", **facts}, "a32": {"precision": "fp32", **facts}}
    names |= {"other": {"precision": "int8", "weights_sha256": "b" * 64}, "unsaid": {"precision": "int8"}}
    paths = [tiny.write_bundle(tmp_path / f"{name}.tflite", model, **note) for name, note in names.items()]
    (tmp_path / "foreign.tflite").write_bytes(model)
    groups = same_weights([*paths, tmp_path / "foreign.tflite"])
    assert [[path.stem for path in group] for group in groups] == [["a32", "b8"]]
    assert read_note(paths[0])["precision"] == "int8" and read_note(tmp_path / "none.tflite") == {}


def test_a_video_becomes_webm_outside_of_the_main_thread_and_no_longer_than_asked(tmp_path):
    """As the page does it, whose scripts run in threads."""
    video(tmp_path / "drive.mp4", 30)
    segmenter = Segmenter(tiny.write_bundle(tmp_path / "m.tflite", tiny.mask_model()))
    results = []

    def work() -> None:
        out = tmp_path / "seen.webm", tmp_path / "seen.json"
        results.append(
            segment_video(segmenter, tmp_path / "drive.mp4", *out, 0.5, lambda _: None, most_frames=20)
        )

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert results[0]["frames"] == 20 and not results[0]["complete"] and not results[0]["cut_off"]
    assert (tmp_path / "seen.webm").read_bytes()[:4] == b"\x1a\x45\xdf\xa3"  # EBML
    capture, frames = cv2.VideoCapture(str(tmp_path / "seen.webm")), 0
    while capture.read()[0]:
        frames += 1
    assert frames == 20


def test_a_video_is_judged_by_its_header(tmp_path):
    video(tmp_path / "drive.mp4", 30)
    facts = checked_video(tmp_path / "drive.mp4", "my.mp4", 30, 10**6)
    assert facts["frames"] == 30
    with pytest.raises(UserError, match=r"my\.mp4 has 30 frames; up to 29"):
        checked_video(tmp_path / "drive.mp4", "my.mp4", 29, 10**6)
    with pytest.raises(UserError, match=r"my\.mp4 has frames of \d+x\d+ pixels"):
        checked_video(tmp_path / "drive.mp4", "my.mp4", 30, 10)
    (tmp_path / "no.mp4").write_bytes(b"not a film at all")
    with pytest.raises(UserError, match=r"my\.mp4 is no video that is read here"):
        checked_video(tmp_path / "no.mp4", "my.mp4", 30, 10**6)
