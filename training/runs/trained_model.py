"""What export and evaluation ask of what was trained: a run, converted weights, or a plain Keras model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import keras

from training.data.spec import DatasetSpec
from training.runs.settings import DataSettings


class TrainedModel(Protocol):
    """A trained model, and what is known of where it comes from."""

    @property
    def name(self) -> str:
        """A row of zoo.MODELS, or a plain model's own."""

    @property
    def data(self) -> DataSettings:
        """What it is measured on; its name is "" until someone names it."""

    @property
    def spec(self) -> DatasetSpec:
        """Its classes and their colours."""

    @property
    def weights_path(self) -> Path: ...

    @property
    def labelled(self) -> bool:
        """Whether what it is compared on has labels."""

    @property
    def quantized(self) -> bool:
        """Whether it was trained with 8 bits simulated."""

    @property
    def source(self) -> Mapping[str, Any] | None:
        """The public checkpoint that it was converted from."""

    @property
    def learnt_from(self) -> Sequence[Mapping[str, str]]:
        """The data that it has learnt from, with their terms (training/runs/learnt_from.py); () if nothing says."""

    def sha256(self) -> str:
        """Of the recipe, or of what stands for one."""

    def model(self, image_size: tuple[int, int] | None = None) -> keras.Model:
        """Rebuilt with its weights, in float32, at a static (H, W) or at any size."""


class StoredModel(TrainedModel, Protocol):
    """One that lies in a folder and that zoo.build can make again."""

    @property
    def folder(self) -> Path:
        """Where what is made of it goes."""

    @property
    def label(self) -> str:
        """What its files are called after."""

    @property
    def arguments(self) -> dict[str, Any]:
        """Those of zoo.build, but for image_size."""

    @property
    def fixed_size(self) -> tuple[int, int]:
        """(height, width) of the images that it was trained on, for a model that takes but one size."""
