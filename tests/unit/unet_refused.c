/* SPDX-License-Identifier: MIT */
/* unet_refused.c -- configurations and weights that are not understood are refused by the name of the key or tensor.
 *
 * Each case is tests/golden/variants/one (or names, for the VAE, and golden-more/sd3_kinds/large, for Stable Diffusion
 * 3's transformer) with one key of its config.json changed. */
#include <jansson.h>
#include <sys/stat.h>
#include "kernels/op.h"
#include "src/models/denoiser.h"
#include "src/models/mmdit.h"
#include "src/models/unet.h"
#include "src/models/vae.h"
#include "tests/unit/golden.h"

/* value: JSON; expected: in the message; NULL: accepted */
typedef struct Case { const char *key, *value, *expected; } Case;

static const Case unet_cases[] = {
    {"dropout", "0.1", NULL}, {"only_cross_attention", "[false]", NULL}, {"resnet_out_scale_factor", "1", NULL},
    {"attention_head_dim", "[3]", NULL}, {"num_attention_heads", "null", NULL}, {"act_fn", "\"swish\"", NULL},
    {"act_fn", "\"SiLU\"", NULL},
    {"_class_name", "\"UNet2DModel\"", "\"_class_name\""},
    {"only_cross_attention", "true", "\"only_cross_attention\" is true"},
    {"only_cross_attention", "[true]", "\"only_cross_attention\""},
    {"center_input_sample", "true", "\"center_input_sample\""},
    {"class_embed_type", "\"timestep\"", "\"class_embed_type\" is \"timestep\""},
    {"num_class_embeds", "10", "\"num_class_embeds\" is 10"},
    {"addition_embed_type", "\"image\"", "\"addition_embed_type\" is \"image\""},
    {"addition_embed_type", "\"text_time\"", "\"addition_time_embed_dim\""},
    {"addition_embed_type", "[]", "\"addition_embed_type\" is an array"}, {"addition_embed_type", "null", NULL},
    {"time_cond_proj_dim", "null", NULL}, {"time_cond_proj_dim", "32", "time_embedding.cond_proj.weight"},
    {"time_cond_proj_dim", "3", "\"time_cond_proj_dim\" is 3, expected 4 to 8192"},
    {"time_cond_proj_dim", "1000000000", "\"time_cond_proj_dim\""},
    {"time_cond_proj_dim", "\"256\"", "\"time_cond_proj_dim\" is a string"},
    {"encoder_hid_dim", "64", "\"encoder_hid_dim\""},
    {"resnet_time_scale_shift", "\"scale_shift\"", "\"resnet_time_scale_shift\""}, {"act_fn", "\"gelu\"", "\"act_fn\""},
    {"act_fn", "3", "\"act_fn\" is an integer"}, {"norm_eps", "-1", "\"norm_eps\" is -1"},
    {"norm_eps", "1e300", "\"norm_eps\""},
    {"mid_block_type", "\"UNetMidBlock2D\"", "\"mid_block_type\""},
    {"mid_block_type", "null", "\"mid_block_type\" is null"},
    {"time_embedding_type", "\"fourier\"", "\"time_embedding_type\""},
    {"num_attention_heads", "4", "\"num_attention_heads\" is 4"},
    {"mid_block_scale_factor", "2.0", "\"mid_block_scale_factor\""},
    {"down_block_types", "[\"AttnDownBlock2D\"]", "AttnDownBlock2D"},
    {"down_block_types", "[]", "\"down_block_types\" has 0 values, expected 1"},
    {"up_block_types", "[3]", "\"up_block_types\""}, {"attention_head_dim", "5", "5 heads"},
    {"attention_head_dim", "[3,3]", "has 2 values"},
    {"norm_num_groups", "5", "\"norm_num_groups\" is 5"}, {"norm_num_groups", "0", "\"norm_num_groups\""},
    {"block_out_channels", "[48]", "conv_in.weight"}, {"block_out_channels", "[]", "\"block_out_channels\" has 0"},
    {"block_out_channels", "[-24]", "\"block_out_channels\""},
    {"block_out_channels", "[1e9]", "\"block_out_channels\""},
    {"layers_per_block", "4", "down_blocks.0.resnets.2"}, {"layers_per_block", "1000", "\"layers_per_block\""},
    {"layers_per_block", "\"two\"", "\"layers_per_block\""}, {"out_channels", "8", "\"out_channels\" 8"},
    {"sample_size", "0", "\"sample_size\""},
    {"conv_in_kernel", "2", "odd"}, {"transformer_layers_per_block", "2", "transformer_blocks.1"},
};

