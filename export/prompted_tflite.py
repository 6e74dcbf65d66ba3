"""Two `.tflite` from a prompted model: NAME-encoder runs once an image, NAME-decoder once a prompt.

Encoder: image (1, H, W, 3), RGB 0..255 -> image_embedding (1, h, w, C) float32. The image is float32, so that the
padding around an image can be exactly what the model takes for nothing, and uint8 in the int8 file.
Decoder, in float32, float16 or with int8 weights: image_embedding, points (1, 1, P, 2), point_labels (1, 1, P),
boxes (1, 1, 4) -> masks, iou, single_mask, single_iou, as zoo/sam.py has them. Its tokens are coordinates turned
into phases, which 8 bits cannot hold: with an int8 encoder it has int8 weights and float arithmetic.

Both come from one command and pass one gate together: the prompts that validation asks, answered by the files as
`runtime.PromptedSegmenter` runs them and by Keras. Neither is written when the answers are worse than the bounds
of export/parity.py allow.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export import Examples, Job, parity, provenance, tflite
from runtime.bundle import FORMAT
from runtime.errors import UserError
from runtime.files import file_sha256
from runtime.prompted import PromptedSegmenter, fit, full_size
from runtime.stderr import stderr_on_failure
from training.data.spec import VOID_ID, Example
from training.engine import prompts
from training.engine.prompts import Prompt
from training.progress_bar import counter
from training.runs.trained_model import TrainedModel

SLOTS = 8  # points that a prompt of the exported decoder may have
DECODER_PRECISION = {"fp32": "fp32", "fp16": "fp16", "dynamic": "dynamic", "int8": "dynamic"}
PARTS = ("encoder", "decoder")
Answer = tuple[np.ndarray, np.ndarray]  # mask logits (3, h, w), and the IoU that the model expects of each


def export(run: TrainedModel, job: Job, examples: Examples) -> Path:
    """Convert, check, pass the gate, and only then write both files, OUT-encoder.tflite and OUT-decoder.tflite.

    The size is that of the model, since its position embeddings have one. Returns the encoder's path.
    """
    model = run.model()
    size = tuple(model.input["image"].shape[1:3])
    print(f"converting to {job.precision}, {size[0]}x{size[1]} ...", flush=True)
    images = None
    if job.precision == "int8":
        images = calibration_images(examples("train"), job.calibration_images, size)
    flatbuffers = {
        "encoder": convert_encoder(model.get_layer("image_encoder"), job.precision, images),
        "decoder": convert_decoder(model.get_layer("prompt_decoder"), DECODER_PRECISION[job.precision]),
    }
    record = _pass_gate(run, model, flatbuffers, job, examples)
    for part in PARTS:
        precision = job.precision if part == "encoder" else DECODER_PRECISION[job.precision]
        what = facts(run, part, precision, size, record)
        provenance.write(path_of(job.out, part), flatbuffers[part], what)
    return path_of(job.out, "encoder")


def path_of(out: Path, part: str) -> Path:
    """NAME.tflite -> NAME-encoder.tflite or NAME-decoder.tflite."""
    return out.with_name(f"{out.stem}-{part}.tflite")


def convert_encoder(encoder: Any, precision: str, images: Sequence[np.ndarray] | None = None) -> bytes:
    """The flatbuffer; `images`, uint8 (H, W, 3) as `calibration_images` gives them, calibrate int8."""
    import tensorflow as tf

    def serve(image: Any) -> Any:
        return {"image_embedding": encoder(image, training=False)}

    shape = (1, *encoder.input.shape[1:])
    return _convert(encoder, serve, [tf.TensorSpec(shape, tf.float32, name="image")], precision, images)


def convert_decoder(decoder: Any, precision: str, slots: int = SLOTS) -> bytes:
    """The flatbuffer for one prompt a run, of up to `slots` points."""
    import tensorflow as tf

    def serve(image_embedding: Any, points: Any, point_labels: Any, boxes: Any) -> Any:
        given = {"image_embedding": image_embedding, "points": points, "point_labels": point_labels}
        return decoder({**given, "boxes": boxes}, training=False)

    signature = [
        tf.TensorSpec((1, *decoder.input["image_embedding"].shape[1:]), tf.float32, name="image_embedding"),
        tf.TensorSpec((1, 1, slots, 2), tf.float32, name="points"),
        tf.TensorSpec((1, 1, slots), tf.int32, name="point_labels"),
        tf.TensorSpec((1, 1, 4), tf.float32, name="boxes"),
    ]
    return _convert(decoder, serve, signature, precision)


def _convert(
    model: Any,
    serve: Callable[..., Any],
    signature: list[Any],
    precision: str,
    images: Sequence[np.ndarray] | None = None,
) -> bytes:
    shown = tflite.pinned(images) if images else []
    with tempfile.TemporaryDirectory() as folder, stderr_on_failure():
        tflite.write_saved_model(folder, model, serve, signature)
        flatbuffer = bytes(tflite.converter_of(folder, precision, shown).convert())
    tflite.check(flatbuffer)
    return flatbuffer


def calibration_images(examples: Sequence[Example], count: int, size: Sequence[int]) -> list[np.ndarray]:
    """Clean training images as the encoder will see them, with the padding around them, uint8 (H, W, 3)."""
    if not examples:
        raise UserError("the run's train split has no image to calibrate int8 on; one at least is needed.")
    chosen = parity.spread(examples, count)
    return [np.rint(fit(example.read()[0], size)).astype(np.uint8) for example in chosen]


def facts(
    run: TrainedModel, part: str, precision: str, size: Sequence[int], record: dict[str, Any]
) -> dict[str, Any]:
    """The note inside a file, see bundle.facts; a mask has one class and what is not of it."""
    return {
        "format": FORMAT,
        "labels": ["outside", "inside"],
        "palette": [[0, 0, 0], [255, 255, 255]],
        "ignore_id": VOID_ID,
        "output": "scores",
        "part": part,
        "size": list(size),
        "model": run.name,
        "data": run.data.name,
        "taxonomy": run.data.taxonomy,
        "recipe_sha256": run.sha256(),
        "weights_sha256": file_sha256(Path(run.weights_path)),
        "precision": precision,
        "versions": provenance.versions(),
        "scores": {"split": record["split"], "images": record["images"], **record["file"]},
        "parity": record,
    }


def _pass_gate(
    run: TrainedModel, model: Any, flatbuffers: dict[str, bytes], job: Job, examples: Examples
) -> dict[str, Any]:
    """Measure, print the table, raise UserError unless the bounds hold; the record that travels with the files."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {part: Path(folder) / f"{part}.tflite" for part in PARTS}
        for part, path in paths.items():
            path.write_bytes(flatbuffers[part])
        files = PromptedSegmenter(paths["encoder"], paths["decoder"], threads=job.threads)
        found = measure(
            keras_answers(model), file_answers(files), examples("val"), job.parity_images, files.size
        )
    print(parity.table(found), flush=True)
    parity.gate(found, job.precision, job.out.name, job.allow_loss)
    return {**found.to_json(), "allow_loss": job.allow_loss}


