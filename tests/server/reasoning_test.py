"""Reasoning in /v1/chat/completions: what asks for it, where it goes, what is counted; calls that are required come behind it."""
import json

import serving
from serving import Case, ids_of, real, say, scripted
from tools_test import THINK, THINK_END, THINKING, TOOLS, Message, allowed

NAMED = {"type": "function", "function": {"name": "get_time"}}


def last_token(s, **body):
    """How the prompt ends: THINK or THINK_END."""
    return s.post("/tokenize", **{"messages": [{"role": "user", "content": "x"}], **body}).json["tokens"][-1]


class Switches(Case):
    def test_effort(self):
        """Any effort but none asks for reasoning, unless the template's own switch says otherwise."""
        with scripted(say("x")) as s:
            for effort, want in ((None, THINK_END), ("none", THINK_END), ("minimal", THINK), ("low", THINK), ("medium", THINK),
                                 ("high", THINK), ("xhigh", THINK), ("max", THINK)):
                self.assertEqual(last_token(s, reasoning_effort=effort), want, effort)
            for kwargs, want in (({"thinking": False}, THINK_END), ({"enable_thinking": False}, THINK_END), ({}, THINK)):
                self.assertEqual(last_token(s, reasoning_effort="high", chat_template_kwargs=kwargs), want, kwargs)
            for kwargs in ({"thinking": True}, {"enable_thinking": True}, {"thinking": True, "enable_thinking": True}):
                self.assertEqual(last_token(s, reasoning_effort="none", chat_template_kwargs=kwargs), THINK, kwargs)
            self.refused(s.chat(reasoning_effort="huge"), 400, "found huge", "reasoning_effort")
            self.refused(s.chat(reasoning_effort=5), 400, "expected a string", "reasoning_effort")
        with scripted(say("x"), args=["--default-chat-template-kwargs", '{"thinking": true}']) as s:
            self.assertEqual(last_token(s), THINK)
            self.assertEqual(last_token(s, chat_template_kwargs={"thinking": False}), THINK_END)

    def test_variables(self):
        """What the request, the server and the language set cannot be set again; what the template does not read changes nothing."""
        with scripted(say("x"), args=["--trust-request-chat-template"]) as s:
            for name in ("messages", "tools", "add_generation_prompt", "continue_final_message", "bos_token", "eos_token",
                         "chat_template", "tokenize", "namespace", "range", "dict", "raise_exception"):
                self.refused(s.chat(chat_template_kwargs={name: 1}), 400, f"chat_template_kwargs.{name}", "chat_template_kwargs")
            for value in ("false", 1, []):
                self.refused(s.chat(chat_template_kwargs={"thinking": value}), 400, "true or false", "chat_template_kwargs")
            self.refused(s.chat(chat_template_kwargs=5), 400, "expected an object", "chat_template_kwargs")
            self.refused(s.chat(chat_template_kwargs={str(i): i for i in range(65)}), 400, "more than 64", "chat_template_kwargs")

            def prompt(**kwargs):
                return s.post("/tokenize", messages=[{"role": "user", "content": "x"}], chat_template_kwargs=kwargs).json["tokens"]
            for kwargs in ({"thinkng": True}, {"": 1}, {"loop": 5}, {"message": {}}, {"preserve_thinking": True}):
                self.assertEqual(prompt(**kwargs), prompt(), kwargs)
            got = s.chat(chat_template="{{ mood }}{{ messages[0].content }}", chat_template_kwargs={"mood": "glad "}, return_token_ids=True).json
            self.assertEqual(s.post("/detokenize", tokens=got["prompt_token_ids"]).json["prompt"], "glad hi")


