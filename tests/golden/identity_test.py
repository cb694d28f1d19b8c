"""Logits are bit for bit the same at any thread count, cache block size and chunk size: digests of verify,
for every checkpoint and every tier, or the one that IDENTITY_ISA names, of prompts and of generated tokens."""
import json
import os

from fathom import GOLDEN, Case, main, run

CHUNKS = ("--threads", "2", "--no-pin", "--block-size", "1024", "--max-num-batched-tokens", "7")
PROMPTS = (
    CHUNKS,
    ("--threads", "1", "--block-size", "1", "--max-num-batched-tokens", "64"),
    ("--threads", "1", "--block-size", "4", "--max-num-batched-tokens", "1"),
)
GENERATED = (CHUNKS,)
ISA = os.environ.get("IDENTITY_ISA", "all")
SKIPPED = 77  # of a program that emulates a tier, on a machine that cannot


class Identity(Case):
    def digests(self, model, *args):
        """By tier. Limits are the business of the other golden tests."""
        p = run("verify", os.path.join(GOLDEN, model), "--isa", ISA, "--json", "--limit", "1e6", *args)
        if p.returncode == SKIPPED:
            self.skipTest(p.stdout.decode())
        self.assertEqual(p.returncode, 0, p.stderr)
        return {tier["isa"]: tier["digest"] for tier in json.loads(p.stdout)["tiers"]}

    def check(self, model, *more):
        for mode, variants in (("--no-decode", PROMPTS), ("--decode", GENERATED)):
            want = self.digests(model, mode, *more)
            for options in variants:
                self.assertEqual(self.digests(model, mode, *more, *options), want, (model, mode, options))

    def test_v31_fp8_quantized(self):
        self.check("v31-fp8", "--quantization", "w8a8_dynamic")

    def test_more_threads_than_cores(self):
        self.assertEqual(self.digests("v3-fp8", "--threads", "5", "--no-pin"), self.digests("v3-fp8"))

    def test_digest_sees_a_bit(self):
        """Tiers differ in rounding only, and the digest tells them apart."""
        digests = self.digests("v31-bf16")
        self.assertEqual(len(set(digests.values())), len(digests))


for name in sorted(os.listdir(GOLDEN)):
    setattr(Identity, "test_" + name.replace("-", "_"), lambda self, name=name: self.check(name))

if __name__ == "__main__":
    main()
