// SPDX-License-Identifier: GPL-3.0-or-later
/* The renderers and the arguments of commands: the same calls, each format held to its text. */
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <cmocka.h>

#include "commands/cmd.h"
#include "render/render.h"

static const struct asc_col cols[] = {
	{ "index", "N", ASC_COL_RIGHT },
	{ "size_bytes", "SIZE", ASC_COL_RIGHT },
	{ "name", "NAME", 0 },
	{ "hidden", NULL, ASC_COL_NOTEXT },
};

static void head(void *arg, struct asc_out *o)
{
	(void)arg;
	asc_out_field(o, "schema", NULL, ASC_V_STR("arenascope/x"));
}

static void document(struct asc_out *o)
{
	asc_out_begin(o, "x");
	asc_out_set_head(o, head, NULL);
	asc_out_field(o, "total_bytes", "total", ASC_V_BYTES(1536));
	asc_out_field(o, "unknown", "a longer label", ASC_V_UNKNOWN);
	asc_out_object(o, "inner", NULL);
	asc_out_field(o, "address", NULL, ASC_V_ADDR(0x7f00deadbeef));
	asc_out_object_end(o);
	asc_out_table(o, "rows", NULL, "row", cols, 4);
	for (unsigned i = 0; i < 2; i++) {
		const struct asc_value v[] = {
			ASC_V_COUNT(i),
			ASC_V_BYTES(UINT64_C(1) << (i * 63)),
			ASC_V_STR(i ? "a\033[31m,\"\xff" : "plain"),
			ASC_V_NONE,
		};
		asc_out_row(o, v);
	}
	asc_out_table_end(o);
}

static char *render(enum asc_format format, bool exact, void (*make)(struct asc_out *o))
{
	const struct asc_out_opts opts = { .format = format, .exact_bytes = exact };
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	struct asc_out *o = NULL;

	assert_non_null(f);
	assert_null(asc_out_new(f, &opts, &o));
	make(o);
	assert_null(asc_out_end(o, true));
	asc_out_free(o);
	fclose(f);
	return text;
}

static void is(char *text, const char *want)
{
	assert_string_equal(text, want);
	free(text);
}

static void test_text(void **state)
{
	(void)state;
	is(render(ASC_TEXT, false, document), "total           1.5 KiB\n"
					      "a longer label  ?\n"
					      "N  SIZE  NAME\n"
					      "0     1  plain\n"
					      "1  8.0E  a\\x1b[31m,\"\\xff\n");
	is(render(ASC_TEXT, true, document), "total           1536\n"
					     "a longer label  ?\n"
					     "N                 SIZE  NAME\n"
					     "0                    1  plain\n"
					     "1  9223372036854775808  a\\x1b[31m,\"\\xff\n");
}

static void test_json(void **state)
{
	(void)state;
	is(render(ASC_JSON, false, document),
	   "{\n"
	   "  \"schema\":\"arenascope/x\",\n"
	   "  \"total_bytes\":1536,\n"
	   "  \"unknown\":null,\n"
	   "  \"inner\":{\n"
	   "    \"address\":\"0x7f00deadbeef\"\n"
	   "  },\n"
	   "  \"rows\":[\n"
	   "    {\"index\":0,\"size_bytes\":1,\"name\":\"plain\",\"hidden\":null},\n"
	   "    "
	   "{\"index\":1,\"size_bytes\":9223372036854775808,\"name\":\"a\\u001b[31m,\\\"\\\\xff\","
	   "\"hidden\":null}\n"
	   "  ],\n"
	   "  \"complete\":true,\n"
	   "  \"warnings\":[]\n"
	   "}\n");
}

static void test_jsonl(void **state)
{
	(void)state;
	is(render(ASC_JSONL, false, document),
	   "{\"record\":\"header\",\"schema\":\"arenascope/x\"}\n"
	   "{\"record\":\"row\",\"index\":0,\"size_bytes\":1,\"name\":\"plain\",\"hidden\":null}\n"
	   "{\"record\":\"row\",\"index\":1,\"size_bytes\":9223372036854775808,\"name\":\"a\\u001b["
	   "31m,\\\"\\\\xff\",\"hidden\":null}\n"
	   "{\"record\":\"end\",\"total_bytes\":1536,\"unknown\":null,\"inner\":{\"address\":"
	   "\"0x7f00deadbeef\"},\"complete\":true,\"warnings\":[]}\n");
}

