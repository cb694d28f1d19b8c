"""verify: verdicts, tables, JSON; that it sees a wrong weight; that options which may not change a bit do
not. All checkpoints in all tiers: tests/golden."""
import json
import os
import struct

import checkpoint
from fathom import GOLDEN, Case, main, run

MODEL = os.path.join(GOLDEN, "v31-fp8")
PLAIN = os.path.join(GOLDEN, "moonlight-bf16")  # without MTP


class Verify(Case):
    def tier(self, *args, code=0):
        p = run("verify", "--json", *args)
        self.assertEqual(p.returncode, code, p.stderr)
        tier, = json.loads(p.stdout)["tiers"]
        return tier

    def test_json(self):
        tier = self.tier(MODEL, "--layers", "--threads", 1, "--isa", "ref")
        self.assertEqual((tier["isa"], tier["threads"], tier["ok"]), ("ref", 1, True))
        self.assertEqual([p["rows"] for p in tier["prompts"]], [1, 33, 7, 150])
        self.assertEqual([p["mtp"]["rows"] for p in tier["prompts"][1:]], [32, 6, 149])
        self.assertEqual((tier["all"]["rows"], tier["all_mtp"]["rows"]), (191, 187))
        self.assertEqual(len(tier["layers"]), 3)
        self.assertTrue(all(0 < x < 0.05 for x in tier["layers"]), tier["layers"])
        self.assertEqual(tier["greedy"]["tokens"], 24)
        self.assertEqual(tier["greedy"]["same"], tier["greedy"]["clear"])
        self.assertGreater(tier["greedy"]["clear"], 5)
        self.assertEqual(tier["drafts"]["tokens"], 3)
        for rows in [tier["all"], tier["all_mtp"]] + tier["prompts"][1:]:
            self.assertLessEqual(rows["median"], rows["p90"])
            self.assertLessEqual(rows["p90"], rows["max"])
            self.assertGreater(rows["median"], 1e-4)  # BF16 rounding cannot be closer
            self.assertLess(rows["kl"], 0.1)

    def test_all_tiers(self):
        v = json.loads(self.ok("verify", PLAIN, "--isa", "all", "--json"))
        names = [tier["isa"] for tier in v["tiers"]]
        self.assertEqual(names[0], "ref")
        self.assertEqual(names, ["ref", "avx2", "avx512", "amx"][:len(names)])
        self.assertEqual(len({tier["digest"] for tier in v["tiers"]}), len(names))
        text = self.ok("verify", PLAIN, "--isa", "all", "--digest")
        for tier in v["tiers"]:
            self.assertIn(tier["digest"], text)

    def test_limit(self):
        p = run("verify", PLAIN, "--limit", 0.001)
        self.assertEqual(p.returncode, 1)
        self.assertIn(b"FAILED", p.stdout)
        self.assertRegex(p.stderr.decode(),
                         r"^fathom: \w+: logits: median rms error 0\.\d+, limit 0\.001\n$")
        p = run("verify", MODEL, "--mtp-limit", 0.001)
        self.assertRegex(p.stderr.decode(), r"^fathom: \w+: MTP logits: median rms error")

    def wrong(self, name, change):
        """Expects verify to see a changed tensor."""
        with checkpoint.copy(MODEL) as directory:
            path = os.path.join(directory, "model.safetensors")
            header, data = checkpoint.read(path)
            begin, end = header[name]["data_offsets"]
            data = data[:begin] + change(data[begin:end]) + data[end:]
            checkpoint.write(path, header, data)
            p = run("verify", directory)
            self.assertEqual(p.returncode, 1, name)
            self.assertIn(b"FAILED", p.stdout)
            self.assertEqual(p.stderr.count(b"\n"), 1)
            return p.stderr.decode()

    def test_sees_wrong_weights(self):
        def double(data):  # F32 scales times two
            return b"".join(struct.pack("<f", 2 * x) for x, in struct.iter_unpack("<f", data))

        def rotate(data):
            return data[64:] + data[:64]
        layer = "model.layers.%d."
        self.wrong(layer % 0 + "self_attn.o_proj.weight_scale_inv", double)
        self.wrong(layer % 1 + "self_attn.kv_b_proj.weight", rotate)
        self.wrong(layer % 2 + "mlp.shared_experts.down_proj.weight", rotate)
        self.wrong("model.norm.weight", rotate)
        self.assertIn("MTP", self.wrong(layer % 3 + "eh_proj.weight", rotate))
        self.assertIn("MTP", self.wrong(layer % 3 + "self_attn.q_b_proj.weight", rotate))

    def test_nan(self):
        says = self.wrong("model.layers.1.input_layernorm.weight", lambda data: b"\xff" * len(data))
        self.assertIn("inf", says)

    def test_golden_argument(self):
        with checkpoint.copy(PLAIN) as directory:
            path = os.path.join(directory, "elsewhere.bin")
            os.rename(os.path.join(directory, "golden.safetensors"), path)
            self.fails("verify", directory, says="golden.safetensors")
            self.assertIn("ok", self.ok("verify", directory, path))


if __name__ == "__main__":
    main()
