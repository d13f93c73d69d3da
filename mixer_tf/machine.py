"""What there is: the accelerators that TensorFlow or JAX sees, and the processor."""

import os
import pathlib
import platform
import re

import keras


def look():
    """What Keras's backend computes on.

    Returns:
        (device, for people; `cpu`, `gpu` or `tpu`; how many of them; the precision that is
        best there; why).
    """
    return _look_jax() if keras.backend.backend() == "jax" else _look_tensorflow()


def _look_tensorflow():
    import tensorflow as tf

    # Asking for logical devices would start TensorFlow, which takes no number of threads then.
    def count(devices):
        parts = map(tf.config.get_logical_device_configuration, devices)
        return sum(len(part or [None]) for part in parts)

    gpus = tf.config.get_visible_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        best, why = gpu_precision(details.get("compute_capability", (0, 0)))
        return details.get("device_name", "GPU"), "gpu", count(gpus), best, why
    cpus = count(tf.config.get_visible_devices("CPU"))
    return _cpu_name(), "cpu", cpus, "float32", "on a CPU nothing else measured faster"


def _look_jax():
    import jax

    devices = jax.devices()
    kind = devices[0].platform
    if kind == "tpu":
        return devices[0].device_kind, "tpu", len(devices), "mixed_bfloat16", "a TPU's own format"
    if kind == "gpu":
        capability = str(devices[0].compute_capability)
        if found := re.fullmatch(r"(\d+)\.(\d+)", capability):
            best, why = gpu_precision(tuple(map(int, found.groups())))
        else:  # AMD's have names, such as gfx90a
            best, why = "float32", f"what {capability} multiplies fastest is not known here"
        return devices[0].device_kind, "gpu", len(devices), best, why
    return _cpu_name(), "cpu", len(devices), "float32", "on a CPU nothing else measured faster"


def gpu_precision(capability):
    """The format that a GPU's matrix units multiply in, by its compute capability."""
    if tuple(capability) >= (8, 0):
        return "mixed_bfloat16", "its tensor cores take bfloat16, which needs no loss scaling"
    if tuple(capability) >= (7, 0):
        return "mixed_float16", "its tensor cores take float16, not bfloat16"
    return "float32", "it has no tensor cores"


def multiplies_bfloat16():
    """Whether the processor has instructions for products of bfloat16 numbers."""
    flags = cpu_info("flags").split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def cpu_info(field):
    """What Linux says of the first processor, `""` where it says nothing."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in pairs if name.strip() == field), "")


def _cpu_name():
    """Model name of the processor, its family where Linux says it, and its number of cores."""
    family, model = cpu_info("cpu family"), cpu_info("model")
    kind = f"family {family}, model {model}; " if family else ""  # clouds hide all of the name
    return f"{cpu_info('model name') or platform.machine()} ({kind}{os.cpu_count()} cores)"
