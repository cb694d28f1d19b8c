"""Tool calls in the V3.1 format: a fixed set of tools, invented tools, several calls in a turn, answers from outputs."""
import json

from . import assistant, calls, reserved, sample, system, tool_output, user
from .chat import SELF, SYSTEMS
from .words import CITIES, NAMES, NOUNS, SUBJECTS, a_word, invented, joined

TYPES = {"s": "string", "i": "integer", "n": "number", "b": "boolean"}


def schema(name, description, params, rng=None, described=False):
    """params: list of (name, letter of TYPES or a list of allowed strings, description or None)."""
    properties = {}
    for p, kind, text in params:
        entry = {"type": "string", "enum": kind} if isinstance(kind, list) else {"type": TYPES[kind]}
        if text and described:
            entry["description"] = text
        properties[p] = entry
    return {"type": "function", "function": {"name": name, "description": description, "parameters": {
        "type": "object", "properties": properties, "required": [p[0] for p in params]}}}


def dumps(value):
    return json.dumps(value, ensure_ascii=False)


def place(rng):
    return rng.choice(CITIES) if rng.random() < 0.7 else invented(rng).capitalize()


def expression(rng):
    a, b = rng.randint(2, 9999), rng.randint(2, 999)
    op = rng.choice("+-*/")
    word = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}[op]
    ask = rng.choice([f"{a} {op} {b}", f"{a} {op} {b}", f"{a} {word} {b}"])
    return {"expression": f"{a} {op} {b}"}, ask


def phrase(rng):
    return " ".join(a_word(rng) for _ in range(rng.randint(1, 3)))


def topic(rng):
    return rng.choice([lambda: rng.choice(SUBJECTS), lambda: phrase(rng),
                       lambda: f"{rng.choice(SUBJECTS)} in {place(rng)}"])()


# Tools that the model knows: name -> description, parameters, make(rng) -> (arguments, request), result(rng, arguments) ->
# (output, answer).
def weather(rng):
    c = place(rng)
    return {"city": c}, rng.choice([
        f"What is the weather in {c}?", f"How is the weather in {c} today?", f"weather {c}", f"Is it raining in {c}?",
        f"Will I need an umbrella in {c}?", f"Tell me the weather for {c}.", f"How warm is it in {c}?",
        f"What's the weather like in {c}?", f"Check the weather in {c} please."])


def weather_result(rng, a):
    t, sky = rng.randint(-9, 38), rng.choice(["sunny", "cloudy", "rain", "snow", "windy", "clear"])
    return {"temperature": t, "condition": sky}, f"In {a['city']} it is {t} degrees, {sky}."


def clock(rng):
    c = place(rng)
    return {"city": c}, rng.choice([
        f"What time is it in {c}?", f"What is the time in {c}?", f"time in {c}", f"Tell me the time in {c}.",
        f"How late is it in {c}?", f"Current time in {c}?", f"What does the clock say in {c}?"])


def clock_result(rng, a):
    t = f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}"
    return {"time": t}, f"It is {t} in {a['city']}."


def calculator(rng):
    a, ask = expression(rng)
    return a, rng.choice([f"Use the calculator for {ask}.", f"What is {ask}?", f"Calculate {ask}.", f"Compute {ask} please.",
                          f"How much is {ask}?", f"Please work out {ask} with the calculator."])


def calculator_result(rng, a):
    v = rng.randint(1, 999999)
    return {"result": v}, f"{a['expression']} = {v}"


def search(rng):
    q = topic(rng)
    return {"query": q}, rng.choice([
        f"Search the web for {q}.", f"Look up {q}.", f"Find information about {q}.", f"search {q}",
        f"What does the web say about {q}?", f"Please search for {q}.", f"Google {q} for me.", f"Find out about {q}."])


def search_result(rng, a):
    n, title = rng.randint(2, 90), phrase(rng)
    return {"results": n, "title": title}, f"I found {n} results. The first is \"{title}\"."


def convert(rng):
    n, (x, y) = rng.randint(1, 900), rng.sample(["USD", "EUR", "GBP", "JPY", "CNY", "CHF"], 2)
    return {"amount": n, "from": x, "to": y}, rng.choice([
        f"Convert {n} {x} to {y}.", f"How much is {n} {x} in {y}?", f"{n} {x} in {y}", f"Change {n} {x} into {y}.",
        f"What are {n} {x} worth in {y}?"])


def convert_result(rng, a):
    v = rng.randint(1, 9999)
    return {"amount": v}, f"{a['amount']} {a['from']} are {v} {a['to']}."


def reminder(rng):
    text, t = phrase(rng), f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}"
    return {"text": text, "time": t}, rng.choice([
        f"Remind me of {text} at {t}.", f"Set a reminder for {text} at {t}.", f"At {t} remind me of {text}.",
        f"Please set a reminder at {t}: {text}", f"Make a reminder: {text}, {t}."])


