"""The rules of CONTRIBUTING.md that a program can check, over the source tree.

Each rule is a function from a tree to complaints; every one is also run on a sample that breaks it, so that a rule that
cannot fail is noticed. Usage: style_test.py ROOT CC
"""
import os
import re
import subprocess
import sys
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor

ROOT = os.path.abspath(sys.argv[1])
CC = sys.argv[2].split()

RANKS = {"base": 0, "kernel": 1, "comm": 1, "text": 1, "http": 1, "weights": 2, "kv": 2, "model": 3, "sched": 4,
         "engine": 5, "server": 6, "router": 6, "load": 6, "cli": 7}
FILE_LINES = 1000
FUNCTION_LINES = 120
FUNCTION_LINES_SOFT = 60  # longer ones are listed, not refused
CODE = ("src", "tests", "fuzz")
SHARED_NAMES = {"README.md", "meson.build"}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as file:
        return file.read()


def sources(root, folder="src", ends=(".c", ".h", ".inc")):
    out = []
    for at, _, names in os.walk(os.path.join(root, folder)):
        out += [os.path.relpath(os.path.join(at, n), root) for n in names if n.endswith(ends)]
    return sorted(out)


def everywhere(root):
    """C sources of the program, its tests and its fuzz targets."""
    return [path for folder in CODE for path in sources(root, folder)]


def module(path):
    return path.split("/")[1]


def private(header):
    """Headers that only their own module may include."""
    return header.startswith("kernel/cpu/") or header.endswith("_int.h")


def rule_ranks(root):
    """A module includes its own headers and public headers of lower ranks."""
    for path in sources(root):
        own = module(path)
        if own not in RANKS:
            yield f"{path}: folder {own} has no rank"
            continue
        for header in INCLUDE.findall(read(root, path)):
            other = header.split("/")[0]
            if other == own:
                continue
            if other not in RANKS:
                yield f"{path}: \"{header}\" is not module/file.h"
            elif RANKS[other] >= RANKS[own]:
                yield f"{path}: {own} (rank {RANKS[own]}) includes \"{header}\" (rank {RANKS[other]})"
            elif private(header):
                yield f"{path}: \"{header}\" is internal to {other}"


def rule_file_length(root):
    for path in everywhere(root):
        lines = read(root, path).count("\n")
        if lines > FILE_LINES and "/gen/" not in path:
            yield f"{path}: {lines} lines, at most {FILE_LINES}"


def functions(text):
    """(line, lines) of every function: a brace alone in column 0 opens one, the next such brace closes it."""
    begin = None
    for number, line in enumerate(text.split("\n"), 1):
        if line == "{":
            begin = number
        elif line == "}" and begin:
            yield begin, number - begin + 1
            begin = None


def long_functions(root, limit):
    """(path, line, lines) of functions above the limit."""
    for path in everywhere(root):
        if "/gen/" not in path:
            for line, lines in functions(read(root, path)):
                if lines > limit:
                    yield path, line, lines


def rule_function_length(root):
    for path, line, lines in long_functions(root, FUNCTION_LINES):
        yield f"{path}:{line}: function of {lines} lines, at most {FUNCTION_LINES}"


def rule_opening_comment(root):
    for path in everywhere(root):
        if not read(root, path).startswith("/*"):
            yield f"{path}: does not open with a comment that says what it holds"


def forbidden(root, pattern, allowed, why):
    for path in sources(root):
        if module(path) in allowed or path in allowed:
            continue
        for match in re.finditer(pattern, read(root, path)):
            line = read(root, path)[:match.start()].count("\n") + 1
            yield f"{path}:{line}: {match.group(0).strip()}: {why}"


def rule_getenv(root):
    yield from forbidden(root, r"\b(secure_)?getenv\s*\(", {"base"}, "only in base/")


def rule_exit(root):
    yield from forbidden(root, r"(?<![\w.>])_?exit\s*\(", {"cli"}, "only in cli/")


def rule_struct_typedef(root):
    yield from forbidden(root, r"\btypedef\s+(struct|union)\b", set(), "structs have no typedef")


def rule_unique_names(root):
    """A name says which file: `file:line` in a message is enough."""
    seen = {}
    for path in everywhere(root):
        name = os.path.basename(path)
        if name in SHARED_NAMES:
            continue
        if name in seen:
            yield f"{path}: {seen[name]} has the same name"
        seen[name] = path


def rule_white_space(root):
    for path in everywhere(root):
        for number, line in enumerate(read(root, path).split("\n"), 1):
            if line != line.rstrip():
                yield f"{path}:{number}: white space at the end of the line"


def rule_module_page(root):
    for name in sorted(os.listdir(os.path.join(root, "src"))):
        folder = os.path.join(root, "src", name)
        if os.path.isdir(folder) and not os.path.exists(os.path.join(folder, "README.md")):
            yield f"src/{name}: no README.md"


