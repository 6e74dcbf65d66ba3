"""Every image and label map is read once before training starts, so that a bad file is named in the first
minute and not met in the tenth hour."""

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from runtime.errors import UserError
from training.data.files import damaged_jpeg, fingerprint
from training.data.labels.class_counts import Occurrence, counted
from training.data.spec import Example

LISTED = 20


def check(
    examples: Sequence[Example],
    problems: Sequence[str],
    *,
    workers: int = 2,
    occurrence: Occurrence | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Example], list[str]]:
    """Read everything: the examples that can be trusted, with their checksums, and a sentence for each that cannot.

    `problems` are those found when the files were listed; they come first. The labels of the good ones are counted in
    `occurrence`, so that nobody has to read them again for that. `progress(done, count)` is called
    after each example.
    """
    good, sentences = [], list(problems)
    count = occurrence is not None
    with damaged_jpeg.heard() as warnings, ThreadPoolExecutor(workers) as pool:
        looked = pool.map(lambda example: _look(example, count), examples)
        for done, (example, (problem, known, pixels)) in enumerate(zip(examples, looked, strict=True)):
            if problem is None:
                good.append(dataclasses.replace(example, checksums=known))
            else:
                sentences.append(problem)
            if occurrence is not None and pixels is not None:
                occurrence.add(pixels)
            if progress:
                progress(done + 1, len(examples))
        warned = warnings()
    if warned:
        bad = damaged_jpeg.found(good)
        for place in bad:
            if occurrence is not None:
                occurrence.add(counted(good[place].read()[1]), -1)
        sentences += bad.values()
        good = [example for place, example in enumerate(good) if place not in bad]
    return good, sentences


def refusal(what: str, problems: Sequence[str], good: int) -> str:
    """The message of a run that does not start: the first problems, one a line, and how many there are."""
    lines = [f"  {problem}" for problem in problems[:LISTED]]
    if len(problems) > LISTED:
        lines.append(f"  and {len(problems) - LISTED} more.")
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    head = f"{what} has {count} beside {good} good images; mend the files, or leave them out with --skip-bad:"
    return "\n".join([head, *lines])


def _look(example: Example, count: bool) -> tuple[str | None, str, np.ndarray | None]:
    """What is wrong with it, or None; its checksums; and the pixels of each train id, if they are to be counted."""
    try:
        image, labels = example.read()
    except UserError as error:
        return str(error), "", None
    return None, fingerprint.checksums(image, labels), counted(labels) if count else None
