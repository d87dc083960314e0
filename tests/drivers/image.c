/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A command on an image: every byte, thread and auxv entry of a core is put into an image by the library's
 * public calls, the core is closed, and the command runs on that. Numbers must be those of the core.
 *
 * image CORE COMMAND [ARG...]		one JSON document; exit status as the program's
 */
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/arch.h"
#include "base/cleanup.h"
#include "base/num.h"
#include "commands/cmd.h"
#include "target/target.h"

static struct asc_error *add_map(struct asc_target *from, struct asc_target *to,
				 const struct asc_map *m)
{
	const size_t page = (size_t)asc_target_page_size(from);
	const size_t len = (size_t)(m->end - m->start);
	ASC_AUTO(asc_freep) uint8_t *bytes = calloc(1, len);

	if (!bytes)
		return asc_err(ASC_ENOMEM, "%zu bytes of a mapping", len);
	/* what the core does not hold stays zero */
	for (size_t at = 0; at < len; at += page)
		asc_read_some(from, m->start + at, bytes + at, asc_min(page, len - at));
	return asc_image_add(to, m, bytes);
}

static struct asc_error *copy(struct asc_target *from, struct asc_target **ret)
{
	const struct asc_maps *maps = asc_target_maps(from);
	size_t n;
	const struct asc_thread *th = asc_target_threads(from, &n);
	uint64_t value;

	ASC_AUTO(asc_target_closep) struct asc_target *image = NULL;
	ASC_TRY(asc_image_new(asc_target_arch(from)->name, &image));
	for (size_t i = 0; i < maps->n; i++)
		ASC_TRY(add_map(from, image, &maps->v[i]));
	for (size_t i = 0; i < n; i++)
		ASC_TRY(asc_image_add_thread(image, &th[i]));
	for (uint64_t type = 1; type < 64; type++) {
		if (asc_target_auxv(from, type, &value))
			ASC_TRY(asc_image_set_auxv(image, type, value));
	}
	*ret = asc_take(image);
	return NULL;
}

static struct asc_error *run(int argc, char **argv, int *status)
{
	const struct asc_session_opts so = { .core = argv[1], .max_memory = UINT64_C(4) << 30 };
	const struct asc_out_opts oo = { .format = ASC_JSON };
	const struct asc_cmd *cmd = NULL;
	ASC_AUTO(asc_args_freep) struct asc_args *args = NULL;
	struct asc_session *s = NULL;
	struct asc_target *image = NULL;
	struct asc_out *o = NULL;
	bool complete = false;

	ASC_TRY(asc_cmd_lookup(argv[2], NULL, false, &cmd));
	ASC_TRY(asc_args_parse(cmd, argc - 2, argv + 2, &args));
	ASC_TRY(asc_session_open(&so, &s));
	struct asc_error *err = copy(s->data, &image);
	if (!err) {
		asc_target_close(s->data);
		s->data = image;
		err = asc_out_new(stdout, &oo, &o);
	}
	if (!err)
		err = asc_session_run(s, cmd, args, o, &complete);
	asc_out_free(o);
	asc_session_close(s);
	*status = complete ? 0 : 1;
	return err;
}

int main(int argc, char **argv)
{
	int status = 2;

	setlocale(LC_CTYPE, "C.UTF-8");
	if (argc < 3)
		return 64;
	struct asc_error *err = run(argc, argv, &status);
	if (err) {
		ASC_AUTO(asc_freep) char *text = asc_error_text(err);
		fprintf(stderr, "%s\n", text ? text : "?");
		status = asc_error_exit(err);
		asc_error_free(err);
	}
	return status;
}
