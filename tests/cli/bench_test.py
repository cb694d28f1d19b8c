"""bench model and bench tokenize: rows, figures that must agree, errors. No timing is judged."""
import json

from fathom import Case, DEMO, main

SMALL = ("bench", "model", "--shape", "v2-lite", "--experts", "8", "--vocab", "512", "--repeat", "2")


class Bench(Case):
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
        for r in prefill:
            self.assertAlmostEqual(r["tokens_per_s"], r["prompt_tokens"] / r["seconds"], delta=1)
            self.assertAlmostEqual(r["fraction"], r["flops_per_s"] / r["limit_flops_per_s"], places=6)
        for r in decode:
            self.assertAlmostEqual(r["tokens_per_s"], r["seqs"] / r["seconds"], delta=1)
            self.assertAlmostEqual(r["fraction"], r["bytes_per_s"] / r["limit_bytes_per_s"], places=6)
            self.assertGreaterEqual(r["experts_per_layer"], 6)
            self.assertLessEqual(r["experts_per_layer"], 8)
        self.assertEqual(decode[0]["experts_per_layer"], 6)  # what one token uses
        # Cache rows: 100 more tokens in 2 layers of BF16 [512 + 64].
        self.assertAlmostEqual(decode[2]["bytes"] - decode[0]["bytes"], 100 * 2 * 2 * 576, delta=1)

    def test_fp8_reads_less(self):
        bf16 = self.json("--prompt", "4")["rows"][-1]["bytes"]
        fp8 = self.json("--prompt", "4", "--format", "fp8")["rows"][-1]["bytes"]
        self.assertLess(fp8, 0.7 * bf16)
        self.assertGreater(fp8, 0.4 * bf16)

    def test_table(self):
        text = self.ok(*SMALL, "--prompt", "4", "--isa", "ref", "--threads", "1")
        self.assertIn("1 threads, ref", text)
        self.assertRegex(text, r"\nprefill +4 +1 ")
        self.assertRegex(text, r"\ndecode +0 +1 ")

    def test_errors(self):
        self.fails(*SMALL, "--shape", "gpt", code=2, says=["--shape: found 'gpt'", "v3.1"])
        self.fails(*SMALL, "--prompt", "0", code=2, says="--prompt: found '0'")
        self.fails(*SMALL, "--experts", "3", says="--experts 3")
        self.fails(*SMALL, "--dense-layers", "0", "--moe-layers", "0", says="at least one layer")
        self.fails(*SMALL, "--seqs", "600", says="--seqs 600")
        self.fails(*SMALL, "--context", "100", "--max-model-len", "50", says="--max-model-len 50")
        self.fails(*SMALL, "--memory-limit", "1M", says="--experts")
        self.fails("bench", code=2, says="bench: found nothing, expected one of: model")


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
