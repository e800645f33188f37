"""What goes wrong with a model that the user can mend."""


class ModelError(Exception):
    """One line: what happened, the value, and what to do."""


class ForeignModelError(ModelError):
    """A model that our decoder does not compute; transformers may."""
