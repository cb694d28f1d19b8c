"""/v1/responses over the same answers: items, events, input."""
import json

import serving
from serving import Case, ids_of, real, say, scripted
from tools_test import THINK_END, calls

TOOLS = [{"type": "function", "name": name, "description": "Does it", "strict": False, "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}} for name in ("get_weather", "get_time")]
CHAT_TOOLS = [{"type": "function", "function": {k: v for k, v in t.items() if k != "type"}} for t in TOOLS]
THINKING = {"reasoning": {"effort": "high"}}


def allowed(mode, *names):
    return {"type": "allowed_tools", "mode": mode, "tools": [{"type": "function", "name": n} for n in names or ("get_time",)]}


def ask(s, given="hi", **body):
    return s.post("/v1/responses", input=given, **body)


def events_of(answer):
    events = []
    for block in answer.body.decode().split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if lines:
            assert lines[0].startswith("event: ") and lines[1].startswith("data: ") and len(lines) == 2, lines
            events.append(json.loads(lines[1][6:]))
            assert events[-1]["type"] == lines[0][7:]
    return events


def put_together(events):
    """The response that a stream adds up to; complains of events that do not fit."""
    assert [e["sequence_number"] for e in events] == list(range(len(events)))
    assert [e["type"] for e in events[:2]] == ["response.created", "response.in_progress"]
    for e in events[:2]:
        assert (e["response"]["status"], e["response"]["output"], e["response"]["usage"]) == ("in_progress", [], None)
    items, item = [], None
    for e in events[2:-1]:
        kind = e["type"].removeprefix("response.")
        if kind == "output_item.added":
            assert item is None and e["output_index"] == len(items)
            item = e["item"]
            items.append(item)
            assert item["status"] == "in_progress" and not item.get("content") and not item.get("arguments")
            continue
        assert e["output_index"] == len(items) - 1 and item is not None
        if kind == "output_item.done":
            assert e["item"]["status"] in ("completed", "incomplete")
            item["status"] = e["item"]["status"]
            assert e["item"] == item, (e["item"], item)
            item = None
            continue
        assert e["item_id"] == item["id"] and e.get("content_index", 0) == 0
        if kind == "content_part.added":
            item["content"].append(e["part"])
            assert e["part"]["text"] == ""
        elif kind in ("output_text.delta", "reasoning_text.delta"):
            assert e["delta"]
            item["content"][0]["text"] += e["delta"]
        elif kind in ("output_text.done", "reasoning_text.done"):
            assert e["text"] == item["content"][0]["text"]
        elif kind == "content_part.done":
            assert e["part"] == item["content"][0]
        elif kind == "function_call_arguments.delta":
            item["arguments"] += e["delta"]
        else:
            assert kind == "function_call_arguments.done" and e["arguments"] == item["arguments"]
    assert item is None
    response = events[-1]["response"]
    assert events[-1]["type"] == "response." + response["status"]
    assert response["output"] == items, (response["output"], items)
    return response


class Answers(Case):
    def check(self, answer, output, status="completed", bursts=(1, 2, 3, 100), **body):
        for burst in bursts:
            with self.subTest(burst=burst), scripted({"answer": answer, "burst": burst}) as s:
                whole, streamed = ask(s, **body).json, put_together(events_of(ask(s, stream=True, **body)))
                for response in (whole, streamed):
                    self.assertRegex(response.pop("id"), "^resp_[0-9a-f]{32}$")
                    self.assertGreater(response.pop("created_at"), 1600000000)
                    self.assertEqual(len({item.pop("id") for item in response["output"]}), len(response["output"]))
                    for item in response["output"]:
                        if item["type"] == "function_call":
                            self.assertRegex(item.pop("call_id"), "^call_[0-9a-f]{32}$")
                    self.assertEqual((response["output"], response["status"]), (output, status))
                self.assertEqual(streamed, whole)
                self.assertEqual((whole["object"], whole["model"], whole["error"]), ("response", "demo", None))
                usage = whole["usage"]
                self.assertEqual(usage["total_tokens"], usage["input_tokens"] + usage["output_tokens"])

    def message(self, text):
        return {"type": "message", "status": "completed", "role": "assistant",
                "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]}

    def reasoning(self, text):
        return {"type": "reasoning", "status": "completed", "summary": [], "encrypted_content": None,
                "content": [{"type": "reasoning_text", "text": text}]}

    def call(self, name, arguments):
        return {"type": "function_call", "status": "completed", "name": name, "arguments": arguments}

    def test_text(self):
        self.check(ids_of("one é 🙂"), [self.message("one é 🙂")])
        self.check([], [])

    def test_all(self):
        self.check(ids_of("I look.") + [THINK_END] + ids_of("Now:") + calls(("get_weather", '{"city": "Paris"}'), ("get_time", "{}")),
                   [self.reasoning("I look."), self.message("Now:"), self.call("get_weather", '{"city": "Paris"}'),
                    self.call("get_time", "{}")], tools=TOOLS, **THINKING)
        self.check(calls(("get_weather", "{}"), ("get_time", "{}")), [self.call("get_weather", "{}")], tools=TOOLS,
                   parallel_tool_calls=False)

    def test_cut(self):
        with scripted(say("one two three")) as s:
            for response in (ask(s, max_output_tokens=2).json,
                             put_together(events_of(ask(s, max_output_tokens=2, stream=True)))):
                self.assertEqual((response["status"], response["incomplete_details"]), ("incomplete", {"reason": "max_output_tokens"}))
                self.assertEqual([item["status"] for item in response["output"]], ["incomplete"])
        answer = calls(("get_time", "{}"), ("get_weather", '{"city": "Paris"}'))
        with scripted({"answer": answer}) as s:
            response = ask(s, max_output_tokens=len(answer) - 4, tools=TOOLS).json
            self.assertEqual([item["status"] for item in response["output"]], ["completed", "incomplete"])

    def test_order(self):
        """Items stand in the order in which the model wrote them."""
        self.check(ids_of("a") + calls(("get_time", "{}")) + ids_of("b") + calls(("get_time", "{}")),
                   [self.message("a"), self.call("get_time", "{}"), self.message("b"), self.call("get_time", "{}")], tools=TOOLS)

    def test_accepted(self):
        """What Codex and others send besides."""
        with scripted(say("x")) as s:
            for body in ({"store": True}, {"store": False}, {"include": ["reasoning.encrypted_content"]}, {"service_tier": "auto"},
                         {"prompt_cache_key": "k"}, {"client_metadata": {"a": "b"}}, {"text": {"verbosity": "low"}},
                         {"reasoning": {"effort": None, "summary": "auto"}}, {"tools": [{"type": "web_search"}], "tool_choice": "auto"},
                         {"tool_choice": "none"}, {"truncation": "disabled"}, {"instructions": None}, {"parallel_tool_calls": True}):
                answer = ask(s, **body)
                self.assertEqual((answer.status, answer.json["status"], answer.json["store"]), (200, "completed", False), body)

    def test_allowed_tools(self):
        """Under auto the model sees the allowed ones alone; under required the grammar keeps it from the others."""
        with scripted(say("x")) as s:
            chat = {"messages": [{"role": "user", "content": "hi"}]}
            one = s.post("/tokenize", tools=[t for t in CHAT_TOOLS if t["function"]["name"] == "get_time"], **chat).json["count"]
            all_ = s.post("/tokenize", tools=CHAT_TOOLS, **chat).json["count"]
            for choice, count in (("auto", all_), (allowed("auto"), one), (allowed("required"), all_)):
                response = ask(s, tools=TOOLS, tool_choice=choice).json
                self.assertEqual((response["usage"]["input_tokens"], response["tool_choice"]), (count, choice))

    def test_errors(self):
        """OpenAI's shape, whoever refuses."""
        with scripted(say("x"), args=["--api-key", "secret", "--max-body-size", "4K"], max_jobs=0) as s:
            key = {"Authorization": "Bearer secret"}
            self.assertEqual(s.post("/v1/responses", input="x").status, 401)
            self.refused(s.post("/v1/responses", key, input="x" * 5000), 413, "too long")
            self.refused(s.post("/v1/responses", key, input="x"), 429, "full", None, "TooManyRequestsError")
            self.refused(s.ask("GET", "/v1/responses/resp_1", headers=key), 404, "Not Found")
            self.refused(s.ask("GET", "/v1/responses", headers=key), 405, "Method")

    def test_echo(self):
        with scripted(say("x")) as s:
            body = {"instructions": "Be brief.", "metadata": {"a": "b"}, "tools": [*TOOLS, {"type": "web_search"}],
                    "tool_choice": "none", "temperature": 0.5, "max_output_tokens": 7}
            response = ask(s, **body).json
            self.assertEqual({k: response[k] for k in body}, body)

    def test_usage(self):
        with scripted({"answer": ids_of("I see.") + [THINK_END] + ids_of("Yes.")}) as s:
            usage = ask(s, **THINKING).json["usage"]
            self.assertEqual(usage["output_tokens_details"], {"reasoning_tokens": len(ids_of("I see."))})


class Prompts(Case):
    def same(self, s, given, messages, tools=False, **body):
        """The prompt is that of the chat."""
        chat = {"messages": messages, **({"tools": CHAT_TOOLS} if tools else {})}
        want = s.post("/tokenize", **chat).json["tokens"]
        with scripted({"has": want, "answer": ids_of("same")}, say("different")) as t:
            response = ask(t, given, **body, **({"tools": TOOLS} if tools else {})).json
            self.assertEqual(response["output"][0]["content"][0]["text"], "same")
            self.assertEqual(response["usage"]["input_tokens"], len(want))

    def test_input(self):
        with scripted(say("x")) as s:
            self.same(s, "a", [{"role": "system", "content": "S"}, {"role": "user", "content": "a"}], instructions="S")
            self.same(s, [{"role": "developer", "content": "D"}, {"role": "user", "content": [
                {"type": "input_text", "text": "a"}]}, {"type": "message", "role": "assistant", "content": [
                    {"type": "output_text", "text": "b", "annotations": []}]}, {"role": "user", "content": "c"}],
                [{"role": "system", "content": "D"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
                 {"role": "user", "content": "c"}])
            self.same(s, [{"role": "user", "content": "a"}, {"type": "reasoning", "summary": [], "content": []},
                          {"type": "message", "role": "assistant", "content": "b"},
                          {"type": "function_call", "call_id": "1", "name": "get_weather", "arguments": '{"city":"é"}'},
                          {"type": "function_call", "call_id": "2", "name": "get_time", "arguments": "{}"},
                          {"type": "function_call_output", "call_id": "2", "output": "noon"},
                          {"type": "function_call_output", "call_id": "1", "output": [{"type": "input_text", "text": "sun"}]},
                          {"role": "user", "content": "so?"}],
                      [{"role": "user", "content": "a"},
                       {"role": "assistant", "content": "b", "tool_calls": [
                           {"id": "1", "function": {"name": "get_weather", "arguments": '{"city":"é"}'}},
                           {"id": "2", "function": {"name": "get_time", "arguments": "{}"}}]},
                       {"role": "tool", "tool_call_id": "1", "content": "sun"}, {"role": "tool", "tool_call_id": "2", "content": "noon"},
                       {"role": "user", "content": "so?"}], tools=True)


    def test_nul(self):
        with scripted(say("x")) as s:
            self.same(s, "a\0b", [{"role": "system", "content": "S\0"}, {"role": "user", "content": "a\0b"}], instructions="S\0")
            self.same(s, [{"role": "user", "content": [{"type": "input_text", "text": "a\0b"}]},
                          {"type": "function_call", "call_id": "1", "name": "get_time", "arguments": '{"a":"\\u0000"}'},
                          {"type": "function_call_output", "call_id": "1", "output": "b\0c"}],
                      [{"role": "user", "content": "a\0b"},
                       {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "get_time", "arguments": '{"a":"\\u0000"}'}}]},
                       {"role": "tool", "tool_call_id": "1", "content": "b\0c"}], tools=True)


class Refusals(Case):
    def test_fields(self):
        with scripted(say("x")) as s:
            for body, says, param in (
                    ({"input": None}, "expected text", "input"), ({"input": []}, "expected text", "input"), ({"input": [5]}, "input[0]", "input"),
                    ({"input": [{"role": "king", "content": "x"}]}, "role", "input"), ({"input": [{"role": "user"}]}, "input[0]", "input"),
                    ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "only parts of text", "input"),
                    ({"input": [{"type": "item_reference", "id": "x"}]}, "type", "input"),
                    ({"input": [{"type": "function_call", "name": "f"}]}, "call_id", "input"),
                    ({"input": [{"type": "function_call_output", "output": "x"}]}, "call_id", "input"),
                    ({"instructions": 5}, "expected a string", "instructions"), ({"tools": [5]}, "tools[0]", "tools"),
                    ({"tools": TOOLS, "tool_choice": {"type": "mcp"}}, "tool_choice", "tool_choice"),
                    ({"tools": TOOLS, "tool_choice": "maybe"}, "tool_choice", "tool_choice"),
                    ({"previous_response_id": "resp_1"}, "not stored", "previous_response_id"), ({"background": True}, "not stored", "background"),
                    ({"truncation": "auto"}, "truncation", "truncation"), ({"top_logprobs": 3}, "top_logprobs", "top_logprobs"),
                    ({"text": {"format": {"type": "xml"}}}, "text.format", "text.format"), ({"reasoning": {"effort": "huge"}}, "expected none", "reasoning.effort"),
                    ({"temperature": 5}, "temperature", "temperature"), ({"max_output_tokens": 0}, "max_output_tokens", "max_output_tokens"),
                    ({"conversation": "c"}, "not stored", "conversation"), ({"prompt": {"id": "p"}}, "stored prompts", "prompt"),
                    ({"metadata": {"a": "b" * (1 << 20)}}, "answers repeat", "metadata"), ({"user": "u" * (1 << 20)}, "answers repeat", "user"),
                    ({"metadata": 5}, "metadata", "metadata"), ({"store": 5}, "store", "store"), ({"include": 5}, "include", "include"),
                    ({"input": [{"type": "reasoning", "summary": []}]}, "at least one message", "input"), ({"input": [None]}, "input[0]", "input"),
                    ({"input": [{"type": "custom_tool_call", "call_id": "1"}]}, "type", "input"),
                    ({"tool_choice": "required"}, "without functions", "tool_choice"), ({"tool_choice": 5}, "without functions", "tool_choice"),
                    ({"tools": [{"type": "web_search"}], "tool_choice": "required"}, "without functions", "tool_choice"),
                    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools[0].name: expected a string", "tools"),
                    ({"tools": [{**TOOLS[0], "parameters": {"type": "string"}}]}, "tools[0].parameters.type: expected object", "tools"), ({"text": {"format": 5}}, "text.format", "text.format"),
                    ({"text": {"format": {"type": "json_schema", "schema": {"not": {}}}}}, "text.format: the schema keyword not", "text.format"),
                    ({"tools": TOOLS, "tool_choice": allowed("x")}, "mode", "tool_choice"),
                    ({"tools": TOOLS, "tool_choice": allowed("auto", "nope")}, "nope is not in tools", "tool_choice"),
                    ({"tools": TOOLS, "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp"}]}}, "a function",
                     "tool_choice"),
                    ({"tools": TOOLS, "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}}, "a list", "tool_choice")):
                with self.subTest(body=body):
                    self.refused(ask(s, **{"given": "hi", **({"given": body["input"]} if "input" in body else {}),
                                           **{k: v for k, v in body.items() if k != "input"}}), 400, says, param)
            self.refused(ask(s, model="x"), 404, "does not exist", "model", "NotFoundError")
            user = "u" * ((1 << 20) - 2)
            self.assertEqual(ask(s, user=user).json["user"], user)

    def test_in_a_stream(self):
        with scripted({"answer": ids_of("one two"), "error": "no way"}) as s:
            events = events_of(ask(s, stream=True))
            self.assertEqual(events[0]["type"], "response.created")
            self.assertEqual([e["sequence_number"] for e in events], list(range(len(events))))
            self.assertEqual(events[-2], {"type": "error", "code": "InternalServerError", "param": None,
                                          "message": "generation failed: no way", "sequence_number": len(events) - 2})
            self.assertEqual(events[-1]["type"], "response.failed")
            response = events[-1]["response"]
            self.assertEqual((response["status"], response["error"], response["usage"]),
                             ("failed", {"code": "server_error", "message": "generation failed: no way"}, None))
            self.refused(ask(s), 500, "no way")


class Demo(Case):
    def test_calls(self):
        with real() as s:
            for choice, want in (("auto", "get_weather"), ("required", "get_weather"), ({"type": "function", "name": "get_time"}, "get_time")):
                body = {"tools": TOOLS, "tool_choice": choice, "temperature": 0, "max_output_tokens": 100}
                whole = ask(s, "What is the weather in Paris?", **body).json
                self.assertEqual([item["name"] for item in whole["output"]], [want])
                self.assertEqual(json.loads(whole["output"][0]["arguments"])["city"], "Paris")
                streamed = put_together(events_of(ask(s, "What is the weather in Paris?", stream=True, **body)))
                self.assertEqual(streamed["output"][0]["arguments"], whole["output"][0]["arguments"])


if __name__ == "__main__":
    serving.main()
