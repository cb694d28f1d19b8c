"""Structured output: what the demo model writes under a constraint follows it, whatever the sampling, in batches and after thinking."""
import json
import re
import threading

import serving
from serving import Case, real, say, scripted

SCHEMA = {"type": "object", "required": ["name", "age", "tags"], "additionalProperties": False, "properties": {
    "name": {"type": "string", "minLength": 1, "maxLength": 12}, "age": {"type": "integer", "minimum": 0, "maximum": 120},
    "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1, "maxItems": 3}}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA, "strict": True}}
EBNF = 'root ::= pair ("," pair){0,2}\npair ::= [a-z]{1,4} "=" [0-9]{1,3}'
THINK = {"chat_template_kwargs": {"thinking": True}}
SAMPLINGS = ({"temperature": 0}, {"temperature": 0.7, "seed": 1}, {"temperature": 1.5, "seed": 2, "top_k": 5},
             {"temperature": 2, "seed": 3, "min_p": 0.001}, {"temperature": 1, "seed": 4, "repetition_penalty": 1.2},
             {"temperature": 1, "top_p": 0.5, "seed": 5, "presence_penalty": 1})


class Constrained(Case):
    def person(self, text):
        value = json.loads(text)
        self.assertEqual(list(value), ["name", "age", "tags"])
        self.assertTrue(1 <= len(value["name"]) <= 12, text)
        self.assertTrue(isinstance(value["age"], int) and 0 <= value["age"] <= 120, text)
        self.assertTrue(1 <= len(value["tags"]) <= 3 and set(value["tags"]) <= {"a", "b"}, text)

    @classmethod
    def setUpClass(cls):
        cls.running = real()
        cls.server = cls.running.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.running.__exit__(None, None, None)

    def content(self, **body):
        answer = self.server.chat("Tell me about Bob, who is 25.", max_tokens=400, **body)
        self.assertEqual(answer.status, 200, answer.body)
        choice = answer.json["choices"][0]
        self.assertEqual(choice["finish_reason"], "stop")
        return choice["message"]["content"]

    def test_schema(self):
        for sampling in SAMPLINGS:
            with self.subTest(sampling=sampling):
                self.person(self.content(response_format=FORMAT, **sampling))
        self.person(self.content(structured_outputs={"json": SCHEMA}))
        self.person(self.content(structured_outputs={"json": json.dumps(SCHEMA)}))
        self.person(self.content(guided_json=SCHEMA))
        text = self.content(structured_outputs={"json": SCHEMA, "disable_any_whitespace": True})
        self.person(text)
        self.assertEqual(text, json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":")))

    def test_object(self):
        for field in ({"response_format": {"type": "json_object"}}, {"structured_outputs": {"json_object": True}},
                      {"guided_json_object": True}):
            answer = self.server.chat("Hi", max_tokens=2000, temperature=0, **field).json["choices"][0]
            if answer["finish_reason"] == "stop":
                self.assertIsInstance(json.loads(answer["message"]["content"]), dict)

    def test_regex_choice_grammar(self):
        for sampling in SAMPLINGS:
            for names in (("structured_outputs", ""), ("guided_", None)):
                def field(kind, value, names=names):
                    return {names[0]: {kind: value}} if names[1] is not None else {names[0] + kind: value}
                with self.subTest(sampling=sampling, names=names):
                    self.assertRegex(self.content(**field("regex", r"\d{3}-\d{4}"), **sampling), r"\A[0-9]{3}-[0-9]{4}\Z")
                    self.assertIn(self.content(**field("choice", ["red", "green", "dark green"]), **sampling),
                                  ["red", "green", "dark green"])
                    self.assertRegex(self.content(**field("grammar", EBNF), **sampling), r"\A[a-z]{1,4}=\d{1,3}(,[a-z]{1,4}=\d{1,3}){0,2}\Z")

    def test_completions(self):
        answer = self.server.complete(["Bob is", "Eve is"], n=2, temperature=1, seed=1, max_tokens=400, response_format=FORMAT).json
        self.assertEqual(len(answer["choices"]), 4)
        for choice in answer["choices"]:
            self.assertEqual(choice["finish_reason"], "stop")
            self.person(choice["text"])

    def test_n(self):
        choices = self.server.chat("Bob", n=4, temperature=1.2, seed=9, max_tokens=400, response_format=FORMAT).json["choices"]
        self.assertEqual(len(choices), 4)
        for choice in choices:
            self.person(choice["message"]["content"])

    def test_stream(self):
        for sampling in SAMPLINGS[:3]:
            for more in ({}, THINK):
                body = {"response_format": FORMAT, "max_tokens": 600, **sampling, **more}
                whole = self.server.chat("Bob", **body).json["choices"][0]["message"]["content"]
                events = self.server.chat("Bob", stream=True, **body).events()
                deltas = [c["delta"].get("content") or "" for e in events for c in e["choices"]]
                self.assertEqual("".join(deltas), whole)
                self.person(whole)

    def test_thinking(self):
        """The constraint begins after </think>: the reasoning is free, and the same as without."""
        for seed in range(4):
            body = {"max_tokens": 600, "temperature": 0.6, "seed": seed, **THINK}
            free = self.server.chat("What is 20 + 30?", **body).json["choices"][0]["message"]
            held = self.server.chat("What is 20 + 30?", structured_outputs={"regex": "[0-9]{1,4}"}, **body).json["choices"][0]["message"]
            self.assertEqual(held["reasoning"], free["reasoning"])
            self.assertTrue(held["reasoning"])
            self.assertRegex(held["content"], r"\A[0-9]{1,4}\Z")

    def test_logprobs_and_ids(self):
        answer = self.server.chat("Hi", logprobs=True, top_logprobs=2, return_token_ids=True,
                                  structured_outputs={"choice": ["zebra"]}).json["choices"][0]
        self.assertEqual(answer["message"]["content"], "zebra")
        self.assertEqual("".join(t["token"] for t in answer["logprobs"]["content"][:-1]), "zebra")

    def test_ends(self):
        """A text that can go no further ends, whatever min_tokens says; ignore_eos has no text to add to it."""
        answer = self.server.chat("Hi", min_tokens=50, max_tokens=100, structured_outputs={"choice": ["red"]}).json["choices"][0]
        self.assertEqual((answer["message"]["content"], answer["finish_reason"]), ("red", "stop"))
        answer = self.server.chat("Hi", ignore_eos=True, max_tokens=30, structured_outputs={"choice": ["red"]}).json["choices"][0]
        self.assertEqual((answer["message"]["content"], answer["finish_reason"]), ("red", "length"))
        answer = self.server.chat("Hi", min_tokens=12, max_tokens=100, structured_outputs={"regex": "[a-z]{1,200}"})
        self.assertGreaterEqual(answer.json["usage"]["completion_tokens"], 12)
        answer = self.server.chat("Hi", max_tokens=5, response_format=FORMAT).json["choices"][0]
        self.assertEqual(answer["finish_reason"], "length")

    def test_contradiction(self):
        """Rules that leave nothing are the request's fault, and the server goes on."""
        answer = self.server.chat("Hi", allowed_token_ids=[300], structured_outputs={"regex": "[0-9]"})
        self.refused(answer, 400, "leave no token")
        self.assertEqual(self.server.chat("Hi", max_tokens=2).status, 200)

    def test_too_many_ways(self):
        """Named before anything is generated, or, where no walk from the beginning comes, when it happens."""
        wide = {"type": "object", "properties": {f"p{i}": {"type": "integer"} for i in range(2050)}}
        many = {"anyOf": [{"type": "object", "properties": {f"p{i}": {"type": "integer"}}, "required": [f"p{i}"]} for i in range(700)]}
        for schema in (wide, many, {"type": "object", "properties": {"a": wide}, "required": ["a"]}):
            for field, body in (("response_format", {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}),
                                ("structured_outputs", {"json": schema})):
                self.refused(self.server.chat("Hi", **{field: body}), 400, f"{field}: there are too many ways to go on at one place "
                             "of the text: at most 2048 are followed", field)
        late = {"type": "object", "properties": {"a" * 600: wide}, "required": ["a" * 600]}
        self.refused(self.server.chat("Hi", max_tokens=900, structured_outputs={"json": late}), 400,
                     "constraint (response_format, structured_outputs or tools) has more than the limit of 2048 ways")

    def test_together(self):
        """Many at once, some free: each is what it is alone."""
        bodies = [{"response_format": FORMAT}, {"structured_outputs": {"regex": "[a-f0-9]{8}"}}, {}, {"response_format": FORMAT, **THINK},
                  {"structured_outputs": {"choice": ["yes", "no"]}}, {"structured_outputs": {"grammar": EBNF}}] * 3
        bodies = [{**b, "temperature": 1, "seed": i, "max_tokens": 120} for i, b in enumerate(bodies)]

        def text(body):
            message = self.server.chat("Tell me", **body).json["choices"][0]["message"]
            return message["reasoning"], message["content"]
        alone = [text(b) for b in bodies]
        together = [None] * len(bodies)

        def run(i):
            together[i] = text(bodies[i])
        threads = [threading.Thread(target=run, args=(i,)) for i in range(len(bodies))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(together, alone)


class Refused(Case):
    def test_fields(self):
        bad = [("response_format", {"type": "json_schema"}, "schema"), ("response_format", {"type": "structural_tag"}, "structural_tag"),
               ("response_format", {}, "type is missing"), ("response_format", 5, "object"),
               ("response_format", {"type": "json_schema", "json_schema": {"schema": {"not": {}}}}, "keyword not"),
               ("response_format", {"type": "json_schema", "json_schema": {"schema": 5}}, "JSON schema"),
               ("structured_outputs", {}, "one of"), ("structured_outputs", {"json": "{"}, "not a JSON object"),
               ("structured_outputs", {"regex": "("}, "expected )"), ("structured_outputs", {"regex": 5}, "expected a string"),
               ("structured_outputs", {"choice": []}, "choices"), ("structured_outputs", {"choice": [5]}, "expected a string"),
               ("structured_outputs", {"grammar": "root ::= root"}, ""), ("structured_outputs", {"structural_tag": "x"}, "structural_tag"),
               ("structured_outputs", {"regex": "a", "choice": ["a"]}, "another constraint"),
               ("structured_outputs", {"json": {"uniqueItems": True}}, "uniqueItems"),
               ("structured_outputs", {"regex": "((a{1000}){1000}){1000}"}, "too large"), ("guided_regex", "a" * 300000, "at most"),
               ("guided_regex", "(?=a)", "looking around"), ("guided_json", 5, "JSON schema"), ("guided_choice", "a", "list"),
               ("guided_json_object", 5, "true or false")]
        with scripted(say("yes")) as s:
            for path in ("/v1/completions", "/v1/chat/completions"):
                prompt = {"prompt": "x"} if path == "/v1/completions" else {"messages": [{"role": "user", "content": "x"}]}
                for name, value, says in bad:
                    with self.subTest(path=path, name=name, value=str(value)[:60]):
                        self.refused(s.post(path, **prompt, **{name: value}), 400, says, name)
                self.refused(s.post(path, **prompt, guided_regex="a", response_format={"type": "json_object"}), 400, "another constraint",
                             "guided_regex")
                for more in ({"response_format": {"type": "text"}}, {"structured_outputs": None}, {"guided_regex": None},
                             {"guided_json_object": False}, {"guided_decoding_backend": "xgrammar"}):
                    self.assertEqual(s.post(path, **prompt, **more).status, 200, more)

    def test_costly(self):
        """What would take seconds or gigabytes to compile is refused at once, and the server goes on."""
        names = [f"k{i}" for i in range(20000)]
        schemas = [({"oneOf": [{"enum": [[i] for i in range(9000)]}, {"enum": [[i] for i in range(9000, 17000)]}]}, "oneOf"),
                   ({"type": "object", "required": names}, "at most 1024"),
                   ({"allOf": [{"required": [name]} for name in names[:5000]]}, "at most 64"),
                   ({"oneOf": [{"const": i} for i in range(12000)]}, ""),
                   ({"allOf": [{"enum": list(range(200))}, {"enum": list(range(100, 300))}]}, "too long to be joined"),
                   ({"properties": {name: {} for name in names[:5000]}, "anyOf": [{"properties": {"a": {}}}] * 2000}, "too often"),
                   ({"allOf": [{"enum": ["number"]}, {"enum": ["integer"]}]}, "nothing can satisfy")]
        with scripted(say("yes")) as s:
            for schema, says in schemas:
                with self.subTest(schema=str(schema)[:60]):
                    self.refused(s.post("/v1/completions", prompt="x", structured_outputs={"json": schema}), 400, says, "structured_outputs")
            self.assertEqual(s.post("/v1/completions", prompt="x", guided_regex="a((){100000}){100000}").status, 200)

    def test_white_space_is_no_grammar(self):
        with real() as s:
            first = s.post("/v1/completions", prompt="x", guided_regex="b", guided_whitespace_pattern="\na", max_tokens=9)
            self.assertEqual(first.json["choices"][0]["text"], "b")
            again = s.post("/v1/completions", prompt="x", guided_regex="a\nb", max_tokens=9)
            self.assertEqual(again.json["choices"][0]["text"], "a\nb")

    def test_schema_is_compiled_once(self):
        """The second request with a schema finds its grammar: both are served, and the log has no error."""
        with scripted(say("yes")) as s:
            for _ in range(3):
                self.assertEqual(s.chat(response_format=FORMAT).status, 200)
            self.assertFalse(re.search("ERROR", s.text()))


if __name__ == "__main__":
    serving.main()
