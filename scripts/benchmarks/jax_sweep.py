"""The work of lockstep.py in JAX: jit(vmap(scan)).

Run by peers.py in a process of its own: python jax_sweep.py SECONDS ROUNDS MEMBERS...
It prints the device, and a line for each number of members: it, and the member-steps per second of
each round.
"""

import sys
from itertools import pairwise
from time import perf_counter

import jax
import jax.numpy as jnp

N_ROWS, WIDTHS, BATCH_SIZE = 1257, (64, 128, 64, 10), 64
tree_map = jax.tree_util.tree_map


def initialize(key):
    """Weights and biases, uniform as torch's."""
    layers = []
    for d_in, d_out in pairwise(WIDTHS):
        key, own = jax.random.split(key)
        bound = d_in**-0.5
        weight = jax.random.uniform(own, (d_in, d_out), minval=-bound, maxval=bound)
        layers.append((weight, jnp.zeros(d_out)))
    return layers


def loss(layers, x, y):
    """Softmax cross entropy of a minibatch."""
    *hidden, (weight, bias) = layers
    for w, b in hidden:
        x = jax.nn.relu(x @ w + b)
    log_p = jax.nn.log_softmax(x @ weight + bias)
    return -jnp.take_along_axis(log_p, y[:, None], axis=1).mean()


def measure(n_members, seconds, rounds):
    """Epochs of Adam on minibatches, the last one smaller, with one order of rows for all."""
    key = jax.random.PRNGKey(0)
    features = jax.random.normal(key, (N_ROWS, WIDTHS[0]))
    target = jax.random.randint(key, (N_ROWS,), 0, WIDTHS[-1])

    def step(state, rows, rate):
        layers, mean, square, count = state
        value, grad = jax.value_and_grad(loss)(layers, features[rows], target[rows])
        count = count + 1
        mean = tree_map(lambda m, g: 0.9 * m + 0.1 * g, mean, grad)
        square = tree_map(lambda v, g: 0.999 * v + 0.001 * g * g, square, grad)
        size, spread = rate / (1 - 0.9**count), 1 - 0.999**count
        layers = tree_map(
            lambda p, m, v: p - size * m / (jnp.sqrt(v / spread) + 1e-8), layers, mean, square
        )
        return (layers, mean, square, count), value

    n_full = N_ROWS // BATCH_SIZE

    def epoch(state, order, rate):
        whole = order[: n_full * BATCH_SIZE].reshape(n_full, BATCH_SIZE)
        state, losses = jax.lax.scan(lambda s, rows: step(s, rows, rate), state, whole)
        state, _ = step(state, order[n_full * BATCH_SIZE :], rate)
        return state, losses.mean()

    run = jax.jit(jax.vmap(epoch, in_axes=(0, None, 0)))
    layers = jax.vmap(initialize)(jax.random.split(key, n_members))
    zeros = tree_map(jnp.zeros_like, layers)
    state = (layers, zeros, zeros, jnp.zeros(n_members))
    rates = jnp.full(n_members, 1e-3)

    def order_of(n):
        return jax.random.permutation(jax.random.fold_in(key, n), N_ROWS)

    state, value = run(state, order_of(0), rates)  # compiles
    value.block_until_ready()
    for _ in range(rounds):
        start, n_epochs = perf_counter(), 0
        while perf_counter() - start < seconds:
            state, value = run(state, order_of(n_epochs), rates)
            value.block_until_ready()
            n_epochs += 1
        yield n_epochs * (n_full + 1) * n_members / (perf_counter() - start)


def main(seconds, rounds, *numbers):
    """Measure with each number of members."""
    print(jax.devices()[0].device_kind, flush=True)
    for n_members in map(int, numbers):
        print(n_members, *measure(n_members, float(seconds), int(rounds)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
