/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef ASC_HEAP_IMAGE_PRIV_H
#define ASC_HEAP_IMAGE_PRIV_H

#include "heap_image.h"

/* The layout that glibc 2.@p minor has, and every trait. */
void hi_layout(struct asc_layout *l, unsigned word, unsigned minor);

#endif
