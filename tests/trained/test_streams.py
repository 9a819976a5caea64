"""Adam on a stream: the steps of its definition, on what is drawn, and the model of the theory."""

import jax
import numpy as np
import pytest

from iclkit import backend
from iclkit.data.contexts import context_statistic, draw_contexts
from iclkit.data.moments import population_moments, prediction_error
from iclkit.data.tasks import draw_tasks
from iclkit.runs.many import sweep
from iclkit.trained import streams
from iclkit.trained.prompts import Fresh, write

POINT = {"d": 4, "alpha": 2.0, "rho": 0.3, "batch": 8, "steps": 5, "rate": 0.01}


def test_predictions_are_those_of_the_reduced_layer():
    drawn = draw_contexts(draw_tasks(6, 3, np.random.default_rng(0)), 5, 0.1, backend.streams(1))
    gamma = np.random.default_rng(2).standard_normal((3, 3))
    h = context_statistic(drawn.tokens, drawn.labels)[:, :3]
    expected = np.sum(drawn.query @ gamma * h, axis=1)
    found = streams._predict(gamma.astype("float32"), write(drawn).astype("float32"))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_steps_are_those_of_adam():
    """By its definition, in NumPy, on the same draws."""
    number = backend.child_seed(3, 0).generate_state(1)[0]
    (key,) = jax.random.split(jax.random.key(int(number)), 1)
    inputs, targets = Fresh(4, 8, 0.3, "float32")(jax.random.fold_in(key, 0), (5, 8))
    gamma, mean, square = np.zeros((4, 4)), 0.0, 0.0
    for t in range(5):
        prompts, y = np.asarray(inputs[t], float), np.asarray(targets[t], float)
        h = context_statistic(prompts[:, :-1, :-1], prompts[:, :-1, -1])[:, :4]
        x = prompts[:, -1, :-1]
        residual = y - np.sum(x @ gamma * h, axis=1)
        gradient = -2 * (x * residual[:, None]).T @ h / 8
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        scaled = mean / (1 - 0.9 ** (t + 1))
        gamma -= 0.01 * scaled / ((square / (1 - 0.999 ** (t + 1))) ** 0.5 + 1e-8)
    whole = np.concatenate([gamma, np.zeros((4, 1))], axis=1)
    expected = prediction_error(whole, population_moments(4, 8, 0.3))
    assert abs(streams.streaming_adam(3, **POINT)["icl_error"] / expected - 1) < 1e-4


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
