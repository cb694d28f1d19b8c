"""Grammars of random JSON schemas against the jsonschema package.

Usage: grammar_property_test.py GRAMMAR_WALK MODEL_DIR [schemas] [seed]. For each schema over the keywords of
docs/structured-output.md: what is sampled under the masks validates, valid instances are accepted in every usual spelling,
a changed instance is accepted only if it validates, and no walk reaches a place without a next token.
"""
import datetime
import json
import random
import string
import subprocess
import sys

try:
    import jsonschema
except ImportError:
    print("the package jsonschema is not installed")
    sys.exit(77)

NAMES = ["a", "b", "name", "value", "née", "x y", 'q"t', "tab\t", "ab", "abc", "日本"]
PATTERNS = [(r"^[a-z]{2,4}$", ["ab", "zzzz"]), (r"^\d+-\d+$", ["1-2", "007-99"]), (r"o", ["foo", "a foo\n\"b\""]),
            (r"^(yes|no)$", ["yes", "no"]), (r"^x", ["x", "xé\\"]), (r"y$", ["y", "\u0001y"]),
            (r"^[^a-y\s]*$", ["", "zZ\"\\"]), (r"^a.c|d$", ["abc!", "xd"]), (r"^\w+@\w+\.(com|org)$", ["me@x.org"]),
            (r"^[\u00e9-\u00ff]{1,3}$", ["éÿ"])]
FORMATS = {"date": ["2024-02-29", "0001-01-01", "1999-12-31"], "time": ["23:59:59Z", "01:02:03.123+05:30"],
           "date-time": ["2024-02-29T10:00:00Z", "2023-01-31T00:00:00.5-01:00"], "email": ["a.b@example.com"],
           "uuid": ["123e4567-e89b-12d3-a456-426614174000"], "ipv4": ["0.0.0.0", "255.1.20.199"],
           "ipv6": ["::", "::1", "2001:db8::8:800:200c:417a", "1:2:3:4:5:6:7:8"],
           "uri": ["https://example.com/a%20b?x=1#y"], "hostname": ["example.com", "a-b.c"]}


def text(rng, low, high):
    chars = string.ascii_letters + " \"\\/\n\té日😀\u0001'{}[],:"
    return "".join(rng.choice(chars) for _ in range(rng.randint(low, high)))


