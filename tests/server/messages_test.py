"""/v1/messages: the Anthropic API over the same answers."""
import json

import serving
from serving import Case, ids_of, real, say, scripted
from tools_test import THINK_END, calls

TOOLS = [{"name": name, "description": "Does it", "input_schema": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}} for name in ("get_weather", "get_time")]
OPENAI_TOOLS = [{"type": "function", "function": {"name": t["name"], "description": t["description"],
                                                   "parameters": t["input_schema"]}} for t in TOOLS]
THINKING = {"thinking": {"type": "enabled", "budget_tokens": 2000}}
HI = [{"role": "user", "content": "hi"}]


def ask(s, messages=None, **body):
    return s.post("/v1/messages", **{"messages": messages or HI, "max_tokens": 200, **body})


def events_of(answer):
    """(name, data) of each event; the names and types agree."""
    events = []
    for block in answer.body.decode().split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if lines:
            assert lines[0].startswith("event: ") and lines[1].startswith("data: ") and len(lines) == 2, lines
            events.append((lines[0][7:], json.loads(lines[1][6:])))
            assert events[-1][0] == events[-1][1]["type"]
    return events


def put_together(events):
    """The message that a stream adds up to; complains of events out of order."""
    names = [name for name, _ in events]
    assert names[0] == "message_start" and names[-2:] == ["message_delta", "message_stop"], names
    message, open_block = events[0][1]["message"], None
    assert message["content"] == [] and message["stop_reason"] is None
    for name, data in events[1:-2]:
        if name == "content_block_start":
            assert open_block is None and data["index"] == len(message["content"])
            open_block = dict(data["content_block"])
            message["content"].append(open_block)
            partial = ""
        elif name == "content_block_delta":
            delta = data["delta"]
            assert data["index"] == len(message["content"]) - 1 and open_block is not None
            kind = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "tool_use"}[delta["type"]]
            assert open_block["type"] == kind
            if kind == "tool_use":
                partial += delta["partial_json"]
            else:
                assert delta[kind]
                open_block[kind] += delta[kind]
        elif name == "content_block_stop":
            assert data["index"] == len(message["content"]) - 1
            if open_block["type"] == "tool_use":
                open_block["input"] = json.loads(partial) if partial else {}
            open_block = None
        else:
            assert name == "ping"
    assert open_block is None
    message.update(events[-2][1]["delta"])
    message["usage"] = events[-2][1]["usage"]
    return message


