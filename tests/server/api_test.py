"""Routes, keys, cross-origin rules, media types, error objects, and the questions that need no generation."""
import json

import serving
from serving import JSON, Case, ids_of, real, say, scripted, wait_for


class Probes(Case):
    def test_questions(self):
        with scripted(say("yes"), args=["--enable-tokenizer-info-endpoint"]) as s:
            for method, path in (("GET", "/health"), ("GET", "/ping"), ("POST", "/ping")):
                answer = s.ask(method, path)
                self.assertEqual((answer.status, answer.body), (200, b""))
            self.assertRegex(s.ask("GET", "/version").json["version"], r"^\d+\.\d+\.\d+$")
            self.assertEqual(s.ask("GET", "/load").json, {"server_load": 0})
            models = s.ask("GET", "/v1/models").json
            self.assertEqual(models["object"], "list")
            self.assertEqual([m["id"] for m in models["data"]], ["demo", "second"])
            self.assertEqual(models["data"][0]["max_model_len"], 4096)
            self.assertEqual(models["data"][0]["permission"][0]["object"], "model_permission")
            self.assertEqual(s.ask("GET", "/tokenizer_info").json["eos_token"], "<｜end▁of▁sentence｜>")

    def test_unknown(self):
        with scripted() as s:
            self.refused(s.ask("GET", "/v1/nothing"), 404, "Not Found", kind="Not Found")
            self.refused(s.ask("GET", "/v1/completions"), 405, "Method Not Allowed", kind="Method Not Allowed")
            self.refused(s.ask("GET", "/tokenizer_info"), 404, "Not Found")
            self.refused(s.ask("POST", "/v1/models/"), 404, "Not Found")
            self.assertEqual(s.ask("HEAD", "/health").status, 200)
            for path in ("/v1/embeddings", "/v1/rerank", "/rerank", "/pooling", "/score", "/invocations", "/collective_rpc", "/sleep"):
                self.refused(s.post(path, input="x"), 404, "Not Found")

    def test_hung_engine(self):
        with scripted({"hung": True}) as s:
            connection = s.connect()
            connection.request("POST", "/v1/completions", '{"prompt":"x"}', JSON)
            wait_for(lambda: s.ask("GET", "/health").status == 503, lambda: "still healthy")
            self.refused(s.ask("GET", "/health"), 503, "no progress", kind="ServiceUnavailableError")
            connection.close()


class Keys(Case):
    def test_keys(self):
        with scripted(say("yes"), args=["--host", "127.0.0.1", "--api-key", "one", "two", "--api-key=three"]) as s:
            for path in ("/v1/models", "/metrics", "/version"):
                answer = s.ask("GET", path)
                self.assertEqual((answer.status, answer.body), (401, b'{"error":"Unauthorized"}'))
            for key in ("one", "two", "three"):
                self.assertEqual(s.ask("GET", "/v1/models", headers={"Authorization": "bearer " + key}).status, 200)
                self.assertEqual(s.ask("GET", "/v1/models", headers={"X-Api-Key": key}).status, 200)
            for bad in ("Bearer onE", "Bearer on", "Bearer onee", "Bearer ", "Basic one", "one", "Bearer oneone"):
                self.assertEqual(s.ask("GET", "/v1/models", headers={"Authorization": bad}).status, 401, bad)
            self.assertEqual(s.ask("GET", "/health").status, 200)
            self.assertEqual(s.ask("GET", "/v1/nothing").status, 401)
            self.assertEqual(s.ask("GET", "/v1/models", headers={"Host": "a/health"}).status, 400)

    def test_scope_of_vllm(self):
        with scripted(args=["--api-key", "one", "--api-key-scope", "v1", "--host", "127.0.0.1"]) as s:
            self.assertEqual(s.ask("GET", "/metrics").status, 200)
            for method, path in (("GET", "/v1/models"), ("GET", "/models"), ("POST", "/chat/completions"),
                                 ("POST", "/completions"), ("POST", "/v1/completions")):
                self.assertEqual(s.ask(method, path).status, 401, path)


    def test_environment(self):
        with scripted(env={"VLLM_API_KEY": "four"}) as s:
            self.assertEqual(s.ask("GET", "/v1/models").status, 401)
            self.assertEqual(s.ask("GET", "/v1/models", headers={"Authorization": "Bearer four"}).status, 200)
            self.assertNotIn("four", s.text())


