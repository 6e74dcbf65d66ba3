"""Milliseconds of a training step beside KerasHub's and segmentation_models_pytorch's, and of evaluation beside
keras.metrics.MeanIoU and cityscapesscripts.

    python -m benchmarks.training_step                   # the peers are in requirements-parity.txt
    python -m benchmarks.training_step --profile         # where the time of our step goes, by kind of operation

Each contender lives in a process of its own with two threads, and they take turns, one step a turn: medians, and the
ratio of medians. Ours is compared with each peer on the peer's own network (same layers, rates and filters: the
layouts of zoo.convert, whose logits agree to 1e-6), from float32 images in memory to new weights: forward, backward,
AdamW, cross-entropy without the void pixels. Our step does more than theirs: it averages weights (EMA), clips, and
looks whether everything is finite before it assigns; "without extras" leaves out the first two.
"""

import argparse
import atexit
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.turns import Step, print_table, race, serve
from benchmarks.zoo_rows import SMP_PLUS
from runtime.errors import UserError, exit_on_user_error
from runtime.files import write_whole
from runtime.image import png

CLASSES = 19
THREADS = 2
RATE = 1e-4
MODULE = "benchmarks.training_step"


class Task(NamedTuple):
    """A network and a batch: our names of its backbone, theirs, (height, width) and images a step."""

    backbone: str
    encoder: str
    size: tuple[int, int]
    batch: int


TASKS = {
    "ResNet101 256x256, batch 2": Task("resnet101_v1b", "resnet101", (256, 256), 2),
    "MobileNetV2 320x320, batch 8": Task("mobilenet_v2_torchvision", "mobilenet_v2", (320, 320), 8),
}
KERAS_HUB_LAYOUT = {"output_stride": 32, "rates": (6, 12, 18), "variant": "keras_hub"}


def main(argv: list[str] | None = None) -> int:
    command = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    command.add_argument("--rounds", type=int, default=15, help="steps timed of each contender (default 15)")
    command.add_argument("--profile", action="store_true", help="where the time of our step goes")
    command.add_argument("--worker", nargs=2, metavar=("TASK", "CONTENDER"), help=argparse.SUPPRESS)
    options = command.parse_args(argv)
    if options.worker:
        task, contender = options.worker
        serve(CONTENDERS[contender](TASKS[task]) if task in TASKS else EVALUATIONS[contender](*label_maps()))
        return 0
    if options.profile:
        for name, task in TASKS.items():
            print(f"\n{name}\n" + profile(task))
        return 0
    for name in TASKS:
        contenders = [one for one in CONTENDERS if "KerasHub" not in one or "ResNet" in name]
        print_table(name, race(MODULE, name, contenders, options.rounds), PEERS)
    print_table(EVALUATION, race(MODULE, EVALUATION, list(EVALUATIONS), options.rounds), PEERS)
    return 0


