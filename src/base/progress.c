/* Progress bar (base/progress.h). The line is rebuilt whole and ends with "erase to the right". */
#include "base/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define SILENT_NS 2000000000u
#define REDRAW_NS 100000000u
#define BAR_CELLS 30

void progress_begin(struct progress *p, const char *label, uint64_t total, enum progress_unit unit,
	bool wanted)
{
	*p = (struct progress){
		.label = label,
		.total = total,
		.unit = unit,
		.on = wanted && isatty(STDERR_FILENO),
		.begin_ns = clock_ns(),
	};
}

static void draw(struct progress *p, uint64_t done, double seconds)
{
	char bar[BAR_CELLS + 1];
	double part = p->total ? (double)done / (double)p->total : 0;
	int filled = (int)(part * BAR_CELLS);

	if (filled > BAR_CELLS)
		filled = BAR_CELLS;
	memset(bar, '.', BAR_CELLS);
	memset(bar, '#', (size_t)filled);
	bar[BAR_CELLS] = 0;
	fprintf(stderr, "\r%s ", p->label);
	if (p->total)
		fprintf(stderr, "[%s] %3.0f %%", bar, part * 100);
	if (p->unit == PROGRESS_BYTES)
		fprintf(stderr, "  %.2f GB, %.2f GB/s", (double)done * 1e-9,
			(double)done * 1e-9 / seconds);
	else
		fprintf(stderr, "  %llu", (unsigned long long)done);
	if (p->total && done > 0 && done < p->total)
		fprintf(stderr, ", %.0f s left", seconds * (1 - part) / part);
	fputs("\033[K", stderr);
	fflush(stderr);
}

void progress_update(struct progress *p, uint64_t done)
{
	uint64_t now;

	if (!p->on)
		return;
	now = clock_ns();
	if (now - p->begin_ns < SILENT_NS || (p->drawn && now < p->drawn_ns + REDRAW_NS))
		return;
	p->drawn = true;
	p->drawn_ns = now;
	draw(p, done, (double)(now - p->begin_ns) * 1e-9);
}

void progress_end(struct progress *p)
{
	if (p->drawn)
		fputs("\r\033[K", stderr);
	p->on = p->drawn = false;
}
