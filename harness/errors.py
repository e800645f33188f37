"""The one family of errors that a user can mend."""


class HarnessError(Exception):
    """What happened, the value, and what to do, in one line. The command line prints it and exits with 2."""
