"""Figures 1, 4 and 8: diagrams that can be read."""

from itertools import combinations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from validation.figures import figure_01, figure_04, figure_08
from validation.work import Work


@pytest.mark.parametrize("figure", [figure_01, figure_04, figure_08])
def test_no_text_or_box_overlaps_another_or_the_edge(figure, tmp_path):
    picture = figure.draw(Work(tmp_path)).figure
    FigureCanvasAgg(picture).draw()
    texts = [text for text in picture.axes[0].texts if text.get_text()]
    extents = [(text.get_bbox_patch() or text).get_window_extent() for text in texts]
    assert len(extents) > 10
    for (a, b), (one, other) in zip(combinations(extents, 2), combinations(texts, 2), strict=True):
        assert not a.overlaps(b), f"{one.get_text()} overlaps {other.get_text()}"
    for extent, text in zip(extents, texts, strict=True):
        inside = extent.x0 > 0 and extent.y0 > 0 and extent.x1 < picture.bbox.x1 and extent.y1 < picture.bbox.y1
        assert inside, text.get_text()
