/* Entry point: picks the subcommand from its table. */
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		printf("fathom %s\n", FATHOM_VERSION);
		return 0;
	}
	fprintf(stderr, "usage: fathom --version\n");
	return 1;
}
