"""What a run will use of what there is: accelerator, devices, hosts, precision.

`choose` decides, `Runtime.describe` says what and why in one line; every choice
can be overridden.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys

import keras

from mixer_tf import machine, stack
from mixer_tf.distributed import hosts as hosts_room

PRECISIONS = ("auto", "float32", "mixed_float16", "mixed_bfloat16")
if not stack.KERAS_3:  # its loss scaling is another
    PRECISIONS = ("auto", "float32", "mixed_bfloat16")


@dataclasses.dataclass(frozen=True)
class Runtime:
    """The choices for one run."""

    backend: str  # of Keras: tensorflow or jax
    device: str  # what the arithmetic runs on, for people
    accelerator: str  # cpu, gpu or tpu
    replicas: int  # devices that share each batch
    precision: str  # name of the dtype policy
    reason: str  # why this precision
    strategy: object = None  # tf.distribute.Strategy, keras.distribution object or None
    products: str = "float32"  # what fused blocks round the operands of their products to
    hosts: hosts_room.Hosts | None = None  # where several processes train together

    @property
    def fuses_blocks(self):
        """Whether Mixers are trained in `fused_blocks`: one CPU, TensorFlow, float32."""
        plain = stack.KERAS_3 and self.accelerator == "cpu" and self.strategy is None
        return plain and self.backend == "tensorflow" and self.precision == "float32"

    @property
    def is_chief(self):
        """Whether this process writes the run directory: one alone, or worker 0 of several."""
        return self.hosts is None or self.hosts.is_chief

    @property
    def place(self):
        """`(index, count)` of this process among those that share each batch."""
        return (self.hosts.index, self.hosts.count) if self.hosts else (0, 1)

    def describe(self, fused=False):
        """One line that says what was chosen and why; `fused`: for a model of fused blocks."""
        if self.replicas == 1:
            shared = "1 replica"
        else:
            name = type(self.strategy).__name__
            where = "all devices of this machine"
            if self.hosts is not None:
                where = f"{self.hosts.count} hosts that the environment names"
                if self.hosts.strategy:
                    name = "MultiWorkerMirroredStrategy"  # its class has another name
            shared = f"{self.replicas} replicas by {name} on {where}"
        reason = self.reason
        if fused and self.products != self.precision:
            reason = f"its blocks multiply in {self.products}, which is faster here"
        return f"{self.device}, {self.backend}, {shared}, {self.precision} ({reason})"

    def scope(self):
        """Context in which the model is built and compiled."""
        return contextlib.nullcontext() if self.strategy is None else self.strategy.scope()

    def jit_compile(self, has_convolutions):
        """What to give `compile(jit_compile=)`.

        Measured on the CPU with TensorFlow: XLA makes a Mixer's step faster and
        a convolutional network's slower; under a strategy it fails.
        """
        if not stack.KERAS_3:
            return None
        if self.backend == "tensorflow" and self.accelerator == "cpu":
            return self.strategy is None and not has_convolutions
        return "auto"


def has_convolutions(model):
    """Whether patches overlap anywhere: a convolution larger than its stride."""
    return any(
        isinstance(layer, keras.layers.Conv2D) and layer.kernel_size > layer.strides
        for layer in model.layers
    )


def choose(precision="auto"):
    """Look at the machine, and at the hosts that the environment names, and choose.

    Args:
        precision: one of `PRECISIONS`.

    Returns:
        A `Runtime`. Also sets the global dtype policy of Keras, which the
        layers of a model take on when they are built.

    Raises:
        ValueError: `precision` is none of `PRECISIONS`, or the hosts do not meet.
    """
    if precision not in PRECISIONS:
        raise ValueError(
            f"There is no precision {precision!r}; there are: {', '.join(PRECISIONS)}."
        )
    backend = keras.backend.backend()
    if backend not in ("tensorflow", "jax"):
        raise ValueError(f"Keras runs on {backend!r}; set KERAS_BACKEND to tensorflow or jax.")
    hosts = hosts_room.join()
    device, accelerator, count, best, why = machine.look()
    if not stack.KERAS_3:
        count, best, why = 1, "float32", "what is tested with Keras 2.15"
    if precision == "auto":
        precision, reason = best, why
    else:
        reason = "as asked"
    strategy = None
    if hosts is not None and hosts.strategy is not None:
        strategy, count = hosts.strategy, hosts.strategy.num_replicas_in_sync
    elif count > 1:
        strategy = _strategy()
    products = "float32"
    alone = accelerator == "cpu" and strategy is None and backend == "tensorflow"
    if stack.KERAS_3 and alone and reason != "as asked" and machine.multiplies_bfloat16():
        products = "bfloat16"
    keras.mixed_precision.set_global_policy(precision)
    return Runtime(
        backend,
        device,
        accelerator,
        count if strategy is not None else 1,
        precision,
        reason,
        strategy,
        products,
        hosts,
    )


def choose_again(precision, trained_in="", products=""):
    """What a run began with, as far as this machine has it; says where it has not.

    Args:
        precision: what was asked for, one of `PRECISIONS`.
        trained_in: the precision that was chosen then, `""` where nothing has begun.
        products: what its products were rounded to, `""` where no blocks were fused.

    Returns:
        A `Runtime`, as `choose` does.
    """
    chosen = choose(precision)
    if trained_in and chosen.precision != trained_in:
        chosen = choose(trained_in)  # its state has the variables of this one
    if products == "float32":  # which every machine has
        chosen = dataclasses.replace(chosen, products=products)
    if products and chosen.products != products and chosen.is_chief:
        print(
            f"mixer_tf: this run began with products in {products}, which are {chosen.products} "
            "here; it will not end with the very same weights.",
            file=sys.stderr,
        )
    return chosen


def _strategy():
    """Several devices share each batch: of this process on TensorFlow, of all on JAX."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return _mirrored(tuple(device.name for device in devices))
    return keras.distribution.DataParallel(
        devices=keras.distribution.list_devices(),
        auto_shard_dataset=False,  # our batches hold only what is this process's
    )


@functools.cache
def _mirrored(devices):
    """The one strategy of some devices, for all models that this process trains."""
    import tensorflow as tf

    # A second one would number its exchanges from the same start again, and TensorFlow refuses a
    # number that comes back with another model's shapes.
    return tf.distribute.MirroredStrategy(list(devices))