class Maker:
    """Schemas and, for each, a function that makes valid instances."""

    def __init__(self, rng):
        self.rng = rng
        self.defs = {}

    def any_value(self, depth=0):
        r = self.rng
        kind = r.randrange(5 if depth > 2 else 7)
        if kind == 5:
            return [self.any_value(depth + 1) for _ in range(r.randrange(3))]
        if kind == 6:
            return {text(r, 0, 4): self.any_value(depth + 1) for _ in range(r.randrange(3))}
        return [None, True, r.randint(-10**9, 10**9), r.uniform(-1e6, 1e6), text(r, 0, 8)][kind]

    def string(self):
        r = self.rng
        kind = r.randrange(4)
        if kind == 0:
            return {"type": "string"}, lambda: text(r, 0, 20)
        if kind == 1:
            low, high = sorted((r.randrange(12), r.randrange(12)))
            schema = {"type": "string"}
            if r.random() < 0.7:
                schema["minLength"] = low
            if r.random() < 0.7 or not low:
                schema["maxLength"] = high
            return schema, lambda: text(r, low, high)
        if kind == 2:
            pattern, samples = r.choice(PATTERNS)
            return {"type": "string", "pattern": pattern}, lambda: r.choice(samples)
        name = r.choice(sorted(FORMATS))
        return {"type": "string", "format": name}, lambda: r.choice(FORMATS[name])

    def number(self):
        r = self.rng
        integer = r.random() < 0.5
        schema = {"type": "integer" if integer else "number"}
        scale = 10 ** r.randrange(0, 6)
        low, high = sorted((round(r.uniform(-scale, scale), r.randrange(4)), round(r.uniform(-scale, scale), r.randrange(4))))
        if integer or r.random() < 0.3:
            low, high = int(low) - 1, int(high) + 1
        if r.random() < 0.2:
            low = 0
            high = abs(high) + 1
        high = max(high, low + 1)
        has_low, has_high = r.random() < 0.6, r.random() < 0.6
        open_low, open_high = r.random() < 0.3, r.random() < 0.3
        if has_low:
            schema["exclusiveMinimum" if open_low else "minimum"] = low
        if has_high:
            schema["exclusiveMaximum" if open_high else "maximum"] = high
        if not has_low:
            low = high - 1000 if has_high else -10**6
        if not has_high:
            high = low + 1000

        def make():
            for _ in range(100):
                x = r.randint(int(low), int(high)) if integer else r.choice(
                    [r.uniform(low, high), round(r.uniform(low, high), 2), low, high])
                if (not open_low or not has_low or x > low) and (not open_high or not has_high or x < high) \
                        and low <= x <= high and "e" not in repr(x):
                    return x if x else 0
            return None
        return schema, make

    def wide(self):
        """Integers and multiples to the ends of 64 bits, and beyond what any bound can be."""
        r = self.rng
        ends = [2**53 - 1, 2**53, 2**63 - 1, 2**62 + r.randrange(2**62), 10**r.randrange(14, 19), 10**15 + r.randrange(10**6), r.randrange(100)]
        low, high = sorted(r.choice([-1, 1]) * r.choice(ends) for _ in range(2))
        if r.random() < 0.3:
            low = high - r.randrange(30)
        low, by = max(low, -2**63), r.choice([1, 1, 3, 7, 1000])
        schema = {"type": "integer", "minimum": low, "maximum": high}
        if by > 1:
            schema["multipleOf"] = by
        elif r.random() < 0.3:
            schema["exclusiveMinimum"] = low
        if r.random() < 0.2:
            schema["maximum"] = r.choice([1e19, 1e300])
        if low // by == high // by or ("exclusiveMinimum" in schema and low == high):
            return {"type": "integer", "minimum": low}, lambda: low
        return schema, lambda: r.choice([low, low + 1, high, high - 1, r.randint(low, high)]) // by * by

    def multiple(self):
        r = self.rng
        by = r.choice([1, 2, 3, 5, 7, 8, 12, 60, 97, 128]) * 10 ** r.choice([0, 0, 0, 1, 2, 3])
        schema = {"type": r.choice(["integer", "number"]), "multipleOf": by}
        low, high = sorted(r.randint(-10**r.randint(0, 9), 10**r.randint(0, 9)) for _ in range(2))
        high += by
        if r.random() < 0.5:
            schema["exclusiveMinimum" if r.random() < 0.3 else "minimum"] = low
        if r.random() < 0.5:
            schema["exclusiveMaximum" if r.random() < 0.3 else "maximum"] = high
        return schema, lambda: r.randint(low, high) // by * by

    def nullable(self):
        """As OpenAPI has it; the same for jsonschema: plain()."""
        r = self.rng
        schema, make = r.choice([self.string, self.number, self.multiple, lambda: ({"type": "boolean"}, lambda: r.random() < 0.5)])()
        is_null = r.random() < 0.7
        return {**schema, "nullable": is_null}, lambda: None if is_null and r.random() < 0.5 else make()

    def unique(self):
        r = self.rng
        values = r.choice([[text(r, 0, 5) for _ in range(r.randint(1, 6))], [True, False, 1, 0, None], [[1], {"a": 1}, "x", 1.5]])
        schema = {"type": "array", "uniqueItems": True, "items": r.choice([{"enum": values}, {"enum": values, "type": ["string", "boolean"]}])}
        if values[0] is True and r.random() < 0.5:
            schema["items"] = {"type": "boolean"}
        if r.random() < 0.5:
            schema["maxItems"] = r.randrange(1, 4)
        if r.random() < 0.3:
            schema["minItems"] = 1
        return schema, lambda: r.sample(values, r.randrange(min(len(values), schema.get("maxItems", 9)) + 1))

    def listed(self):
        r = self.rng
        values = [self.any_value() for _ in range(r.randint(1, 4))]
        if r.random() < 0.5:
            values = [text(r, 0, 6) for _ in range(r.randint(1, 12))]
        if r.random() < 0.3:
            return {"const": values[0]}, lambda: values[0]
        return {"enum": values}, lambda: r.choice(values)

    def array(self, depth):
        r = self.rng
        item, make = self.schema(depth + 1)
        schema = {"type": "array", "items": item}
        prefix = [self.schema(depth + 1) for _ in range(r.randrange(3))] if r.random() < 0.4 else []
        if prefix:
            schema["prefixItems"] = [p[0] for p in prefix]
        if r.random() < 0.2:
            schema["items"] = False
        low, high = sorted((r.randrange(4), r.randrange(5)))
        if schema["items"] is False:
            high = min(high, len(prefix))
            low = min(low, high)
        if r.random() < 0.5:
            schema["minItems"] = low
        if r.random() < 0.5:
            schema["maxItems"] = high
        return schema, lambda: [prefix[i][1]() if i < len(prefix) else make() for i in range(r.randint(low, high))]

    def object(self, depth):
        r = self.rng
        names = r.sample(NAMES, r.randrange(5))
        props = {n: self.schema(depth + 1) for n in names}
        required = [n for n in names if r.random() < 0.5]
        schema = {"type": "object", "properties": {n: p[0] for n, p in props.items()}}
        if required or r.random() < 0.5:
            schema["required"] = required
        extra = None
        kind = r.randrange(4)
        if kind == 0:
            schema["additionalProperties"] = False
        elif kind == 1:
            value, extra = self.schema(depth + 1)
            schema["additionalProperties"] = value
        elif kind == 2:
            schema["additionalProperties"] = True
            extra = self.any_value

        def make():
            out = {n: props[n][1]() for n in names if n in required or r.random() < 0.5}
            for _ in range(r.randrange(3) if extra else 0):
                name = text(r, 0, 5)
                if name not in names:
                    out[name] = extra()
            return out
        return schema, make

    def keyed(self, depth):
        r = self.rng
        value, make = self.schema(depth + 1)
        pattern, samples = r.choice(PATTERNS)
        if r.random() < 0.5:
            return ({"type": "object", "patternProperties": {pattern: value}, "additionalProperties": False},
                    lambda: {r.choice(samples): make() for _ in range(r.randrange(3))})
        return ({"type": "object", "propertyNames": {"pattern": pattern}, "additionalProperties": value},
                lambda: {r.choice(samples): make() for _ in range(r.randrange(3))})

    def choice(self, depth):
        r = self.rng
        parts = [self.schema(depth + 1) for _ in range(r.randint(1, 3))]
        return {"anyOf": [p[0] for p in parts]}, lambda: r.choice(parts)[1]()

    def one(self, depth):
        r = self.rng
        tags = r.sample(["cat", "dog", "bird"], 2)
        parts = []
        for tag in tags:
            schema, make = self.schema(depth + 1)
            parts.append(({"type": "object", "properties": {"kind": {"const": tag}, "v": schema}, "required": ["kind"]}, tag, make))

        def make_one():
            _, tag, make = r.choice(parts)
            return {"kind": tag, "v": make()} if r.random() < 0.7 else {"kind": tag}
        return {"oneOf": [p[0] for p in parts]}, make_one

    def all_of(self, depth):
        r = self.rng
        first, make = self.object(depth)
        second = {"required": list(first["properties"])[:1]}
        schema = {"allOf": [first, second]}

        def make_all():
            for _ in range(50):
                out = make()
                if all(n in out for n in second["required"]):
                    return out
            return None
        return schema, make_all

    def recursive(self):
        r = self.rng
        name = f"t{len(self.defs)}"
        value, make = self.schema(3)
        self.defs[name] = {"type": "object", "properties": {"v": value, "kids": {"type": "array", "items": {"$ref": f"#/$defs/{name}"}}},
                           "required": ["v"], "additionalProperties": False}

        def make_tree(depth=0):
            out = {"v": make()}
            if r.random() < 0.6:
                out["kids"] = [make_tree(depth + 1) for _ in range(r.randrange(3 if depth < 3 else 1))]
            return out
        return {"$ref": f"#/$defs/{name}", "description": "a tree"}, make_tree

    def schema(self, depth=0):
        r = self.rng
        plain = [self.string, self.number, self.listed, lambda: ({"type": "boolean"}, lambda: r.random() < 0.5),
                 self.multiple, self.wide, self.nullable, self.unique, lambda: ({"type": "null"}, lambda: None), lambda: ({"type": ["string", "null"], "title": "t"}, lambda: r.choice([None, "x"]))]
        deep = [lambda: self.array(depth), lambda: self.object(depth), lambda: self.object(depth), lambda: self.choice(depth),
                lambda: self.one(depth), lambda: self.all_of(depth), lambda: self.keyed(depth), self.recursive,
                lambda: ({} if r.random() < 0.5 else True, self.any_value)]
        if depth >= 3 or (depth and r.random() < 0.5):
            return r.choice(plain)()
        return r.choice(deep + plain[:2] + [self.wide])()


