"""Runs the real program for the tests of this folder. Standard library only.

meson passes the program's path as the first argument and the folder of test data as the second.
"""
import os
import subprocess
import sys
import unittest

FATHOM = os.path.abspath(sys.argv[1])
DATA = os.path.abspath(sys.argv[2])
TOKENIZER = os.path.join(DATA, "deepseek-v3.1")  # tokenizer files only
GOLDEN = os.path.join(DATA, "golden")  # tiny checkpoints with reference logits
DEMO = os.path.join(DATA, "..", "..", "models", "demo")  # the model that ships
WAIT_S = 600  # whatever is waited for: nothing here may depend on how fast or busy a machine is


def run(*args, stdin=b"", timeout=WAIT_S, env=None):
    """Returns the completed process; stdin and outputs are bytes."""
    if isinstance(stdin, str):
        stdin = stdin.encode()
    full = dict(os.environ, **(env or {}))
    return subprocess.run([FATHOM, *map(str, args)], input=stdin, capture_output=True,
                          timeout=timeout, env=full)


class Case(unittest.TestCase):
    maxDiff = 2000

    def ok(self, *args, **kw):
        p = run(*args, **kw)
        self.assertEqual(p.returncode, 0, p.stderr.decode(errors="replace"))
        return p.stdout.decode()

    def fails(self, *args, code=1, says=(), **kw):
        """One line on stderr that begins with "fathom: " and holds every string of says; no stdout."""
        p = run(*args, **kw)
        text = p.stderr.decode(errors="replace")
        self.assertEqual(p.returncode, code, text)
        self.assertEqual(p.stdout, b"")
        self.assertTrue(text.startswith("fathom: "), text)
        self.assertEqual(text.count("\n"), 1, text)
        for s in [says] if isinstance(says, str) else says:
            self.assertIn(s, text)
        return text


def main():
    """Exit 77, which is Meson's word for skipped, where every test was."""
    result = unittest.main(module="__main__", argv=sys.argv[:1] + sys.argv[3:], exit=False).result
    if result.testsRun and len(result.skipped) == result.testsRun:
        print(*(reason for _, reason in result.skipped), sep="\n")
        sys.exit(77)
    sys.exit(not result.wasSuccessful())