class Origins(Case):
    ASK = {"Origin": "http://a.example", "Access-Control-Request-Method": "POST",
           "Access-Control-Request-Headers": "x-one"}

    def test_closed(self):
        with scripted() as s:
            answer = s.ask("GET", "/v1/models", headers={"Origin": "http://a.example"})
            self.assertIsNone(answer.headers["Access-Control-Allow-Origin"])
            self.assertEqual(s.ask("OPTIONS", "/v1/models", headers=self.ASK).status, 405)

    def test_open(self):
        with scripted(args=["--allowed-origins", '["*"]', "--api-key", "k", "--host", "127.0.0.1"]) as s:
            answer = s.ask("OPTIONS", "/v1/completions", headers=self.ASK)
            self.assertEqual(answer.status, 200)
            self.assertEqual(answer.headers["Access-Control-Allow-Origin"], "*")
            self.assertEqual(answer.headers["Access-Control-Allow-Headers"], "x-one")
            answer = s.ask("GET", "/v1/models", headers={"Origin": "http://a.example", "Authorization": "Bearer k"})
            self.assertEqual(answer.headers["Access-Control-Allow-Origin"], "*")

    def test_listed(self):
        with scripted(args=["--allowed-origins", '["http://b.example"]', "--allow-credentials"]) as s:
            self.assertEqual(s.ask("OPTIONS", "/v1/completions", headers=self.ASK).status, 400)
            answer = s.ask("OPTIONS", "/v1/completions", headers={**self.ASK, "Origin": "http://b.example"})
            self.assertEqual(answer.headers["Access-Control-Allow-Origin"], "http://b.example")
            self.assertEqual(answer.headers["Access-Control-Allow-Credentials"], "true")


