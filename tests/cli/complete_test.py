"""complete: raw completion, its JSON, log probabilities, BOS."""
import json
import math

from fathom import DEMO, Case, main


class Complete(Case):
    def json(self, *args, **kw):
        return json.loads(self.ok("complete", DEMO, "--json", *args, **kw))

    def test_stream_equals_json(self):
        args = ("The answer is", "--temperature", 0, "-n", 12)
        self.assertEqual(self.ok("complete", DEMO, *args), self.json(*args)["text"] + "\n")

    def test_fields(self):
        v = self.json("The answer is", "--seed", 5, "--ignore-eos")
        self.assertEqual(v["finish_reason"], "length")
        self.assertEqual(len(v["ids"]), 16)
        self.assertEqual(v["seed"], 5)
        usage = v["usage"]
        self.assertEqual(usage["completion_tokens"], 16)
        self.assertEqual(usage["total_tokens"], usage["prompt_tokens"] + 16)
        self.assertEqual(self.ok("detokenize", DEMO, "--skip-special", *v["ids"]), v["text"] + "\n")

    def test_echo(self):
        args = ("The answer is", "--temperature", 0)
        self.assertEqual(self.ok("complete", DEMO, "--echo", *args),
                         "The answer is" + self.ok("complete", DEMO, *args))

    def test_bos(self):
        def tokens(*args):
            return self.json("Hello there", "-n", 1, *args)["usage"]["prompt_tokens"]

        plain = len(self.ok("tokenize", DEMO, "Hello there").split())
        self.assertEqual(tokens("--no-add-bos"), plain)
        self.assertEqual(tokens("--add-bos"), plain + 1)
        self.assertEqual(tokens(), plain + 1)

    def test_stdin_is_exact(self):
        with_newline = self.json("-n", 1, stdin="Hello\n")["usage"]["prompt_tokens"]
        without = self.json("-n", 1, stdin="Hello")["usage"]["prompt_tokens"]
        self.assertEqual(with_newline, without + 1)

    def test_logprobs(self):
        v = self.json("The answer is", "--temperature", 0, "--logprobs", 3, "-n", 4, "--ignore-eos")
        self.assertEqual([entry["id"] for entry in v["logprobs"]], v["ids"])
        for entry in v["logprobs"]:
            top = [t["logprob"] for t in entry["top"]]
            self.assertEqual(len(top), 3)
            self.assertEqual(top, sorted(top, reverse=True))
            self.assertEqual(entry["top"][0]["id"], entry["id"])  # greedy
            self.assertAlmostEqual(entry["logprob"], top[0], places=6)
            self.assertLessEqual(sum(math.exp(x) for x in top), 1 + 1e-6)
            self.assertEqual(len({t["id"] for t in entry["top"]}), 3)
        v = self.json("The", "--logprobs", 0, "-n", 1)
        self.assertEqual(v["logprobs"][0]["top"], [])

    def test_errors(self):
        self.fails("complete", DEMO, "x", "--logprobs", 3, code=2, says="--json")
        self.fails("complete", DEMO, "x", "--logprobs", 21, code=2, says="--logprobs: found '21'")
        self.fails("complete", DEMO, "", "--no-add-bos", says="PROMPT: the prompt is empty")
        self.fails("complete", DEMO, stdin=b"\xfe", says=["stdin", "UTF-8"])


if __name__ == "__main__":
    main()
