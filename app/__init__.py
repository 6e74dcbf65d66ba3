"""The page, a file a tab. Widgets only: what is done to a picture is a function of `runtime`."""
