/*
 * The server under load: its client on a loop, and single questions that are waited for (models,
 * tokenize, metrics).
 *
 *   TRY(load_target_open(&t, &(struct load_target_config){ .url = "http://127.0.0.1:8000" }, err));
 *   TRY(load_target_json(&models, &t, "GET", "/v1/models", NULL, 0, err));
 */
#ifndef LOAD_LOAD_TARGET_H
#define LOAD_LOAD_TARGET_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/error.h"
#include "http/client.h"

struct load_target_config {
	const char *url; /* http[s]://HOST[:PORT][/PATH]; the path goes in front of every route */
	bool insecure;   /* any certificate will do */
	const struct http_header *headers; /* of every request; borrowed, as their strings */
	size_t n_headers;
};

struct load_target {
	struct http_loop *loop;
	struct http_client *client;
	struct http_tls *tls;
	char *prefix; /* path of the URL without its last '/' */
	const struct http_header *headers;
	size_t n_headers;
};

/* Raises the limit of open files as far as it goes. Resolves the host; connects only when asked. */
enum status load_target_open(struct load_target *t, const struct load_target_config *c, struct error *err);
void load_target_close(struct load_target *t);

/* Connections that the limit of open files has room for. */
unsigned load_target_room(void);

/* One call, waited for at most a minute. body NULL: none. *answer is appended to. */
enum status load_target_ask(struct load_target *t, const char *method, const char *route, const char *body,
	size_t len, unsigned *http, struct buf *answer, struct error *err);
/* The same, where anything but 200 with JSON is an error. *out is owned by the caller. */
enum status load_target_json(json_t **out, struct load_target *t, const char *method, const char *route,
	const char *body, size_t len, struct error *err);

#endif
