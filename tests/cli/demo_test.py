"""The model that ships: its golden logits in every tier, its MTP layer, and that it still answers as its card says."""
import json
import os
import re

from fathom import DATA, DEMO, Case, main

OWN = os.path.join(DATA, "demo")


def held_out(skill, count):
    with open(os.path.join(DEMO, "eval", skill + ".jsonl"), encoding="utf-8") as file:
        return [json.loads(line) for line in file][:count]


class Logits(Case):
    def test_golden(self):
        self.ok("verify", DEMO, os.path.join(OWN, "golden.safetensors"), "--isa", "all")

    def test_drafts(self):
        with open(os.path.join(OWN, "answers.jsonl"), "rb") as file:
            self.ok("bench", "drafts", DEMO, "--at-least", "0.75", stdin=file.read())


class Answers(Case):
    """A few held-out questions of each kind; the shares are far enough below the card's to hold on every tier."""

    def share(self, skill, count, right):
        items = held_out(skill, count)
        return sum(right(item) for item in items) / len(items)

    def ask(self, item, *args):
        return self.ok("run", DEMO, item["messages"][-1]["content"], "--temperature", 0, *args)

    def test_arithmetic(self):
        def right(item):
            numbers = re.findall(r"-?\d+", re.sub(r"^.*=", "", self.ask(item, "--thinking", "--no-show-thinking")))
            return bool(numbers) and int(numbers[-1]) == item["check"]["value"]

        self.assertGreaterEqual(self.share("arithmetic_think", 15, right), 0.75)

    def test_docs(self):
        def right(item):
            text = self.ask(item)
            return all(word in text for word in item["check"]["words"])

        self.assertGreaterEqual(self.share("docs", 15, right), 0.6)

    def test_tools(self):
        """Exact calls, from the rendered prompt to the control tokens of the answer."""
        def right(item):
            line = json.dumps({"messages": item["messages"], "tools": item["tools"]})
            prompt = json.loads(self.ok("tokenize", DEMO, "--jsonl", stdin=line))["text"]
            ids = json.loads(self.ok("complete", DEMO, "--no-add-bos", "--json", "--temperature", 0, "--max-tokens", 120,
                                     stdin=prompt))["ids"]
            text = json.loads(self.ok("detokenize", DEMO, "--jsonl", stdin=json.dumps({"ids": ids})))["text"]
            calls = re.findall(r"<｜tool▁call▁begin｜>(.*?)<｜tool▁sep｜>(.*?)<｜tool▁call▁end｜>", text, re.S)
            try:
                return [[name, json.loads(arguments)] for name, arguments in calls] == item["check"]["calls"]
            except ValueError:
                return False

        self.assertGreaterEqual(self.share("tool_seen", 10, right), 0.8)


if __name__ == "__main__":
    main()
