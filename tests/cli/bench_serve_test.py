"""bench serve against a scripted server: counts, table, JSON, files, failures, goodput. No speed is judged."""
import json
import os
import socket
import tempfile
import xml.etree.ElementTree

from fathom import Case, TOKENIZER, main, run
from stream_server import StreamServer

KEYS = """date endpoint_type backend label model_id tokenizer_id num_prompts request_rate burstiness max_concurrency duration
completed failed total_input_tokens total_output_tokens request_throughput request_goodput output_throughput
total_token_throughput max_output_tokens_per_s max_concurrent_requests rtfx latencies queue_times""".split()
LISTS = "input_lens output_lens ttfts itls start_times generated_texts errors".split()

# Labels of the table in their order, with the value where it is known.
TABLE = [("Successful requests:", "6"), ("Failed requests:", "0"), ("Maximum request concurrency:", "2"),
         ("Request rate configured (RPS):", "200.00"), ("Benchmark duration (s):", None), ("Total input tokens:", "120"),
         ("Total generated tokens:", "30"), ("Request throughput (req/s):", None), ("Request goodput (req/s):", None),
         ("Output token throughput (tok/s):", None), ("Peak output token throughput (tok/s):", None),
         ("Peak concurrent requests:", None), ("Total token throughput (tok/s):", None),
         "---------------Time to First Token----------------"] + [
             (f"{head} TTFT (ms):", None) for head in ("Mean", "Median", "P50", "P99.9")] + [
                 "----------------End-to-end Latency----------------"] + [
                     (f"{head} E2EL (ms):", None) for head in ("Mean", "Median", "P50", "P99.9")]


