"""A run directory: what a training leaves behind and everything later reads.

config.json        all that rebuilds the model and the run
state.npz          all that resuming needs
model.weights.h5   the weights of the best validation accuracy
last.weights.h5    the weights of the last epoch
history.csv        one row for each epoch
result.json        what came out
events.out.*       for TensorBoard, also in train/ and validation/
"""

from __future__ import annotations

import csv
import dataclasses
import pathlib

from mixer_tf import files, zoo
from mixer_tf.variants import MixerConfig

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """All that rebuilds the model and the run."""

    model: str | MixerConfig
    input_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    data: str  # what `load_data` took
    recipe: dict  # of `Recipe.to_dict`
    seed: int
    precision: str
    command: str  # that makes the run again
    pretrained: str = ""  # what the weights began from

    @property
    def num_classes(self):
        return len(self.class_names)

    @property
    def model_name(self):
        return self.model if isinstance(self.model, str) else "mixer"

    def build(self):
        """The model with fresh weights."""
        return zoo.build(self.model, self.input_shape, self.num_classes)


class Run:
    """The files of one run directory, by name.

    Args:
        folder: of the run.
    """

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.config_file = self.folder / "config.json"
        self.state_file = self.folder / "state.npz"
        self.best_file = self.folder / "model.weights.h5"
        self.last_file = self.folder / "last.weights.h5"
        self.history_file = self.folder / "history.csv"
        self.result_file = self.folder / "result.json"

    @classmethod
    def create(cls, folder, config):
        """Make the folder and write `config.json`.

        Raises:
            ValueError: it holds a run already, or other files.
        """
        run = cls(folder)
        if run.folder.exists() and not run.folder.is_dir():
            raise ValueError(f"{folder} is a file; give a folder.")
        if run.config_file.exists():
            raise ValueError(
                f"{folder} holds another run; give another --out, or --resume to go on with it."
            )
        if run.folder.exists() and any(run.folder.iterdir()):
            raise ValueError(f"{folder} is not empty and holds no run; give another --out.")
        run.folder.mkdir(parents=True, exist_ok=True)
        files.write_json(run.config_file, {"format": FORMAT, **dataclasses.asdict(config)})
        return run

    @classmethod
    def open(cls, folder):
        """An existing run.

        Raises:
            ValueError: the folder holds none.
        """
        run = cls(folder)
        if not run.config_file.exists():
            raise ValueError(f"{folder} holds no run: there is no config.json in it.")
        return run

    def config(self):
        """The `RunConfig` of the run (ValueError where it is of another format)."""
        values = files.read_json(self.config_file)
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise ValueError(f"{self.config_file} is not of format {FORMAT}, the one known here.")
        try:
            if isinstance(values["model"], dict):
                values["model"] = MixerConfig(**values["model"])
            for name in ("input_shape", "class_names"):
                values[name] = tuple(values[name])
            return RunConfig(**values)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{self.config_file} is incomplete or damaged ({error}).") from error

    def model(self, which="best"):
        """The trained model: its best weights on validation data, or its `"last"`."""
        file = {"best": self.best_file, "last": self.last_file}[which]
        if not file.exists():
            raise ValueError(f"{self.folder} has no {file.name} yet: no epoch has ended.")
        model = self.config().build()
        model.load_weights(file)
        return model

    def result(self):
        """What `result.json` says (ValueError where the run has not ended)."""
        if not self.result_file.exists():
            raise ValueError(f"{self.folder} has no result.json: the run has not ended.")
        return files.read_json(self.result_file)

    def write_history(self, rows):
        """`history.csv` from one dict of numbers for each epoch."""
        with files.replacing(self.history_file) as beside, open(beside, "w", newline="") as file:
            names = list(dict.fromkeys(name for row in rows for name in row))
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)

    def history(self):
        """`{column: [number of each epoch]}` of `history.csv`."""
        if not self.history_file.exists():
            raise ValueError(f"{self.folder} has no history.csv yet: no epoch has ended.")
        with open(self.history_file, newline="") as file:
            rows = list(csv.DictReader(file))
        return {name: [float(row[name] or "nan") for row in rows] for name in rows[0]}
