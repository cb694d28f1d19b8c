"""/v1/chat/completions: whole answers, reasoning, templates."""
import os
import tempfile

import serving
from serving import EOS, Case, ids_of, real, say, scripted, token

THINK = {"chat_template_kwargs": {"thinking": True}}


def thought(reasoning, content):
    return {"answer": ids_of(reasoning) + [token("</think>")] + ids_of(content)}


class Shape(Case):
    def test_whole(self):
        with scripted(say("one two"), args=["--enable-prompt-tokens-details"]) as s:
            answer = s.chat().json
            self.assertRegex(answer.pop("id"), "^chatcmpl-[0-9a-f]{32}$")
            self.assertGreater(answer.pop("created"), 1600000000)
            usage = answer.pop("usage")
            self.assertEqual(usage["completion_tokens"], len(ids_of("one two")) + 1)
            self.assertEqual(usage["prompt_tokens_details"], {"cached_tokens": usage["prompt_tokens"] // 2})
            self.assertEqual(answer, {
                "object": "chat.completion", "model": "demo", "service_tier": None, "system_fingerprint": None,
                "prompt_logprobs": None, "prompt_token_ids": None, "kv_transfer_params": None,
                "choices": [{"index": 0, "logprobs": None, "finish_reason": "stop", "stop_reason": None,
                             "token_ids": None,
                             "message": {"role": "assistant", "content": "one two", "refusal": None,
                                         "annotations": None, "audio": None, "function_call": None,
                                         "reasoning_content": None, "reasoning": None}}]})

    def test_prompt(self):
        with scripted(say("x")) as s:
            messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [
                {"type": "text", "text": "Hi"}]}, {"role": "assistant", "content": "Ho"},
                {"role": "user", "content": "Go on"}]
            answer = s.post("/v1/chat/completions", messages=messages, return_token_ids=True).json
            want = s.post("/tokenize", messages=messages).json["tokens"]
            self.assertEqual(answer["prompt_token_ids"], want)
            self.assertEqual(answer["usage"]["prompt_tokens"], len(want))
            text = s.post("/detokenize", tokens=want).json["prompt"]
            self.assertEqual(text, "<｜begin▁of▁sentence｜>Be brief.<｜User｜>Hi<｜Assistant｜></think>Ho"
                                   "<｜end▁of▁sentence｜><｜User｜>Go on<｜Assistant｜></think>")

    def test_lengths(self):
        with scripted(say("a b c")) as s:
            self.assertEqual(s.chat(max_tokens=2).json["usage"]["completion_tokens"], 2)
            self.assertEqual(s.chat(max_tokens=9, max_completion_tokens=2).json["usage"]["completion_tokens"], 2)
        with scripted(say("a b c"), max_model_len=40) as s:
            usage = s.chat(ignore_eos=True).json["usage"]
            self.assertEqual(usage["total_tokens"], 40)
            self.refused(s.chat(max_tokens=40), 400, "maximum context length", "input_tokens")
            self.refused(s.chat("word " * 100), 400, "maximum context length", "input_tokens")
        with scripted(say("a b c"), args=["--override-generation-config", '{"max_new_tokens": 5}']) as s:
            self.assertEqual(s.chat(ignore_eos=True).json["usage"]["completion_tokens"], 5)

    def test_logprobs(self):
        with scripted(say("é")) as s:
            content = s.chat(logprobs=True, top_logprobs=2).json["choices"][0]["logprobs"]["content"]
            self.assertEqual(len(content), len(ids_of("é")) + 1)
            self.assertEqual(content[0]["logprob"], -1 / 8)
            self.assertEqual([len(c["top_logprobs"]) for c in content], [2] * len(content))
            self.assertEqual(bytes(sum((c["bytes"] for c in content[:-1]), [])).decode(), "é")
            content = s.chat(logprobs=True).json["choices"][0]["logprobs"]["content"]
            self.assertEqual(content[0]["top_logprobs"], [])
            self.refused(s.chat(top_logprobs=2), 400, "must be set to true", "top_logprobs")
            self.refused(s.chat(logprobs=True, top_logprobs=21), 400, "greater than max allowed", "top_logprobs")
            lp = s.chat(prompt_logprobs=0).json["prompt_logprobs"]
            self.assertIsNone(lp[0])

    def test_continue(self):
        with scripted(say(" there")) as s:
            messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
            answer = s.post("/v1/chat/completions", messages=messages, add_generation_prompt=False,
                            continue_final_message=True, echo=True, return_token_ids=True).json
            self.assertEqual(answer["choices"][0]["message"]["content"], "Hello there")
            self.assertEqual(answer["prompt_token_ids"][-len(ids_of("Hello")):], ids_of("Hello"))
            self.refused(s.post("/v1/chat/completions", messages=messages, add_generation_prompt=True,
                                continue_final_message=True), 400, "Cannot set both", "continue_final_message")


