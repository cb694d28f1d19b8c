"""/v1/completions: every field, whole answers."""
import serving
from serving import EOS, Case, ids_of, real, say, scripted


# Where vLLM's message does not name the field.
SAYS = {"prompt_logprobs": "max allowed: 20", "stream_options": "when `stream=True`"}


class Shape(Case):
    def test_whole(self):
        with scripted(say("one two")) as s:
            answer = s.complete("hi").json
            self.assertRegex(answer.pop("id"), "^cmpl-[0-9a-f]{32}$")
            self.assertGreater(answer.pop("created"), 1600000000)
            n, m = len(ids_of("hi")) + 1, len(ids_of("one two")) + 1
            self.assertEqual(answer, {
                "object": "text_completion", "model": "demo", "service_tier": None, "system_fingerprint": None,
                "kv_transfer_params": None,
                "choices": [{"index": 0, "text": "one two", "logprobs": None, "finish_reason": "stop",
                             "stop_reason": None, "token_ids": None, "prompt_token_ids": None,
                             "prompt_logprobs": None}],
                "usage": {"prompt_tokens": n, "completion_tokens": m, "total_tokens": n + m,
                          "prompt_tokens_details": None}})

    def test_lengths(self):
        with scripted(say("a b c d e f g h i j k l m n o p q r s t u v w x y z")) as s:
            self.assertEqual(s.complete().json["usage"]["completion_tokens"], 16)
            for body in ({"max_tokens": 3}, {"max_completion_tokens": 3}, {"max_tokens": 3, "max_completion_tokens": 9}):
                answer = s.complete(**body).json
                self.assertEqual(answer["usage"]["completion_tokens"], 3)
                self.assertEqual(answer["choices"][0]["finish_reason"], "length")
            answer = s.complete(ignore_eos=True, max_tokens=100).json
            self.assertEqual(answer["usage"]["completion_tokens"], 100)
            self.assertEqual(s.complete(min_tokens=40, max_tokens=100).json["usage"]["completion_tokens"], 41)

    def test_prompts(self):
        with scripted(say("x")) as s:
            hi = ids_of("hi")
            for prompt, n in (("hi", len(hi) + 1), (["hi", "hi"], 2 * (len(hi) + 1)), (hi, len(hi)), ([hi, [5]], len(hi) + 1)):
                answer = s.complete(prompt).json
                self.assertEqual(answer["usage"]["prompt_tokens"], n)
            self.assertEqual(s.complete("hi", add_special_tokens=False).json["usage"]["prompt_tokens"], len(hi))
            answer = s.complete(["hi", "ho"], n=2, temperature=1).json
            self.assertEqual([c["index"] for c in answer["choices"]], [0, 1, 2, 3])
            self.assertEqual(answer["usage"]["completion_tokens"], 4 * 2)
            answer = s.complete("hi", return_token_ids=True).json["choices"][0]
            self.assertEqual(answer["prompt_token_ids"], [0] + hi)
            self.assertEqual(answer["token_ids"], ids_of("x") + [EOS])

    def test_truncation(self):
        with scripted(say("x"), max_model_len=20) as s:
            ids = list(range(5, 45))
            for more, want in (({"truncate_prompt_tokens": 3}, ids[-3:]), ({"truncate_prompt_tokens": -1}, ids[-18:]),
                               ({"truncate_prompt_tokens": 3, "truncation_side": "right"}, ids[:3])):
                answer = s.complete(ids, max_tokens=2, return_token_ids=True, **more).json["choices"][0]
                self.assertEqual(answer["prompt_token_ids"], want)
            self.refused(s.complete(ids, truncate_prompt_tokens=21), 400, "greater than", "truncate_prompt_tokens")


