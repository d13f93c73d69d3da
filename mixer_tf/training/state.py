"""The whole state of a training as a file.

The state is every variable of the model (seeds of dropout with them) and of the
optimizer (moments, averages, step, loss scale), and the progress made.
"""

import json
import sys

import numpy as np

from mixer_tf import stack
from mixer_tf.storage import files
from mixer_tf.storage.npz import NpzFile
from mixer_tf.training.guard import check_finite


def save_state(path, model, progress, previous=None):
    """Write all variables and `progress` (plain values) into one `.npz`.

    Args:
        path: of the file.
        model: compiled.
        progress: what `load_state` is to return.
        previous: where the state goes that was at `path`.

    Raises:
        NotFinite: a weight is no number; nothing is written then.
        OSError: the disk is full or gone; the state at `path` is as it was.
    """
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()  # on JAX the variables are behind while an epoch runs
    arrays = {f"v{i}": np.array(v) for i, v in enumerate(_variables(model))}
    check_finite(list(arrays.values())[: len(model.variables)])
    arrays["progress"] = np.frombuffer(json.dumps(progress).encode(), "uint8")
    with files.replacing(path, previous) as beside, open(beside, "wb") as file:
        np.savez(file, **arrays)


def load_state(path, model):
    """Put all variables back and return the `progress` that was saved with them.

    Raises:
        ValueError: the file is damaged or belongs to another model or optimizer.
    """
    stack.build_optimizer(model.optimizer, model.trainable_variables)
    variables = _variables(model)
    expected = {f"v{i}": tuple(v.shape) for i, v in enumerate(variables)}
    try:
        with NpzFile(path, kinds="fiub") as file:
            found = {name: shape for name, shape in file.shapes.items() if name != "progress"}
            fits = found == expected  # before anything large is read
            progress = json.loads(file.read_as_is("progress").tobytes()) if fits else None
            values = [file.read_as_is(name) for name in expected] if fits else []
            if fits and {"step", "seconds", "history"} - set(progress):
                raise ValueError("it does not say how far the training was")
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}).") from error
    if not fits:
        raise ValueError(
            f"{path} holds {len(found)} arrays that do not fit the {len(expected)} variables of "
            "this model and optimizer; was it written by another version?"
        )
    for variable, value in zip(variables, values):
        variable.assign(value)
    return progress


def load_newest(run, model):
    """Put back what was saved last; where that is damaged, say so and take what was saved before.

    Args:
        run: a `Run` that has a state.
        model: compiled.

    Returns:
        The `progress` that was saved with it; `"damaged"` in it: the newest cannot be read.

    Raises:
        ValueError: no file of the run can be used.
    """
    problem = None
    for path in run.states():
        try:
            progress = load_state(path, model)
        except ValueError as error:
            problem = problem or error
            continue
        if problem:
            print(
                f"mixer_tf: {problem} The state before it, of step {progress['step']}, is used.",
                file=sys.stderr,
            )
        return {**progress, "damaged": bool(problem)}
    raise ValueError(
        f"{problem} No state before it can be used either; train again, into another --out."
    ) from problem


def _variables(model):
    return [*model.variables, *stack.optimizer_variables(model.optimizer)]