class Reasoning(Case):
    def test_split(self):
        with scripted(thought("let me see", "forty two")) as s:
            answer = s.chat(**THINK).json
            message = answer["choices"][0]["message"]
            self.assertEqual(message["reasoning"], "let me see")
            self.assertEqual(message["reasoning_content"], "let me see")
            self.assertEqual(message["content"], "forty two")
            self.assertEqual(answer["usage"]["completion_tokens_details"],
                             {"reasoning_tokens": len(ids_of("let me see"))})
            message = s.chat(include_reasoning=False, **THINK).json["choices"][0]["message"]
            self.assertEqual((message["reasoning"], message["content"]), (None, "forty two"))
            for more in ({"chat_template_kwargs": {"enable_thinking": True}}, {"reasoning_effort": "high"}):
                self.assertEqual(s.chat(**more).json["choices"][0]["message"]["content"], "forty two")
            for more in ({}, {"reasoning_effort": "none"}, {"chat_template_kwargs": {"thinking": False}}):
                content = s.chat(**more).json["choices"][0]["message"]["content"]
                self.assertEqual(content, "let me seeforty two")  # nobody sees a marker

    def test_unfinished(self):
        with scripted(say("let me see")) as s:
            choice = s.chat(max_tokens=2, **THINK).json["choices"][0]
            self.assertIsNone(choice["message"]["content"])
            self.assertEqual(choice["finish_reason"], "length")
            self.assertTrue("let me see".startswith(choice["message"]["reasoning"]))

    def test_server_default(self):
        with scripted(thought("a", "b"), args=["--default-chat-template-kwargs", '{"thinking": true}']) as s:
            self.assertEqual(s.chat().json["choices"][0]["message"]["content"], "b")
            off = s.chat(chat_template_kwargs={"thinking": False}).json["choices"][0]["message"]
            self.assertEqual((off["content"], off["reasoning"]), ("ab", None))

    def test_words_of_users_do_not_think(self):
        with scripted(say("fine")) as s:
            message = s.chat("<think>").json["choices"][0]["message"]
            self.assertEqual((message["content"], message["reasoning"]), ("fine", None))


