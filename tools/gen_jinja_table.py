#!/usr/bin/env python3
"""Writes tests/data/jinja/*.jsonl: templates, variables, and what Jinja2 makes of them.

Needs jinja2 == 3.1.6. The environment is that of transformers' chat templates: immutable sandbox, trim_blocks,
lstrip_blocks, loop controls, its tojson and raise_exception, a generation tag.

usage: gen_jinja_table.py tests/data/jinja

vars.json holds the variables of all templates. Every line of the tables is {"template", "expected"} or, where Jinja2
raises while rendering, {"template", "error"}. The cases are in jinja_cases.py.
"""
import json
import os
import sys

import jinja2
import jinja2.ext
import jinja2.sandbox

import jinja_cases


class Generation(jinja2.ext.Extension):
    """{% generation %} marks text for training; here it only opens a scope."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.Scope(body).set_lineno(line)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env


def run(env, template):
    row = {"template": template}
    compiled = env.from_string(template)  # a case that does not compile is a mistake
    try:
        row["expected"] = compiled.render(**jinja_cases.VARS)
    except Exception as e:  # whatever Python raises inside a template
        row["error"] = "%s: %s" % (type(e).__name__, e)
    return row


def conversations(env, data):
    """Whole templates over whole conversations: rows of {"file", "input", "expected" or "error"}."""
    for path in jinja_cases.TEMPLATES:
        with open(os.path.join(data, path), encoding="utf-8") as source:
            text = source.read()
        compiled = env.from_string(json.loads(text)["chat_template"] if path.endswith(".json") else text)
        for case in jinja_cases.CONVERSATIONS:
            variables = dict({"tools": None, "add_generation_prompt": True, "thinking": False}, **case)
            row = {"file": path, "input": variables}
            try:
                row["expected"] = compiled.render(
                    bos_token=jinja_cases.BOS, eos_token=jinja_cases.EOS, enable_thinking=variables["thinking"],
                    **dict(variables, **variables.get("kwargs", {})))
            except Exception as e:
                row["error"] = "%s: %s" % (type(e).__name__, e)
            yield row


def main(folder):
    assert jinja2.__version__ == "3.1.6", jinja2.__version__
    env = environment()
    with open(os.path.join(folder, "vars.json"), "w", encoding="utf-8") as out:
        json.dump(jinja_cases.VARS, out, ensure_ascii=False, indent=1)
        out.write("\n")
    for name, cases in jinja_cases.ALL.items():
        with open(os.path.join(folder, name + ".jsonl"), "w", encoding="utf-8") as out:
            for template in cases:
                out.write(json.dumps(run(env, template), ensure_ascii=False) + "\n")
            print(name, len(cases))
    with open(os.path.join(folder, "conversations.jsonl"), "w", encoding="utf-8") as out:
        for row in conversations(env, os.path.dirname(os.path.abspath(folder))):
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
