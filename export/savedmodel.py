"""A TensorFlow SavedModel from a run, for servers: uint8 RGB in, `mask` and `scores` out, float32.

`kerbside.json` and `labels.txt` stand in the folder beside `saved_model.pb`; the hash and length of that file
take the place of the flatbuffer's.
"""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from export import Examples, Job, parity, provenance
from runtime.bundle import LABELS, NOTE
from runtime.errors import UserError
from runtime.files import make_folder, replace_folder, write_whole
from training.runs.trained_model import TrainedModel


def export(run: TrainedModel, job: Job, examples: Examples) -> Path:
    """Write under a temporary name, pass the gate, and only then give the folder its final name."""
    model = run.model(image_size=job.size)
    partial = job.out.with_name(f".{job.out.name}.{os.getpid()}.partial")
    make_folder(job.out.parent)
    try:
        try:
            write(model, partial, job.size)
        except OSError as error:
            raise UserError(f"{job.out} cannot be written: {error.strerror or error}.") from error
        record = parity.pass_through(run, model, predictor(partial), job, examples)
        what = provenance.facts(run, precision="fp32", output="mask and scores", size=job.size, parity=record)
        graph = (partial / "saved_model.pb").read_bytes()
        what["saved_model_sha256"], what["saved_model_bytes"] = hashlib.sha256(graph).hexdigest(), len(graph)
        write_whole(partial / NOTE, provenance.to_text(what).encode())
        write_whole(partial / LABELS, provenance.labels_text(what["labels"]).encode())
        replace_folder(partial, job.out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return job.out


def write(model: Any, folder: Path, size: tuple[int, int]) -> None:
    """`serve` and `serving_default`: image uint8 (B, H, W, 3) -> mask uint8 (B, H, W), scores (B, H, W, C)."""
    import keras
    import tensorflow as tf

    def serve(image: Any) -> dict[str, Any]:
        logits = model(tf.cast(image, tf.float32), training=False)["logits"]
        mask = tf.cast(tf.argmax(logits, axis=-1, output_type=tf.int32), tf.uint8)
        return {"mask": mask, "scores": logits}

    archive = keras.export.ExportArchive()
    archive.track(model)
    signature = [tf.TensorSpec((None, *size, 3), tf.uint8, name="image")]
    archive.add_endpoint(name="serve", fn=serve, input_signature=signature)
    archive.write_out(str(folder), verbose=False)


def predictor(folder: Path) -> parity.Predict:
    """Run the folder as a server would: by TensorFlow alone, through its signature."""
    import tensorflow as tf

    serve = tf.saved_model.load(str(folder)).signatures["serving_default"]

    def predict(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        out = serve(image=tf.constant(rgb[None]))
        return out["mask"].numpy()[0], out["scores"].numpy()[0]

    return predict
