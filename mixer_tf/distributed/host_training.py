"""A training loop for several hosts on TensorFlow.

Keras's own `fit` fails under MultiWorkerMirroredStrategy (keras-team/keras#20585).
What stays Keras's: the step (`Model.train_step`), metrics, callbacks, optimizer.
"""

import concurrent.futures

import keras
import tensorflow as tf


def fit(
    model, hosts, batches, *, initial_epoch, epochs, steps_per_epoch, validation_data, callbacks
):
    """Train as `Model.fit` would on one host.

    Every host computes its rows of each batch; gradients and metrics are summed
    over all of them, so losses, weights and logs are the same everywhere.

    Args:
        model: built and compiled within the scope of `hosts.strategy`.
        hosts: the `Hosts`.
        batches: `TrainingBatches` of this host's place; batch 0 is the first to train on.
        initial_epoch, epochs: number of the first epoch, and of the one not run any more.
        steps_per_epoch: steps of each.
        validation_data: `EvaluationBatches` of this host's place.
        callbacks: Keras callbacks. They may differ from host to host where they do
            not compute on the model or change it.

    Raises:
        WorkerLost: another host is gone.
    """
    strategy = hosts.strategy
    train = _function(model, strategy, model.train_step)
    test = _function(model, strategy, model.test_step)
    calls = keras.callbacks.CallbackList(callbacks, model=model, epochs=epochs)
    model.stop_training = False
    first = 0
    calls.on_train_begin()
    for epoch in range(initial_epoch, epochs):
        if model.stop_training:
            break
        model.reset_metrics()
        calls.on_epoch_begin(epoch)
        for step, batch in enumerate(_ahead(batches, range(first, first + steps_per_epoch))):
            calls.on_train_batch_begin(step)
            logs = train(_on_replicas(hosts, batch))
            calls.on_train_batch_end(step, logs)
        first += steps_per_epoch
        logs = _numbers(logs)

        model.reset_metrics()
        calls.on_test_begin()
        for batch in _ahead(validation_data, range(len(validation_data))):
            tested = test(_on_replicas(hosts, batch))
        tested = _numbers(tested)
        calls.on_test_end(tested)
        logs.update({f"val_{name}": value for name, value in tested.items()})
        calls.on_epoch_end(epoch, logs)
    model.optimizer.finalize_variable_values(model.trainable_variables)  # averages, as `fit` does
    calls.on_train_end(logs)


def _function(model, strategy, step):
    """A step on all replicas of all hosts, compiled; gives the metrics over all of them."""

    @tf.function
    def on_all(batch):
        strategy.run(step, args=(batch,))
        return model.get_metrics_result()

    return on_all


def _on_replicas(hosts, batch):
    """This host's rows of a batch, shared out among its devices."""
    strategy = hosts.strategy
    devices = strategy.num_replicas_in_sync // hosts.count
    if devices == 1:
        return tuple(tf.convert_to_tensor(part) for part in batch)

    def share(part):
        parts = tf.split(part, devices)
        return strategy.experimental_distribute_values_from_function(
            lambda context: parts[context.replica_id_in_sync_group % devices]
        )

    return tuple(share(part) for part in batch)


def _ahead(batches, places):
    """Batches, each made while the one before it is computed with."""
    with concurrent.futures.ThreadPoolExecutor(1) as maker:
        coming = maker.submit(batches.__getitem__, places[0])
        for place in places[1:]:
            batch = coming.result()
            coming = maker.submit(batches.__getitem__, place)
            yield batch
        yield coming.result()


def _numbers(logs):
    return {name: float(value) for name, value in logs.items()}
