"""openai-python against a running server: what its users call, with the types and exceptions that it makes of the answers.

Usage: openai_client.py BASE_URL API_KEY
"""
import asyncio
import json
import sys
import time
import unittest

import openai

BASE, KEY = sys.argv[1:3]
HELLO = [{"role": "user", "content": "What is fathom?"}]
GREEDY = {"temperature": 0, "max_tokens": 24}


class Sync(unittest.TestCase):
    def setUp(self):
        self.client = openai.OpenAI(base_url=BASE, api_key=KEY, max_retries=0, timeout=120)
        self.model = self.client.models.list().data[0].id

    def tearDown(self):
        self.client.close()

    def chat(self, **more):
        return self.client.chat.completions.create(**{"model": self.model, "messages": HELLO, **GREEDY, **more})

    def complete(self, **more):
        return self.client.completions.create(**{"model": self.model, "prompt": "fathom", **GREEDY, **more})

    def test_models(self):
        models = self.client.models.list()
        self.assertEqual((models.object, models.data[0].object), ("list", "model"))
        self.assertGreater(models.data[0].max_model_len, 0)

    def test_chat(self):
        answer = self.chat()
        self.assertTrue(answer.choices[0].message.content)
        self.assertEqual(answer.choices[0].message.role, "assistant")
        self.assertEqual(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)
        self.assertIn(answer.choices[0].finish_reason, ("stop", "length"))
        self.assertEqual(self.chat().choices[0].message.content, answer.choices[0].message.content)

    def test_streams_say_the_same(self):
        whole = self.chat()
        chunks = list(self.chat(stream=True, stream_options={"include_usage": True}))
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        self.assertEqual(text, whole.choices[0].message.content)
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        self.assertEqual(chunks[-1].choices, [])
        self.assertEqual(chunks[-1].usage, whole.usage)
        self.assertEqual([c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason],
                         [whole.choices[0].finish_reason])
        whole = self.complete()
        text = "".join(c.choices[0].text for c in self.complete(stream=True))
        self.assertEqual(text, whole.choices[0].text)

    def test_stream_helper(self):
        """client.chat.completions.stream() puts the pieces together itself, and complains of any that do not fit."""
        with self.client.chat.completions.stream(model=self.model, messages=HELLO, temperature=0) as stream:
            kinds = {event.type for event in stream}
            final = stream.get_final_completion()
        self.assertLessEqual({"chunk", "content.delta", "content.done"}, kinds)
        self.assertEqual(final.choices[0].message.content, self.chat(max_tokens=openai.NOT_GIVEN).choices[0].message.content)

    def test_stream_left_early(self):
        with self.chat(stream=True, max_tokens=2000, extra_body={"ignore_eos": True}) as stream:
            for _, chunk in zip(range(5), stream):
                self.assertTrue(chunk.choices)
        self.assertTrue(self.chat().choices)

    def test_several_choices(self):
        answer = self.chat(n=3, temperature=2, seed=5)
        self.assertEqual([c.index for c in answer.choices], [0, 1, 2])
        self.assertGreater(len({c.message.content for c in answer.choices}), 1)
        texts = {}
        for chunk in self.chat(n=3, temperature=2, seed=5, stream=True):
            for c in chunk.choices:
                texts[c.index] = texts.get(c.index, "") + (c.delta.content or "")
        self.assertEqual([texts[i] for i in range(3)], [c.message.content for c in answer.choices])
        answer = self.complete(prompt=["fathom", "The"], n=2, temperature=1)
        self.assertEqual([c.index for c in answer.choices], [0, 1, 2, 3])

    def test_seed(self):
        texts = [self.complete(temperature=1, seed=seed).choices[0].text for seed in (1, 1, 2)]
        self.assertEqual(texts[0], texts[1])
        self.assertNotEqual(texts[0], texts[2])

    def test_logprobs(self):
        answer = self.chat(logprobs=True, top_logprobs=3, max_tokens=5)
        content = answer.choices[0].logprobs.content
        self.assertEqual(len(content), answer.usage.completion_tokens)
        for token in content:
            self.assertLessEqual(token.logprob, 0)
            self.assertEqual(len(token.top_logprobs), 3)
            self.assertEqual(token.top_logprobs[0].logprob, token.logprob)  # greedy
            self.assertEqual(bytes(token.bytes).decode(errors="replace"), token.token)
        text = self.complete(logprobs=2, max_tokens=5, echo=True)
        logprobs = text.choices[0].logprobs
        self.assertIsNone(logprobs.token_logprobs[0])
        self.assertEqual(len(logprobs.tokens), text.usage.total_tokens)
        self.assertEqual(len(logprobs.tokens), len(logprobs.text_offset))

    def test_stop(self):
        text = self.complete().choices[0].text
        word = text.split()[3]
        answer = self.complete(stop=[word, "never said"]).choices[0]
        self.assertEqual((answer.finish_reason, answer.text), ("stop", text[:text.index(word)]))
        streamed = "".join(c.choices[0].text for c in self.complete(stop=word, stream=True))
        self.assertEqual(streamed, answer.text)
        self.assertEqual(self.complete(max_tokens=3).choices[0].finish_reason, "length")

    def test_raw_response(self):
        raw = self.client.chat.completions.with_raw_response.create(model=self.model, messages=HELLO, max_tokens=1)
        self.assertEqual(raw.status_code, 200)
        self.assertEqual(len(raw.parse().choices), 1)

    def test_errors(self):
        for error, status, call in (
                (openai.BadRequestError, 400, lambda: self.chat(temperature=5)),
                (openai.BadRequestError, 400, lambda: self.chat(messages=[])),
                (openai.BadRequestError, 400, lambda: self.complete(max_tokens=1000000)),
                (openai.BadRequestError, 400, lambda: self.chat(temperature=-1, stream=True)),
                (openai.NotFoundError, 404, lambda: self.chat(model="other")),
                (openai.NotFoundError, 404, lambda: self.client.embeddings.create(model=self.model, input="x")),
                (openai.AuthenticationError, 401, lambda: self.client.with_options(api_key="wrong").models.list())):
            with self.assertRaises(error) as caught:
                call()
            self.assertEqual(caught.exception.status_code, status)
        with self.assertRaises(openai.BadRequestError) as caught:
            self.chat(temperature=5)
        self.assertEqual(caught.exception.param, "temperature")
        self.assertIn("temperature", caught.exception.message)
        with self.assertRaises(openai.BadRequestError) as caught:
            self.complete(max_tokens=1000000)
        self.assertIn("maximum context length", str(caught.exception))

    def test_timeout(self):
        with self.assertRaises(openai.APITimeoutError):
            self.client.with_options(timeout=0.2).completions.create(
                model=self.model, prompt="fathom", max_tokens=3000, extra_body={"ignore_eos": True})
        began = time.monotonic()
        self.assertTrue(self.complete(max_tokens=1).choices)
        self.assertLess(time.monotonic() - began, 60)


