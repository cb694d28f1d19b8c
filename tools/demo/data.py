"""From samples to token ids: the chat template, the loss mask, the mixture, the held-out hashes."""
import hashlib
import json
import os
import random

import jinja2
from tokenizers import Tokenizer

from skills import arithmetic, chat, choice, docs, language, long, tools, util, weighted

# Share of the samples (not of the tokens), from a count of tokens on, and how a sample's targets weigh: each 1 / n ** power for
# n targets. The first phase is short on copying, which the model takes long to find; the second has more of it, and of what
# needs it (tools, lookups). The third is for what answers in a few tokens, which long reasoning drowns when every target weighs
# the same: sums without thinking, four-way choice, names of tools never seen. In the fourth, reasoning about a choice goes
# through the options.
PHASES = [
    (0, 0, [(0.46, arithmetic.make), (0.05, tools.make), (0.11, docs.make), (0.14, choice.make), (0.09, util.make),
            (0.06, util.make_copy), (0.025, chat.make), (0.03, chat.make_turns), (0.03, language.make), (0.006, long.make),
            (0.005, docs.make_text)]),
    (2_000_000, 0, [(0.36, arithmetic.make), (0.07, tools.make), (0.09, docs.make), (0.14, choice.make), (0.10, util.make),
                    (0.16, util.make_copy), (0.02, chat.make), (0.04, chat.make_turns), (0.03, language.make),
                    (0.008, long.make), (0.004, docs.make_text)]),
    (10_668_166, 0.4, [(0.12, arithmetic.make), (0.33, arithmetic.make_direct), (0.045, tools.make_wide), (0.08, docs.make),
                       (0.24, choice.make_more), (0.05, util.make), (0.05, util.make_copy), (0.02, chat.make),
                       (0.03, chat.make_turns), (0.03, language.make), (0.003, long.make), (0.003, docs.make_text)]),
    (24_250_000, 0.4, [(0.11, arithmetic.make), (0.25, arithmetic.make_direct), (0.055, tools.make_wide), (0.11, docs.make),
                       (0.28, choice.make_scanning), (0.06, util.make), (0.04, util.make_copy), (0.03, chat.make),
                       (0.03, chat.make_turns), (0.03, language.make), (0.003, long.make), (0.003, docs.make_text)]),
]


def phase(drawn):
    """(power, shares) of the phase that a count of tokens belongs to."""
    return [row[1:] for row in PHASES if row[0] <= drawn][-1]


class Renderer:
    """Renders samples with the model directory's own tokenizer and template."""

    def __init__(self, directory):
        self.tokenizer = Tokenizer.from_file(os.path.join(directory, "tokenizer.json"))
        with open(os.path.join(directory, "tokenizer_config.json"), encoding="utf-8") as file:
            template = json.load(file)["chat_template"]
        env = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
        env.filters["tojson"] = lambda x: json.dumps(x, ensure_ascii=False)
        self.template = env.from_string(template)
        ids = {name: self.tokenizer.token_to_id(name) for name in
               ("<｜Assistant｜>", "<think>", "</think>", "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>")}
        self.assistant, self.think, self.unthink, self.output, self.output_end = ids.values()
        self.bos, self.eos = 0, 1
        self.size = self.tokenizer.get_vocab_size(with_added_tokens=True)

    def encode(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids):
        return self.tokenizer.decode(ids, skip_special_tokens=False)

    def text(self, messages, tools=None, thinking=False, prompt=True):
        return self.template.render(messages=messages, tools=tools, thinking=thinking, add_generation_prompt=prompt,
                                    bos_token="<｜begin▁of▁sentence｜>")

    def prompt(self, s):
        """The ids up to where the last answer starts."""
        return self.encode(self.text(s["messages"][:-1], s["tools"], s["think"] is not None))

    def train(self, s):
        """ids and, for each, whether it is a target (something that the model has to write)."""
        if "text" in s:
            ids = [self.bos] + self.encode(s["text"]) + [self.eos]
            return ids, [False] + [True] * (len(ids) - 1)
        if s["think"] is None:
            ids = self.encode(self.text(s["messages"], s["tools"], prompt=False))
        else:
            answer = s["think"] + "</think>" + s["messages"][-1]["content"] + "<｜end▁of▁sentence｜>"
            ids = self.encode(self.text(s["messages"][:-1], s["tools"], True) + answer)
        mask, on = [], False
        for i, t in enumerate(ids):
            if on and i and ids[i - 1] == self.output_end and t == self.output:
                on = False
            mask.append(on)
            if t == self.output_end or (t in (self.think, self.unthink) and ids[i - 1] == self.assistant):
                on = True
            elif t == self.eos:
                on = False
        return ids, mask


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def marks(s):
    """What must not be shared between training and the held-out set: what is asked, and the last question's text."""
    key = s["key"].replace("arithmetic_think:", "arithmetic:")
    out = {digest(key)}
    if "messages" in s:
        asked = [m["content"] for m in s["messages"] if m["role"] == "user"]
        if s["skill"] not in ("multi_turn", "tool_none", "tool_output"):
            out.add(digest("question:" + asked[-1]))
    return out


def held_out(folder):
    """The hashes of all held-out samples in a folder of JSON lines."""
    out = set()
    for name in sorted(os.listdir(folder)):
        if name.endswith(".jsonl"):
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                for line in file:
                    out.update(json.loads(line)["hashes"])
    return out


def batch(renderer, seed, step, drawn, tokens, refused, longest=4096):
    """The documents of one step, a function of seed, step and tokens drawn before: [(ids, mask, weight of a target)], at least
    `tokens` ids together."""
    power, shares = phase(drawn)
    rng = random.Random(f"{seed}:{step}")
    docs_, total = [], 0
    while total < tokens:
        s = weighted(rng, shares)(rng)
        if marks(s) & refused:
            continue
        ids, mask = renderer.train(s)
        if len(ids) > longest:
            continue
        docs_.append((ids, mask, sum(mask) ** -power if power else 1.0))
        total += len(ids)
    return docs_
