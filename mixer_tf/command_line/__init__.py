"""What stands behind the commands of `mixer_tf.cli`."""