static const Case mmdit_cases[] = {
    {"dual_attention_layers", "null", NULL}, {"dual_attention_layers", "[2,-1]", NULL}, {"out_channels", "null", NULL},
    {"sample_size", "32", NULL},
    {"_class_name", "\"FluxTransformer2DModel\"", "\"_class_name\" is \"FluxTransformer2DModel\""},
    {"qk_norm", "\"layer_norm\"", "\"qk_norm\" is \"layer_norm\""}, {"qk_norm", "3", "\"qk_norm\" is an integer"},
    {"dual_attention_layers", "[1]", "transformer_blocks.1."},
    {"dual_attention_layers", "3", "\"dual_attention_layers\" is an integer"},
    {"dual_attention_layers", "[\"0\"]", "\"dual_attention_layers\" holds a string"},
    {"sample_size", "0", "\"sample_size\" is 0, expected 1 to 16384"}, {"sample_size", "[8,8]", "is an array"},
    {"patch_size", "3", "pos_embed.proj.weight"}, {"patch_size", "-2", "\"patch_size\""},
    {"in_channels", "4", "\"in_channels\" is 4 and \"out_channels\" 16"}, {"in_channels", "1e9", "\"in_channels\""},
    {"num_layers", "1", "transformer_blocks.0.norm1_context.linear"}, {"num_layers", "3", "transformer_blocks.1."},
    {"num_layers", "1000000000", "\"num_layers\""}, {"num_attention_heads", "4", "\"caption_projection_dim\" is 24"},
    {"attention_head_dim", "1024", "\"caption_projection_dim\" is 24, and the blocks are 3072 wide"},
    {"attention_head_dim", "4", "is 12, expected a multiple of 8"},
    {"attention_head_dim", "100000", "\"attention_head_dim\""}, {"joint_attention_dim", "47", "context_embedder"},
    {"caption_projection_dim", "48", "\"caption_projection_dim\" is 48"},
    {"pooled_projection_dim", "35", "text_embedder.linear_1"}, {"pos_embed_max_size", "12", "pos_embed.pos_embed"},
    {"pos_embed_max_size", "null", "pos_embed.pos_embed"},
    {"pos_embed_max_size", "4294967312", "\"pos_embed_max_size\""},
};

static const Case vae_cases[] = {
    {"force_upcast", "true", NULL}, {"latents_mean", "[0,0,0,0,0,0]", "\"latents_mean\" is an array"},
    {"latents_std", "[1]", "\"latents_std\""}, {"latents_std", "null", NULL},
    {"_class_name", "\"AutoencoderTiny\"", "\"_class_name\""},
    {"act_fn", "\"relu\"", "\"act_fn\""},
    {"act_fn", "[]", "\"act_fn\" is an array"}, {"_class_name", "3", "\"_class_name\""},
    {"scaling_factor", "1e300", "\"scaling_factor\""}, {"shift_factor", "-1e300", "\"shift_factor\""},
    {"down_block_types", "[\"DownEncoderBlock2D\",\"AttnDownEncoderBlock2D\"]", "\"down_block_types\""},
    {"up_block_types", "[]", "\"up_block_types\""}, {"latent_channels", "4", "conv_in.weight"},
    {"latent_channels", "-1", "out of range"},
    {"scaling_factor", "0", "out of range"}, {"scaling_factor", "\"x\"", "\"scaling_factor\""},
    {"use_post_quant_conv", "true", "post_quant_conv"},
    {"out_channels", "1", "\"out_channels\" 1"}, {"block_out_channels", "[8,0]", "\"block_out_channels\""},
    {"norm_num_groups", "3", "\"norm_num_groups\" is 3"},
};

static int load(const char *dir, const char *part, Err *e)
{
    UNet *u = NULL;
    Vae *v = NULL;
    MMDiT *m = NULL;
    const int failed = strcmp(part, "unet") == 0 ? unet_load(&u, dir, F32, op->residual, e)
        : strcmp(part, "vae") == 0 ? vae_load(&v, dir, F32, e) : mmdit_load(&m, dir, F32, e);
    unet_free(u);
    mmdit_free(m);
    vae_free(v);
    return failed;
}

static int test_case(const char *dir, const char *variant, const char *part, const Case *c)
{
    char from[4096], to[4096], name[200];
    Err e = {0};
    snprintf(from, sizeof from, "%s/%s/config.json", test_path(variant), part);
    snprintf(to, sizeof to, "%s/%s/config.json", dir, part);
    json_t *config = json_load_file(from, 0, NULL);
    json_object_set_new(config, c->key, json_loads(c->value, JSON_DECODE_ANY, NULL));
    json_dump_file(config, to, 0);
    json_decref(config);
    const int failed = load(dir, part, &e);
    snprintf(name, sizeof name, "%s: %s = %s: %.100s", part, c->key, c->value,
             e.set ? e.text + strlen(dir) + 1 : "accepted");
    return test_ok(name, c->expected ? failed && strstr(e.text, c->expected) && strstr(e.text, dir)
                                     : !failed && !e.set);
}