def plain(schema):
    """nullable said in the words of JSON schema."""
    if isinstance(schema, list):
        return [plain(s) for s in schema]
    if not isinstance(schema, dict) or "const" in schema or "enum" in schema:
        return schema
    out = {k: plain(v) for k, v in schema.items() if not (k == "nullable" and isinstance(v, bool))}
    if schema.get("nullable") is True and isinstance(out.get("type"), str):
        out["type"] = [out["type"], "null"]
    return out


def spellings(value):
    return [json.dumps(value, ensure_ascii=False), json.dumps(value, ensure_ascii=False, separators=(",", ":")),
            json.dumps(value, ensure_ascii=False, indent=2)]


def changed(rng, spelled):
    """The text with one place changed: seldom valid."""
    at = rng.randrange(len(spelled))
    return spelled[:at] + rng.choice(['"', "}", "]", ",", "0", "x", "", "null", "\\"]) + spelled[at + 1:]


def parses(spelled):
    def no_constant(name):
        raise ValueError(name)
    try:
        return True, json.loads(spelled, parse_constant=no_constant)
    except (ValueError, RecursionError):
        return False, None


CHECKER = jsonschema.FormatChecker()


@CHECKER.checks("time")
def is_time(value):
    if not isinstance(value, str):
        return True
    try:
        datetime.time.fromisoformat(value.replace("Z", "+00:00"))
    except ValueError:
        return False
    return True


