"""The drawing of road scenes: a pinhole camera over a flat world, painted from far to near."""
