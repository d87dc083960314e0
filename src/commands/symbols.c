/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Which file gave which fact, and everything that was tried. */
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "commands/cmd.h"

static struct asc_value str(const char *s)
{
	return s && s[0] ? ASC_V_STR(s) : ASC_V_NONE;
}

static void print_facts(const struct asc_libc *lib, struct asc_out *o)
{
	static const struct asc_col cols[] = {
		{ "name", "FACT", 0 },
		{ "value", "VALUE", ASC_COL_RIGHT },
		{ "from", "FROM", 0 },
	};

	asc_out_table(o, "facts", NULL, "fact", cols, ASC_ARRAY_SIZE(cols));
	for (size_t i = 0; i < lib->nfacts; i++) {
		const struct asc_fact *f = &lib->facts[i];

		asc_out_row(o, (struct asc_value[]){
				       ASC_V_STR(f->name),
				       f->value ? ASC_V_ADDR(f->value) : ASC_V_NONE,
				       ASC_V_STR(f->from),
			       });
	}
	asc_out_table_end(o);
}

static void print_member(struct asc_out *o, const char *type, const char *member,
			 struct asc_field f)
{
	if (!f.present)
		return;
	asc_out_row(o, (struct asc_value[]){
			       ASC_V_STR(type),
			       ASC_V_STR(member),
			       ASC_V_COUNT(f.off),
			       ASC_V_COUNT(f.size),
		       });
}

/* The whole shape: what a bug report needs. */
static void print_members(const struct asc_layout *l, struct asc_out *o)
{
	static const struct asc_col cols[] = {
		{ "struct", "STRUCT", 0 },
		{ "member", "MEMBER", 0 },
		{ "offset", "OFFSET", ASC_COL_RIGHT },
		{ "size_bytes", "BYTES", ASC_COL_RIGHT },
	};

	asc_out_table(o, "members", "Members", "member", cols, ASC_ARRAY_SIZE(cols));
#define S(type)
#define M(type, member, need) print_member(o, #type, #member, l->type##_##member);
#include "glibc/schema.def"
#undef S
#undef M
	asc_out_table_end(o);
}

static void print_libc(const struct asc_session *s, const struct asc_libc *lib, bool members,
		       struct asc_out *o)
{
	const char *path = lib->module ? lib->module->path : NULL;

	asc_out_object(o, NULL, NULL);
	asc_out_field(o, "path", "libc", str(path));
	asc_out_field(o, "version", "version",
		      lib->version[0] ? ASC_V_STR(lib->version) : ASC_V_UNKNOWN);
	asc_out_field(o, "build_id", "build-id",
		      lib->build_id[0] ? ASC_V_STR(lib->build_id) : ASC_V_UNKNOWN);
	asc_out_field(o, "layout", "layout", ASC_V_STR(asc_layout_from_name(lib->layout.from)));
	asc_out_field(o, "primary", NULL, ASC_V_BOOL(lib->primary));
	asc_out_field(o, "file", "file", str(lib->module ? lib->module->file_path : NULL));
	asc_out_field(o, "debug_file", "debug file",
		      str(lib->module ? lib->module->debug_path : NULL));
	print_facts(lib, o);
	if (members || !asc_out_is_text(o))
		print_members(&lib->layout, o);
	if (lib->module && !lib->module->debug_ok) {
		ASC_AUTO(asc_freep) char *advice = asc_module_advice(s->modules, lib->module);

		asc_out_field(o, "advice", "debug symbols", str(advice));
	}
	asc_out_object_end(o);
}

