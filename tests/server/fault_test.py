"""Clients that leave, stall or send garbage: what they had is given back, and others do not notice."""
import json
import random
import select
import signal
import socket
import threading
import time

import serving
from serving import JSON, Case, ids_of, real, say, scripted

LONG = {"max_tokens": 4000, "ignore_eos": True}


def raw(server, body, path="/v1/completions"):
    data = json.dumps(body).encode()
    s = socket.create_connection(("127.0.0.1", server.port), 20)
    s.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" %
              (path.encode(), len(data), data))
    return s


class Disconnects(Case):
    def test_whole_answer(self):
        with scripted(say("word ", delay_ms=5)) as s:
            sock = raw(s, {"prompt": "x", **LONG})
            s.wait_metric(1, "vllm:num_requests_running")
            sock.close()
            s.wait_metric(0, "vllm:num_requests_running")
            s.wait_metric(1, "vllm:request_success_total", finished_reason="abort")
            self.assertEqual(s.complete("x", max_tokens=1).status, 200)

    def test_stream(self):
        with scripted(say("word ", delay_ms=5)) as s:
            sock = raw(s, {"messages": [{"role": "user", "content": "x"}], "stream": True, **LONG}, "/v1/chat/completions")
            self.assertIn(b"200 OK", sock.recv(4096))
            sock.close()
            s.wait_metric(0, "vllm:num_requests_running")
            s.wait_metric(1, "vllm:request_success_total", finished_reason="abort")

    def test_half_close(self):
        with scripted(say("word ", delay_ms=5)) as s:
            sock = raw(s, {"prompt": "x", **LONG})
            sock.shutdown(socket.SHUT_WR)
            s.wait_metric(1, "vllm:request_success_total", finished_reason="abort")
            sock.close()

    def test_several_choices(self):
        with scripted(say("word ", delay_ms=5)) as s:
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
        with scripted(say("word " * 50, delay_ms=0, burst=50), max_model_len=2000000) as s:
            sock = raw(s, {"prompt": "x", "stream": True, "max_tokens": 1900000, "ignore_eos": True})
            self.assertEqual(s.complete("x", max_tokens=5).status, 200)
            s.wait_metric(1, "vllm:request_success_total", finished_reason="abort")
            sock.close()


class Limits(Case):
    def test_full_engine(self):
        with scripted(say("word ", delay_ms=20), max_jobs=2) as s:
            socks = [raw(s, {"prompt": "x", **LONG}) for _ in range(2)]
            s.wait_metric(2, "vllm:num_requests_running")
            self.refused(s.complete("x"), 429, "full", kind="TooManyRequestsError")
            self.refused(s.complete(["x"] * 3), 429, "full")
            for sock in socks:
                sock.close()
            s.wait_metric(0, "vllm:num_requests_running")
            self.assertEqual(s.complete("x", max_tokens=1).status, 200)

    def test_part_of_a_request_does_not_fit(self):
        with scripted(say("word ", delay_ms=5), max_jobs=4) as s:
            self.refused(s.complete(["x"] * 5, **LONG), 429, "full")
            s.wait_metric(0, "vllm:num_requests_running")
            s.wait_metric(4, "vllm:request_success_total", finished_reason="abort")

    def test_comments_while_nothing_comes(self):
        with scripted(say("a b", delay_ms=7000)) as s:
            body = s.complete("x", max_tokens=2, stream=True).body
            self.assertIn(b": working\n\n", body)


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
            time.sleep(0.3)
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
    SLOW = json.dumps({"prompt": " " * 5000000})  # a second of tokenizing

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
        with scripted(say("x")) as s:
            slow = s.connect()
            slow.request("POST", "/tokenize", self.SLOW, JSON)
            time.sleep(0.2)
            for _ in range(20):
                self.assertEqual(s.complete("hi").json["choices"][0]["text"], "x")
            self.assertEqual(select.select([slow.sock], [], [], 0)[0], [])
            self.assertGreater(json.loads(slow.getresponse().read())["count"], 100000)
            slow.close()

    def test_peer_leaves(self):
        with scripted(say("x")) as s:
            for path in ("/tokenize", "/v1/completions", "/v1/chat/completions"):
                slow = s.connect()
                slow.request("POST", "/tokenize", self.SLOW, JSON)
                body = {"prompt": "hi", "messages": [{"role": "user", "content": "hi"}], "pad": self.PAD}
                behind = s.connect()
                behind.request("POST", path, json.dumps(body), JSON)
                time.sleep(0.2)
                behind.close()
                slow.close()
                self.assertEqual(s.complete("hi", pad=self.PAD).json["choices"][0]["text"], "x")
            self.assertEqual(s.metric("vllm:num_requests_running"), 0)

    def test_stop(self):
        with scripted(say("x")) as s:
            waiting = [s.connect() for _ in range(3)]
            for connection in waiting:
                connection.request("POST", "/tokenize", self.SLOW, JSON)
            time.sleep(0.2)
            s.process.send_signal(signal.SIGTERM)
            time.sleep(0.1)
            s.process.send_signal(signal.SIGTERM)
            self.assertEqual(s.process.wait(120), 0)  # the text in progress is not cut short
            for connection in waiting:
                connection.close()


if __name__ == "__main__":
    serving.main()
