#!/usr/bin/env python3
"""Writes docs/commands.md from the program's own option tables.

    tools/gen_commands.py build/fathom > docs/commands.md
"""
import re
import subprocess
import sys


def text(*args):
    return subprocess.run(args, check=True, capture_output=True, text=True).stdout


def page(program):
    overview = text(program, "--help")
    names = re.findall(r"^  ([a-z][a-z -]*?)  ", overview, re.M)
    out = ["# Commands\n", "From the program's option tables by `tools/gen_commands.py`; a test keeps the two equal.\n",
           "```", overview.rstrip(), "```"]
    for name in names:
        out += ["", f"## fathom {name}\n", "```", text(program, "help", *name.split()).rstrip(), "```"]
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page(sys.argv[1]))
