"""tokenize: every golden line of the DeepSeek-V3.1 tokenizer and chat template, options, bad lines."""
import json
import os

from fathom import DEMO, TOKENIZER, Case, main, run


def golden(name):
    with open(os.path.join(TOKENIZER, "golden", name), encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def lines(items):
    return "".join(json.dumps(item) + "\n" for item in items)


class Golden(Case):
    def answers(self, items, *options):
        text = self.ok("tokenize", TOKENIZER, "--jsonl", *options, stdin=lines(items))
        answers = [json.loads(line) for line in text.splitlines()]
        self.assertEqual(len(answers), len(items))
        return answers

    def test_text(self):
        items = golden("tokenize.jsonl")
        self.assertEqual(len(items), 513)
        for item, answer in zip(items, self.answers([{"text": item["text"]} for item in items])):
            self.assertEqual(answer, {"ids": item["ids"]}, item["text"])

    def test_chat(self):
        items = golden("chat.jsonl")
        self.assertEqual(len(items), 107)
        keys = ("messages", "tools", "add_generation_prompt", "thinking")
        for template in sorted({item["template"] for item in items}):
            group = [item for item in items if item["template"] == template]
            asked = [{key: item[key] for key in keys} for item in group]
            answers = self.answers(asked, "--as-is", "--chat-template", os.path.join(TOKENIZER, template))
            for item, answer in zip(group, answers):
                self.assertEqual(answer, {"text": item["rendered"], "ids": item["ids"]}, item["name"])

    def test_continue(self):
        items = [i for i in golden("chat.jsonl") if "rendered_continue" in i]
        self.assertTrue(items)
        for item in items:
            asked = {"messages": item["messages"], "tools": item["tools"], "thinking": item["thinking"],
                     "add_generation_prompt": False, "continue_final_message": True}
            answer, = self.answers([asked], "--as-is", "--chat-template",
                                   os.path.join(TOKENIZER, item["template"]))
            self.assertEqual(answer["text"], item["rendered_continue"], item["name"])


class Options(Case):
    def ids(self, *args, **kw):
        return [int(word) for word in self.ok("tokenize", TOKENIZER, *args, **kw).split()]

    def test_argument_and_stdin(self):
        self.assertEqual(self.ids("Hello, world!"), [19923, 14, 2058, 3])
        self.assertEqual(self.ids(stdin="Hello, world!"), [19923, 14, 2058, 3])
        self.assertEqual(self.ids(""), [])

    def test_add_bos(self):
        self.assertEqual(self.ids("--add-bos", "Hello, world!"), [0, 19923, 14, 2058, 3])
        self.assertEqual(self.ids("--add-bos", "--no-add-bos", "Hello"), [19923])

    def test_literal(self):
        text = "a</think>b"
        self.assertIn(128799, self.ids(text))
        ids = self.ids("--literal", text)
        self.assertNotIn(128799, ids)
        self.assertEqual(self.ok("detokenize", TOKENIZER, *ids), text + "\n")

    def test_literal_chat(self):
        asked = {"messages": [{"role": "user", "content": "x<｜Assistant｜>y</think>z"}]}
        open_text = self.ok("tokenize", TOKENIZER, "--jsonl", stdin=lines([asked]))
        closed = self.ok("tokenize", TOKENIZER, "--jsonl", "--literal", stdin=lines([asked]))
        open_ids, closed_ids = json.loads(open_text)["ids"], json.loads(closed)["ids"]
        self.assertEqual(json.loads(open_text)["text"], json.loads(closed)["text"])
        self.assertEqual((open_ids.count(128804), open_ids.count(128799)), (2, 2))
        self.assertEqual((closed_ids.count(128804), closed_ids.count(128799)), (1, 1))
        self.assertEqual(closed_ids[:2], [0, 128803])

    def test_count_and_show(self):
        self.assertEqual(self.ok("tokenize", TOKENIZER, "--count", "Hello, world!"), "4\n")
        self.assertEqual(self.ok("tokenize", TOKENIZER, "--show", "Hello,\n"),
                         '19923\t"Hello"\n989\t",\\n"\n')
        self.assertEqual(self.ok("tokenize", TOKENIZER, "--jsonl", "--count", stdin='{"text": "Hello,"}'),
                         '{"count":2}\n')

    def test_normalizes_by_default(self):
        asked = {"messages": [{"role": "user", "content": [{"type": "text", "text": "Who are you?"}]}]}
        answer = json.loads(self.ok("tokenize", TOKENIZER, "--jsonl", stdin=lines([asked])))
        self.assertEqual(answer["ids"], [0, 128803, 18387, 477, 440, 33, 128804, 128799])

    def test_model_directory(self):
        self.assertGreater(len(self.ok("tokenize", DEMO, "What is 2+3?").split()), 3)


class BadInput(Case):
    def bad_line(self, line, *says):
        good = '{"text": "Hello,"}'
        p = run("tokenize", TOKENIZER, "--jsonl", stdin=good + "\n" + line + "\n" + good + "\n")
        self.assertEqual(p.returncode, 1)
        self.assertEqual(p.stdout, b'{"ids":[19923,14]}\n')
        text = p.stderr.decode()
        self.assertEqual(text.count("\n"), 1, text)
        self.assertTrue(text.startswith("fathom: line 2"), text)
        for s in says:
            self.assertIn(s, text)

    def test_unknown_keys(self):
        self.bad_line('{"text": "a", "thinking": true}', "unknown key 'thinking' beside text")
        self.bad_line('{"messages": [{"role": "user", "content": "a"}], "tool": []}', "unknown key 'tool' beside messages")

    def test_lines(self):
        self.bad_line("{", "not valid JSON")
        self.bad_line("[1]", "found array, expected an object")
        self.bad_line('{"txt": "a"}', "neither text nor messages")
        self.bad_line('{"text": "a", "messages": []}', "both")
        self.bad_line('{"text": 3}', "text", "found integer")
        self.bad_line('{"text": "a", "text": "b"}', "not valid JSON")
        self.bad_line('{"messages": {}}', "messages", "found object, expected an array")
        self.bad_line('{"messages": [], "tools": "x"}', "tools", "found string")
        self.bad_line('{"messages": [{"role": "user", "content": "a"}], "thinking": 1}', "thinking")
        self.bad_line('{"messages": [{"role": "user", "content": 5}]}', "content")
        self.bad_line('{"messages": ["x"]}', "messages")
        self.bad_line("[" * 100000, "not valid JSON")

    def test_messages(self):
        self.fails("tokenize", DEMO, "--jsonl", stdin='{"messages": [{"role": "usr", "content": "x"}]}',
                   says=["line 1", "messages[0].role", "found usr", "expected system"])
        self.fails("tokenize", DEMO, "--jsonl", stdin='{"messages": [{"role": "user\\u0000x", "content": "x"}]}',
                   says=["messages[0].role", "found a NUL"])

    def test_invalid_utf8(self):
        self.fails("tokenize", TOKENIZER, stdin=b"ab\xff", says=["stdin", "UTF-8"])

    def test_models(self):
        self.fails("tokenize", "/nonexistent", "x", says="MODEL /nonexistent: No such")
        self.fails("tokenize", TOKENIZER, "x", "y", code=2, says="unexpected argument 'y'")
        self.fails("tokenize", TOKENIZER, "x", "--jsonl", code=2, says="unexpected argument 'x'")
        self.fails("tokenize", code=2, says="MODEL")

    def test_template(self):
        asked = lines([{"messages": [{"role": "user", "content": "a"}]}])
        self.fails("tokenize", TOKENIZER, "--jsonl", "--chat-template", "/nonexistent", stdin=asked,
                   says=["--chat-template /nonexistent", "cannot open"])


if __name__ == "__main__":
    main()
