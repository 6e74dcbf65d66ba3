"""Text of strangers (names of classes, files and models, and sentences that hold one) as text in Streamlit's Markdown.

Messages, captions, labels, tables and choices are Markdown on the page, where a name could be an image that the
visitor's browser fetches from another's server, a link, a list or an icon.
"""

import re

# What begins or ends something anywhere in a line, in Markdown and in Streamlit's own; a backslash makes it plain.
MARKS = frozenset("\\`*_{}[]<>#!|$~:&^=+")
LIST = re.compile(r"^(\d{0,9})(?=[-.)])")  # what begins one, or a rule, at the start of a line
JOINER = "\u2060"  # WORD JOINER: no width, no line break
# What Streamlit 1.67 and its Markdown make of plain text after the backslashes are gone: addresses of the web and of
# mail become links, :material/home: and :streamlit: pictures, and -> or -- other letters.
AFTERWARDS = re.compile(
    r"(?<=:)(?=//|material/|streamlit:)|(?<=www)(?=\.)|(?<=@)|(?<=-)(?=[->])|(?<=[<>~])(?=[-=])",
    re.IGNORECASE,
)


def escaped(text: str) -> str:
    """The text as Markdown that shows these very letters, on one line: no image is fetched and no link made."""
    line = AFTERWARDS.sub(JOINER, " ".join(text.split()))
    marked = "".join(f"\\{letter}" if letter in MARKS else letter for letter in line)
    return LIST.sub(r"\1\\", marked)
