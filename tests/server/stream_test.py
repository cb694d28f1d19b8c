"""Streams of both endpoints: the same text as the whole answer, in vLLM's chunks, and never a half character."""
import json
import socket

import serving
from serving import JSON, WAIT_S, Case, ids_of, real, say, scripted, token


def text_of(events, index=0):
    return "".join(c["text"] for e in events for c in e["choices"] if c["index"] == index)


def deltas(events, index=0):
    return [c["delta"] for e in events for c in e["choices"] if c["index"] == index]


def content_of(events, index=0, key="content"):
    return "".join(d.get(key) or "" for d in deltas(events, index))


class Old(Case):
    def test_http10(self):
        """A stream to a client of HTTP/1.0: no chunks, the end of the connection is its end."""
        with scripted(say("one two three")) as s:
            body = json.dumps({"prompt": "x", "stream": True}).encode()
            sock = socket.create_connection(("127.0.0.1", s.port), timeout=WAIT_S)
            sock.sendall(b"POST /v1/completions HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                         % len(body) + body)
            data = b"".join(iter(lambda: sock.recv(4096), b""))
            sock.close()
            head, _, events = data.partition(b"\r\n\r\n")
            self.assertNotIn(b"Transfer-Encoding", head)
            self.assertTrue(events.endswith(b"data: [DONE]\n\n"))
            pieces = [json.loads(e[6:])["choices"][0]["text"] for e in events.split(b"\n\n")[:-2]]
            self.assertEqual("".join(pieces), "one two three")
            self.assertIn('"POST /v1/completions HTTP/1.0" 200', s.text())


class Completions(Case):
    def test_chunks(self):
        with scripted(say("one two three")) as s:
            answer = s.complete("hi", stream=True)
            self.assertEqual(answer.headers["Content-Type"], "text/event-stream; charset=utf-8")
            events = answer.events()
            self.assertEqual(text_of(events), "one two three")
            self.assertEqual({e["object"] for e in events}, {"text_completion"})
            self.assertEqual(len({e["id"] for e in events}), 1)
            self.assertEqual([e["choices"][0]["finish_reason"] for e in events], [None] * (len(events) - 1) + ["stop"])
            self.assertFalse(any("usage" in e for e in events))

    def test_usage(self):
        with scripted(say("one two three", delay_ms=1)) as s:
            events = s.complete("hi", stream=True, stream_options={"include_usage": True}).events()
            self.assertEqual(events[-1]["choices"], [])
            self.assertEqual(events[-1]["usage"]["completion_tokens"], len(ids_of("one two three")) + 1)
            self.assertFalse(any("usage" in e for e in events[:-1]))
            events = s.complete("hi", stream=True,
                                stream_options={"include_usage": True, "continuous_usage_stats": True}).events()
            counts = [e["usage"]["completion_tokens"] for e in events]
            self.assertEqual(counts, sorted(counts))
            self.assertGreater(counts[0], 0)
            events = s.complete(["hi", "ho ho"], stream=True,
                                stream_options={"include_usage": True, "continuous_usage_stats": True}).events()
            for i, prompt in enumerate(("hi", "ho ho")):
                usage = [e["usage"] for e in events if e["choices"] and e["choices"][0]["index"] == i]
                self.assertEqual({u["prompt_tokens"] for u in usage}, {len(ids_of(prompt)) + 1})
                self.assertEqual(usage[-1]["completion_tokens"], len(ids_of("one two three")) + 1)
        with scripted(say("x"), args=["--enable-force-include-usage"]) as s:
            self.assertIn("usage", s.complete("hi", stream=True).events()[-1])

    def test_several(self):
        with scripted(say("one two", delay_ms=1)) as s:
            events = s.complete(["a", "b"], stream=True, n=2, temperature=1).events()
            for i in range(4):
                self.assertEqual(text_of(events, i), "one two")

    def test_echo_and_logprobs(self):
        with scripted(say("one two", delay_ms=1)) as s:
            events = s.complete("a b", stream=True, echo=True, logprobs=0).events()
            self.assertEqual(text_of(events), "a bone two")
            lps = [e["choices"][0]["logprobs"] for e in events]
            self.assertEqual(sum(len(lp["tokens"]) for lp in lps), len(ids_of("one two")) + 1 + len(ids_of("a b")) + 1)
            offsets = [o for lp in lps for o in lp["text_offset"]]
            self.assertEqual(offsets, sorted(offsets))
            events = s.complete("a b", stream=True, echo=True, max_tokens=0).events()
            self.assertEqual(text_of(events), "a b")
            self.refused(s.complete("a", stream=True, prompt_logprobs=1), 400, "not available", "prompt_logprobs")

    def test_interval(self):
        with scripted(say("a b c d e f g h i j", delay_ms=2)) as s:
            tokens = len(ids_of("a b c d e f g h i j")) + 1
            events = s.complete("hi", stream=True, max_tokens=100, stream_interval=4).events()
            self.assertLessEqual(len(events), 2 + tokens // 4)
            self.assertEqual(text_of(events), "a b c d e f g h i j")

    def test_stop_strings_are_held_back(self):
        for burst in (1, 3, 100):
            with scripted(say("one two three four", delay_ms=1, burst=burst)) as s:
                for stop in ("o thr", "three", " fou", "one", "four"):
                    whole = s.complete("hi", stop=stop, max_tokens=100).json["choices"][0]
                    events = s.complete("hi", stop=stop, max_tokens=100, stream=True).events()
                    self.assertEqual(text_of(events), whole["text"], (stop, burst))
                    self.assertEqual(events[-1]["choices"][0]["stop_reason"], stop)
                events = s.complete("hi", stop=["four five", "threes"], max_tokens=100, stream=True).events()
                self.assertEqual(text_of(events), "one two three four")

    def test_characters(self):
        text = "naïve 漢字 🙂 ok"
        with scripted(say(text, delay_ms=1)) as s:
            events = s.complete("hi", max_tokens=100, stream=True).events()
            self.assertEqual(text_of(events), text)
            self.assertFalse(any("\ufffd" in e["choices"][0]["text"] for e in events))

    def test_token_ids(self):
        with scripted(say("one two", delay_ms=1)) as s:
            events = s.complete("hi", stream=True, return_token_ids=True).events()
            self.assertEqual(sum((e["choices"][0]["token_ids"] for e in events), []), ids_of("one two") + [1])
            self.assertIn("prompt_token_ids", events[0]["choices"][0])

    def test_each_token_goes_out(self):
        """Before there is another one."""
        text = "a b c d e"
        for hold in (1, 2, 3):
            with scripted(say(text, hold=hold)) as s:
                connection = s.connect()
                connection.request("POST", "/v1/completions", json.dumps({"prompt": "x", "stream": True}), JSON)
                response = connection.getresponse()
                got = ""
                while len(ids_of(got)) < hold:
                    line = response.readline()
                    got += json.loads(line[6:])["choices"][0]["text"] if line.startswith(b"data: {") else ""
                self.assertTrue(text.startswith(got))
                s.open_gate()
                self.assertTrue(response.read().endswith(b"data: [DONE]\n\n"))
                connection.close()


class Chat(Case):
    def test_chunks(self):
        with scripted(say("one two three")) as s:
            events = s.chat(stream=True, stream_options={"include_usage": True}).events()
            self.assertEqual({e["object"] for e in events}, {"chat.completion.chunk"})
            self.assertEqual(events[0]["choices"][0], {"index": 0, "delta": {"role": "assistant", "content": ""},
                                                       "logprobs": None, "finish_reason": None})
            self.assertEqual(content_of(events), "one two three")
            self.assertEqual(events[-2]["choices"][0]["finish_reason"], "stop")
            self.assertEqual(events[-1]["choices"], [])
            self.assertFalse(any("role" in d for d in deltas(events)[1:]))

    def test_reasoning(self):
        rule = {"answer": ids_of("let me see") + [token("</think>")] + ids_of("forty two"), "delay_ms": 1}
        for burst in (1, 100):
            with scripted({**rule, "burst": burst}) as s:
                events = s.chat(stream=True, chat_template_kwargs={"thinking": True}).events()
                for key in ("reasoning", "reasoning_content"):
                    self.assertEqual(content_of(events, key=key), "let me see")
                self.assertEqual(content_of(events), "forty two")
                events = s.chat(stream=True, chat_template_kwargs={"thinking": True}, include_reasoning=False).events()
                self.assertEqual(content_of(events), "forty two")
                self.assertEqual(content_of(events, key="reasoning"), "")

    def test_several(self):
        with scripted(say("one two", delay_ms=1)) as s:
            events = s.chat(stream=True, n=3, temperature=1, logprobs=True).events()
            for i in range(3):
                self.assertEqual(content_of(events, i), "one two")
            entries = [c["logprobs"]["content"] for e in events for c in e["choices"]
                       if c["index"] == 1 and c["logprobs"]]
            self.assertEqual(sum(len(e) for e in entries), len(ids_of("one two")) + 1)


class Failures(Case):
    def test_before_the_first_token(self):
        for code, status, kind in (("limit", 429, "TooManyRequestsError"), ("inval", 400, "BadRequestError"),
                                   ("internal", 500, "InternalServerError")):
            with scripted({"error": "no way", "code": code}) as s:
                for stream in (False, True):
                    answer = s.complete("hi", stream=stream)
                    self.refused(answer, status, "no way", kind=kind)
                    self.assertEqual(answer.headers["Retry-After"], "1" if status == 429 else None)

    def test_in_the_middle(self):
        with scripted(say("one two", error="broken", code="internal", delay_ms=1)) as s:
            self.refused(s.complete("hi"), 500, "broken", kind="InternalServerError")
            events = s.chat(stream=True).events()
            self.assertEqual(content_of(events[:-1]), "one two")
            self.assertEqual(events[-1]["error"]["code"], 500)
            self.assertEqual(s.metric("vllm:request_success_total", finished_reason="error"), 2)


class Real(Case):
    def test_streams_equal_whole_answers(self):
        with real() as s:
            for question in ("What is fathom?", "What is DeepSeek-V3.1?"):
                whole = s.chat(question, temperature=0).json["choices"][0]["message"]["content"]
                events = s.chat(question, temperature=0, stream=True).events()
                self.assertEqual(content_of(events), whole)
            thinking = {"chat_template_kwargs": {"thinking": True}, "temperature": 0}
            whole = s.chat("What is 20 + 30?", **thinking).json["choices"][0]["message"]
            events = s.chat("What is 20 + 30?", stream=True, **thinking).events()
            self.assertEqual(content_of(events), whole["content"])
            self.assertEqual(content_of(events, key="reasoning"), whole["reasoning"])


if __name__ == "__main__":
    serving.main()
