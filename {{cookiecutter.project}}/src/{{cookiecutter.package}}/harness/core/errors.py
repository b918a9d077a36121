"""Errors that a person can fix, and any error in one line."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """An error that a person can fix; its text says what is wrong, where, and what to do."""


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


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is most like another, if one is like it at all.

    Args:
        word: The word to compare.
        known: The words to choose from.
    """
    return next(iter(difflib.get_close_matches(word, list(known), n=1)), None)
