"""A run directory: what a training leaves behind and everything later reads.

config.json        all that rebuilds the model and the run
state.npz          all that resuming needs
state.previous.npz the same, saved one time earlier
model.weights.h5   the weights of the best validation accuracy
last.weights.h5    the weights of the last epoch
history.csv        one row for each epoch
result.json        what came out
pictures.txt       which pictures were left out or converted, if any were
events.out.*       for TensorBoard, also in train/ and validation/
figures/           what `visualize` draws

The callbacks keep patch_projections.npz, projector/ and projector_config.pbtxt beside them.
"""

import contextlib
import csv
import pathlib
import sys
import time

from mixer_tf import run_config
from mixer_tf.storage import files
from mixer_tf.storage.lock import only_one

# In `result.json`, what a table or a figure of several runs needs.
_PROMISED = ("parameters", "epochs", "test_accuracy", "test_standard_error", "test_pictures")
_PROMISED += ("train_seconds", "images_per_second")

_COLUMNS = ("loss", "accuracy", "val_loss", "val_accuracy")  # of every `history.csv`


def set_aside(folder):
    """Move a run that is there to `earlier/` beside it, so that another can take its place.

    Raises:
        ValueError: another process is at work in it.
    """
    folder = pathlib.Path(folder)
    if folder.exists():
        with only_one(folder):
            pass
        earlier = folder.parent / "earlier"
        earlier.mkdir(exist_ok=True)
        folder.rename(free_name(earlier / f"{folder.name}-{time.strftime('%Y%m%d-%H%M%S')}"))


def free_name(path):
    """`path`, or `path-2`, `path-3` ... where that holds something already."""
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


class Run:
    """The files of one run directory, by name.

    Args:
        folder: of the run.
    """

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.config_file = self.folder / "config.json"
        self.state_file = self.folder / "state.npz"
        self.previous_state_file = self.folder / "state.previous.npz"
        self.best_file = self.folder / "model.weights.h5"
        self.last_file = self.folder / "last.weights.h5"
        self.history_file = self.folder / "history.csv"
        self.pictures_file = self.folder / "pictures.txt"
        self.filters_file = self.folder / "patch_projections.npz"
        self.result_file = self.folder / "result.json"
        self._lock = self._description = None  # and what config.json says, while `alone`

    @classmethod
    def create(cls, folder, config):
        """Make the folder and write `config.json`.

        A run that ended before anything of it was saved gives way.

        Raises:
            ValueError: it holds a run already, or other files, or another process is
                making a run there.
        """
        run = cls(folder)
        if run.folder.exists() and not run.folder.is_dir():
            raise ValueError(f"{folder} is a file; give a folder.")
        came_to_nothing = run._came_to_nothing()
        if run.config_file.exists() and not came_to_nothing:
            raise ValueError(
                f"{folder} holds another run; give another --out, or --resume to go on with it."
            )
        if not (run.is_empty() or came_to_nothing):
            raise ValueError(f"{folder} is not empty and holds no run; give another --out.")
        run.folder.mkdir(parents=True, exist_ok=True)
        with only_one(run.folder):
            if run.config_file.exists() and not (came_to_nothing and run._came_to_nothing()):
                raise ValueError(
                    f"{folder} has just been taken by another run; give another --out."
                )
            run_config.write(run.config_file, config)
        return run

    def _came_to_nothing(self):
        """Whether a run of this suite began here and has no weights and no state."""
        saved = (
            *self.states(),
            self.best_file,
            self.last_file,
            self.history_file,
            self.result_file,
        )
        if not self.config_file.exists() or any(file.exists() for file in saved):
            return False
        try:
            self.config()
        except ValueError:
            return False  # a file of something else
        return True

    def is_empty(self):
        """Whether nothing is in the folder but what a run left that was killed as it began."""
        if not self.folder.exists():
            return True
        return all(files.is_unfinished(p) or p.name == ".lock" for p in self.folder.iterdir())

    def states(self):
        """The saved states that there are, the newest first."""
        return [p for p in (self.state_file, self.previous_state_file) if p.exists()]

    @contextlib.contextmanager
    def alone(self):
        """Context in which this process alone writes into the folder.

        Raises:
            ValueError: another process does.
        """
        with only_one(self.folder) as self._lock:
            own = [path.name for name, path in vars(self).items() if name.endswith("_file")]
            files.remove_unfinished(self.folder, own)
            self._description = self.config_file.read_bytes()
            yield

    def ensure(self):
        """Make the folder again where someone has deleted it while `alone` goes on; say so.

        Raises:
            ValueError: another run is there by now.
        """
        if self._description is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock.take()
        if self.config_file.exists():
            if self.config_file.read_bytes() != self._description:
                raise ValueError(
                    f"{self.folder} was deleted while it was trained in, and holds another run by "
                    "now: nothing more is written there, and this training ends."
                )
            return
        with files.replacing(self.config_file) as beside:
            beside.write_bytes(self._description)
        print(
            f"mixer_tf: {self.folder} was deleted while it was trained in, and is made again; "
            "what was saved in it before is gone.",
            file=sys.stderr,
        )

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
        return run_config.read(self.config_file)

    def model(self, which="best"):
        """The trained model, in float32: its best weights on validation data, or its `"last"`."""
        file = {"best": self.best_file, "last": self.last_file}[which]
        if not file.exists():
            raise ValueError(f"{self.folder} has no {file.name} yet: no epoch has ended.")
        from mixer_tf import stack
        from mixer_tf.storage import h5  # a run can be described without them

        with stack.policy("float32"):  # whatever this process trained in before
            model = self.config().build()
        h5.load_weights(model, file)
        return model

    def result(self):
        """What `result.json` says (ValueError where the run has not ended, or it is damaged)."""
        if not self.result_file.exists():
            raise ValueError(f"{self.folder} has no result.json: the run has not ended.")
        result = files.read_json(self.result_file)
        if not isinstance(result, dict):
            raise ValueError(f"{self.result_file} is damaged: it holds no table of results.")
        for name in _PROMISED:
            if not isinstance(result.get(name), (int, float)):
                raise ValueError(f"{self.result_file} is damaged: {name} is no number in it.")
        for name in ("model", "data", "device"):
            if not isinstance(result.get(name), str):
                raise ValueError(f"{self.result_file} is damaged: {name} is no text in it.")
        return result

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
        try:
            with open(self.history_file, newline="") as file:
                rows = list(csv.DictReader(file))
            if missing := [name for name in _COLUMNS if name not in rows[0]]:
                raise ValueError(f"it has no column {', '.join(missing)}")
            return {name: [float(row[name] or "nan") for row in rows] for name in rows[0]}
        except (csv.Error, IndexError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{self.history_file} is damaged ({error}).") from error
