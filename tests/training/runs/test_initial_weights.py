"""--init with any classes: one contract over every model of the zoo, what is said, weights without a config."""

import json
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

import zoo
from runtime.errors import UserError
from tests.small import ALIKE, PROMPTED, SMALL, TINY_SAM
from training.data.labels.same_classes import reordered, same_classes
from training.data.labels.taxonomies import classes
from training.runs import initial_weights
from training.runs.trained_run import load
from zoo import contract
from zoo.convert import __main__ as convert
from zoo.convert import model_config, ours, write_config

THEIRS = ("Road", "Pavement", "Car", "tree house", "Sky")
OURS = ("sky", "barn", "sidewalk")  # theirs are 4, none, and 1 by the table: CamVid's Pavement is a sidewalk
# Every small model, and DeepLabV3+ on KerasCV's layers of layers, which Keras numbers.
SLOW = [pytest.mark.slow]  # like deeplabv3plus, or takes seconds to import
EVERY = [
    pytest.param(name, marks=SLOW if name in (*ALIKE, "kerascv") else []) for name in (*SMALL, "kerascv")
]


def build(name: str, count: int, seed: int, **more) -> keras.Model:
    arguments = {**SMALL.get(name, SMALL["deeplabv3plus"]), **more}
    if name == "kerascv":
        name, arguments = "deeplabv3plus", {**arguments, "backbone": "kerascv_csp_darknet_s"}
    model = zoo.build(name, classes=count, **arguments)
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return model


def values(model: keras.Model) -> dict[str, np.ndarray]:
    return {variable.path: np.array(variable) for variable in model.weights}


def read(folder: Path, model: keras.Model, names: tuple[str, ...] | None, name: str, **arguments) -> Path:
    """The model's weights with a config, or, without names, as `save_weights` leaves them."""
    path = folder / "their.weights.h5"
    if names is None:
        model.save_weights(path)
    else:
        source = {"kind": "test", "name": "their", "sha256": ""}
        model_config.write(path, model, {"format": 1, "model": name, "arguments": arguments, "classes": names,
                                         "palette": None,
                                 "source": source})  # fmt: skip
    return path


def start(model: keras.Model, path: Path, names: tuple[str, ...] = OURS, mapping=None) -> str:
    """What --init says; a warning of Keras would be an error."""
    said: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        initial_weights.load(model, initial_weights.find(path), names, mapping, said.append)
    return "\n".join(said)


def test_every_model_of_the_zoo_is_in_the_contract() -> None:
    assert {*SMALL, *PROMPTED} == set(zoo.MODELS)


@pytest.mark.parametrize("name", EVERY)
def test_every_layer_that_fits_is_taken_and_rows_go_by_name(name: str, tmp_path: Path) -> None:
    theirs, model = build(name, 5, 1), build(name, 3, 2)
    path = read(tmp_path, theirs, THEIRS, "any", classes=5)
    before = model.get_weights()
    said = start(model, path)
    heads = set()
    for variable, was, expected in zip(model.weights, before, theirs.get_weights(), strict=True):
        at, found = variable.path, np.array(variable)
        if was.shape == expected.shape:
            np.testing.assert_array_equal(found, expected, err_msg=at)
            continue
        heads.add(at.split("/")[-2])
        np.testing.assert_array_equal(found[..., 0], expected[..., 4], err_msg=at)
        np.testing.assert_array_equal(found[..., 1], was[..., 1], err_msg=at)
        np.testing.assert_array_equal(found[..., 2], expected[..., 1], err_msg=at)
        # Mask2Former's "no object"
        np.testing.assert_array_equal(found[..., 3:], expected[..., 5:], err_msg=at)
    assert heads and heads <= set(contract.HEADS)
    assert "carried over by name, 2 of 5 classes there: sky, sidewalk (there Pavement)." in said
    assert said.endswith("new, to be trained: barn.") and 2 <= len(said.splitlines()) <= 3


def test_mask2formers_no_object_is_a_row_more() -> None:
    with ours_of(build("mask2former", 3, 1)) as (model, stored):
        assert stored["class_predictor"][0].shape[-1] == 4
        assert ours.class_count(model, stored, 3) == 3


