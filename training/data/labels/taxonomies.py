"""Which class of one set is which class of another: one literal table, and the lookups made from it. NumPy only.

A class set is a list of classes with a name: `cityscapes34` (raw ids), `cityscapes19` (train ids; BDD100K has the same,
as `bdd100k19`), `cityscapes8` (categories), `camvid32` (as annotated), `camvid11`, `road11`, `idd26` (level 3 of the
India Driving Dataset, which its benchmark scores) and `idd7` (level 1, of IDD-Lite). The drawn scenes hold Cityscapes'
raw ids.

`road11` is what all of them can give: CamVid's 11 groups (V. Badrinarayanan, A. Kendall, R. Cipolla, "SegNet", PAMI
2017, arXiv:1511.00561, section 4) under names that say what is in them, so that Cityscapes' trucks and buses are not
called Car. No class of the 19 is torn apart or lost. A rider and what he rides are one class, and so are a sign, a
traffic light and the text on it, because CamVid draws no line between them.

Every class has its target or is void on purpose (None: id 255, no loss and no score). Void is what a class becomes
that covers more than one class of the target, wholly or in part. CamVid's Car holds trucks and buses, its Building
walls, its Tree grass, its SignSymbol traffic lights, its Bicyclist the bicycle: among Cityscapes' 19 none of them is
one class, and none is background either. An area for parking is road in one policy and pavement in the other. IDD's
sky holds what else is far behind, and its person an animal now and then: both keep the class that they mostly are.

Sources: the label tables that Cityscapes (M. Cordts et al., CVPR 2016), CamVid (G. Brostow, J. Fauqueur, R. Cipolla,
2009) and IDD (G. Varma et al., WACV 2019, arXiv:1811.10200) publish; CamVid's 32 -> 11 as MathWorks' and other SegNet examples group them; Cityscapes -> CamVid by
the definitions of both policies. tests/training/data/test_taxonomies.py compares them with the official tables.
"""

# ruff: noqa: E501 (a row of the table is a line)

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from runtime import strict_json
from runtime.bundle import spread_palette
from runtime.class_names import check_names
from runtime.errors import UserError
from training.data.spec import VOID_ID, DatasetSpec, Example

Colour = tuple[int, int, int]
Targets = Mapping[str, str | None]  # class of the source -> class of the target; None: void on purpose


class Row(NamedTuple):
    """A class's colour, and what it is in each set that others are mapped to."""

    colour: Colour
    cityscapes19: str | None
    cityscapes8: str | None
    camvid11: str | None
    road11: str | None
    idd7: str | None


