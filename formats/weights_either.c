/* SPDX-License-Identifier: MIT */
/* weights_either.c -- a file of weights, whichever of the kinds it is: by its first bytes, since names lie. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "formats/fdio.h"
#include "formats/gguf.h"
#include "formats/torch_zip.h"
#include "formats/weights_either.h"

static int open_kind(Weights **w, const char *path, bool blocks, Err *e)
{
    char begin[9] = {0};
    *w = NULL;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_set(e, "%s: %s", path, strerror(errno));
    const int whole = fd_read_at(fd, begin, sizeof begin, 0) == 0;
    close(fd);
    /* A safetensors header is a JSON object; torch wrote a zip, and before 1.6 a bare pickle. */
    if (whole && begin[8] != '{' && (memcmp(begin, "PK\3\4", 4) == 0 || (uint8_t)begin[0] == 0x80))
        return torch_zip_open(w, path, e);
    if (!whole || begin[8] == '{' || memcmp(begin, "GGUF", 4) != 0)
        return blocks ? weights_open_packed(w, path, e) : weights_open(w, path, e);
    return blocks ? gguf_open(w, path, e)
                  : err_set(e, "%s: is a GGUF file, expected safetensors or a file of torch.save", path);
}

int weights_open_either(Weights **w, const char *path, Err *e)
{
    return open_kind(w, path, false, e);
}

int weights_open_any(Weights **w, const char *path, Err *e)
{
    return open_kind(w, path, true, e);
}
