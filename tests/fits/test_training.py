"""The flow of Γ: against descent in small steps, its ends, and units."""

import numpy as np
import pytest

from iclkit.backend import streams
from iclkit.data.contexts import draw_statistics
from iclkit.data.tasks import draw_tasks
from iclkit.fits.features import adjoint, predict
from iclkit.fits.fit import fit_gamma
from iclkit.fits.training import fit_gamma_flow


def data(n, d, seed=0):
    draw = streams(seed)
    return draw_statistics(draw_tasks(n, d, draw.tasks), 2 * d, 0.1, draw)


@pytest.mark.parametrize("n", [1, 20, 42, 43, 90])
@pytest.mark.parametrize("lam", [0.0, 0.3])
def test_is_what_small_steps_tend_to(n, lam):
    x, h, y = data(n, 6)

    def descent(steps):
        gamma = np.zeros((6, 7))
        for _ in range(steps):
            slope = -6 / n * adjoint(x, h, y - predict(x, h, gamma)) + lam * gamma
            gamma = gamma - 0.4 / steps * slope
        return gamma

    # Richardson: what is left of the step size is of second order.
    expected = 2 * descent(2000) - descent(1000)
    (found,) = fit_gamma_flow(x, h, y, [0.4], lam)
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())
    start, first = fit_gamma_flow(x, h, y, [0.0, 1e-9], lam)
    assert np.all(start == 0)
    np.testing.assert_allclose(first, 1e-9 * 6 / n * adjoint(x, h, y), rtol=1e-5, atol=1e-20)


@pytest.mark.parametrize("n", [20, 90])
@pytest.mark.parametrize("lam", [0.0, 0.3])
def test_ends_at_the_fit(n, lam):
    x, h, y = data(n, 6)
    (end,) = fit_gamma_flow(x, h, y, [1e9], lam)
    expected = fit_gamma(x, h, y, lam, rtol=1e-12).gamma
    np.testing.assert_allclose(end, expected, atol=1e-8 * np.abs(expected).max())


def test_repeated_contexts_leave_no_noise():
    x, h, y = (np.concatenate([part, part]) for part in data(15, 6))
    ends = fit_gamma_flow(x, h, y, [1e6, 1e30, 1e75])
    np.testing.assert_allclose(ends[1:], ends[[0, 0]], atol=1e-10)


@pytest.mark.parametrize("n", [20, 90])
@pytest.mark.parametrize("of_x, of_h, of_y", [(2.0**-200, 1.0, 8.0), (1e40, 1e20, 1e-30)])
def test_units_do_not_matter(n, of_x, of_h, of_y):
    x, h, y = data(n, 6)
    scale = (of_x * of_h) ** 2
    expected = fit_gamma_flow(x, h, y, [0.5], 0.1) * of_y / (of_x * of_h)
    times = np.array([0.5 / scale])
    if not 1e-75 < times[0] < 1e75:
        with pytest.raises(ValueError, match="^times must be"):
            fit_gamma_flow(of_x * x, of_h * h, of_y * y, times)
        return
    found = fit_gamma_flow(of_x * x, of_h * h, of_y * y, times, 0.1 * scale)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_array_api(xp):
    x, h, y = data(20, 4)
    found = fit_gamma_flow(*(xp.asarray(part) for part in (x, h, y)), [0.3, 2.0])
    np.testing.assert_allclose(np.asarray(found), fit_gamma_flow(x, h, y, [0.3, 2.0]), rtol=1e-12)


def test_times_are_a_sequence():
    with pytest.raises(ValueError, match="^times must be a sequence of at least one"):
        fit_gamma_flow(*data(5, 3), 0.3)