class Answers(Case):
    def check(self, answer, content, stop, bursts=(1, 2, 3, 100), **body):
        for burst in bursts:
            with self.subTest(burst=burst), scripted({"answer": answer, "burst": burst}) as s:
                whole = ask(s, **body).json
                streamed = put_together(events_of(ask(s, stream=True, **body)))
                for message in (whole, streamed):
                    for block in message["content"]:
                        if block["type"] == "tool_use":
                            self.assertRegex(block.pop("id"), "^toolu_[0-9a-f]{32}$")
                    self.assertRegex(message.pop("id"), "^msg_")
                    self.assertEqual(message.pop("content"), content)
                    self.assertEqual((message.pop("stop_reason"), message.pop("stop_sequence")), stop)
                self.assertEqual(streamed, whole)
                usage = whole.pop("usage")
                self.assertEqual(whole, {"type": "message", "role": "assistant", "model": "demo"})
                self.assertEqual(sorted(usage), ["cache_creation_input_tokens", "cache_read_input_tokens", "input_tokens",
                                                 "output_tokens"])
                n = s.post("/v1/messages/count_tokens", **{"messages": HI, **body}).json
                self.assertEqual(n, {"input_tokens": usage["input_tokens"] + usage["cache_read_input_tokens"]})

    def test_text(self):
        self.check(ids_of("one é 🙂"), [{"type": "text", "text": "one é 🙂"}], ("end_turn", None))
        self.check([], [], ("end_turn", None))

    def test_thinking(self):
        self.check(ids_of("I see.") + [THINK_END] + ids_of("Yes."),
                   [{"type": "thinking", "thinking": "I see.", "signature": ""}, {"type": "text", "text": "Yes."}],
                   ("end_turn", None), **THINKING)

    def test_tools(self):
        self.check(ids_of("I look.") + [THINK_END] + ids_of("Now:") + calls(("get_weather", '{"city": "Paris"}'), ("get_time", "{}")),
                   [{"type": "thinking", "thinking": "I look.", "signature": ""}, {"type": "text", "text": "Now:"},
                    {"type": "tool_use", "name": "get_weather", "input": {"city": "Paris"}},
                    {"type": "tool_use", "name": "get_time", "input": {}}], ("tool_use", None), tools=TOOLS, **THINKING)
        self.check(calls(("get_weather", '{"city": "Paris"}'), ("get_time", "{}")),
                   [{"type": "tool_use", "name": "get_weather", "input": {"city": "Paris"}}], ("tool_use", None),
                   tools=TOOLS, tool_choice={"type": "auto", "disable_parallel_tool_use": True})

    def test_order(self):
        """Blocks stand in the order in which the model wrote them."""
        use = {"type": "tool_use", "name": "get_time", "input": {}}
        self.check(calls(("get_time", "{}")) + ids_of("b") + calls(("get_time", "{}")), [use, {"type": "text", "text": "b"}, use],
                   ("tool_use", None), tools=TOOLS)

    def test_events(self):
        """In the order of Anthropic's own."""
        with scripted({"answer": ids_of("I") + [THINK_END] + ids_of("a") + calls(("get_time", '{"city": "Rome"}'))}) as s:
            names = [name for name, _ in events_of(ask(s, stream=True, tools=TOOLS, **THINKING))]
            self.assertEqual(names[:2], ["message_start", "ping"])
            self.assertEqual([n for n in names if n != "content_block_delta"], ["message_start", "ping"] + [
                "content_block_start", "content_block_stop"] * 3 + ["message_delta", "message_stop"])

    def test_accepted(self):
        """What Claude Code and others send besides."""
        with scripted(say("x")) as s:
            for body in ({"metadata": {"user_id": "u"}}, {"service_tier": "auto"}, {"context_management": {"edits": []}}, {"mcp_servers": []},
                         {"system": [{"type": "text", "text": "S", "cache_control": {"type": "ephemeral"}}]}, {"tools": []},
                         {"tools": [{**TOOLS[0], "cache_control": {"type": "ephemeral"}, "type": "custom"}]},
                         {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}, {"tool_choice": {"type": "auto"}},
                         {"output_format": {"type": "text"}}, {"output_format": None},
                         {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}}):
                self.assertEqual(ask(s, **body).status, 200, body)
            self.assertEqual(s.ask("POST", "/v1/messages?beta=true", {"messages": HI, "max_tokens": 5}).status, 200)

    def test_stop(self):
        self.check(ids_of("one; two"), [{"type": "text", "text": "one"}], ("stop_sequence", ";"), stop_sequences=[";"])
        with scripted(say("one two three")) as s:
            self.assertEqual(ask(s, max_tokens=2).json["stop_reason"], "max_tokens")

    def test_no_object(self):
        self.check(calls(("get_time", "[1, 2")), [{"type": "tool_use", "name": "get_time", "input": {"INVALID_JSON": "[1, 2"}}],
                   ("tool_use", None), tools=TOOLS)