class Bodies(Case):
    def test_media_type(self):
        with scripted(say("yes")) as s:
            body = '{"prompt":"x"}'
            for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""):
                answer = s.ask("POST", "/v1/completions", body, {"Content-Type": kind})
                self.refused(answer, 400, "Only 'application/json' is allowed", kind="Bad Request")
            answer = s.ask("POST", "/v1/completions", body, {"Content-Type": "Application/JSON; charset=utf-8"})
            self.assertEqual(answer.status, 200)

    def test_malformed(self):
        bad = [b"", b"{", b"[]", b"1", b'{"prompt":"x"}}', b'\xef\xbb\xbf{"prompt":"x"}', b'{"prompt":"\xff"}',
               b'{"prompt":"x","model":"a\\u0000b"}', b'{"prompt":[{"a":"\\u0000"}]}', b'{"messages":[{"role":"user\\u0000"}]}',
               b'{"messages":[{"role":"user","content":[{"type":"text\\u0000","text":"x"}]}]}', b'{"stop":["\\u0000"],"prompt":"x"}', b'{"a\\u0000":1,"prompt":"x"}',
               b'{"prompt":"\\ud800"}', b'{"a\\u\xc6\x8f0:"x"\xcf}', b'{"\xff":1}', b'{"prompt":"x","seed":' + b"9" * 400 + b"}",
               b'{"prompt":"x","temperature":1e999}', b'{"prompt":"x","temperature":NaN}',
               b'{"prompt":"x","prompt":"y"}', b'{"prompt":"x","a":' + b"[" * 70 + b"]" * 70 + b"}",
               b"[" * 100000, b'{"a":' * 100000]
        with scripted(say("yes")) as s:
            for path in ("/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"):
                for body in bad:
                    answer = s.ask("POST", path, body)
                    self.assertEqual(answer.status, 400, body[:60])
                    self.assertEqual(answer.json["error"]["type"], "Bad Request", body[:60])
                    self.assertLess(len(answer.body), 1000)
            self.assertEqual(s.complete().status, 200)

    def test_nul(self):
        """In what the model reads it is a character like another."""
        with scripted(say("yes")) as s:
            ids = s.post("/tokenize", prompt="a\0b", add_special_tokens=False).json["tokens"]
            self.assertEqual(len(ids), 3)
            self.assertEqual(s.post("/detokenize", tokens=ids).json, {"prompt": "a\0b"})
            answer = s.complete(prompt=["a\0b"], echo=True, max_tokens=1).json
            self.assertTrue(answer["choices"][0]["text"].startswith("a\0b"))
            self.assertEqual(answer["usage"]["prompt_tokens"], 4)
            plain, parts = ({"messages": [{"role": "user", "content": content}]} for content in
                            ("a\0b", [{"type": "text", "text": "a\0b"}]))
            self.assertEqual(s.post("/v1/chat/completions", **plain).status, 200)
            self.assertEqual(s.post("/v1/chat/completions", **parts).status, 200)
            rendered = s.post("/tokenize", **parts).json["tokens"]
            self.assertEqual(rendered, s.post("/tokenize", **plain).json["tokens"])
            self.assertIn(str(ids)[1:-1], str(rendered))

    def test_stray_nul(self):
        with scripted(say("yes")) as s:
            for path, body, where in (
                    ("/v1/completions", {"prompt": "x", "stop": ["a", "\0"]}, "stop[1]"),
                    ("/v1/completions", {"prompt": ["a", {"b": "\0"}]}, "prompt[1].b"),
                    ("/v1/completions", {"prompt": "x", "metadata": {"text": "\0"}}, "metadata.text"),
                    ("/v1/chat/completions", {"messages": [{"role": "user\0", "content": "x"}]}, "messages[0].role"),
                    ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "\0", "text": "x"}]}]},
                     "messages[0].content[0].type"),
                    ("/v1/responses", {"input": [{"type": "function_call_output", "call_id": "\0", "output": "x"}]}, "input[0].call_id")):
                answer = s.post(path, **body)
                self.refused(answer, 400, where + ": \\u0000 is only allowed in text", where.split("[")[0].split(".")[0], "Bad Request")

    def test_numbers_beyond_64_bits(self):
        """Refused where they mean something, by the field's name; elsewhere they are data."""
        tool = {"type": "function", "function": {"name": "f", "parameters": {
            "type": "object", "properties": {"n": {"type": "integer", "maximum": 2**64 - 1, "minimum": -2**64}}}}}
        hi = [{"role": "user", "content": "hi"}]
        with scripted(say("yes")) as s:
            for name in ("seed", "max_tokens", "top_k"):
                self.refused(s.complete(**{name: 10**20}), 400, name + " must be from", name)
            self.refused(s.complete(temperature=10**20), 400, "temperature must be in", "temperature")
            self.refused(s.complete(prompt=[[10**20]]), 400, "", "prompt")
            self.refused(s.complete(seed=2**63), 400, "seed: expected a whole number of 64 bits", "seed")
            self.refused(s.complete(seed=1e18), 400, "seed: expected a whole number of 64 bits", "seed")
            call = {"id": "1", "function": {"name": "f", "arguments": {"n": 10**20}}}
            for body in ({"metadata": {"n": 10**30}}, {"tools": [tool]}, {"messages": hi + [
                    {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "1", "content": "x"}]}):
                self.assertEqual(s.post("/v1/chat/completions", **{"messages": hi, **body}).status, 200, body)

    def test_size(self):
        with scripted(say("yes"), args=["--max-body-size", "2Ki"]) as s:
            self.refused(s.complete("x" * 4000), 413, "at most 2048 bytes (--max-body-size)")
            c = s.connect()
            c.request("POST", "/v1/completions", iter([b" " * 4000]), serving.JSON)  # one chunk
            r = c.getresponse()
            self.refused(serving.Answer(r.status, r.headers, r.read()), 413, "at most 2048 bytes (--max-body-size)")
            c.close()
            self.assertEqual(s.complete("x").status, 200)