def ours_of(model: keras.Model):
    import contextlib
    import tempfile

    @contextlib.contextmanager
    def both():
        with tempfile.TemporaryDirectory() as folder:
            model.save_weights(Path(folder) / "a.weights.h5")
            with ours.opened(Path(folder) / "a.weights.h5") as stored:
                yield model, stored

    return both()


def test_a_sam_has_no_classes_and_is_taken_whole(tmp_path: Path) -> None:
    theirs, model = (zoo.build("sam", **TINY_SAM) for _ in range(2))
    theirs.save_weights(tmp_path / "sam.weights.h5")
    said = start(model, tmp_path / "sam.weights.h5")
    for at, expected in values(theirs).items():
        np.testing.assert_array_equal(values(model)[at], expected, err_msg=at)
    count = len(ours.layers_of(model))
    assert said == f"{tmp_path / 'sam.weights.h5'}: {count} of {count} layers taken."


def test_the_same_number_of_classes_goes_by_name_too(tmp_path: Path) -> None:
    """Under the same names all is taken; in another order rows move; under names that none has, the head is new."""
    theirs = build("segformer", 3, 1)
    path, kernel = read(tmp_path, theirs, ("a", "b", "c"), "segformer", classes=3), "classifier/kernel"
    expected = values(theirs)[kernel]
    model = build("segformer", 3, 2)
    assert "the head with its 3 classes too" in start(model, path, ("A", "b", "c"))
    np.testing.assert_array_equal(values(model)[kernel], expected)
    said = start(build("segformer", 3, 2), path, ("c", "b", "a"))
    assert "carried over by name, 3 of 3 classes there: c, b, a." in said and "new" not in said
    fresh = build("segformer", 3, 2)
    before = values(fresh)[kernel]
    said = start(fresh, path, ("x", "y", "z"))
    assert (
        "classifier: new for all 3 classes (x, y, z), since none is among the 3 there by name (a, b, c)."
        in said
    )
    np.testing.assert_array_equal(values(fresh)[kernel], before)


def test_a_mapping_of_ones_own_says_which_class_is_which(tmp_path: Path) -> None:
    theirs = build("segformer", 3, 1)
    path = read(tmp_path, theirs, ("a", "b", "c"), "segformer", classes=3)
    model = build("segformer", 2, 2)
    said = start(model, path, ("wheels", "rest"), {"c": "wheels", "a": "rest", "b": "rest"})
    assert "wheels (there c)" in said and said.endswith("new, to be trained: rest.")
    np.testing.assert_array_equal(values(model)["classifier/bias"][0], values(theirs)["classifier/bias"][2])


def test_weights_without_names_of_classes_are_taken_in_order_or_not_at_all(tmp_path: Path) -> None:
    theirs = build("segformer", 3, 1)
    path = read(tmp_path, theirs, None, "segformer")
    model = build("segformer", 3, 2)
    said = start(model, path)
    assert (
        "the names of its 3 classes are not known, so its rows are taken in their order, the first for sky"
        in said
    )
    np.testing.assert_array_equal(values(model)["classifier/kernel"], values(theirs)["classifier/kernel"])
    said = start(build("segformer", 2, 2), path, ("a", "b"))
    assert "classifier: new for all 2 classes, since the names of its 3 classes are not known." in said


def test_a_layer_that_ought_to_fit_and_does_not_is_named(tmp_path: Path) -> None:
    path = read(tmp_path, build("segformer", 5, 1), THEIRS, "segformer")
    with pytest.raises(
        UserError, match=r"their.weights.h5, of --init, has the layer decoder_\w+ in the shape .*16"
    ) as caught:
        start(build("segformer", 3, 2, decoder_filters=24), path)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="lacks the layer "):
        start(build("unet", 3, 2), path)
    theirs = build("segformer", 5, 1)
    theirs.get_layer("classifier").bias.assign([0, np.nan, 0, 0, 0])
    with pytest.raises(UserError, match="classifier that are not finite"):
        start(build("segformer", 3, 2), read(tmp_path, theirs, THEIRS, "segformer"))
    (tmp_path / "bad.weights.h5").write_bytes(b"nothing")
    with pytest.raises(UserError, match="bad.weights.h5 is damaged, cut short or no .weights.h5"):
        start(build("segformer", 3, 2), tmp_path / "bad.weights.h5")