# Class set -> class, in the order of its ids -> colour and targets. What has no colour of its own has that of the
# class that it mostly is.
TABLE: dict[str, dict[str, Row]] = {
    #                               colour            cityscapes19     cityscapes8     camvid11      road11         idd7
    "cityscapes34": {
        "unlabeled":            Row((0, 0, 0),        None,            "void",         None,         None,          None),
        "ego vehicle":          Row((0, 0, 0),        None,            "void",         None,         None,          None),
        "rectification border": Row((0, 0, 0),        None,            "void",         None,         None,          None),
        "out of roi":           Row((0, 0, 0),        None,            "void",         None,         None,          None),
        "static":               Row((0, 0, 0),        None,            "void",         None,         None,          None),
        "dynamic":              Row((111, 74, 0),     None,            "void",         None,         None,          None),
        "ground":               Row((81, 0, 81),      None,            "void",         None,         None,          None),
        "road":                 Row((128, 64, 128),   "road",          "flat",         "Road",       "road",        "drivable"),
        "sidewalk":             Row((244, 35, 232),   "sidewalk",      "flat",         "Pavement",   "sidewalk",    "non-drivable"),
        "parking":              Row((250, 170, 160),  None,            "flat",         None,         None,          "drivable"),
        "rail track":           Row((230, 150, 140),  None,            "flat",         None,         None,          "non-drivable"),
        "building":             Row((70, 70, 70),     "building",      "construction", "Building",   "building",    "far-objects"),
        "wall":                 Row((102, 102, 156),  "wall",          "construction", "Building",   "building",    "road-side-objs"),
        "fence":                Row((190, 153, 153),  "fence",         "construction", "Fence",      "fence",       "road-side-objs"),
        "guard rail":           Row((180, 165, 180),  None,            "construction", "Fence",      "fence",       "road-side-objs"),
        "bridge":               Row((150, 100, 100),  None,            "construction", "Building",   "building",    "far-objects"),
        "tunnel":               Row((150, 120, 90),   None,            "construction", "Building",   "building",    "far-objects"),
        "pole":                 Row((153, 153, 153),  "pole",          "object",       "Pole",       "pole",        "road-side-objs"),
        "polegroup":            Row((153, 153, 153),  None,            "object",       "Pole",       "pole",        "road-side-objs"),
        "traffic light":        Row((250, 170, 30),   "traffic light", "object",       "SignSymbol", "sign",        "road-side-objs"),
        "traffic sign":         Row((220, 220, 0),    "traffic sign",  "object",       "SignSymbol", "sign",        "road-side-objs"),
        "vegetation":           Row((107, 142, 35),   "vegetation",    "nature",       "Tree",       "vegetation",  "far-objects"),
        "terrain":              Row((152, 251, 152),  "terrain",       "nature",       "Tree",       "vegetation",  "non-drivable"),
        "sky":                  Row((70, 130, 180),   "sky",           "sky",          "Sky",        "sky",         "sky"),
        "person":               Row((220, 20, 60),    "person",        "human",        "Pedestrian", "pedestrian",  "living-things"),
        "rider":                Row((255, 0, 0),      "rider",         "human",        "Bicyclist",  "two-wheeler", "living-things"),
        "car":                  Row((0, 0, 142),      "car",           "vehicle",      "Car",        "vehicle",     "vehicles"),
        "truck":                Row((0, 0, 70),       "truck",         "vehicle",      "Car",        "vehicle",     "vehicles"),
        "bus":                  Row((0, 60, 100),     "bus",           "vehicle",      "Car",        "vehicle",     "vehicles"),
        "caravan":              Row((0, 0, 90),       None,            "vehicle",      "Car",        "vehicle",     "vehicles"),
        "trailer":              Row((0, 0, 110),      None,            "vehicle",      "Car",        "vehicle",     "vehicles"),
        "train":                Row((0, 80, 100),     "train",         "vehicle",      "Car",        "vehicle",     "vehicles"),
        "motorcycle":           Row((0, 0, 230),      "motorcycle",    "vehicle",      "Bicyclist",  "two-wheeler", "vehicles"),
        "bicycle":              Row((119, 11, 32),    "bicycle",       "vehicle",      "Bicyclist",  "two-wheeler", "vehicles"),
    },
    "cityscapes8": {
        "void":                 Row((0, 0, 0),        None,            "void",         None,         None,          None),
        "flat":                 Row((128, 64, 128),   None,            "flat",         None,         None,          None),
        "construction":         Row((70, 70, 70),     None,            "construction", None,         None,          None),
        "object":               Row((153, 153, 153),  None,            "object",       None,         None,          "road-side-objs"),
        "nature":               Row((107, 142, 35),   None,            "nature",       "Tree",       "vegetation",  None),
        "sky":                  Row((70, 130, 180),   "sky",           "sky",          "Sky",        "sky",         "sky"),
        "human":                Row((220, 20, 60),    None,            "human",        None,         None,          "living-things"),
        "vehicle":              Row((0, 0, 142),      None,            "vehicle",      None,         None,          "vehicles"),
    },
    "camvid32": {
        "Animal":               Row((64, 128, 64),    None,            None,           "Pedestrian", "pedestrian",  "living-things"),
        "Archway":              Row((192, 0, 128),    None,            "construction", "Building",   "building",    "far-objects"),
        "Bicyclist":            Row((0, 128, 192),    None,            None,           "Bicyclist",  "two-wheeler", None),
        "Bridge":               Row((0, 128, 64),     None,            "construction", "Building",   "building",    "far-objects"),
        "Building":             Row((128, 0, 0),      "building",      "construction", "Building",   "building",    "far-objects"),
        "Car":                  Row((64, 0, 128),     "car",           "vehicle",      "Car",        "vehicle",     "vehicles"),
        "CartLuggagePram":      Row((64, 0, 192),     None,            None,           "Pedestrian", "pedestrian",  None),
        "Child":                Row((192, 128, 64),   "person",        "human",        "Pedestrian", "pedestrian",  "living-things"),
        "Column_Pole":          Row((192, 192, 128),  "pole",          "object",       "Pole",       "pole",        "road-side-objs"),
        "Fence":                Row((64, 64, 128),    "fence",         "construction", "Fence",      "fence",       "road-side-objs"),
        "LaneMkgsDriv":         Row((128, 0, 192),    "road",          "flat",         "Road",       "road",        "drivable"),
        "LaneMkgsNonDriv":      Row((192, 0, 64),     "road",          "flat",         "Road",       "road",        "drivable"),
        "Misc_Text":            Row((128, 128, 64),   None,            None,           "SignSymbol", "sign",        None),
        "MotorcycleScooter":    Row((192, 0, 192),    None,            None,           "Bicyclist",  "two-wheeler", None),
        "OtherMoving":          Row((128, 64, 64),    None,            None,           "Car",        "vehicle",     None),
        "ParkingBlock":         Row((64, 192, 128),   None,            None,           "Pavement",   "sidewalk",    None),
        "Pedestrian":           Row((64, 64, 0),      "person",        "human",        "Pedestrian", "pedestrian",  "living-things"),
        "Road":                 Row((128, 64, 128),   "road",          "flat",         "Road",       "road",        "drivable"),
        "RoadShoulder":         Row((128, 128, 192),  None,            "flat",         "Pavement",   "sidewalk",    None),
        "Sidewalk":             Row((0, 0, 192),      "sidewalk",      "flat",         "Pavement",   "sidewalk",    "non-drivable"),
        "SignSymbol":           Row((192, 128, 128),  "traffic sign",  "object",       "SignSymbol", "sign",        "road-side-objs"),
        "Sky":                  Row((128, 128, 128),  "sky",           "sky",          "Sky",        "sky",         "sky"),
        "SUVPickupTruck":       Row((64, 128, 192),   None,            "vehicle",      "Car",        "vehicle",     "vehicles"),
        "TrafficCone":          Row((0, 0, 64),       None,            None,           "Pole",       "pole",        None),
        "TrafficLight":         Row((0, 64, 64),      "traffic light", "object",       "SignSymbol", "sign",        "road-side-objs"),
        "Train":                Row((192, 64, 128),   "train",         "vehicle",      "Car",        "vehicle",     "vehicles"),
        "Tree":                 Row((128, 128, 0),    "vegetation",    "nature",       "Tree",       "vegetation",  "far-objects"),
        "Truck_Bus":            Row((192, 128, 192),  None,            "vehicle",      "Car",        "vehicle",     "vehicles"),
        "Tunnel":               Row((64, 0, 64),      None,            "construction", "Building",   "building",    "far-objects"),
        "VegetationMisc":       Row((192, 192, 0),    None,            "nature",       "Tree",       "vegetation",  None),
        "Void":                 Row((0, 0, 0),        None,            None,           None,         None,          None),
        "Wall":                 Row((64, 192, 0),     "wall",          "construction", "Building",   "building",    "road-side-objs"),
    },
    "camvid11": {
        "Sky":                  Row((128, 128, 128),  "sky",           "sky",          "Sky",        "sky",         "sky"),
        "Building":             Row((128, 0, 0),      None,            "construction", "Building",   "building",    None),
        "Pole":                 Row((192, 192, 128),  "pole",          "object",       "Pole",       "pole",        "road-side-objs"),
        "Road":                 Row((128, 64, 128),   "road",          "flat",         "Road",       "road",        "drivable"),
        "Pavement":             Row((0, 0, 192),      "sidewalk",      "flat",         "Pavement",   "sidewalk",    "non-drivable"),
        "Tree":                 Row((128, 128, 0),    None,            "nature",       "Tree",       "vegetation",  "far-objects"),
        "SignSymbol":           Row((192, 128, 128),  None,            "object",       "SignSymbol", "sign",        "road-side-objs"),
        "Fence":                Row((64, 64, 128),    "fence",         "construction", "Fence",      "fence",       "road-side-objs"),
        "Car":                  Row((64, 0, 128),     None,            "vehicle",      "Car",        "vehicle",     "vehicles"),
        "Pedestrian":           Row((64, 64, 0),      "person",        "human",        "Pedestrian", "pedestrian",  "living-things"),
        "Bicyclist":            Row((0, 128, 192),    None,            None,           "Bicyclist",  "two-wheeler", None),
    },
    "road11": {
        "road":                 Row((128, 64, 128),   "road",          "flat",         "Road",       "road",        "drivable"),
        "sidewalk":             Row((244, 35, 232),   "sidewalk",      "flat",         "Pavement",   "sidewalk",    "non-drivable"),
        "building":             Row((70, 70, 70),     None,            "construction", "Building",   "building",    None),
        "fence":                Row((190, 153, 153),  "fence",         "construction", "Fence",      "fence",       "road-side-objs"),
        "pole":                 Row((153, 153, 153),  "pole",          "object",       "Pole",       "pole",        "road-side-objs"),
        "sign":                 Row((220, 220, 0),    None,            "object",       "SignSymbol", "sign",        "road-side-objs"),
        "vegetation":           Row((107, 142, 35),   None,            "nature",       "Tree",       "vegetation",  None),
        "sky":                  Row((70, 130, 180),   "sky",           "sky",          "Sky",        "sky",         "sky"),
        "pedestrian":           Row((220, 20, 60),    "person",        "human",        "Pedestrian", "pedestrian",  "living-things"),
        "two-wheeler":          Row((119, 11, 32),    None,            None,           "Bicyclist",  "two-wheeler", None),
        "vehicle":              Row((0, 0, 142),      None,            "vehicle",      "Car",        "vehicle",     "vehicles"),
    },
    "idd26": {
        "road":                 Row((128, 64, 128),   "road",          "flat",         "Road",       "road",        "drivable"),
        "drivable fallback":    Row((81, 0, 81),      None,            None,           None,         None,          "drivable"),
        "sidewalk":             Row((244, 35, 232),   "sidewalk",      "flat",         "Pavement",   "sidewalk",    "non-drivable"),
        "non-drivable fallback":Row((152, 251, 152),  None,            None,           None,         None,          "non-drivable"),
        "person":               Row((220, 20, 60),    "person",        "human",        "Pedestrian", "pedestrian",  "living-things"),
        "rider":                Row((255, 0, 0),      "rider",         "human",        "Bicyclist",  "two-wheeler", "living-things"),
        "motorcycle":           Row((0, 0, 230),      "motorcycle",    "vehicle",      "Bicyclist",  "two-wheeler", "vehicles"),
        "bicycle":              Row((119, 11, 32),    "bicycle",       "vehicle",      "Bicyclist",  "two-wheeler", "vehicles"),
        "autorickshaw":         Row((255, 204, 54),   None,            "vehicle",      "Car",        "vehicle",     "vehicles"),
        "car":                  Row((0, 0, 142),      "car",           "vehicle",      "Car",        "vehicle",     "vehicles"),
        "truck":                Row((0, 0, 70),       "truck",         "vehicle",      "Car",        "vehicle",     "vehicles"),
        "bus":                  Row((0, 60, 100),     "bus",           "vehicle",      "Car",        "vehicle",     "vehicles"),
        "vehicle fallback":     Row((136, 143, 153),  None,            "vehicle",      "Car",        "vehicle",     "vehicles"),
        "curb":                 Row((220, 190, 40),   None,            None,           None,         None,          "road-side-objs"),
        "wall":                 Row((102, 102, 156),  "wall",          "construction", "Building",   "building",    "road-side-objs"),
        "fence":                Row((190, 153, 153),  "fence",         "construction", "Fence",      "fence",       "road-side-objs"),
        "guard rail":           Row((180, 165, 180),  None,            "construction", "Fence",      "fence",       "road-side-objs"),
        "billboard":            Row((174, 64, 67),    None,            None,           None,         None,          "road-side-objs"),
        "traffic sign":         Row((220, 220, 0),    "traffic sign",  "object",       "SignSymbol", "sign",        "road-side-objs"),
        "traffic light":        Row((250, 170, 30),   "traffic light", "object",       "SignSymbol", "sign",        "road-side-objs"),
        "pole":                 Row((153, 153, 153),  "pole",          "object",       "Pole",       "pole",        "road-side-objs"),
        "obs-str-bar-fallback": Row((169, 187, 214),  None,            None,           None,         None,          "road-side-objs"),
        "building":             Row((70, 70, 70),     "building",      "construction", "Building",   "building",    "far-objects"),
        "bridge":               Row((150, 100, 100),  None,            "construction", "Building",   "building",    "far-objects"),
        "vegetation":           Row((107, 142, 35),   "vegetation",    "nature",       "Tree",       "vegetation",  "far-objects"),
        "sky":                  Row((70, 130, 180),   "sky",           "sky",          "Sky",        "sky",         "sky"),
    },
    "idd7": {
        "drivable":             Row((128, 64, 128),   None,            None,           None,         None,          "drivable"),
        "non-drivable":         Row((244, 35, 232),   None,            None,           None,         None,          "non-drivable"),
        "living-things":        Row((220, 20, 60),    None,            "human",        None,         None,          "living-things"),
        "vehicles":             Row((0, 0, 230),      None,            "vehicle",      None,         None,          "vehicles"),
        "road-side-objs":       Row((220, 190, 40),   None,            None,           None,         None,          "road-side-objs"),
        "far-objects":          Row((70, 70, 70),     None,            None,           None,         None,          "far-objects"),
        "sky":                  Row((70, 130, 180),   "sky",           "sky",          "Sky",        "sky",         "sky"),
    },
}  # fmt: skip