class Parts(Case):
    ANSWER = ids_of("I see.") + [THINK_END] + ids_of("Yes.")

    def test_both_names(self):
        """Of messages and of deltas."""
        with scripted({"answer": self.ANSWER}) as s:
            message = s.chat(**THINKING).json["choices"][0]["message"]
            self.assertEqual((message["reasoning"], message["reasoning_content"], message["content"]), ("I see.", "I see.", "Yes."))
            deltas = [c["delta"] for e in s.chat(stream=True, **THINKING).events() for c in e["choices"]]
            for name in ("reasoning", "reasoning_content"):
                self.assertEqual("".join(d.get(name, "") for d in deltas), "I see.")
            self.assertEqual("".join(d.get("content") or "" for d in deltas), "Yes.")

    def test_hidden(self):
        with scripted({"answer": self.ANSWER}) as s:
            body = {"include_reasoning": False, **THINKING}
            answer = s.chat(**body).json
            message = answer["choices"][0]["message"]
            self.assertEqual((message["reasoning"], message["reasoning_content"], message["content"]), (None, None, "Yes."))
            want = {"reasoning_tokens": len(ids_of("I see."))}
            self.assertEqual(answer["usage"]["completion_tokens_details"], want)
            events = s.chat(stream=True, stream_options={"include_usage": True}, **body).events()
            deltas = [c["delta"] for e in events for c in e["choices"]]
            self.assertFalse([d for d in deltas if "reasoning" in d or "reasoning_content" in d])
            self.assertEqual("".join(d.get("content") or "" for d in deltas), "Yes.")
            self.assertEqual(events[-1]["usage"]["completion_tokens_details"], want)

    def test_of_earlier_turns(self):
        """By either name, and not shown to the model again."""
        with scripted(say("x")) as s:
            def prompt(**more):
                return s.post("/tokenize", messages=[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", **more},
                                                     {"role": "user", "content": "c"}]).json["tokens"]
            for more in ({"reasoning": "r"}, {"reasoning_content": "r"}, {"reasoning": None, "reasoning_content": None}):
                self.assertEqual(prompt(**more), prompt())
            self.assertEqual(prompt(content="r</think>b"), prompt())

    def test_refused(self):
        with scripted(say("x")) as s:
            for message, says in (({"role": "assistant", "content": "x", "reasoning": 5}, "messages[1].reasoning: found integer"),
                                  ({"role": "assistant", "content": "x", "reasoning_content": []}, "messages[1].reasoning_content: found array"),
                                  ({"role": "tool", "content": "x", "tool_call_id": {}}, "messages[1].tool_call_id: found object"),
                                  ({"role": "assistant", "tool_calls": 5}, "messages[1].tool_calls: found integer"),
                                  ({"role": "assistant", "tool_calls": [5]}, "messages[1].tool_calls[0].function"),
                                  ({"role": "critic", "content": "x"}, "unknown role critic"),
                                  ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, "image_url is not supported")):
                answer = s.post("/v1/chat/completions", messages=[{"role": "user", "content": "x"}, message])
                self.refused(answer, 400, says, "messages")


class Required(Case):
    """The model itself, sampled: a call always comes, behind reasoning too, or the room is too small for it."""
    QUESTIONS = ("Hello", "What is 12 + 30?", "Tell me a joke", "What is the weather in Paris?", "Count to five", "Good morning")

    def message(self, s, stream, question, **body):
        answer = s.chat(question, stream=stream, **{"tools": TOOLS, "temperature": 1, "max_tokens": 600, **body})
        return Message.streamed(answer.events()) if stream else Message.whole(answer.json["choices"][0])

    def check(self, m, names, finish):
        self.assertEqual(m.finish, finish)
        self.assertFalse(m.content)
        self.assertTrue(m.calls)
        self.assertLessEqual({name for name, _ in m.calls}, names)
        for _, arguments in m.calls:
            self.assertIsInstance(json.loads(arguments)["city"], str)

    def test_always(self):
        """A budget keeps the reasoning of a small model from going on for ever."""
        both = {"get_weather", "get_time"}
        with real() as s:
            for seed, question in enumerate(self.QUESTIONS):
                for choice, names, finish in (("required", both, "tool_calls"), (NAMED, {"get_time"}, "stop"),
                                              (allowed("required", "get_weather"), {"get_weather"}, "tool_calls")):
                    for more in ({}, {"thinking_token_budget": 40, **THINKING}):
                        whole = self.message(s, False, question, seed=seed, tool_choice=choice, **more)
                        self.check(whole, names, finish)
                        self.assertEqual(bool(whole.reasoning), bool(more))
                        streamed = self.message(s, True, question, seed=seed, tool_choice=choice, **more)
                        self.assertEqual(streamed.parts(), whole.parts())

    def test_no_room(self):
        """Reasoning that the limit of tokens cuts: no call, no content, and finish_reason says why."""
        with real() as s:
            for seed, question in enumerate(self.QUESTIONS):
                for stream in (False, True):
                    m = self.message(s, stream, question, seed=seed, tool_choice="required", max_tokens=4, **THINKING)
                    self.assertEqual((m.finish, m.calls, m.content or None), ("length", [], None))
                    self.assertTrue(m.reasoning)


if __name__ == "__main__":
    serving.main()
