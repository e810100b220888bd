/* SPDX-License-Identifier: MIT */
/* pipeline.c -- model_index.json of a diffusers pipeline: of the kinds read here, which one it is.
 *
 * _class_name is what the folder was saved from, so that SDXL's base comes as StableDiffusionXLPipeline, and as
 * StableDiffusionXLImg2ImgPipeline too. The refiner is the latter with requires_aesthetics_score: it has only the
 * second text encoder and is told a score. diffusers pipelines/stable_diffusion_xl. */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "formats/affix.h"
#include "formats/json_file.h"
#include "src/models/pipeline.h"

static bool exists(const char *dir, const char *name, char path[PATH_MAX])
{
    return snprintf(path, PATH_MAX, "%s/%s", dir, name) < PATH_MAX && access(path, F_OK) == 0;
}

static int read_index(Pipeline *p, const char *file, const json_t *index, bool pair, Err *e)
{
    const char *class;
    bool score;
    if (json_get_text(file, index, "_class_name", "", &class, e)
        || json_get_bool(file, index, "force_zeros_for_empty_prompt", true, &p->zeros, e)
        || json_get_bool(file, index, "requires_aesthetics_score", false, &score, e))
        return -1;
    p->xl = starts_with(class, "StableDiffusionXL") || (pair && !*class);
    if (pair && !p->xl)
        return err_set(e, "%s: \"_class_name\" is \"%.60s\"; of models with a text_encoder_2 only "
                       "StableDiffusionXLPipeline is implemented", file, class);
    if (p->xl && score)
        return err_set(e, "%s: \"requires_aesthetics_score\" is true: this is a refiner (%.60s), which is not "
                       "implemented", file, class);
    return 0;
}

int pipeline_read(Pipeline *p, const char *dir, Err *e)
{
    char path[PATH_MAX];
    const bool pair = exists(dir, "text_encoder_2", path), listed = exists(dir, "model_index.json", path);
    json_t *index = listed ? json_file_load(path, e) : json_object();
    const int failed = index ? read_index(p, path, index, pair, e) : -1;
    json_decref(index);
    return failed;
}
