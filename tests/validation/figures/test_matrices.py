"""Figures 2, 3, 5, 6: what is drawn of a matrix."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from validation.figures import matrices


@pytest.fixture
def matrix():
    return np.random.default_rng(0).standard_normal((24, 24))


def test_sizes_are_means_of_absolute_values_by_loops(matrix):
    drawn = matrices.sizes(matrix, 4)
    assert drawn.shape == (6, 6)
    for r in range(6):
        for c in range(6):
            entries = [abs(matrix[4 * r + i, 4 * c + j]) for i in range(4) for j in range(4)]
            assert drawn[r, c] == pytest.approx(sum(entries) / 16)


def test_sizes_refuses_a_matrix_that_is_no_whole_number_of_cells(matrix):
    with pytest.raises(ValueError, match=r"\(24, 24\) cannot be cut into squares of 5 x 5"):
        matrices.sizes(matrix, 5)


def test_block_means_and_their_distances():
    blocks = np.array([[4.0, -2.0, 1.0], [2.0, 5.0, 3.0], [-1.0, 3.0, 6.0]])
    means = matrices.block_means(np.kron(blocks, np.ones((2, 2))), 3)
    assert means.tolist() == abs(blocks).tolist()
    assert matrices.by_distance(means) == [5.0, 2.5, 1.0]


def test_relative_error():
    assert matrices.relative_error(np.array([[3.0, 0.0]]), np.array([[3.0, 4.0]])) == pytest.approx(4 / 5)


def test_white_level_is_exceeded_by_the_share_asked_for(matrix):
    for share in (0.03, 0.25):
        white = matrices.white_level(matrix, share)
        assert np.mean(abs(matrix) > white) == pytest.approx(share, abs=1 / matrix.size)


def test_each_mean_is_one_dot(matrix):
    """The picture is neither resampled nor blurred: every dot of a panel is the grey of its mean."""
    drawn = matrices.sizes(matrix, 1)
    figure, ((ax,),) = matrices.panels(1, 1, 24)
    matrices.draw(ax, drawn, 2.0, "", ())
    ax.set_axis_off()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[:, :, 0]
    grey = np.floor(np.clip(drawn / 2.0, 0, 1) * 255.999)
    left, top = matrices.LEFT, matrices.TOP
    assert np.abs(picture[top : top + 24, left : left + 24] - grey).max() <= 1


def test_compare_has_one_white_level_and_draws_the_difference(matrix):
    others = {"a": matrix + 1, "b": 0 * matrix}
    figure, arrays = matrices.compare(matrix, others, 0.5, ("M", "A", "B"), (1, 2, 3))
    assert {im.get_clim() for ax in figure.axes for im in ax.images} == {(0.0, 0.5)}
    assert [ax.get_title() for ax in figure.axes] == ["|M|", "|A|", "|A − M|", "|M|", "|B|", "|B − M|"]
    assert all(len(ax.lines) == 4 for ax in figure.axes)  # dashes: two edges, across and down
    assert arrays["a_difference"] == pytest.approx(2.0)  # 1, in units of the white level
    assert arrays["b_difference"] == pytest.approx(matrices.sizes(matrix) / 0.5, rel=1e-3)
