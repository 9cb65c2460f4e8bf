"""The one error that preparing a model raises on purpose."""


class ModelError(Exception):
    """A model could not be prepared or is not what it should be.

    The text is meant for a person and names, where they apply, the four attributes in turn:
    `what` went wrong (with the file), what was `expected`, what was `got` instead, and what
    `todo` about it. An attribute that does not apply is the empty string.
    """

    def __init__(self, what: str, *, expected: str = "", got: str = "", todo: str = "") -> None:
        """Keep the parts as attributes and join them into the text, one part a line."""
        self.what = what
        self.expected = expected
        self.got = got
        self.todo = todo
        labelled = (("expected", expected), ("got", got), ("to do", todo))
        super().__init__("\n".join([what, *(f"  {k}: {v}" for k, v in labelled if v)]))