class Stops(Case):
    def choice(self, s, **body):
        return s.complete(max_tokens=200, **body).json["choices"][0]

    def test_strings(self):
        with scripted(say("one two three four")) as s:
            choice = self.choice(s, stop="three")
            self.assertEqual((choice["text"], choice["finish_reason"], choice["stop_reason"]), ("one two ", "stop", "three"))
            choice = self.choice(s, stop=["zzz", "o thr"])
            self.assertEqual((choice["text"], choice["stop_reason"]), ("one tw", "o thr"))
            choice = self.choice(s, stop=["o thr"], include_stop_str_in_output=True)
            self.assertEqual(choice["text"], "one two thr")
            choice = self.choice(s, stop=["four!", "fourth"])
            self.assertEqual((choice["text"], choice["stop_reason"]), ("one two three four", None))
            choice = self.choice(s, stop=["one"], min_tokens=1)
            self.assertEqual(choice["text"], "one two three four")
            s.wait_metric(0, "vllm:num_requests_running")

    def test_ids(self):
        with scripted(say("one two three")) as s:
            ids = ids_of("one two three")
            choice = self.choice(s, stop_token_ids=[ids[-1]], return_token_ids=True)
            self.assertEqual((choice["finish_reason"], choice["stop_reason"]), ("stop", ids[-1]))
            self.assertEqual(choice["token_ids"], ids)
            self.assertNotEqual(choice["text"], "one two three")
            choice = self.choice(s, stop_token_ids=[ids[-1]], include_stop_str_in_output=True)
            self.assertEqual(choice["text"], "one two three")
            choice = self.choice(s, skip_special_tokens=False, include_stop_str_in_output=True)
            self.assertEqual(choice["text"], "one two three<｜end▁of▁sentence｜>")

    def test_characters(self):
        """Code points that several tokens make up come whole; what stays incomplete is U+FFFD."""
        ids = ids_of("naïve 漢字 🙂")
        self.assertGreater(len(ids), len("naïve 漢字 🙂"))
        with scripted({"answer": ids}, args=[]) as s:
            self.assertEqual(self.choice(s)["text"], "naïve 漢字 🙂")
        with scripted({"answer": ids[:-1]}) as s:
            self.assertEqual(self.choice(s)["text"], "naïve 漢字 \ufffd")


class Logprobs(Case):
    def test_lists(self):
        with scripted(say("one two")) as s:
            ids = ids_of("one two")
            lp = s.complete("hi", logprobs=2).json["choices"][0]["logprobs"]
            self.assertEqual(lp["token_logprobs"], [-(i + 1) / 8 for i in range(len(ids) + 1)])
            self.assertEqual("".join(lp["tokens"][:-1]), "one two")
            self.assertEqual(lp["text_offset"][:2], [0, len(lp["tokens"][0])])
            self.assertEqual([len(m) for m in lp["top_logprobs"]], [2] * (len(ids) + 1))
            self.assertEqual(lp["top_logprobs"][0][lp["tokens"][0]], -1 / 8)
            lp = s.complete("hi", logprobs=0, return_tokens_as_token_ids=True).json["choices"][0]["logprobs"]
            self.assertEqual(lp["tokens"], [f"token_id:{i}" for i in ids + [EOS]])

    def test_echo(self):
        with scripted(say("one two")) as s:
            prompt = ids_of("some words")
            choice = s.complete(prompt, logprobs=1, echo=True, max_tokens=1).json["choices"][0]
            self.assertTrue(choice["text"].startswith("some words"))
            lp = choice["logprobs"]
            for name in lp:
                self.assertEqual(len(lp[name]), len(prompt) + 1)
            self.assertIsNone(lp["token_logprobs"][0])
            self.assertIsNone(lp["top_logprobs"][0])
            self.assertTrue(all(v is not None for v in lp["token_logprobs"][1:]))
            choice = s.complete("some words", echo=True, max_tokens=0, logprobs=0).json["choices"][0]
            self.assertEqual((choice["text"], choice["finish_reason"]), ("some words", "length"))
            self.assertEqual(len(choice["logprobs"]["tokens"]), len(prompt) + 1)
            self.refused(s.complete("x", max_tokens=0), 400, "max_tokens must be at least 1", "max_tokens")

    def test_prompt_logprobs(self):
        with scripted(say("one two")) as s:
            prompt = ids_of("some words")
            lp = s.complete(prompt, prompt_logprobs=2).json["choices"][0]["prompt_logprobs"]
            self.assertIsNone(lp[0])
            self.assertEqual(len(lp), len(prompt))
            self.assertEqual(next(iter(lp[1])), str(prompt[1]))
            self.assertEqual(lp[1][str(prompt[1])]["rank"], 1)