def _rows() -> dict[str, dict[str, Row]]:
    """Every class set with its rows; the 19 are the raw classes that have a train id, in the same order."""
    nineteen = {name: row for name, row in TABLE["cityscapes34"].items() if row.cityscapes19}
    return {**TABLE, "cityscapes19": nineteen, "bdd100k19": nineteen}


SETS = _rows()
COLUMNS = Row._fields[1:]  # the sets that others are mapped to


def classes(name: str) -> tuple[str, ...]:
    """The classes of a set in the order of their ids; UserError on an unknown set, listing the known ones."""
    if name not in SETS:
        raise UserError(f"There is no set of classes called {name}; there is {', '.join(SETS)}.")
    return tuple(SETS[name])


def reachable(source: str) -> tuple[str, ...]:
    """The sets that a set's classes can be read as: itself, then the columns of the table."""
    return (source, *(column for column in COLUMNS if column != source))


def targets(source: str, target: str) -> Targets:
    """What each class of a set is in another; UserError where the table has no way between the two."""
    names = classes(source)
    if classes(target) == names:
        return {name: name for name in names}
    if target not in COLUMNS:
        raise UserError(
            f"There is no mapping from {source} to {target}; {source} maps to {', '.join(reachable(source))}."
        )
    return {name: getattr(row, target) for name, row in SETS[source].items()}


