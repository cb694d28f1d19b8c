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

    def test_sees_wrong_routers(self):
        """With given experts a router's own choice is what shows its mistakes."""
        layer = "model.layers.%d.mlp.gate."
        says = self.wrong(layer % 1 + "e_score_correction_bias", lambda data: bytes(len(data)))
        self.assertIn(": logits: a router would choose other experts than the given ones by a margin", says)
        says = self.wrong(layer % 3 + "e_score_correction_bias", lambda data: data[4:] + data[:4])
        self.assertIn(": MTP logits: a router would choose", says)
        self.wrong(layer % 2 + "weight", lambda data: data[64:] + data[:64])

    def test_routes(self):
        given = json.loads(self.ok("verify", MODEL, "--json"))
        free = json.loads(self.ok("verify", MODEL, "--json", "--no-routes"))
        self.assertEqual((given["routes"], free["routes"]), (os.path.join(MODEL, "routes.safetensors"), None))
        given, = given["tiers"]
        free, = free["tiers"]
        self.assertEqual((given["all"]["used"], given["all_mtp"]["used"]), (191, 187))
        self.assertLess(free["all"]["used"], 191)
        self.assertEqual((given["routes"]["rows"], given["routes_mtp"]["rows"]), (191, 187))
        self.assertLess(given["routes"]["margin"], 0.02)
        self.assertNotIn("routes", free)
        self.assertIn("routing      as given", self.ok("verify", MODEL))
        self.assertIn("routing      free", self.ok("verify", MODEL, "--no-routes"))

    def test_routes_missing(self):
        with checkpoint.copy(PLAIN) as directory:
            os.remove(os.path.join(directory, "routes.safetensors"))
            self.assertIn("routing      free", self.ok("verify", directory))
            self.fails("verify", directory, "--routes", says="routes.safetensors")

    def bad_routes(self, says, change, model=MODEL):
        """change(header, data) edits the routes file."""
        with checkpoint.copy(model) as directory:
            path = os.path.join(directory, "routes.safetensors")
            header, data = checkpoint.read(path)
            data = bytearray(data)
            change(header, data)
            checkpoint.write(path, header, bytes(data))
            self.fails("verify", directory, says=("routes.safetensors", says))
            self.ok("verify", directory, "--no-routes")

    def test_bad_routes(self):
        def shape(name, new):
            return lambda header, data: header[name].update(shape=new)

        def put(name, at, *ids):
            def change(header, data):
                begin = header[name]["data_offsets"][0] + 4 * at
                data[begin:begin + 4 * len(ids)] = struct.pack("<%di" % len(ids), *ids)
            return change

        def rename(old, new):
            return lambda header, data: header.update({new: header.pop(old)})
        main_, mtp = "prompt.1.experts", "prompt.1.mtp_experts"
        self.bad_routes(main_, shape(main_, [33, 2, 4]))
        self.bad_routes(main_, shape(main_, [2, 33, 2, 2]))
        self.bad_routes(main_, shape(main_, [2, 66, 2]))
        self.bad_routes(mtp, shape(mtp, [4, 32]))
        self.bad_routes(main_, lambda header, data: header[main_].update(dtype="F32"))
        self.bad_routes("prompt.2.experts", rename("prompt.2.experts", "prompt.9.experts"))
        self.bad_routes(mtp, rename(mtp, "prompt.1.mtp"))
        self.bad_routes("prompt.3.experts: element 7 is 16, expected 0 to 15", put("prompt.3.experts", 7, 16))
        self.bad_routes("prompt.3.experts: element 4 is -1, expected 0 to 15", put("prompt.3.experts", 4, -1))
        self.bad_routes(mtp + ": element 1 is 5 after 5, expected ascending", put(mtp, 0, 5, 5, 6, 7))
        self.bad_routes("its tensors end at 9736", lambda header, data: data.append(0))

    def test_sees_wrong_routes(self):
        """Experts that are possible but not the reference's."""
        with checkpoint.copy(MODEL) as directory:
            path = os.path.join(directory, "routes.safetensors")
            header, data = checkpoint.read(path)
            begin, end = header["prompt.2.experts"]["data_offsets"]
            row = struct.unpack("<4i", data[begin:begin + 16])
            row = sorted(set(range(16)) - set(row))[:4]
            checkpoint.write(path, header, data[:begin] + struct.pack("<4i", *row) + data[begin + 16:])
            p = run("verify", directory)
            self.assertEqual(p.returncode, 1)
            self.assertRegex(p.stderr.decode(), r"(largest rms error|a router would choose)")

    def test_nan(self):
        says = self.wrong("model.layers.1.self_attn.o_proj.weight", lambda data: b"\xff" * len(data))
        self.assertIn("inf", says)

    def test_golden_argument(self):
        with checkpoint.copy(PLAIN) as directory:
            path = os.path.join(directory, "elsewhere.bin")
            os.rename(os.path.join(directory, "golden.safetensors"), path)
            self.fails("verify", directory, says="golden.safetensors")
            self.assertIn("ok", self.ok("verify", directory, path))


if __name__ == "__main__":
    main()
