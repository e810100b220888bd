/* SPDX-License-Identifier: MIT */
/* float8.h -- numbers of eight bits, as safetensors files have them: each a block of one value for those who unpack
 * blocks (gguf_types.h). f16 holds every value of either type. */
#ifndef FORMATS_FLOAT8_H
#define FORMATS_FLOAT8_H

#include "formats/gguf_types.h"

/* Of "F8_E4M3" or "F8_E5M2", as safetensors spells them; NULL of others. */
const GgufType *float8_type(const char *safetensors);

#endif