class Tokenizer(Case):
    def test_tokenize(self):
        with scripted() as s:
            ids = ids_of("Hello world")
            answer = s.post("/tokenize", prompt="Hello world", add_special_tokens=False).json
            self.assertEqual(answer, {"count": len(ids), "max_model_len": 4096, "tokens": ids, "token_strs": None})
            answer = s.post("/tokenize", prompt="Hello world", return_token_strs=True).json
            self.assertEqual(answer["tokens"], [0] + ids)
            self.assertEqual("".join(answer["token_strs"][1:]), "Hello world")
            self.assertEqual(s.post("/detokenize", tokens=ids).json, {"prompt": "Hello world"})
            answer = s.post("/tokenize", messages=[{"role": "user", "content": "Hello world"}]).json
            self.assertEqual(answer["tokens"][:2 + len(ids)], [0, serving.token("<｜User｜>")] + ids)
            self.assertEqual(answer["tokens"][-1], serving.token("</think>"))
            answer = s.post("/tokenize", messages=[{"role": "user", "content": "x"}],
                            chat_template_kwargs={"thinking": True}).json
            self.assertEqual(answer["tokens"][-1], serving.token("<think>"))

    def test_refusals(self):
        with scripted() as s:
            self.refused(s.post("/tokenize"), 400, "field required", "prompt")
            self.refused(s.post("/tokenize", prompt=5), 400, "expected a string", "prompt")
            self.refused(s.post("/tokenize", prompt="x", model="other"), 404, "does not exist", "model")
            self.refused(s.post("/detokenize"), 400, "field required", "tokens")
            for ids in ([-1], [10**9], ["a"], [1.5]):
                self.refused(s.post("/detokenize", tokens=ids), 400, "tokens[0]", "tokens")
            self.refused(s.post("/tokenize", messages=[]), 400, "expected 1", "messages")
            self.refused(s.post("/tokenize", messages=[{"role": "king"}]), 400, "unknown role", "messages")


class Numbers(Case):
    def test_metrics(self):
        with scripted(say("one two")) as s:
            s.complete("hi")
            answer = s.ask("GET", "/metrics")
            self.assertEqual(answer.headers["Content-Type"], "text/plain; version=0.0.4; charset=utf-8")
            text = answer.body.decode()
            for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc",
                         "prefix_cache_queries_total", "prefix_cache_hits_total", "num_preemptions_total",
                         "prompt_tokens_total", "generation_tokens_total", "request_success_total",
                         "time_to_first_token_seconds_bucket", "inter_token_latency_seconds_bucket",
                         "iteration_tokens_total_bucket", "request_num_preemptions_sum", "prompt_tokens_cached_total",
                         "request_max_num_generation_tokens_sum", "request_prefill_kv_computed_tokens_sum",
                         "e2e_request_latency_seconds_sum", "request_queue_time_seconds_count", "cache_config_info"):
                self.assertIn("\nvllm:" + name + "{", "\n" + text)
            self.assertEqual(s.metric("vllm:request_success_total", finished_reason="stop", model_name="demo"), 1)
            self.assertEqual(s.metric("vllm:time_to_first_token_seconds_bucket", le="+Inf"), 1)
            self.assertEqual(s.metric("vllm:time_to_first_token_seconds_bucket", le="2560"), 1)
            self.assertEqual(s.metric("http_requests_total", handler="/v1/completions", code="200"), 1)
            self.assertEqual(s.metric("vllm:request_max_num_generation_tokens_sum"), s.metric("vllm:generation_tokens_total"))
            for way, size in (("request", len(json.dumps({"prompt": "hi"}))), ("response", len(s.complete("hi").body))):
                self.assertAlmostEqual(s.metric(f"http_{way}_size_bytes_sum", handler="/v1/completions"), size * 2, delta=9)

    def test_invented_requests(self):
        """Methods and paths that clients make up are one row for each status; routes keep theirs."""
        with scripted(say("yes")) as s:
            for i in range(600):
                self.assertEqual(s.ask(f"M{i}", "/health").status, 405)
                self.assertEqual(s.ask("GET", f"/none/{i}").status, 404)
            s.complete("hi")
            self.assertEqual(s.metric("http_requests_total", handler="/v1/completions", method="POST", code="200"), 1)
            for code in ("404", "405"):
                self.assertEqual(s.metric("http_requests_total", handler="none", method="OTHER", code=code), 600)
            rows = [r for r in s.ask("GET", "/metrics").body.decode().splitlines() if r.startswith("http_requests_total{")]
            self.assertLess(len(rows), 10)

    def test_request_ids(self):
        with scripted(say("yes"), args=["--enable-request-id-headers"]) as s:
            answer = s.post("/v1/completions", {"X-Request-Id": "abc-1"}, prompt="x")
            self.assertEqual(answer.headers["X-Request-Id"], "abc-1")
            self.assertEqual(answer.json["id"], "cmpl-abc-1")
            self.assertEqual(s.complete("x", request_id="mine").json["id"], "cmpl-mine")
            answer = s.post("/v1/completions", {"X-Request-Id": "a" * 2000}, prompt="x")
            self.assertRegex(answer.json["id"], "^cmpl-[0-9a-f]{32}$")

    def test_log(self):
        with scripted(say("yes"), args=["--disable-access-log-for-endpoints", "/health,/version"]) as s:
            s.ask("GET", "/health")
            s.ask("GET", "/v1/models?a=b")
            text = s.text()
            self.assertIn('"GET /v1/models HTTP/1.1" 200 OK', text)
            self.assertNotIn('"GET /health', text)


