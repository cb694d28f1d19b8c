"""The real program under hostile traffic. After each case the server lives, gives its cache back and answers as before."""
import json
import os
import resource
import selectors
import socket
import struct
import subprocess
import tempfile
import threading
import time

import serving
from serving import DEMO, FATHOM, WAIT_S, Case, Server, wait_for

PATHS = ("/v1/completions", "/v1/chat/completions")
GREEDY = {"prompt": "fathom", "temperature": 0, "max_tokens": 12}
IDLE = 10000
KEYED = b"Authorization: Bearer k\r\nContent-Type: application/json"


def head(path=b"/v1/completions", *lines, method=b"POST"):
    return b"\r\n".join((method + b" " + path + b" HTTP/1.1", b"Host: x") + lines) + b"\r\n\r\n"


def post(body, path="/v1/completions"):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return head(path.encode(), b"Content-Type: application/json", b"Content-Length: %d" % len(data)) + data


def body_of(path, **more):
    """A request of one token; `more` replaces or adds fields, raw JSON where the value is bytes."""
    fields = {"prompt": "x"} if path == PATHS[0] else {"messages": [{"role": "user", "content": "x"}]}
    fields = {**fields, "max_tokens": 1, **more}
    parts = [json.dumps(k).encode() + b":" + (v if isinstance(v, bytes) else json.dumps(v).encode())
             for k, v in fields.items()]
    return b"{" + b",".join(parts) + b"}"


def connect(server):
    return socket.create_connection(("127.0.0.1", server.port), WAIT_S)


def read_all(sock):
    out = b""
    try:
        while data := sock.recv(65536):
            out += data
    except ConnectionResetError:
        pass
    return out


