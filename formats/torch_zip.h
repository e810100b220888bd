/* SPDX-License-Identifier: MIT */
/* torch_zip.h -- what torch.save writes (.pth, .pt, .bin), read without executing anything.
 *
 *     STEM/data.pkl      a pickle of nested dicts and lists of tensors: what unpickle.h knows, the rest is refused
 *     STEM/data/KEY      the bytes of a storage, little-endian
 *     STEM/byteorder     "little" where present
 *
 * in a zip whose entries are stored, not compressed (APPNOTE.TXT 4.3; zip64 too). Files older than torch 1.6 (no zip)
 * are refused. Each size is checked against the file before it is used. The CRCs of the zip are not checked: torch can
 * be told to write none. */
#ifndef FORMATS_TORCH_ZIP_H
#define FORMATS_TORCH_ZIP_H

#include <stdbool.h>
#include "formats/weights.h"

/* Maps the file and lists its tensors by their keys joined with dots ("state_dict.encoder.weight"); what is no tensor
 * is passed over, but for texts of the outermost dict, which are the metadata. A tensor's data is contiguous: views
 * with other strides are copied. *w is NULL on failure. */
int torch_zip_open(Weights **w, const char *path, Err *e);
/* Whether a file has a name that torch.save's have: .bin, .ckpt, .pth, .pt. */
bool torch_file_named(const char *name);

#endif
