"""detokenize: every golden line, whole and as a stream; options; bad ids."""
import json
import os

from fathom import TOKENIZER, Case, main, run


class Golden(Case):
    def test_lines(self):
        with open(os.path.join(TOKENIZER, "golden", "decode.jsonl"), encoding="utf-8") as file:
            items = [json.loads(line) for line in file]
        self.assertEqual(len(items), 89)
        asked = "".join(json.dumps({"ids": item["ids"]}) + "\n" for item in items)
        answers = self.ok("detokenize", TOKENIZER, "--jsonl", stdin=asked).splitlines()
        self.assertEqual(len(answers), len(items))
        for item, answer in zip(items, answers):
            want = {key: item[key] for key in ("text", "text_skip_special", "deltas", "flush")}
            self.assertEqual(json.loads(answer), want, item["kind"])


class Options(Case):
    def test_ids(self):
        self.assertEqual(self.ok("detokenize", TOKENIZER, 19923, 14, 2058, 3), "Hello, world!\n")
        self.assertEqual(self.ok("detokenize", TOKENIZER, "19923,14 2058", 3), "Hello, world!\n")
        self.assertEqual(self.ok("detokenize", TOKENIZER, stdin="19923 14\n2058 3\n"), "Hello, world!\n")
        self.assertEqual(self.ok("detokenize", TOKENIZER, stdin=""), "\n")

    def test_skip_special(self):
        self.assertEqual(self.ok("detokenize", TOKENIZER, 0, 19923, 1),
                         "<｜begin▁of▁sentence｜>Hello<｜end▁of▁sentence｜>\n")
        self.assertEqual(self.ok("detokenize", TOKENIZER, "--skip-special", 0, 19923, 1), "Hello\n")

    def test_round_trip(self):
        text = "Zażółć gęślą jaźń 你好 🎉\n\ttabs\r\n"
        ids = self.ok("tokenize", TOKENIZER, stdin=text)
        # Bytes, as text mode would translate the line end.
        self.assertEqual(run("detokenize", TOKENIZER, stdin=ids).stdout, (text + "\n").encode())


class BadInput(Case):
    def test_arguments(self):
        self.fails("detokenize", TOKENIZER, "12x", says="found '12x', expected a token id")
        self.fails("detokenize", TOKENIZER, "-5", says="found '-5'")
        self.fails("detokenize", TOKENIZER, "99999999999999999999", says="expected a token id")
        self.fails("detokenize", TOKENIZER, 128815, says=["ids[0]", "128815"])
        self.fails("detokenize", TOKENIZER, stdin=b"1 \xff", says="stdin")
        self.fails("detokenize", TOKENIZER, "1", "--jsonl", code=2, says="unexpected argument '1'")

    def test_lines(self):
        for line, says in (('{"ids": 5}', "found integer, expected an array"),
                           ('{"ids": [1, "2"]}', "ids[1]: found string"),
                           ('{"ids": [1, -2]}', "ids[1]: found -2"),
                           ('{"ids": [4294967296]}', "ids[0]: found 4294967296"),
                           ('{"ids": [128815]}', "128815"),
                           ('{"id": [1]}', "ids"),
                           ("nonsense", "not valid JSON")):
            p = run("detokenize", TOKENIZER, "--jsonl", stdin='{"ids": [14]}\n' + line + "\n")
            text = p.stderr.decode()
            self.assertEqual((p.returncode, text.count("\n")), (1, 1), text)
            self.assertEqual(len(p.stdout.splitlines()), 1)
            self.assertTrue(text.startswith("fathom: line 2: "), text)
            self.assertIn(says, text)


if __name__ == "__main__":
    main()