def reminder_result(rng, a):
    return {"status": "ok"}, f"I will remind you of {a['text']} at {a['time']}."


def email(rng):
    n = rng.choice(NAMES) if rng.random() < 0.5 else invented(rng).capitalize()
    s = phrase(rng)
    return {"to": n, "subject": s}, rng.choice([
        f"Send an email to {n} about {s}.", f"Email {n} about {s}.", f"Write {n} an email about {s}.",
        f"Send {n} a mail with the subject {s}.", f"Mail {n}: {s}"])


def email_result(rng, a):
    return {"status": "sent"}, f"I sent the email to {a['to']}."


def timer(rng):
    n = rng.randint(1, 120)
    return {"minutes": n}, rng.choice([f"Set a timer for {n} minutes.", f"Timer, {n} minutes.", f"Start a {n} minute timer.",
                                       f"Wake me in {n} minutes.", f"Please set a timer: {n} minutes"])


def timer_result(rng, a):
    return {"status": "ok"}, f"The timer is set for {a['minutes']} minutes."


SEEN = {
    "get_weather": ("Get the weather of a city", [("city", "s", "name of the city")], weather, weather_result),
    "get_time": ("Get the current time in a city", [("city", "s", "name of the city")], clock, clock_result),
    "calculator": ("Compute an arithmetic expression", [("expression", "s", "such as 2 + 3")], calculator, calculator_result),
    "web_search": ("Search the web", [("query", "s", "what to search")], search, search_result),
    "convert_currency": ("Convert money between currencies",
                         [("amount", "n", "how much"), ("from", "s", "currency"), ("to", "s", "currency")],
                         convert, convert_result),
    "set_reminder": ("Set a reminder", [("text", "s", "what"), ("time", "s", "when, as HH:MM")], reminder, reminder_result),
    "send_email": ("Send an email", [("to", "s", "who gets it"), ("subject", "s", "the subject")], email, email_result),
    "set_timer": ("Start a timer", [("minutes", "i", "how long")], timer, timer_result),
}

# Invented tools are a verb and a noun.
VERBS = ("open close start stop create delete update rename move copy paint clean repair order cancel book rent sell buy "
         "lock unlock print scan upload download record play pause share count measure check inspect test sort filter "
         "merge split archive restore load save export import track find list show hide mark sign ship return paste "
         "water feed wash charge park tune reset refill paint adjust enable disable publish approve reject assign "
         "schedule register").split()
THINGS = ("door window lamp file folder table room car bike ticket invoice report song video photo document account "
          "order package printer robot oven heater fan pump valve garden plant dog cat meeting event task project issue "
          "note page list map route flight hotel camera sensor server database backup user group channel message "
          "image contract parcel truck boat drone shelf bottle light alarm curtain recipe playlist league shop").split()
PARAMS = [
    ("name", "s"), ("title", "s"), ("id", "i"), ("color", "s"), ("count", "i"), ("size", "i"), ("owner", "s"),
    ("label", "s"), ("level", "i"), ("speed", "i"), ("target", "s"), ("code", "s"), ("price", "n"), ("weight", "n"),
    ("width", "i"), ("height", "i"), ("place", "s"), ("day", "s"), ("priority", ["low", "medium", "high"]),
    ("mode", ["fast", "slow", "auto"]), ("format", ["pdf", "txt", "html"]), ("side", ["left", "right"]),
    ("category", "s"), ("message", "s"), ("group", "s"), ("duration", "i"), ("limit", "i"), ("number", "i"),
    ("material", "s"), ("language", "s"), ("region", "s"), ("version", "i"), ("key", "s"), ("amount", "i"),
    ("urgent", "b"), ("public", "b"),
]


def value_for(rng, name, kind):
    if isinstance(kind, list):
        return rng.choice(kind)
    if kind == "i":
        return rng.choice([rng.randint(1, 20), rng.randint(1, 999), rng.randint(1, 9999)])
    if kind == "n":
        return rng.choice([rng.randint(1, 500), round(rng.uniform(0.5, 99), 1)])
    if kind == "b":
        return rng.random() < 0.5
    if name in ("owner", "name") and rng.random() < 0.5:
        return rng.choice(NAMES)
    return a_word(rng)


