/* SPDX-License-Identifier: MIT */
/* image_encoder.h -- transformers that describe pictures: CLIP's image tower, and timm's vision transformer with its
 * classes. */
#ifndef SRC_MODELS_IMAGE_ENCODER_H
#define SRC_MODELS_IMAGE_ENCODER_H

#include <stdint.h>
#include "formats/dtype.h"
#include "formats/err.h"

typedef enum {
    FIT_CROP,                       /* short side to `size`, bicubic, then the middle: CLIPImageProcessor */
    FIT_STRETCH                     /* both sides to `size`, bilinear: torchvision's Resize((size, size)) */
} ImageFit;

typedef struct ImageForm {          /* of the pictures that an encoder takes */
    int size;                       /* side of the square */
    float mean[3], std[3];          /* of a colour from 0 to 1, for y = (x - mean) / std */
    ImageFit fit;
} ImageForm;

/* CLIP's, by DIR's preprocessor_config.json or processor_config.json; OpenAI's where there is neither. */
int image_form_load(ImageForm *f, const char *dir, int size, Err *e);
/* pixels (size,size,3) of one picture (H,W,3) u8: resized with antialiasing as Pillow does it (a direction that has
 * its length already is left alone), /255, mean and std. Host only; with FIT_CROP memory does not grow with the longer
 * side. -1: out of memory */
int image_prepare(float *pixels, const uint8_t *image, int H, int W, const ImageForm *f, Err *e);

typedef struct ImageEncoder ImageEncoder;

/* CLIPVisionModelWithProjection of DIR/clip. */
int image_encoder_load(ImageEncoder **t, const char *dir, DType type, Err *e);
/* A plain vision transformer by timm's names (cls_token, blocks.0.attn.qkv.weight, ...), all sizes from its tensors, in
 * one file: safetensors, or of torch.save, where the tensors may lie in a dict "model_state_dict", "state_dict" or
 * "model". heads: of attention; 0: 64 wide, as in all of timm's up to a width of 1024. */
int image_encoder_open(ImageEncoder **t, const char *path, int heads, DType type, Err *e);
void image_encoder_free(ImageEncoder *t);
const ImageForm *image_encoder_form(const ImageEncoder *t);
int image_encoder_projection(const ImageEncoder *t);        /* P */
int image_encoder_classes(const ImageEncoder *t);           /* n, 0 without a head */
/* Of pixels (B,size,size,3) f32, channels-last, prepared: embedding (B,P), not normalised (CLIP: as get_image_features;
 * timm: the class token behind the last norm, which the head takes), and logits (B,n), NULL where there is no head or
 * none are wanted. */
int image_embed(ImageEncoder *t, const float *pixels, int64_t B, float *embedding, float *logits, Err *e);

#endif
