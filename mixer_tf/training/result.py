"""What came of a run: `result.json`."""

import statistics

from mixer_tf.evaluate import predict_logits, score
from mixer_tf.storage import files
from mixer_tf.version import versions


def make_result(run, test, runtime, fused, seconds):
    """Test the best weights of a run that has ended, and write what came of it.

    Args:
        run: the `Run`.
        test: the `Split` to test on.
        runtime: the `Runtime` it was trained with.
        fused: whether its blocks were fused.
        seconds: of training, over all parts of the run.

    Returns:
        The dict that `result.json` holds. Its `test_loss` is the plain cross-entropy, while the
        validation losses of the history are those trained with, label smoothing and all.
    """
    config, history = run.config(), run.history()
    model = run.model()  # as `evaluate` does, so that both give the same numbers
    logits = predict_logits(model, test, config.num_classes, config.recipe.scoring_size)
    scores = score(logits, test.labels)
    result = {
        "model": config.model_name,
        "data": config.data,
        "parameters": model.count_params(),
        "epochs": len(history["val_accuracy"]),  # fewer than the recipe's where a callback ended it
        "seed": config.seed,
        "precision": runtime.precision,
        "products": runtime.products if fused else runtime.precision,
        "device": runtime.device,
        "input_shape": list(config.input_shape),
        "test_accuracy": scores["accuracy"],
        "test_standard_error": scores["standard_error"],
        "test_loss": scores["loss"],
        "test_pictures": scores["n"],
        "best_val_accuracy": max(history["val_accuracy"]),
        "train_seconds": seconds,
        "images_per_second": statistics.median(history["images_per_second"]),  # of the epochs
        "versions": versions(),
        "command": config.command,
    }
    files.write_json(run.result_file, result)
    return result