class Real(Case):
    """What only the real engine has."""

    @staticmethod
    def cached(s):
        usage = s.complete("one two three four five " * 40, max_tokens=1).json["usage"]
        return usage["prompt_tokens_details"]["cached_tokens"]

    def test_reset_prefix_cache(self):
        with real("--enable-prompt-tokens-details", "--enable-admin-endpoints", "--api-key", "k", "--api-key-scope", "v1",
                  "--host", "127.0.0.1") as s:
            self.assertEqual(s.ask("POST", "/reset_prefix_cache").status, 401)
            key = {"Authorization": "Bearer k"}
            self.assertEqual(s.ask("GET", "/reset_prefix_cache", headers=key).status, 405)
        with real("--enable-prompt-tokens-details", "--enable-admin-endpoints") as s:
            self.assertEqual(self.cached(s), 0)
            found = self.cached(s)
            self.assertGreater(found, 0)
            self.assertEqual(s.ask("POST", "/reset_prefix_cache").status, 200)
            self.assertEqual(self.cached(s), 0)
            self.assertEqual(self.cached(s), found)
            for origin in ("http://a.example", "null", f"http://127.0.0.1:{s.port}"):
                answer = s.ask("POST", "/reset_prefix_cache", headers={"Origin": origin})
                self.refused(answer, 403, "--allowed-origins", kind="Forbidden")
            s.wait_metric(2 * found, "vllm:prompt_tokens_cached_total")
            tokens = s.metric("vllm:prompt_tokens_total")
            self.assertEqual(s.metric("vllm:prompt_tokens_by_source_total", source="local_compute"), tokens - 2 * found)
        with real() as s:
            self.assertEqual(s.ask("POST", "/reset_prefix_cache").status, 404)
        with real("--enable-admin-endpoints", "--allowed-origins", '["http://a.example"]') as s:
            for origin, status in (("http://a.example", 200), ("http://b.example", 403)):
                self.assertEqual(s.ask("POST", "/reset_prefix_cache", headers={"Origin": origin}).status, status)

    def test_salt(self):
        """What one client computed tells another one nothing: the cache answers under the same salt alone."""
        with real("--enable-prompt-tokens-details") as s:
            def cached(**salt):
                usage = s.complete("one two three four five " * 40, max_tokens=1, **salt).json["usage"]
                return usage["prompt_tokens_details"]["cached_tokens"]

            self.assertEqual([cached(), cached(cache_salt="a"), cached(cache_salt="b")], [0, 0, 0])
            self.assertGreater(min(cached(), cached(cache_salt="a"), cached(cache_salt="b")), 0)

    def test_steps(self):
        with real() as s:
            usage = s.complete("one two three", max_tokens=4, ignore_eos=True).json["usage"]
            # One step for the prompt, which samples the first token, and one for each token after it.
            s.wait_metric(4, "vllm:iteration_tokens_total_count")
            self.assertEqual(s.metric("vllm:iteration_tokens_total_bucket", le="1"), 3)
            self.assertEqual(s.metric("vllm:iteration_tokens_total_sum"), usage["prompt_tokens"] + 3)
            self.assertEqual(s.metric("vllm:request_prefill_kv_computed_tokens_sum"), usage["prompt_tokens"])

    def test_models(self):
        with real() as s:
            self.assertEqual(s.ask("GET", "/v1/models").json["data"][0]["id"], serving.DEMO)
            self.assertEqual(s.ask("GET", "/health").status, 200)


if __name__ == "__main__":
    serving.main()
