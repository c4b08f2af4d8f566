"""Still plots: Bokeh figures as small pictures that need no script."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from bokeh.plotting import figure

from jupyter_rm.model.errors import RequestError
from jupyter_rm.notebook.plots import MOST, svg


def test_glyphs_become_shapes() -> None:
    plot = figure(title='a "quoted" </svg> title', width=640, height=320)
    plot.xaxis.axis_label = "R0 & more"
    plot.line([0, 1, 2], [0.0, 5.0, float("nan")], color="red", legend_label="theory")
    plot.scatter(np.array([0, 1]), np.array([1, 2]), size=9)
    plot.quad(top=[3, 4], bottom=0, left=[0, 1], right=[1, 2], color="#2a7fb8")
    plot.step([0, 1, 2], [0, 1, 2], mode="after")
    plot.vbar(x=[0, 1], top=[2, 3], width=0.5)
    root = ET.fromstring(svg(plot))
    name = "{http://www.w3.org/2000/svg}"
    texts = [each.text for each in root.iter(f"{name}text")]
    assert 'a "quoted" </svg> title' in texts and "R0 & more" in texts and "theory" in texts
    assert {"0", "1", "2"} <= set(texts)
    assert len(list(root.iter(f"{name}circle"))) == 2
    red = next(each for each in root.iter(f"{name}path") if each.get("stroke") == "red")
    assert red.get("d", "").count("L") == 1, "a point that is no number is left out"


def test_the_axis_is_the_data() -> None:
    plot = figure(width=600, height=400)
    plot.scatter([0, 10], [0, 10], size=4)
    circles = list(ET.fromstring(svg(plot)).iter("{http://www.w3.org/2000/svg}circle"))
    (x0, y0), (x1, y1) = ((float(c.get("cx", "")), float(c.get("cy", ""))) for c in circles)
    assert x0 < x1 and y0 > y1, "up is up"
    assert x0 > 50 and x1 < 600 and y1 > 20 and y0 < 380


def test_what_cannot_be_drawn_is_said() -> None:
    plot = figure()
    plot.line(range(MOST + 1), range(MOST + 1))
    with pytest.raises(RequestError, match="points"):
        svg(plot)
    plot = figure()
    plot.wedge(x=[0], y=[0], radius=1, start_angle=0, end_angle=1)
    with pytest.raises(RequestError, match="Wedge"):
        svg(plot)