def function(name, description, **properties):
    return {"type": "function", "function": {"name": name, "description": description, "parameters": {
        "type": "object", "properties": {n: {"type": t} for n, t in properties.items()}, "required": list(properties)}}}


class Tools(unittest.TestCase):
    """The loop that agents run: ask, call, answer with results. The demo model knows these functions."""
    TOOLS = [function("get_weather", "Get the weather of a city", city="string"),
             function("get_time", "Get the current time in a city", city="string")]

    def setUp(self):
        self.client = openai.OpenAI(base_url=BASE, api_key=KEY, max_retries=0, timeout=120)

    def tearDown(self):
        self.client.close()

    def ask(self, messages, stream, **more):
        """A message and why it ended; from a stream, put together as its users do."""
        body = {"model": "demo", "messages": messages, "tools": self.TOOLS, "temperature": 0, "max_tokens": 120, **more}
        if not stream:
            choice = self.client.chat.completions.create(**body).choices[0]
            return choice.message.model_dump(exclude_none=True), choice.finish_reason
        message, calls, finish = {"role": "assistant", "content": ""}, {}, None
        for chunk in self.client.chat.completions.create(stream=True, **body):
            choice = chunk.choices[0]
            finish = choice.finish_reason or finish
            message["content"] += choice.delta.content or ""
            message["reasoning"] = message.get("reasoning", "") + (getattr(choice.delta, "reasoning", None) or "")
            for c in choice.delta.tool_calls or []:
                call = calls.setdefault(c.index, {"id": c.id, "type": c.type, "function": {"name": c.function.name, "arguments": ""}})
                call["function"]["arguments"] += c.function.arguments
        if calls:
            message["tool_calls"] = [calls[i] for i in sorted(calls)]
        return {k: v for k, v in message.items() if v}, finish

    def loop(self, question, stream, **more):
        """What was called in each round, and the last message."""
        messages, rounds = [{"role": "user", "content": question}], []
        while len(rounds) < 4:
            message, finish = self.ask(messages, stream, **more)
            messages.append(message)
            calls = message.get("tool_calls", [])
            self.assertEqual(finish, "tool_calls" if calls else "stop")
            if not calls:
                return rounds, message
            rounds.append([(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in calls])
            for c in reversed(calls):  # results may come in any order
                result = {"temperature": 17, "condition": "sunny"} if c["function"]["name"] == "get_weather" else {"time": "12:30"}
                messages.append({"role": "tool", "tool_call_id": c["id"], "content": json.dumps(result)})
        self.fail("the model calls for ever")

    def test_loop(self):
        for stream in (False, True):
            rounds, last = self.loop("What is the weather in Paris?", stream)
            self.assertEqual(rounds, [[("get_weather", {"city": "Paris"})]])
            self.assertIn("17", last["content"])

    def test_loops(self):
        """Each choice of tools, whole and streamed, thinking and not: calls come, get their results, and the answer is made of them."""
        question = "What is the weather in Paris?"
        named = {"type": "function", "function": {"name": "get_weather"}}
        only = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [named]}}
        for stream in (False, True):
            for thinking in (False, True):
                for choice in ("auto", "required", named, only):
                    with self.subTest(stream=stream, thinking=thinking, choice=choice):
                        more = {"max_tokens": 600, "extra_body": {"chat_template_kwargs": {"thinking": thinking}}}
                        ask = [{"role": "user", "content": question}]
                        message, finish = self.ask(ask, stream, tool_choice=choice, **more)
                        calls = message["tool_calls"]
                        self.assertEqual(finish, "stop" if choice is named else "tool_calls")
                        self.assertEqual([(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in calls],
                                         [("get_weather", {"city": "Paris"})])
                        self.assertEqual(bool(message.get("reasoning")), thinking)
                        ask += [message, {"role": "tool", "tool_call_id": calls[0]["id"],
                                          "content": json.dumps({"temperature": 17, "condition": "sunny"})}]
                        last, finish = self.ask(ask, stream, **more)
                        self.assertEqual((finish, last.get("tool_calls")), ("stop", None))
                        self.assertIn("17", last["content"])

    def test_several_calls(self):
        want = [("get_weather", {"city": city}) for city in ("Vienna", "Zurich", "Stockholm")]
        for stream in (False, True):
            for thinking in (False, True):
                rounds, last = self.loop("Tell me the weather in Vienna, Zurich and Stockholm.", stream, max_tokens=600,
                                         extra_body={"chat_template_kwargs": {"thinking": thinking}})
                self.assertEqual(rounds, [want], (stream, thinking))
                self.assertIn("17", last["content"])
            message, finish = self.ask([{"role": "user", "content": "Tell me the weather in Vienna, Zurich and Stockholm."}],
                                       stream, parallel_tool_calls=False)
            self.assertEqual([json.loads(c["function"]["arguments"]) for c in message["tool_calls"]], [want[0][1]])
            self.assertEqual(finish, "tool_calls")

    def test_thinking(self):
        """Both modes give the same message whole and streamed; markers stay inside."""
        for thinking in (False, True):
            extra = {"extra_body": {"chat_template_kwargs": {"thinking": thinking}}}
            for question in ("What is the weather in Paris?", "What is 12 + 30?"):
                ask = [{"role": "user", "content": question}]
                whole, finish = self.ask(ask, False, **extra)
                streamed, streamed_finish = self.ask(ask, True, **extra)
                for message in (whole, streamed):
                    message.pop("reasoning_content", None)
                    for call in message.get("tool_calls", []):
                        call.pop("id")
                self.assertEqual(({k: v for k, v in whole.items() if v}, finish), (streamed, streamed_finish))
                self.assertEqual(bool(whole.get("reasoning")), thinking)
                self.assertNotRegex(json.dumps(whole, ensure_ascii=False), "think>|｜")

    def test_stream_helper(self):
        """It puts calls together itself, and complains of pieces that do not fit."""
        with self.client.chat.completions.stream(model="demo", messages=[{"role": "user", "content": "Tell me the weather in Paris and Rome."}],
                                                 tools=self.TOOLS, temperature=0, max_tokens=120) as stream:
            kinds = {event.type for event in stream}
            choice = stream.get_final_completion().choices[0]
        self.assertLessEqual({"tool_calls.function.arguments.delta", "tool_calls.function.arguments.done"}, kinds)
        self.assertEqual(choice.finish_reason, "tool_calls")
        self.assertEqual([json.loads(c.function.arguments) for c in choice.message.tool_calls], [{"city": "Paris"}, {"city": "Rome"}])

    def test_several_choices(self):
        ask = [{"role": "user", "content": "What is the weather in Paris?"}]
        answer = self.client.chat.completions.create(model="demo", messages=ask, tools=self.TOOLS, n=3, temperature=0.3, seed=1,
                                                     max_tokens=120, logprobs=True)
        for choice in answer.choices:
            self.assertEqual([c.function.name for c in choice.message.tool_calls], ["get_weather"])
            self.assertIsNone(choice.message.content)
            self.assertGreater(len(choice.logprobs.content), 3)

    def test_none(self):
        message, finish = self.ask([{"role": "user", "content": "What is the weather in Paris?"}], False, tool_choice="none")
        self.assertNotIn("tool_calls", message)
        self.assertIn(finish, ("stop", "length"))

    def test_required(self):
        """Calls come where the model would rather talk."""
        ask = [{"role": "user", "content": "What should I call you?"}]
        for stream in (False, True):
            message, finish = self.ask(ask, stream, tool_choice="required")
            self.assertEqual(finish, "tool_calls")
            message, finish = self.ask(ask, stream, tool_choice={"type": "function", "function": {"name": "get_time"}})
            self.assertEqual({c["function"]["name"] for c in message["tool_calls"]}, {"get_time"})
            self.assertEqual(list(json.loads(message["tool_calls"][0]["function"]["arguments"])), ["city"])

    def test_no_need(self):
        """Tools that do not fit the question are not called."""
        message, finish = self.ask([{"role": "user", "content": "What should I call you?"}], True)
        self.assertTrue(message["content"])
        self.assertEqual(finish, "stop")


class Responses(unittest.TestCase):
    """client.responses, whole and by its stream helper, which checks the order of events."""
    TOOLS = [{"type": "function", **t["function"], "strict": False} for t in Tools.TOOLS]

    def setUp(self):
        self.client = openai.OpenAI(base_url=BASE, api_key=KEY, max_retries=0, timeout=120)

    def tearDown(self):
        self.client.close()

    def ask(self, given, stream=False, **more):
        body = {"model": "demo", "input": given, "temperature": 0, "max_output_tokens": 400, **more}
        if not stream:
            return self.client.responses.create(**body)
        with self.client.responses.stream(**body) as events:
            for _ in events:
                pass
            return events.get_final_response()

    def test_text(self):
        whole = self.ask("What should I call you?")
        self.assertEqual((whole.status, whole.object, whole.model), ("completed", "response", "demo"))
        self.assertTrue(whole.output_text)
        self.assertEqual(self.ask("What should I call you?", stream=True).output_text, whole.output_text)
        self.assertEqual(self.ask("What should I call you?", max_output_tokens=2).status, "incomplete")

    def test_reasoning(self):
        for stream in (False, True):
            response = self.ask("What is 12 + 30?", stream, reasoning={"effort": "high"}, max_output_tokens=2000)
            self.assertEqual([item.type for item in response.output], ["reasoning", "message"])
            self.assertIn("42", response.output_text)
            self.assertTrue(response.output[0].content[0].text)
            self.assertGreater(response.usage.output_tokens_details.reasoning_tokens, 3)

    def loop(self, question, want, stream, effort, **more):
        body = {"tools": self.TOOLS, "reasoning": {"effort": effort}, "max_output_tokens": 600}
        given = [{"role": "user", "content": question}]
        first = self.ask(given, stream, **body, **more)
        calls = [item for item in first.output if item.type == "function_call"]
        self.assertEqual([json.loads(c.arguments) for c in calls], want)
        self.assertEqual("reasoning" in [item.type for item in first.output], effort != "none")
        given += [item.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for item in first.output]
        given += [{"type": "function_call_output", "call_id": c.call_id,
                   "output": json.dumps({"temperature": n, "condition": "sunny"})} for n, c in zip((17, 23), calls)]
        last = self.ask(given, stream, **body)
        self.assertEqual([item.type for item in last.output], ["message"])
        self.assertIn("17", last.output_text)

    def test_loop(self):
        """Several calls, and each choice of tools, whole and streamed, thinking and not."""
        named = {"type": "function", "name": "get_weather"}
        only = {"type": "allowed_tools", "mode": "required", "tools": [named]}
        for stream in (False, True):
            for effort in ("none", "high"):
                with self.subTest(stream=stream, effort=effort):
                    self.loop("Tell me the weather in Paris and Rome.", [{"city": "Paris"}, {"city": "Rome"}], stream, effort)
                for choice in ("auto", "required", named, only):
                    with self.subTest(stream=stream, effort=effort, choice=choice):
                        self.loop("What is the weather in Paris?", [{"city": "Paris"}], stream, effort, tool_choice=choice)

    def test_errors(self):
        with self.assertRaises(openai.BadRequestError):
            self.ask("x", previous_response_id="resp_1")
        with self.assertRaises(openai.NotFoundError):
            self.ask("x", model="other")


class Async(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.client = openai.AsyncOpenAI(base_url=BASE, api_key=KEY, max_retries=0, timeout=120)
        self.model = (await self.client.models.list()).data[0].id

    async def asyncTearDown(self):
        await self.client.close()

    async def stream(self, **more):
        stream = await self.client.chat.completions.create(model=self.model, messages=HELLO, stream=True, **{**GREEDY, **more})
        return "".join([c.choices[0].delta.content or "" async for c in stream])

    async def test_many_at_a_time(self):
        want = (await self.client.chat.completions.create(model=self.model, messages=HELLO, **GREEDY)).choices[0].message.content
        got = await asyncio.gather(*[self.stream() for _ in range(24)])
        self.assertEqual(set(got), {want})

    async def test_cancelled(self):
        tasks = [asyncio.create_task(self.stream(max_tokens=3000, extra_body={"ignore_eos": True})) for _ in range(6)]
        await asyncio.sleep(0.5)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.assertTrue(await self.stream())

    async def test_errors(self):
        with self.assertRaises(openai.NotFoundError):
            await self.client.completions.create(model="other", prompt="x")
        with self.assertRaises(openai.AuthenticationError):
            await self.client.with_options(api_key="wrong").completions.create(model=self.model, prompt="x")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