class Prompts(Case):
    def same(self, s, ours, openai, **body):
        """The Anthropic request has the prompt of the chat."""
        body.setdefault("tools", [])
        got = s.post("/v1/messages/count_tokens", messages=ours, **body)
        chat = {"messages": openai}
        if body["tools"]:
            chat["tools"] = OPENAI_TOOLS
        want = s.post("/tokenize", **chat).json["tokens"]
        self.assertEqual(got.json, {"input_tokens": len(want)})
        rule = {"has": want, "answer": ids_of("same")}
        with scripted(rule, say("different")) as t:
            self.assertEqual(ask(t, ours, **body).json["content"][0]["text"], "same")

    def test_messages(self):
        with scripted(say("x")) as s:
            self.same(s, [{"role": "user", "content": "a"}, {"role": "assistant", "content": [{"type": "text", "text": "b"}]},
                          {"role": "ctx", "content": [{"type": "text", "text": "c", "cache_control": {"type": "ephemeral"}}]}],
                      [{"role": "system", "content": "S\nT"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
                       {"role": "user", "content": "c"}],
                      system=[{"type": "text", "text": "x-anthropic-billing-header: n=1"}, {"type": "text", "text": "S"},
                              {"type": "text", "text": "T"}])

    def test_tools(self):
        with scripted(say("x")) as s:
            self.same(s, [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "r", "signature": "s"}, {"type": "redacted_thinking", "data": "x"},
                    {"type": "text", "text": "b"},
                    {"type": "tool_use", "id": "1", "name": "get_weather", "input": {"city": "é"}},
                    {"type": "tool_use", "id": "2", "name": "get_time", "input": {}}]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "2", "content": [{"type": "text", "text": "noon"}]},
                    {"type": "tool_result", "tool_use_id": "1", "content": "sun", "is_error": False}]}],
                [{"role": "user", "content": "a"},
                 {"role": "assistant", "content": "b", "tool_calls": [
                     {"id": "1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "é"}'}},
                     {"id": "2", "type": "function", "function": {"name": "get_time", "arguments": "{}"}}]},
                 {"role": "tool", "tool_call_id": "1", "content": "sun"}, {"role": "tool", "tool_call_id": "2", "content": "noon"}],
                tools=TOOLS)
            self.same(s, [{"role": "user", "content": "a"},
                          {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "get_time", "input": {}}]},
                          {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1"}, {"type": "text", "text": "So?"}]}],
                      [{"role": "user", "content": "a"},
                       {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "get_time", "arguments": "{}"}}]},
                       {"role": "tool", "tool_call_id": "1", "content": ""}, {"role": "user", "content": "So?"}])

    def test_continue(self):
        with scripted({"has": ids_of("Hello"), "answer": ids_of(" there")}, say("different")) as s:
            answer = ask(s, HI + [{"role": "assistant", "content": "Hello"}]).json
            self.assertEqual(answer["content"], [{"type": "text", "text": " there"}])