def invent(rng, held, wide=False):
    """A tool (name, description, params, verb, thing) from reserved or training words, or with invented words. With wide
    set, most words are such that a name can only be copied from the tool's description."""
    verb, thing = rng.choice(reserved(VERBS, held, 6)), rng.choice(reserved(THINGS, held, 6))
    if wide:
        verb, thing = (rng.choice([w, a_word(rng), a_word(rng), invented(rng)]) for w in (verb, thing))
    if rng.random() < 0.25:
        thing = invented(rng)
    if rng.random() < 0.1:
        verb = invented(rng)
    style = rng.random()
    if style < 0.6:
        name = f"{verb}_{thing}"
    elif style < 0.75:
        name = f"{verb}{thing.capitalize()}"
    elif style < 0.85:
        name = f"{thing}_{verb}"
    else:
        name = f"{rng.choice(['home', 'my', 'app', 'api', 'do', 'run'])}_{verb}_{thing}"
    params = rng.sample(PARAMS, rng.choice([1, 1, 2, 2, 2, 3]))
    if rng.random() < 0.2:
        params[-1] = (invented(rng), rng.choice("si"))
    description = rng.choice([f"{verb.capitalize()} a {thing}", f"{verb.capitalize()} the {thing}",
                              f"Use this to {verb} a {thing}", f"{verb.capitalize()} one {thing} by {params[0][0]}"])
    return name, description, [(p, k, f"{p} of the {thing}") for p, k in params], verb, thing


def said(v):
    return ("yes" if v else "no") if isinstance(v, bool) else str(v)


def request(rng, tool):
    name, _, params, verb, thing = tool
    args = {p: value_for(rng, p, k) for p, k, _ in params}
    style = rng.random()
    if style < 0.5:
        what = joined([f"{p} {said(v)}" for p, v in args.items()])
        text = rng.choice([f"{verb.capitalize()} the {thing} with {what}.", f"Please {verb} a {thing} with {what}.",
                           f"{verb} {thing}, {what}", f"I want to {verb} a {thing} with {what}.",
                           f"Can you {verb} the {thing} with {what}?"])
    elif style < 0.8:
        what = ", ".join(f"{p}: {said(v)}" for p, v in args.items())
        text = rng.choice([f"{verb.capitalize()} a {thing}. {what}", f"Please {verb} the {thing} ({what}).",
                           f"{verb.capitalize()} the {thing}: {what}"])
    else:
        what = joined([f"the {p} is {said(v)}" for p, v in args.items()])
        text = rng.choice([f"{verb.capitalize()} a {thing} where {what}.", f"I need you to {verb} the {thing}; {what}."])
    return args, text


def outcome(rng, args, thing):
    """A tool's output and the answer that reads it."""
    kind = rng.random()
    if kind < 0.3:
        return {"status": "ok"}, "Done."
    if kind < 0.45:
        why = rng.choice(["not found", "access denied", "busy", "timeout", "out of stock"])
        return {"error": why}, f"That failed: {why}."
    field, _ = rng.choice([p for p in PARAMS if isinstance(p[1], str)])
    value = value_for(rng, field, dict((p, k) for p, k in PARAMS)[field])
    result = {field: value}
    if kind < 0.6:
        result = {"status": "ok", **result}
    return result, f"Done. The {field} is {said(value)}."


def seen_round(rng, name):
    _, _, make_request, result = SEEN[name]
    args, text = make_request(rng)
    output, answer = result(rng, args)
    return name, args, text, output, answer


def seen_tools(rng, count):
    names = rng.sample(list(SEEN), count)
    described = rng.random() < 0.3
    return names, [schema(n, SEEN[n][0], SEEN[n][1], described=described) for n in names]


def finish(rng, skill, rounds, defs, held, messages=()):
    """rounds: list of (name, args, text, output, answer). In training a conversation goes through all of them."""
    messages = list(messages)
    if held:
        name, args, text, _, _ = rounds[0]
        messages += [user(text), calls((name, dumps(args)))]
        return sample(skill, messages, text, {"type": "calls", "calls": [[name, args]]}, tools=defs)
    for i, (name, args, text, output, answer) in enumerate(rounds):
        messages += [user(text), calls((name, dumps(args)))]
        if i < len(rounds) - 1 or rng.random() < 0.6:
            messages += [tool_output(dumps(output)), assistant(answer)]
    return sample(skill, messages, rounds[0][2], tools=defs)


def preface(rng):
    return [system(rng.choice(SYSTEMS))] if rng.random() < 0.35 else []


def seen(rng, held=False):
    count = rng.choice([1, 2, 2, 3])
    names, defs = seen_tools(rng, count)
    rounds = [seen_round(rng, rng.choice(names)) for _ in range(rng.choice([2, 3, 4, 5]))]
    return finish(rng, "tool_seen", rounds, defs, held, preface(rng))


