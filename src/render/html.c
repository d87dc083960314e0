// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * One self-contained page, an article a command: no picture, font or script from anywhere else. It
 * shows what the text shows; tables are sorted by a click. Lines written with asc_out_color() carry terminal
 * sequences of our own (foreign strings are escaped and hold none), which become spans here.
 */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "render/out.h"

enum { DEPTH_MAX = 16, LEVEL_MAX = 6 };

/* What is open at the end of what was written. */
enum open { OPEN_NOTHING, OPEN_PRE, OPEN_FIELDS, OPEN_BARS };

struct html {
	enum open open;
	bool in_head, started;
	size_t depth;
	unsigned level; /* of the next title */
	bool titled[DEPTH_MAX];
	const char *path[DEPTH_MAX];
	char *name, *pid; /* of the target: for the title */
	char *tool, *taken_at;
	char *headline;		    /* the line about the target */
	const struct asc_col *cols; /* the open table; NULL: not shown */
	size_t ncols;
	/* bars: the rows wait until the stacked bar above them is whole */
	FILE *rows;
	char *rows_text;
	size_t rows_len;
};

static const char style[] =
	":root{color-scheme:light dark;--fg:#1c2024;--bg:#fff;--soft:#60646c;--line:#dcdfe4;"
	"--live:#3b6fd4;--trim:#2f9e5b;--kept:#12a0b5;--frag:#b04fb3;--cache:#c98a0a;--dim:#9aa1ab;"
	"--bad:#cf2f2f}\n"
	"@media(prefers-color-scheme:dark){:root{--fg:#e4e6ea;--bg:#16181c;--soft:#9ba1ab;"
	"--line:#33373e;--live:#7aa2f7;--trim:#5fc98a;--kept:#4cc5d6;--frag:#d58ad8;"
	"--cache:#e0b04a;--dim:#6a717c;--bad:#f2716f}}\n"
	"body{font:15px/1.45 system-ui,sans-serif;color:var(--fg);background:var(--bg);"
	"max-width:75em;margin:2em auto;padding:0 1.2em}\n"
	"article{display:flex;flex-direction:column}article+article{margin-top:3em}\n"
	"header{order:-2}header h1{margin:0;font-size:1.5em}header p{margin:.2em 0 1em;"
	"color:var(--soft);white-space:pre-wrap}.warnings{order:-1}h2{font-size:1.15em;margin:1."
	"2em 0 .4em}"
	"h3,h4{font-size:1em;margin:.8em 0 .3em}\n"
	"pre,td.n,code{font-family:ui-monospace,'DejaVu Sans Mono',monospace;font-size:.92em}"
	"pre{margin:.4em 0;white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.35}\n"
	".wide{overflow-x:auto}table{border-collapse:collapse;margin:.4em 0}"
	"th,td{padding:.15em .7em;text-align:left;border-bottom:1px solid var(--line);"
	"white-space:nowrap}th{cursor:pointer;font-size:.82em;color:var(--soft)}"
	"th.n,td.n{text-align:right;font-variant-numeric:tabular-nums}td.bar{width:40%}"
	"td.bar i{display:block;height:.8em;min-width:1px;border-radius:2px}\n"
	".stack{display:flex;height:1.6em;border-radius:4px;overflow:hidden;margin:.5em 0}"
	".stack i{display:block}dl{display:grid;grid-template-columns:max-content 1fr;gap:0 1.2em;"
	"margin:.4em 0}dt{color:var(--soft)}dd{margin:0}\n"
	".warnings{border-left:4px solid var(--cache);padding:.1em .9em;margin:.5em 0}"
	".warnings.partial{border-color:var(--bad)}footer{margin-top:2em;color:var(--soft);"
	"font-size:.85em}b{font-weight:600}.c2{color:var(--soft)}.c34{color:var(--live)}"
	".c32{color:var(--trim)}.c36{color:var(--kept)}.c35{color:var(--frag)}"
	".c33{color:var(--cache)}.c31{color:var(--bad);font-weight:600}.c1{font-weight:600}\n"
	"@media print{body{max-width:none;margin:0}}\n";

