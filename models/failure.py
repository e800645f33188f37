"""What goes wrong with a model that the user can mend, and errors of others in a line."""

LONGEST_REASON = 200  # characters of what another program says of its fault


class ModelError(Exception):
    """One line: what happened, the value, and what to do."""


def one_line(error: BaseException) -> str:
    """What kind of error it is, and the first line of what it says."""
    return f"{type(error).__name__}: {first_line(str(error))}"


def first_line(text: str) -> str:
    """Of what may be long."""
    return (text.strip().splitlines() or [""])[0][:LONGEST_REASON]


class ForeignModelError(ModelError):
    """A model that our decoder does not compute; transformers may."""
