"""bench model and bench tokenize: rows, figures that must agree, errors. No timing is judged."""
import json
import os
import tempfile

import checkpoint
from fathom import Case, DEMO, GOLDEN, main
from fathom import run as run_program

SMALL = ("bench", "model", "--shape", "v2-lite", "--experts", "8", "--vocab", "512", "--repeat", "2", "--buffer", "16M")


def median(values):
    values = sorted(values)
    n = len(values)
    return (values[(n - 1) // 2] + values[n // 2]) / 2


class Figures(Case):
    """What every row of bench model and bench kernel has."""

    def check_figures(self, row, repeat):
        """Shares follow from work, seconds and limits, the row's from its repetitions'."""
        reps = row["repetitions"]
        self.assertEqual(len(reps), repeat)
        reading = []
        for rep in reps:
            limit = rep["limit"]
            read = row["bytes"] / limit["bytes_per_s"]
            compute = (row["bf16_flops"] / limit["bf16_flops_per_s"] +
                       row["int8_ops"] / limit["int8_ops_per_s"])
            # Work differs a little between repetitions: a step's cache grows.
            self.assertAlmostEqual(rep["fraction"] * rep["seconds"] / max(read, compute), 1, delta=0.1)
            reading.append(read >= compute)
        self.assertEqual(row["limited_by"], "bandwidth" if 2 * sum(reading) >= repeat else "arithmetic")
        self.assertAlmostEqual(row["seconds"], median(r["seconds"] for r in reps), places=6)
        self.assertAlmostEqual(row["fraction"], median(r["fraction"] for r in reps), places=6)
        self.assertAlmostEqual(row["fraction_lowest"], min(r["fraction"] for r in reps), places=6)
        self.assertAlmostEqual(row["flops"] / (row["bf16_flops"] + row["int8_ops"]), 1, places=6)
        name = ("bytes_per_s" if row["limited_by"] == "bandwidth" else
                "int8_ops_per_s" if row["int8_ops"] > row["bf16_flops"] else "bf16_flops_per_s")
        for key in row["limit"]:
            self.assertAlmostEqual(row["limit"][key] / median(r["limit"][key] for r in reps), 1, places=6)
            self.assertAlmostEqual(row["highest"][key] / max(r["limit"][key] for r in reps), 1, places=6)
        near = [r["fraction"] for r in reps if r["limit"][name] >= 0.9 * row["highest"][name]]
        self.assertAlmostEqual(row["fraction_at_highest"], median(near), places=6)


class Bench(Figures):
    def json(self, *args):
        return json.loads(self.ok(*SMALL, "--json", *args))

    def test_rows(self):
        v = self.json("--prompt", "8,16", "--context", "0,100", "--seqs", "1,3")
        self.assertEqual((v["shape"], v["format"], v["layers"], v["moe_layers"], v["experts"]),
                         ("v2-lite", "bf16", 2, 1, 8))
        prefill = [r for r in v["rows"] if r["phase"] == "prefill"]
        decode = [r for r in v["rows"] if r["phase"] == "decode"]
        self.assertEqual([r["prompt_tokens"] for r in prefill], [8, 16])
        self.assertEqual([(r["context_tokens"], r["seqs"]) for r in decode],
                         [(0, 1), (0, 3), (100, 1), (100, 3)])
        for r in v["rows"]:
            self.check_figures(r, 2)
            self.assertEqual(r["int8_ops"], 0)
            self.assertNotIn("profile", r)
            for key, value in r["highest"].items():
                self.assertLessEqual(value, 1.000001 * v["highest"][key])
        for r in prefill:
            self.assertAlmostEqual(r["tokens_per_s"], r["prompt_tokens"] / r["seconds"], delta=1)
        for r in decode:
            self.assertAlmostEqual(r["tokens_per_s"], r["seqs"] / r["seconds"], delta=1)
            self.assertGreaterEqual(r["experts_per_layer"], 6)
            self.assertLessEqual(r["experts_per_layer"], 8)
        self.assertEqual(decode[0]["experts_per_layer"], 6)  # what one token uses
        # Cache rows: 100 more tokens in 2 layers of BF16 [512 + 64]; 16 heads attend to them.
        self.assertAlmostEqual(decode[2]["bytes"] - decode[0]["bytes"], 100 * 2 * 2 * 576, delta=1)
        self.assertAlmostEqual(decode[2]["flops"] - decode[0]["flops"], 100 * 2 * 16 * 2 * (512 + 576), delta=1)
        self.assertGreater(prefill[1]["flops"], 1.9 * prefill[0]["flops"])

    def test_chunks_read_weights_again(self):
        whole = self.json("--prompt", "64")["rows"][0]
        parts = self.json("--prompt", "64", "--max-num-batched-tokens", "16")["rows"][0]
        self.assertEqual(whole["flops"], parts["flops"])
        self.assertGreater(parts["bytes"], 3 * whole["bytes"])
        self.assertLess(parts["bytes"], 4 * whole["bytes"])  # the head is read once

    def test_profile(self):
        for row in self.json("--prompt", "8", "--profile", "--format", "w8a8")["rows"]:
            ops = {op["op"]: op for op in row["profile"]["ops"]}
            names = ["q_a, kv_a", "o_proj", "dense gate_up", "dense down", "router", "experts gate_up",
                     "experts down", "head", "embed", "rmsnorm", "kv_write", "q_rope", "route", "moe_combine"]
            names += ["mla_prompt"] if row["phase"] == "prefill" else ["absorbed keys", "absorbed values", "mla_decode"]
            for name in names:
                self.assertIn(name, ops)
            self.assertNotIn("gemm", ops)  # every product has a name
            self.assertEqual((ops["o_proj"]["calls"], ops["head"]["calls"]), (2, 1))
            total = sum(op["seconds"] for op in ops.values()) + row["profile"]["between_ops_seconds"]
            self.assertAlmostEqual(total / row["profile"]["seconds"], 1, places=6)
            self.assertAlmostEqual(row["profile"]["seconds"],
                                   sum(r["seconds"] for r in row["repetitions"]) / 2, places=6)
            self.assertGreaterEqual(row["profile"]["between_ops_seconds"], 0)
            for op in ops.values():
                self.assertTrue(0 <= op["waiting"] <= 1)
            # Products of weights, by kind: 2 layers of o_proj [16 * 128 -> 2048], as integers.
            rows = 8 if row["phase"] == "prefill" else 1
            self.assertEqual(ops["o_proj"]["int8_ops"], 2 * 2 * rows * 2048 * 2048)
            self.assertEqual(ops["head"]["bf16_flops"], 2 * 512 * 2048)
            read = sum(op.get("bytes", 0) for op in ops.values())
            self.assertAlmostEqual(read / row["bytes"], 1, delta=0.01)

    def test_tiers(self):
        rows = self.json("--prompt", "4", "--isa", "all")["rows"]
        tiers = [r["isa"] for r in rows[::2]]
        self.assertEqual(tiers, [r["isa"] for r in rows[1::2]])
        self.assertEqual(tiers[0], "ref")
        self.assertEqual(len(set(tiers)), len(tiers))
        self.assertEqual([r["isa"] for r in self.json("--prompt", "4", "--isa", "ref,ref")["rows"]], ["ref"] * 4)

    def test_fp8_reads_less(self):
        bf16 = self.json("--prompt", "4")["rows"][-1]["bytes"]
        fp8 = self.json("--prompt", "4", "--format", "fp8")["rows"][-1]["bytes"]
        self.assertLess(fp8, 0.7 * bf16)
        self.assertGreater(fp8, 0.4 * bf16)

    def test_integers_read_less(self):
        bf16, w8a8, w4a8 = (self.json("--prompt", "4", "--format", name)["rows"][-1]["bytes"]
                            for name in ("bf16", "w8a8", "w4a8"))
        self.assertLess(w8a8, 0.7 * bf16)  # head and kv_b_proj stay BF16
        self.assertGreater(w8a8, 0.45 * bf16)
        self.assertLess(w4a8, 0.9 * w8a8)  # so do shared experts and attention as W8A8

    def test_table(self):
        text = self.ok(*SMALL, "--prompt", "4", "--isa", "ref", "--threads", "1", "--profile")
        self.assertIn("1 threads", text)
        self.assertRegex(text, r"\nprefill +ref +4 +1 ")
        self.assertRegex(text, r"\ndecode +ref +0 +1 ")
        self.assertRegex(text, r"\nhighest seen: [0-9.]+ GB/s, ")
        self.assertRegex(text, r"\nprefill, ref, 4 tokens, 1 sequences: one prompt\n +op +calls ")
        self.assertRegex(text, r"\n +experts gate_up +1.0 ")

    def test_errors(self):
        for text in ("", "1,", "1,,2"):
            self.fails(*SMALL, "--seqs=" + text, code=2, says="expected numbers between commas")
        self.fails(*SMALL, "--isa", "ref,sse", says=["--isa: found 'sse'", "avx512"])
        self.fails(*SMALL, "--isa", "", says="--isa: found ''")
        self.fails(*SMALL, "--isa", "ref,", says="--isa: found ''")
        self.fails(*SMALL, "--isa", "ref,ref,ref,ref,ref", says="more than 4")
        self.fails(*SMALL, "--shape", "gpt", code=2, says=["--shape: found 'gpt'", "v3.1"])
        self.fails(*SMALL, "--prompt", "0", code=2, says="--prompt: found '0'")
        self.fails(*SMALL, "--isa", "auto,ref", says="expected auto or all alone")
        self.fails(*SMALL, "--experts", "3", says="--experts 3: expected at least 6")
        self.fails(*SMALL, "--shape", "v3.1", "--experts", "12", says="--experts 12: expected a multiple of 8")
        self.fails(*SMALL, "--dense-layers", "0", "--moe-layers", "0", says="at least one layer")
        self.fails(*SMALL, "--seqs", "600", says="--seqs 600")
        self.fails(*SMALL, "--context", "100", "--max-model-len", "50", says="--max-model-len 50")
        self.fails(*SMALL, "--memory-limit", "1M", says=["--experts", "(--memory-limit)"])
        self.fails(*SMALL, "--prompt", "200k", says="--prompt 200000: the model has max_position_embeddings")
        self.fails("bench", code=2, says="bench: found nothing, expected one of: model")


class Kernel(Figures):
    def json(self, *args):
        return json.loads(self.ok("bench", "kernel", *args, "--repeat", "2", "--threads", "1", "--buffer", "16M", "--json"))

    def test_list(self):
        lines = self.ok("bench", "kernel", "list").splitlines()
        names = [line.split()[0] for line in lines]
        for name in ("q_kv_a", "o_proj", "experts_up", "mla_decode", "mla_prompt"):
            self.assertIn(name, names)
        self.fails("bench", "kernel", "o_prj", says=["kernel 'o_prj'", *names])
        self.fails("bench", "kernel", "x" * 100, says=names)

    def test_products(self):
        v = self.json("q_kv_a", "router", "--m", "1,3")
        rows = {(r["kernel"], r["format"], r["m"]): r for r in v["rows"]}
        self.assertEqual([key[:2] for key in rows][::2], [("q_kv_a", "bf16"), ("q_kv_a", "fp8"), ("q_kv_a", "w8a8"),
                                                         ("q_kv_a", "w4a8"), ("q_kv_a", "w4a8-256"),
                                                         ("router", "bf16")])
        for (kernel, name, m), r in rows.items():
            self.check_figures(r, 2)
            self.assertGreaterEqual(r["calls_per_repetition"], 1)
            values = 7168 * (256 if kernel == "router" else 1536 + 576)
            self.assertAlmostEqual(r["flops"] / (2 * m * values), 1, places=6)
            self.assertEqual(r["int8_ops"] > 0, name.startswith("w"))
            size = {"bf16": 2, "fp8": 1, "w8a8": 1}.get(name, 0.5)
            self.assertAlmostEqual(r["bytes"] / (values * size), 1, delta=0.07)  # scales

    def test_experts(self):
        one, many = self.json("experts_up", "--format", "w4a8", "--m", "1,8")["rows"]
        self.assertAlmostEqual(one["flops"] / (9 * 2 * 7168 * 4096), 1, places=6)  # 8 experts and the shared one
        self.assertAlmostEqual(many["flops"] / one["flops"], 8, places=6)
        self.assertGreater(many["bytes"], 5 * one["bytes"])  # rows meet in few experts
        self.assertLess(many["bytes"], 65 / 9 * one["bytes"] * 1.001)

    def test_attention(self):
        rows = self.json("mla_decode", "mla_prompt", "--m", "2,100", "--context", "0,70")["rows"]
        self.assertEqual([(r["kernel"], r["context_tokens"], r["m"]) for r in rows],
                         [("mla_decode", 0, 2), ("mla_decode", 70, 2), ("mla_prompt", 0, 2), ("mla_prompt", 0, 100),
                          ("mla_prompt", 70, 2), ("mla_prompt", 70, 100)])
        self.assertEqual(rows[1]["flops"], 2 * 71 * 128 * 2 * (512 + 576))
        self.assertEqual(rows[1]["bytes"], 2 * 71 * 2 * 576)

    def test_table(self):
        text = self.ok("bench", "kernel", "router", "--isa", "ref", "--m", "1", "--repeat", "1", "--threads", "1", "--buffer",
                       "16M")
        self.assertRegex(text, r"\nrouter +ref +bf16 +1 +- ")
        self.assertRegex(text, r"\nhighest seen: ")

    def test_errors(self):
        self.fails("bench", "kernel", code=2, says="list | all | NAME")
        self.fails("bench", "kernel", "router", "absorb_k", "--m", "512,100", says="--m 100: absorb_k never has more than 64 rows")
        self.fails("bench", "kernel", "all", "--m", "0", code=2, says="--m: found '0'")
        self.fails("bench", "kernel", "all", "--isa", "sse", says="--isa: found 'sse'")
        self.fails("bench", "kernel", "all", "--format", "int4", code=2, says=["--format: found 'int4'", "w4a8"])


class Load(Case):
    def test_figures(self):
        v = json.loads(self.ok("bench", "load", DEMO, "--repeat", 3, "--json"))
        size = sum(os.path.getsize(os.path.join(DEMO, name)) for name in os.listdir(DEMO)
                   if name.endswith(".safetensors"))
        self.assertEqual(v["file_bytes"], size)
        ratios = [r["ready_seconds"] / r["read_fresh_seconds"] for r in v["loads"]]
        self.assertEqual(len(ratios), 3)
        self.assertEqual(ratios, sorted(ratios))
        self.assertAlmostEqual(v["ratio_fresh"] / ratios[1], 1, places=4)
        self.assertAlmostEqual(v["ratio_fresh"] * v["read_fresh_seconds"] / v["ready_seconds"], 1, places=4)
        self.assertAlmostEqual(v["ratio"] * v["read_seconds"] / v["ready_seconds"], 1, places=4)
        if v["peak_bytes"] is not None:
            self.assertGreater(v["peak_bytes"], v["packed_bytes"])

    def test_table(self):
        text = self.ok("bench", "load", DEMO, "--repeat", 1)
        self.assertRegex(text, r"^files +[0-9.]+ MB, packed [0-9.]+ MB, [0-9]+ threads\nread files +[0-9.]+ s, ")
        self.assertRegex(text, r"\nready +[0-9.]+ s, [0-9.]+ times the former, [0-9.]+ times the latter "
                               r"\([0-9.]+ to [0-9.]+ in 1 loads\)\npeak ")

    def test_errors(self):
        self.fails("bench", "load", code=2, says="MODEL")
        self.fails("bench", "load", "/nowhere", says="/nowhere/config.json")
        with tempfile.TemporaryDirectory() as folder:
            self.fails("bench", "load", folder, says=[folder, "config.json"])
            with open(os.path.join(folder, "model.safetensors"), "wb") as file:
                file.write(b"x" * 100)
            self.fails("bench", "load", folder, says="config.json")
        self.fails("bench", "load", DEMO, "--memory-limit", "1M", says=["GB needed", "(--memory-limit)"])

    def test_files_that_are_none(self):
        """As other commands say it, and without waiting."""
        with checkpoint.copy(DEMO) as folder:
            path = os.path.join(folder, "model.safetensors")
            os.remove(path)
            for make, says in ((lambda: os.mkfifo(path), "model.safetensors: not a regular file"),
                               (lambda: os.symlink("/dev/zero", path), "model.safetensors: not a regular file"),
                               (lambda: open(path, "wb").close(), "0 bytes, a safetensors file has at least 8")):
                make()
                for command in (("bench", "load", folder), ("run", folder, "hi")):
                    self.fails(*command, says=says)
                os.remove(path)
        with checkpoint.copy(DEMO) as folder:
            os.mkfifo(os.path.join(folder, "more.safetensors"))
            self.fails("bench", "load", folder, says="more.safetensors: not a regular file")


class Engine(Case):
    def test_latency(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "out.json")
            text = self.ok("bench", "latency", DEMO, "--batch-size", 2, "--output-len", 4, "--num-iters", 3,
                           "--num-iters-warmup", 1, "--output-json", path)
            with open(path, encoding="utf-8") as file:
                r = json.load(file)
        self.assertRegex(text, r"^Avg latency: [0-9.]+ seconds\nStd latency: ")
        self.assertEqual(len(r["latencies"]), 3)
        self.assertEqual(list(r["percentiles"]), ["10", "25", "50", "75", "90", "99"])
        self.assertEqual(r["steps"], 3 * 4)

    def test_throughput(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "out.json")
            self.ok("bench", "throughput", "--shape", "v2-lite", "--experts", 8, "--vocab", 512, "--num-prompts", 5,
                    "--input-len", 6, "--output-len", 3, "--max-num-seqs", 2, "--output-json", path)
            with open(path, encoding="utf-8") as file:
                r = json.load(file)
        self.assertEqual((r["num_requests"], r["total_num_tokens"]), (5, 45))
        self.assertAlmostEqual(r["requests_per_second"] * r["elapsed_time"], 5, places=6)

    def test_schema(self):
        run = ("bench", "throughput", DEMO, "--num-prompts", 3, "--input-len", 5, "--output-len", 12)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "schema.json")
            with open(path, "w", encoding="utf-8") as file:
                file.write('{"type": "array", "items": {"type": "integer"}}')
            self.assertIn("36", self.ok(*run, "--json-schema", path))
            self.fails("bench", "throughput", "--shape", "v2-lite", "--json-schema", path, code=2, says="--tokenizer DIR")
            with open(path, "w", encoding="utf-8") as file:
                file.write('{"contains": {}}')
            self.fails(*run, "--json-schema", path, says=["schema.json", "contains"])
        self.fails(*run, "--tokenizer", DEMO, code=2, says="--json-schema")
        self.fails(*run, "--json-schema", "/nonexistent", says="/nonexistent")

    def test_errors(self):
        self.fails("bench", "latency", code=2, says="--shape")
        self.fails("bench", "latency", DEMO, "--shape", "v3.1", code=2, says="not both")
        self.fails("bench", "latency", DEMO, "--input-len", 5000,
                   says="--input-len plus --output-len 5128: the model has max_position_embeddings 4096")
        self.fails("bench", "latency", DEMO, "--input-len", 50, "--max-model-len", 20, says="--max-model-len 20")
        self.fails("bench", "latency", "/nonexistent", says="/nonexistent")


class Drafts(Case):
    def test_counts(self):
        lines = '{"ids": [0, 5, 6, 7, 8, 9], "answer_at": 2}\n{"ids": [0, 5, 6]}\n'
        r = json.loads(self.ok("bench", "drafts", DEMO, "--json", stdin=lines))
        self.assertEqual((r["texts"], r["drafts"]), (2, 5))
        self.assertEqual(r, json.loads(self.ok("bench", "drafts", DEMO, "--json", "--max-num-batched-tokens", 1,
                                               stdin=lines)))

    def test_errors(self):
        run = ("bench", "drafts", DEMO)
        self.fails(*run, says="no texts")
        self.fails(*run, stdin='{"ids": [1, 2]}', says=["line 1", "found 2", "3 to"])
        self.fails(*run, stdin='{"ids": [1, 2, 99999]}', says=["line 1", "ids[2]", "0 to 3071"])
        self.fails(*run, stdin='{"ids": [1, 2, 3], "answer_at": 3}', says="answer_at")
        self.fails("bench", "drafts", os.path.join(GOLDEN, "moonlight-bf16"), stdin='{"ids": [1, 2, 3]}',
                   says="no MTP layer")
        p = run_program(*run, "--at-least", 1, stdin='{"ids": [0, 9, 8, 7, 6, 5, 4]}')
        self.assertEqual(p.returncode, 1)
        self.assertIn(b"--at-least 1", p.stderr)


class Tokenize(Case):
    def test_figures_agree(self):
        r = json.loads(self.ok("bench", "tokenize", DEMO, "--bytes", "100k", "--json"))
        self.assertAlmostEqual(r["ratio"], r["bytes_per_s"] / r["pcre2_bytes_per_s"], places=2)
        self.assertEqual(len(r["words"]), 9)
        for word in r["words"]:
            self.assertGreater(word["growth"], 0)

    def test_no_tokenizer(self):
        self.fails("bench", "tokenize", "/nowhere", says="/nowhere/tokenizer.json")


if __name__ == "__main__":
    main()
