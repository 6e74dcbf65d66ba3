"""Dilation in place of stride (DeepLab, arXiv:1606.00915, section 3.1)."""

from dataclasses import dataclass


@dataclass
class Dilation:
    """Counts the strides of a network as it is built and turns those beyond `output_stride` into dilation.

    The layer that loses its stride keeps the rate so far; the layers after it use the doubled one. A layer
    with a kernel must therefore read `rate` before it asks for its `stride`.
    """

    output_stride: int
    reached: int = 1
    rate: int = 1

    def stride(self, wanted: int) -> int:
        """The stride that a layer of stride `wanted` really gets: `wanted` or 1."""
        if self.reached * wanted <= self.output_stride:
            self.reached *= wanted
            return wanted
        self.rate *= wanted
        return 1
