"""`python -m mixer_tf`."""

from mixer_tf.cli import main

if __name__ == "__main__":
    main()