static void test_csv(void **state)
{
	(void)state;
	is(render(ASC_CSV, false, document), "index,size_bytes,name,hidden\n"
					     "0,1,plain,\n"
					     "1,9223372036854775808,\"a\\x1b[31m,\"\"\\xff\",\n");
}

enum { MANY = 10000 };

static void long_table(struct asc_out *o)
{
	asc_out_begin(o, "x");
	asc_out_table(o, "rows", NULL, "row", cols, 2);
	for (unsigned i = 0; i < MANY; i++) {
		const struct asc_value v[] = { ASC_V_COUNT(i), ASC_V_BYTES(i) };
		asc_out_row(o, v);
	}
	asc_out_table_end(o);
}

/* Rows leave memory for a file in JSON, and are printed in batches in text: none may get lost. */
static void test_long_tables(void **state)
{
	static const struct {
		enum asc_format format;
		const char *form;
	} forms[] = {
		{ ASC_JSON, "    {\"index\":%u,\"size_bytes\":%u}" },
		{ ASC_JSONL, "{\"record\":\"row\",\"index\":%u,\"size_bytes\":%u}\n" },
		{ ASC_CSV, "%u,%u\n" },
	};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		char *text = render(forms[i].format, true, long_table), *at = text, want[80];
		for (unsigned k = 0; k < MANY; k++) {
			snprintf(want, sizeof(want), forms[i].form, k, k);
			at = strstr(at, want);
			assert_non_null(at);
		}
		free(text);
	}
	char *text = render(ASC_TEXT, true, long_table), *at = text;
	unsigned lines = 0, a, b;
	for (; *at; at = strchr(at, '\n') + 1, lines++) {
		if (lines) {
			assert_int_equal(sscanf(at, "%u %u\n", &a, &b), 2);
			assert_true(a == lines - 1 && b == a);
		}
	}
	assert_int_equal(lines, MANY + 1);
	free(text);
}

static void test_bytes(void **state)
{
	static const struct {
		uint64_t v;
		const char *text;
	} want[] = {
		{ 0, "0 B" },		{ 1023, "1023 B" },	    { 1024, "1.0 KiB" },
		{ 1048530, "1.0 MiB" }, { 998047744, "951.8 MiB" }, { UINT64_MAX, "16.0 EiB" },
	};
	char buf[32];

	(void)state;
	for (size_t i = 0; i < sizeof(want) / sizeof(*want); i++)
		assert_string_equal(asc_fmt_bytes(buf, want[i].v, false), want[i].text);
	assert_string_equal(asc_fmt_bytes(buf, UINT64_MAX, true), "18446744073709551615");
	assert_string_equal(asc_fmt_bytes_short(buf, 1258291, false), "1.2M");
	asc_fmt_bar(buf, sizeof(buf), 0.5, 10, true);
	assert_string_equal(buf, "#####");
	asc_fmt_bar(buf, sizeof(buf), 0.0, 10, true);
	assert_string_equal(buf, "");
}

static void escapes_to(const char *s, const char *want)
{
	char *e = asc_escape(s);

	assert_string_equal(e, want);
	free(e);
}

static void test_escape(void **state)
{
	(void)state;
	escapes_to("plain text", "plain text");
	escapes_to("back\\slash", "back\\\\slash");
	escapes_to("\033]0;x\007\r\n\t\177", "\\x1b]0;x\\x07\\x0d\\x0a\\x09\\x7f");
	escapes_to("cut \xe2\x82", "cut \\xe2\\x82");
	escapes_to("over \xc0\xaf", "over \\xc0\\xaf");
	escapes_to("surrogate \xed\xa0\x80", "surrogate \\xed\\xa0\\x80");
	escapes_to("c1 \xc2\x9b", "c1 \\xc2\\x9b");
	escapes_to("bidi \xe2\x80\xae", "bidi \\xe2\\x80\\xae");
	if (asc_utf8_locale())
		escapes_to("\xc3\xa4\xe2\x96\x88", "\xc3\xa4\xe2\x96\x88");
}

/* ---- arguments ---- */

