"""The plots of the page on a store, each as an inline SVG whose bytes depend on the numbers alone."""

import io
import re
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.typing import RcKeyType

_BLUE, _ORANGE = "#0072b2", "#d55e00"  # told apart by the colour-blind too
_NARROW = 0.02
_STYLE: dict[RcKeyType, Any] = {
    "svg.hashsalt": "plait",  # or matplotlib would draw random ids
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
}


def histogram_svg(summary: dict[str, Any], *, name: str, what: str, unit: str) -> str:
    """A histogram with its mean, of what Distribution.summary() gives; name: unique in the page, for the ids."""
    edges, counts = summary["histogram"]["edges"], summary["histogram"]["counts"]

    def draw(axes: Axes) -> None:
        axes.bar(edges[:-1], counts, width=np.diff(edges), align="edge", color=_BLUE)
        axes.axvline(summary["mean"], color=_ORANGE, linewidth=1.5)
        if edges[-1] - edges[0] < _NARROW * edges[-1]:  # one norm for all: to its rounding nobody wants to zoom
            axes.set_xlim(edges[0] - _NARROW * edges[-1], edges[-1] + _NARROW * edges[-1])
        axes.set_xlabel(what)
        axes.set_ylabel(unit)

    described = ", ".join(f"{part} {summary[part]:.4g}" for part in ("min", "mean", "max"))
    return _svg(draw, name=name, description=f"Histogram of the {what}: {described}")


def deviations_svg(deviations: Sequence[float], *, name: str) -> str:
    """How much each dimension varies, the liveliest first, so that dead ones are the flat end."""
    ranked_D = np.sort(np.asarray(deviations))[::-1]
    num_dead = int((ranked_D == 0).sum())

    def draw(axes: Axes) -> None:
        axes.stairs(ranked_D, fill=True, color=_BLUE)
        if num_dead:
            axes.axvspan(len(ranked_D) - num_dead, len(ranked_D), color=_ORANGE, alpha=0.3, linewidth=0)
        axes.set_xlim(0, len(ranked_D))
        axes.set_ylim(bottom=0)
        axes.set_xlabel("dimensions, by how much they vary")
        axes.set_ylabel("standard deviation")

    span = f"from {ranked_D[-1]:.4g} to {ranked_D[0]:.4g}"
    described = f"Standard deviation of {len(ranked_D)} dimensions, {span}; {num_dead} never vary"
    return _svg(draw, name=name, description=described)


def _svg(draw: Callable[[Axes], None], *, name: str, description: str) -> str:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(4.4, 2.4), layout="constrained")
        axes = figure.subplots()
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        draw(axes)
        written = io.StringIO()
        figure.savefig(
            written, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
        )
    svg = written.getvalue()
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg[svg.index("<svg") :])
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(description)}"', 1)
