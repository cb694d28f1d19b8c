"""Logits are bit for bit the same at any thread count, cache block size and chunk size: digests of verify,
for every checkpoint and every tier, or the one that IDENTITY_ISA names, of prompts and of generated tokens."""
import json
import os

from fathom import GOLDEN, Case, main, run

# Of prompts and of generated tokens. Small chunks of prompts look at all before again and again: in slow tiers, the
# reference and those that are emulated, they are for one checkpoint.
ONE_BY_ONE = ("--threads", "1", "--block-size", "4", "--max-num-batched-tokens", "1")
SEVENS = ("--threads", "2", "--no-pin", "--block-size", "1024", "--max-num-batched-tokens", "7")
LARGE = ("--threads", "1", "--block-size", "1", "--max-num-batched-tokens", "64")
LARGE_TOO = ("--threads", "2", "--no-pin", "--block-size", "1024", "--max-num-batched-tokens", "37")
WAYS = {"--no-decode": (SEVENS, LARGE, ONE_BY_ONE), "--decode": (SEVENS, ONE_BY_ONE)}
SLOW_WAYS = {"--no-decode": (LARGE, LARGE_TOO), "--decode": (SEVENS, ONE_BY_ONE)}
SLOW = ("ref", "amx") if "IDENTITY_ISA" in os.environ else ("ref",)
THOROUGH = ("v31-fp8",)
ISA = os.environ.get("IDENTITY_ISA", "all")
SKIPPED = 77  # of a program that emulates a tier, on a machine that cannot


class Identity(Case):
    def digests(self, model, *args, isa=ISA):
        """By tier. Limits are the business of the other golden tests."""
        p = run("verify", os.path.join(GOLDEN, model), "--isa", isa, "--json", "--limit", "1e6", *args)
        if p.returncode == SKIPPED:
            self.skipTest(p.stdout.decode())
        self.assertEqual(p.returncode, 0, p.stderr)
        return {tier["isa"]: tier["digest"] for tier in json.loads(p.stdout)["tiers"]}

    def check(self, model, *more):
        for mode in WAYS:
            want = self.digests(model, mode, *more)
            for isa, digest in want.items():
                for options in (SLOW_WAYS if isa in SLOW and (model, *more) != THOROUGH else WAYS)[mode]:
                    self.assertEqual(self.digests(model, mode, *more, *options, isa=isa)[isa], digest, (model, mode, isa, options))

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