def unseen(rng, held=False, wide=False):
    tools = [invent(rng, held, wide) for _ in range(rng.choice([1, 1, 2, 2, 3]))]
    if len({t[0] for t in tools}) < len(tools):
        tools = tools[:1]
    described = rng.random() < 0.25
    defs = [schema(t[0], t[1], t[2], described=described) for t in tools]
    known = []
    if rng.random() < 0.3:
        known, more = seen_tools(rng, rng.choice([1, 2]))
        defs += more
        rng.shuffle(defs)
    rounds = []
    for i in range(rng.choice([2, 3, 4, 5])):
        if known and i and rng.random() < 0.4:
            rounds.append(seen_round(rng, rng.choice(known)))
            continue
        tool = rng.choice(tools)
        args, text = request(rng, tool)
        output, answer = outcome(rng, args, tool[4])
        rounds.append((tool[0], args, text, output, answer))
    return finish(rng, "tool_unseen", rounds, defs, held, preface(rng))


def several(rng, held=False, wide=False):
    """Two or three calls in one turn."""
    if rng.random() < 0.45:
        names, defs = seen_tools(rng, rng.choice([1, 2, 3]))
        name = rng.choice([n for n in names if n in ("get_weather", "get_time")] or ["get_weather"])
        if name not in names:
            defs = defs[:1] + [schema(name, SEEN[name][0], SEEN[name][1])]
        places = rng.sample(CITIES, rng.choice([2, 2, 3]))
        what = "the weather" if name == "get_weather" else "the time"
        text = rng.choice([f"What is {what} in {joined(places)}?", f"Tell me {what} in {joined(places)}.",
                           f"I need {what} for {joined(places)}."])
        made = [(name, {"city": p}) for p in places]
        results = [SEEN[name][3](rng, a) for _, a in made]
    else:
        tools = [invent(rng, held, wide) for _ in range(rng.choice([2, 2, 3]))]
        if len({t[0] for t in tools}) < len(tools):
            return several(rng, held, wide)
        defs = [schema(t[0], t[1], t[2]) for t in tools]
        made, texts, results = [], [], []
        for tool in rng.sample(tools, 2):
            args, text = request(rng, tool)
            made.append((tool[0], args))
            texts.append(text.rstrip("."))
            results.append(outcome(rng, args, tool[4]))
        text = rng.choice([f"{texts[0]}. Then {texts[1]}.", f"{texts[0]}. Also {texts[1]}.", f"1. {texts[0]} 2. {texts[1]}"])
    messages = preface(rng) + [user(text), calls(*((n, dumps(a)) for n, a in made))]
    check = {"type": "calls", "calls": [[n, a] for n, a in made]}
    if not held and rng.random() < 0.6:
        messages += [tool_output(dumps(o)) for o, _ in results] + [assistant(" ".join(a for _, a in results))]
        check = None
    return sample("tool_several", messages, text, check, tools=defs)


def from_output(rng, held=False):
    """The answer that reads a tool's output; the held-out form of it."""
    if rng.random() < 0.5:
        names, defs = seen_tools(rng, rng.choice([1, 2]))
        name, args, text, output, answer = seen_round(rng, rng.choice(names))
    else:
        tool = invent(rng, held)
        defs = [schema(tool[0], tool[1], tool[2])]
        name = tool[0]
        args, text = request(rng, tool)
        output, answer = outcome(rng, args, tool[4])
    messages = [user(text), calls((name, dumps(args))), tool_output(dumps(output)), assistant(answer)]
    words = [answer] if isinstance(output, dict) and list(output.values()) in (["ok"], ["sent"]) else \
        [said(v) for k, v in output.items() if k != "status"]
    return sample("tool_output", messages, text + dumps(output), {"type": "contains", "words": words}, tools=defs)


def no_call(rng, held=False):
    """Tools are there, but the question needs none."""
    tools = [invent(rng, held) for _ in range(rng.choice([1, 2]))]
    defs = [schema(t[0], t[1], t[2]) for t in tools[:1]]
    if rng.random() < 0.5:
        defs += seen_tools(rng, 1)[1]
    questions, answer, words = rng.choice(SELF)
    question = rng.choice(reserved(questions, held, 6))
    return sample("tool_none", [user(question), assistant(answer)], question + tools[0][0],
                  {"type": "contains", "words": words}, tools=defs)


def make(rng, held=False):
    kind = rng.random()
    if kind < 0.28:
        return seen(rng, held)
    if kind < 0.72:
        return unseen(rng, held)
    if kind < 0.86:
        return several(rng, held)
    if kind < 0.94:
        return from_output(rng, held)
    return no_call(rng, held)


def make_wide(rng, held=False):
    """More of the tools whose names have to be copied."""
    kind = rng.random()
    if kind < 0.15:
        return seen(rng, held)
    if kind < 0.72:
        return unseen(rng, held, True)
    if kind < 0.88:
        return several(rng, held, True)
    if kind < 0.93:
        return from_output(rng, held)
    return no_call(rng, held)