@CHECKER.checks("date-time")
def is_date_time(value):
    if not isinstance(value, str):
        return True
    try:
        return "T" in value and is_time(value.split("T")[1]) and bool(datetime.date.fromisoformat(value.split("T")[0]))
    except ValueError:
        return False


def asked(process, question):
    """The walker's answer; None when it has ended. A host that takes the processor away may use up the time that a grammar
    has to compile, so one that was late gets two more chances."""
    for _ in range(3):
        process.stdin.write((json.dumps(question) + "\n").encode())
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            return None
        answer = json.loads(line)
        if "takes longer" not in answer.get("error", ""):
            break
    return answer


def main():
    walk, model = sys.argv[1:3]
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 300
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else 1
    process = subprocess.Popen([walk, model], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    refused = sampled = accepted = broken = 0
    problems = []
    for number in range(count):
        rng = random.Random(seed * 1000003 + number)
        maker = Maker(rng)
        schema, make = maker.schema()
        if maker.defs and isinstance(schema, dict):
            schema = {**schema, "$defs": maker.defs}
        checker = jsonschema.Draft202012Validator(plain(schema), format_checker=CHECKER)
        values = [v for v in (make() for _ in range(4)) if checker.is_valid(v)]
        good = [s for v in values for s in spellings(v)]
        bad = [changed(rng, s) for s in good for _ in range(3)]
        answer = asked(process, {"schema": schema, "samples": 5, "seed": number, "accept": good + bad})
        if answer is None:
            problems.append((schema, "the walker ended"))
            break
        if "error" in answer:
            refused += 1
            problems.append((schema, answer["error"]))
            continue
        if answer["dead"]:
            problems.append((schema, f"{answer['dead']} dead ends"))
        for sample in answer["samples"]:
            sampled += 1
            ok, value = parses(sample) if isinstance(sample, str) else (False, None)
            if not ok or not checker.is_valid(value):
                problems.append((schema, f"the sample {sample!r} is not valid"))
        for spelled, ok in zip(good, answer["accepts"]):
            accepted += 1
            if not ok:
                problems.append((schema, f"the instance {spelled!r} is refused"))
        for spelled, ok in zip(bad, answer["accepts"][len(good):]):
            broken += 1
            parsed, value = parses(spelled)
            if ok and not (parsed and checker.is_valid(value)):
                problems.append((schema, f"the text {spelled!r} is accepted"))
    process.stdin.close()
    process.wait()
    for schema, problem in problems[:20]:
        print(json.dumps(schema, ensure_ascii=False), "\n   ", problem)
    print(f"{count} schemas, {refused} refused, {sampled} samples, {accepted} instances, {broken} changed texts: "
          f"{len(problems)} problems")
    sys.exit(1 if problems or process.returncode or not sampled or not accepted else 0)


main()