def table(source: str, target: str) -> np.ndarray:
    """Ids of one set to ids of another: uint8 (256,), 255 where void and where the source has no such id."""
    return lookup(classes(source), targets(source, target), classes(target))


def lookup(source: Sequence[str], mapping: Targets, target: Sequence[str]) -> np.ndarray:
    """Ids of `source` to ids of `target` by a mapping of names: uint8 (256,), 255 where void.

    Raises UserError, naming it, when a class of the source is left without target, or gets one that is not there.
    """
    forgotten = [name for name in source if name not in mapping]
    if forgotten:
        raise UserError(
            f"The mapping of classes leaves {', '.join(map(repr, forgotten))} without a target; name one of "
            f"{', '.join(dict.fromkeys(target))}, or null, which makes it void."
        )
    found = np.full(256, VOID_ID, np.uint8)
    for index, name in enumerate(source):
        to = mapping[name]
        if to is not None and to not in target:
            raise UserError(
                f"The mapping of classes makes {name!r} {to!r}, which is none of {', '.join(target)}."
            )
        if to is not None:
            found[index] = list(target).index(to)
    return found


def spec(name: str, *, splits: tuple[str, ...], size: tuple[int, int]) -> DatasetSpec:
    """A known set of classes as those of a data set; `size` is the usual (height, width) of its images."""
    palette = tuple(row.colour for row in SETS[name].values())
    return DatasetSpec(name=name, classes=classes(name), palette=palette, splits=splits, size=size)


