"""What weights have learnt from, and on which terms: a run's data, and what it began with or was taught by.

`learnt_from.json` of a run has it, then each file that is exported and each card. A term here is one line of what a
data set's makers write where `read` says, as of 2026-11; they may have changed, and none of it is legal advice.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from runtime import strict_json
from runtime.bundle import read_note
from runtime.errors import UserError
from runtime.files import file_sha256, write_json
from training.data import mixture
from training.runs import best_weights
from training.runs.recipe import Recipe, from_json
from zoo.convert import model_config, named

NAME = "learnt_from.json"
KEY = "learnt_from"  # in a card, and in what a file says of itself
Source = dict[str, str]  # "what", "how" (data, backbone, init, teacher or unlabeled), "terms" and "read"


class Terms(NamedTuple):
    what: str
    terms: str
    read: str


OWN = "your own data: you know its terms"
TERMS: dict[str, Terms] = {
    "ade20k": Terms(
        "ADE20K",
        "images for non-commercial research and education only",
        "https://groups.csail.mit.edu/vision/datasets/ADE20K/terms/",
    ),
    "bdd100k": Terms(
        "BDD100K", "education, research and not-for-profit use", "https://doc.bdd100k.com/license.html"
    ),
    "camvid": Terms(
        "CamVid",
        "no licence is stated; its makers ask to be cited",
        "http://web4.cs.ucl.ac.uk/staff/g.brostow/MotionSegRecData/",
    ),
    "cityscapes": Terms(
        "Cityscapes",
        "non-commercial; what was trained on it may be handed on, but not be used or sold commercially",
        "https://www.cityscapes-dataset.com/license/",
    ),
    "coco_stuff": Terms(
        "COCO-Stuff", "labels CC BY 4.0, images on Flickr's terms", "https://cocodataset.org/#termsofuse"
    ),
    "idd": Terms(
        "India Driving Dataset", "terms that are agreed to at registration", "https://idd.insaan.iiit.ac.in/"
    ),
    "imagenet": Terms(
        "ImageNet", "images for non-commercial research and education", "https://image-net.org/download.php"
    ),
    "scenes": Terms("Kerbside's drawn scenes", "Apache-2.0", "training/data/scenes.py"),
    "voc": Terms("PASCAL VOC", "images on Flickr's terms", "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/"),
}
SAME = {"cityscapes_tfds": "cityscapes"}
# Public files that --backbone-weights and zoo.convert take, by SHA-256: the licence of the file, and what it has learnt
# from, last what the whole network was trained on.
FILES: dict[str, tuple[str, tuple[str, ...]]] = {
    "322fe29945cb1693f426952f2a330ab67ea5678545ddee6f2548e0cfd0ca03e5": (
        "Google Coral's DeepLab slim, Apache-2.0",
        ("imagenet", "cityscapes"),
    ),
    "3960571f5e2de1cec771a8f7a15b86f31b94cceccac8d993addbc1e29829de6a": (
        "MLPerf Mobile's DeepLabV3+, no licence is stated where it is published",
        ("ade20k",),
    ),
    "2d58c681d81b5e181816b81cc815b82edf3daad905b4d7d35afade80aee93b5f": (
        "MLPerf Mobile's DeepLabV3+, no licence is stated where it is published",
        ("ade20k",),
    ),
}


def of(recipe: Recipe) -> list[Source]:
    """Of a run that has this recipe, in the order data, backbone, init, teacher, unlabeled; each once."""
    found = [_data(name) for name in recipe.data.name.split(mixture.SIGN)]
    found += _backbone(recipe.model.backbone_weights)
    found += _weights(recipe.model.init, "init")
    found += _weights(recipe.loss.teacher, "teacher")
    if recipe.loss.unlabeled:
        found.append({"what": "images without labels", "how": "unlabeled", "terms": OWN, "read": ""})
    return [one for index, one in enumerate(found) if one not in found[:index]]


def keep(folder: Path, recipe: Recipe) -> None:
    """Write learnt_from.json, while what the run begins with is there."""
    if not (folder / NAME).exists():
        write_json(folder / NAME, of(recipe))


def read(folder: Path) -> list[Source]:
    """Of a run folder; of one that is older than the file, by its recipe."""
    path = folder / NAME
    if not path.exists():
        return of(from_json(folder / "recipe.json"))
    try:
        return checked(strict_json.read(path))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not what a run keeps of its sources ({error}): delete it") from error


def checked(content: object) -> list[Source]:
    """What a file of ours says of it. ValueError when it is of another form."""
    # model_config.read makes tuples of lists
    content = list(content) if isinstance(content, tuple) else content
    found: list[Source] = strict_json.checked({KEY: content}, {KEY: list[dict[str, str]]})[KEY]
    return [{key: one.get(key, "") for key in ("what", "how", "terms", "read")} for one in found]


def line(sources: Sequence[Mapping[str, str]]) -> str:
    """One line for people: "CamVid (data), Cityscapes (backbone)"; "not recorded" of nothing."""
    return ", ".join(f"{one['what']} ({one['how']})" for one in sources) or "not recorded"


def of_card(facts: Mapping[str, object]) -> list[Source]:
    """What a card of weights says; of a checkpoint that is converted whole, what is known of its file; nothing where
    neither is known. ValueError when it is of another form."""
    if facts.get(KEY):
        return checked(facts[KEY])
    source = facts.get("source")
    sha256 = source.get("sha256") if isinstance(source, Mapping) else None
    licence, names = FILES.get(str(sha256), ("", ()))
    before = [_source(name, "backbone", f" (by way of {licence})") for name in names[:-1]]
    return [*(_source(name, "data", f" (by way of {licence})") for name in names[-1:]), *before]


def _source(name: str, how: str, of_file: str = "") -> Source:
    terms = TERMS[name]
    return {"what": terms.what, "how": how, "terms": terms.terms + of_file, "read": terms.read}


def _data(name: str) -> Source:
    known = SAME.get(name, name)
    return (
        _source(known, "data") if known in TERMS else {"what": name, "how": "data", "terms": OWN, "read": ""}
    )


def _backbone(source: str) -> list[Source]:
    if source == "none":
        return []
    if source == "imagenet":
        return [_source("imagenet", "backbone")]
    path = Path(source)
    licence, names = FILES.get(file_sha256(path), ("", ())) if path.is_file() else ("", ())
    if not names:
        return [_unknown(source, "backbone")]
    return [_source(name, "backbone", f" (by way of {licence})") for name in names]


def _weights(path: str | None, how: str) -> list[Source]:
    """Of a run, of weights with their card or of a .tflite, that another run began with or learnt from."""
    if not path:
        return []
    folder = Path(path).parent if Path(path).name == best_weights.NAME else Path(path)
    if (folder / "recipe.json").is_file():
        return [{**one, "how": how} for one in read(folder)]
    try:
        there = of_card(_card(path))
    except ValueError as error:
        raise UserError(f"{path} does not say what it has learnt from as a card does: {error}") from error
    return [{**one, "how": how} for one in there] or [_unknown(path, how)]


def _card(path: str) -> Mapping[str, object]:
    """What a .tflite, or the card of weights, says; nothing where it has gone."""
    if Path(path).suffix == ".tflite":
        return read_note(Path(path)) if Path(path).is_file() else {}
    card = model_config.config_path(named.weights(path))
    return model_config.read(card) if card.is_file() else {}


def _unknown(source: str, how: str) -> Source:
    return {"what": source, "how": how, "terms": "not known here: look where you have it from", "read": ""}
