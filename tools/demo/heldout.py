#!/usr/bin/env python3
"""Writes the held-out set: models/demo/eval/<skill>.jsonl.

A line has the request (messages, tools, thinking), the expected answer, how to judge it (check) and the hashes by which
training refuses the same question. Phrases, words and tool names marked as reserved in the generators occur only here.
"""
import argparse
import json
import os
import random

from data import marks
from skills import arithmetic, chat, choice, docs, language, long, tools, util

SETS = {
    "arithmetic": (120, lambda r: arithmetic.make(r, True, False)),
    "tool_seen": (80, lambda r: tools.seen(r, True)),
    "tool_unseen": (80, lambda r: tools.unseen(r, True)),
    "tool_several": (40, lambda r: tools.several(r, True)),
    "tool_output": (40, lambda r: tools.from_output(r, True)),
    "tool_none": (20, lambda r: tools.no_call(r, True)),
    "docs": (120, lambda r: docs.make(r, True)),
    "choice": (120, lambda r: choice.make(r, True)),
    "text": (100, lambda r: util.make(r, True)),
    "chat": (60, lambda r: chat.make(r, True)),
    "multi_turn": (60, lambda r: chat.make_turns(r, True)),
    "language": (60, lambda r: language.make(r, True)),
    "chinese": (10, lambda r: language.make_chinese(r, True)),
    "long": (20, lambda r: long.make(r, True)),
}


def line(s, number, thinking, name):
    last = s["messages"][-1]
    expected = last["content"] if "tool_calls" not in last else \
        [[c["function"]["name"], c["function"]["arguments"]] for c in last["tool_calls"]]
    return {"id": f"{name}-{number}", "skill": name, "messages": s["messages"][:-1], "tools": s["tools"],
            "thinking": thinking, "expected": expected, "check": s["check"], "hashes": sorted(marks(s))}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", help="folder for the JSON lines")
    parser.add_argument("--seed", type=int, default=20)
    args = parser.parse_args()
    os.makedirs(args.output, exist_ok=True)
    for name, (count, make) in SETS.items():
        rng = random.Random(f"held out {args.seed} {name}")
        seen, lines, tries = set(), [], 0
        while len(lines) < count and tries < 50 * count:
            tries += 1
            s = make(rng)
            if seen & marks(s):
                continue
            seen |= marks(s)
            lines.append((s, len(lines)))
        for file_name, thinking in [(name, False)] + ([(f"{name}_think", True)] if name in ("arithmetic", "choice") else []):
            with open(os.path.join(args.output, file_name + ".jsonl"), "w", encoding="utf-8") as file:
                for s, number in lines:
                    file.write(json.dumps(line(s, number, thinking, file_name), ensure_ascii=False) + "\n")
        print(f"{name}: {len(lines)}")


if __name__ == "__main__":
    main()
