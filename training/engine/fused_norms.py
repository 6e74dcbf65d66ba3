"""BatchNorm in training as TensorFlow's one fused operation, forward and backward.

Keras writes BatchNorm as mean, squared difference, product and sum, each of which goes through the whole feature map
and, without XLA, through memory. The fused kernel gives the same numbers to float rounding (docs/results.md).
"""

from types import MethodType
from typing import Any

import keras
import tensorflow as tf

from zoo.keras_private import flat_layers


def fuse_norms(model: keras.Model) -> None:
    """Let every BatchNorm of the model train by the fused kernel where that computes the same: feature maps of rank
    4 with their channels last, statistics of one replica, no mask and no renorm. All else stays as Keras has it,
    prediction too, and so does one whose call is bound already."""
    for layer in flat_layers(model):
        bound = "call" in vars(layer)
        if isinstance(layer, keras.layers.BatchNormalization) and not layer.renorm and not bound:
            layer.call = MethodType(_call, layer)


def _call(self: Any, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
    fits = tf.is_tensor(inputs) and inputs.shape.rank == 4 and self.axis in (-1, 3)
    if not (training and self.trainable and fits) or self.synchronized or mask is not None:
        return type(self).call(self, inputs, training=training, mask=mask)
    channels = inputs.shape[-1]
    x = tf.cast(inputs, tf.float32)  # as Keras does
    y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x,
        scale=tf.cast(self.gamma, tf.float32) if self.scale else tf.ones([channels]),
        offset=tf.cast(self.beta, tf.float32) if self.center else tf.zeros([channels]),
        mean=tf.zeros([0]),
        variance=tf.zeros([0]),
        epsilon=self.epsilon,
        is_training=True,
    )
    # The kernel gives the estimate of the population's variance (over n - 1); Keras averages the sample's (over n).
    count = tf.cast(tf.reduce_prod(tf.shape(x)[:-1]), tf.float32)
    for average, new in (
        (self.moving_mean, mean),
        (self.moving_variance, variance * (count - 1) / count),
    ):
        average.assign(average * self.momentum + tf.stop_gradient(new) * (1.0 - self.momentum))
    return tf.cast(y, self.compute_dtype)
