"""JAX and optax, or a word on how to get them: every trained module takes them from here."""

try:
    import jax
    import jax.numpy as jnp
    import optax
    from jax.flatten_util import ravel_pytree
except ModuleNotFoundError as error:
    raise ImportError(
        'networks are trained with JAX and optax, an extra: pip install "iclkit[train]"',
        name=error.name,
    ) from error

__all__ = ["jax", "jnp", "optax", "ravel_pytree"]
