"""The results as two pictures: a row for each program, a dot for what it reached, a ring for its baseline. SVG, which is text."""

from html import escape
from typing import NamedTuple

LEFT, RIGHT, ROW, TOP = 190, 720, 17, 26  # pixels: where the axis begins and ends, a row's height, the axis's numbers
# Colours for a bright and for a dark page. The picture has no words but names of programs, so it serves both languages.
STYLE = """
text { font: 11px system-ui, sans-serif; fill: #333 } .name { text-anchor: end } .tick { text-anchor: middle; fill: #777 }
.grid { stroke: #ddd } .way { stroke: #9bb8d9; stroke-width: 2 } .range { stroke: #1f5fa8; stroke-width: 5; opacity: .35 }
.result { fill: #1f5fa8 } .baseline { fill: #fff; stroke: #777; stroke-width: 1.5 } .stage { font-weight: bold }
@media (prefers-color-scheme: dark) {
text { fill: #ccc } .tick { fill: #999 } .grid { stroke: #444 } .way { stroke: #46627f } .range { stroke: #7db4f0 }
.result { fill: #7db4f0 } .baseline { fill: #111; stroke: #aaa } }
"""


class Row(NamedTuple):
    """One program: its results over the seeds, and the mean of its baseline on the same scale."""

    stage: str
    name: str
    results: list[float]
    baseline: float


def draw(rows: list[Row], ticks: dict[float, str]) -> str:
    """Return an SVG.

    Args:
        rows: In the order of the course; a heading stands before each stage.
        ticks: The axis: places, ascending, and what is written there. It begins at the first and ends at the last.
    """
    low, high = min(ticks), max(ticks)

    def x(value: float) -> str:
        return f"{LEFT + (value - low) / (high - low) * (RIGHT - LEFT):.1f}"

    stages = list(dict.fromkeys(row.stage for row in rows))
    height = TOP + ROW * (len(rows) + len(stages)) + 8
    lines = [f'<text class="tick" x="{x(place)}" y="14">{text}</text>' for place, text in ticks.items()]
    lines += [f'<line class="grid" x1="{x(place)}" x2="{x(place)}" y1="{TOP - 6}" y2="{height}"/>' for place in ticks]
    y = TOP
    for stage in stages:
        y += ROW
        lines.append(f'<text class="stage" x="4" y="{y - 4}">{escape(stage)}</text>')
        for row in (row for row in rows if row.stage == stage):
            middle, mean = y + ROW / 2, sum(row.results) / len(row.results)
            span = f'x1="{x(min(row.results))}" x2="{x(max(row.results))}" y1="{middle}" y2="{middle}"'
            lines += [
                f'<text class="name" x="{LEFT - 12}" y="{middle + 4}">{escape(row.name)}</text>',
                f'<line class="way" x1="{x(row.baseline)}" x2="{x(mean)}" y1="{middle}" y2="{middle}"/>',
                f'<line class="range" {span}/>',
                f'<circle class="baseline" cx="{x(row.baseline)}" cy="{middle}" r="4"/>',
                f'<circle class="result" cx="{x(mean)}" cy="{middle}" r="4"/>',
            ]
            y += ROW
    body = "\n".join(lines)
    size = f'width="{RIGHT + 30}" height="{height}" viewBox="0 0 {RIGHT + 30} {height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<style>{STYLE}</style>\n{body}\n</svg>\n'
