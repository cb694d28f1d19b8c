"""/v1/chat/completions with tools: calls whole and streamed, their way into the next prompt, what upstream servers got wrong."""
import json
import random

import serving
from serving import EOS, Case, ids_of, real, say, scripted, token

CALLS, CALLS_END = token("<｜tool▁calls▁begin｜>"), token("<｜tool▁calls▁end｜>")
CALL, CALL_END, SEP = token("<｜tool▁call▁begin｜>"), token("<｜tool▁call▁end｜>"), token("<｜tool▁sep｜>")
THINK, THINK_END = token("<think>"), token("</think>")
MARKERS = ("<think>", "</think>", "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>",
           "<｜tool▁call▁end｜>", "<｜tool▁sep｜>")
THINKING = {"chat_template_kwargs": {"thinking": True}}


def tool(name):
    return {"type": "function", "function": {"name": name, "description": "Does it", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}


TOOLS = [tool("get_weather"), tool("get_time")]


def allowed(mode, *names):
    return {"type": "allowed_tools", "allowed_tools": {
        "mode": mode, "tools": [{"type": "function", "function": {"name": n}} for n in names]}}


def call(name, arguments):
    return [CALL, *ids_of(name), SEP, *ids_of(arguments), CALL_END]


def calls(*pairs):
    return [CALLS] + sum((call(*p) for p in pairs), []) + [CALLS_END]


def wide(n):
    """A schema of as many ways to begin an object."""
    return {"type": "object", "properties": {f"p{i}": {"type": "integer"} for i in range(n)}}


class Message:
    """A message, from a whole answer or from the deltas of one choice of a stream."""
    def __init__(self):
        self.content, self.reasoning, self.calls, self.finish, self.pieces = None, None, [], None, 0

    @staticmethod
    def whole(choice):
        m, self = choice["message"], Message()
        self.content, self.reasoning, self.finish = m["content"], m["reasoning"], choice["finish_reason"]
        assert m["reasoning_content"] == m["reasoning"]
        self.calls = [(c["function"]["name"], c["function"]["arguments"]) for c in m.get("tool_calls", [])]
        self.ids = [c["id"] for c in m.get("tool_calls", [])]
        assert all(c["type"] == "function" for c in m.get("tool_calls", []))
        assert m.get("tool_calls") != []
        return self

    @staticmethod
    def streamed(events, index=0):
        self, found = Message(), {}
        self.ids = []
        for choice in [c for e in events for c in e["choices"] if c["index"] == index]:
            assert self.finish is None, "a chunk after the last one"
            self.finish = choice["finish_reason"]
            delta = choice["delta"]
            if delta.get("content"):
                self.content = (self.content or "") + delta["content"]
            if delta.get("reasoning"):
                assert delta["reasoning"] == delta["reasoning_content"]
                self.reasoning = (self.reasoning or "") + delta["reasoning"]
            at = [c["index"] for c in delta.get("tool_calls", [])]
            assert at == sorted(set(at)) and "tool_calls" not in delta or at, delta
            for c in delta.get("tool_calls", []):
                self.pieces += 1
                if c["index"] in found:
                    assert sorted(c) == ["function", "index"] and list(c["function"]) == ["arguments"], c
                    assert c["index"] == max(found), "arguments of a call after the next one began"
                    found[c["index"]][1] += c["function"]["arguments"]
                else:
                    assert sorted(c) == ["function", "id", "index", "type"] and c["type"] == "function", c
                    assert c["index"] == len(found)
                    found[c["index"]] = [c["function"]["name"], c["function"]["arguments"]]
                    self.ids.append(c["id"])
        self.calls = [tuple(found[i]) for i in sorted(found)]
        return self

    def parts(self):
        return self.reasoning or None, self.content or None, self.calls, self.finish


class Answers(Case):
    def check(self, answer, want, bursts=None, **body):
        """The parts of an answer, whole and streamed, in steps of every size."""
        for burst in bursts or range(1, len(answer) + 2):
            with self.subTest(burst=burst), scripted({"answer": answer, "burst": burst}) as s:
                whole = Message.whole(s.chat(tools=TOOLS, **body).json["choices"][0])
                self.assertEqual(whole.parts(), want)
                for interval in (1, 3):
                    events = s.chat(tools=TOOLS, stream=True, stream_interval=interval, **body).events()
                    streamed = Message.streamed(events)
                    self.assertEqual(streamed.parts(), want)
                    self.assertEqual(len(set(streamed.ids + whole.ids)), len(streamed.ids + whole.ids))
                    for id_ in streamed.ids:
                        self.assertRegex(id_, "^chatcmpl-tool-[0-9a-f]{32}$")

    def test_one(self):
        self.check(calls(("get_weather", '{"city": "Paris"}')),
                   (None, None, [("get_weather", '{"city": "Paris"}')], "tool_calls"))

    def test_two(self):
        self.check(calls(("get_weather", '{"city": "Paris"}'), ("get_time", '{"city": "Rome"}')),
                   (None, None, [("get_weather", '{"city": "Paris"}'), ("get_time", '{"city": "Rome"}')], "tool_calls"))

    def test_text_before(self):
        """Also when it comes in one step with the first marker."""
        self.check(ids_of("Let me look.\n\n") + calls(("get_time", '{"city": "Rome"}')),
                   (None, "Let me look.\n\n", [("get_time", '{"city": "Rome"}')], "tool_calls"))

    def test_while_thinking(self):
        self.check(ids_of("I look.") + calls(("get_time", '{"city": "Rome"}')),
                   ("I look.", None, [("get_time", '{"city": "Rome"}')], "tool_calls"), **THINKING)
        self.check(ids_of("I look.") + [THINK_END] + ids_of("Now:") + calls(("get_time", '{}')),
                   ("I look.", "Now:", [("get_time", '{}')], "tool_calls"), bursts=(1, 2, 5, 50), **THINKING)

    def test_ends_of_arguments(self):
        """Not only "}."""
        for text in ('{"n": 17}', '{"n": true}', '{"n": {"m": {}}}', '{"n": [1,\n 2]}\n', "{}", "17", "not JSON"):
            self.check(calls(("get_time", text)), (None, None, [("get_time", text)], "tool_calls"), bursts=(1, 2, 50))

    def test_newlines_and_signs(self):
        text = '{\n  "city": "a < b > c ``` \\n é 中文 🙂"\n}'
        self.check(calls(("get_time", text)), (None, None, [("get_time", text)], "tool_calls"), bursts=(1, 2, 3, 50))

    def test_markers_inside_arguments(self):
        text = [*ids_of('{"city": "'), THINK, THINK_END, SEP, *ids_of('"}')]
        self.check([CALLS, CALL, *ids_of("get_time"), SEP, *text, CALL_END, CALLS_END],
                   (None, None, [("get_time", '{"city": "<think></think><｜tool▁sep｜>"}')], "tool_calls"), bursts=(1, 3, 50))

    def test_no_arguments(self):
        for answer in ([CALLS, CALL, *ids_of("get_time"), SEP, CALL_END, CALLS_END],
                       [CALLS, CALL, *ids_of("get_time"), CALL_END, CALLS_END],
                       [CALL, *ids_of("get_time"), SEP, CALL_END]):
            self.check(answer, (None, None, [("get_time", "{}")], "tool_calls"), bursts=(1, 2, 50))

    def test_no_calls(self):
        """A list without calls is no call."""
        self.check([CALLS, CALLS_END], (None, None, [], "stop"), bursts=(1, 50))
        self.check(ids_of("No.") + [CALLS, CALLS_END], (None, "No.", [], "stop"), bursts=(1, 50))

    def test_words_of_markers(self):
        with scripted({"answer": ids_of("x")}):
            pass
        text = "<| tool_calls_begin |> {\"name\": \"get_time\"} </ think>"
        self.check(ids_of(text), (None, text, [], "stop"), bursts=(1, 50))

    def test_cut(self):
        answer = calls(("get_time", '{"city": "Rome"}'))
        room = answer.index(SEP) + 3
        with scripted({"answer": answer}) as s:
            whole = Message.whole(s.chat(tools=TOOLS, max_tokens=room).json["choices"][0])
            self.assertEqual(whole.finish, "length")
            self.assertEqual(whole.calls[0][0], "get_time")
            self.assertTrue('{"city": "Rome"}'.startswith(whole.calls[0][1]) and whole.calls[0][1])
            streamed = Message.streamed(s.chat(tools=TOOLS, max_tokens=room, stream=True).events())
            self.assertEqual(streamed.parts(), whole.parts())

    def test_pieces(self):
        """Arguments are not kept back until the call is complete."""
        with scripted({"answer": calls(("get_time", '{"city": "Rome"}'))}) as s:
            self.assertGreater(Message.streamed(s.chat(tools=TOOLS, stream=True).events()).pieces, 3)

    def test_not_parallel(self):
        answer = calls(("get_weather", "{}"), ("get_time", "{}"))
        self.check(answer, (None, None, [("get_weather", "{}")], "tool_calls"), parallel_tool_calls=False)
        with scripted({"answer": answer, "delay_ms": 1}) as s:
            self.assertLess(s.chat(tools=TOOLS, parallel_tool_calls=False).json["usage"]["completion_tokens"], len(answer))

    def test_next_turn(self):
        """A model that goes on as the user or a tool has ended."""
        for name in ("<｜User｜>", "<｜tool▁output▁begin｜>"):
            with scripted({"answer": calls(("get_time", "{}")) + [token(name)] + ids_of("17")}) as s:
                choice = s.chat(tools=TOOLS).json["choices"][0]
                self.assertEqual(Message.whole(choice).parts(), (None, None, [("get_time", "{}")], "tool_calls"))
                self.assertIsNone(choice["stop_reason"])

    def test_random(self):
        """Whole and streamed agree, and no marker is seen but in arguments."""
        rng = random.Random(5)
        words = [*ids_of("go é中文🙂 \n {\"a\": 1} get_time "), THINK, THINK_END, CALLS, CALLS_END, CALL, CALL_END, SEP]
        answers = [[rng.choice(words) for _ in range(rng.randrange(1, 30))] for _ in range(40)]
        rules = [{"has": ids_of(f"question {i} !"), "answer": a, "burst": rng.randrange(1, 9)} for i, a in enumerate(answers)]
        with scripted(*rules) as s:
            for i, answer in enumerate(answers):
                body = {"tools": TOOLS, **(THINKING if i % 2 else {})}
                whole = Message.whole(s.chat(f"question {i} !", **body).json["choices"][0])
                streamed = Message.streamed(s.chat(f"question {i} !", stream=True, **body).events())
                self.assertEqual(streamed.parts(), whole.parts(), answer)
                for marker in MARKERS:
                    self.assertNotIn(marker, (whole.content or "") + (whole.reasoning or ""))
                    self.assertFalse([n for n, _ in whole.calls if marker in n])


class Together(Case):
    def test_several_choices(self):
        with scripted({"answer": ids_of("I look.") + [THINK_END] + calls(("get_time", '{"city": "Rome"}')), "delay_ms": 1}) as s:
            want = ("I look.", None, [("get_time", '{"city": "Rome"}')], "tool_calls")
            body = {"tools": TOOLS, "n": 3, "temperature": 1, **THINKING}
            self.assertEqual([Message.whole(c).parts() for c in s.chat(**body).json["choices"]], [want] * 3)
            events = s.chat(stream=True, **body).events()
            messages = [Message.streamed(events, i) for i in range(3)]
            self.assertEqual([m.parts() for m in messages], [want] * 3)
            self.assertEqual(len({m.ids[0] for m in messages}), 3)

    def test_stop_strings(self):
        """They end text, never a call."""
        answer = ids_of("a, b; c") + calls(("get_time", '{"city": "a; b"}'))
        with scripted({"answer": answer}) as s:
            for stream in (False, True):
                def parts(**body):
                    got = s.chat(tools=TOOLS, stream=stream, **body)
                    return (Message.streamed(got.events()) if stream else Message.whole(got.json["choices"][0])).parts()
                self.assertEqual(parts(stop=";"), (None, "a, b", [], "stop"))
                self.assertEqual(parts(stop="; b"), (None, "a, b; c", [("get_time", '{"city": "a; b"}')], "tool_calls"))

    def test_logprobs_and_ids(self):
        """Of every token, markers too; hidden reasoning takes its own away."""
        answer = ids_of("I look.") + [THINK_END] + calls(("get_time", "{}"))
        with scripted({"answer": answer}) as s:
            body = {"tools": TOOLS, "logprobs": True, "return_token_ids": True, **THINKING}
            choice = s.chat(**body).json["choices"][0]
            self.assertEqual(choice["token_ids"], [*answer, EOS])
            self.assertEqual(len(choice["logprobs"]["content"]), len(answer) + 1)
            events = s.chat(stream=True, **body).events()
            self.assertEqual(sum((c.get("token_ids", []) for e in events for c in e["choices"]), []), [*answer, EOS])
            entries = sum((c["logprobs"]["content"] for e in events for c in e["choices"] if c["logprobs"]), [])
            self.assertEqual(entries, choice["logprobs"]["content"])
            choice = s.chat(include_reasoning=False, **body).json["choices"][0]
            after = len(ids_of("I look.")) + 1
            self.assertEqual(choice["token_ids"], [*answer, EOS][after:])
            self.assertEqual(choice["logprobs"]["content"], entries[after:])
            self.assertEqual(Message.whole(choice).parts(), (None, None, [("get_time", "{}")], "tool_calls"))
            events = s.chat(include_reasoning=False, stream=True, **body).events()
            self.assertEqual(sum((c.get("token_ids", []) for e in events for c in e["choices"]), []), [*answer, EOS][after:])
            self.assertEqual(Message.streamed(events).parts(), (None, None, [("get_time", "{}")], "tool_calls"))

    def test_usage(self):
        answer = [THINK, *ids_of("I look."), THINK_END, *calls(("get_time", "{}"))]
        with scripted({"answer": answer}) as s:
            for body in ({}, THINKING):  # the model's own <think> counts too
                usage = s.chat(tools=TOOLS, **body).json["usage"]
                self.assertEqual(usage["completion_tokens"], len(answer) + 1)
                self.assertEqual(usage["completion_tokens_details"], {"reasoning_tokens": len(ids_of("I look."))})
                events = s.chat(tools=TOOLS, stream=True, stream_options={"include_usage": True}, **body).events()
                self.assertEqual(events[-1]["usage"], usage)

    def test_without_tools(self):
        """Markers of calls that nobody asked for are never shown."""
        with scripted({"answer": calls(("get_time", "{}"))}) as s:
            want = "get_time{}"
            for body in ({}, {"tools": TOOLS, "tool_choice": "none"}):
                message = s.chat(**body).json["choices"][0]["message"]
                self.assertEqual((message["content"], message.get("tool_calls")), (want, None))

    def test_refused_tools(self):
        with scripted(say("x")) as s:
            self.refused(s.chat(tools=[tool("a"), tool("b"), tool("a")]), 400, "another tool has the name a", "tools")
            for name in (" ", " a", "a ", "a\n", "\t"):
                self.refused(s.chat(tools=[tool(name)]), 400, "expected a name", "tools")
            array = {"type": "function", "function": {"name": "a", "parameters": {"type": "array"}}}
            self.refused(s.chat(tools=[array]), 400, "expected object", "tools")

    def test_schemas(self):
        """Only a call that is required needs its tool's schema."""
        odd = {"type": "function", "function": {"name": "odd", "parameters": {"type": "object", "properties": {"a": {"not": {}}}}}}
        with scripted(say("x")) as s:
            def ask(choice):
                return s.chat(tools=[odd, *TOOLS], tool_choice=choice)
            for choice in ("auto", "none", {"type": "function", "function": {"name": "get_time"}}, allowed("required", "get_time")):
                self.assertEqual(ask(choice).status, 200, choice)
            for choice in ("required", {"type": "function", "function": {"name": "odd"}}, allowed("required", "odd")):
                self.refused(ask(choice), 400, "tool odd: the schema keyword not is not supported", "tools")
            for parameters, says in (({"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}}, "tool f: no object satisfies its parameters"),
                                     (wide(2050), "tools: there are too many ways to go on at one place of the text: at most 2048")):
                f = {"type": "function", "function": {"name": "f", "parameters": parameters}}
                self.refused(s.chat(tools=[*TOOLS, f], tool_choice="required"), 400, says, "tools")
            self.refused(s.chat(tools=TOOLS, tool_choice={"type": "fn", "function": {"name": "get_time"}}), 400,
                         "tool_choice.type: found fn, expected function", "tool_choice")

    def test_allowed(self):
        with scripted(say("x")) as s:
            for choice, says in ((allowed("maybe", "get_time"), "mode"), (allowed("auto"), "a list of functions"),
                                 (allowed("auto", "get_time", "nope"), "tools[1]: nope is not in tools"),
                                 ({"type": "allowed_tools"}, "expected none"), ({"type": "allowed_tools", "allowed_tools": 5}, "mode"),
                                 ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [5]}}, "no function.name")):
                self.refused(s.chat(tools=TOOLS, tool_choice=choice), 400, says, "tool_choice")
            many = allowed("auto", *["get_time"] * 1025)
            messages = [{"role": "user", "content": "x"}]
            for got in (s.chat(tools=TOOLS, tool_choice=many),
                        s.post("/tokenize", messages=messages, tools=TOOLS, tool_choice=many)):
                self.refused(got, 400, "tool_choice.allowed_tools.tools: found 1025, at most 1024", "tool_choice")
            self.refused(s.post("/tokenize", messages=messages, tools=[TOOLS[0]] * 1025), 400,
                         "tools: found 1025, at most 1024", "tools")
            self.refused(s.chat(tool_choice=allowed("auto", "get_time")), 400, "`tools` must be set", "tool_choice")
            self.refused(s.chat(tools=[{"type": "function", "function": {"name": "f", "description": 5}}]), 400, "found integer", "tools")

    def test_calls_in_messages(self):
        """Calls in the messages lead the model to more; without tools no marker is chosen or shown."""
        calls_before = [{"id": "c", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}]
        with real() as s:
            for seed in range(4):
                answer = s.chat(messages=[
                    {"role": "user", "content": "What is the weather in Paris?"},
                    {"role": "assistant", "content": None, "tool_calls": calls_before},
                    {"role": "tool", "tool_call_id": "c", "content": "sun"},
                    {"role": "user", "content": "What is the weather in Rome?"}], seed=seed, max_tokens=40)
                self.assertEqual(answer.status, 200)
                for marker in MARKERS:
                    self.assertNotIn(marker, answer.json["choices"][0]["message"]["content"])


