"""What was met among picture files: how many of which kind, and which could not be used."""

import collections

_SHOWN = 3  # names in the line that is printed; the file names all of them


class Report:
    """Counts and names, gathered while pictures are read.

    Args:
        strict: refuse the first picture that cannot be used, instead of leaving it out.
    """

    def __init__(self, strict=False):
        self.strict = strict
        self.used = 0  # pictures
        self.kinds = collections.Counter()  # of those used: {what was special: how many}
        self.left_out = []  # (name, reason)
        self.remarks = []  # sentences on classes and folders

    def leave_out(self, name, reason):
        """Note a file that is not used (ValueError where that is not wanted)."""
        if self.strict:
            raise ValueError(f"{printable(name)} cannot be read: {reason}.")
        self.left_out.append((printable(name), reason))

    def summary(self):
        """One line on what a person should know, empty where there is nothing."""
        parts = [f"{count:,} {kind}" for kind, count in sorted(self.kinds.items())]
        if self.left_out:
            named = [f"{name} cannot be read: {reason}" for name, reason in self.left_out]
            parts.append(f"{len(named):,} left out ({_some(named)})")
        parts += [_some(self.remarks)] if self.remarks else []
        return f"{self.used:,} pictures used; {'; '.join(parts)}" if parts else ""

    def text(self):
        """Everything, a line each."""
        lines = [f"{self.used} pictures used"]
        lines += [f"{count} {kind}" for kind, count in sorted(self.kinds.items())]
        lines += [f"left out: {name}: {reason}" for name, reason in self.left_out]
        return "\n".join([*lines, *self.remarks]) + "\n"


def _some(words):
    more = len(words) - _SHOWN
    return "; ".join(words[:_SHOWN]) + (f"; and {more:,} more" if more > 0 else "")


def printable(name):
    """A name on one line: what cannot be printed is written as its number."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name
    )
