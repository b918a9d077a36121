"""Command line: a table of commands whose modules load on use."""

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from . import stages
from .errors import closest
from .paths import NAME

EXIT_CODES = "Exit codes: 0 done, 1 an error that the message names, 2 a wrong command line, 130 interrupted."


class _File(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.4
    """A path, relative to the folder in which the command was typed."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path relative to the project's root, the working directory."""
        typed_in = ctx.find_object(Path) if ctx else None
        path = Path(os.path.abspath((typed_in or Path.cwd()) / value))
        return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


FILE = _File()


class _Table(click.Group):
    """A click group that loads the modules of its commands on use."""

    def __init__(self, table: Mapping[str, tuple[str, str]]) -> None:
        super().__init__(epilog=EXIT_CODES)
        # Modules may be absent: those of a larger `scope`, and in a Bento.
        package = Path(__file__).parents[2]
        self._table = {n: row for n, row in table.items() if (package / f"{row[0].replace('.', '/')}.py").exists()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands, in the order of the table."""
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, from its module."""
        if cmd_name not in self._table:
            close = closest(cmd_name, self._table)
            ctx.fail(f"there is no command {cmd_name!r}" + (f"; did you mean {close!r}?" if close else ""))
        command: click.Command = importlib.import_module(f"{NAME}.{self._table[cmd_name][0]}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list of commands, without loading their modules."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_) for name, (_, help_) in self._table.items()])


def run(table: Mapping[str, tuple[str, str]]) -> None:
    """Runs the command that the command line names, in the project's root.

    Args:
        table: Name of a command -> its module below the package, and its help in one line.

    Raises:
        SystemExit: With an exit code as in `EXIT_CODES`.
    """
    typed_in = Path.cwd()

    def main() -> None:
        commands = _Table(table)
        # Not `commands.main()`, which ends with 1 if the reader of standard output has ended (`| head`).
        try:
            with commands.make_context(f"python -m {NAME}", sys.argv[1:], obj=typed_in) as context:
                commands.invoke(context)
        except click.exceptions.Exit as end:
            raise SystemExit(end.exit_code) from None
        except click.ClickException as error:
            error.show()
            raise SystemExit(error.exit_code) from None

    stages.run(main)
