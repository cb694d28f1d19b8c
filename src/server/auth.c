/* API keys (server/auth.h). */
#include "server/auth.h"

#include <string.h>
#include <strings.h>

/* The time depends on the length of the token alone, which its sender knows. */
static bool same(const char *key, const char *token)
{
	size_t key_len = strlen(key), token_len = strlen(token);
	volatile unsigned char differ = key_len != token_len || key_len == 0;

	for (size_t i = 0; i < token_len && key_len; i++)
		differ |= (unsigned char)(token[i] ^ key[i % key_len]);
	return differ == 0;
}

static bool is_key(const char *const *keys, size_t n_keys, const char *token)
{
	bool found = false;

	for (size_t i = 0; i < n_keys; i++)
		found |= same(keys[i], token);
	return found;
}

bool auth_allows(const char *const *keys, size_t n_keys, const char *authorization, const char *x_api_key)
{
	bool allowed = n_keys == 0;

	if (authorization && strncasecmp(authorization, "Bearer ", 7) == 0) {
		authorization += 7;
		authorization += strspn(authorization, " ");
		allowed |= is_key(keys, n_keys, authorization);
	}
	if (x_api_key)
		allowed |= is_key(keys, n_keys, x_api_key);
	return allowed;
}
