"""Plots as inline SVG: drawn by hand, so that a report needs no network, no script and no plotting package.

What belongs to one run bears its name (`data-run`), by which the page's script hides it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10

COLOURS = ("#3b6fb6", "#c8553d", "#3d8f5f", "#8c5fa8", "#b08a2e", "#4f7f86")
HOVERED = 300  # points of a curve that tell their values
WIDTH, NARROW = 640, 400  # of the viewBox; text keeps its size when a phone shrinks the narrow one less


@dataclass(frozen=True)
class Curve:
    """A named line through points (x, y), or one point; the curves of one run share a colour."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: int = 0
    dashed: bool = False
    run: str = ""


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten apart) from low to high."""
    if high <= low:
        return [low]
    raw = (high - low) / count
    if not 1e-300 < raw < 1e300:  # steps of so little, or so much, are no numbers
        return [low]
    power = 10.0 ** floor(log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw)
    first = -floor(-low / step)
    return [round(n * step, 12) for n in range(first, floor(high / step + 1e-9) + 1)]


def lines(
    title: str, curves: Sequence[Curve], x_label: str, y_label: str, marks: Sequence[tuple[str, float]] = ()
) -> str:
    """A line chart; `marks` are vertical lines (label, x). An empty text where no curve has a point."""
    drawn = [curve for curve in curves if curve.points]
    if not drawn:
        return ""
    xs = [x for curve in drawn for x, _ in curve.points]
    ys = [y for curve in drawn for _, y in curve.points]
    height, left, bottom, top = 320, 56, 40, 16 + 18 * len(drawn)
    x_low, x_high, (y_low, y_high) = min(xs), max(xs), _padded(min(ys), max(ys))

    def px(x: float) -> float:
        return left + (x - x_low) / ((x_high - x_low) or 1) * (WIDTH - left - 12)

    def py(y: float) -> float:
        return height - bottom - (y - y_low) / (y_high - y_low) * (height - bottom - top)

    parts = [_grid_y(py(y), y, left) for y in ticks(y_low, y_high)]
    parts += [_text(px(x), height - bottom + 16, _short(x), "middle") for x in ticks(x_low, x_high)]
    parts += [_text(WIDTH / 2, height - 6, x_label, "middle"), _text(4, 14, y_label)]
    for n, curve in enumerate(drawn):
        path = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in curve.points)
        colour = COLOURS[curve.colour % len(COLOURS)]
        stroke = f'stroke="{colour}" stroke-width="2"' + ' stroke-dasharray="5 4"' * curve.dashed
        shown = [f'<polyline points="{path}" fill="none" {stroke}/>'] if len(curve.points) > 1 else []
        shown += [
            _point(
                px(x), py(y), 5 if len(curve.points) == 1 else 3, colour, f"{curve.name}, {x_label} {x:g}: {_short(y)}"
            )
            for x, y in _some(curve.points)
        ]
        shown.append(f'<line x1="180" x2="204" y1="{11 + 18 * n}" y2="{11 + 18 * n}" {stroke}/>')
        shown.append(_text(210, 15 + 18 * n, curve.name))
        parts.append(_of_run(curve.run, shown))
    for label, x in marks:
        parts.append(f'<line x1="{px(x):.1f}" x2="{px(x):.1f}" y1="{top}" y2="{height - bottom}" class="mark"/>'
                     + _text(px(x) + 4, top + 10, label))  # fmt: skip
    return _svg(title, height, parts)


def intervals(title: str, rows: Sequence[tuple[str, float, tuple[float, float] | None]]) -> str:
    """Values with their intervals, one below the other (name, value, interval)."""
    if not rows:
        return ""
    low = min(ci[0] if ci else value for _, value, ci in rows)
    high = max(ci[1] if ci else value for _, value, ci in rows)
    low, high = _padded(low, high)
    height, left = 34 + 26 * len(rows), 120

    def px(x: float) -> float:
        return left + (x - low) / (high - low) * (NARROW - left - 24)

    parts = []
    for x in ticks(low, high, 4):
        parts.append(f'<line x1="{px(x):.1f}" x2="{px(x):.1f}" y1="6" y2="{height - 24}" class="grid"/>'
                     + _text(px(x), height - 8, _short(x), "middle"))  # fmt: skip
    for n, (name, value, ci) in enumerate(rows):
        y, colour = 20 + 26 * n, COLOURS[n % len(COLOURS)]
        shown, told = [_text(left - 10, y + 4, name[:17], "end")], f"{name}: {_short(value)}"
        if ci:
            told += f" [{_short(ci[0])}, {_short(ci[1])}]"
            shown.append(f'<line x1="{px(ci[0]):.1f}" x2="{px(ci[1]):.1f}" y1="{y}" y2="{y}" stroke="{colour}" '
                         'stroke-width="3" stroke-linecap="round"/>')  # fmt: skip
        shown.append(_point(px(value), y, 5, colour, told))
        parts.append(_of_run(name, shown))
    return _svg(title, height, parts, NARROW)


def bars(title: str, rows: Sequence[tuple[str, float]]) -> str:
    """Shares from 0 to 1 as bars, the largest first (name, share). An empty text where there is none."""
    if not rows:
        return ""
    left, parts = 230, []
    for n, (name, share) in enumerate(sorted(rows, key=lambda row: -row[1])):
        y, width = 10 + 28 * n, max(0.0, min(1.0, share)) * (WIDTH - left - 60)
        parts.append(
            _text(left - 10, y + 15, name[-34:], "end")
            + f'<rect x="{left}" y="{y}" width="{width:.1f}" height="20" fill="{COLOURS[0]}"/>'
            + _text(left + width + 6, y + 15, f"{share:.2f}")
        )
    return _svg(title, 16 + 28 * len(rows), parts)


def _some(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most HOVERED points evenly, the last and the lowest among them; the line goes through all."""
    every = -(-len(points) // HOVERED)
    lowest = min(points, key=lambda point: point[1])
    return [point for n, point in enumerate(points) if n % every == 0 or n == len(points) - 1 or point == lowest]


def _point(x: float, y: float, radius: int, colour: str, told: str) -> str:
    """A point that tells its value when it is pointed at."""
    circle = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}"/>'
    return f"<g><title>{escape(told)}</title>{circle}</g>"


def _of_run(run: str, parts: Sequence[str]) -> str:
    return f'<g data-run="{escape(run, quote=True)}">{"".join(parts)}</g>' if run else "".join(parts)


def _padded(low: float, high: float) -> tuple[float, float]:
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return low - room, high + room


def _grid_y(y: float, value: float, left: int) -> str:
    line = f'<line x1="{left}" x2="{WIDTH - 12}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
    return line + _text(left - 6, y + 4, _short(value), "end")


def _short(value: float) -> str:
    return f"{value:.4g}"


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(title: str, height: int, parts: Sequence[str], width: int = WIDTH) -> str:
    body = "".join(parts)
    name = escape(title, quote=True)
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{name}"><title>{name}</title>{body}</svg>'
