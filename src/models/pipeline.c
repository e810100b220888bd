/* SPDX-License-Identifier: MIT */
/* pipeline.c -- model_index.json of a diffusers pipeline: of the kinds read here, which one it is.
 *
 * _class_name is what the folder was saved from, so that SDXL's base comes as StableDiffusionXLPipeline, and as
 * StableDiffusionXLImg2ImgPipeline too. The refiner is the latter with requires_aesthetics_score: it has only the
 * second text encoder and is told a score. Stable Diffusion 3 likewise is StableDiffusion3Pipeline and what begins with
 * that name; its third text encoder is left out where model_index.json has null for it, or there is no such folder.
 * diffusers pipelines/stable_diffusion_xl and stable_diffusion_3. */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "formats/affix.h"
#include "formats/folder.h"
#include "formats/json_file.h"
#include "src/models/pipeline.h"

/* Of [library, class], or null, as diffusers writes what a pipeline lacks: whether it is named. */
static bool is_named(const json_t *index, const char *part)
{
    const json_t *value = json_object_get(index, part);
    return !json_is_null(value) && !(json_is_array(value) && json_is_null(json_array_get(value, 0)));
}

static int read_index(Pipeline *p, const char *file, const char *dir, const json_t *index, Err *e)
{
    char path[PATH_MAX];
    const bool pair = folder_has(dir, "text_encoder_2", path), transformer = folder_has(dir, "transformer", path);
    const char *class;
    bool score;
    if (json_get_text(file, index, "_class_name", "", &class, e)
        || json_get_bool(file, index, "force_zeros_for_empty_prompt", true, &p->zeros, e)
        || json_get_bool(file, index, "requires_aesthetics_score", false, &score, e))
        return -1;
    p->sd3 = starts_with(class, "StableDiffusion3") || (transformer && !*class);
    p->t5 = p->sd3 && is_named(index, "text_encoder_3") && folder_has(dir, "text_encoder_3", path);
    p->xl = starts_with(class, "StableDiffusionXL") || (pair && !*class && !p->sd3);
    if (pair && !p->xl && !p->sd3)
        return err_set(e, "%s: \"_class_name\" is \"%.60s\"; of models with a text_encoder_2 only "
                       "StableDiffusionXLPipeline and StableDiffusion3Pipeline are implemented", file, class);
    if (p->xl && score)
        return err_set(e, "%s: \"requires_aesthetics_score\" is true: this is a refiner (%.60s), which is not "
                       "implemented", file, class);
    return 0;
}

int pipeline_read(Pipeline *p, const char *dir, Err *e)
{
    char path[PATH_MAX];
    json_t *index = folder_has(dir, "model_index.json", path) ? json_file_load(path, e) : json_object();
    const int failed = index ? read_index(p, path, dir, index, e) : -1;
    json_decref(index);
    return failed;
}
