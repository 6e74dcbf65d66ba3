"""What a public checkpoint holds, and what it was found to be."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zoo.convert.inputs import IMAGENET, Inputs
from zoo.convert.options import Options

Tensors = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Checkpoint:
    """A file or folder as read: its tensors by name, and what else it says of itself.

    `config` is Hugging Face's config.json, {} where there is none; `meta` is what else a .pth carries, such as
    mmsegmentation's CLASSES and PALETTE; `preprocessor` is Hugging Face's preprocessor_config.json, None where there
    is none; `options` answers for what none of them says; `others` are the keys of other networks in the file, which
    are not read; `name` is for messages.
    """

    tensors: Tensors
    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)
    preprocessor: Mapping[str, Any] | None = None
    options: Options = field(default_factory=Options)
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Match:
    """A checkpoint recognised: which model of the zoo it is, and which of its tensors belong to which layer.

    `source` names the library it comes from. `model` and `arguments` are those of `zoo.build`. `names` turns
    the path of one of our layers ("conv2_block1_1_conv", "block1/attention/query") into the prefix of its
    tensors. `tensors` are the checkpoint's, fused ones split. `unused` are regular expressions of whole names
    that serve nothing in inference. `layout` says how arrays lie: "torch" or "keras". `classes` and `palette`
    are what the checkpoint itself says.

    `inputs` is how images are prepared; `flipped`: the first kernel reads blue first. `threshold`, of a network of one
    class, is the sigmoid above which a pixel is of that class, None where nothing says it. `assumed` are the facts that
    nothing in the checkpoint says, by their name in --set, and what was taken for them.
    """

    source: str
    model: str
    arguments: Mapping[str, Any]
    names: Callable[[str], str]
    tensors: Tensors
    unused: tuple[str, ...] = ()
    layout: str = "torch"
    classes: tuple[str, ...] | None = None
    palette: tuple[tuple[int, int, int], ...] | None = None
    inputs: Inputs = IMAGENET
    threshold: float | None = None
    assumed: Mapping[str, Any] = field(default_factory=dict)
    flipped: bool = False
