"""The table of class mappings against the official tables, its own consistency, and mappings of one's own."""

import ast
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from runtime.errors import UserError
from tests.references import WHY
from training import data
from training.data import cityscapes
from training.data.labels import taxonomies
from training.data.spec import DatasetSpec, Example

# SegNet's groups as MathWorks' example ("Semantic Segmentation Using Deep Learning") and the class tables of SFRSeg
# and SDBNet list them.
SEGNET = {
    "Sky": {"Sky"},
    "Building": {"Archway", "Bridge", "Building", "Tunnel", "Wall"},
    "Pole": {"Column_Pole", "TrafficCone"},
    "Road": {"Road", "LaneMkgsDriv", "LaneMkgsNonDriv"},
    "Pavement": {"Sidewalk", "ParkingBlock", "RoadShoulder"},
    "Tree": {"Tree", "VegetationMisc"},
    "SignSymbol": {"TrafficLight", "Misc_Text", "SignSymbol"},
    "Fence": {"Fence"},
    "Car": {"Car", "OtherMoving", "SUVPickupTruck", "Train", "Truck_Bus"},
    "Pedestrian": {"Animal", "CartLuggagePram", "Child", "Pedestrian"},
    "Bicyclist": {"Bicyclist", "MotorcycleScooter"},
}
PAIRS = [(source, target) for source in taxonomies.SETS for target in taxonomies.reachable(source)]


