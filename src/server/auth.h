/* API keys: whoever shows one of them may use the server. */
#ifndef SERVER_AUTH_H
#define SERVER_AUTH_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Whether a request may pass. `authorization` is the header's value ("Bearer KEY", the scheme in any case),
 * `x_api_key` that of Anthropic's clients; either may be NULL. Every key is compared over every byte, so the
 * time tells neither which key matched nor how far. No keys: everybody may.
 */
bool auth_allows(const char *const *keys, size_t n_keys, const char *authorization, const char *x_api_key);

#endif
