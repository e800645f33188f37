"""What goes wrong with a model that the user can mend, and errors of others in a line."""

LONGEST_REASON = 200  # characters of what another program says of its fault


class ModelError(Exception):
    """One line: what happened, the value, and what to do."""


def one_line(error: BaseException) -> str:
    """What kind of error it is, and what it says."""
    return f"{type(error).__name__}: {in_one_line(str(error))}"


def in_one_line(text: str) -> str:
    """What may be long and of many lines, cut off."""
    return " ".join(text.split())[:LONGEST_REASON]


class ForeignModelError(ModelError):
    """A model that our decoder does not compute; transformers may."""
