"""Names as training leaves them: prefixes of Lightning, torch.compile and DataParallel on every layout."""

import numpy as np
import pytest

import zoo
from tests import references
from tests.reference_networks import SEGFORMER, segformer_network, smp_network, torchvision_network
from zoo.convert import recognise
from zoo.convert.assign import assign
from zoo.convert.checkpoint import Checkpoint
from zoo.convert.files import state_dicts

PREFIXES = (
    "module.", "_orig_mod.", "module._orig_mod.", "model.", "model.module.", "_orig_mod.model.", "net._orig_mod.module."
)  # fmt: skip
LAYOUTS = {
    "torchvision": lambda: references.tensors(torchvision_network("deeplabv3", num_classes=5, aux=False)),
    "smp": lambda: references.tensors(
        smp_network("Unet", "mobilenet_v2", decoder_channels=(16, 12, 8, 8, 8))
    ),
    "huggingface": lambda: references.tensors(segformer_network(**SEGFORMER)[0]),
}


@pytest.fixture(scope="module", params=LAYOUTS)
def tensors(request):
    return LAYOUTS[request.param]()


def test_any_prefix_is_the_same_network(tensors):
    plain = recognise(Checkpoint(tensors, "plain"))
    for prefix in PREFIXES:
        named = state_dicts.without_wrapping({f"{prefix}{name}": array for name, array in tensors.items()})
        match = recognise(Checkpoint(named, prefix))
        assert match.arguments == plain.arguments and match.tensors.keys() == plain.tensors.keys()


def test_a_part_that_was_compiled_and_what_stands_beside_the_network(tensors):
    part = next(iter(tensors)).split(".")[0]
    named = {
        f"net.{name}".replace(f"net.{part}.", f"net.{part}._orig_mod."): array
        for name, array in tensors.items()
    }
    named = state_dicts.without_wrapping({**named, "criterion.weight": np.ones(5)})
    match = recognise(Checkpoint(named, "x"))
    report = assign(zoo.build(match.model, **match.arguments), match)
    assert report.left_over == ("criterion.weight",) and not report.fresh


def test_two_networks_are_one_too_many(tensors):
    named = {f"{who}.{name}": array for who in ("student", "teacher") for name, array in tensors.items()}
    with pytest.raises(ValueError, match="holds 2 networks, student and teacher: save the state dict of one"):
        recognise(Checkpoint(named, "x"))


def test_names_that_would_become_one_stay():
    assert state_dicts.without_wrapping({"module.a": 1, "a": 2}) == {"module.a": 1, "a": 2}
