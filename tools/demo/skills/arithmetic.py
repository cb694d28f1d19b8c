"""Addition, subtraction, multiplication and word problems; in thinking mode worked out digit by digit."""
from . import assistant, sample, user, weighted
from .words import CITIES, NAMES, OBJECTS

PHRASES = {
    "+": ["What is {a} + {b}?", "{a} + {b}", "{a}+{b}=?", "Calculate {a} + {b}.", "How much is {a} plus {b}?",
          "Add {a} and {b}.", "What is the sum of {a} and {b}?", "Please add {b} to {a}.", "{a} plus {b}?",
          "Work out {a}+{b}", "Can you tell me what {a} + {b} is?", "{a} + {b} =", "{a}加{b}等于多少？",
          "What do you get if you add {a} and {b}?", "Find {a} + {b}.", "Compute {a} plus {b}."],
    "-": ["What is {a} - {b}?", "{a} - {b}", "{a}-{b}=?", "Calculate {a} - {b}.", "How much is {a} minus {b}?",
          "Subtract {b} from {a}.", "What is {a} minus {b}?", "Take {b} away from {a}.", "{a} minus {b}?",
          "Work out {a}-{b}", "Can you tell me what {a} - {b} is?", "{a} - {b} =", "{a}减{b}等于多少？",
          "What is left if you take {b} from {a}?", "Find {a} - {b}.", "Compute {a} minus {b}."],
    "*": ["What is {a} * {b}?", "{a} * {b}", "{a}*{b}=?", "Calculate {a} * {b}.", "How much is {a} times {b}?",
          "Multiply {a} by {b}.", "What is {a} times {b}?", "What is the product of {a} and {b}?", "{a} times {b}?",
          "Work out {a}*{b}", "Can you tell me what {a} * {b} is?", "{a} * {b} =", "{a}乘{b}等于多少？",
          "What do you get if you multiply {a} and {b}?", "Find {a} * {b}.", "Compute {a} times {b}."],
}


def add_steps(a, b):
    x, y, carry, lines = str(a)[::-1], str(b)[::-1], 0, []
    n = max(len(x), len(y))
    for i in range(n):
        p, q = int(x[i]) if i < len(x) else 0, int(y[i]) if i < len(y) else 0
        total = p + q + carry
        line = f"{p}+{q}" + (f"+{carry}" if carry else "") + f"={total}"
        carry = total // 10
        if i == n - 1:
            line += f" write {total}"
        else:
            line += f" write {total % 10}" + (f" carry {carry}" if carry else "")
        lines.append(line)
    return lines


def sub_steps(a, b):
    """a >= b"""
    x, y, borrow, lines = str(a)[::-1], str(b)[::-1], 0, []
    for i in range(len(x)):
        p, q = int(x[i]), int(y[i]) if i < len(y) else 0
        short = p - borrow < q
        top = p + 10 if short else p
        digit = top - borrow - q
        lines.append(f"{top}-{q}" + (f"-{borrow}" if borrow else "") + f"={digit} write {digit}" +
                     (" borrow 1" if short else ""))
        borrow = int(short)
    return lines


def times_digit(a, d):
    x, carry, lines = str(a)[::-1], 0, []
    for i, c in enumerate(x):
        total = int(c) * d + carry
        line = f"{c}*{d}" + (f"+{carry}" if carry else "") + f"={total}"
        carry = total // 10
        if i == len(x) - 1:
            line += f" write {total}"
        else:
            line += f" write {total % 10}" + (f" carry {carry}" if carry else "")
        lines.append(line)
    return lines


def mul_steps(a, b):
    if b < 10:
        return times_digit(a, b)
    if a < 10:
        return [f"{a}*{b}={b}*{a}"] + times_digit(b, a)
    lines, parts = [], []
    for power, c in reversed(list(enumerate(reversed(str(b))))):
        d = int(c)
        if not d:
            continue
        lines += [f"{a}*{d}:"] + times_digit(a, d) + [f"{a}*{d}={a * d}"]
        parts.append(a * d * 10 ** power)
    total = parts[0]
    for p in parts[1:]:
        lines += [f"{total}+{p}:"] + add_steps(total, p)
        total += p
    return lines


def work(op, a, b):
    """The reasoning for a op b, ending with the result."""
    lines = [f"{a} {op} {b}"]
    if op == "+":
        value = a + b
        lines += add_steps(a, b)
    elif op == "-":
        value = a - b
        if value < 0:
            lines += [f"{a} is less than {b}", f"{b} - {a}"] + sub_steps(b, a) + [f"{b} - {a} = {-value}"]
        else:
            lines += sub_steps(a, b)
    else:
        value = a * b
        lines += mul_steps(a, b)
    return "\n".join(lines + [f"{a} {op} {b} = {value}"])


def number(rng, digits):
    return rng.randint(0 if digits == 1 else 10 ** (digits - 1), 10 ** digits - 1)


