/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Structs by name from DWARF: only complete definitions, only their direct members. */
#include "symbols/types.h"

#include <dwarf.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "symbols/minidwarf.h"
#include "symbols/priv.h"

enum { TYPES_MAX = 16, MEMBERS_MAX = 256, DEPTH_MAX = 32 };

struct member {
	char name[48];
	uint32_t off, size, elem;
};

struct type {
	const char *name; /* of the caller's list, copied */
	bool complete;
	uint64_t size;
	ASC_VEC(struct member) members;
};

struct asc_types {
	struct type v[TYPES_MAX];
	size_t n, found;
};

void asc_types_close(struct asc_types *types)
{
	if (!types)
		return;
	for (size_t i = 0; i < types->n; i++) {
		free((char *)types->v[i].name);
		asc_vec_free(&types->v[i].members);
	}
	free(types);
}

static void types_closep(struct asc_types **t)
{
	asc_types_close(*t);
}

static bool attr_uint(Dwarf_Die *die, unsigned at, uint64_t *ret)
{
	Dwarf_Attribute a;
	Dwarf_Word w;

	if (!dwarf_attr(die, at, &a) || dwarf_formudata(&a, &w))
		return false;
	*ret = w;
	return true;
}

/* Past typedefs and qualifiers. */
static bool peeled(Dwarf_Die *die, Dwarf_Die *ret)
{
	Dwarf_Attribute a;

	for (int i = 0; i < DEPTH_MAX; i++) {
		if (!dwarf_attr_integrate(die, DW_AT_type, &a) || !dwarf_formref_die(&a, ret))
			return false;
		switch (dwarf_tag(ret)) {
		case DW_TAG_typedef:
		case DW_TAG_const_type:
		case DW_TAG_volatile_type:
		case DW_TAG_atomic_type:
		case DW_TAG_restrict_type:
			die = ret;
			continue;
		default:
			return true;
		}
	}
	return false;
}

static uint64_t array_count(Dwarf_Die *array)
{
	uint64_t n = 1, v;
	Dwarf_Die dim;

	if (dwarf_child(array, &dim))
		return 0;
	do {
		if (dwarf_tag(&dim) != DW_TAG_subrange_type)
			continue;
		if (attr_uint(&dim, DW_AT_count, &v) ||
		    (attr_uint(&dim, DW_AT_upper_bound, &v) && asc_add(v, 1, &v)))
			n = asc_mul(n, v, &n) ? n : 0;
		else
			n = 0;
	} while (!dwarf_siblingof(&dim, &dim));
	return n;
}

/* Bytes of a type; pointers have the unit's address size. */
static uint64_t size_of(Dwarf_Die *die, uint8_t address_size)
{
	uint64_t v;

	if (attr_uint(die, DW_AT_byte_size, &v))
		return v;
	return dwarf_tag(die) == DW_TAG_pointer_type ? address_size : 0;
}

static struct asc_error *add_member(struct type *t, Dwarf_Die *die)
{
	const char *name = dwarf_diename(die);
	Dwarf_Die type, elem, cu;
	struct member m = { 0 };
	uint8_t address_size = 8;
	uint64_t off, size;

	if (!name || strlen(name) >= sizeof(m.name) || t->members.len >= MEMBERS_MAX)
		return NULL;
	if (!attr_uint(die, DW_AT_data_member_location, &off) || !peeled(die, &type))
		return NULL;
	dwarf_diecu(die, &cu, &address_size, NULL);
	if (dwarf_tag(&type) == DW_TAG_array_type) {
		uint64_t n = array_count(&type);

		if (!peeled(&type, &elem))
			return NULL;
		m.elem = (uint32_t)size_of(&elem, address_size);
		if (!asc_mul(n, m.elem, &size))
			return NULL;
	} else {
		size = size_of(&type, address_size);
		m.elem = (uint32_t)size;
	}
	if (off > UINT32_MAX || size > UINT32_MAX || !size)
		return NULL;
	m.off = (uint32_t)off;
	m.size = (uint32_t)size;
	memcpy(m.name, name, strlen(name) + 1);
	return asc_vec_push(&t->members, m);
}

static struct asc_error *add_struct(struct asc_types *types, Dwarf_Die *die, const char *name)
{
	struct type *t = NULL;
	Dwarf_Attribute a;
	Dwarf_Die child;
	uint64_t size;
	bool flag;