def metainfo(name: str) -> dict[str, list]:
    """METAINFO of a data set of mmsegmentation, read without importing it (which takes seconds)."""
    found = find_spec("mmseg")
    if found is None or found.origin is None:
        pytest.skip(WHY)
    tree = ast.parse((Path(found.origin).parent / "datasets" / f"{name}.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "METAINFO":
            assert isinstance(node.value, ast.Call)
            return {word.arg or "": ast.literal_eval(word.value) for word in node.value.keywords}
    raise AssertionError(f"no METAINFO in {name}")


def test_cityscapes_is_the_table_of_its_own_scripts():
    official = pytest.importorskip("cityscapesscripts.helpers.labels", reason=WHY).labels
    rows = taxonomies.TABLE["cityscapes34"]
    assert [label.name for label in official if label.id >= 0] == list(rows)
    train, category = (taxonomies.table("cityscapes34", name) for name in ("cityscapes19", "cityscapes8"))
    names = taxonomies.classes("cityscapes8")
    for label in official:
        if label.id >= 0:
            assert rows[label.name].colour == label.color
            assert train[label.id] == (255 if label.trainId < 0 else label.trainId)
            assert names[category[label.id]] == label.category and category[label.id] == label.categoryId
    assert (train[34:] == 255).all() and (category[34:] == 255).all()


@pytest.mark.parametrize(("reference", "name"), [("cityscapes", "cityscapes19"), ("bdd100k", "bdd100k19")])
def test_the_19_are_mmsegmentations(reference, name):
    expected, spec = metainfo(reference), taxonomies.spec(name, splits=("train",), size=(1, 1))
    assert spec.classes == tuple(expected["classes"])
    assert [list(colour) for colour in spec.palette] == expected["palette"]


def test_camvid_is_grouped_as_in_segnet():
    mapping = taxonomies.targets("camvid32", "camvid11")
    groups = {group: {name for name, to in mapping.items() if to == group} for group in SEGNET}
    assert groups == SEGNET
    assert [name for name, to in mapping.items() if to is None] == ["Void"]
    assert len(mapping) == 32 and taxonomies.classes("camvid11") == tuple(SEGNET)


def test_every_class_has_a_class_of_the_target_or_is_void_on_purpose():
    for source, target in PAIRS:
        found = taxonomies.table(source, target)
        count = len(taxonomies.classes(source))
        assert found.dtype == np.uint8 and found.shape == (256,)
        assert ((found < len(taxonomies.classes(target))) | (found == 255)).all()
        assert (found[count:] == 255).all()
        if source == target:
            assert found[:count].tolist() == list(range(count))


@pytest.mark.parametrize(
    "source", ["cityscapes34", "cityscapes19", "bdd100k19", "camvid32", "camvid11", "road11", "idd26"]
)
def test_road11_and_camvid11_are_one_partition_and_every_road_set_gives_all_of_it(source):
    """Nothing but void is lost on the way to road11; whatever is Car in the one is vehicle in the other."""
    road, camvid = taxonomies.targets(source, "road11"), taxonomies.targets(source, "camvid11")
    assert set(road.values()) >= set(taxonomies.classes("road11"))
    assert {name for name, to in road.items() if to is None} <= {
        *("unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground"),
        *("parking", "rail track", "Void"),
        *("drivable fallback", "non-drivable fallback", "curb", "billboard", "obs-str-bar-fallback"),
    }
    both = taxonomies.targets("road11", "camvid11")
    assert {name: both[to] if to else None for name, to in road.items()} == camvid


@pytest.mark.parametrize(
    ("coarse", "fine"),
    [
        ("camvid11", "camvid32"),
        ("cityscapes8", "cityscapes34"),
        ("road11", "cityscapes34"),
        ("idd7", "idd26"),
    ],
)
@pytest.mark.parametrize("target", taxonomies.COLUMNS)
def test_a_group_becomes_what_its_members_become_or_is_void(coarse, fine, target):
    """A group with a target has only members of that target, or members that have none."""
    members, direct = taxonomies.targets(fine, coarse), taxonomies.targets(fine, target)
    for group, to in taxonomies.targets(coarse, target).items():
        theirs = {direct[name] for name, own in members.items() if own == group} - {None}
        if to is not None:
            assert theirs <= {to}, (group, to, theirs)
        elif group != "void":  # what is void on purpose has several targets, or members that have none
            assert len(theirs) != 1 or any(
                direct[name] is None for name, own in members.items() if own == group
            )


# The label table that IDD publishes (helpers/anue_labels.py of AutoNUE/public-code), a row for each drawn class: its id
# of level 3 and of level 1, its train id among Cityscapes' 19, its colour.
IDD = """road 0 0 0 128,64,128/parking 1 0 - 250,170,160/drivable fallback 1 0 - 81,0,81/sidewalk 2 1 1 244,35,232/
rail track 3 1 - 230,150,140/non-drivable fallback 3 1 9 152,251,152/person 4 2 11 220,20,60/animal 4 2 - 246,198,145/
rider 5 2 12 255,0,0/motorcycle 6 3 17 0,0,230/bicycle 7 3 18 119,11,32/autorickshaw 8 3 - 255,204,54/
car 9 3 13 0,0,142/truck 10 3 14 0,0,70/bus 11 3 15 0,60,100/caravan 12 3 - 0,0,90/
trailer 12 3 - 0,0,110/train 12 3 16 0,80,100/
vehicle fallback 12 3 - 136,143,153/curb 13 4 - 220,190,40/wall 14 4 3 102,102,156/fence 15 4 4 190,153,153/
guard rail 16 4 - 180,165,180/billboard 17 4 - 174,64,67/traffic sign 18 4 7 220,220,0/traffic light 19 4 6 250,170,30/
pole 20 4 5 153,153,153/polegroup 20 4 - 153,153,153/obs-str-bar-fallback 21 4 - 169,187,214/building 22 5 2 70,70,70/
bridge 23 5 - 150,100,100/tunnel 23 5 - 150,120,90/vegetation 24 5 8 107,142,35/sky 25 6 10 70,130,180/
fallback background 25 6 - 169,187,214"""


def test_idd_is_the_table_of_its_makers():
    """But for one row: their rest of what cannot be driven on is terrain of the 19; ours is void, as it has rails."""
    rows = [row.strip().rsplit(" ", 4) for row in IDD.split("/")]
    names = taxonomies.classes("idd26")
    one, nineteen = (taxonomies.table("idd26", name) for name in ("idd7", "cityscapes19"))
    for name, three, level1, train, colour in rows:
        assert one[int(three)] == int(level1)
        if name in names:
            assert names.index(name) == int(three)
            assert taxonomies.TABLE["idd26"][name].colour == tuple(map(int, colour.split(",")))
            if name != "non-drivable fallback":
                assert nineteen[int(three)] == (255 if train == "-" else int(train))
    assert {int(three) for _, three, *_ in rows} == set(range(26)) == set(range(len(names)))
    cityscapes = taxonomies.targets("cityscapes34", "idd7")
    seven = taxonomies.classes("idd7")
    for name, _, level1, *_ in rows:
        assert name not in cityscapes or cityscapes[name] == seven[int(level1)]


def test_what_camvid_does_not_tell_apart_is_void_among_the_19():
    found = taxonomies.targets("camvid11", "cityscapes19")
    assert [name for name, to in found.items() if to is None] == [
        *("Building", "Tree", "SignSymbol", "Car", "Bicyclist"),
    ]
    assert found["Road"] == "road" and found["Pedestrian"] == "person"


def test_no_way_between_two_sets_is_refused_with_the_ways_there_are():
    for source, target, word in (
        ("cityscapes19", "camvid32", "road11"),
        ("cityscapes19", "kitti", "camvid11"),
        ("kitti", "road11", "cityscapes34"),
    ):
        with pytest.raises(UserError, match=word):
            taxonomies.table(source, target)


def test_scenes_in_every_set_of_classes_are_their_raw_ids_mapped():
    """The same drawn image, read in each set, against Cityscapes' own id tables."""
    raw = data.load("scenes", "val", None, "cityscapes34", count=1, size=(48, 96))[1][0].read()[1]
    for name in ("cityscapes19", "cityscapes8"):
        label = data.load("scenes", "val", None, name, count=1, size=(48, 96))[1][0].read()[1]
        expected = np.array([entry.train_id for entry in cityscapes.LABELS], np.uint8)
        if name == "cityscapes8":
            expected = np.array(
                [cityscapes.CATEGORIES.index(e.category) for e in cityscapes.LABELS], np.uint8
            )
        assert np.array_equal(label, expected[raw])
    spec, (example,) = data.load("scenes", "val", None, "road11", count=1, size=(48, 96))
    label = example.read()[1]
    roads = [taxonomies.classes("cityscapes34").index("road")]
    assert np.array_equal(label == spec.classes.index("road"), np.isin(raw, roads)) and (label == 0).any()


# Mappings of one's own


def written(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def three() -> DatasetSpec:
    return DatasetSpec("three", ("a", "b", "c"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)), ("train",), (8, 8))


def test_a_mapping_of_ones_own(tmp_path):
    mapping = taxonomies.read_mapping(written(tmp_path / "m.json", {"c": "x", "b": None, "a": "x", "z": "y"}))
    spec, ids = taxonomies.mapped(three(), "mine", mapping)
    assert spec.classes == ("x", "y") and spec.name == "mine"
    assert spec.palette[0] == (3, 3, 3)  # c is named first
    assert ids[:3].tolist() == [0, 255, 0] and (ids[3:] == 255).all()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", ["m.json", "JSON"]),
        (["a"], ["m.json", "null"]),
        ({"a": 3}, ["m.json", "null"]),
        ({"a": ""}, ["m.json"]),
        ({"a": None}, ["m.json"]),
    ],
)
def test_a_bad_file_is_named(tmp_path, content, words):
    with pytest.raises(UserError) as refusal:
        taxonomies.read_mapping(written(tmp_path / "m.json", content))
    assert all(word in str(refusal.value) for word in words)
    with pytest.raises(UserError, match="nowhere.json"):
        taxonomies.read_mapping(tmp_path / "nowhere.json")


