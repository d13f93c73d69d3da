"""One HTML page of figures, each with a sentence on how to read it."""

import html

from mixer_tf.storage import files

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
       color: #1b1b1b; background: #fff; }
figure { margin: 2.5rem 0; }
img { max-width: 100%; height: auto; }
figcaption { max-width: 48rem; }
.against { color: #555; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dd { margin: 0; overflow-wrap: anywhere; }
"""


def write_page(path, title, facts, figures, left_out):
    """Write the page.

    Args:
        path: of the HTML file; the pictures lie beside it.
        title: of the page.
        facts: `{name: value}`, shown at the top.
        figures: `(file name, heading, how to read it, what would contradict it)`.
        left_out: `(heading, reason)` of figures that could not be drawn.
    """
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{html.escape(title)}</h1>",
        "<dl>",
        *(f"<dt>{html.escape(k)}</dt><dd>{html.escape(str(v))}</dd>" for k, v in facts.items()),
        "</dl>",
    ]
    for name, heading, reading, against in figures:
        parts += [
            f"<figure><h2>{html.escape(heading)}</h2>",
            f'<a href="{html.escape(name)}"><img src="{html.escape(name)}" '
            f'alt="{html.escape(heading)}"></a>',
            f'<figcaption><p>{html.escape(reading)}</p><p class="against">What would contradict '
            f"it: {html.escape(against)}</p></figcaption></figure>",
        ]
    if left_out:
        parts.append("<h2>Not drawn</h2><ul>")
        parts += [f"<li>{html.escape(h)}: {html.escape(why)}</li>" for h, why in left_out]
        parts.append("</ul>")
    parts.append("</body></html>\n")
    with files.replacing(path) as beside:
        beside.write_text("\n".join(parts), "utf-8", "backslashreplace")
