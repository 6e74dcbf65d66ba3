"""Where in a training script's file the weights are, and what their names carry that is none of the network's.

Scripts wrap a state dict as they like ({"net": ...}, {"epoch": 3, "state_dict": {"model": ...}}, a pair with the
epoch), and DistributedDataParallel, torch.compile, FSDP and activation checkpointing put a segment of their own into
the names, anywhere and in any order.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from runtime.errors import UserError
from zoo.convert.files.pickled import Tensor, plain

T = TypeVar("T")
# Where several dictionaries hold tensors, the first of these is the network.
USUAL = ("state_dict", "model_state_dict", "model_state", "model", "network", "net", "module")
# Keys, or how they begin, under which training keeps tensors that are no network's.
TRAINING = (
    "optim",
    "scheduler",
    "lr_",
    "scaler",
    "amp",
    "grad",
    "loss",
    "loops",
    "callbacks",
    "rng",
    "message_hub",
)
WRAPPING = frozenset(("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))
DEEPEST, MOST_CONTAINERS, MOST_TENSORS = 8, 100_000, 20_000


def find(tree: Any, name: str) -> tuple[dict[str, Tensor], dict[str, Any], tuple[str, ...]]:
    """The tensors of a network by name, what lay around them as plain data, and the keys of other networks beside it.

    Raises UserError, which begins with `name`, where no dictionary of tensors is found or several could be meant.
    """
    meta: dict[str, Any] = {}
    others: tuple[str, ...] = ()
    for _ in range(DEEPEST):
        inner = {str(key): child for key, child in _children(tree) if _holds_tensors(child)}
        chosen = next((key for key in USUAL if key in inner), None)
        if chosen is None and _tensors(tree):
            break
        if chosen is None and len(inner) > 1:
            raise UserError(
                f"{name} holds several dictionaries of tensors ({', '.join(list(inner)[:6])}): save the one of the "
                "network alone, with torch.save(model.state_dict(), FILE)."
            )
        if not inner:
            break
        chosen = chosen or next(iter(inner))
        others += tuple(key for key in inner if key != chosen)
        if isinstance(tree, dict):
            meta |= plain({key: value for key, value in tree.items() if key != chosen})
        tree = inner[chosen]
    found = _tensors(tree)
    if not found:
        raise UserError(f"{name} holds no tensors in a dictionary, so it is no checkpoint.")
    if len(found) > MOST_TENSORS:
        raise UserError(f"{name} holds {len(found)} tensors, where a network has {MOST_TENSORS} at most.")
    # mmsegmentation's own record of classes and colours lies one level down.
    nested = meta.pop("meta", None)
    return found, meta | (nested if isinstance(nested, dict) else {}), others


def without_wrapping(named: Mapping[str, T]) -> dict[str, T]:
    """Without the segments of WRAPPING in the names; as it was where two names would become one."""
    shorter = {
        ".".join(part for part in name.split(".") if part not in WRAPPING): value
        for name, value in named.items()
    }
    return shorter if len(shorter) == len(named) and "" not in shorter else dict(named)


def _tensors(tree: Any) -> dict[str, Tensor]:
    if not isinstance(tree, dict):
        return {}
    return {key: value for key, value in tree.items() if isinstance(key, str) and isinstance(value, Tensor)}


def _children(tree: Any) -> Iterator[tuple[Any, Any]]:
    """The containers in a container, less those of training."""
    pairs: Iterable[tuple[Any, Any]] = tree.items() if isinstance(tree, dict) else ()
    if type(tree) in (list, tuple):
        pairs = enumerate(tree)
    for key, value in pairs:
        if isinstance(value, dict) or type(value) in (list, tuple):
            if not (isinstance(key, str) and key.lower().startswith(TRAINING)):
                yield key, value


def _holds_tensors(tree: Any) -> bool:
    """Whether a dictionary of tensors is in a container, itself included; each container is looked at once."""
    seen, level = {id(tree)}, [tree]
    for _ in range(DEEPEST):
        if any(_tensors(one) for one in level):
            return True
        below = [child for one in level for _, child in _children(one)]
        level = []
        for child in below:
            if id(child) not in seen and len(seen) < MOST_CONTAINERS:
                seen.add(id(child))
                level.append(child)
    return False
