"""Errors that a person can mend, and any error in one line."""


class UserError(Exception):
    """An error that a person can mend; its text says what is wrong, where, and what to do."""


def one_line(error: BaseException | str, limit: int = 300) -> str:
    """The text of an error in one line.

    Args:
        error: The error, or its text.
        limit: Most characters; a longer text ends in "...", between two words.

    Returns:
        The text without line breaks; the name of the error's class if it has no text.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 3].rpartition(" ")[0] + "..."
