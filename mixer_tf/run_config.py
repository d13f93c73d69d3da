"""What a run is: all that rebuilds its model and repeats it, as `config.json` keeps it."""

from __future__ import annotations

import dataclasses
import numbers

from mixer_tf import zoo
from mixer_tf.reading.report import printable
from mixer_tf.recipe import Recipe
from mixer_tf.storage import files
from mixer_tf.variants import RELATIVES, MixerConfig, find_mixer
from mixer_tf.version import __version__

FORMAT = 1
_MOST = {"weights": 10**10, "blocks": 1000, "pixels": 10_000, "classes": 100_000}


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """All that rebuilds the model and the run.

    Raises:
        ValueError: seed or `save_every` is no whole number, or below 0; or the activation has
            no name.
    """

    model: str | MixerConfig
    input_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    data: str  # what `load_data` took
    recipe: Recipe
    seed: int
    precision: str
    command: str  # that makes the run again
    pretrained: str = ""  # what the weights began from
    pictures: str = ""  # `Split.fingerprint` of those trained on
    asked_size: tuple[int, int] | None = None  # of pictures, where one was asked for
    trained_in: str = ""  # the precision that "auto" chose, or `precision` itself
    products: str = ""  # of fused blocks, see `runtime.Runtime`; "" where none are fused
    split: tuple[float, int] | None = None  # see `Data.split`
    parts: int = 0  # that fused blocks compute a batch in, see `split_batch`; 0 likewise
    validation: str = ""  # as `pictures`, of those that choose the best epoch
    loaded_size: tuple[int, int] | None = None  # of the pictures, before the model's own size
    save_every: int = 0  # steps after which the state is saved, beside that of each epoch
    name: str = ""  # that the model was asked for by, also where `model` is a config

    def __post_init__(self):
        for name in ("seed", "save_every"):
            value = getattr(self, name)
            if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 0:
                raise ValueError(f"{name} is {value!r}; give a whole number, 0 or more.")
            object.__setattr__(self, name, int(value))  # JSON knows no numpy; so, where frozen
        activation = getattr(self.model, "activation", "")
        if not isinstance(activation, str):
            raise ValueError(
                f"activation is {activation!r}; give its name, which config.json can keep."
            )

    @property
    def num_classes(self):
        """How many classes the head has."""
        return len(self.class_names)

    @property
    def model_name(self):
        """Its name in `MODELS`; `mixer` for one that was asked for by a config."""
        return self.model if isinstance(self.model, str) else self.name or "mixer"

    @property
    def how_split(self):
        """What `load_data` takes to hold out the same validation pictures."""
        fraction, seed = self.split or (0.1, self.seed)
        return {"validation_fraction": fraction, "seed": seed}

    @property
    def read_size(self):
        """The `image_size` by which `load_data` gives the pictures of the run again."""
        return self.loaded_size or self.input_shape[:2]

    def build(self):
        """The model with fresh weights, and with the dropout that its recipe adds to a Mixer."""
        model, mixer = self.model, find_mixer(self.model)
        rate = self.recipe.token_dropout
        if mixer and rate:
            model = dataclasses.replace(mixer, token_dropout=rate)
        return zoo.build(model, self.input_shape, self.num_classes)

    def check(self):
        """Refuse what no run of this suite has, before a model of its size is made.

        Raises:
            ValueError, TypeError: a value is of a wrong kind, or larger than anything real.
        """
        words = (self.data, self.precision, self.command, self.pretrained, self.pictures)
        words += (self.trained_in, self.products, self.validation, self.name)
        words += self.class_names
        if not all(isinstance(word, str) for word in words):
            raise TypeError("a value is of a wrong kind")
        sizes = (*self.input_shape, *(self.asked_size or ()), *(self.loaded_size or ()))
        numbers = (self.seed, self.parts, self.save_every, *sizes)
        if any(type(number) is not int for number in numbers):
            raise TypeError("a number is no whole number")
        if self.split is not None:
            fraction, seed = self.split
            if type(fraction) is not float or type(seed) is not int or not 0 < fraction < 1:
                raise ValueError("split is no share and seed")
            numbers += (seed,)
        if len(self.input_shape) != 3 or any(
            len(size) != 2 for size in (self.asked_size, self.loaded_size) if size
        ):
            raise ValueError("a size has not as many numbers as it should")
        config = find_mixer(self.model)
        if config is None:
            zoo.find(self.model)
        if self.name:
            zoo.find(self.name)  # it is printed, so no word of a stranger's
        large = {"pixels": max(sizes), "classes": self.num_classes}
        if config is not None:
            weights = config.count_weights(self.input_shape, self.num_classes)
            large |= {"blocks": config.num_blocks, "weights": weights}
        elif self.model in RELATIVES:  # their largest part: each token with each other
            relative = RELATIVES[self.model]
            rows, columns = relative.token_grid(self.input_shape)
            large["weights"] = relative.num_blocks * (rows * columns) ** 2
        for name, size in large.items():
            if size > _MOST[name]:
                raise ValueError(f"{size:,} {name}, more than {_MOST[name]:,}")
        if min(*self.input_shape, self.num_classes) < 1 or min(numbers) < 0:
            raise ValueError("a number is too small")
        if self.parts and self.recipe.part_size % self.parts:
            raise ValueError("parts does not divide the batch")


def write(path, config):
    """Keep a `RunConfig` as JSON, with the format and the version that wrote it."""
    head = {"format": FORMAT, "version": __version__}
    files.write_json(path, {**head, **dataclasses.asdict(config)})


def read(path):
    """The `RunConfig` of a file (ValueError where it is damaged or of another format)."""
    values = files.read_json(path)
    if not isinstance(values, dict) or "format" not in values:
        raise ValueError(f"{path} is no description of a run; it says no format.")
    form, version = values.pop("format"), values.pop("version", "an unknown version")
    if form != FORMAT:
        raise ValueError(
            f"{path} is of format {str(form)[:20]}, written by mixer_tf "
            f"{str(version)[:20]}; this is mixer_tf {__version__}, which knows format "
            f"{FORMAT}. Install the version that wrote it."
        )
    try:
        if isinstance(values["model"], dict):
            values["model"] = MixerConfig(**values["model"])
        values["recipe"] = Recipe.from_dict(values["recipe"])
        for name in ("input_shape", "class_names", "asked_size", "split", "loaded_size"):
            if values.get(name) is not None:
                values[name] = tuple(values[name])
        config = RunConfig(**values)
        config.check()
        return config
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:
        reason = printable(str(error))  # it may quote a name from the file
        raise ValueError(f"{path} is incomplete or damaged ({reason}).") from error