def operands(rng, op, think):
    if op in "+-":
        n = weighted(rng, [(1, 1), (3, 2), (5, 3), (2 if think else 0, 4)])
        m = n if rng.random() < 0.6 else rng.randint(1, n)
        a, b = number(rng, n), number(rng, m)
        if op == "+" and rng.random() < 0.5:
            a, b = b, a
        if op == "-" and a < b and rng.random() < 0.8:
            a, b = b, a
        return a, b
    n, m = weighted(rng, [(3, (1, 1)), (4, (2, 1)), (1.5, (1, 2)), (2 if think else 0, (3, 1)), (2 if think else 0, (2, 2))])
    return number(rng, n), number(rng, m)


def plain(rng, held, think):
    op = weighted(rng, [(4, "+"), (3.5, "-"), (3, "*")])
    a, b = operands(rng, op, think)
    if held:
        while max(a, b) < 10:
            a, b = operands(rng, op, think)
    phrases = PHRASES[op]
    question = rng.choice(phrases[:-2]).format(a=a, b=b) if not held else rng.choice(phrases).format(a=a, b=b)
    value = {"+": a + b, "-": a - b, "*": a * b}[op]
    lo, hi = sorted((a, b)) if op != "-" else (a, b)
    return question, work(op, a, b), f"{a} {op} {b} = {value}", value, f"{lo}{op}{hi}"


# Story templates: text, the operation, the answer. Letters: n, m names; o things; c a city; x, y, z numbers.
STORIES = [
    ("{n} has {x} {o} and buys {y} more. How many {o} does {n} have now?", "+", "{n} has {v} {o} now."),
    ("{n} has {x} {o} and {m} has {y} {o}. How many {o} do they have together?", "+", "Together they have {v} {o}."),
    ("{n} had {x} {o} and gave {y} of them to {m}. How many {o} are left?", "-", "{n} has {v} {o} left."),
    ("There are {x} {o} in a box. {n} takes {y} out. How many {o} remain?", "-", "{v} {o} remain."),
    ("{n} has {x} boxes with {y} {o} in each. How many {o} are there in all?", "*", "There are {v} {o} in all."),
    ("One ticket to {c} costs {y} dollars. How much do {x} tickets cost?", "*", "They cost {v} dollars."),
    ("{n} reads {x} pages on Monday and {y} pages on Tuesday. How many pages is that?", "+", "That is {v} pages."),
    ("{n} is {x} years old and {m} is {y} years older. How old is {m}?", "+", "{m} is {v} years old."),
    ("A train to {c} has {x} seats and {y} are taken. How many seats are free?", "-", "{v} seats are free."),
    ("{n} walks {y} km every day. How many km does {n} walk in {x} days?", "*", "{n} walks {v} km."),
    ("{n} had {x} dollars and spent {y}. How much money is left?", "-", "{v} dollars are left."),
    ("A shop sold {x} {o} in the morning and {y} in the afternoon. How many {o} did it sell?", "+",
     "It sold {v} {o}."),
    ("{n} plants {x} rows of {y} flowers. How many flowers does {n} plant?", "*", "{n} plants {v} flowers."),
    ("{n} found {x} {o}, lost {y} of them and then found {z} more. How many {o} does {n} have?", "-+",
     "{n} has {v} {o}."),
    ("{n} buys {x} packs of {y} {o} and gets {z} {o} from {m}. How many {o} does {n} have?", "*+", "{n} has {v} {o}."),
    ("In a class of {x} children {y} are ill today. How many children are in class?", "-", "{v} children are in class."),
]


def story(rng, held, think):
    text, op, answer = rng.choice(STORIES)
    n, m = rng.sample(NAMES, 2)
    names = {"n": n, "m": m, "o": rng.choice(OBJECTS), "c": rng.choice(CITIES)}
    if op[0] == "*":
        x, y = rng.randint(2, 12), rng.randint(2, 12)
    else:
        x, y = rng.randint(5, 120), rng.randint(2, 99)
        if op[0] == "-" and x <= y:
            x, y = y + 3, x
    z = rng.randint(2, 30)
    first = {"+": x + y, "-": x - y, "*": x * y}[op[0]]
    thought, value = work(op[0], x, y), first
    if len(op) == 2:
        thought += "\n" + work("+", first, z)
        value += z
    question = text.format(x=x, y=y, z=z, **names)
    return question, thought, answer.format(v=value, **names), value, f"story {op} {x} {y} {z if len(op) == 2 else ''}"


def make(rng, held=False, think=None):
    think = rng.random() < 0.55 if think is None else think
    question, thought, answer, value, key = (story if rng.random() < 0.18 else plain)(rng, held, think)
    return sample("arithmetic_think" if think else "arithmetic", [user(question), assistant(answer)], key,
                  {"type": "number", "value": value}, thought if think else None)


def make_direct(rng, held=False):
    return make(rng, held, False)