def rule_fuzz_corpus(root):
    for path in sources(root, "fuzz"):
        if path.endswith("_fuzz.c"):
            corpus = os.path.join(root, "fuzz", "corpus", os.path.basename(path)[:-len("_fuzz.c")])
            if not os.path.isdir(corpus) or not os.listdir(corpus):
                yield f"{path}: no corpus"


def rule_self_contained_headers(root):
    """Every header compiles alone; bodies that are included several times are no headers in this sense."""
    headers = [p for p in sources(root, ends=(".h",)) if not p.endswith("_body.h")]
    flags = ["-std=gnu11", "-D_GNU_SOURCE", "-fsyntax-only", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror", "-mavx2",
             "-mfma", "-mf16c", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vbmi", "-mavx512vnni",
             "-mavx512bf16", "-mamx-tile", "-mamx-int8", "-mamx-bf16"]

    def compile_alone(path):
        with tempfile.NamedTemporaryFile("w", suffix=".c") as file:
            file.write(f'#include "{path[len("src/"):]}"\n')
            file.flush()
            return subprocess.run([*CC, *flags, "-I", os.path.join(root, "src"), file.name], capture_output=True, text=True,
                                  check=False)

    with ThreadPoolExecutor(2) as pool:
        for path, done in zip(headers, pool.map(compile_alone, headers)):
            if done.returncode:
                yield f"{path}: does not compile alone: {done.stderr.splitlines()[-1] if done.stderr else ''}"


# For each rule, trees that break it, one for each way.
BROKEN = {
    rule_ranks: [
        {"src/base/a.c": '/* */\n#include "kernel/kernel.h"\n'},
        {"src/kernel/a.c": '/* */\n#include "text/bpe.h"\n'},
        {"src/model/a.c": '/* */\n#include "kernel/cpu/gemm.h"\n'},
        {"src/engine/a.c": '/* */\n  #  include "text/tokenizer_int.h"\n'},
        {"src/cli/a.c": '/* */\n#include "text/tokenizer_int.h"\n'},
        {"src/base/a.c": '/* */\n#include "b.h"\n'},
        {"src/odd/a.c": "/* */\n"},
    ],
    rule_file_length: [
        {"src/base/a.c": "/* */\n" + "\n" * FILE_LINES},
        {"tests/unit/a.c": "/* */\n" + "\n" * FILE_LINES},
    ],
    rule_function_length: [
        {"src/base/a.c": "/* */\nint f(void)\n{\n" + "\n" * FUNCTION_LINES + "}\n"},
        {"tests/unit/a.c": "/* */\nint f(void)\n{\n}\nint g(void)\n{\n" + "\n" * FUNCTION_LINES + "}\n"},
    ],
    rule_opening_comment: [{"src/base/a.c": "int x;\n"}, {"fuzz/a.h": "\n/* */\n"}],
    rule_getenv: [
        {"src/kernel/a.c": '/* */\nvoid *x = getenv("A");\n'},
        {"src/cli/a.c": '/* */\nvoid *x = secure_getenv ("A");\n'},
    ],
    rule_exit: [
        {"src/model/a.c": "/* */\nvoid f(void)\n{\n\texit(1);\n}\n"},
        {"src/base/a.c": "/* */\nvoid f(void)\n{\n\t_exit(1);\n}\n"},
    ],
    rule_struct_typedef: [
        {"src/base/a.h": "/* */\ntypedef struct a a;\n"},
        {"src/base/a.c": "/* */\ntypedef struct {\n\tint x;\n} a;\n"},
    ],
    rule_unique_names: [
        {"src/base/a.c": "/* */\n", "src/text/a.c": "/* */\n"},
        {"src/base/a.c": "/* */\n", "tests/unit/a.c": "/* */\n"},
    ],
    rule_white_space: [{"src/base/a.c": "/* */ \n"}, {"tests/unit/a.c": "/* */\n\t\n"}],
    rule_module_page: [{"src/base/a.c": "/* */\n"}],
    rule_fuzz_corpus: [{"src/base/a.c": "/* */\n", "fuzz/a_fuzz.c": "/* */\n"}],
    rule_self_contained_headers: [{"src/base/a.h": "/* */\nstruct a {\n\tsize_t n;\n};\n"}],
}


class Style(unittest.TestCase):
    maxDiff = None


def add_rule(rule):
    def holds(self):
        self.assertEqual(list(rule(ROOT)), [])

    def can_fail(self):
        for tree in BROKEN[rule]:
            with self.subTest(tree=sorted(tree)), tempfile.TemporaryDirectory() as root:
                for path, text in tree.items():
                    os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
                    with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                        file.write(text)
                self.assertNotEqual(list(rule(root)), [])

    name = rule.__name__[len("rule_"):]
    setattr(Style, f"test_{name}", holds)
    setattr(Style, f"test_{name}_can_fail", can_fail)


for each in BROKEN:
    add_rule(each)

if __name__ == "__main__":
    for where, at, length in long_functions(ROOT, FUNCTION_LINES_SOFT):
        print(f"note: {where}:{at}: function of {length} lines, better {FUNCTION_LINES_SOFT}")
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