class Refusals(Case):
    def refused(self, answer, status, kind, says):
        self.assertEqual(answer.status, status, answer.body)
        self.assertEqual(sorted(answer.json), ["error", "type"])
        self.assertEqual((answer.json["type"], answer.json["error"]["type"]), ("error", kind))
        self.assertIn(says, answer.json["error"]["message"])

    def test_fields(self):
        bad = "invalid_request_error"
        image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}}
        use = {"type": "tool_use", "id": "1", "name": "f", "input": {}}
        with scripted(say("x"), args=["--api-key", "secret"]) as s:
            def send(**body):
                return s.post("/v1/messages", {"x-api-key": "secret"}, **{"messages": HI, "max_tokens": 5, **body})
            self.assertEqual(send().status, 200)
            self.refused(s.post("/v1/messages", messages=HI, max_tokens=5), 401, "authentication_error", "Unauthorized")
            self.refused(s.ask("GET", "/v1/messages", headers={"x-api-key": "secret"}), 405, bad, "Method")
            self.refused(s.ask("POST", "/v1/messages", "{", {"x-api-key": "secret"}), 400, bad, "request body")
            self.refused(send(model="x"), 404, "not_found_error", "does not exist")
            for body, says in (({"max_tokens": None}, "field required"), ({"max_tokens": 0}, "max_tokens"), ({"messages": []}, "at least one"),
                               ({"messages": [5]}, "messages[0].role"), ({"messages": [{"role": "user"}]}, "messages[0].content"),
                               ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
                               ({"messages": [{"role": "user", "content": [image]}]}, "messages[0].content[0]: image is not supported"),
                               ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "text that is no string"),
                               ({"messages": [None]}, "messages[0].role"), ({"messages": "x"}, "expected a list"),
                               ({"mcp_servers": [{"type": "url"}]}, "mcp_servers"), ({"container": "c"}, "container"), ({"metadata": 5}, "metadata"),
                               ({"tools": [{"name": "f", "input_schema": {}, "description": 5}]}, "description"),
                               ({"tool_choice": {"type": "any"}}, "without tools"), ({"tool_choice": 5}, "tool_choice"),
                               ({"stop_sequences": 5}, "stop_sequences: found integer"),
                               ({"output_config": {"format": {"type": "json_schema", "schema": {"not": {}}}}},
                                "output_config.format: the schema keyword not"),
                               ({"output_format": {"type": "json_schema", "schema": {"not": {}}}}, "output_format: the schema keyword not"),
                               ({"output_format": {"type": "xml"}}, "output_format: expected type"), ({"output_format": 5}, "output_format"),
                               ({"output_format": {"type": "text"}, "output_config": {"format": {"type": "text"}}}, "newer name"),
                               ({"messages": [{"role": "user", "content": [use]}]}, "not supported"),
                               ({"messages": [{"role": "user", "content": [5]}]}, "not supported"),
                               ({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, "tool_use_id"),
                               ({"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": [image]}]}]},
                                "messages[0].content[0].content[0]: image is not supported, only blocks of text are"),
                               ({"messages": HI + [{"role": "assistant", "content": [use]}]}, "calls without results"),
                               ({"messages": HI + [{"role": "assistant", "content": [{**use, "input": "x"}]}]}, "as input"),
                               ({"system": 5}, "system"), ({"system": [image]}, "system"), ({"tools": [{"name": "f"}]}, "input_schema"),
                               ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search_20250305 is not supported: only custom"),
                               ({"tools": TOOLS, "tool_choice": {"type": "tool", "name": "x"}}, "not in tools"),
                               ({"tools": TOOLS, "tool_choice": {"type": "tool"}}, "tool_choice"),
                               ({"thinking": {"type": "maybe"}}, "thinking.type"), ({"thinking": {"type": "enabled", "budget_tokens": 0}}, "budget"),
                               ({"output_config": {"format": {"type": "xml"}}}, "output_config"),
                               ({"temperature": 5}, "temperature"), ({"stop_sequences": [""]}, "stop"),
                               ({"max_tokens": 100000}, "maximum context length")):
                with self.subTest(body=body):
                    self.refused(send(**body), 400, bad, says)
            self.refused(s.post("/v1/messages/count_tokens", {"x-api-key": "secret"}, messages=5), 400, bad, "messages")

    def test_shapes(self):
        """Anthropic's, whoever refuses."""
        with scripted(say("x"), args=["--max-body-size", "4K"], max_jobs=0) as s:
            self.refused(ask(s, [{"role": "user", "content": "x" * 5000}]), 413, "request_too_large", "too long")
            self.refused(ask(s), 429, "rate_limit_error", "full")
            self.refused(s.ask("POST", "/v1/messages/batches", {}), 404, "not_found_error", "Not Found")
            self.refused(s.ask("POST", "/v1/messages", "x", {"Content-Type": "text/plain"}), 400, "invalid_request_error", "Media Type")

    def test_in_a_stream(self):
        with scripted({"answer": ids_of("one two"), "error": "no way"}) as s:
            events = events_of(ask(s, stream=True))
            self.assertEqual(events[0][0], "message_start")
            self.assertEqual(events[-1], ("error", {"type": "error", "error": {"type": "api_error",
                                                                            "message": "generation failed: no way"}}))
            self.refused(ask(s), 500, "api_error", "no way")

    def test_long_bodies(self):
        """Read by the other thread."""
        with scripted(say("x"), max_model_len=100000) as s:
            long = [{"role": "user", "content": "word " * 20000}]
            n = s.post("/v1/messages/count_tokens", messages=long).json["input_tokens"]
            self.assertGreater(n, 10000)
            usage = ask(s, long).json["usage"]
            self.assertEqual(usage["input_tokens"] + usage["cache_read_input_tokens"], n)
            self.refused(s.post("/v1/messages/count_tokens", messages=long + [5]), 400, "invalid_request_error", "messages[1]")


class Demo(Case):
    def test_call(self):
        with real() as s:
            body = {"tools": TOOLS, "temperature": 0, "max_tokens": 60}
            question = [{"role": "user", "content": "What is the weather in Paris?"}]
            for stream in (False, True):
                answer = ask(s, question, stream=stream, **body)
                message = put_together(events_of(answer)) if stream else answer.json
                self.assertEqual([b["input"] for b in message["content"] if b["type"] == "tool_use"], [{"city": "Paris"}])
                self.assertEqual(message["stop_reason"], "tool_use")
            for choice in ({"type": "any"}, {"type": "tool", "name": "get_time"}):
                message = ask(s, HI, tool_choice=choice, **{**body, "max_tokens": 200}).json
                self.assertEqual(message["stop_reason"], "tool_use")
                self.assertEqual(message["content"][0]["type"], "tool_use")
            self.assertEqual(message["content"][0]["name"], "get_time")


if __name__ == "__main__":
    serving.main()
