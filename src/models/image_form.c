/* SPDX-License-Identifier: MIT */
/* image_form.c -- the form in which an image tower takes pictures, by the config of its CLIPImageProcessor.
 *
 * DIR/preprocessor_config.json, or "image_processor" of DIR/processor_config.json (CLIPProcessor in transformers 5), or
 * OpenAI's values where there is neither. Means and deviations are read, all else must be what image_prepare does. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "formats/json_file.h"
#include "src/models/image_encoder.h"

enum { BICUBIC = 3 };               /* of Pillow */

static int check_switches(const char *file, const json_t *config, Err *e)
{
    static const char *const switches[] = {"do_resize", "do_center_crop", "do_rescale", "do_normalize"};
    int64_t resample;
    double factor;
    for (int i = 0; i < 4; i++) {
        bool on;
        if (json_get_bool(file, config, switches[i], true, &on, e))
            return -1;
        if (!on)
            return err_set(e, "%s: \"%s\" is false, expected true", file, switches[i]);
    }
    if (json_get_int(file, config, "resample", BICUBIC, &resample, e)
        || json_get_number(file, config, "rescale_factor", 1 / 255.0, &factor, e))
        return -1;
    if (resample != BICUBIC || fabs(factor * 255 - 1) > 1e-6)
        return err_set(e, "%s: \"resample\" is %lld and \"rescale_factor\" %g, expected %d and 1/255", file,
                       (long long)resample, factor, BICUBIC);
    return 0;
}

/* A size, a number or an object of some of these keys, is that of the tower. */
static int check_size(const char *file, const json_t *config, const char *key, const char *const sides[2], int size,
                      Err *e)
{
    const json_t *found = json_object_get(config, key);
    bool good = !found || json_is_null(found) || json_integer_value(found) == size;
    if (json_is_object(found)) {
        good = json_object_size(found) == (sides[1] ? 2 : 1);
        for (int i = 0; i < 2 && sides[i]; i++)
            good = good && json_integer_value(json_object_get(found, sides[i])) == size;
    }
    return good ? 0 : err_set(e, "%s: \"%s\" is not %s %d, as the image tower has it", file, key, sides[0], size);
}

static int read_colours(const char *file, const json_t *config, const char *key, float value[3], Err *e)
{
    const json_t *list = json_object_get(config, key);
    if (!list || json_is_null(list))
        return 0;
    for (size_t c = 0; c < 3; c++) {
        const json_t *one = json_array_get(list, c);
        value[c] = (float)json_number_value(one);
        if (json_array_size(list) != 3 || !json_is_number(one) || (strcmp(key, "image_std") == 0 && !(value[c] > 0)))
            return err_set(e, "%s: \"%s\" is not three numbers of pixels", file, key);
    }
    return 0;
}

static int read_config(ImageForm *f, const char *file, const json_t *config, Err *e)
{
    static const char *const shortest[] = {"shortest_edge", NULL}, *const both[] = {"height", "width"};
    return check_switches(file, config, e) || check_size(file, config, "size", shortest, f->size, e)
        || check_size(file, config, "crop_size", both, f->size, e)
        || read_colours(file, config, "image_mean", f->mean, e)
        || read_colours(file, config, "image_std", f->std, e) ? -1 : 0;
}

int image_form_load(ImageForm *f, const char *dir, int size, Err *e)
{
    static const char *const names[] = {"preprocessor_config.json", "processor_config.json"};
    *f = (ImageForm){.size = size, .mean = {0.48145466f, 0.4578275f, 0.40821073f},
                     .std = {0.26862954f, 0.26130258f, 0.27577711f}};
    for (int i = 0; i < 2; i++) {
        char file[4200];
        snprintf(file, sizeof file, "%.4096s/%s", dir, names[i]);
        if (access(file, F_OK))
            continue;
        json_t *whole = json_file_load(file, e);
        const json_t *config = i == 0 ? whole : json_object_get(whole, "image_processor");
        const int failed = !whole || (config && read_config(f, file, config, e)) ? -1 : 0;
        json_decref(whole);
        return failed;
    }
    return 0;
}
