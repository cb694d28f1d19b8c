"""The anthropic Python client against a running server: messages, streams, the tool loop, counts, exceptions.

Usage: anthropic_client.py BASE_URL API_KEY
"""
import json
import sys
import unittest

import anthropic

BASE, KEY = sys.argv[1:3]
GREEDY = {"temperature": 0}  # which this version of the client has no parameter for
HELLO = [{"role": "user", "content": "What should I call you?"}]
TOOLS = [{"name": name, "description": description, "input_schema": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}
    for name, description in (("get_weather", "Get the weather of a city"), ("get_time", "Get the current time in a city"))]
PARIS = [{"role": "user", "content": "What is the weather in Paris?"}]


class Messages(unittest.TestCase):
    def setUp(self):
        self.client = anthropic.Anthropic(base_url=BASE, api_key=KEY, max_retries=0, timeout=120)

    def tearDown(self):
        self.client.close()

    def ask(self, messages, stream=False, **more):
        body = {"model": "demo", "max_tokens": 200, "messages": messages, "extra_body": GREEDY, **more}
        if not stream:
            return self.client.messages.create(**body)
        with self.client.messages.stream(**body) as events:
            for _ in events:
                pass
            return events.get_final_message()

    def same(self, whole, streamed):
        """But for what is new each time."""
        def plain(message):
            data = message.model_dump(exclude_none=True)
            for block in data["content"]:
                for key in ("id", "parsed_output"):
                    block.pop(key, None)
            return {k: data[k] for k in ("role", "model", "stop_reason", "content")}, data["usage"]["output_tokens"]
        self.assertEqual(plain(whole), plain(streamed))

    def test_text(self):
        whole = self.ask(HELLO)
        self.assertEqual([b.type for b in whole.content], ["text"])
        self.assertEqual((whole.stop_reason, whole.role, whole.model), ("end_turn", "assistant", "demo"))
        self.same(whole, self.ask(HELLO, stream=True))
        n = self.client.messages.count_tokens(model="demo", messages=HELLO).input_tokens
        self.assertEqual(n, whole.usage.input_tokens + whole.usage.cache_read_input_tokens)
        self.assertEqual(self.ask(HELLO, max_tokens=2).stop_reason, "max_tokens")
        text = whole.content[0].text
        word = text.split()[2]
        stopped = self.ask(HELLO, stop_sequences=[word])
        self.assertEqual((stopped.stop_reason, stopped.stop_sequence), ("stop_sequence", word))
        self.assertEqual(stopped.content[0].text, text[:text.index(word)])

    def test_text_stream(self):
        with self.client.messages.stream(model="demo", max_tokens=50, messages=HELLO, extra_body=GREEDY) as stream:
            self.assertEqual("".join(stream.text_stream), self.ask(HELLO).content[0].text)

    def test_thinking(self):
        question = [{"role": "user", "content": "What is 12 + 30?"}]
        thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000}
        whole = self.ask(question, **thinking)
        self.assertEqual([b.type for b in whole.content], ["thinking", "text"])
        self.assertIn("42", whole.content[1].text)
        self.same(whole, self.ask(question, stream=True, **thinking))
        again = self.ask([*question, {"role": "assistant", "content": whole.content}, *HELLO])
        self.assertEqual([b.type for b in again.content], ["text"])

    def loop(self, messages, cities, stream, thinking, **more):
        body = {"tools": TOOLS, "max_tokens": 600, **({"thinking": {"type": "enabled", "budget_tokens": 1024}} if thinking else {})}
        first = self.ask(messages, stream, **body, **more)
        self.assertEqual(first.stop_reason, "tool_use")
        self.assertEqual("thinking" in [b.type for b in first.content], thinking)
        uses = [b for b in first.content if b.type == "tool_use"]
        self.assertEqual([(u.name, u.input) for u in uses], [("get_weather", {"city": city}) for city in cities])
        results = [{"type": "tool_result", "tool_use_id": u.id, "content": json.dumps({"temperature": 17, "condition": "sunny"})} for u in uses]
        last = self.ask([*messages, {"role": "assistant", "content": first.content}, {"role": "user", "content": results}], stream, **body)
        self.assertEqual(last.stop_reason, "end_turn")
        self.assertIn("17", last.content[-1].text)

    def test_loop(self):
        """Each choice of tools, and several calls, whole and streamed, thinking and not."""
        for stream in (False, True):
            for thinking in (False, True):
                for choice in ({"type": "auto"}, {"type": "any"}, {"type": "tool", "name": "get_weather"}):
                    with self.subTest(stream=stream, thinking=thinking, choice=choice):
                        self.loop(PARIS, ["Paris"], stream, thinking, tool_choice=choice)
                with self.subTest(stream=stream, thinking=thinking):
                    self.loop([{"role": "user", "content": "Tell me the weather in Paris and Rome."}], ["Paris", "Rome"], stream, thinking)

    def test_several_calls(self):
        question = [{"role": "user", "content": "Tell me the weather in Vienna, Zurich and Stockholm."}]
        want = [{"city": city} for city in ("Vienna", "Zurich", "Stockholm")]
        whole = self.ask(question, tools=TOOLS)
        self.assertEqual([b.input for b in whole.content if b.type == "tool_use"], want)
        self.same(whole, self.ask(question, stream=True, tools=TOOLS))
        one = self.ask(question, tools=TOOLS, tool_choice={"type": "auto", "disable_parallel_tool_use": True})
        self.assertEqual([b.input for b in one.content if b.type == "tool_use"], want[:1])
        for choice in ({"type": "any"}, {"type": "tool", "name": "get_time"}):
            forced = self.ask(HELLO, tools=TOOLS, tool_choice=choice)
            self.assertEqual((forced.stop_reason, forced.content[0].type), ("tool_use", "tool_use"))
        none = self.ask(question, tools=TOOLS, tool_choice={"type": "none"})
        self.assertEqual([b for b in none.content if b.type == "tool_use"], [])

    def test_errors(self):
        for error, call in ((anthropic.BadRequestError, lambda: self.ask([])), (anthropic.BadRequestError, lambda: self.ask(HELLO, max_tokens=0)),
                            (anthropic.NotFoundError, lambda: self.ask(HELLO, model="other")),
                            (anthropic.AuthenticationError, lambda: self.client.with_options(api_key="wrong").messages.create(
                                model="demo", max_tokens=5, messages=HELLO))):
            with self.assertRaises(error) as caught:
                call()
            self.assertEqual(caught.exception.body["type"], "error")


class Async(unittest.IsolatedAsyncioTestCase):
    async def test_left_early(self):
        async with anthropic.AsyncAnthropic(base_url=BASE, api_key=KEY, max_retries=0, timeout=120) as client:
            async with client.messages.stream(model="demo", max_tokens=2000, messages=HELLO, extra_body={"ignore_eos": True}) as stream:
                async for _ in stream:
                    break
            message = await client.messages.create(model="demo", max_tokens=5, messages=HELLO)
            self.assertEqual(message.usage.output_tokens, 5)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
