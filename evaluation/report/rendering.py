"""Pages that stand alone: one HTML file with everything inside, no script, nothing fetched; light and dark, any width.

They are made of the templates in templates/ by Jinja2, which escapes every value.
"""

import functools
from pathlib import Path
from typing import Any

import jinja2

from evaluation.metrics import percent
from runtime.encoding import data_uri

TEMPLATES = Path(__file__).parent / "templates"


def page(template: str, **values: Any) -> str:
    """The page that a template makes of values: text, numbers, and the bytes of PNG and JPEG files."""
    return _environment().get_template(template).render(values)


@functools.cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(data_uri=data_uri, percent=percent)
    return made