def test_an_auxiliary_head_may_be_new_or_left(tmp_path: Path) -> None:
    """It serves training alone. Keras' counters would shift with it: the layers behind it still get their own."""
    plain, with_head = (build("fcn", 3, seed, auxiliary=more) for seed, more in ((1, False), (2, True)))
    path = read(tmp_path, plain, ("a", "b", "c"), "fcn")
    before = values(with_head)
    said = start(with_head, path, ("a", "b", "c"))
    assert "New, since the file has none: auxiliary" in said
    for at, found in values(with_head).items():
        np.testing.assert_array_equal(found, values(plain).get(at, before[at]), err_msg=at)
    path = read(tmp_path, with_head, ("a", "b", "c"), "fcn")
    assert "Not taken, since this model has none: auxiliary" in start(
        build("fcn", 3, 3, auxiliary=False), path, ("a", "b", "c")
    )


def test_which_class_is_which() -> None:
    """By hand: what CamVid, Cityscapes and road11 call one thing; what joins several has no counterpart."""
    nineteen, eleven = classes("cityscapes19"), classes("camvid11")
    found = same_classes(nineteen, eleven)
    assert [nineteen[place] if place is not None else None for place in found] == [
        "sky", "building", "pole", "road", "sidewalk", "vegetation", "traffic sign", "fence", "car", "person", None,
    ]  # fmt: skip
    assert same_classes(eleven, classes("road11")) == [3, 4, 1, 7, 2, 6, 5, 0, 9, 10, 8]
    assert same_classes(("Traffic Light",), ("traffic_light", "road")) == [0, None]
    assert same_classes(eleven, ("car", "vehicle")) == [8, None]  # one row is not two classes
    assert reordered(("a", "B"), ("b", "A")) == [1, 0] and reordered(("a", "b"), ("a", "c")) is None
    assert reordered(("+", "-"), ("-", "+")) is None  # told apart by their signs alone


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a model as small as it gets, with random weights."""
    from training.runs.recipe import Recipe
    from training.runs.trained_run import build_model

    folder = tmp_path_factory.mktemp("runs") / "X"
    folder.mkdir()
    options = {"rates": (1, 2), "aspp_filters": 8, "decoder_filters": 8, "low_level_filters": 4}
    made = Recipe.of(
        model="deeplabv3plus",
        data="camvid",
        data_dir="d",
        backbone="mobilenet_v2",
        output_stride=32,
        model_options=options,
    )
    (folder / "recipe.json").write_text(made.to_json())
    build_model(made, 11).save_weights(folder / "best.weights.h5")
    return folder


def test_the_weights_of_a_run_stand_for_the_run(trained: Path) -> None:
    for path in (trained, trained / "best.weights.h5"):
        assert load(path).folder == trained and load(path).name == "deeplabv3plus"
        assert initial_weights.find(path).classes == classes("camvid11")
        assert initial_weights.architecture(path, "deeplabv3plus")["model_options"]["aspp_filters"] == 8
        with pytest.raises(UserError, match="is a deeplabv3plus, not a unet"):
            initial_weights.architecture(path, "unet")
        with pytest.raises(UserError, match="X is a run: training starts from it as it is"):
            convert.main([str(path), "--classes", "2", "--out", str(trained.parent / "two.weights.h5")])


def test_our_own_weights_get_another_number_of_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = {**SMALL["mask2former"], "classes": 5}
    theirs = build("mask2former", 5, 1)
    path = read(tmp_path, theirs, THEIRS, "mask2former", **arguments)
    assert convert.main([str(path), "--classes", "2", "--out", str(tmp_path / "two.weights.h5")]) == 0
    said = capsys.readouterr().out
    assert "classes: 2 in place of 5" in said and "new and random, to be trained: class_predictor" in said
    facts, model = model_config.read(tmp_path / "two.json"), model_config.rebuild(tmp_path / "two.weights.h5")
    assert (
        facts["arguments"]["classes"] == 2 and facts["classes"] is None and facts["source"]["name"] == "their"
    )
    for at, found in values(model).items():
        if not at.startswith("class_predictor"):
            np.testing.assert_array_equal(found, values(theirs)[at], err_msg=at)
    assert convert.main([str(path), "--classes", "5", "--out", str(tmp_path / "five.weights.h5")]) == 0
    assert model_config.read(tmp_path / "five.json")["classes"] == THEIRS
    with pytest.raises(UserError, match="can have 2 classes or more, not 1"):
        convert.main([str(path), "--classes", "1", "--out", str(tmp_path / "one.weights.h5")])


def test_weights_saved_by_hand_say_that_a_card_is_missing_and_how_to_write_it(tmp_path: Path) -> None:
    theirs = build("segformer", 2, 1)
    path = read(tmp_path, theirs, None, "segformer")
    with pytest.raises(
        UserError, match=r"its config their.json, .*zoo.convert.write_config\('.*their.weights.h5',"
    ):
        load(path)  # what export, evaluation, comparison and teachers open
    with pytest.raises(UserError, match="has the layer .* is needed .*write_config"):
        start(build("segformer", 2, 2, decoder_filters=24), path, ("a", "b"))
    palette = [(1, 2, 3), (4, 5, 6)]
    written = write_config(path, "segformer", classes=["a", "b"], palette=palette, **SMALL["segformer"])
    assert written == tmp_path / "their.json"
    found = load(path)
    assert found.spec.classes == ("a", "b") and found.spec.palette == tuple(palette)
    for at, value in values(found.model()).items():
        np.testing.assert_array_equal(value, values(theirs)[at], err_msg=at)
    assert json.loads((tmp_path / "their.json").read_text())["source"]["kind"] == "saved by hand"


def test_a_card_that_would_be_wrong_is_not_written(tmp_path: Path) -> None:
    path = read(tmp_path, build("segformer", 3, 1), None, "segformer")
    small = SMALL["segformer"]
    for words, model, given in [
        (
            "classifier in the shape .*x3, 3, where .*x2, 2 is needed",
            "segformer",
            {"classes": ["a", "b"], **small},
        ),
        ("lacks the layer", "unet", {"classes": 3}),
        ("unknown model 'seg'", "seg", {"classes": 3}),
        ("2 colours for 3 classes", "segformer", {"classes": 3, "palette": [(0, 0, 0)] * 2, **small}),
        ("a list of names is needed", "segformer", {"classes": "abc", **small}),
    ]:
        with pytest.raises(UserError, match=words):
            write_config(path, model, **given)
    with pytest.raises(UserError, match="name what save_weights wrote"):
        write_config(tmp_path / "none.weights.h5", "segformer", classes=3)
    assert not model_config.config_path(path).exists()


def test_the_shipped_cityscapes_model_by_name() -> None:
    """CamVid's classes get the rows of Cityscapes' that are the same; Tree is its vegetation, Bicyclist is new."""
    name, camvid, theirs = Path("deeplabv3-edgetpu-cityscapes"), classes("camvid11"), classes("cityscapes19")
    found = model_config.read(initial_weights.find(name).path)
    model = zoo.build(found["model"], **{**found["arguments"], "classes": len(camvid)})
    said = start(model, name, camvid)
    old, new = (one.get_layer("classifier").get_weights() for one in (zoo.load(name), model))
    rows = same_classes(theirs, camvid)
    for place, source in enumerate(rows):
        if source is not None:
            np.testing.assert_array_equal(new[0][..., place], old[0][..., source], err_msg=camvid[place])
            assert new[1][place] == old[1][source]
    assert [camvid[place] for place, source in enumerate(rows) if source is None] == ["Bicyclist"]
    assert f"carried over by name, {len(camvid) - 1} of {len(theirs)} classes there" in said
    assert said.endswith("new, to be trained: Bicyclist.")
