"""YAML that a person has written: what is wrong with it is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..core.errors import UNREADABLE, UserError, one_line


def text(path: Path) -> str:
    """The text of a file that a person has written.

    Args:
        path: The file, which exists.

    Raises:
        UserError: If it is a folder, cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except IsADirectoryError:
        raise UserError(f"{path} is a folder: a file is expected") from None
    except PermissionError:
        raise UserError(f"{path} may not be read by this user: change its permissions") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is no text in UTF-8: save it in this encoding") from None


def content(written: str, origin: str) -> Any:
    """The content of YAML that a person has written: dates stay text, and no key may be repeated.

    Args:
        written: The YAML.
        origin: Where it is from, for messages.

    Raises:
        UserError: If it is not YAML, or a key is repeated: the YAML library would drop the first one.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """Only types of JSON, and each key once."""

        yaml_implicit_resolvers = {  # noqa: RUF012
            start: [each for each in known if each[0] != "tag:yaml.org,2002:timestamp"]
            for start, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

        def compose_mapping_node(self, anchor: Any) -> Any:
            node = super().compose_mapping_node(anchor)
            seen = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in seen:
                    line = key.start_mark.line + 1
                    raise UserError(f"{origin}: {key.value} is there twice, again in line {line}: remove one of them")
                seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
            return node

    try:
        found = yaml.load(written, Loader)  # a safe one
        json.dumps(found)
    except (yaml.YAMLError, *UNREADABLE) as error:
        raise UserError(f"{origin} is not YAML: {one_line(error)}") from None
    return found
