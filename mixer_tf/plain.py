"""Numbers of a dataclass as Python's own: JSON knows none of numpy's."""

import dataclasses
import math
import numbers

_KINDS = {
    int: (numbers.Integral, "a whole number"),
    float: (numbers.Real, "a finite number"),
}


def make_plain(config):
    """Turn the numbers of a frozen dataclass into Python's own, where it was just made.

    Args:
        config: the dataclass; fields that are no `int` or `float` are left as they are.

    Raises:
        ValueError: a value is no number, or no whole one where that is needed, or not finite.
    """
    for field in dataclasses.fields(config):
        if field.type not in _KINDS:
            continue
        value, (wide, words) = getattr(config, field.name), _KINDS[field.type]
        number = isinstance(value, wide) and not isinstance(value, bool)
        if not number or (field.type is float and not math.isfinite(value)):
            raise ValueError(f"{field.name} is {value!r}; give {words}.")
        object.__setattr__(config, field.name, field.type(value))
