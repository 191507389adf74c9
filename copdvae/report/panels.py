"""Plotly figures as plain data: panels in a grid, each with its own axes, in the page's style.

Plain, because Plotly's own Python objects check every value and take a second a figure; the tests check the result with them.
"""

import html
from typing import Any

INK, MUTED, LINE, ACCENT, ALARM = "#1c2430", "#5b6675", "#dfe4ea", "#0b6e8a", "#b23a48"
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'


def markup(text: str) -> str:
    """A text from a file for Plotly, which reads its labels as markup."""
    return html.escape(text, quote=False)


class Panels:
    """`titles`: one a panel, line by line. `gap`: between panels, as shares of the figure (across, down).

    With `shared_y` only the first panel of a line shows the labels of its vertical axis, and all of a line move together.
    """

    def __init__(self, titles: list[str], columns: int, gap: tuple[float, float], shared_y: bool = False):
        self.traces: list[dict[str, Any]] = []
        self.shapes: list[dict[str, Any]] = []
        self.notes: list[dict[str, Any]] = []
        self.axes: dict[str, dict[str, Any]] = {}
        lines = -(-len(titles) // columns)
        width, height = (1 - gap[0] * (columns - 1)) / columns, (1 - gap[1] * (lines - 1)) / lines
        for panel, title in enumerate(titles):
            left, top = (panel % columns) * (width + gap[0]), 1 - (panel // columns) * (height + gap[1])
            common = {"gridcolor": LINE, "zeroline": False, "automargin": True, "title": {"font": {"color": MUTED, "size": 12}}}
            x = common | {"domain": [left, left + width], "anchor": self.name("y", panel), "showline": True, "linecolor": LINE}
            y = common | {"domain": [max(top - height, 0), top], "anchor": self.name("x", panel)}
            if shared_y and panel % columns:
                y |= {"matches": self.name("y", panel - panel % columns), "showticklabels": False}
            self.axes[self.key("x", panel)], self.axes[self.key("y", panel)] = x | {"ticks": "outside", "tickcolor": LINE}, y
            self.note(markup(title), x=left + width / 2, y=top, xref="paper", yref="paper", xanchor="center", yanchor="bottom", yshift=4)

    @staticmethod
    def name(axis: str, panel: int) -> str:
        return axis if panel == 0 else f"{axis}{panel + 1}"

    @staticmethod
    def key(axis: str, panel: int) -> str:
        return f"{axis}axis" if panel == 0 else f"{axis}axis{panel + 1}"

    def add(self, panel: int, **trace: Any) -> None:
        self.traces.append({"type": "scatter", "xaxis": self.name("x", panel), "yaxis": self.name("y", panel)} | trace)

    def axis(self, axis: str, panel: int, title: str = "", **settings: Any) -> None:
        own = self.axes[self.key(axis, panel)]
        own |= settings
        if title:
            own["title"] = own["title"] | {"text": markup(title)}

    def line(self, panel: int, axis: str, at: float, colour: str, width: float = 1, dash: str = "solid", text: str = "") -> None:
        """A line across the panel where `axis` ("x" or "y") has the value `at`."""
        other = "y" if axis == "x" else "x"
        refs = {f"{axis}ref": self.name(axis, panel), f"{other}ref": f"{self.name(other, panel)} domain"}
        ends = {f"{axis}0": at, f"{axis}1": at, f"{other}0": 0, f"{other}1": 1}
        self.shapes.append({"type": "line", "line": {"color": colour, "width": width, "dash": dash}} | refs | ends)
        if text:
            self.note(text, **refs, **{axis: at, other: 1}, xanchor="right", yanchor="bottom")

    def note(self, text: str, **place: Any) -> None:
        self.notes.append({"text": text, "showarrow": False, "font": {"size": 13, "color": INK}} | place)

    def spec(self, height: int, left: int, bottom: int = 50) -> dict[str, Any]:
        """The whole figure, `height` in pixels; `left`, `bottom`: margins."""
        font = {"family": FONT, "size": 13, "color": INK}
        layout = {
            "height": height, "font": font, "showlegend": False, "margin": {"l": left, "r": 15, "t": 40, "b": bottom},
            "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)",
            "hoverlabel": {"bgcolor": "white", "bordercolor": LINE, "font": font | {"size": 12}},
            "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "#aab3bd", "activecolor": ACCENT},
            "shapes": self.shapes, "annotations": self.notes,
        }  # fmt: skip
        return {"data": self.traces, "layout": layout | self.axes}