/* Sorts by what the cell is worth, not by what it shows; a second click turns the order. */
static const char script[] =
	"for(const h of document.querySelectorAll('th'))h.onclick=()=>{const b="
	"h.closest('table').tBodies[0],i=h.cellIndex,d=h.dataset.d=h.dataset.d==='1'?-1:1,"
	"v=r=>{const c=r.cells[i],n=c.dataset.v;return n===undefined?c.textContent:+n};"
	"b.append(...[...b.rows].sort((x,y)=>{const p=v(x),q=v(y);"
	"return typeof p==='number'&&typeof q==='number'?d*(q-p):d*String(p).localeCompare(q)}))}";

static struct html *priv(const struct asc_out *o)
{
	return o->priv;
}

/* ---- text ---- */

static void put_char(FILE *f, char c)
{
	switch (c) {
	case '<':
		fputs("&lt;", f);
		break;
	case '>':
		fputs("&gt;", f);
		break;
	case '&':
		fputs("&amp;", f);
		break;
	case '"':
		fputs("&quot;", f);
		break;
	case '\'':
		fputs("&#39;", f);
		break;
	default:
		putc(c, f);
	}
}

static void put_plain(FILE *f, const char *s)
{
	for (; *s; s++)
		put_char(f, *s);
}

/* A line with colours: "\033[1;31m" opens a span, "\033[0m" closes it. */
static void put_coloured(FILE *f, const char *s)
{
	bool open = false;

	for (; *s; s++) {
		if (*s != '\033' || s[1] != '[') {
			put_char(f, *s);
			continue;
		}
		const char *end = s + 2 + strspn(s + 2, "0123456789;");
		const char *last = end;
		while (last > s + 2 && last[-1] != ';')
			last--;
		if (open)
			fputs("</span>", f);
		open = strncmp(last, "0m", 2) != 0;
		if (open)
			fprintf(f, "<span class=\"c%.*s\">", (int)(end - last), last);
		s = *end ? end : end - 1;
	}
	if (open)
		fputs("</span>", f);
}

/* The name of a colour's variable in the style sheet. */
static const char *colour(enum asc_color c)
{
	static const char *const names[] = {
		[ASC_C_NONE] = "dim",  [ASC_C_BOLD] = "fg",	 [ASC_C_DIM] = "dim",
		[ASC_C_LIVE] = "live", [ASC_C_TRIM] = "trim",	 [ASC_C_RETAINED] = "kept",
		[ASC_C_FRAG] = "frag", [ASC_C_CACHED] = "cache", [ASC_C_BAD] = "bad",
	};

	return names[c];
}

/* ---- what is open ---- */

static void end_bars(struct asc_out *o)
{
	struct html *p = priv(o);

	fputs("</div>\n<table><tbody>", o->f);
	if (p->rows && !fclose(p->rows))
		fwrite(p->rows_text, 1, p->rows_len, o->f);
	else
		asc_out_nomem(o);
	p->rows = NULL;
	free(asc_take(p->rows_text));
	fputs("</tbody></table>\n", o->f);
}

static void turn_to(struct asc_out *o, enum open next)
{
	struct html *p = priv(o);

	if (p->open == next)
		return;
	if (p->open == OPEN_PRE)
		fputs("</pre>\n", o->f);
	else if (p->open == OPEN_FIELDS)
		fputs("</dl>\n", o->f);
	else if (p->open == OPEN_BARS)
		end_bars(o);
	p->open = next;
	if (next == OPEN_PRE) {
		fputs("<pre>", o->f);
	} else if (next == OPEN_FIELDS) {
		fputs("<dl>\n", o->f);
	} else if (next == OPEN_BARS) {
		fputs("<div class=\"stack\">", o->f);
		p->rows = open_memstream(&p->rows_text, &p->rows_len);
	}
}

