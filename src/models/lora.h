/* SPDX-License-Identifier: MIT */
/* lora.h -- low-rank changes of a model's weights (Hu et al. 2021, arXiv 2106.09685), as files have them.
 *
 *     W' = W + strength * alpha/rank * up down        up (out,rank)   down (rank,in)   W (out,in)
 *
 * For a convolution down is (rank,in,k,k) and up (out,rank,1,1). alpha is rank where a file does not say.
 *
 * Names, MODULE being diffusers' path of a layer, with dots or underscores, or LDM's:
 *     lora_unet_MODULE, lora_te_MODULE       .lora_down.weight .lora_up.weight .alpha         kohya's
 *     diffusion_model.MODULE                 the same, or .lora_A.weight .lora_B.weight       ComfyUI's
 *     unet.MODULE, text_encoder.MODULE       .lora_A.weight .lora_B.weight                    PEFT's, by diffusers
 *                                            .lora.down.weight .lora.up.weight, .lora_linear_layer.down.weight
 *     unet.ATTENTION.processor.to_q_lora     .down.weight .up.weight                          diffusers' first
 * SDXL's text encoders are lora_te1_ and lora_te2_, text_encoder. and text_encoder_2. Stable Diffusion 3 has
 * transformer. in place of unet. and a lora_te3_. Where LDM has layers of a MODULE in one, or their rows in another
 * order, the change is one of those rows.
 * (diffusers loaders/lora_pipeline.py, lora_conversion_utils.py; kohya sd-scripts networks/lora.py.) Whatever else a
 * file holds is refused by its name: other decompositions would come out wrong, not weak. */
#ifndef SRC_MODELS_LORA_H
#define SRC_MODELS_LORA_H

#include "src/models/inventory.h"

typedef struct Delta {
    const Weight *down, *up;
    int64_t first;                  /* of up's rows, the one of the tensor's first; after the last comes row 0 */
    double scale;
    struct Delta *next;             /* of another file, for the same tensor */
} Delta;

typedef struct Loras {
    Weights **file;
    int files;
    Delta **first[PARTS];           /* [items] of each part's inventory, NULL where nothing is added */
    size_t items[PARTS];
    struct LoraName *name;          /* modules by their names, sorted */
    size_t names;
} Loras;

/* For the UNet or transformer and the text encoders of v, which is to stay as it is. */
int loras_begin(Loras *l, const Inventory v[PARTS], Err *e);
/* Adds a .safetensors or .pt file. Every tensor of it must belong to a layer of v and fit it. */
int loras_add(Loras *l, const Inventory v[PARTS], const char *path, double strength, Err *e);
void loras_free(Loras *l);
/* y[count] of type y_type = w + what d and those after it add, for a tensor w of dim[0] rows: sums in f64, rounded to
 * f32 and then to y_type. The same whatever the number of threads. */
int lora_apply(void *y, DType y_type, const Weight *w, const Delta *d, Err *e);

#endif