def reset(sock):
    """Closes with a RST instead of a FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def raise_descriptors():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Hostile(Case):
    """One server for a class; `settle` holds after every case."""
    args = ()

    @classmethod
    def setUpClass(cls):
        cls.server = Server(FATHOM, DEMO, ["--max-num-seqs", "8", "--disable-uvicorn-access-log", *cls.args])
        cls.want = cls.greedy()

    @classmethod
    def tearDownClass(cls):
        code = cls.server.stop()
        text = cls.server.text()
        cls.server.log.close()
        assert code == 0, f"the server ended with {code}\n{text[-4000:]}"

    @classmethod
    def greedy(cls):
        return cls.server.complete(**GREEDY).json["choices"]

    def tearDown(self):
        self.settle()

    def settle(self):
        self.assertIsNone(self.server.process.poll(), self.server.text()[-4000:])
        self.server.wait_metric(0, "vllm:num_requests_running")
        self.server.wait_metric(0, "vllm:num_requests_waiting")
        self.server.wait_metric(0, "vllm:kv_cache_usage_perc")
        self.assertEqual(self.greedy(), self.want)

    def exchange(self, data):
        """Everything that comes back until the server closes."""
        with connect(self.server) as sock:
            try:
                sock.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                pass
            return read_all(sock)

    def status(self, data):
        answer = self.exchange(data)
        self.assertTrue(answer.startswith(b"HTTP/1.1 "), (data[:80], answer[:80]))
        return int(answer[9:12])


class Transport(Hostile):
    args = ("--api-key", "k", "--host", "127.0.0.1", "--max-body-size", "1M", "--keep-alive-timeout", "1")

    @classmethod
    def greedy(cls):
        return cls.server.post(PATHS[0], {"Authorization": "Bearer k"}, **GREEDY).json["choices"]

    def settle(self):
        ask = self.server.ask
        try:
            self.server.ask = lambda method, path, *rest: ask(method, path, *rest, headers={"Authorization": "Bearer k"})
            self.server.wait_metric(0, "vllm:kv_cache_usage_perc")
            self.server.wait_metric(0, "vllm:num_requests_running")
        finally:
            self.server.ask = ask
        self.assertEqual(self.greedy(), self.want)

    def test_malformed(self):
        n, host = b"Content-Length: 2", b"Host: x"
        chunked = b"Transfer-Encoding: chunked\r\n" + KEYED
        plain = {
            400: [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"\x00" * 40 + b"\r\n\r\n", b"GET\r\n\r\n", b"GET / \r\nHost: x\r\n\r\n",
                  b"GET / HTTP/1.1\nHost: x\n\n", b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
                  b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n",
                  b"GET / HTTP/1.1\r\nHost: a/b?c\r\n\r\n", head(b"/", host, method=b"GET"),
                  b"GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n",
                  head(PATHS[0].encode(), n, b"Content-Length: 3") + b"{}}", head(PATHS[0].encode(), n, chunked) + b"{}",
                  head(PATHS[0].encode(), b"Content-Length: -1"), head(PATHS[0].encode(), b"Content-Length: 0x2") + b"{}",
                  head(PATHS[0].encode(), b"Content-Length: 99999999999999999999999"),
                  head(PATHS[0].encode(), chunked) + b"zz\r\n{}\r\n0\r\n\r\n",
                  head(PATHS[0].encode(), chunked) + b"-2\r\n{}\r\n0\r\n\r\n",
                  head(PATHS[0].encode(), chunked) + b"2\r\n{}}\r\n0\r\n\r\n",
                  head(b"/", b"A b: c", method=b"GET"), head(b"/", b"A: b\0c", method=b"GET"),
                  head(b"/", b" folded", method=b"GET")],
            413: [head(PATHS[0].encode(), b"Content-Length: 1048577"), head(PATHS[0].encode(), b"Content-Length: 9223372036854775807"),
                  head(PATHS[0].encode(), chunked) + b"200000\r\n" + b" " * (1 << 21)],
            431: [b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * (1 << 20),
                  head(b"/", *[b"A: b"] * 200, method=b"GET"), b"GET /" + b"a" * (1 << 17)],
            505: [b"GET / HTTP/3.0\r\nHost: x\r\n\r\n"],
        }
        for status, requests in plain.items():
            for data in requests:
                self.assertEqual(self.status(data), status, data[:90])
        self.assertEqual(self.status(head(b"/health", b"Connection: close", method=b"GET")), 200)

    def test_key_on_the_parsed_path(self):
        """No spelling of path or Host makes a protected route a free one."""
        for target in (b"/v1/models", b"//v1/models", b"/health/../v1/models", b"/v1/models?x=/health", b"/%761/models",
                       b"/v1/models#/health", b"/health%2f..%2fv1/models", b"http://x/v1/models", b"/V1/models",
                       b"/v1/models/", b"/health;/v1/models"):
            answer = self.exchange(head(target, b"Connection: close", method=b"GET"))
            self.assertIn(answer[9:12], (b"401", b"404", b"400"), target)
            self.assertNotIn(b"max_model_len", answer)
        answer = self.exchange(b"GET /v1/models HTTP/1.1\r\nHost: x/health?\r\nConnection: close\r\n\r\n")
        self.assertEqual(answer[9:12], b"400")

    def test_short_bodies(self):
        """What was promised and does not come is never taken for a request."""
        for cut in (0, 1, 10, 20):
            with connect(self.server) as sock:
                sock.sendall(head(PATHS[0].encode(), b"Authorization: Bearer k", b"Content-Type: application/json",
                                  b"Content-Length: 21") + b'{"prompt":"x","n": 1}'[:cut])
                sock.shutdown(socket.SHUT_WR)
                self.assertNotIn(b"200 OK", read_all(sock))

    def test_reuse_after_refusals(self):
        bad = head(b"/v1/models", b"Authorization: Bearer no", method=b"GET")
        bad += post({"prompt": 5}).replace(b"Host: x", b"Host: x\r\nAuthorization: Bearer k")
        good = head(b"/health", b"Connection: close", method=b"GET")
        answer = self.exchange(bad * 3 + head(b"/none", b"X-Api-Key: k", method=b"GET") + good)
        self.assertEqual([part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]], [b"401", b"400"] * 3 + [b"404", b"200"])

    def test_refused_before_the_body(self):
        """Whoever may not pass, or asks for what takes no body, is answered from the head; then the connection closes."""
        json_type, key, length = b"Content-Type: application/json", b"X-Api-Key: k", b"Content-Length: 1000000"
        rows = [(401, head(PATHS[0].encode(), json_type, length)), (401, head(b"/none", json_type, length)),
                (401, head(PATHS[0].encode(), json_type, b"Transfer-Encoding: chunked")),
                (401, head(PATHS[0].encode(), json_type, length, b"Authorization: Bearer no")),
                (404, head(b"/none", json_type, length, key)), (405, head(b"/v1/models", json_type, length, key)),
                (400, head(PATHS[0].encode(), b"Content-Type: text/plain", length, key)),
                (200, head(b"/ping", length)), (200, head(b"/health", length, method=b"GET"))]
        for status, data in rows:
            for more in (b"", b"{", b"5\r\n{", b" " * 300000):
                with connect(self.server) as sock:
                    sock.sendall(data + more)
                    answer = read_all(sock)
                self.assertEqual(int(answer[9:12]), status, (data, answer[:200]))
                self.assertIn(b"Connection: close\r\n", answer)
                self.assertEqual(answer.count(b"HTTP/1.1 "), 1)
        for keyed in (b"A: b", key):
            with connect(self.server) as sock:
                sock.sendall(head(PATHS[0].encode(), json_type, length, b"Expect: 100-continue", keyed))
                self.assertEqual(sock.recv(12)[9:], b"401" if keyed == b"A: b" else b"100")

    def test_dripping_and_idle_connections(self):
        """Thousands of silent connections and slow heads: others are served meanwhile, all are closed in the end."""
        n = max(100, min(IDLE, raise_descriptors() - 1000))
        poll = selectors.DefaultSelector()
        slow = []
        began = time.monotonic()
        for i in range(n):
            sock = socket.socket()
            sock.connect(("127.0.0.1", self.server.port))
            sock.setblocking(False)
            poll.register(sock, selectors.EVENT_READ)
            if i % 100 == 0:
                sock.send(b"GET /health HTTP/1.1\r\nHost: x\r\nA: ")
                slow.append(sock)
        self.assertEqual(self.greedy(), self.want)
        open_ones, statuses = n, {}
        while open_ones and time.monotonic() < began + 5 * WAIT_S:
            for sock in slow:
                try:
                    sock.send(b"a")
                except OSError:
                    pass
            for key, _ in poll.select(1):
                try:
                    data = key.fileobj.recv(4096)
                except OSError:
                    data = b""
                if data:
                    statuses[data[9:12]] = statuses.get(data[9:12], 0) + 1
                else:
                    poll.unregister(key.fileobj)
                    key.fileobj.close()
                    open_ones -= 1
        self.assertEqual(open_ones, 0)
        self.assertLessEqual(set(statuses), {b"408"})
        self.assertGreaterEqual(statuses.get(b"408", 0), len(slow))


class Numbers(Hostile):
    ABSURD = [b"1e400", b"-1e400", b"NaN", b"Infinity", b"9223372036854775808", b"-9223372036854775809", b"99999999999999999999",
              b'"1"', b'""', b"[]", b"[1]", b"{}", b"true"]
    HUGE = [b"9223372036854775807", b"-9223372036854775808", b"4294967296", b"1e308", b"-1e308", b"-2", b"0.5", b"1e-320"]
    REAL = ["temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty"]
    WHOLE = ["top_k", "seed", "n", "best_of", "max_tokens", "max_completion_tokens", "min_tokens", "prompt_logprobs",
             "truncate_prompt_tokens", "stream_interval", "priority", "thinking_token_budget"]
    OWN = {PATHS[0]: ["logprobs"], PATHS[1]: ["top_logprobs"]}

    def ask(self, connection, path, body):
        connection.request("POST", path, body, serving.JSON)
        response = connection.getresponse()
        data = response.read()
        self.assertEqual(response.status // 100, 2 if response.status == 200 else 4, (body, data[:200]))
        return response.status

    def test_every_numeric_field(self):
        connection = self.server.connect()
        for path in PATHS:
            more = {} if path == PATHS[0] else {"logprobs": True}
            for name in self.REAL + self.WHOLE + self.OWN[path]:
                for value in self.ABSURD:
                    self.assertEqual(self.ask(connection, path, body_of(path, **{**more, name: value})), 400, (path, name, value))
                self.assertEqual(self.ask(connection, path, body_of(path, **{"max_tokens": 2, **more, name: b"null"})), 200,
                                 (path, name))
                for value in self.HUGE:
                    got = self.ask(connection, path, body_of(path, **{**more, name: value}))
                    fits = (name == "seed" and value not in (b"1e308", b"-1e308", b"0.5", b"1e-320")
                            or name in self.REAL and value in (b"0.5", b"1e-320")
                            or name.endswith("_penalty") and value == b"-2")
                    self.assertEqual(got == 200, fits and not (name == "repetition_penalty" and value == b"-2"), (path, name, value))
        connection.close()

    def test_numbers_in_lists(self):
        connection = self.server.connect()
        ids = [b"-1", b"3072", b"2147483648", b"9223372036854775807", b"1e400", b"0.5", b'"5"', b"null", b"[]", b"true"]
        for path in PATHS:
            for value in ids:
                for name in ("stop_token_ids", "allowed_token_ids"):
                    body = body_of(path, **{name: b"[5," + value + b"]"})
                    self.assertEqual(self.ask(connection, path, body), 400, body)
                self.assertEqual(self.ask(connection, path, body_of(path, logit_bias=b'{"5":1,"' + value.strip(b'"') + b'x":1}')), 400)
            for value in (b"1e400", b"NaN", b'"1"', b"null", b"[]", b"true"):
                self.assertEqual(self.ask(connection, path, body_of(path, logit_bias=b'{"5":' + value + b"}")), 400, value)
            for key in (b"-1", b"3072", b"18446744073709551616", b"5 ", b" 5", b"", b"0x5", b"5.0"):
                self.assertEqual(self.ask(connection, path, body_of(path, logit_bias=b'{"' + key + b'":1}')), 400, key)
        for value in ids:
            for body in (body_of(PATHS[0], prompt=b"[5," + value + b"]"), body_of(PATHS[0], prompt=b"[[5],[" + value + b"]]")):
                self.assertEqual(self.ask(connection, PATHS[0], body), 400, body)
            self.assertEqual(self.ask(connection, "/detokenize", b'{"tokens":[5,' + value + b"]}"), 400, value)
        connection.close()


class Sizes(Hostile):
    def test_lists(self):
        """Long lists are refused by the name of their field."""
        deep = {"type": "string"}
        for _ in range(40):
            deep = {"a": deep}
        many = {
            "stop": ["s%d" % i for i in range(10000)], "stop_token_ids": [5] * 100000, "bad_words": ["a"] * 20000,
            "logit_bias": {str(i): 1 for i in range(3000)}, "allowed_token_ids": [5] * 100000,
            "structured_outputs": {"regex": "(a*)*" * 200000}, "guided_regex": "a" * 1000000,
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": deep}},
            "n": 16384, "use_beam_search": True, "prompt_embeds": "A" * 1000000, "request_id": "a" * 100000,
            "cache_salt": "a" * 100000, "logprobs": 1000 * [1], "kv_transfer_params": {"do_remote_prefill": True},
        }
        for path in PATHS:
            for name, value in many.items():
                self.refused(self.server.ask("POST", path, body_of(path, **{name: value})), 400, "", name)
            for stop in (["a" * 4097], "b" * 1000000, ["a"] * 17, [""], [None], [["a"]], {}):
                self.assertEqual(self.server.ask("POST", path, body_of(path, stop=stop)).status, 400)
            self.assertEqual(self.server.ask("POST", path, body_of(path, stop=["ab" * 2000] * 16)).status, 200)
        for body in ({"messages": [{"role": "user", "content": "x"}] * 20000}, {"messages": []}, {"messages": {}},
                     {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}]},
                     {"messages": [{"role": "user", "content": "x"}], "chat_template": "{{ 1 }}"},
                     {"messages": [{"role": "user", "content": {"type": "text"}}]}, {"messages": [5]},
                     {"messages": [{"role": "x" * 100000, "content": "x"}]}):
            answer = self.server.post(PATHS[1], **body)
            self.assertEqual(answer.status, 400, answer.body[:200])
            self.assertLess(len(answer.body), 1000)

    def test_many_prompts(self):
        self.refused(self.server.complete(["x"] * 100000, max_tokens=1), 400, "prompts", "prompt")
        self.refused(self.server.complete(["x"] * 1024, n=128, max_tokens=1, temperature=1), 400, "choices", "prompt")
        answer = self.server.complete(["x"] * 200, max_tokens=1)
        self.assertEqual(len(answer.json["choices"]), 200)

    def test_prompts_beyond_the_context(self):
        for prompt in ("word " * 5000, [5] * 4097, [5] * 100000, "x" * 1000000):
            self.refused(self.server.complete(prompt, max_tokens=1), 400, "maximum context length", "input_tokens")
        self.refused(self.server.complete("word", max_tokens=4096), 400, "maximum context length", "input_tokens")
        self.refused(self.server.chat("word " * 5000), 400, "maximum context length", "input_tokens")
        answer = self.server.complete([5] * 4095, max_tokens=1, temperature=0)
        self.assertEqual(answer.json["usage"]["total_tokens"], 4096)

    def test_empty_prompts(self):
        for prompt in ("", [""], [[]], [[], [5]], []):
            self.assertEqual(self.server.complete(prompt, add_special_tokens=False).status, 400, prompt)

    def test_all_log_probabilities(self):
        answer = self.server.complete("one two " * 200, logprobs=20, prompt_logprobs=20, echo=True, max_tokens=4, temperature=1)
        self.assertEqual(answer.status, 200)
        self.assertEqual(len(answer.json["choices"][0]["prompt_logprobs"]), answer.json["usage"]["prompt_tokens"])
        self.assertEqual(self.server.complete("x", logprobs=21).status, 400)
        answer = self.server.complete([[5] * 4000] * 8, n=100, prompt_logprobs=20, max_tokens=1, temperature=1)
        self.refused(answer, 400, "prompt_logprobs", "prompt_logprobs")

    def test_bytes_that_are_not_text(self):
        for data in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\\ud800", b"\\udc00\\ud800",
                     b"\\u0000", b"\x00", b"\n", b"\\x", b"\x1b"):
            for path, field in ((PATHS[0], b'"prompt":"%s"'), (PATHS[1], b'"messages":[{"role":"user","content":"%s"}]'),
                                ("/tokenize", b'"prompt":"%s"'), (PATHS[0], b'"prompt":"x","stop":"%s"'),
                                (PATHS[0], b'"prompt":"x","%s":1')):
                answer = self.server.ask("POST", path, b"{" + field % data + b"}")
                read = data == b"\\u0000" and not field.startswith(b'"prompt":"x"')  # a character like another, for the model
                self.assertEqual(answer.status, 200 if read else 400, (path, field, data))
                answer.body.decode()

    def test_depth(self):
        for n in (64, 65, 1000, 200000):
            for path in PATHS:
                for a, b in ((b"[", b"]"), (b'{"a":', b"}")):
                    got = self.server.ask("POST", path, body_of(path, unknown=a * n + b"1" + b * n)).status
                    self.assertEqual(got, 400, (n, a))
        self.assertEqual(self.server.ask("POST", PATHS[0], body_of(PATHS[0], unknown=b"[" * 50 + b"]" * 50)).status, 200)

    def test_identity_in_headers(self):
        with serving.real("--enable-request-id-headers") as s:
            for name in ("a\r\nX-Evil: 1", "\u00e9\u4e2d", "a\"b", "\x1b[2J"):
                answer = s.complete("x", max_tokens=1, request_id=name)
                self.assertEqual(answer.status, 200)
                self.assertIsNone(answer.headers["X-Evil"])
                self.assertEqual(answer.json["id"], "cmpl-" + name)


class Vanishing(Hostile):
    def test_request_cut_at_every_byte(self):
        data = post({"prompt": "x", "max_tokens": 500, "ignore_eos": True})
        for cut in range(len(data) + 1):
            for leave in (socket.socket.close, reset):
                sock = connect(self.server)
                sock.sendall(data[:cut])
                leave(sock)

    def test_stream_cut_at_many_bytes(self):
        for path in PATHS:
            data = post(body_of(path, stream=True, max_tokens=2000, ignore_eos=True), path)
            for cut in list(range(1, 400, 13)) + list(range(400, 4000, 200)):
                sock = connect(self.server)
                sock.sendall(data)
                got = 0
                while got < cut:
                    got += len(sock.recv(cut - got))
                (reset if cut % 2 else socket.socket.close)(sock)

    def test_half_closed(self):
        """A client that ends its side is gone; one that does so before a request is complete as well."""
        for data in (b"", b"GET", post({"prompt": "x", "max_tokens": 3000, "ignore_eos": True})[:-1],
                     post({"prompt": "x", "max_tokens": 3000, "ignore_eos": True}),
                     post({"prompt": "x", "max_tokens": 3000, "ignore_eos": True, "stream": True})):
            with connect(self.server) as sock:
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
                self.assertNotIn(b"[DONE]", read_all(sock))

    def test_pipelined_and_gone(self):
        sock = connect(self.server)
        sock.sendall(post({"prompt": "x", "max_tokens": 300, "ignore_eos": True}) * 50)
        time.sleep(0.2)
        reset(sock)

    def test_flood(self):
        for i in range(1500):
            sock = connect(self.server)
            (reset if i % 2 else socket.socket.close)(sock)


class FullCache(Hostile):
    """A cache of little more than one context: requests wait, are preempted and computed again, and say the same."""
    args = ("--max-model-len", "512", "--kv-cache-memory-bytes", "1300K", "--max-num-queued-reqs", "40")
    PROMPTS = ["fathom " * (20 + 8 * i) for i in range(12)]
    BODY = {"temperature": 0, "max_tokens": 150, "ignore_eos": True}

    def test_all_are_answered_as_alone(self):
        alone = [self.server.complete(p, **self.BODY).json["choices"][0]["text"] for p in self.PROMPTS[:3]]
        got = {}

        def ask(i):
            got[i] = self.server.complete(self.PROMPTS[i], **self.BODY).json["choices"][0]["text"]

        def vanish(i):
            sock = connect(self.server)
            sock.sendall(post({"prompt": self.PROMPTS[i], **self.BODY, "stream": bool(i % 2)}))
            time.sleep(0.05 * i)
            (reset if i % 2 else socket.socket.close)(sock)

        end = time.monotonic() + WAIT_S
        while self.server.metric("vllm:num_preemptions_total") == 0:  # until enough of them met
            self.assertLess(time.monotonic(), end)
            got.clear()
            threads = [threading.Thread(target=f, args=(i,)) for i in range(len(self.PROMPTS)) for f in (ask, vanish)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            self.assertEqual([got[i] for i in range(3)], alone)
            self.assertEqual(len(got), len(self.PROMPTS))

    def test_too_many_wait(self):
        socks = []

        def refusal():
            for _ in range(80):
                socks.append(connect(self.server))
                socks[-1].sendall(post({"prompt": self.PROMPTS[0], "max_tokens": 400, "ignore_eos": True}))
            answer = self.server.complete("x", max_tokens=1)
            return answer if answer.status != 200 else None

        self.refused(wait_for(refusal, lambda: "never refused"), 429, "")
        for sock in socks:
            sock.close()


class Process(Case):
    def test_few_descriptors(self):
        """Out of descriptors: no busy loop, and service again once some are free."""
        with serving.real() as s:
            pid = s.process.pid
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (60, 60))
            socks = [connect(s) for _ in range(100)]

            def is_idle():
                before = self.cpu_seconds(pid)
                time.sleep(1)
                return self.cpu_seconds(pid) - before < 0.3

            wait_for(is_idle, lambda: "busy all the time")
            for sock in socks:
                sock.close()
            self.assertEqual(s.complete("x", max_tokens=1).status, 200)

    @staticmethod
    def cpu_seconds(pid):
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            words = file.read().rsplit(")", 1)[1].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def served_with_log(self, stderr, then=lambda: None):
        """A server whose log cannot be written serves all the same."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "s")
            with subprocess.Popen([FATHOM, "serve", DEMO, "--uds", path, "--threads", "1", "--no-pin"], stderr=stderr) as p:
                then()

                def status():
                    try:
                        with socket.socket(socket.AF_UNIX) as sock:
                            sock.connect(path)
                            sock.sendall(post({"prompt": "x", "max_tokens": 1}).replace(b"Host: x", b"Host: x\r\nConnection: close"))
                            return read_all(sock)[:15]
                    except OSError:
                        self.assertIsNone(p.poll())
                        return None

                got = wait_for(status, lambda: "no connection")
                p.terminate()
                self.assertEqual((got, p.wait(WAIT_S)), (b"HTTP/1.1 200 OK", 0))

    def test_log_on_a_full_disk(self):
        with open("/dev/full", "wb") as full:
            self.served_with_log(full)

    def test_log_that_nobody_reads(self):
        r, w = os.pipe()
        self.served_with_log(w, lambda: (os.close(r), os.close(w)))


if __name__ == "__main__":
    serving.main()
