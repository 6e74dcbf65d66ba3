"""From the tensors of a checkpoint to a Match that can be built: what is done alike for every source.

Names may carry a prefix, as a Lightning module's do; zero-sized tensors are no weights; a network of one class becomes
one of two; how images are prepared becomes a part of the model.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np

from zoo.convert.checkpoint import Checkpoint, Match, Tensors
from zoo.convert.options import Options

Recognise = Callable[[Checkpoint], Match | None]
LONGEST_PREFIX = 4  # segments
LEAST_SHARE = 10  # a network has at least a tenth of the tensors
BACKGROUND, BLACK = "background", (0, 0, 0)
WITH_INPUTS = ("deeplabv3plus", "deeplabv3", "fcn", "lraspp", "unet", "segformer", "mask2former")
HEADS = ("classifier", "auxiliary_classifier")
ADDED = "low_level_classifier"  # whose logits LR-ASPP adds to those of "classifier"


def found(checkpoint: Checkpoint, sources: Iterable[Recognise]) -> Match | None:
    """The first source's answer, for the tensors as they are named or, where none knows them, without a prefix.

    Raises ValueError where what was found cannot be a model of ours, where two prefixes name a network, and where
    --set says what is not asked for.
    """
    tensors = {name: array for name, array in checkpoint.tensors.items() if array.size}
    checkpoint = replace(checkpoint, tensors=tensors)
    sources = tuple(sources)
    match, options = _asked(checkpoint, sources)
    if match is None and not checkpoint.config.get("registered_name"):
        match, options = _without_prefix(checkpoint, sources)
    if match is None:
        return None
    match = two_classes(built_in(match), options)
    options.check()
    return replace(match, assumed=options.assumed)


def _asked(checkpoint: Checkpoint, sources: Iterable[Recognise]) -> tuple[Match | None, Options]:
    for source in sources:
        options = checkpoint.options.fresh()
        match = source(replace(checkpoint, options=options))
        if match is not None:
            return match, options
    return None, checkpoint.options


def _without_prefix(checkpoint: Checkpoint, sources: Iterable[Recognise]) -> tuple[Match | None, Options]:
    """The network whose names begin with the shortest prefix; tensors outside of it stay, under their own names."""
    for prefixes in _prefixes(checkpoint.tensors):
        matches = {}
        for prefix in prefixes:
            own = {
                name.removeprefix(prefix): array
                for name, array in checkpoint.tensors.items()
                if name.startswith(prefix)
            }
            match, options = _asked(replace(checkpoint, tensors=own), sources)
            if match is not None:
                matches[prefix] = match, options
        if len(matches) > 1:
            raise ValueError(
                f"holds {len(matches)} networks, {' and '.join(prefix.rstrip('.') for prefix in matches)}: save the "
                "state dict of one of them alone"
            )
        for prefix, (match, options) in matches.items():
            others = {
                name: array for name, array in checkpoint.tensors.items() if not name.startswith(prefix)
            }
            return replace(match, tensors={**others, **match.tensors}), options
    return None, checkpoint.options


def _prefixes(tensors: Tensors) -> Iterator[list[str]]:
    """Prefixes of one segment, of two, ..., that a tenth of the names have."""
    for segments in range(1, LONGEST_PREFIX + 1):
        counts: dict[str, int] = {}
        for name in tensors:
            parts = name.split(".", segments)
            if len(parts) > segments:
                prefix = ".".join(parts[:segments]) + "."
                counts[prefix] = counts.get(prefix, 0) + 1
        yield [prefix for prefix, count in counts.items() if count * LEAST_SHARE >= len(tensors)]


def built_in(match: Match) -> Match:
    """The match with its inputs among the arguments of its model. Raises ValueError where the model has no place."""
    if match.inputs.like_imagenet:
        return replace(match, flipped=match.inputs.bgr)
    if match.model not in WITH_INPUTS:
        raise ValueError(
            f"prepares images otherwise than by ImageNet's mean and std, which a {match.model} here cannot do"
        )
    sizes = {
        **(match.arguments.get("backbone_sizes") or {}),
        "scale": match.inputs.scale,
        "offset": match.inputs.offset,
    }
    return replace(match, arguments={**match.arguments, "backbone_sizes": sizes}, flipped=match.inputs.bgr)


def two_classes(match: Match, options: Options) -> Match:
    """A network of one class, which gives the logit of a sigmoid, as one of two: argmax says what the threshold said.

    The first class has the logit of the threshold, 0 for 0.5, everywhere; with that, softmax says what the sigmoid did.
    """
    if match.arguments.get("classes") != 1:
        return match
    if match.model == "mask2former":
        raise ValueError(
            "is a Mask2Former of one class, whose semantic segmentation is that class everywhere; train it with a "
            "class for the rest"
        )
    threshold = options.take("threshold", match.threshold, 0.5)
    if not 0 < threshold < 1:
        raise ValueError(f"can have a threshold between 0 and 1, not {threshold:g}")
    first = math.log(threshold / (1 - threshold))
    classes, palette = match.classes, match.palette
    if classes and len(classes) == 1:
        classes = (BACKGROUND, *classes)
        palette = (BLACK, *palette) if palette and len(palette) == 1 else None
    return replace(
        match,
        arguments={**match.arguments, "classes": 2},
        tensors={**match.tensors, **dict(_doubled(match, first))},
        classes=classes,
        palette=palette,
    )


def _doubled(match: Match, first: float) -> Iterator[tuple[str, np.ndarray]]:
    """The classifiers' tensors with a class before the one, whose logit is `first`."""
    kernel, bias, axis = ("/kernel", "/bias", -1) if match.layout == "keras" else (".weight", ".bias", 0)
    for path in (*HEADS, ADDED):
        try:
            prefix = match.names(path)
        except KeyError:  # a source that has no such layer
            continue
        for part, value in ((kernel, 0.0), (bias, 0.0 if path == ADDED else first)):
            if f"{prefix}{part}" in match.tensors:
                one = np.asarray(match.tensors[f"{prefix}{part}"])
                yield f"{prefix}{part}", np.concatenate([np.full_like(one, value), one], axis)
