"""The drawn scenes: the same everywhere, at any size, all classes, ids that agree, and the folder layout."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from drawing import layout
from drawing.canvas import Canvas, Light, View, cut
from runtime.errors import UserError
from tests.tiny import REPOSITORY
from training.data import cityscapes, scenes

THINGS = (24, 25, 26, 27, 28, 31, 32, 33)  # Cityscapes' labels with instances
LABELS = {label.name: label.id for label in cityscapes.LABELS}
GREY = ((200.0, 200.0, 200.0), (220.0, 220.0, 220.0))
PLAIN = Light("clear", (0.0, 1.0, 0.0), (1.0,) * 3, (0.0,) * 3, (200.0,) * 3, 1e9, False, GREY)  # type: ignore[arg-type]


def digest(scene: scenes.Scene) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in scene)).hexdigest()


@pytest.fixture(scope="module")
def many() -> list[scenes.Scene]:
    return [scenes.draw(0, index, (96, 192)) for index in range(120)]


def test_shapes_and_types() -> None:
    image, labels, instances = scenes.draw(3, 5, (96, 192))
    assert image.shape == (96, 192, 3) and image.dtype == np.uint8
    assert labels.shape == (96, 192) and labels.dtype == np.uint8
    assert instances.shape == (96, 192) and instances.dtype == np.int32


def test_the_same_in_another_process_and_in_any_order() -> None:
    here = [digest(scenes.draw(7, index, (64, 128))) for index in (2, 0, 1)]
    code = (
        "import hashlib, numpy as np\n"
        "from training.data import scenes\n"
        "for k in (0, 1, 2):\n"
        "    parts = scenes.draw(7, k, (64, 128))\n"
        "    print(hashlib.sha256(b''.join(np.ascontiguousarray(p).tobytes() for p in parts)).hexdigest())\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "99"}
    there = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert [here[1], here[2], here[0]] == there


def test_every_index_seed_and_split_is_another_scene() -> None:
    keys = [(0, 0, "train"), (0, 1, "train"), (1, 0, "train"), (0, 0, "val"), (0, 1, "val"), (1, 1, "val")]
    drawn = {digest(scenes.draw(seed, index, (32, 64), split=split)) for seed, index, split in keys}
    assert len(drawn) == len(keys)


def test_all_classes_appear_and_are_long_tailed(many: list[scenes.Scene]) -> None:
    count = sum(np.bincount(scene.label_ids.ravel(), minlength=256) for scene in many)
    assert count[34:].sum() == 0
    share = {label.name: count[label.id] / count.sum() for label in cityscapes.TRAIN_LABELS}
    assert all(share.values()), [name for name, value in share.items() if not value]
    assert min(share["road"], share["building"]) > 0.15 and share["vegetation"] > 0.06 and share["sky"] > 0.05
    rare = ("traffic light", "rider", "motorcycle", "bicycle")
    assert all(share[name] < 0.01 for name in rare) and min(share.values()) < 0.005
    assert share["road"] > share["car"] > share["person"] > share["rider"] > share["motorcycle"]
    void = 1.0 - sum(share.values())
    assert 0.0 < void < 0.1


def test_instance_ids_agree_with_label_ids(many: list[scenes.Scene]) -> None:
    for scene in many:
        things = np.isin(scene.label_ids, THINGS)
        assert (scene.instance_ids[things] // 1000 == scene.label_ids[things]).all()
        assert (scene.instance_ids[~things] == scene.label_ids[~things]).all()
    cars = [len(np.unique(scene.instance_ids[scene.label_ids == LABELS["car"]])) for scene in many]
    assert max(cars) >= 4  # told apart, not one blob


def test_the_sky_is_above_and_the_road_below(many: list[scenes.Scene]) -> None:
    rows = np.arange(96)[:, None]
    for scene in many[:40]:
        sky, road = scene.label_ids == LABELS["sky"], scene.label_ids == LABELS["road"]
        assert road[-20].any() and not sky[60:].any()
        if sky.any():
            assert (rows * sky).sum() / sky.sum() < (rows * road).sum() / road.sum()


def test_a_scene_does_not_depend_on_its_size() -> None:
    for index in range(4):
        small, large = scenes.draw(0, index, (128, 256)), scenes.draw(0, index, (256, 512))
        for part in (1, 2):
            same = np.kron(small[part], np.ones((2, 2), small[part].dtype)) == large[part]
            assert same.mean() > 0.95, (index, part)


def test_neighbouring_scenes_do_not_agree_as_the_same_scene_does() -> None:
    a, b = (scenes.draw(0, index, (128, 256)).label_ids for index in (0, 1))
    assert (a == b).mean() < 0.9  # so that the bound of 0.95 above says something


@pytest.mark.parametrize("size", [(97, 201), (16, 16), (200, 97), (33, 400), (17, 1000), (300, 31)])
def test_any_size_and_shape(size: tuple[int, int]) -> None:
    for index in range(6):
        scene = scenes.draw(1, index, size)
        assert scene.image.shape == (*size, 3) and scene.label_ids.shape == size
        assert scene.image.std() > 5.0 and len(np.unique(scene.label_ids)) >= 3


def test_size_follows_distance() -> None:
    """A pinhole camera of focal length f shows h metres at z metres as f * h / z pixels, feet on the ground."""
    canvas = Canvas((200, 400), View(1.5, 0.4, 1.0, 0.0, 0.0, 0.0), PLAIN)
    focal = (2 * 200 * 400) ** 0.5
    for z in (5.0, 10.0, 20.0):
        foot, head = canvas.project([(0.0, 0.0, z), (0.0, 2.0, z)])
        assert foot[1] - head[1] == pytest.approx(focal * 2.0 / z)
        assert foot[1] == pytest.approx(0.4 * 200 - 0.5 + focal * 1.5 / z)
    eye = canvas.project((0.3, 1.5, 12.0))
    assert eye == pytest.approx((200 - 0.5 + focal * 0.3 / 12.0, 80 - 0.5))  # at eye height: on the horizon


def test_polygons_are_cut_before_the_camera() -> None:
    triangle = np.array([[0.0, 0.0, -8.8], [10.0, 0.0, 11.2], [-10.0, 0.0, 11.2]])
    kept = cut(triangle)
    assert kept[:, 2].min() == pytest.approx(1.2)
    # half of the way from -8.8 to 11.2 remains: the edge there is half as wide as the base
    assert np.ptp(kept[kept[:, 2] < 2.0][:, 0]) == pytest.approx(10.0)


def test_a_bad_polygon_leaves_the_rest_alone() -> None:
    canvas = Canvas((40, 80), View(1.5, 0.4, 1.0, 0.0, 0.0, 0.0), PLAIN)
    canvas.fill([[0, 0, -5], [1, 0, -5], [1, 1, -5]], (255.0, 0.0, 0.0), 7)
    assert not canvas.ids.any()
    canvas.fill([[-1, 0, 6], [1, 0, 6], [1, 3, 6], [-1, 3, 6]], (255.0, 0.0, 0.0), 7)
    assert set(np.unique(canvas.ids)) == {0, 7} and (canvas.image[canvas.ids == 7][:, 0] > 100).all()


def test_examples_give_train_ids() -> None:
    found, problems = scenes.examples("val", seed=4, count=3, size=(64, 128))
    assert problems == [] and len({example.name for example in found}) == 3
    image, truth = found[2].read()
    scene = scenes.draw(4, 2, (64, 128), split="val")
    assert np.array_equal(image, scene.image)
    assert (truth[scene.label_ids == LABELS["road"]] == 0).all()
    assert (truth[scene.label_ids == LABELS["sky"]] == 10).all()
    assert (truth[scene.label_ids == LABELS["ego vehicle"]] == 255).all()
    eight, _ = scenes.examples("val", None, "cityscapes8", seed=4, count=3, size=(64, 128))
    assert (eight[2].read()[1][scene.label_ids == LABELS["sky"]] == 5).all()
    assert len(scenes.examples("train")[0]) == 400 and len(scenes.examples("val")[0]) == 50


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"split": "test"}, "train and val"),
        ({"split": "train", "count": 0}, "--count 0"),
        ({"split": "train", "size": (8, 64)}, "8x64"),
        ({"split": "train", "size": (64, 99999)}, "64x99999"),
        ({"split": "train", "seed": -1}, "--seed -1"),
    ],
)
def test_examples_refuse_what_makes_no_sense(arguments: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        scenes.examples(**arguments)


def test_written_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--write", str(tmp_path), "--count", "2", "--size", "48x96", "--seed", "5"]
    assert scenes.main(options) == 0
    assert "4/4 scenes" in capsys.readouterr().err
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*"))
    assert files == sorted(
        f"{folder}/{split}/drawn/drawn_{k:06d}_000000_{kind}.png"
        for split in ("train", "val")
        for k in range(2)
        for folder, kind in (
            ("leftImg8bit", "leftImg8bit"),
            ("gtFine", "gtFine_labelIds"),
            ("gtFine", "gtFine_instanceIds"),
        )
    )
    scene = scenes.draw(5, 1, (48, 96), split="val")
    image, labels, instances = (
        cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in scenes.paths(tmp_path, "val", 1)
    )
    assert np.array_equal(image[..., ::-1], scene.image)
    assert labels.dtype == np.uint8 and np.array_equal(labels, scene.label_ids)
    assert instances.dtype == np.uint16 and np.array_equal(instances, scene.instance_ids)
    assert scenes.main(options) == 0  # its own folder may be written again


def test_the_cityscapes_reader_reads_it(tmp_path: Path) -> None:
    scenes.write(tmp_path, ("train",), 2, (48, 96), seed=0)
    found, problems = cityscapes.examples("train", tmp_path, "cityscapes19")
    assert problems == [] and len(found) == 2
    ours = scenes.examples("train", seed=0, count=2, size=(48, 96))[0]
    for theirs, own in zip(found, ours, strict=True):
        for a, b in zip(theirs.read(), own.read(), strict=True):
            assert np.array_equal(a, b)


def test_a_stop_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = os.replace, []

    def stop(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 5:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        scenes.write(tmp_path, ("train",), 3, (32, 64), seed=0)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 4
    assert all(cv2.imread(str(path), cv2.IMREAD_UNCHANGED) is not None for path in files)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "training.data.scenes", *arguments]
    return subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    done = command("--write", str(tmp_path), "--count", "1")
    assert done.returncode == 2 and "thesis.txt" in done.stderr and "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing to do"),
        (["--write", "x", "--count", "0"], "--count 0"),
        (["--write", "x", "--size", "big"], "--size big"),
        (["--write", "x", "--size", "64x9"], "64x9"),
        (["--write", "x", "--seed", "-2"], "--seed -2"),
        (["--sheet", "x.jpg"], "x.jpg"),
    ],
)
def test_bad_arguments(arguments: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        scenes.main(arguments)
    assert not (REPOSITORY / "x").exists()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="not a folder"):
        scenes.main(["--write", str(target), "--count", "1"])


def test_sheet(tmp_path: Path) -> None:
    target = tmp_path / "sheet.png"
    scenes.main(["--sheet", str(target), "--count", "3", "--size", "32x64"])
    sheet = cv2.imread(str(target))[..., ::-1]
    assert sheet.shape == (2 * (32 + 4), 2 * (2 * 64 + 4), 3)  # two rows of two pairs, a white frame of 2
    assert np.array_equal(sheet[2:34, 2:66], scenes.draw(0, 0, (32, 64)).image)


def test_what_is_beyond_a_long_vehicle_is_painted_before_it() -> None:
    """A tram from z = 12 to 42 at x = -3: a post beyond it is hidden by it, a car beside us hides it."""
    plan = layout.plan(np.random.default_rng(0))
    plan.items.clear()
    names = {}

    def add(name: str, x: float, z: float, half: float, vehicle: bool) -> None:
        def drawing(canvas: Canvas) -> None:
            raise AssertionError

        names[drawing] = name
        plan.add(z, drawing, (x, z, 0.5, half, 2.0, 0.0, 0.0), vehicle=vehicle)

    add("post", -6.0, 15.0, 0.1, False)
    add("far post", -6.0, 30.0, 0.1, False)
    add("tram", -3.0, 27.0, 15.0, True)
    add("man before us", -0.5, 20.0, 0.2, False)
    add("tree", 6.0, 25.0, 0.2, False)
    order = [names[drawing] for drawing in plan.ordered()]  # type: ignore[index]
    assert order.index("far post") < order.index("post") < order.index("tram")
    assert order.index("tram") < order.index("man before us")
    assert order.index("tree") < order.index("man before us")