class BenchServe(Case):
    def bench(self, server, *args, **kw):
        return self.ok("bench", "serve", "--base-url", server.url, "--temperature", "0", *args, **kw)

    def json(self, server, *args, **kw):
        return json.loads(self.bench(server, "--json", *args, **kw))

    def small(self, server, *args, **kw):
        return self.json(server, "--num-prompts", "6", "--random-input-len", "20", "--random-output-len", "5",
                         "--save-detailed", "--result-dir", self.dir, *args, **kw)

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = folder.name

    def file(self, name, text):
        path = os.path.join(self.dir, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def test_counts_and_keys(self):
        with StreamServer(first_s=0.02, gap_s=0.01) as s:
            v = self.small(s, "--label", "x", "--metadata", "gpu=none", "--percentile-metrics", "ttft,tpot,itl,e2el",
                           "--metric-percentiles", "50,99")
        for key in KEYS + LISTS + ["gpu"]:
            self.assertIn(key, v)
        for name in ("ttft", "tpot", "itl", "e2el"):
            for head in ("mean", "median", "std", "p50", "p99"):
                self.assertIn(f"{head}_{name}_ms", v)
        self.assertEqual((v["completed"], v["failed"], v["num_prompts"]), (6, 0, 6))
        self.assertEqual((v["total_input_tokens"], v["total_output_tokens"]), (6 * 20, 6 * 5))
        self.assertEqual((v["model_id"], v["backend"], v["label"], v["request_rate"], v["max_concurrency"]),
                         ("org/scripted", "openai", "x", "inf", None))
        self.assertIsNone(v["request_goodput"])
        self.assertEqual([len(v[k]) for k in LISTS], [6] * len(LISTS))
        self.assertEqual(v["output_lens"], [5] * 6)
        self.assertEqual([len(g) for g in v["itls"]], [4] * 6)
        self.assertEqual(v["generated_texts"], [" w0 w1 w2 w3 w4"] * 6)
        # The scripted delays are lower bounds of the way to a token, not of a gap: the token before it may have been read late.
        for ttft, gaps in zip(v["ttfts"], v["itls"]):
            self.assertGreaterEqual(ttft, 0.019)
            self.assertGreaterEqual(ttft + sum(gaps), 0.059)
        self.assertGreaterEqual(v["p50_e2el_ms"], 59)
        self.assertAlmostEqual(v["mean_tpot_ms"], sum(map(sum, v["itls"])) / (6 * 4) * 1e3, places=6)
        self.assertAlmostEqual(v["output_throughput"], 30 / v["duration"], places=6)
        self.assertAlmostEqual(v["request_throughput"], 6 / v["duration"], places=6)

    def test_requests(self):
        with StreamServer() as s:
            self.small(s, "--header", "X-A=1", "X-B=2=3", "--extra-body", '{"seed": 7}', "--top-k", "4", "--request-id-prefix",
                       "id-", env={"OPENAI_API_KEY": "secret"})
            self.assertEqual(len(s.seen), 7)  # the first one alone, then all
            path, headers, body = s.seen[-1]
            self.assertEqual(path, "/v1/completions")
            self.assertEqual((headers["x-a"], headers["x-b"], headers["authorization"]), ("1", "2=3", "Bearer secret"))
            self.assertEqual(sorted(h["x-request-id"] for _, h, _ in s.seen[1:]), [f"id-{i}" for i in range(6)])
            prompt = body.pop("prompt")
            self.assertEqual(body, {"model": "org/scripted", "repetition_penalty": 1.0, "max_tokens": 5, "stream": True,
                                    "stream_options": {"include_usage": True}, "ignore_eos": True, "temperature": 0.0,
                                    "top_k": 4, "seed": 7})
            self.assertEqual(len(s.ids(prompt, True)), 20)

    def test_chat(self):
        with StreamServer() as s:
            v = self.small(s, "--backend", "openai-chat", "--no-ignore-eos", "--served-model-name", "other", "--logprobs", "3")
            path, _, body = s.seen[0]
            self.assertEqual((path, body["model"], body["max_completion_tokens"]), ("/v1/chat/completions", "other", 5))
            self.assertEqual((body["logprobs"], body["top_logprobs"]), (True, 3))
            self.assertNotIn("ignore_eos", body)
            (message,) = body["messages"]
            self.assertEqual([message["role"], message["content"][0]["type"]], ["user", "text"])
            self.assertEqual(v["generated_texts"], [" w0 w1 w2 w3 w4"] * 6)

    def test_table(self):
        with StreamServer() as s:
            text = self.bench(s, "--num-prompts", "6", "--random-input", "20", "--random-output_len=5", "--max-concurrency", "2",
                              "--request-rate", "200", "--goodput", "ttft:1e6", "--percentile-metrics", "e2el,ttft",
                              "--metric-percentiles", "50,99.9")
            lines = text.split("\n")
            self.assertEqual((lines[0], lines[-2], lines[-1]),
                             ("============ Serving Benchmark Result ============", "=" * 50, ""))
            self.assertEqual(len(lines) - 3, len(TABLE))
            for line, want in zip(lines[1:], TABLE):
                if isinstance(want, str):
                    self.assertEqual(line, want)
                    continue
                label, value = want
                value = value or f"{float(line[40:]):.2f}"
                self.assertEqual(line, f"{label:<40} {value:<10}")
            self.assertLessEqual(s.most_open, 2)

    def test_exact_lengths_by_tokenizer(self):
        with StreamServer(tokenize=False) as s:
            v = self.json(s, "--tokenizer", TOKENIZER, "--num-prompts", "20", "--random-input-len", "60", "--random-prefix-len",
                          "10", "--random-range-ratio", '{"input": 0.5}', "--random-output-len", "2", "--save-detailed",
                          "--result-dir", self.dir)
            lens = v["input_lens"]
            self.assertEqual(v["tokenizer_id"], TOKENIZER)
            self.assertGreater(len(set(lens)), 3)
            self.assertTrue(all(40 <= n <= 100 for n in lens), lens)
            bodies = {h["x-request-id"].rsplit("-", 1)[1]: b for _, h, b in s.seen[1:]}
            prompts = [bodies[str(i)]["prompt"] for i in range(20)]
            self.assertEqual(len({p.split(" ")[5] for p in prompts}), 1)  # the common prefix
            out = self.ok("tokenize", TOKENIZER, "--jsonl", stdin="".join(json.dumps({"text": p}) + "\n" for p in prompts))
            counts = [len(json.loads(line)["ids"]) for line in out.splitlines()]
            self.assertEqual([n - lens[i] for i, n in enumerate(counts)], [counts[0] - lens[0]] * 20)
            self.assertIn(lens[0] - counts[0], (0, 1))  # with or without BOS

    def test_same_seed_same_prompts(self):
        seen = []
        for seed in ("1", "1", "2"):
            with StreamServer() as s:
                self.small(s, "--seed", seed)
                seen.append(sorted(b["prompt"] for _, _, b in s.seen))
        self.assertEqual(seen[0], seen[1])
        self.assertNotEqual(seen[0], seen[2])

    def test_failures(self):
        how = {2: (429, '{"error": {"message": "too many"}}'), 3: "cut", 4: "error", 5: "empty"}
        with StreamServer(fail=lambda n, body: how.get(n)) as s:
            v = self.small(s, "--max-concurrency", "1")
        self.assertEqual((v["completed"], v["failed"]), (2, 4))
        self.assertEqual(v["total_output_tokens"], 10)
        self.assertEqual(v["output_lens"], [5, 0, 0, 0, 0, 5])
        self.assertEqual(v["errors"][0], "")
        self.assertEqual(v["errors"][1], "HTTP 429: too many")
        self.assertNotEqual(v["errors"][2], "")
        self.assertEqual(v["errors"][3], "engine is gone")
        self.assertEqual(v["errors"][4], "the stream had no choices")

    def test_first_request_decides(self):
        with StreamServer(fail=lambda n, body: (503, '{"message": "not yet"}')) as s:
            self.fails("bench", "serve", "--base-url", s.url, "--temperature", "0", says=["first request", "HTTP 503: not yet"])
            self.assertEqual(len(s.seen), 1)
        with socket.socket() as taken:  # and nobody listens
            taken.bind(("127.0.0.1", 0))
            url = "http://127.0.0.1:%d" % taken.getsockname()[1]
            self.fails("bench", "serve", "--base-url", url, "--model", "m", "--tokenizer", TOKENIZER, "--num-prompts", "1",
                       "--temperature", "0", says=["first request", url])
            self.fails("bench", "serve", "--base-url", url, says=["/v1/models", "--model"])
        with StreamServer(fail=lambda n, body: (503, "no") if n == 0 else None) as s:
            self.small(s, "--ready-check-timeout-sec", "600")

    def test_goodput(self):
        with StreamServer(gap_s=0.002) as s:
            v = self.small(s, "--goodput", "ttft:100000", "tpot:100000", "e2el:100000")
            self.assertAlmostEqual(v["request_goodput"], v["request_throughput"], places=6)
            v = self.small(s, "--goodput", "tpot:0.001")
            self.assertEqual(v["request_goodput"], 0)

    def test_custom(self):
        path = self.file("p.jsonl", '{"prompt": "one two"}\n\n{"prompt": "three", "output_tokens": 3}\n')
        with StreamServer(tokenize=False) as s:
            v = self.json(s, "--dataset-name", "custom", "--dataset-path", path, "--num-prompts", "5", "--custom-output-len", "2",
                          "--disable-shuffle", "--save-detailed", "--result-dir", self.dir)
            self.assertEqual(v["input_lens"], [7] * 5)  # as usage says
            self.assertEqual(v["output_lens"], [2] * 5)
            self.assertEqual(s.seen[0][2]["prompt"], "one two")
            self.assertNotIn("ignore_eos", s.seen[0][2])
            v = self.json(s, "--dataset-name", "custom", "--dataset-path", path, "--num-prompts", "5", "--no-oversample")
            self.assertEqual(v["completed"], 2)
            self.fails("bench", "serve", "--base-url", s.url, "--model", "m", "--tokenizer", TOKENIZER, "--dataset-name", "custom",
                       "--dataset-path", path, "--custom-output-len", "-1", says=["p.jsonl: line 1", "output_tokens"])
        bad = self.file("bad.jsonl", '{"prompt": "fine"}\n{"prompt": 3}\n')
        with StreamServer() as s:
            self.fails("bench", "serve", "--base-url", s.url, "--dataset-name", "custom", "--dataset-path", bad,
                       says=["bad.jsonl: line 2", "prompt", "integer"])

    def test_sharegpt(self):
        turn = lambda n, who: {"from": who, "value": " ".join(f"w{i}" for i in range(n))}
        talks = [{"id": "x", "conversations": [turn(a, "human"), turn(b, "gpt")]} for a, b in
                 [(10, 6), (2, 50), (10, 2), (1200, 10), (900, 1500), (30, 40)]] + [{"conversations": [turn(9, "human")]}]
        path = self.file("s.json", json.dumps(talks))
        with StreamServer() as s:
            v = self.json(s, "--dataset-name", "sharegpt", "--dataset-path", path, "--no-oversample", "--save-detailed",
                          "--result-dir", self.dir)
            self.assertEqual(sorted(zip(v["input_lens"], v["output_lens"])), [(11, 6), (31, 40)])
            bad = self.file("t.json", '[{"conversations": [{"value": 1}]}]')
            self.fails("bench", "serve", "--base-url", s.url, "--dataset-name", "sharegpt", "--dataset-path", bad,
                       says=["t.json: entry 0", "conversations[0].value"])

    def test_prefix_repetition(self):
        with StreamServer() as s:
            v = self.json(s, "--dataset-name", "prefix_repetition", "--num-prompts", "11", "--prefix-repetition-num-prefixes", "3",
                          "--prefix-repetition-prefix-len", "8", "--prefix-repetition-suffix-len", "4", "--output-len", "1")
            self.assertEqual((v["completed"], v["total_input_tokens"], v["total_output_tokens"]), (9, 9 * 13, 9))
            self.assertEqual(v["mean_tpot_ms"], 0)
            heads = [tuple(s.ids(b["prompt"], False)[:8]) for _, _, b in s.seen[1:]]
            self.assertEqual(sorted(heads.count(h) for h in set(heads)), [3, 3, 3])

    def test_files_and_plot(self):
        plot = os.path.join(self.dir, "p.svg")
        deep = os.path.join(self.dir, "a", "b")
        with StreamServer() as s:
            args = ("--num-prompts", "4", "--random-input-len", "8", "--random-output-len", "3")
            self.bench(s, *args, "--max-concurrency", "1,2,4", "--save-result", "--result-dir", deep, "--plot", plot)
            names = sorted(os.listdir(deep))
            self.assertEqual([n.rsplit("-", 2)[0] for n in names], [f"openai-infqps-concurrency{c}-scripted" for c in (1, 2, 4)])
            with open(os.path.join(deep, names[0]), encoding="utf-8") as f:
                v = json.load(f)
            self.assertEqual(v["max_concurrency"], 1)
            self.assertNotIn("ttfts", v)
            root = xml.etree.ElementTree.parse(plot).getroot()
            circles = [e for e in root.iter() if e.tag.endswith("circle")]
            self.assertEqual(len(circles), 3 * 3 * 2)  # metrics, points, median and percentile
            self.bench(s, *args, "--request-rate", "500,1000.5", "--append-result", "--save-result", "--result-filename", "r.jsonl",
                       "--result-dir", self.dir)
            with open(os.path.join(self.dir, "r.jsonl"), encoding="utf-8") as f:
                rates = [json.loads(line)["request_rate"] for line in f]
            self.assertEqual(rates, [500, 1000.5])

    def test_ramp(self):
        with StreamServer() as s:
            v = self.json(s, "--num-prompts", "20", "--random-input-len", "8", "--random-output-len", "1", "--ramp-up-strategy",
                          "linear", "--ramp-up-start-rps", "50", "--ramp-up-end-rps", "500")
        self.assertEqual((v["ramp_up_strategy"], v["ramp_up_start_rps"], v["ramp_up_end_rps"]), ("linear", 50, 500))
        self.assertEqual((v["rps_change_events"][0]["rps"], v["rps_change_events"][-1]["rps"]), (50, 500))

    def test_speculation(self):
        def metrics(calls):
            n = 10 * calls
            return ("# HELP x\n" f'vllm:spec_decode_num_drafts_total{{engine="0"}} {n}.0\n'
                    f'vllm:spec_decode_num_draft_tokens_total{{engine="0"}} {2 * n}.0\n'
                    f'vllm:spec_decode_num_accepted_tokens_total{{engine="0"}} {n}.0\n'
                    f'vllm:spec_decode_num_accepted_tokens_per_pos_total{{engine="0",position="0"}} {0.8 * n}\n'
                    f'vllm:spec_decode_num_accepted_tokens_per_pos_total{{engine="0",position="1"}} {0.2 * n}\n')
        with StreamServer(extra={"/metrics": metrics}) as s:
            v = self.small(s)
            text = self.bench(s, "--num-prompts", "2", "--random-input-len", "8", "--random-output-len", "2")
        self.assertEqual([v["spec_decode_" + k] for k in ("num_drafts", "draft_tokens", "accepted_tokens")], [10, 20, 10])
        self.assertEqual((v["spec_decode_acceptance_rate"], v["spec_decode_acceptance_length"]), (50, 2))
        for got, want in zip(v["spec_decode_per_position_acceptance_rates"], (0.8, 0.2)):
            self.assertAlmostEqual(got, want)
        self.assertIn("---------------Speculative Decoding---------------\nAcceptance rate (%):                     50.00     \n", text)

    def test_no_usage(self):
        with StreamServer(usage=False) as s:
            v = self.small(s)
            self.assertEqual(v["total_output_tokens"], 30)  # by the server's /tokenize

    def test_warmups(self):
        with StreamServer() as s:
            v = self.small(s, "--num-warmups", "3")
            self.assertEqual((len(s.seen), v["completed"]), (1 + 3 + 6, 6))
            self.assertEqual(len({b["prompt"] for _, _, b in s.seen[:4]}), 1)

    def test_many_streams(self):
        with StreamServer(meet=500) as s:
            v = self.json(s, "--num-prompts", "1000", "--random-input-len", "4", "--random-output-len", "2")
            self.assertEqual((v["completed"], v["failed"]), (1000, 0))
            self.assertGreaterEqual(s.most_open, 500)

    def test_errors(self):
        def usage(*args, says):
            self.fails("bench", "serve", *args, code=2, says=says)

        usage("--request-rate", "0", says=["--request-rate", "'0'"])
        usage("--request-rate", "1,x", says="'x'")
        usage("--burstiness", "-1", says="--burstiness")
        usage("--goodput", "itl:3", says="'itl:3'")
        usage("--goodput", "ttft", says="'ttft'")
        usage("--metadata", "a", says="KEY=VALUE")
        usage("--header", "=a", says="NAME=VALUE")
        usage("--percentile-metrics", "ttft,x", says="'x'")
        usage("--metric-percentiles", "101", says="--metric-percentiles")
        usage("--extra-body", "[1]", says="--extra-body: found array")
        usage("--extra-body", "{", says="--extra-body")
        usage("--random-range-ratio", "1.0", says="below 1")
        usage("--dataset-name", "sharegpt", says="--dataset-path")
        usage("--dataset-path", "x", says="--dataset-path")
        usage("--ramp-up-strategy", "linear", says="--ramp-up-start-rps")
        usage("--ramp-up-start-rps", "1", says="--ramp-up-strategy")
        usage("--ramp-up-strategy", "linear", "--request-rate", "1", says="--request-rate")
        usage("--max-concurrency", "1,2", "--save-result", "--result-filename", "x", says="--append-result")
        usage("--append-result", says="--save-result")
        usage("--endpoint", "v1", says="--endpoint")
        usage("--random", "3", says="unknown option --random")  # of several options the beginning
        self.fails("bench", "serve", "--base-url", "ftp://x", says="http://")
        self.assertEqual(run("bench", "serve", "--help").returncode, 0)


if __name__ == "__main__":
    main()