class Prompts(Case):
    def prompt(self, s, messages, **body):
        tokens = s.post("/tokenize", messages=messages, **body).json["tokens"]
        text = s.post("/detokenize", tokens=tokens).json["prompt"]
        return text[text.index("<｜User｜>"):]

    def test_replay(self):
        """What the server answered goes back into the prompt as the model wrote it; results by the calls they answer."""
        answer = calls(("get_weather", '{"city":"Paris"}'), ("get_time", '{"city": "Rome"}'))
        with scripted({"answer": answer}) as s:
            message = s.chat("Both", tools=TOOLS).json["choices"][0]["message"]
            first, second = (c["id"] for c in message["tool_calls"])
            text = self.prompt(s, [{"role": "user", "content": "Both"}, message,
                                   {"role": "tool", "tool_call_id": second, "content": "noon"},
                                   {"role": "tool", "tool_call_id": first, "content": "sun"}], tools=TOOLS)
            made = s.post("/detokenize", tokens=answer).json["prompt"]
            self.assertEqual(text, "<｜User｜>Both<｜Assistant｜></think>" + made + "<｜end▁of▁sentence｜>"
                             "<｜tool▁output▁begin｜>sun<｜tool▁output▁end｜><｜tool▁output▁begin｜>noon<｜tool▁output▁end｜>")

    def test_allowed(self):
        """Under auto the model sees the allowed tools alone; under required all of them, and a grammar keeps it from the others."""
        def shown(choice):
            tokens = s.post("/tokenize", messages=[{"role": "user", "content": "x"}], tools=TOOLS, tool_choice=choice).json["tokens"]
            text = s.post("/detokenize", tokens=tokens).json["prompt"]
            return [n for n in ("get_weather", "get_time") if "### " + n in text]
        with scripted(say("x")) as s:
            self.assertEqual(shown(allowed("auto", "get_time")), ["get_time"])
            for choice in ("auto", "none", "required", allowed("required", "get_time"), allowed("auto", "get_time", "get_weather")):
                self.assertEqual(shown(choice), ["get_weather", "get_time"])

    def test_after_a_result(self):
        """In thinking mode too the answer there is content: nothing opened <think>."""
        with scripted(say("Sun.")) as s:
            messages = [{"role": "user", "content": "x"},
                        {"role": "assistant", "content": None, "reasoning_content": "r", "tool_calls": [
                            {"id": "1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}]},
                        {"role": "tool", "tool_call_id": "1", "content": "sun"}]
            answer = s.post("/v1/chat/completions", messages=messages, tools=TOOLS, **THINKING).json
            self.assertEqual(Message.whole(answer["choices"][0]).parts(), (None, "Sun.", [], "stop"))
            self.assertNotIn("completion_tokens_details", answer["usage"])

    def test_continue(self):
        """The answer goes on where the last message ends: inside of reasoning, or behind it."""
        with scripted({"answer": ids_of(" more.") + [THINK_END] + ids_of("Yes.")}) as s:
            for last, want in (({"content": "<think>Some"}, (" more.", "Yes.")),
                               ({"content": "<think>Some", "prefix": True}, (" more.", "Yes.")),
                               ({"content": None, "reasoning_content": "Some"}, (" more.", "Yes.")),
                               ({"content": "", "reasoning": "Some"}, (" more.", "Yes.")),
                               ({"content": "So", "reasoning": "Some"}, (None, " more.Yes.")),
                               ({"content": "<think>Some</think>So", "prefix": True}, (None, " more.Yes."))):
                message = s.post("/v1/chat/completions", messages=[
                    {"role": "user", "content": "x"}, {"role": "assistant", **last}], add_generation_prompt=False,
                    continue_final_message=True, **THINKING).json["choices"][0]["message"]
                self.assertEqual((message["reasoning"], message["content"]), want, last)


class Parsers(Case):
    def test_deepseek_v3(self):
        answer = [CALLS, CALL, *ids_of("function"), SEP, *ids_of('get_time\n```json\n{"city": "Rome"}\n```'), CALL_END, CALLS_END]
        for burst in (1, 2, 3, 100):
            with scripted({"answer": answer, "burst": burst}, args=["--tool-call-parser", "deepseek_v3"]) as s:
                want = (None, None, [("get_time", '{"city": "Rome"}')], "tool_calls")
                self.assertEqual(Message.whole(s.chat(tools=TOOLS).json["choices"][0]).parts(), want)
                self.assertEqual(Message.streamed(s.chat(tools=TOOLS, stream=True).events()).parts(), want)

    def test_deepseek_r1(self):
        """Where the prompt ends with the assistant's mark alone, the answer begins with reasoning."""
        template = "{{ bos_token }}{% for m in messages %}<｜User｜>{{ m.content }}{% endfor %}<｜Assistant｜>"
        for args, want in ((["--reasoning-parser", "deepseek_r1"], ("I see", "Yes")), ([], (None, "I seeYes"))):
            with scripted({"answer": [*ids_of("I see"), THINK_END, *ids_of("Yes")]},
                          args=["--trust-request-chat-template", *args]) as s:
                message = s.chat(chat_template=template).json["choices"][0]["message"]
                self.assertEqual((message["reasoning"], message["content"]), want)

    def test_not_the_models(self):
        with self.assertRaisesRegex(RuntimeError, "--tool-call-parser kimi_k2: the model's tokenizer has no tokens"):
            with scripted(say("x"), args=["--tool-call-parser", "kimi_k2"]):
                pass


class Demo(Case):
    """The demo model knows these tools."""
    def test_calls(self):
        with real() as s:
            body = {"tools": TOOLS, "temperature": 0, "max_tokens": 60}
            want = [("get_weather", {"city": "Paris"})]
            for stream in (False, True):
                answer = s.chat("What is the weather in Paris?", stream=stream, **body)
                message = Message.streamed(answer.events()) if stream else Message.whole(answer.json["choices"][0])
                self.assertEqual([(n, json.loads(a)) for n, a in message.calls], want)
                self.assertEqual(message.finish, "tool_calls")
            none = s.chat("What is the weather in Paris?", tool_choice="none", **body).json["choices"][0]
            self.assertNotIn("tool_calls", none["message"])
            for marker in MARKERS:
                self.assertNotIn(marker, none["message"]["content"])

    def test_required(self):
        """Whatever is asked, calls of these tools come, with arguments that fit, whole and streamed; thinking may come first."""
        named = {"type": "function", "function": {"name": "get_time"}}
        with real() as s:
            for question in ("Hello", "What is 12 + 30?", "What is the weather in Paris?"):
                for choice, names, finish in (("required", {"get_time", "get_weather"}, "tool_calls"), (named, {"get_time"}, "stop"),
                                              (allowed("required", "get_time"), {"get_time"}, "tool_calls")):
                    for more in ({}, {"parallel_tool_calls": False}, THINKING):
                        body = {"tools": TOOLS, "tool_choice": choice, "temperature": 0, "max_tokens": 400, **more}
                        whole = Message.whole(s.chat(question, **body).json["choices"][0])
                        self.assertEqual(whole.finish, finish)
                        self.assertIsNone(whole.content)
                        self.assertEqual(bool(whole.reasoning), more is THINKING)
                        self.assertLessEqual({n for n, _ in whole.calls}, names)
                        for _, arguments in whole.calls:
                            self.assertIsInstance(json.loads(arguments)["city"], str)
                        if "parallel_tool_calls" in more:
                            self.assertEqual(len(whole.calls), 1)
                        streamed = Message.streamed(s.chat(question, stream=True, **body).events())
                        self.assertEqual(streamed.parts(), whole.parts())
        with scripted(say("x"), args=["--tool-call-parser", "deepseek_v3"]) as s:
            self.refused(s.chat(tools=TOOLS, tool_choice="required"), 400, "deepseek_v3", "tool_choice")

    def test_thinking_budget(self):
        with real() as s:
            body = {"temperature": 0, "max_tokens": 200, **THINKING}
            free = s.chat("What is 17 + 25?", **body).json
            n = free["usage"]["completion_tokens_details"]["reasoning_tokens"]
            self.assertGreater(n, 3)
            for budget in (0, 1, 3, n, n + 50, -1):
                answer = s.chat("What is 17 + 25?", thinking_token_budget=budget, **body).json
                got = answer["usage"]["completion_tokens_details"]["reasoning_tokens"]
                self.assertEqual(got, min(n, budget) if budget >= 0 else n)
                if budget >= n or budget < 0:
                    self.assertEqual(answer["choices"], free["choices"])
                else:
                    self.assertIsNotNone(answer["choices"][0]["message"]["content"])
            plain = s.chat("Hello", temperature=0, max_tokens=20).json["choices"]
            self.assertEqual(s.chat("Hello", temperature=0, max_tokens=20, thinking_token_budget=0).json["choices"], plain)


if __name__ == "__main__":
    serving.main()
