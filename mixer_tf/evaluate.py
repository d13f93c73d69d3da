"""Logits of many pictures, and what they are worth."""

import numpy as np

from mixer_tf.batches import EvaluationBatches
from mixer_tf.run_data import check_classes, load_run_data
from mixer_tf.runs import Run


def evaluate(run, data=None):
    """Test a run's best weights on test pictures.

    Args:
        run: a `Run`, or its folder.
        data: a `Data` with the run's classes; what it was trained on if left out.

    Returns:
        The dict of `score`.

    Raises:
        ValueError: there is no such run, its data cannot be read or has changed, or the
            classes are others.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    config = run.config()
    if data is None:
        data = load_run_data(config)
    check_classes(config, data)
    logits = predict_logits(run.model(), data.test, config.num_classes, config.recipe.scoring_size)
    return score(logits, data.test.labels)


def predict_logits(model, split, num_classes, batch_size=256):
    """Logits of every picture of a split, `[N, classes]` float32.

    Pictures are resized to what the model takes, with antialiasing where it takes smaller ones.
    """
    split = split.no_larger(model.input_shape[1:3])
    batches = EvaluationBatches(split, num_classes, batch_size, model.input_shape[1:3])
    return np.asarray(model.predict(batches, verbose=0))


def log_probabilities(logits):
    """Logarithms of the classes' probabilities, `[N, classes]` float64, of logits as large."""
    logits = np.asarray(logits, "float64")
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def score(logits, labels):
    """Accuracy and mean cross-entropy.

    Args:
        logits: `[N, classes]`.
        labels: `[N]`, numbers of the right classes.

    Returns:
        A dict: `accuracy`; `standard_error` of it, sqrt(p (1 - p) / N), what the
        choice of test pictures alone would make it vary by; `loss` in nats; `n`.
    """
    found = log_probabilities(logits)
    accuracy = float(np.mean(found.argmax(-1) == labels))
    return {
        "accuracy": accuracy,
        "standard_error": float(np.sqrt(accuracy * (1 - accuracy) / len(labels))),
        "loss": float(-np.mean(found[np.arange(len(labels)), labels])),
        "n": len(labels),
    }
