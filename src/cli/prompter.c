/* Text and messages to ids (cli/prompter.h). */
#include "cli/prompter.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "cli/cli.h"

#define MAX_TEMPLATE_BYTES ((size_t)1 << 20)

enum status prompter_open(struct prompter *p, const char *dir, const char *template_path,
	struct error *err)
{
	struct stat sb;

	*p = (struct prompter){ .template_path = template_path };
	if (stat(dir, &sb) != 0)
		return error_set(err, E_IO, "MODEL %.120s: %s", dir, strerror(errno));
	if (!S_ISDIR(sb.st_mode))
		return error_set(err, E_INVAL, "MODEL %.120s: not a directory", dir);
	TRY(tokenizer_open(&p->tok, dir, err));
	p->scratch = tokenizer_scratch_create();
	return OK;
}

void prompter_close(struct prompter *p)
{
	if (p->chat)
		chat_template_destroy(p->chat);
	if (p->scratch)
		tokenizer_scratch_destroy(p->scratch);
	if (p->tok)
		tokenizer_close(p->tok);
	*p = (struct prompter){ 0 };
}

/* Appends a file of text, checked to be UTF-8 without NUL. */
static enum status read_text(struct buf *out, int fd, const char *path, struct error *err)
{
	struct stat sb;
	size_t len = 0;

	if (fstat(fd, &sb) != 0 || !S_ISREG(sb.st_mode))
		return error_set(err, E_IO, "%s: not a regular file", path);
	if ((size_t)sb.st_size > MAX_TEMPLATE_BYTES)
		return error_set(err, E_LIMIT, "%s: %lld bytes, at most %zu are read", path,
			(long long)sb.st_size, MAX_TEMPLATE_BYTES);
	for (;;) {
		char chunk[4096];
		ssize_t n = read(fd, chunk, sizeof(chunk));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set(err, E_IO, "%s: read failed: %s", path, strerror(errno));
		if (n == 0)
			break;
		len += (size_t)n;
		if (len > MAX_TEMPLATE_BYTES)
			return error_set(err, E_LIMIT, "%s: the file grew while it was read", path);
		buf_append(out, chunk, (size_t)n);
	}
	buf_append(out, "", 0);
	return cli_utf8_check(out->data, out->len, path, err);
}

static enum status compile_file(struct prompter *p, struct error *err)
{
	struct buf source = { 0 };
	int fd = open(p->template_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	enum status st;

	if (fd < 0)
		return error_set(err, E_IO, "--chat-template %s: cannot open: %s", p->template_path,
			strerror(errno));
	TRY_GOTO(out, read_text(&source, fd, p->template_path, err));
	st = chat_template_compile(&p->chat, source.data, p->template_path, err);
out:
	close(fd);
	buf_deinit(&source);
	return st;
}

enum status prompter_need_chat(struct prompter *p, struct error *err)
{
	const struct tokenizer_config *c = tokenizer_config_of(p->tok);

	if (p->chat)
		return OK;
	if (p->template_path)
		return compile_file(p, err);
	if (!c->chat_template)
		return error_set(err, E_UNSUPPORTED,
			"the model has no chat template: give one with --chat-template, or use complete");
	return chat_template_compile(&p->chat, c->chat_template, c->chat_template_source, err);
}

enum status prompter_text(struct token_buf *ids, struct prompter *p, const char *text, size_t len,
	bool add_bos, bool literal, struct error *err)
{
	const struct tokenizer_config *c = tokenizer_config_of(p->tok);

	if (add_bos && c->bos_id < 0)
		return error_set(err, E_UNSUPPORTED,
			"--add-bos: the tokenizer_config.json of the model gives no bos_token");
	if (add_bos)
		token_buf_push(ids, c->bos_id);
	return tokenizer_encode(p->tok, p->scratch, text, len, literal ? 0 : TOKENIZER_PARSE_ADDED, ids,
		err);
}

enum status prompter_chat(struct chat_prompt *prompt, struct token_buf *ids, struct prompter *p,
	const struct chat_input *in, struct error *err)
{
	TRY(prompter_need_chat(p, err));
	TRY(chat_render(prompt, p->chat, p->tok, in, err));
	return chat_encode(ids, prompt, p->tok, p->scratch, err);
}
