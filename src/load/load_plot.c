/*
 * SVG of latency against load (load/load_plot.h). The load's axis is logarithmic when the loads span more
 * than a factor of ten, the latency's begins at zero.
 */
#include "load/load_plot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define PANEL_W 420.0
#define PANEL_H 300.0
#define LEFT 64.0
#define RIGHT 20.0
#define TOP 40.0
#define BOTTOM 48.0
#define HEAD 36.0

static const char *const titles[LOAD_METRICS] = { "Time to first token", "Time per output token",
	"Inter-token latency", "End-to-end latency" };

static const char median_color[] = "#1f6fb4", high_color[] = "#c8501e";

struct axes {
	double x0, y0; /* of the panel */
	double min, max, top_ms;
	bool log;
};

static void put_text(struct buf *out, const char *s)
{
	for (; *s; s++) {
		if (*s == '<')
			buf_puts(out, "&lt;");
		else if (*s == '&')
			buf_puts(out, "&amp;");
		else if ((unsigned char)*s >= 0x20)
			buf_putc(out, *s);
	}
}

static double x_of(const struct axes *a, double load)
{
	double part = 0.5;

	if (a->max > a->min)
		part = a->log ? log(load / a->min) / log(a->max / a->min) : (load - a->min) / (a->max - a->min);
	return a->x0 + LEFT + 12 + part * (PANEL_W - LEFT - RIGHT - 24);
}

static double y_of(const struct axes *a, double ms)
{
	return a->y0 + PANEL_H - BOTTOM - ms / a->top_ms * (PANEL_H - TOP - BOTTOM);
}

/* 1, 2 or 5 times a power of ten: about five steps up to v. */
static double step_of(double v)
{
	double power = pow(10, floor(log10(v / 5))), rest = v / 5 / power;

	return power * (rest <= 1 ? 1 : rest <= 2 ? 2 : rest <= 5 ? 5 : 10);
}

static double value(const struct load_plot_point *p, int m, bool high)
{
	return high ? p->high_ms[m] : p->median_ms[m];
}

static void put_line(struct buf *out, const struct axes *a, const struct load_plot_point *points, uint32_t n, int m,
	bool high)
{
	const char *color = high ? high_color : median_color;

	buf_printf(out, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", color);
	for (uint32_t i = 0; i < n; i++)
		buf_printf(out, "%s%.1f,%.1f", i ? " " : "", x_of(a, points[i].load), y_of(a, value(&points[i], m, high)));
	buf_puts(out, "\"/>\n");
	for (uint32_t i = 0; i < n; i++)
		buf_printf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"%s\"><title>%.6g: %.2f ms, %.1f tok/s"
			"</title></circle>\n", x_of(a, points[i].load), y_of(a, value(&points[i], m, high)), color,
			points[i].load, value(&points[i], m, high), points[i].output_throughput);
}

static void put_grid(struct buf *out, const struct axes *a, const struct load_plot_point *points, uint32_t n)
{
	double step = step_of(a->top_ms), right = a->x0 + PANEL_W - RIGHT, last = -1e9;

	for (double ms = 0; ms <= a->top_ms * 1.0001; ms += step) {
		double y = y_of(a, ms);

		buf_printf(out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/>\n",
			a->x0 + LEFT, y, right, y);
		buf_printf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%.6g</text>\n", a->x0 + LEFT - 6, y + 4, ms);
	}
	for (uint32_t i = 0; i < n; i++) {
		double x = x_of(a, points[i].load);

		if (x - last < 28)
			continue;
		buf_printf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%.6g</text>\n", x,
			a->y0 + PANEL_H - BOTTOM + 18, points[i].load);
		last = x;
	}
}

static void put_panel(struct buf *out, const struct load_plot *p, const struct load_plot_point *points, struct axes a,
	int m)
{
	a.top_ms = 0;
	for (uint32_t i = 0; i < p->n; i++)
		a.top_ms = fmax(a.top_ms, fmax(points[i].high_ms[m], points[i].median_ms[m]));
	a.top_ms = a.top_ms > 0 ? a.top_ms * 1.08 : 1;
	buf_printf(out, "<text x=\"%.1f\" y=\"%.1f\" font-size=\"14\">%s (ms)</text>\n", a.x0 + LEFT, a.y0 + 20, titles[m]);
	put_grid(out, &a, points, p->n);
	put_line(out, &a, points, p->n, m, false);
	put_line(out, &a, points, p->n, m, true);
	buf_printf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">", a.x0 + (LEFT + PANEL_W - RIGHT) / 2,
		a.y0 + PANEL_H - 10);
	put_text(out, p->load_name);
	buf_puts(out, a.log ? " (log)</text>\n" : "</text>\n");
}

/* Insertion: a plot has few points. */
static void sort_points(struct load_plot_point *v, uint32_t n)
{
	for (uint32_t i = 1; i < n; i++) {
		for (uint32_t k = i; k && v[k].load < v[k - 1].load; k--) {
			struct load_plot_point t = v[k];

			v[k] = v[k - 1];
			v[k - 1] = t;
		}
	}
}

static void put_head(struct buf *out, const struct load_plot *p, double width, double height)
{
	buf_printf(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\" "
		"font-family=\"sans-serif\" font-size=\"11\" fill=\"#222\">\n", width, height, width, height);
	buf_printf(out, "<rect width=\"%.0f\" height=\"%.0f\" fill=\"#fff\"/>\n", width, height);
	buf_printf(out, "<text x=\"%.0f\" y=\"24\" font-size=\"16\">", LEFT);
	put_text(out, p->title);
	buf_printf(out, "</text>\n<text x=\"%.0f\" y=\"24\" text-anchor=\"end\"><tspan fill=\"%s\">median</tspan>  "
		"<tspan fill=\"%s\">P%.6g</tspan></text>\n", width - RIGHT, median_color, high_color, p->high);
}

void load_plot_put_svg(struct buf *out, const struct load_plot *p)
{
	struct load_plot_point *points = mem_alloc((p->n + 1) * sizeof(*points));
	struct axes a = { 0 };
	int panels = 0, at = 0;

	for (int m = 0; m < LOAD_METRICS; m++)
		panels += p->shown[m];
	memcpy(points, p->points, p->n * sizeof(*points));
	sort_points(points, p->n);
	if (p->n) {
		a.min = points[0].load;
		a.max = points[p->n - 1].load;
		a.log = a.min > 0 && a.max > 10 * a.min;
	}
	put_head(out, p, PANEL_W * (panels > 1 ? 2 : 1), HEAD + PANEL_H * ((panels + 1) / 2));
	for (int m = 0; m < LOAD_METRICS; m++) {
		if (!p->shown[m])
			continue;
		a.x0 = PANEL_W * (at % 2);
		a.y0 = HEAD + PANEL_H * (at / 2);
		put_panel(out, p, points, a, m);
		at++;
	}
	buf_puts(out, "</svg>\n");
	free(points);
}