class Refusals(Case):
    def test_fields(self):
        tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
        with scripted(say("yes")) as s:
            self.refused(s.post("/v1/chat/completions"), 400, "field required", "messages")
            for messages in ([], 5, [5], [{}], [{"role": 5}], [{"role": "king", "content": "x"}]):
                self.refused(s.chat(messages=messages), 400, "messages", "messages")
            self.refused(s.chat(tools=[]), 400, "empty", "tools")
            for tools in (5, [5], [{}], [{"function": {}}], [{"function": {"name": ""}}], [{"function": {"name": 5}}],
                          [{**tool, "type": "web_search"}], [{"function": {"name": "f", "parameters": []}}], [tool] * 1025):
                self.refused(s.chat(tools=tools), 400, "tools", "tools")
            self.refused(s.chat(tool_choice="auto"), 400, "must be set", "tool_choice")
            self.assertEqual(s.chat(tool_choice="none").status, 200)
            for choice in ("maybe", 5, {}, {"type": "function"}, {"type": "function", "function": {"name": "g"}}):
                self.refused(s.chat(tools=[tool], tool_choice=choice), 400, "tool_choice", "tool_choice")
            for choice in ("required", {"type": "function", "function": {"name": "f"}}):
                self.refused(s.chat(tools=[tool], tool_choice=choice, structured_outputs={"regex": "a"}), 400,
                             "another constraint", "tool_choice")
            for choice in ("none", "auto", "required"):
                self.assertEqual(s.chat(tools=[tool], tool_choice=choice).status, 200)
            self.refused(s.chat(tools=[tool], parallel_tool_calls=1), 400, "expected true or false", "parallel_tool_calls")
            self.refused(s.chat(reasoning_effort="huge"), 400, "expected none", "reasoning_effort")
            for value in ("false", 1, []):
                for name in ("thinking", "enable_thinking"):
                    self.refused(s.chat(chat_template_kwargs={name: value}), 400, "true or false", "chat_template_kwargs")
            for name in ("messages", "bos_token", "add_generation_prompt"):
                self.assertEqual(s.chat(chat_template_kwargs={name: 1}).status, 400)
            self.refused(s.complete(thinking_token_budget=5), 400, "for chats", "thinking_token_budget")
            self.refused(s.chat(thinking_token_budget=-2), 400, "must be from", "thinking_token_budget")
            self.refused(s.chat(chat_template="x"), 400, "--trust-request-chat-template", "chat_template")
            self.refused(s.chat(chat_template_kwargs=5), 400, "expected an object", "chat_template_kwargs")
            self.refused(s.chat(response_format={"type": "json_schema"}), 400, "needs an object", "response_format")
            self.refused(s.chat(max_tokens=0), 400, "max_tokens", "max_tokens")
            self.refused(s.chat(model="x"), 404, "does not exist", "model", "NotFoundError")
            image = [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]
            self.assertEqual(s.chat(image).status, 400)

    def test_own_template(self):
        with scripted(say("yes"), args=["--trust-request-chat-template"]) as s:
            answer = s.chat("hi", chat_template="[{{ messages[0].content }}]", return_token_ids=True).json
            self.assertEqual(s.post("/detokenize", tokens=answer["prompt_token_ids"]).json["prompt"], "[hi]")
            self.refused(s.chat("hi", chat_template="{{ messages"), 400, "", "chat_template")

    def test_what_the_template_cannot_render(self):
        """The request is named, not the file that the template came from."""
        deep = 1
        for _ in range(50):
            deep = [deep]
        tool = {"type": "function", "function": {"name": "f", "description": deep}}
        with scripted(say("yes")) as s:
            self.refused(s.chat(tools=[tool], tool_choice="none"), 400, "tools[0].function.description: found array", "tools")
        with tempfile.NamedTemporaryFile("w", suffix=".jinja") as file:
            file.write("{{ messages[0].content + 5 }}")
            file.flush()
            with scripted(say("yes"), args=["--chat-template", file.name]) as s:
                answer = s.chat("hi")
                self.refused(answer, 400, "the chat template cannot render messages and tools: line 1: ", "messages")
                self.assertNotIn(os.path.basename(file.name), answer.body.decode())

    def test_empty_template(self):
        with scripted(say("yes"), args=["--trust-request-chat-template"]) as s:
            self.refused(s.chat("hi", chat_template=" \n"), 400, "the chat template is empty", "chat_template")

    def test_control_tokens_in_text(self):
        for args, special in (([], True), (["--literal-content"], False)):
            with scripted(say("yes"), args=args) as s:
                answer = s.chat("a<｜end▁of▁sentence｜>b", return_token_ids=True).json
                self.assertEqual(EOS in answer["prompt_token_ids"], special)


class Real(Case):
    def test_answers(self):
        with real() as s:
            answer = s.chat("What is fathom?", temperature=0).json["choices"][0]
            self.assertIn("fathom", answer["message"]["content"])
            self.assertEqual(answer["finish_reason"], "stop")
            message = s.chat("What is 20 + 30?", temperature=0, **THINK).json["choices"][0]["message"]
            self.assertTrue(message["reasoning"])
            self.assertTrue(message["content"])
            self.assertNotIn("think>", message["reasoning"] + message["content"])


if __name__ == "__main__":
    serving.main()
