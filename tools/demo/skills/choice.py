"""Multiple choice with four options."""
from . import assistant, sample, user
from .docs import ALL, split
from .words import (ANIMALS, CAPITALS, CHINESE, COLORS, DAYS, FRUITS, MONTHS, NAMES, OPPOSITES, PAST, PLURALS, TOOLS)

GROUPS = {"an animal": ANIMALS, "a color": COLORS, "a fruit": FRUITS, "a tool": TOOLS, "a day": DAYS, "a month": MONTHS}
ENDS = ["Answer with the letter only.", "Answer with one letter.", "Answer:", "Which is right?", "", "Give the letter.",
        "Choose A, B, C or D."]
FORMS = ["{l}. {o}", "{l}. {o}", "{l}) {o}", "{l}: {o}"]


def from_table(rng):
    table, text = rng.choice([
        (CAPITALS, "What is the capital of {k}?"), (OPPOSITES, "What is the opposite of {k}?"),
        (PLURALS, "What is the plural of {k}?"), (PAST, "What is the past tense of {k}?"),
        (CHINESE, "What is {k} in Chinese?"), ({v: k for k, v in CHINESE.items()}, "What does {k} mean?")])
    k = rng.choice(list(table))
    others = [v for v in dict.fromkeys(table.values()) if v != table[k]]
    return text.format(k=k), table[k], rng.sample(others, 3)


def arithmetic(rng):
    a, b = rng.randint(2, 50), rng.randint(2, 50)
    op = rng.choice("+-*") if a < 13 and b < 13 else rng.choice("+-")
    v = {"+": a + b, "-": a - b, "*": a * b}[op]
    return f"What is {a} {op} {b}?", str(v), [str(v + d) for d in rng.sample([-10, -3, -2, -1, 1, 2, 3, 10, 20], 3)]


def member(rng):
    kind = rng.choice(list(GROUPS))
    right = rng.choice(GROUPS[kind])
    others = [g for g in GROUPS if g != kind]
    wrong = [rng.choice([x for x in GROUPS[g] if x != right]) for g in rng.sample(others, 3)]
    return f"Which of these is {kind}?", right, wrong


def odd(rng):
    kind, other = rng.sample(list(GROUPS), 2)
    right = rng.choice([x for x in GROUPS[other] if x not in GROUPS[kind]])
    return f"Which of these is not {kind}?", right, rng.sample([x for x in GROUPS[kind] if x != right], 3)


def largest(rng):
    items = rng.sample(range(1, rng.choice([50, 99, 999])), 4)
    big = rng.random() < 0.5
    right = max(items) if big else min(items)
    items.remove(right)
    return f"Which number is the {'largest' if big else 'smallest'}?", str(right), [str(i) for i in items]


def same(rng):
    names = rng.sample(NAMES, 4)
    return f"Which name is {names[0]}?", names[0], names[1:]


def fathom(rng, held):
    questions, answer, _, i = rng.choice(ALL)
    wrong = rng.sample([a for _, a, _, j in ALL if j != i and str(j)[:5] == str(i)[:5] and a != answer] or
                       [a for _, a, _, j in ALL if j != i], 3) if str(i)[:5] in ("comma", "which") else \
        rng.sample([a for _, a, _, j in ALL if isinstance(j, int) and j != i], 3)
    return rng.choice(split(questions, held)[:4]), answer, wrong


KINDS = [from_table, from_table, from_table, arithmetic, member, member, odd, largest, largest, same, fathom]


def lettered(question, options, form, end):
    return question + "\n" + "\n".join(form.format(l=x, o=o) for x, o in zip("ABCD", options)) + ("\n" + end if end else "")


def scan(right, options):
    """Reasoning that goes through the options until it finds the right one."""
    lines = [f"{x} {o} no" for x, o in zip("ABCD", options)][:options.index(right)]
    letter = "ABCD"[options.index(right)]
    return "\n".join([right, *lines, f"{letter} {right} yes", letter])


def make(rng, held=False, thinking=0.2, scanning=False):
    kind = rng.choice(KINDS)
    question, right, wrong = kind(rng, held) if kind is fathom else kind(rng)
    options = wrong + [right]
    rng.shuffle(options)
    letter = "ABCD"[options.index(right)]
    form, end = rng.choice(FORMS), rng.choice(ENDS)
    text = lettered(question, options, form, end)
    short = end != "" and end != "Which is right?"
    answer = letter if short else f"{letter}. {right}"
    key = question + "|".join(sorted(options))
    think = f"The answer is {right}. That is option {letter}." if rng.random() < thinking and not held else None
    if think and scanning:
        think = scan(right, options)
    return sample("choice", [user(text), assistant(answer)], key, {"type": "letter", "letter": letter}, think)


def label(rng):
    """The letter of an option, or the option of a letter: what choosing needs beside knowing."""
    options = rng.sample([*ANIMALS, *COLORS, *FRUITS, *TOOLS, *DAYS, *MONTHS, *NAMES, *CAPITALS.values(),
                          *(str(rng.randint(1, 999)) for _ in range(40))], 4)
    i = rng.randrange(4)
    if rng.random() < 0.25:
        question, answer = rng.choice(["What is option {l}?", "Read option {l}.", "Which word has the letter {l}?"]), options[i]
    else:
        question = rng.choice(["Which option is {o}?", "Which letter has {o}?", "Which letter stands before {o}?", "Find {o}."])
        answer = "ABCD"[i]
    question = question.format(l="ABCD"[i], o=options[i])
    text = lettered(question, options, rng.choice(FORMS), rng.choice(ENDS) if len(answer) == 1 else "")
    return sample("choice", [user(text), assistant(answer)], question + "|".join(options))


def make_more(rng, held=False):
    """Questions and, between them, their labels alone."""
    return label(rng) if not held and rng.random() < 0.3 else make(rng, held, 0.25)


def make_scanning(rng, held=False):
    """The same, with more reasoning, which goes through the options."""
    return label(rng) if not held and rng.random() < 0.25 else make(rng, held, 0.6, True)
