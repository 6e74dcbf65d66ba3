"""Milliseconds of a training step with oneDNN's kernels and without (`TF_ENABLE_ONEDNN_OPTS`).

    python -m benchmarks.onednn
    python -m benchmarks.onednn --rounds 5 --only DDRNet

TensorFlow takes oneDNN's by itself only on x86-64 with AVX-512 or AMX; `runtime.backend` asks for them on all of
x86-64. Each contender lives in a process of its own with two threads, and they take turns, one step a turn: forward,
backward and AdamW from float32 images in memory, batch 8, random weights.
"""

import argparse
import os
import platform
import sys
from pathlib import Path
from typing import Any

from benchmarks.turns import Step, print_table, race, serve
from benchmarks.zoo_page import machine
from runtime.backend import ONEDNN
from runtime.errors import UserError, exit_on_user_error

MODULE = "benchmarks.onednn"
BATCH = 8
LIGHT = {
    "output_stride": 16, "rates": (3, 6, 9, 12), "aspp_filters": 128, "decoder_filters": 128,
    "aspp_separable": True, "decoder_separable": True,
}  # fmt: skip
NETWORKS: dict[str, tuple[str, tuple[int, int], dict[str, Any]]] = {
    "DeepLabV3+ MobileNetV2, 128x256": ("deeplabv3plus", (128, 256), {**LIGHT, "backbone": "mobilenet_v2"}),
    "DeepLabV3+ MobileNetV2, 320x320": ("deeplabv3plus", (320, 320), {**LIGHT, "backbone": "mobilenet_v2"}),
    "DeepLabV3+ EfficientNet-Lite0, 320x320": (
        "deeplabv3plus", (320, 320), {**LIGHT, "backbone": "efficientnet_lite0"},
    ),
    "DDRNet-23-slim, 320x320": ("ddrnet", (320, 320), {}),
}  # fmt: skip
CONTENDERS = {"with oneDNN": "1", "without": "0"}


def main(argv: list[str] | None = None) -> int:
    command = argparse.ArgumentParser(prog="python -m benchmarks.onednn", description=__doc__.splitlines()[0])
    command.add_argument("--rounds", type=int, default=10, help="steps timed of each contender (default 10)")
    command.add_argument("--only", default="", metavar="TEXT", help="networks whose name holds TEXT")
    command.add_argument("--worker", nargs=2, metavar=("NETWORK", "CONTENDER"), help=argparse.SUPPRESS)
    options = command.parse_args(argv)
    if options.worker:
        network, contender = options.worker
        os.environ[ONEDNN] = CONTENDERS[contender]
        serve(training_step(network))
        return 0
    chosen = [name for name in NETWORKS if options.only.lower() in name.lower()]
    if not chosen:
        raise UserError(f"--only {options.only}: no network is called so; known are {'; '.join(NETWORKS)}")
    print(f"{machine()}, {platform.machine()}, AVX-512: {avx512()}")
    for name in chosen:
        print_table(name, race(MODULE, name, list(CONTENDERS), options.rounds), {"without": ["with oneDNN"]})
    return 0


def avx512() -> str:
    flags = Path("/proc/cpuinfo")
    if not flags.exists():
        return "not known"
    return "yes" if " avx512f" in flags.read_text(encoding="utf-8") else "no"


def training_step(network: str) -> Step:
    """Our own step, as training.engine.loop takes it."""
    from benchmarks.training_step import CLASSES, tensorflow

    tf = tensorflow()
    import zoo
    from training.engine.train_step import make_train_state, make_train_step
    from training.runs.recipe import Recipe

    model, size, flags = NETWORKS[network]
    recipe = Recipe.of(model=model, data="scenes", batch=BATCH)
    step = make_train_step(
        make_train_state(zoo.build(model, classes=CLASSES, **flags), recipe.optimisation, 100),
        recipe,
        tf.distribute.get_strategy(),
        None,
    )
    pixels = tf.random.uniform((BATCH, *size, 3), 0, 255)
    labels = tf.cast(tf.random.uniform((BATCH, *size), 0, CLASSES, tf.int32), tf.uint8)
    return lambda: float(step(pixels, labels)[0])


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
