"""The page, a file a tab. Widgets only: what is done to an image is a function of `runtime`."""