	for (size_t i = 0; i < types->n && !t; i++)
		if (!strcmp(types->v[i].name, name))
			t = &types->v[i];
	if (!t || t->complete)
		return NULL;
	if (dwarf_attr(die, DW_AT_declaration, &a) && !dwarf_formflag(&a, &flag) && flag)
		return NULL;
	if (!attr_uint(die, DW_AT_byte_size, &size) || dwarf_child(die, &child))
		return NULL;
	t->size = size;
	do {
		if (dwarf_tag(&child) == DW_TAG_member)
			ASC_TRY(add_member(t, &child));
	} while (!dwarf_siblingof(&child, &child));
	t->complete = true;
	types->found++;
	return NULL;
}

/*
 * The structs of a unit are children of its DIE. A typedef of an unnamed struct, as malloc.c has
 * for the tcache, counts by the typedef's name.
 */
static struct asc_error *scan_unit(struct asc_types *types, Dwarf_Die *unit)
{
	Dwarf_Die die, target;
	const char *name;

	if (dwarf_child(unit, &die))
		return NULL;
	do {
		switch (dwarf_tag(&die)) {
		case DW_TAG_structure_type:
			name = dwarf_diename(&die);
			if (name)
				ASC_TRY(add_struct(types, &die, name));
			break;
		case DW_TAG_typedef:
			name = dwarf_diename(&die);
			if (name && peeled(&die, &target) &&
			    dwarf_tag(&target) == DW_TAG_structure_type)
				ASC_TRY(add_struct(types, &target, name));
			break;
		default:
			break;
		}
	} while (types->found < types->n && !dwarf_siblingof(&die, &die));
	return NULL;
}

static struct asc_error *scan(struct asc_types *types, struct asc_minidwarf *d)
{
	Dwarf_CU *cu = NULL;
	Dwarf_Die unit;
	uint8_t type;

	if (d->unit) {
		if (!dwarf_offdie(d->dw, d->unit, &unit))
			return NULL;
		return scan_unit(types, &unit);
	}
	while (types->found < types->n &&
	       !dwarf_get_units(d->dw, cu, &cu, NULL, &type, &unit, NULL))
		ASC_TRY(scan_unit(types, &unit));
	return NULL;
}

static struct asc_error *scan_file(struct asc_types *types, struct asc_elf *e, uint64_t vaddr,
				   bool *ret)
{
	struct asc_minidwarf d = { 0 };
	struct asc_error *err;

	*ret = asc_minidwarf_open(e, vaddr, &d);
	if (!*ret)
		return NULL;
	err = scan(types, &d);
	asc_minidwarf_close(&d);
	return err;
}

struct asc_error *asc_types_open(struct asc_modules *m, struct asc_module *mod,
				 const char *const *names, asc_addr near_code,
				 struct asc_types **ret)
{
	ASC_AUTO(types_closep) struct asc_types *types = calloc(1, sizeof(*types));
	struct asc_elf *e = asc_module_debug_elf(m, mod);
	bool any = false;

	if (!types)
		return asc_err(ASC_ENOMEM, "types of %s", mod->path);
	for (; names[types->n] && types->n < TYPES_MAX; types->n++) {
		types->v[types->n].name = strdup(names[types->n]);
		if (!types->v[types->n].name)
			return asc_err(ASC_ENOMEM, "types of %s", mod->path);
	}
	if (e)
		ASC_TRY(scan_file(types, e, near_code ? near_code - mod->bias : 0, &any));
	/* not in the unit where they were expected: look everywhere */
	if (e && any && near_code && !types->found)
		ASC_TRY(scan_file(types, e, 0, &any));
	if (!types->found)
		return asc_err(ASC_ENOTFOUND, "no DWARF types for %s", mod->path);
	*ret = asc_take(types);
	return NULL;
}

static const struct type *find(const struct asc_types *types, const char *name)
{
	for (size_t i = 0; i < types->n; i++)
		if (types->v[i].complete && !strcmp(types->v[i].name, name))
			return &types->v[i];
	return NULL;
}

bool asc_type_size(const struct asc_types *types, const char *name, uint64_t *ret)
{
	const struct type *t = find(types, name);

	if (!t)
		return false;
	*ret = t->size;
	return true;
}

bool asc_type_member(const struct asc_types *types, const char *name, const char *member,
		     uint32_t *off, uint32_t *size, uint32_t *elem)
{
	const struct type *t = find(types, name);

	for (size_t i = 0; t && i < t->members.len; i++) {
		const struct member *m = &t->members.data[i];

		if (strcmp(m->name, member))
			continue;
		*off = m->off;
		*size = m->size;
		*elem = m->elem;
		return true;
	}
	return false;
}