def batch(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """float32 (B, H, W, 3) images and uint8 (B, H, W) labels with some void."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (task.batch, *task.size, 3)).astype(np.float32)
    labels = rng.integers(0, CLASSES, (task.batch, *task.size), np.uint8)
    labels[rng.random(labels.shape) < 0.05] = 255
    return pixels, labels


def ours(task: Task, layout: dict[str, Any], **fields: Any) -> Step:
    """Our own step, as training.engine.loop takes it."""
    pixels, labels = (tensorflow().constant(part) for part in batch(task))
    step = our_step(task, layout, **fields)
    return lambda: float(step(pixels, labels)[0])


def our_step(task: Task, layout: dict[str, Any], **fields: Any) -> Callable[..., Any]:
    import zoo
    from training.engine.train_step import make_train_state, make_train_step
    from training.runs.recipe import Recipe

    model = zoo.build(
        "deeplabv3plus", classes=CLASSES, image_size=task.size, backbone=task.backbone, **layout
    )
    recipe = Recipe.of(
        model="deeplabv3plus",
        data="scenes",
        backbone=task.backbone,
        batch=task.batch,
        learning_rate=RATE,
        **fields,
    )
    return make_train_step(
        make_train_state(model, recipe.optimisation, 100),
        recipe,
        tensorflow().distribute.get_strategy(),
        None,
    )


def peer(name: str) -> Any:
    """The library, as tests/references.py makes it importable."""
    import pytest

    from tests import references

    try:
        return getattr(references, name)()
    except pytest.skip.Exception as missing:
        raise UserError(f"{missing}: pip install --no-deps -r requirements-parity.txt") from None


def smp(task: Task) -> Step:
    """segmentation_models_pytorch's DeepLabV3Plus, channels last, which was the faster layout (RECORDS)."""
    import torch

    from tests.references import segmentation_models_pytorch

    torch.set_num_threads(THREADS)
    network = segmentation_models_pytorch().DeepLabV3Plus(task.encoder, encoder_weights=None, classes=CLASSES)
    network = network.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), RATE)
    loss_of = torch.nn.CrossEntropyLoss(ignore_index=255)
    pixels, labels = batch(task)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(memory_format=torch.channels_last)
    truth = torch.from_numpy(labels.astype(np.int64))
    mean, deviation = (
        torch.tensor(values).view(1, 3, 1, 1) for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(network((images / 255 - mean) / deviation), truth)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def keras_hub(task: Task) -> Step:
    """KerasHub's DeepLabV3+ in its own train_on_batch, without XLA, which is slower on a CPU."""
    import keras

    tensorflow()
    hub = peer("keras_hub")
    encoder = hub.models.ResNetBackbone(
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[3, 4, 23, 3],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="bottleneck_block",
        use_pre_activation=False,
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
    )
    backbone = hub.models.DeepLabV3Backbone(
        image_encoder=encoder,
        projection_filters=48,
        low_level_feature_key="P2",
        spatial_pyramid_pooling_key="P5",
        upsampling_size=8,
        dilation_rates=[6, 12, 18],
    )
    model = hub.models.DeepLabV3ImageSegmenter(backbone=backbone, num_classes=CLASSES)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    model.compile(keras.optimizers.AdamW(RATE), loss, metrics=[], jit_compile=False)
    pixels, labels = (tensorflow().constant(part) for part in batch(task))
    return lambda: model.train_on_batch(pixels, labels)


def tensorflow() -> Any:
    """TensorFlow with the threads that every contender has."""
    import tensorflow as tf

    if tf.config.threading.get_intra_op_parallelism_threads() != THREADS:
        tf.config.threading.set_intra_op_parallelism_threads(THREADS)
        tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    return tf


CONTENDERS: dict[str, Callable[[Task], Step]] = {
    "Kerbside, in SMP's layout": partial(ours, layout=SMP_PLUS),
    "Kerbside, in SMP's layout, without extras": partial(ours, layout=SMP_PLUS, ema=0.0, clip_norm=0.0),
    "segmentation_models_pytorch": smp,
    "Kerbside, in KerasHub's layout": partial(ours, layout=KERAS_HUB_LAYOUT),
    "Kerbside, in KerasHub's layout, without extras": partial(
        ours, layout=KERAS_HUB_LAYOUT, ema=0.0, clip_norm=0.0
    ),
    "KerasHub": keras_hub,
}

EVALUATION = "evaluation of one 1024x2048 image, 19 classes: class ids to the matrix"


def label_maps() -> tuple[np.ndarray, np.ndarray]:
    """Truth and prediction, label ids 0..33, uint8 (1024, 2048): a drawn scene, and the same 8 pixels further."""
    from training.data import scenes

    truth = scenes.draw(0, 0, (1024, 2048)).label_ids
    return truth, np.roll(truth, 8, axis=1)


def train_ids(truth: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As 19 train ids; the truth has void, a prediction has not."""
    from training.data.labels import taxonomies

    truth, predicted = (taxonomies.table("cityscapes34", "cityscapes19")[ids] for ids in (truth, predicted))
    return truth, np.where(predicted == 255, 0, predicted).astype(np.uint8)


def our_matrix(truth: np.ndarray, predicted: np.ndarray) -> Step:
    from evaluation.confusion_counts import confusion_matrix

    truth, predicted = train_ids(truth, predicted)
    return lambda: confusion_matrix(truth, predicted, CLASSES)


def keras_metric(truth: np.ndarray, predicted: np.ndarray) -> Step:
    import keras

    tf = tensorflow()
    metric = keras.metrics.MeanIoU(CLASSES, ignore_class=255, sparse_y_pred=True)
    update = tf.function(lambda labels, ids: metric.update_state(labels, ids))
    labels, ids = map(tf.constant, train_ids(truth, predicted))
    return lambda: (update(labels, ids), metric.total_cm.numpy())


def png_files(truth: np.ndarray, predicted: np.ndarray) -> tuple[Path, Path]:
    """Both maps as PNG files, in a temporary folder that ends with the process."""
    folder = Path(tempfile.mkdtemp(prefix="kerbside-benchmark-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name, ids in (("truth", truth), ("predicted", predicted)):
        write_whole(folder / f"{name}.png", png(ids))
    return folder / "truth.png", folder / "predicted.png"


def our_files(truth: np.ndarray, predicted: np.ndarray) -> Step:
    from evaluation.confusion_counts import confusion_matrix
    from training.data.labels.label_maps import read_ids

    files = png_files(truth, predicted)
    return lambda: confusion_matrix(read_ids(files[0]), read_ids(files[1]), 34)


def cityscapesscripts(truth: np.ndarray, predicted: np.ndarray) -> Step:
    """Its evaluator's own function for one image, class scores alone."""
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as evaluator

    truth_file, predicted_file = png_files(truth, predicted)
    evaluator.args.evalInstLevelScore = evaluator.args.evalPixelAccuracy = False
    evaluator.args.evalLabels = list(range(34))
    matrix = np.zeros((34, 34), np.ulonglong)
    return lambda: evaluator.evaluatePair(
        str(predicted_file), str(truth_file), matrix, None, None, evaluator.args
    )


EVALUATIONS: dict[str, Callable[[np.ndarray, np.ndarray], Step]] = {
    "Kerbside": our_matrix,
    "keras.metrics.MeanIoU": keras_metric,
    "Kerbside, from two PNG files": our_files,
    "cityscapesscripts, from two PNG files": cityscapesscripts,
}
# Whose peer is which of ours.
PEERS = {
    "segmentation_models_pytorch": ("Kerbside, in SMP's layout", "Kerbside, in SMP's layout, without extras"),
    "KerasHub": ("Kerbside, in KerasHub's layout", "Kerbside, in KerasHub's layout, without extras"),
    "keras.metrics.MeanIoU": ("Kerbside",),
    "cityscapesscripts, from two PNG files": ("Kerbside, from two PNG files",),
}


def profile(task: Task, steps: int = 3) -> str:
    """Milliseconds a step by kind of operation, the kernels' own time on both threads together."""
    tf = tensorflow()
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    pixels, labels = (tf.constant(part) for part in batch(task))
    step = our_step(task, SMP_PLUS)
    for _ in range(2):
        step(pixels, labels)
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        before = time.perf_counter()
        for _ in range(steps):
            step(pixels, labels)
        wall = 1000 * (time.perf_counter() - before) / steps
        tf.profiler.experimental.stop()
        (trace,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(trace.read_bytes())
    found: dict[str, float] = {}
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            node, _, kind = plane.event_metadata[event.metadata_id].name.rpartition(":")
            # The name of a kernel's run is NODE:KIND; those of TensorFlow's own doings are A::B and A: B.
            if node and not node.endswith(":") and not kind.startswith(" "):
                kind = kind.partition("#")[0].replace("_MklNative", "")
                found[kind] = found.get(kind, 0.0) + event.duration_ps / 1e9 / steps
    rows = sorted(found.items(), key=lambda item: -item[1])[:15]
    lines = [f"| {kind} | {taken:.1f} | {100 * taken / sum(found.values()):.0f}% |" for kind, taken in rows]
    return "\n".join([f"{wall:.0f} ms a step", "| operation | ms | share |", "|---|---|---|", *lines])


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