static const struct asc_cmd_opt options[] = {
	{ .name = "arena", .arg = "N" },
	{ .name = "all" },
	{ .name = "size", .arg = "A..B" },
	{ .name = "kind", .arg = "K", .choices = "a|bc" },
	{ 0 },
};
static const struct asc_cmd cmd = { .name = "x", .args = "[N]", .opts = options, .max_args = 1 };

static struct asc_args *parse(char *line, bool want_ok)
{
	char *argv[16], *save = NULL;
	int argc = 0;
	struct asc_args *a = NULL;

	for (char *w = strtok_r(line, " ", &save); w && argc < 16; w = strtok_r(NULL, " ", &save))
		argv[argc++] = w;
	struct asc_error *err = asc_args_parse(&cmd, argc, argv, &a);
	assert_int_equal(err == NULL, want_ok);
	if (err)
		assert_int_equal(err->code, ASC_EUSAGE);
	asc_error_free(err);
	return a;
}

static void test_args(void **state)
{
	uint64_t lo = 1, hi = 2;

	(void)state;
	struct asc_args *a =
		parse((char[]){ "x --size=1K..2K 7 --all -kind bc --size 16.." }, true);
	assert_true(asc_args_has(a, "all") && !asc_args_has(a, "arena"));
	assert_string_equal(asc_args_get(a, "kind"), "bc");
	assert_string_equal(asc_args_at(a, 0), "7");
	assert_int_equal(asc_args_count(a), 1);
	assert_null(asc_args_byte_range(a, "size", &lo, &hi));
	assert_true(lo == 16 && hi == UINT64_MAX);
	asc_args_free(a);
	a = parse((char[]){ "x --size=..1K -- --all" }, true);
	assert_string_equal(asc_args_at(a, 0), "--all");
	assert_null(asc_args_byte_range(a, "size", &lo, &hi));
	assert_true(lo == 0 && hi == 1024);
	asc_args_free(a);
	static const char *const bad[] = { "x --nonsense", "x --all=1", "x --kind=b", "x --kind",
					   "x 1 2" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		char *copy = strdup(bad[i]);
		assert_null(parse(copy, false));
		free(copy);
	}
	static const char *const ranges[] = { "..", "5..4", "x", "1..y", "" };
	for (size_t i = 0; i < sizeof(ranges) / sizeof(*ranges); i++) {
		char line[32];
		snprintf(line, sizeof(line), "x --size=%s", ranges[i]);
		assert_null(parse(line, false));
	}
	assert_null(parse((char[]){ "x --arena=one" }, false));
	asc_args_free(parse((char[]){ "x --arena=0x1f" }, true));
}

static void test_commands(void **state)
{
	const struct asc_cmd *c = NULL;
	static const char *const names[] = { "arenas", "malloc-stats", "find", NULL };

	(void)state;
	for (size_t i = 0; asc_commands[i]; i++) {
		assert_ptr_equal(asc_cmd_by_name(asc_commands[i]->name), asc_commands[i]);
		assert_non_null(asc_commands[i]->args);
		assert_true(*asc_commands[i]->summary && *asc_commands[i]->help);
		assert_non_null(asc_commands[i]->run);
	}
	assert_null(asc_cmd_lookup("chu", NULL, true, &c));
	assert_string_equal(c->name, "chunks");
	assert_null(asc_cmd_lookup("arena", NULL, true, &c));
	assert_string_equal(c->name, "arena");
	struct asc_error *err = asc_cmd_lookup("malloc", NULL, true, &c);
	assert_non_null(err);
	asc_error_free(err);
	err = asc_cmd_lookup("chu", NULL, false, &c);
	assert_non_null(err);
	asc_error_free(err);
	assert_string_equal(asc_nearest("arenaz", names), "arenas");
	assert_string_equal(asc_nearest("stats", names), "malloc-stats");
	assert_null(asc_nearest("completely", names));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),	    cmocka_unit_test(test_json),
		cmocka_unit_test(test_jsonl),	    cmocka_unit_test(test_csv),
		cmocka_unit_test(test_long_tables), cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_escape),	    cmocka_unit_test(test_args),
		cmocka_unit_test(test_commands),
	};

	setlocale(LC_CTYPE, "C.UTF-8");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
