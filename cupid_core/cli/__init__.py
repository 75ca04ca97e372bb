"""Command line: find the command, parse its words, call it. Commands are imported when they are used."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from io import TextIOWrapper

from cupid_core.cli import process_clock
from cupid_core.cli.other_packages import announced_commands
from cupid_core.errors import ConfigError, CupidError

# Name -> (module:function, one line for `cupid --help`). A name may have two words.
COMMANDS: Mapping[str, tuple[str, str]] = {
    "reconstruct": ("cupid_core.cli.reconstruct:reconstruct", "objects of an image: meshes, poses, a report"),
    "demo": ("cupid_core.cli.demo:demo", "reconstruct a generated frame, compare with its truth"),
    "doctor": ("cupid_core.cli.doctor:doctor", "is this machine ready, and what is missing"),
    "config describe": ("cupid_core.cli.config:describe", "list every setting with its meaning"),
    "config write": ("cupid_core.cli.config:write", "write a commented settings file"),
    "config check": ("cupid_core.cli.config:check", "check a settings file"),
    "checkpoint list": ("cupid_core.cli.checkpoint:show", "checkpoints inside this package"),
    "checkpoint pull": ("cupid_core.cli.checkpoint:pull", "fetch a checkpoint from the Hugging Face hub"),
    "checkpoint verify": ("cupid_core.cli.checkpoint:verify", "check a checkpoint file by file"),
    "checkpoint export": ("cupid_core.cli.checkpoint_training:export", "make a checkpoint of a training"),
    "checkpoint unpack": ("cupid_core.cli.checkpoint_training:unpack", "start a training from a checkpoint"),
    "export": ("cupid_core.cli.compile:export", "networks as ONNX files, faster on a CPU"),
    "build": ("cupid_core.cli.compile:build", "networks as TensorRT engines"),
    "data prepare": ("cupid_core.cli.data:prepare", "make a data set from meshes"),
    "train": ("cupid_core.cli.train:train_command", "train one stage of the networks"),
    "evaluate": ("cupid_core.cli.evaluate:evaluate", "measure a checkpoint on generated objects"),
    "calibrate": ("cupid_core.cli.calibrate:calibrate", "measure how certain the results of a checkpoint are"),
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
    process_clock.started.set(time.monotonic())
    _replace_what_cannot_be_encoded()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _run(words)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read the output has read enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except CupidError as error:
        _print_error(f"error [{error.code}]: {error}")
        return BAD_INPUT
    except KeyboardInterrupt:
        _print_error("stopped")
        return STOPPED


def _run(words: list[str]) -> int:
    """Find the command that the words begin with, and call it with the others."""
    if words == ["--version"]:
        from cupid_core import __version__  # reads the metadata of the installed package

        print(f"cupid {__version__}")
        return 0
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return 0 if words else BAD_INPUT
    for count in (2, 1):
        name = " ".join(words[:count])
        if name in COMMANDS:
            module, _, function = COMMANDS[name][0].partition(":")
            return _call(name, getattr(importlib.import_module(module), function), words[count:])
    name, *rest = words
    group = {key: text for key, (_, text) in COMMANDS.items() if key.startswith(f"{name} ")}
    if group and rest in ([], ["-h"], ["--help"]):
        print(f"usage: cupid {name} COMMAND [OPTIONS]\n\n{_table(group)}")
        return 0 if rest else BAD_INPUT
    announced = {} if group else announced_commands()
    if name in announced:
        try:
            command = announced[name].load()
        except (ImportError, AttributeError) as error:
            problem = f"`cupid {name}` cannot be loaded: {error}."
            raise ConfigError(problem, hint="Install its package again.") from error
        return _call(name, command, rest)
    asked = " ".join(words[:2]) if group else name
    nearest = difflib.get_close_matches(asked, [*(group or COMMANDS), *announced], n=1)
    hint = f"Did you mean '{nearest[0]}'? " if nearest else ""
    raise ConfigError(f"There is no command '{asked}'.", hint=f"{hint}`cupid --help` lists all.")


def _call(name: str, command: Callable[..., int], words: list[str]) -> int:
    import tyro  # not needed for the list of commands, which should come at once

    return int(tyro.cli(command, prog=f"cupid {name}", args=words))


def _overview() -> str:
    own = {name: text for name, (_, text) in COMMANDS.items()}
    announced = announced_commands().items()
    others = {
        name: f"of the package {entry.dist.name}" for name, entry in announced if entry.dist and name not in own
    }
    return (
        "usage: cupid COMMAND [OPTIONS]\n\n"
        "Objects and their poses from one image.\n\n"
        f"{_table(own | others)}\n\n"
        "`cupid COMMAND --help` describes a command, `cupid --version` is the version."
    )


def _table(commands: Mapping[str, str]) -> str:
    width = max(map(len, commands))
    return "\n".join(f"  {name:<{width}}  {text}" for name, text in commands.items())


def _replace_what_cannot_be_encoded() -> None:
    """A console that is not UTF-8 shows ? for what it has no character for, instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def _print_error(text: str) -> None:
    from rich.console import Console

    Console(stderr=True).print(text, style="red", markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
