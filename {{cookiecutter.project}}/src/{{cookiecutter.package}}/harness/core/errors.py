"""Errors that a user can fix, and one-line messages."""

import difflib
from collections.abc import Iterable, Sequence

# Errors of reading a file that somebody else may have written: not JSON, other content, lists in lists in lists, 1e999.
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)


class UserError(Exception):
    """An error that a user can fix.

    Its message says what is wrong, in which file, key or row, and what to do.
    """


def one_line(error: BaseException | str, limit: int = 300) -> str:
    """The message of an error in one line.

    Args:
        error: The error, or its message.
        limit: Maximum number of characters; a longer message is cut between two words, if it has several,
            and ends in "...".

    Returns:
        The message without line breaks, or the name of the error's class if the message is empty.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    if len(text) <= limit:
        return text
    cut = text[: limit - 3]
    return (cut.rpartition(" ")[0] or cut) + "..."


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word closest to a misspelled word, if any is similar.

    Args:
        word: The misspelled word.
        known: The known words.
    """
    return next(iter(difflib.get_close_matches(word, list(known), n=1)), None)


def choice(word: str, known: Sequence[str]) -> str:
    """What to write instead of an unknown word, in words.

    Args:
        word: The unknown word.
        known: The known words.
    """
    similar = closest(word, known)
    return f"did you mean {similar!r}?" if similar else f"choose from {shortened(known)}"


def shortened(texts: Sequence[str], count: int = 10, separator: str = ", ") -> str:
    """The first texts of many, and the number of the others.

    Args:
        texts: The texts.
        count: Maximum number of texts to show.
        separator: Characters between two texts.
    """
    more = f" and {len(texts) - count:,} more" if len(texts) > count else ""
    return separator.join(texts[:count]) + more
