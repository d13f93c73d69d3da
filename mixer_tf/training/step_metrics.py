"""The metrics of a training step of our own: `sam`, `split_batch`."""

import keras


def measure(model, x, y, y_pred, sample_weight, loss):
    """Update the metrics of a compiled model, its mean loss too, and return them as `fit` wants."""
    tracker = next(metric for metric in model.metrics if metric.name == "loss")
    tracker.update_state(loss, sample_weight=keras.ops.shape(y_pred)[0])
    return model.compute_metrics(x, y, y_pred, sample_weight)