static int test_part(const char *dir, const char *variant, const char *part, const Case *c, size_t n)
{
    char from[4096], to[4096];
    int failed = 0;
    snprintf(to, sizeof to, "%s/%s", dir, part);
    mkdir(to, 0777);
    snprintf(from, sizeof from, "%s/%s/diffusion_pytorch_model.safetensors", test_path(variant), part);
    snprintf(to, sizeof to, "%s/%s/diffusion_pytorch_model.safetensors", dir, part);
    if (symlink(from, to))
        die_if(err_set(&err, "%s: cannot link", to));
    for (size_t i = 0; i < n; i++)
        failed += test_case(dir, variant, part, &c[i]);
    unlink(to);
    snprintf(to, sizeof to, "%s/%s/config.json", dir, part);
    unlink(to);
    snprintf(to, sizeof to, "%s/%s", dir, part);
    rmdir(to);
    return failed;
}

/* Folders of which one cannot tell what draws. */
static int test_networks(const char *dir)
{
    char unet[4096], transformer[4096], nowhere[4096];
    Denoiser *d = NULL;
    Err e = {0};
    snprintf(nowhere, sizeof nowhere, "%s/nowhere", dir);
    snprintf(unet, sizeof unet, "%s/unet", dir);
    snprintf(transformer, sizeof transformer, "%s/transformer", dir);
    int failed = test_ok("no folder", denoiser_load(&d, nowhere, F32, op->residual, &e) == -1
                         && strstr(e.text, "nowhere: no such folder"));
    e = (Err){0};
    failed += test_ok("no network", denoiser_load(&d, dir, F32, op->residual, &e) == -1
                      && strstr(e.text, "no folder unet or transformer"));
    mkdir(unet, 0777);
    e = (Err){0};
    failed += test_ok("an empty unet", denoiser_load(&d, dir, F32, op->residual, &e) == -1
                      && strstr(e.text, "unet/config.json"));
    mkdir(transformer, 0777);
    e = (Err){0};
    failed += test_ok("two networks", denoiser_load(&d, dir, F32, op->residual, &e) == -1
                      && strstr(e.text, "has folders unet and transformer"));
    rmdir(unet);
    e = (Err){0};
    failed += test_ok("an empty transformer", denoiser_load(&d, dir, F32, op->residual, &e) == -1
                      && strstr(e.text, "transformer/config.json"));
    rmdir(transformer);
    return failed;
}

/* What the caller gets wrong in an evaluation. */
static int test_calls(void)
{
    UNet *u = NULL;
    float states[2*9*8] = {0}, *x = op->alloc(2*5*7*4*sizeof *x, &err);
    int failed = 0;
    Err e = {0};
    die_if(unet_load(&u, test_path("golden/variants/one"), F32, op->residual, &err));
    failed += test_ok("no text", unet_eval(u, x, x, 1, 5, 7, 0, &e) == -1 && strstr(e.text, "text for 0"));
    e = (Err){0};
    failed += test_ok("no such state", unet_set_text(u, states, 2, 9, (int32_t[]){0, 2}, 2, &e) == -1
                      && strstr(e.text, "text state 2 of 2"));
    die_if(unet_set_text(u, states, 2, 9, (int32_t[]){0, 1}, 2, &err));
    e = (Err){0};
    failed += test_ok("more images than texts", unet_eval(u, x, x, 3, 5, 7, 0, &e) == -1
                      && strstr(e.text, "a batch of 3 images"));
    die_if(unet_set_text(u, states, 2, 9, (int32_t[]){0, 1, 1}, 3, &err));
    e = (Err){0};
    failed += test_ok("texts that images cannot share", unet_eval(u, x, x, 2, 5, 7, 0, &e) == -1
                      && strstr(e.text, "a batch of 2 images"));
    op->free(x);
    unet_free(u);
    return failed;
}

int main(void)
{
    char dir[1024];
    snprintf(dir, sizeof dir, "%s/unet_refused.XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    die_if(backend_pick("cpu", 0, &err));
    if (!mkdtemp(dir))
        die_if(err_set(&err, "%s: cannot make a folder", dir));
    int failed = test_part(dir, "golden/variants/one", "unet", unet_cases, sizeof unet_cases/sizeof *unet_cases);
    failed += test_part(dir, "golden-more/sd3_kinds/large", "transformer", mmdit_cases,
                        sizeof mmdit_cases/sizeof *mmdit_cases);
    failed += test_networks(dir);
    failed += test_part(dir, "golden/variants/names", "vae", vae_cases, sizeof vae_cases/sizeof *vae_cases);
    rmdir(dir);
    return failed + test_calls() != 0;
}