Answers = Callable[[np.ndarray, list[Prompt]], list[Answer]]


def measure(
    reference: Answers,
    candidate: Answers,
    examples: Sequence[Example],
    count: int | None,
    frame: tuple[int, int],
) -> parity.Parity:
    """Both sides answer the fixed prompts of the examples. Logits and agreement are those of all three masks;
    mIoU is the mean IoU, with the region asked for, of the mask that each side scores best itself."""
    difference = largest = 0.0
    equal = pixels = 0
    scores: dict[str, list[tuple[float, float]]] = {"keras": [], "file": []}
    chosen = parity.spread(examples, count)
    tell = counter("comparing")
    for index, example in enumerate(chosen):
        rgb, label = example.read()
        asked = prompts.fixed(label, index)
        both = {"keras": reference(rgb, asked), "file": candidate(rgb, asked)}
        for number, prompt in enumerate(asked):
            ours, theirs = both["keras"][number][0], both["file"][number][0]
            # NaN must not hide: np.maximum hands it on where max() would drop it.
            difference = float(np.maximum(difference, np.abs(ours - theirs).max()))
            largest = float(np.maximum(largest, np.abs(ours).max()))
            equal, pixels = equal + int(((ours > 0) == (theirs > 0)).sum()), pixels + ours.size
            for side, answers in both.items():
                scores[side].append(_scores(answers[number], prompt, frame))
        tell(index + 1, len(chosen))
    if not pixels:
        raise UserError("there is no region in the images to ask for; labelled images are needed.")
    rows = {side: _mean_row(found) for side, found in scores.items()}
    return parity.Parity(
        split="val",
        images=len(chosen),
        largest_difference=difference,
        largest_logit=largest,
        agreement=equal / pixels,
        keras=rows["keras"],
        file=rows["file"],
    )


def keras_answers(model: Any) -> Answers:
    """The reference: the Keras model, whole, in float32."""
    import tensorflow as tf

    frame = tuple(model.input["image"].shape[1:3])

    @tf.function(reduce_retracing=True)
    def run(inputs: Any) -> Any:
        return model(inputs, training=False)

    def answers(rgb: np.ndarray, asked: list[Prompt]) -> list[Answer]:
        if not asked:
            return []
        inputs = prompts.inputs(rgb, asked, frame)
        found = run(tf.nest.map_structure(tf.constant, inputs))
        return list(zip(found["masks"].numpy()[0], found["iou"].numpy()[0], strict=True))

    return answers


def file_answers(files: PromptedSegmenter) -> Answers:
    """The two files, as a device runs them."""

    def answers(rgb: np.ndarray, asked: list[Prompt]) -> list[Answer]:
        if asked:
            files.set_image(rgb)
        return [files.logits(**prompts.elements(prompt)) for prompt in asked]

    return answers


def _scores(answer: Answer, prompt: Prompt, frame: tuple[int, int]) -> tuple[float, float]:
    """(IoU, pixel accuracy) of the mask that is expected to be the best."""
    masks, expected = answer
    mask = full_size(masks[int(np.argmax(expected))], prompt.region.shape, frame) > 0
    counted = prompt.region != VOID_ID
    right = mask == (prompt.region == prompts.INSIDE)
    return prompts.intersection_over_union(mask, prompt.region), float(right[counted].mean())


def _mean_row(found: list[tuple[float, float]]) -> dict[str, Any]:
    miou, accuracy = np.mean(found, axis=0)
    return {"miou": float(miou), "pixel_accuracy": float(accuracy), "classes": {}}
