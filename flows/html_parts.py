"""Parts of an HTML page that asks nothing of the network: its frame, and tables of numbers with bars."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

_CSS = """
:root { --ink: #1b1f24; --soft: #5b6470; --line: #d8dde3; --blue: #0072b2; --wash: #f4f6f8; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem; color: var(--ink); background: #fff;
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .6rem; border-bottom: 1px solid var(--line); padding-bottom: .2rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .3rem; overflow-wrap: anywhere; }
p { margin: .3rem 0 .8rem; color: var(--soft); max-width: 46rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .6rem; margin: 1.2rem 0 0; }
.cards div { background: var(--wash); border-radius: .4rem; padding: .5rem .8rem; }
.cards dt { color: var(--soft); font-size: .85rem; }
.cards dd { margin: 0; font-size: 1.25rem; font-weight: 600; white-space: nowrap; }
.wide { overflow-x: auto; margin-bottom: 1.2rem; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: .3rem; }
th, td { padding: .25rem .7rem .25rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top;
  max-width: 24rem; overflow-wrap: break-word; }
th { font-weight: 600; }
td.number, th.number { text-align: right; white-space: nowrap; }
.bar { display: block; height: .8rem; margin-top: .3rem; min-width: 1px; background: var(--blue); }
.bars { min-width: 7rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); gap: 1rem; }
.plots svg { width: 100%; height: auto; }
figure { margin: 0; break-inside: avoid; }
@media print { body { font-size: 11pt; padding: 0; }
  table { font-size: 8pt; } .wide { overflow: visible; } h2, h3 { break-after: avoid; } tr { break-inside: avoid; }
  .bar, .cards div, td { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""
_NUMBER = ' class="number"'


class Markup(str):
    """Text that is HTML already; every other text is escaped."""

    __slots__ = ()


def html_page(title: str, content: str) -> str:
    """A whole page, readable on a phone and in print."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n{content}\n</body>\n</html>\n"
    )


def section(title: str, note: str, content: str) -> str:
    """A part of the page under a heading, with a line that explains it."""
    return f"<section>\n<h2>{title}</h2>\n" + (f"<p>{note}</p>\n" if note else "") + f"{content}\n</section>"


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], caption: str = "") -> str:
    """A table that scrolls by itself where it is wider than the screen; numbers are set to the right."""
    body = [list(row) for row in rows]
    numeric = [bool(body) and all(_is_number(row[place]) for row in body) for place in range(len(columns))]
    named = zip(columns, numeric, strict=True)
    head = "".join(f"<th{_NUMBER * right} scope=col>{escape(name)}</th>" for name, right in named)
    lines = "".join(f"<tr>{''.join(map(_cell, row))}</tr>\n" for row in body)
    titled = f"<caption>{caption}</caption>" if caption else ""
    return f'<div class="wide"><table>{titled}<thead><tr>{head}</tr></thead>\n<tbody>{lines}</tbody></table></div>\n'


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool))


def _cell(value: Any) -> str:
    if isinstance(value, Markup) and value.startswith("<td"):
        return value
    return f"<td{_NUMBER * _is_number(value)}>{html_text(value)}</td>"


def html_text(value: Any) -> str:
    """The value as HTML, numbers with commas."""
    if isinstance(value, Markup):
        return value
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else escape(str(value))


def bar(count: float, whole: float) -> Markup:
    """A cell with a bar that is as long as the share."""
    share = 100 * count / whole if whole else 0
    drawn = f'<span class="bar" style="width:{share:.1f}%"></span>' if share else ""
    return Markup(f'<td class="bars" aria-hidden="true">{drawn}</td>')


def shaded(count: int, whole: int) -> Markup:
    """A cell with the count, the darker the greater its share."""
    share = count / whole if whole else 0
    return Markup(f'<td class="number" style="background:rgb(0 114 178 / {0.45 * share:.2f})">{count:,}</td>')
