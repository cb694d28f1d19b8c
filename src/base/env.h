/* Environment variables: the only place that reads them. */
#ifndef BASE_ENV_H
#define BASE_ENV_H

/* Borrowed; NULL when unset or empty. */
const char *env_get(const char *name);

#endif