/* ---- life ---- */

static struct asc_error *create(struct asc_out *o)
{
	o->priv = calloc(1, sizeof(struct html));
	return o->priv ? NULL : asc_err(ASC_ENOMEM, "out of memory for the output");
}

static void drop(struct asc_out *o)
{
	struct html *p = priv(o);

	if (p->rows)
		fclose(p->rows);
	free(p->rows_text);
	free(p->name);
	free(p->pid);
	free(p->tool);
	free(p->taken_at);
	free(p->headline);
	memset(p, 0, sizeof(*p));
}

static void destroy(struct asc_out *o)
{
	drop(o);
	free(o->priv);
}

static void begin(struct asc_out *o)
{
	drop(o);
	priv(o)->in_head = true;
	priv(o)->level = 2;
}

static void put_title(struct asc_out *o)
{
	const struct html *p = priv(o);

	put_plain(o->f, o->command ? o->command : "arenascope");
	if (p->name) {
		fputs(" of ", o->f);
		put_plain(o->f, p->name);
	}
	if (p->pid)
		fprintf(o->f, ", pid %s", p->pid);
}

static void page_head(struct asc_out *o)
{
	fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
	      "<meta name=\"viewport\" content=\"width=device-width\">\n"
	      "<meta name=\"generator\" content=\"arenascope\">\n<title>",
	      o->f);
	put_title(o);
	fprintf(o->f, "</title>\n<style>\n%s</style>\n</head>\n<body>\n", style);
}

void asc_html_foot(FILE *f, const char *tool)
{
	fputs("<footer>arenascope", f);
	if (tool)
		fprintf(f, " %s", tool);
	fprintf(f, "</footer>\n<script>%s</script>\n</body>\n</html>\n", script);
}

/* The page waits for its foot, or gets it. */
static void article_end(struct asc_out *o)
{
	struct html *p = priv(o);
	struct asc_stream *stream = o->opts.stream;

	fputs("</article>\n", o->f);
	if (!stream) {
		asc_html_foot(o->f, p->tool);
		return;
	}
	stream->page = true;
	free(stream->tool);
	stream->tool = asc_take(p->tool);
}

static void head_end(struct asc_out *o)
{
	struct html *p = priv(o);

	p->in_head = false;
	p->started = true;
	if (!o->opts.stream || !o->opts.stream->page)
		page_head(o);
	fputs("<article>\n<header><h1>", o->f);
	put_title(o);
	fputs("</h1>\n<p>", o->f);
	if (p->headline)
		put_coloured(o->f, p->headline);
	fputs("<br>", o->f);
	if (p->taken_at)
		put_plain(o->f, p->taken_at);
	fputs("</p></header>\n", o->f);
}
static void table_end(struct asc_out *o)
{
	fputs("</tbody></table></div>\n", o->f);
	priv(o)->ncols = 0;
}

static void put_warnings(struct asc_out *o, bool complete)
{
	if (complete && !o->nwarnings)
		return;
	fprintf(o->f, "<section class=\"warnings%s\">\n", complete ? "" : " partial");
	if (!complete)
		fputs("<p><b>Partial:</b> a part could not be read or is damaged.</p>\n", o->f);
	for (size_t i = 0; i < o->nwarnings; i++) {
		ASC_AUTO(asc_freep) char *e = asc_harmless(o->warnings[i].message);
		fputs("<p>", o->f);
		put_plain(o->f, e ? e : "?");
		fprintf(o->f, " <code>%s</code></p>\n", o->warnings[i].code);
	}
	fputs("</section>\n", o->f);
}

static void end(struct asc_out *o, bool complete)
{
	const struct html *p = priv(o);

	if (!p->started) { /* a command without a target */
		drop(o);
		return;
	}
	turn_to(o, OPEN_NOTHING);
	put_warnings(o, complete);
	article_end(o);
	drop(o);
}

