"""FILE.weights.h5 with FILE.json beside it, which build their own model: to hand on, to fine-tune from, to ship.

fp32 are the run's own weights; fp16 keeps each as float16, in half the bytes, and computes in float32 as before.
What zoo.convert writes of a public checkpoint has the same form, so whatever takes one takes the other.
"""

import os
import shutil
from pathlib import Path

from export import Examples, Job, parity
from runtime.errors import UserError
from runtime.files import make_folder
from training.runs import converted_weights
from training.runs.trained_model import StoredModel
from zoo.convert import model_config


def export(run: StoredModel, job: Job, examples: Examples) -> Path:
    """Write under a temporary name, pass the gate with the model that the files build, and only then name them."""
    model = run.model(image_size=job.size)
    make_folder(job.out.parent)
    partial = job.out.with_name(f".{job.out.name}.{os.getpid()}.partial")
    written = partial / job.out.name
    try:
        model_config.write(written, model, converted_weights.card(run), half=job.precision == "fp16")
        rebuilt = parity.keras_predict(model_config.rebuild(written, job.size))
        parity.pass_through(run, model, rebuilt, job, examples)
        os.replace(model_config.config_path(written), model_config.config_path(job.out))
        os.replace(written, job.out)
    except OSError as error:
        raise UserError(f"{job.out} cannot be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return job.out
