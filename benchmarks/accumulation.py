"""What --accumulate costs and saves: python -m benchmarks.accumulation [--parts 1 4] [--batch 8] [--size 192].

One process a number of parts, since a process's peak of memory never falls. Printed for each: the peak of resident
memory above what it was before the first step, and the processor's time of the first step, which traces, and of a
later one.
"""

import argparse
import resource
import subprocess
import sys
import time


def measure(parts: int, batch: int, size: int) -> str:
    """A row of the table, measured in this process."""
    import tensorflow as tf

    from training.engine.train_step import make_train_state, make_train_step
    from training.runs.recipe import Recipe
    from training.runs.trained_run import build_model

    recipe = Recipe.of(
        model="deeplabv3plus",
        data="scenes",
        backbone="mobilenet_v2",
        crop=(size, size),
        batch=batch,
        accumulate=parts,
    )
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    with strategy.scope():
        train_state = make_train_state(build_model(recipe, 19), recipe.optimisation, 10)
    step = make_train_step(train_state, recipe, strategy, None)
    images = tf.random.stateless_uniform((batch, size, size, 3), [0, 1], 0, 255)
    labels = tf.random.stateless_uniform((batch, size, size), [0, 2], 0, 19, tf.int32)
    before, seconds = peak(), []
    for _ in range(3):
        start = time.process_time()
        float(step(images, labels)[0])
        seconds.append(time.process_time() - start)
    return f"| {parts} | {peak() - before:.0f} | {seconds[0]:.1f} | {min(seconds[1:]):.2f} |"


def peak() -> float:
    """Of this process's resident memory, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("--parts", type=int, nargs="+", default=[1, 4])
    command.add_argument("--batch", type=int, default=8)
    command.add_argument("--size", type=int, default=192)
    command.add_argument("--here", type=int, help=argparse.SUPPRESS)
    args = command.parse_args()
    if args.here:
        print(measure(args.here, args.batch, args.size))
        return
    print(
        "| parts | peak above start, MiB | first step, CPU s | step, CPU s |\n|---|---|---|---|", flush=True
    )
    for parts in args.parts:
        again = ["--here", str(parts), "--batch", str(args.batch), "--size", str(args.size)]
        subprocess.run([sys.executable, "-m", "benchmarks.accumulation", *again], check=True)


if __name__ == "__main__":
    main()
