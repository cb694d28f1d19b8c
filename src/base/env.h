/* The environment: the one place that reads it. */
#ifndef BASE_ENV_H
#define BASE_ENV_H

/* NULL when the variable is not set or empty. */
const char *env_get(const char *name);

#endif