def test_a_class_without_target_is_named():
    with pytest.raises(UserError, match="leaves 'b', 'c' without a target"):
        taxonomies.mapped(three(), "mine", {"a": "x"})
    with pytest.raises(UserError, match="'q', which is none of x"):
        taxonomies.lookup(("a",), {"a": "q"}, ("x",))


def test_a_mapping_reaches_the_labels_of_a_data_set():
    mapping = {
        name: "ground" if name in ("road", "sidewalk") else None
        for name in taxonomies.classes("cityscapes19")
    }
    options = {"count": 1, "size": (48, 96)}
    spec, (example,) = data.load("scenes", "val", None, "mine", mapping=mapping, **options)
    plain = data.load("scenes", "val", **options)[1][0].read()[1]
    assert spec.name == "mine" and spec.classes == ("ground",)
    assert np.array_equal(example.read()[1], np.where(plain <= 1, 0, 255))


def test_classes_known_by_their_names_are_mapped_too():
    """A data set that brings the 19 classes itself, spelt in its own way, can be read as road11."""
    names = tuple(name.title().replace(" ", "_") for name in taxonomies.classes("cityscapes19"))
    assert taxonomies.set_of(names) == "cityscapes19" and taxonomies.set_of(names[:-1]) is None
    own = DatasetSpec("own", names, ((0, 0, 0),) * 19, ("train",), (8, 8))
    assert "road11" in taxonomies.extended({"own": own})
    assert list(taxonomies.extended({"own": three()})) == ["own"]


def test_relabelled_images_keep_their_pixels_and_names():
    image, label = np.zeros((2, 3, 3), np.uint8), np.array([[0, 1, 2], [255, 1, 0]], np.uint8)
    ids = taxonomies.lookup(("a", "b", "c"), {"a": "y", "b": None, "c": "x"}, ("x", "y"))
    example = taxonomies.relabelled(Example("one", lambda: (image, label)), ids)
    assert example.name == "one" and example.read()[0] is image
    assert example.read()[1].tolist() == [[1, 255, 0], [255, 255, 1]]
