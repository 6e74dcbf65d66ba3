"""One worker of a run of a tiny model, as tests/training/engine/test_distributed.py starts it: python -m
tests.distributed_worker FOLDER CHANGES, with TF_CONFIG in its environment or without.

The parts are those of training.train; the model is smaller than any of the zoo, and its losses are kept step by step.
"""

import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from runtime.errors import exit_on_user_error
from training import distributed
from training.start_tensorflow import start_tensorflow


def main() -> int:
    folder, changes = Path(sys.argv[1]), json.loads(sys.argv[2])
    with distributed.joined(os.environ.get("TF_CONFIG"), seconds=changes.pop("seconds", 300)) as cluster:
        start_tensorflow(devices=cluster.size == 1 and "devices" not in changes)
        return train(folder, changes, cluster)


def train(folder: Path, changes: dict[str, Any], cluster: distributed.Cluster) -> int:
    import keras
    import tensorflow as tf

    from tests.tiny_training import SPEC, examples
    from training.data.augmentation import Augmentation
    from training.data.files.fingerprint import of as known_by
    from training.data.pipeline import DecodedCache
    from training.engine import loop, prepare_training
    from training.runs.recipe import Recipe

    norm, pause = changes.pop("norm", True), changes.pop("pause", 0.0)
    devices = strategy(changes.pop("devices", 1), cluster)
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(0)
    counts = {"train": 22, "val": 5, **changes.pop("counts", {})}
    caches = {
        split: DecodedCache(half_void(examples(counts[split], seed))) for seed, split in enumerate(counts)
    }
    facts = {
        f"{split} {key}": value
        for split, cache in caches.items()
        for key, value in distributed.fingerprint(known_by(cache.examples, cache.read)).items()
    }
    distributed.agree(cluster, "data set", facts)
    values = {"model": "deeplabv3plus", "data": "camvid", "data_dir": "d", "crop": (32, 32), "batch": 4, "epochs": 6,
              "learning_rate": 0.02, "warmup_epochs": 0.0, "ema": 0.9,
              "augmentation": Augmentation(**changes.pop("augmentation", {})), **changes}  # fmt: skip
    with devices.scope():
        model = tiny_model(norm)
        prepare_training.synchronise(model)
    losses: list[float] = []

    def say(text: str) -> None:
        if cluster.chief:
            print(text, flush=True)

    class Recorder(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            losses.append(logs["loss"])
            time.sleep(pause)

    if cluster.chief:
        folder.mkdir(exist_ok=True)
    try:
        loop.train(
            Recipe.of(**values), model, SPEC, caches["train"], caches["val"], folder, strategy=devices, cluster=cluster,
            callbacks=[Recorder()], say=say,
        )  # fmt: skip
    except loop.Stopped as stopped:
        print(f"{stopped}.", file=sys.stderr)
        return 130
    if cluster.chief:
        (folder / "losses.json").write_text(json.dumps(losses), encoding="utf-8")
    return 0


def strategy(devices_here: int, cluster: distributed.Cluster) -> Any:
    """So many devices of this one process, or the cluster's own strategy."""
    import tensorflow as tf

    from training.engine import prepare_training

    if devices_here == 1:
        return prepare_training.strategy(cluster)
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices_here)
    return tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(devices_here)])


def half_void(examples: list[Any]) -> list[Any]:
    """Every third image with three quarters of it void, so that the workers' parts weigh unequally."""

    def void(example: Any) -> Any:
        def read() -> tuple[Any, Any]:
            rgb, ids = example.read()
            ids[:, 8:] = 255
            return rgb, ids

        return dataclasses.replace(example, read=read)

    return [void(example) if index % 3 == 0 else example for index, example in enumerate(examples)]


def tiny_model(norm: bool) -> Any:
    import keras

    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Rescaling(1 / 255)(image)
    for filters in (6, 8):
        x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=not norm)(x)
        x = keras.layers.BatchNormalization(momentum=0.9)(x) if norm else x
        x = keras.layers.ReLU()(x)
    return keras.Model(image, {"logits": keras.layers.Conv2D(3, 1, name="head")(x)})


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