def specs(*names: str, splits: tuple[str, ...], size: tuple[int, int]) -> dict[str, DatasetSpec]:
    """The taxonomies of a data set: those named, in this order, and every column that the first is mapped to."""
    known = dict.fromkeys((*names, *reachable(names[0])))
    return {name: spec(name, splits=splits, size=size) for name in known}


def extended(own: Mapping[str, DatasetSpec]) -> dict[str, DatasetSpec]:
    """The taxonomies of a data set, and what its first is mapped to when its classes are those of a known set."""
    first = next(iter(own.values()))
    known = set_of(first.classes)
    more = (
        {name: spec(name, splits=first.splits, size=first.size) for name in reachable(known)} if known else {}
    )
    return {**more, **own} if known in own else {**own, **more}


def set_of(names: Sequence[str]) -> str | None:
    """The known set that has these classes in this order, however they are spelt; None where there is none."""
    return next((known for known in SETS if plain_names(SETS[known]) == plain_names(names)), None)


def plain_names(names: Iterable[str]) -> list[str]:
    """'Traffic light' and 'traffic_light' are one class."""
    return ["".join(letter for letter in name.lower() if letter.isalnum()) for name in names]


def read_mapping(path: Path) -> dict[str, str | None]:
    """A mapping of one's own: JSON, {"class": "new class", "another": null, ...}, null for void.

    Raises UserError, naming the file, when it is not there or is something else.
    """
    try:
        content = strict_json.read(path)
    except OSError as error:
        raise UserError(
            f"The mapping of classes {path} cannot be read: {error.strerror or error}."
        ) from error
    except ValueError as error:
        raise UserError(f"The mapping of classes {path} is not JSON: {error}.") from error
    good = isinstance(content, dict) and all(
        to is None or (isinstance(to, str) and to) for to in content.values()
    )
    if not good or not any(content.values()):
        raise UserError(
            f'{path} is no mapping of classes; {{"road": "drivable", "sky": null}} is right, with a new name or '
            "null (void) for each class."
        )
    return content


