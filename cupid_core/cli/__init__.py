"""Command line: parse, one core call, print. The only room that prints."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import tyro
from rich.console import Console
from rich.markup import escape

from cupid_core.cli.config import config
from cupid_core.cli.data import data
from cupid_core.cli.demo import demo
from cupid_core.cli.doctor import doctor
from cupid_core.cli.evaluate import evaluate
from cupid_core.cli.other_packages import other_commands
from cupid_core.cli.reconstruct import reconstruct
from cupid_core.cli.train import train_command
from cupid_core.cli.weights import weights
from cupid_core.errors import CupidError

COMMANDS: dict[str, Callable[..., int]] = {
    "reconstruct": reconstruct,
    "demo": demo,
    "doctor": doctor,
    "config": config,
    "weights": weights,
    "data": data,
    "train": train_command,
    "evaluate": evaluate,
}

BAD_INPUT = 2
STOPPED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after `cupid`; None takes them from the command line.

    Returns:
        The exit code: 0 done, 1 done with a problem found, 2 the input cannot be used, 3 nothing reconstructed,
        130 stopped by the user.
    """
    words = sys.argv[1:] if arguments is None else arguments
    commands = {**COMMANDS, **other_commands(words, COMMANDS)}
    parameters: dict[str, Any] = {"prog": "cupid", "description": "Objects and their poses from one image."}
    try:
        return int(tyro.extras.subcommand_cli_from_dict(commands, args=words, **parameters))
    except CupidError as error:
        text = escape(f"error [{error.code}]: {error}")
        Console(stderr=True).print(f"[red]{text}[/red]", highlight=False, soft_wrap=True)
        return BAD_INPUT
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped", highlight=False)
        return STOPPED


if __name__ == "__main__":
    sys.exit(main())