static void print_modules(struct asc_modules *m, struct asc_out *o)
{
	static const struct asc_col cols[] = {
		{ "start", "START", ASC_COL_RIGHT },
		{ "path", "MODULE", 0 },
		{ "build_id", "BUILD-ID", 0 },
		{ "file_from", "FILE", 0 },
		{ "debug_from", "DEBUG", 0 },
		{ "end", "END", ASC_COL_NOTEXT },
		{ "soname", "SONAME", ASC_COL_NOTEXT },
		{ "file", "FILE PATH", ASC_COL_NOTEXT },
		{ "debug_file", "DEBUG PATH", ASC_COL_NOTEXT },
		{ "deleted", "DELETED", ASC_COL_NOTEXT },
	};

	asc_out_table(o, "modules", "Modules", "module", cols, ASC_ARRAY_SIZE(cols));
	for (size_t i = 0; i < asc_modules_count(m); i++) {
		const struct asc_module *mod = asc_modules_get(m, i);

		asc_out_row(o, (struct asc_value[]){
				       ASC_V_ADDR(mod->start),
				       str(mod->is_vdso ? "[vdso]" : mod->path),
				       str(mod->build_id),
				       str(mod->file_from),
				       str(mod->debug_from),
				       ASC_V_ADDR(mod->end),
				       str(mod->soname),
				       str(mod->file_path),
				       str(mod->debug_path),
				       ASC_V_BOOL(mod->deleted),
			       });
	}
	asc_out_table_end(o);
}

/* In text only what matters for malloc, or everything on demand. */
static void print_tried(struct asc_modules *m, const struct asc_session *s, bool all,
			struct asc_out *o)
{
	static const struct asc_col cols[] = {
		{ "module", "MODULE", 0 },
		{ "what", "TRIED", 0 },
		{ "result", "RESULT", 0 },
	};

	asc_out_table(o, "tried", "Tried", "tried", cols, ASC_ARRAY_SIZE(cols));
	for (size_t i = 0; i < asc_modules_count(m); i++) {
		const struct asc_module *mod = asc_modules_get(m, i);
		const char *base = strrchr(mod->path, '/');
		bool libc = !strcmp(mod->soname, "libc.so.6");

		for (size_t k = 0; k < s->nlibcs; k++)
			libc |= s->libcs[k].module == mod;
		if (!libc && !all && asc_out_is_text(o))
			continue;
		for (size_t k = 0; k < mod->ntried; k++)
			asc_out_row(o, (struct asc_value[]){
					       ASC_V_STR(base ? base + 1 : mod->path),
					       ASC_V_STR(mod->tried[k].what),
					       ASC_V_STR(mod->tried[k].result),
				       });
	}
	asc_out_table_end(o);
}

static struct asc_error *run(struct asc_session *s, const struct asc_args *a, struct asc_out *o)
{
	bool all = asc_args_has(a, "all");
	struct asc_error *err;

	/* that there is none is an answer here, and exit status 1 */
	err = asc_session_need(s, ASC_NEED_LIBC);
	if (err && err->code != ASC_ENOSYM && err->code != ASC_EUNSUPPORTED)
		return err;
	asc_modules_load_all(s->modules);
	asc_out_list(o, "libcs", NULL);
	for (size_t i = 0; i < s->nlibcs; i++)
		print_libc(s, &s->libcs[i], all, o);
	asc_out_list_end(o);
	if (err) {
		ASC_AUTO(asc_freep) char *text = asc_error_text(err);
		const char *why = asc_error_why(err), *hint = asc_error_hint(err);

		asc_out_warn(o, asc_error_id(err) ? asc_error_id(err) : "E-NOSYM", "%s%s%s%s%s",
			     text ? text : "?", why ? ": " : "", why ? why : "",
			     hint ? "; try: " : "", hint ? hint : "");
		asc_out_partial(o);
		asc_error_free(err);
	}
	print_modules(s->modules, o);
	print_tried(s->modules, s, all, o);
	return NULL;
}

static const struct asc_cmd_opt opts[] = {
	{ .name = "all",
	  .summary = "in text, struct members and what was tried for every module, too" },
	{ 0 },
};

const struct asc_cmd asc_cmd_symbols = {
	.name = "symbols",
	.args = "[--all]",
	.summary = "which file gave which fact, build-ids, everything that was tried",
	.help = "For every copy of libc: its version, its build-id as the mapped image says it, "
		"where\n"
		"its malloc's structures are and what told us so. The layout is from DWARF (a "
		"debug\n"
		"file with that build-id), from the built-in table of releases (table), or told "
		"by\n"
		"the shape of the data itself (scan); the last two are checked by invariants "
		"before use.\n"
		"\n"
		"For every module: its build-id, which file was opened for it and how that was "
		"found.\n"
		"A file with another build-id is never used. `tried` lists each place that was "
		"looked at.",
	.opts = opts,
	.needs = ASC_NEED_SYMBOLS,
	.flags = ASC_CMD_FIELDS,
	.run = run,
};