/* The command failed half way; a page that others share must stay one. */
static void cancel(struct asc_out *o)
{
	if (priv(o)->started) {
		if (priv(o)->ncols)
			table_end(o);
		turn_to(o, OPEN_NOTHING);
		article_end(o);
	}
	drop(o);
}

/* ---- groups ---- */

static void title_line(struct asc_out *o, const char *title)
{
	const struct html *p = priv(o);
	unsigned level = p->level < LEVEL_MAX ? p->level : LEVEL_MAX;
	ASC_AUTO(asc_freep) char *e = asc_escape(title);

	fprintf(o->f, "<h%u>", level);
	put_plain(o->f, e ? e : "?");
	fprintf(o->f, "</h%u>\n", level);
}

static void group(struct asc_out *o, const char *key, const char *title)
{
	struct html *p = priv(o);

	if (p->depth >= DEPTH_MAX)
		return;
	p->path[p->depth] = key;
	p->titled[p->depth++] = title != NULL;
	if (!title || p->in_head)
		return;
	turn_to(o, OPEN_NOTHING);
	title_line(o, title);
	p->level++;
}

static void group_end(struct asc_out *o)
{
	struct html *p = priv(o);

	if (!p->depth || !p->titled[--p->depth] || p->in_head)
		return;
	turn_to(o, OPEN_NOTHING);
	p->level--;
}

/* ---- fields ---- */

/* What the page says in its title and foot. */
static void head_field(struct asc_out *o, const char *key, struct asc_value v)
{
	struct html *p = priv(o);
	const char *in = p->depth ? p->path[p->depth - 1] : "";
	char **to = NULL;

	if (!key || v.type == ASC_T_UNKNOWN || v.type == ASC_T_NONE)
		return;
	if (!strcmp(in ? in : "", "target") && !strcmp(key, "name"))
		to = &p->name;
	else if (!strcmp(in ? in : "", "target") && !strcmp(key, "pid"))
		to = &p->pid;
	else if (!strcmp(in ? in : "", "tool") && !strcmp(key, "version"))
		to = &p->tool;
	else if (!p->depth && !strcmp(key, "taken_at"))
		to = &p->taken_at;
	if (to && !*to)
		*to = asc_fmt_value(v, &o->opts, false);
}

static void field(struct asc_out *o, const char *key, const char *label, struct asc_value v)
{
	if (priv(o)->in_head) {
		head_field(o, key, v);
		return;
	}
	if (!label)
		return;
	ASC_AUTO(asc_freep) char *s = asc_fmt_value(v, &o->opts, false);
	turn_to(o, OPEN_FIELDS);
	fputs("<dt>", o->f);
	put_plain(o->f, label);
	fputs("</dt><dd>", o->f);
	put_plain(o->f, s ? s : "?");
	fputs("</dd>\n", o->f);
}

static void item(struct asc_out *o, struct asc_value v)
{
	if (priv(o)->in_head)
		return;
	ASC_AUTO(asc_freep) char *s = asc_fmt_value(v, &o->opts, false);
	turn_to(o, OPEN_PRE);
	put_plain(o->f, s ? s : "?");
	putc('\n', o->f);
}

static void text(struct asc_out *o, const char *line)
{
	if (priv(o)->in_head) {
		free(priv(o)->headline);
		priv(o)->headline = strdup(line);
		return;
	}
	if (!*line && priv(o)->open != OPEN_PRE)
		return; /* the page has distances of its own */
	turn_to(o, OPEN_PRE);
	put_coloured(o->f, line);
	putc('\n', o->f);
}

static void title(struct asc_out *o, const char *line)
{
	turn_to(o, OPEN_NOTHING);
	title_line(o, line);
}

/* ---- bars ---- */

static void bar(struct asc_out *o, const char *label, struct asc_value v, double share,
		enum asc_color c)
{
	ASC_AUTO(asc_freep) char *s = asc_fmt_value(v, &o->opts, false);

