"""Clients that leave, stall or send garbage: what they had is given back, and others do not notice."""
import json
import os
import random
import select
import signal
import socket
import threading
import time

import serving
from serving import JSON, WAIT_S, Case, ids_of, real, say, scripted, token, wait_for

LONG = {"max_tokens": 4000, "ignore_eos": True}  # with delay_ms 50 longer than anything here waits


def raw(server, body, path="/v1/completions"):
    data = json.dumps(body).encode()
    s = socket.create_connection(("127.0.0.1", server.port), WAIT_S)
    s.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" %
              (path.encode(), len(data), data))
    return s


class Disconnects(Case):
    def test_whole_answer(self):
        with scripted(say("word ", delay_ms=50)) as s:
            sock = raw(s, {"prompt": "x", **LONG})
            s.wait_metric(1, "vllm:num_requests_running")
            sock.close()
            s.wait_metric(0, "vllm:num_requests_running")
            s.wait_metric(1, "vllm:request_success_total", finished_reason="abort")
            self.assertEqual(s.complete("x", max_tokens=1).status, 200)

    def test_stream(self):
        with scripted(say("word ", delay_ms=50)) as s:
            sock = raw(s, {"messages": [{"role": "user", "content": "x"}], "stream": True, **LONG}, "/v1/chat/completions")
            self.assertIn(b"200 OK", sock.recv(4096))
            sock.close()
            s.wait_metric(0, "vllm:num_requests_running")
            s.wait_metric(1, "vllm:request_success_total", finished_reason="abort")

    def test_in_reasoning_and_calls(self):
        """At every part of an answer: before the first token, in reasoning, at a call's name, in its arguments, behind it."""
        parts = [ids_of("let me see"), [token("</think>")], ids_of("so"), [token("<｜tool▁calls▁begin｜>"), token("<｜tool▁call▁begin｜>")],
                 ids_of("look"), [token("<｜tool▁sep｜>")], ids_of('{"a": 1}'), [token("<｜tool▁call▁end｜>"), token("<｜tool▁calls▁end｜>")],
                 ids_of("done")]
        body = {"messages": [{"role": "user", "content": "x"}], "stream": True, "chat_template_kwargs": {"thinking": True},
                "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}], "max_tokens": 3000, "ignore_eos": True}
        for n in range(len(parts)):
            answer = sum(parts[:n], [])
            with scripted({"answer": answer, "hold": len(answer)}) as s:
                sock = raw(s, body, "/v1/chat/completions")
                s.wait_metric(1, "vllm:num_requests_running")
                s.wait_metric(len(answer), "vllm:generation_tokens_total")
                sock.close()
                s.wait_metric(1, "vllm:request_success_total", finished_reason="abort")
                s.wait_metric(0, "vllm:num_requests_running")

    def test_half_close(self):
        with scripted(say("word ", delay_ms=50)) as s:
            sock = raw(s, {"prompt": "x", **LONG})
            sock.shutdown(socket.SHUT_WR)
            s.wait_metric(1, "vllm:request_success_total", finished_reason="abort")
            sock.close()

    def test_several_choices(self):
        with scripted(say("word ", delay_ms=50)) as s:
            sock = raw(s, {"prompt": ["x", "y"], "n": 3, "temperature": 1, **LONG})
            s.wait_metric(6, "vllm:num_requests_running")
            sock.close()
            s.wait_metric(6, "vllm:request_success_total", finished_reason="abort")

    def test_many(self):
        rng = random.Random(1)
        with scripted(say("word ", delay_ms=1)) as s:
            for _ in range(60):
                sock = raw(s, {"prompt": "x", "stream": rng.random() < 0.5, "n": rng.randint(1, 3), "temperature": 1,
                               **LONG})
                time.sleep(rng.random() * 0.01)
                sock.close()
            s.wait_metric(0, "vllm:num_requests_running")
            self.assertEqual(s.complete("x", max_tokens=1).status, 200)
            self.assertEqual(s.ask("GET", "/load").json["server_load"], 0)

    def test_slow_reader(self):
        """A stream that nobody reads is cut at a bound; the rest goes on."""
        with scripted(say("word " * 50, delay_ms=0, burst=1000), max_model_len=9000000) as s:
            sock = raw(s, {"prompt": "x", "stream": True, "max_tokens": 8000000, "ignore_eos": True})
            self.assertEqual(s.complete("x", max_tokens=5).status, 200)
            s.wait_metric(1, "vllm:request_success_total", finished_reason="abort")
            sock.close()


class Limits(Case):
    def test_full_engine(self):
        with scripted(say("word ", delay_ms=50), max_jobs=2) as s:
            socks = [raw(s, {"prompt": "x", **LONG}) for _ in range(2)]
            s.wait_metric(2, "vllm:num_requests_running")
            self.refused(s.complete("x"), 429, "full", kind="TooManyRequestsError")
            self.refused(s.complete(["x"] * 3), 429, "full")
            for sock in socks:
                sock.close()
            s.wait_metric(0, "vllm:num_requests_running")
            self.assertEqual(s.complete("x", max_tokens=1).status, 200)

    def test_part_of_a_request_does_not_fit(self):
        with scripted(say("word ", delay_ms=50), max_jobs=4) as s:
            self.refused(s.complete(["x"] * 5, **LONG), 429, "full")
            s.wait_metric(0, "vllm:num_requests_running")
            s.wait_metric(4, "vllm:request_success_total", finished_reason="abort")

    def test_comments_while_nothing_comes(self):
        with scripted(say("a b", hold=1)) as s:
            connection = s.connect()
            connection.request("POST", "/v1/completions", json.dumps({"prompt": "x", "max_tokens": 2, "stream": True}), JSON)
            response = connection.getresponse()
            while response.readline() != b": working\n":
                pass
            s.open_gate()
            self.assertTrue(response.read().endswith(b"data: [DONE]\n\n"))
            connection.close()


class Garbage(Case):
    def test_mutated_requests(self):
        """Whatever JSON comes: an answer or a refusal, and the server stays."""
        rng = random.Random(7)
        fields = ["prompt", "messages", "temperature", "top_k", "n", "stop", "logprobs", "stream", "stream_options", "seed",
                  "logit_bias", "bad_words", "stop_token_ids", "echo", "max_tokens", "prompt_logprobs", "tools",
                  "chat_template_kwargs", "truncate_prompt_tokens", "min_tokens", "cache_salt", "response_format"]
        values = [None, True, False, 0, 1, -1, 2 ** 62, -2 ** 63, 1.5, -0.0, 1e300, "", "a", "\x7f\u2028", [], {}, [[]], [{}],
                  {"a": None}, [1, 2], ["a"], [[5]], {"5": 1}, {"type": "text"}, [{"role": "user", "content": "x"}],
                  [{"role": "user", "content": [{"type": "text", "text": "x"}]}], {"thinking": 5}]
        with scripted(say("yes")) as s:
            for _ in range(400):
                body = {"max_tokens": 3, "prompt": "x", "messages": [{"role": "user", "content": "x"}]}
                for name in rng.sample(fields, rng.randint(1, 4)):
                    body[name] = rng.choice(values)
                answer = s.post(rng.choice(["/v1/completions", "/v1/chat/completions", "/tokenize"]), **body)
                self.assertIn(answer.status, (200, 400), body)
            self.assertEqual(s.complete().status, 200)


class Real(Case):
    def test_disconnects_give_the_cache_back(self):
        with real("--no-enable-prefix-caching") as s:
            want = s.complete("fathom", temperature=0, max_tokens=20).json["choices"][0]["text"]
            socks = [raw(s, {"prompt": "fathom " * 50, "max_tokens": 3000, "ignore_eos": True}) for _ in range(12)]
            wait_for(lambda: s.metric("vllm:generation_tokens_total") > 40, lambda: "no tokens")
            for sock in socks:
                sock.close()
            s.wait_metric(0, "vllm:num_requests_running")
            s.wait_metric(0, "vllm:num_requests_waiting")
            s.wait_metric(0, "vllm:kv_cache_usage_perc")
            self.assertEqual(s.complete("fathom", temperature=0, max_tokens=20).json["choices"][0]["text"], want)

    def test_many_clients(self):
        with real() as s:
            want = s.complete("fathom", temperature=0, max_tokens=24).json["choices"][0]["text"]
            got = []

            def ask():
                for _ in range(4):
                    got.append(s.complete("fathom", temperature=0, max_tokens=24).json["choices"][0]["text"])

            threads = [threading.Thread(target=ask) for _ in range(8)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            self.assertEqual(got, [want] * 32)


class LongBodies(Case):
    """Prompts of long bodies are made beside the loop."""
    PAD = "x" * 100000  # an unknown field makes any body long
    HELD = json.dumps({"prompt": "hold", "pad": PAD})  # the thread is at it until the gate opens
    LOAD = ["--enable-server-load-tracking"]

    def send(self, s, n, body=HELD, path="/tokenize"):
        connections = [s.connect() for _ in range(n)]
        for connection in connections:
            connection.request("POST", path, body, JSON)
        return connections

    def end(self, connections, status=200):
        """Bodies of their answers."""
        bodies = []
        for connection in connections:
            response = connection.getresponse()
            self.assertEqual(response.status, status)
            bodies.append(response.read())
            connection.close()
        return bodies

    def waits(self, connections):
        self.assertEqual(select.select([c.sock for c in connections], [], [], 0)[0], [])

    def test_same_answers(self):
        with scripted(say("one two")) as s:
            for pad in ({}, {"pad": self.PAD}):
                self.assertEqual(s.complete("hi", **pad).json["choices"][0]["text"], "one two")
                self.assertEqual(s.chat("hi", **pad).json["choices"][0]["message"]["content"], "one two")
                events = s.complete(["hi", "ho"], stream=True, **pad).events()
                for i in (0, 1):
                    self.assertEqual("".join(c["text"] for e in events for c in e["choices"] if c["index"] == i), "one two")
                self.assertEqual(s.post("/tokenize", prompt="one two", **pad).json["tokens"][1:], ids_of("one two"))
                self.refused(s.complete("hi", temperature=9, **pad), 400, "temperature", "temperature")
                self.refused(s.post("/v1/chat/completions", messages=[], **pad), 400, "expected 1", "messages")
                self.refused(s.post("/tokenize", **pad), 400, "field required", "prompt")
            self.refused(s.complete("word " * 1000000), 400, "maximum context length", "input_tokens")
            self.refused(s.chat("word " * 1000000), 400, "maximum context length", "input_tokens")

    def test_others_go_on(self):
        with scripted(say("x"), args=self.LOAD) as s:
            held = self.send(s, 1)
            s.wait_load(1)
            for _ in range(20):
                self.assertEqual(s.complete("hi").json["choices"][0]["text"], "x")
            self.waits(held)
            s.open_gate()
            body, = self.end(held)
            self.assertEqual(json.loads(body)["tokens"][1:], ids_of("hold"))

    def test_json_is_read_aside(self):
        """By the thread alone, not by the loop: even what is no JSON is not noticed before its turn."""
        body = '{"prompt":"hi","pad":{%s}}' % ",".join('"k%d":1' % i for i in range(400000))
        for path in ("/v1/completions", "/tokenize", "/detokenize"):
            with scripted(say("x"), args=self.LOAD) as s:
                held = self.send(s, 1)
                s.wait_load(1)
                slow, bad = self.send(s, 3, body, path), self.send(s, 1, body[:-1], path)
                s.wait_load(5)
                for _ in range(20):
                    self.assertEqual(s.complete("hi").json["choices"][0]["text"], "x")
                self.waits(slow + bad)
                s.open_gate()
                self.end(held)
                self.end(slow, 400 if path == "/detokenize" else 200)
                self.end(bad, 400)

    def test_json_has_bounds(self):
        """Not only by its own bytes: of one body, and of all that are held."""
        with scripted({"has": ids_of("hi"), "hold": 0}, say("x")) as s:
            for path in ("/v1/completions", "/v1/chat/completions", "/v1/messages", "/tokenize", "/detokenize"):
                many = 20000000 if path == "/tokenize" else 2000000
                answer = s.ask("POST", path, b'{"pad":[' + b"[]," * many + b"[]]}")
                self.assertEqual(answer.status, 400)
                self.assertIn("values that they take more than 67108864 bytes", answer.json["error"]["message"])
            for pad in (b"{}," * 300000, b'{"a":1},' * 200000, b'"a",' * 700000, b"7," * 1700000):
                self.assertEqual(s.ask("POST", "/tokenize", b'{"prompt":"x","pad":[' + pad + b"0]}").status, 400)
            for pad in (b"{}," * 200000, b'{"a":1},' * 150000, b'"a",' * 600000, b"7," * 1600000, b'"[[{,,::\\"[[",' * 600000):
                self.assertEqual(s.ask("POST", "/tokenize", b'{"prompt":"x","pad":[' + pad + b"0]}").status, 200)
            body = '{"input":"hi","max_output_tokens":1000,"ignore_eos":true,"pad":[%s0]}' % ("null," * 1600000)
            held = []
            for i in range(16):
                held.append(s.connect())
                held[i].request("POST", "/v1/responses", body, JSON)
                s.wait_metric(i + 1, "vllm:num_requests_running")
            self.refused(s.ask("POST", "/v1/responses", body), 503, "too many request bodies")
            held.pop().close()
            s.wait_metric(15, "vllm:num_requests_running")
            self.assertEqual(s.ask("POST", "/v1/responses", body.replace("hi", "ho", 1)).status, 200)
            for connection in held:
                connection.close()
            s.wait_metric(0, "vllm:num_requests_running")

    def test_bodies_are_not_kept(self):
        """Not while their answers are written: neither as they came nor as JSON, where nothing of them is repeated."""
        def hold(n, **fields):
            body = json.dumps({"max_tokens": 1000, "ignore_eos": True, "pad": "x" * 30000000, **fields})
            held = [s.connect() for _ in range(n)]
            for i, connection in enumerate(held):
                connection.request("POST", "/v1/chat/completions" if "messages" in fields else "/v1/completions", body, JSON)
                s.wait_metric(i + 1, "vllm:num_requests_running")
            wait_for(lambda: s.metric("fathom:heap_bytes") < 60000000, lambda: s.metric("fathom:heap_bytes"))
            for connection in held:
                connection.close()
            s.wait_metric(0, "vllm:num_requests_running")
        with scripted(say("word ", delay_ms=1000)) as s:
            hold(3, prompt="hi")
            hold(3, messages=[{"role": "user", "content": "hi"}])

    def test_json_is_freed_first(self):
        """JSON of peers that left goes before bodies that wait are read, so that both are never held at once."""
        body = '{"input":"hi","max_output_tokens":1000,"ignore_eos":true,"pad":[%s0]}' % ("7," * 1600000)
        with scripted(say("word ", delay_ms=1000), args=self.LOAD) as s:
            def peak():
                with open(f"/proc/{s.process.pid}/status", encoding="utf-8") as file:
                    return int(next(line for line in file if line.startswith("VmHWM")).split()[1])

            past = self.send(s, 6, body, "/v1/responses")
            s.wait_metric(6, "vllm:num_requests_running")
            before = peak()
            held = self.send(s, 1)
            s.wait_load(7)
            waiting = self.send(s, 6, body, "/v1/responses")
            s.wait_load(13)
            for connection in past:
                connection.close()
            s.wait_load(7)
            s.open_gate()
            self.end(held)
            s.wait_metric(6, "vllm:num_requests_running")
            self.assertLess(peak(), 2.1 * before)
            for connection in waiting:
                connection.close()
            s.wait_metric(0, "vllm:num_requests_running")

    def test_answers_have_bounds(self):
        with scripted(say("x")) as s:
            self.refused(s.post("/tokenize", prompt="a" * ((16 << 20) + 1)), 400, "at most 16777216 are tokenized", "prompt")
            self.refused(s.post("/tokenize", prompt="\x7f\u00df" * 800000), 400, "lists at most 1048576", "prompt")
            count = s.post("/v1/messages/count_tokens", messages=[{"role": "user", "content": "a b" * 1000}])
            self.assertGreater(count.json["input_tokens"], 1000)
            with open(os.path.join(serving.DEMO, "tokenizer.json"), encoding="utf-8") as file:
                vocab = json.load(file)["model"]["vocab"]
            longest = vocab[max((w for w in vocab if "｜" not in w), key=len)]
            bytes_of_it = len(s.post("/detokenize", tokens=[longest]).json["prompt"])
            n = (16 << 20) // bytes_of_it + 1
            self.assertLess(n, 1 << 20)
            self.refused(s.post("/detokenize", tokens=[longest] * n), 400, "more than 16777216 bytes", "tokens")
            ids = ids_of("one two") * 40000
            self.assertEqual(s.post("/detokenize", tokens=ids).json["prompt"], "one two" * 40000)

    def test_load_and_drain_count_it(self):
        """What is being read is in flight: /load says so, and a server that stops waits for it."""
        with scripted(say("x"), args=self.LOAD) as s:
            held = self.send(s, 3)
            s.wait_load(3)
            s.process.send_signal(signal.SIGTERM)
            s.wait_text("Shutting down: 3 requests in flight")
            self.waits(held)
            s.open_gate()
            self.end(held)
            self.assertEqual(s.wait(), 0)

    def test_vanished_peers_wait_no_longer(self):
        """What the thread has not begun is dropped when its peer leaves, not when its turn comes."""
        with scripted(say("x"), args=self.LOAD) as s:
            paths = ("/tokenize", "/v1/completions", "/v1/chat/completions")
            held = self.send(s, 2)
            s.wait_load(2)
            behind = [self.send(s, 1, json.dumps({"prompt": "hi", "pad": self.PAD}), path)[0] for path in paths]
            s.wait_load(5)
            for connection in behind:
                connection.close()
            s.wait_load(2)
            self.waits(held)
            for path in paths:
                self.assertEqual(s.metric("http_requests_total", handler=path, code="499"), 1)
            s.open_gate()
            self.end(held)
            self.assertEqual(s.ask("GET", "/load").json["server_load"], 0)

    def test_grammars_are_compiled_aside(self):
        """A short body whose grammar is new waits for the thread; whose grammar is known does not."""
        schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
        tool = {"name": "look", "parameters": schema}
        messages = [{"role": "user", "content": "hi"}]
        bodies = [("/v1/completions", {"prompt": "hi", "guided_regex": "x|y"}),
                  ("/v1/chat/completions", {"messages": messages, "tools": [{"type": "function", "function": tool}], "tool_choice": "required"}),
                  ("/v1/messages", {"messages": messages, "max_tokens": 9, "output_format": {"type": "json_schema", "schema": schema}}),
                  ("/v1/responses", {"input": "hi", "text": {"format": {"type": "json_schema", "name": "n", "schema": {"enum": [1, 2]}}}})]
        with scripted(say("x"), args=self.LOAD) as s:
            self.assertEqual(s.complete("hi", guided_regex="x|z").status, 200)
            held = self.send(s, 1)
            s.wait_load(1)
            new = [c for path, body in bodies for c in self.send(s, 1, json.dumps(body), path)]
            s.wait_load(1 + len(bodies))
            self.assertEqual(s.complete("hi").json["choices"][0]["text"], "x")
            self.assertEqual(s.complete("hi", guided_regex="x|z").status, 200)
            self.waits(held + new)
            s.open_gate()
            self.end(held + new)

    def test_grammars_in_long_bodies(self):
        """The loop and the thread use one cache."""
        with scripted(say("x")) as s:
            fields = [{"guided_regex": f"a{{{i % 7}}}b"} for i in range(40)]
            got = []

            def ask(pad):
                for f in fields:
                    got.append(s.complete("hi", **f, **pad).status)

            threads = [threading.Thread(target=ask, args=(pad,)) for pad in ({}, {"pad": self.PAD})]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            self.assertEqual(got, [200] * 80)

    def test_bad_words_in_long_bodies(self):
        with scripted(say("x")) as s:
            got = []
            threads = [threading.Thread(target=lambda pad=pad: [got.append(
                s.complete("hi", bad_words=["one", "two"] * 64, **pad).status) for _ in range(20)])
                for pad in ({}, {"pad": self.PAD})]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            self.assertEqual(got, [200] * 40)

    def test_peer_leaves(self):
        """While the thread is at its body, and before."""
        for path in ("/tokenize", "/v1/completions", "/v1/chat/completions"):
            with scripted(say("x"), args=self.LOAD) as s:
                body = {"prompt": "hi", "messages": [{"role": "user", "content": "hi"}], "pad": self.PAD}
                held = self.send(s, 1)
                s.wait_held()
                behind = self.send(s, 1, json.dumps(body), path)
                s.wait_load(2)
                for connection in behind + held:
                    connection.close()
                s.wait_load(1)  # the thread is at it
                s.open_gate()
                self.assertEqual(s.complete("hi", pad=self.PAD).json["choices"][0]["text"], "x")
                s.wait_load(0)
                self.assertEqual(s.metric("vllm:num_requests_running"), 0)

    def test_stop(self):
        with scripted(say("x"), args=self.LOAD) as s:
            held = self.send(s, 3)
            s.wait_load(3)
            s.process.send_signal(signal.SIGTERM)
            s.wait_text("Shutting down")
            s.process.send_signal(signal.SIGTERM)
            s.wait_text("second signal")
            s.open_gate()
            self.assertEqual(s.wait(), 0)  # the text in progress is not cut short
            for connection in held:
                connection.close()


if __name__ == "__main__":
    serving.main()
