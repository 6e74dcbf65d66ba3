"""The shares of the classes over a video: drawn below it, where it is scrubbed frame by frame, and as CSV."""

import csv
import io
from typing import Any

from app.frontend import registered
from app.image_viewer import sent
from app.words import class_name

_component = registered("timeline")


def show(facts: dict[str, Any], film: str, key: str) -> None:
    """The timeline of a report (`runtime.video.segment_video`, timeline=True); `film` is the key of the container that
    shows the video."""
    classes = [
        {"name": class_name(row["name"]), "colour": "rgb({}, {}, {})".format(*row["colour"])}
        for row in facts["classes"]
    ]
    data = {"rate": facts["rate"], "film": film, "classes": classes, "shares": facts["timeline"]}
    _component(key=key, data=sent(data))


def as_csv(facts: dict[str, Any]) -> bytes:
    """A row a frame: its number from 1, its time in seconds, and the share, 0..1, of each class that was seen."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["frame", "seconds", *(row["name"] for row in facts["classes"])])
    for number, shares in enumerate(facts["timeline"]):
        writer.writerow([number + 1, round(number / facts["rate"], 3), *shares])
    return text.getvalue().encode()
