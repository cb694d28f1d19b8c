"""docs/commands.md says what the program says."""
import os
import sys

from fathom import DATA, FATHOM, Case, main

ROOT = os.path.dirname(os.path.dirname(DATA))
sys.path.insert(0, os.path.join(ROOT, "tools"))
import gen_commands  # noqa: E402


class Commands(Case):
    def test_page(self):
        with open(os.path.join(ROOT, "docs", "commands.md"), encoding="utf-8") as file:
            self.assertEqual(file.read(), gen_commands.page(FATHOM),
                             "run: tools/gen_commands.py build/fathom > docs/commands.md")


main()