def named(text: str) -> tuple[str, dict[str, str | None] | None]:
    """What --classes was given: the name of a known set, or FILE.json with a mapping, which is called after it."""
    return (Path(text).stem, read_mapping(Path(text))) if text.endswith(".json") else (text, None)


def mapped(source: DatasetSpec, name: str, mapping: Targets) -> tuple[DatasetSpec, np.ndarray]:
    """The classes that a mapping makes of a data set's, in the order in which it names them, and the lookup of ids.

    A new class has the colour of the first class that becomes it. UserError as in `lookup`, and over 255 classes.
    """
    new = tuple(dict.fromkeys(to for to in mapping.values() if to is not None))
    if len(new) > VOID_ID:
        raise UserError(f"The mapping of classes makes {len(new)} classes; a label map holds {VOID_ID}.")
    try:
        check_names(new)
    except ValueError as error:
        raise UserError(f"The mapping of classes is of no use: {error}.") from error
    colours = dict(zip(source.classes, source.palette, strict=True))
    first: dict[str, Colour] = {}
    for old, to in mapping.items():
        if to is not None and old in colours:
            first.setdefault(to, colours[old])
    spare = spread_palette(len(new))
    palette = tuple(first.get(to, spare[index]) for index, to in enumerate(new))
    found = replace(source, name=name, classes=new, palette=palette)
    return found, lookup(source.classes, mapping, new)


def relabelled(example: Example, ids: np.ndarray) -> Example:
    """The same image, its label map looked up in `ids`, uint8 (256,)."""

    def read() -> tuple[np.ndarray, np.ndarray]:
        image, label = example.read()
        return image, ids[label]

    return replace(example, read=read)