class Refusals(Case):
    def test_fields(self):
        bad = [("temperature", -1), ("temperature", 2.5), ("temperature", "1"), ("temperature", [1]), ("top_p", 0),
               ("top_p", 1.1), ("top_k", -2), ("top_k", 1.5), ("min_p", 2), ("n", 0), ("n", 1000), ("n", "2"),
               ("presence_penalty", 3), ("frequency_penalty", -3), ("repetition_penalty", 0), ("seed", "x"),
               ("stop", [""]), ("stop", 5), ("stop", [5]), ("stop", ["a"] * 17), ("stop", "a" * 5000),
               ("stop_token_ids", [10**7]), ("stop_token_ids", 5), ("stop_token_ids", [0] * 200), ("min_tokens", -1),
               ("min_tokens", 17), ("max_tokens", -1), ("max_tokens", 1 << 40), ("logit_bias", {"x": 1}),
               ("logit_bias", {"9999999": 1}), ("logit_bias", {"1": "x"}), ("logit_bias", []),
               ("allowed_token_ids", []), ("allowed_token_ids", [-1]), ("bad_words", [""]), ("bad_words", "x"),
               ("bad_words", [1]), ("bad_words", ["x"] * 200), ("logprobs", 21), ("logprobs", True),
               ("prompt_logprobs", 21), ("prompt_logprobs", -1), ("stream", "yes"), ("stream_options", {}),
               ("truncate_prompt_tokens", 0), ("truncation_side", "up"), ("priority", 3), ("cache_salt", ""),
               ("cache_salt", "a/b"), ("cache_salt", "a" * 200), ("best_of", 2), ("suffix", "x"), ("echo", 1),
               ("use_beam_search", True), ("response_format", {"type": "xml"}), ("guided_json", 5),
               ("structured_outputs", {"regex": "("}), ("kv_transfer_params", {}), ("prompt_embeds", "x"),
               ("logprob_token_ids", [1]), ("repetition_detection", {}), ("thinking_token_budget", 5),
               ("request_id", ""), ("add_special_tokens", "x")]
        with scripted(say("yes")) as s:
            for name, value in bad:
                with self.subTest(name=name, value=str(value)[:40]):
                    self.refused(s.complete("x", **{name: value}), 400, SAYS.get(name, name), name)
            self.refused(s.complete("x", n=2, temperature=0), 400, "greedy", "n")
            self.refused(s.complete("x", model="other"), 404, "does not exist", "model", "NotFoundError")
            self.assertEqual(s.complete("x", model="second").status, 200)

    def test_prompts(self):
        with scripted(say("yes")) as s:
            for prompt in (None, [], 5, {}, [[]], [5, "a"], ["a", 5], [[5, "a"]], [-1], [[10**7]], [None], [1.5],
                           ["a"] * 1025):
                with self.subTest(prompt=str(prompt)[:40]):
                    self.refused(s.complete(prompt), 400, "", "prompt")
            self.refused(s.post("/v1/completions"), 400, "must be provided", "prompt")
            self.refused(s.complete("", add_special_tokens=False), 400, "cannot be empty", "prompt")

    def test_ignored(self):
        with scripted(say("yes")) as s:
            for more in ({"user": "me"}, {"unknown": {"a": [1]}}, {"temperature": None, "stop": None, "seed": None},
                         {"seed": -1}, {"best_of": 1}, {"response_format": {"type": "text"}}, {"suffix": None},
                         {"logit_bias": {"5": 300}}, {"bad_words": ["no", " never"]}, {"allowed_token_ids": [5, 6]}):
                self.assertEqual(s.complete("x", **more).status, 200, more)

    def test_context(self):
        with scripted(say("yes"), max_model_len=20) as s:
            for ids, more in (([5] * 20, {"max_tokens": 1}), ([5] * 18, {"max_tokens": 3}), ([5] * 5000, {})):
                self.refused(s.complete(ids, **more), 400, "maximum context length", "input_tokens")
            self.assertEqual(s.complete([5] * 18, max_tokens=2).status, 200)
            for answer in (s.complete("x" * 3000000), s.chat("x" * 3000000), s.complete(["x", "x" * 3000000])):
                self.refused(answer, 400, "maximum context length", "input_tokens")
            answer = s.complete("fathom " * 1000, truncate_prompt_tokens=5, max_tokens=1).json
            self.assertEqual(answer["usage"]["prompt_tokens"], 5)