	turn_to(o, OPEN_BARS);
	FILE *f = priv(o)->rows;
	if (!f)
		return;
	fputs("<tr><td>", f);
	put_plain(f, label);
	fprintf(f, "</td><td class=\"n\">%s</td><td class=\"n\">", s ? s : "?");
	if (v.type == ASC_T_BYTES)
		fprintf(f, "%.0f%%", share * 100);
	fputs("</td><td class=\"bar\">", f);
	if (v.type == ASC_T_BYTES && share > 0) {
		double percent = (share < 1 ? share : 1) * 100;
		fprintf(f, "<i style=\"width:%.2f%%;background:var(--%s)\"></i>", percent,
			colour(c));
		fprintf(o->f, "<i title=\"%s\" style=\"width:%.2f%%;background:var(--%s)\"></i>",
			label, percent, colour(c));
	}
	fputs("</td></tr>\n", f);
}

/* ---- tables ---- */

static bool shown(const struct asc_col *c)
{
	return c->head && !(c->flags & ASC_COL_NOTEXT);
}

static void table(struct asc_out *o, const char *key, const char *title, const char *record,
		  const struct asc_col *cols, size_t ncols)
{
	struct html *p = priv(o);

	(void)key;
	(void)record;
	turn_to(o, OPEN_NOTHING);
	if (title)
		title_line(o, title);
	p->cols = cols;
	p->ncols = ncols;
	fputs("<div class=\"wide\"><table><thead><tr>", o->f);
	for (size_t i = 0; i < ncols; i++) {
		if (!shown(&cols[i]))
			continue;
		fprintf(o->f, "<th%s>", cols[i].flags & ASC_COL_RIGHT ? " class=\"n\"" : "");
		put_plain(o->f, cols[i].head);
		fputs("</th>", o->f);
	}
	fputs("</tr></thead><tbody>\n", o->f);
}

/* What the script sorts by. */
static void put_worth(FILE *f, struct asc_value v)
{
	switch (v.type) {
	case ASC_T_BYTES:
	case ASC_T_COUNT:
		fprintf(f, " data-v=\"%llu\"", (unsigned long long)v.u);
		break;
	case ASC_T_INT:
		fprintf(f, " data-v=\"%lld\"", (long long)v.i);
		break;
	case ASC_T_MS:
	case ASC_T_SECONDS:
	case ASC_T_RATIO:
		fprintf(f, " data-v=\"%.6f\"", v.d);
		break;
	case ASC_T_NONE:
	case ASC_T_UNKNOWN:
		fputs(" data-v=\"-1\"", f);
		break;
	default:
		break;
	}
}

static void row(struct asc_out *o, const struct asc_value *v)
{
	const struct html *p = priv(o);

	fputs("<tr>", o->f);
	for (size_t i = 0; i < p->ncols; i++) {
		if (!shown(&p->cols[i]))
			continue;
		ASC_AUTO(asc_freep) char *s = asc_fmt_value(v[i], &o->opts, true);
		bool right = p->cols[i].flags & ASC_COL_RIGHT;
		fprintf(o->f, "<td%s", right ? " class=\"n\"" : "");
		if (right)
			put_worth(o->f, v[i]);
		putc('>', o->f);
		put_plain(o->f, s ? s : "?");
		fputs("</td>", o->f);
	}
	fputs("</tr>\n", o->f);
}

const struct asc_format_ops asc_html_ops = {
	.create = create,
	.destroy = destroy,
	.begin = begin,
	.head_end = head_end,
	.end = end,
	.cancel = cancel,
	.object = group,
	.object_end = group_end,
	.list = group,
	.list_end = group_end,
	.item = item,
	.field = field,
	.table = table,
	.row = row,
	.table_end = table_end,
	.text = text,
	.title = title,
	.bar = bar,
};
