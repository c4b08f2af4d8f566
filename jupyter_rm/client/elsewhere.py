"""Services that are no tasks, as ``jrm services`` and ``%jrm services`` read them. Read next: :mod:`.services`."""

from __future__ import annotations

import argparse


def add_words(parser: argparse.ArgumentParser) -> None:
    """Give a parser the words that say where services are."""
    text = "db=host:5432; db= takes it back"
    parser.add_argument("elsewhere", nargs="*", type=_elsewhere, metavar="NAME=HOST:PORT", help=text)


def _elsewhere(text: str) -> tuple[str, str]:
    name, sign, endpoint = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=HOST:PORT")
    return name, endpoint