class Real(Case):
    def test_answers(self):
        with real() as s:
            one = s.complete("fathom", temperature=0, max_tokens=8).json["choices"][0]["text"]
            many = s.complete(["fathom"] * 6, temperature=0, max_tokens=8).json["choices"]
            self.assertEqual([c["text"] for c in many], [one] * 6)
            seeded = [s.complete("fathom", seed=5, temperature=1, max_tokens=12).json["choices"][0]["text"]
                      for _ in range(2)]
            self.assertEqual(seeded[0], seeded[1])
            several = s.complete("fathom", seed=5, temperature=1, max_tokens=12, n=3).json["choices"]
            self.assertEqual(several[0]["text"], seeded[0])
            hot = s.complete("fathom", seed=5, temperature=2, max_tokens=12, n=3).json["choices"]
            self.assertEqual(len({c["text"] for c in hot}), 3)

    def test_loglikelihood(self):
        """The same float in both places says that a token was the likeliest (lm-eval)."""
        with real() as s:
            ids = [0] + ids_of("fathom is a serving engine")
            lp = s.complete([ids], max_tokens=1, temperature=0, logprobs=1, echo=True).json["choices"][0]["logprobs"]
            greedy = [v == max(top.values()) for v, top in zip(lp["token_logprobs"][1:], lp["top_logprobs"][1:])]
            self.assertEqual(len(greedy), len(ids))
            self.assertTrue(greedy[-1])
            self.assertFalse(all(greedy))

    def test_rules(self):
        with real() as s:
            for prompt in ("fathom", "Use", "The", "What", "Hello", "1 + 1 ="):
                free = s.complete(prompt, temperature=0, max_tokens=1, return_token_ids=True).json["choices"][0]
                if len(ids_of(free["text"].strip())) == 1:  # a word that bad_words can name with one token
                    break
            else:
                self.fail("every first word takes several tokens")
            barred = s.complete(prompt, temperature=0, max_tokens=1, return_token_ids=True,
                                logit_bias={str(free["token_ids"][0]): -100}).json["choices"][0]
            self.assertNotEqual(barred["token_ids"], free["token_ids"])
            barred = s.complete(prompt, temperature=0, max_tokens=4, return_token_ids=True,
                                bad_words=[free["text"].strip()]).json["choices"][0]["token_ids"]
            self.assertNotIn(free["token_ids"][0], barred)  # other tokens may still spell the word
            chosen = s.complete("fathom", temperature=0, max_tokens=5, return_token_ids=True, ignore_eos=True,
                                allowed_token_ids=[40, 41]).json["choices"][0]["token_ids"]
            self.assertLessEqual(set(chosen), {40, 41})


if __name__ == "__main__":
    serving.main()
