"""Adam on a stream: the steps of its definition, on what is drawn."""

import numpy as np
import pytest

from iclkit import backend
from iclkit.data.contexts import draw_statistics
from iclkit.data.moments import population_moments, prediction_error
from iclkit.data.tasks import draw_tasks
from iclkit.runs.many import sweep
from iclkit.trained import streams

POINT = {"d": 4, "alpha": 2.0, "rho": 0.3, "batch": 8, "steps": 5, "rate": 0.01}


def test_steps_are_those_of_adam():
    """By its definition, in NumPy, on the same contexts."""
    drawing = backend.streams(3)
    x, h, y = draw_statistics(draw_tasks(40, 4, drawing.tasks), 8, 0.3, drawing)
    gamma, mean, square = np.zeros((4, 4)), 0.0, 0.0
    for t in range(5):
        now = slice(8 * t, 8 * t + 8)
        residual = y[now] - np.sum(x[now] @ gamma * h[now, :4], axis=1)
        gradient = -(x[now] * residual[:, None]).T @ h[now, :4] / 8
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        scaled = mean / (1 - 0.9 ** (t + 1))
        gamma -= 0.01 * scaled / ((square / (1 - 0.999 ** (t + 1))) ** 0.5 + 1e-8)
    whole = np.concatenate([gamma, np.zeros((4, 1))], axis=1)
    expected = prediction_error(whole, population_moments(4, 8, 0.3))
    assert abs(streams.streaming_adam(3, **POINT)["icl_error"] / expected - 1) < 1e-9


def test_what_diverges_is_infinite():
    assert streams.streaming_adam(0, **POINT | {"rate": 1e75})["icl_error"] == np.inf


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"d": 0}, "^d must be an integer"),
        ({"alpha": 0.01}, "^alpha must be finite"),
        ({"rho": -1.0}, "^rho must be"),
        ({"batch": 0}, "^batch must be an integer"),
        ({"steps": 0}, "^steps must be an integer"),
        ({"rate": 0.0}, "^rate must be positive"),
    ],
)
def test_wrong_points_are_refused_before_anything_is_trained(wrong, message):
    for call in (
        streams.streaming_adam.check,
        lambda **p: sweep(streams.streaming_adam, p, seed=0),
    ):
        with pytest.raises(ValueError, match=message):
            call(**POINT | wrong)
