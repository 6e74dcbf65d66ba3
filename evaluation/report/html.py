"""Pages that stand alone: one HTML file with everything inside, no script, nothing fetched; light and dark, any width.

Functions give HTML text. What they are given as `text` is escaped here; what they are given as `html` was made by them.
"""

import base64
from collections.abc import Sequence
from html import escape

# The browser itself is told to fetch nothing and to run nothing.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1f2328; --soft: #59636e; --line: #d0d7de;
  --fill: #f6f8fa; --accent: #0969da; --good: #1a7f37; --bad: #cf222e; }
@media (prefers-color-scheme: dark) { :root { --paper: #0d1117; --ink: #e6edf3; --soft: #9198a1;
  --line: #3d444d; --fill: #151b23; --accent: #58a6ff; --good: #3fb950; --bad: #f85149; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 76rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0.5rem 0 1rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 0.6rem; padding-bottom: 0.3rem; border-bottom: 1px solid var(--line); }
p, figure { margin: 0.5rem 0; }
.soft { color: var(--soft); font-size: 0.9rem; }
.good { color: var(--good); } .bad { color: var(--bad); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: 0.6rem; }
.card { background: var(--fill); border: 1px solid var(--line); border-radius: 6px; padding: 0.6rem 0.8rem; }
.card b { display: block; font-size: 1.5rem; line-height: 1.3; }
.card span { color: var(--soft); font-size: 0.85rem; display: block; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; }
.scroll img { display: block; max-width: none; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 0.92rem; }
th, td { text-align: left; padding: 0.3rem 0.6rem; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; }
thead th { vertical-align: bottom; }
tbody th { color: var(--ink); font-weight: 400; min-width: 7rem; position: sticky; left: 0; background: var(--paper); }
td.n, th.n { text-align: right; }
td.n { white-space: nowrap; }
.bar { position: relative; height: 0.8rem; min-width: 6rem; background: var(--fill); border: 1px solid var(--line); }
.bar i { position: absolute; inset: 0 auto 0 0; background: var(--accent); }
.bar u { position: absolute; top: -0.2rem; bottom: -0.2rem; width: 3px; background: var(--ink);
  outline: 1px solid var(--paper); }
.chip { display: inline-block; width: 0.85rem; height: 0.85rem; border: 1px solid var(--line);
  vertical-align: -0.1rem; margin-right: 0.45rem; }
.tiles { display: grid; grid-template-columns: repeat(4, 1fr); gap: 0.4rem; margin: 0.4rem 0 1.2rem; }
.tiles img { width: 100%; display: block; border: 1px solid var(--line); }
.tiles figcaption { font-size: 0.8rem; color: var(--soft); }
pre { font-size: 0.82rem; margin: 0; padding: 0.6rem; }
.key { white-space: nowrap; }
.beside { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: 0.6rem; }
.fit { max-width: 100%; height: auto; display: block; }
summary { cursor: pointer; color: var(--accent); margin: 0.5rem 0; }
@media (max-width: 40rem) { .wide { display: none; } .tiles { grid-template-columns: 1fr 1fr; }
  .bar { min-width: 4.5rem; } th, td { padding: 0.3rem 0.35rem; } }
"""


def page(title: str, sections: Sequence[str]) -> str:
    """The whole file: a heading and sections of html."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
{"".join(sections)}
</body>
</html>
"""


def section(title: str, *html: str) -> str:
    """A heading and what stands below it."""
    return f"<section><h2>{escape(title)}</h2>\n{''.join(html)}</section>\n"


def note(text: str) -> str:
    """A paragraph in small, soft print."""
    return f'<p class="soft">{escape(text)}</p>\n'


def lines(text: str) -> str:
    """Lines as they are, in a fixed width."""
    return f'<div class="scroll"><pre>{escape(text)}</pre></div>\n'


def details(text: str, *html: str) -> str:
    """What opens at a click on `text`."""
    return f"<details><summary>{escape(text)}</summary>{''.join(html)}</details>\n"


def cards(facts: Sequence[tuple[str, str, str]]) -> str:
    """A card each of (what, value, what is to be said of it)."""
    items = "".join(
        f'<div class="card"><span>{escape(what)}</span><b>{escape(value)}</b><span>{escape(more)}</span></div>'
        for what, value, more in facts
    )
    return f'<div class="cards">{items}</div>\n'


def table(head: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]]) -> str:
    """A table that scrolls by itself where the page is narrow. `head` are (text, CSS classes): "n" is right-aligned,
    "wide" is left out on phones. `rows` are html; the first cell names the row."""
    top = "".join(f'<th scope="col" class="{kind}">{escape(text)}</th>' for text, kind in head)
    body = []
    for first, *rest in rows:
        cells = "".join(
            f'<td class="{kind}">{cell}</td>' for cell, (_, kind) in zip(rest, head[1:], strict=True)
        )
        body.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{"".join(body)}</tbody></table></div>\n'


def bar(share: float, before: float | None = None) -> str:
    """A bar of `share`, 0..1, with a mark where it was `before`."""
    mark = "" if before is None else f'<u style="left:calc({100 * before:.1f}% - 1px)"></u>'
    return f'<div class="bar"><i style="width:{100 * share:.1f}%"></i>{mark}</div>'


def chip(colour: tuple[int, int, int]) -> str:
    """A small square of a class's colour."""
    red, green, blue = (int(part) for part in colour)
    return f'<span class="chip" style="background:rgb({red},{green},{blue})"></span>'


def plain(text: str) -> str:
    """Text that is only text, whatever is in it."""
    return escape(text)


def change(points: float) -> str:
    """A difference in points, green where it is a gain."""
    kind = "good" if points >= 0.05 else "bad" if points <= -0.05 else ""
    return f'<span class="{kind}">{points:+.1f}</span>'


def chart(light: bytes, dark: bytes, alt: str, scroll: bool = False) -> str:
    """A PNG for light and one for dark pages; with `scroll` at its own size, to be moved sideways."""
    image = (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{_data(dark)}">'
        f'<img class="{"" if scroll else "fit"}" src="{_data(light)}" alt="{escape(alt)}"></picture>'
    )
    return f'<div class="scroll" tabindex="0">{image}</div>\n' if scroll else f"<figure>{image}</figure>\n"


def beside(html: Sequence[str]) -> str:
    """Charts beside each other where there is room, below each other on a phone."""
    return f'<div class="beside">{"".join(html)}</div>\n'


def tiles(images: Sequence[tuple[str, bytes]]) -> str:
    """Images (caption, PNG or JPEG) beside each other, two and two on a phone."""
    items = "".join(
        f'<figure><img src="{_data(data)}" alt="{escape(text)}"><figcaption>{escape(text)}</figcaption></figure>'
        for text, data in images
    )
    return f'<div class="tiles">{items}</div>\n'


def _data(image: bytes) -> str:
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
