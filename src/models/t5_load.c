/* SPDX-License-Identifier: MIT */
/* t5_load.c -- a T5EncoderModel from its folder, config keys by transformers models/t5/configuration_t5.py. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/t5_parts.h"

static int read_kind(T5Encoder *t, const Part *part, Err *e)
{
    const char *type, *proj;
    if (part_text(part, "model_type", "t5", &type, e) || part_text(part, "feed_forward_proj", "relu", &proj, e))
        return -1;
    if (strcmp(type, "t5") != 0)
        return err_set(e, "%s/config.json: \"model_type\" is \"%.60s\", expected t5", part->path, type);
    if (json_is_true(json_object_get(part->config, "is_decoder")))
        return err_set(e, "%s/config.json: \"is_decoder\" is true, expected false", part->path);
    t->gated = strcmp(proj, "gated-gelu") == 0;
    if (!t->gated && strcmp(proj, "relu") != 0)
        return err_set(e, "%s/config.json: \"feed_forward_proj\" is \"%.60s\", expected gated-gelu or relu", part->path,
                       proj);
    return 0;
}

int t5_config_read(T5Encoder *t, const Part *part, Err *e)
{
    int d_kv;
    double eps;
    *t = (T5Encoder){0};
    if (read_kind(t, part, e) || part_int(part, "d_model", &(int){512}, &t->E, e)
        || part_int(part, "d_kv", &(int){64}, &d_kv, e) || part_int(part, "d_ff", &(int){2048}, &t->hidden, e)
        || part_int(part, "num_layers", &(int){6}, &t->blocks, e)
        || part_int(part, "num_heads", &(int){8}, &t->heads, e)
        || part_int(part, "vocab_size", &(int){32128}, &t->vocab, e)
        || part_int(part, "relative_attention_num_buckets", &(int){32}, &t->buckets, e)
        || part_int(part, "relative_attention_max_distance", &(int){128}, &t->max_distance, e)
        || part_number(part, "layer_norm_epsilon", &(double){1e-6}, &eps, e))
        return -1;
    t->eps = (float)eps;
    if (!(eps >= 0 && eps <= 1))
        return err_set(e, "%s/config.json: \"layer_norm_epsilon\" is %g, expected 0 to 1", part->path, eps);
    if (t->E < 1 || t->E > 1 << 16 || t->hidden < 1 || t->hidden > 1 << 18 || t->blocks < 1 || t->blocks > 1000
        || t->vocab < 1)
        return err_set(e, "%s/config.json: a width of %d, hidden width of %d, %d blocks and %d tokens are not a model",
                       part->path, t->E, t->hidden, t->blocks, t->vocab);
    if (t->heads < 1 || t->heads > 1024 || d_kv < 1 || d_kv > 256)
        return err_set(e, "%s/config.json: %d heads of %d, expected 1 to 1024 of 1 to 256", part->path, t->heads, d_kv);
    t->D = t->heads * d_kv;
    if (t->buckets < 4 || t->buckets > 1 << 16 || t->max_distance <= t->buckets / 4)
        return err_set(e, "%s/config.json: %d buckets of relative attention up to a distance of %d, expected 4 to %d, "
                       "and a distance of more than a quarter of them", part->path, t->buckets, t->max_distance,
                       1 << 16);
    return 0;
}

static const char *table_name(const Part *part)
{
    return part_has(part, "shared.weight") ? "shared.weight" : "encoder.embed_tokens.weight";
}

/* The tables: of tokens as it is, of the bias as f32. */
static int load_tables(T5Encoder *t, const Part *part, Err *e)
{
    const Weight *token = part_need(part, table_name(part), 2, (const int64_t[]){t->vocab, t->E}, e);
    const Weight *bias = !token ? NULL
        : part_need(part, "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", 2,
                    (const int64_t[]){t->buckets, t->heads}, e);
    if (!bias)
        return -1;
    const size_t bytes = weight_bytes(token), count = weight_count(bias);
    t->token_type = token->type;
    t->token = malloc(bytes);
    t->table = malloc(count * sizeof *t->table);
    if (!t->token || !t->table)
        return err_set(e, "%s: out of memory for a table of %zu bytes", part->path, bytes);
    memcpy(t->token, token->data, bytes);
    dtype_to_f32(t->table, bias->data, bias->type, count);
    return 0;
}

static float *load_norm(const T5Encoder *t, const Part *part, const char *base, const char *name, Err *e)
{
    char text[120];
    snprintf(text, sizeof text, "%s.%s.weight", base, name);
    return part_upload(part, text, 1, &(int64_t){t->E}, e);
}

static int load_block(T5Encoder *t, const Part *part, int i, Err *e)
{
    static const char *const qkv[] = {"layer.0.SelfAttention.q", "layer.0.SelfAttention.k", "layer.0.SelfAttention.v"},
        *const out[] = {"layer.0.SelfAttention.o"}, *const wo[] = {"layer.1.DenseReluDense.wo"},
        *const wi[] = {"layer.1.DenseReluDense.wi"}, *const wi_0[] = {"layer.1.DenseReluDense.wi_0"},
        *const wi_1[] = {"layer.1.DenseReluDense.wi_1"};
    T5Block *b = &t->block[i];
    char base[48];
    snprintf(base, sizeof base, "encoder.block.%d", i);
    const int D[] = {t->D, t->D, t->D};
    const ConvSpec product = conv_spec(t->E, 0, 1, t->type, t->type), from_heads = conv_spec(t->D, 0, 1, t->type, F32);
    const ConvSpec last = conv_spec(t->hidden, 0, 1, t->type, F32);
    ConvSpec first = product;
    first.act = t->gated ? ACT_GELU_TANH : ACT_RELU;
    return !(b->norm1 = load_norm(t, part, base, "layer.0.layer_norm", e))
        || !(b->norm2 = load_norm(t, part, base, "layer.1.layer_norm", e))
        || linear_load(&b->qkv, part, base, qkv, D, 3, product, BIAS_MAYBE, e)
        || linear_load(&b->out, part, base, out, &t->E, 1, from_heads, BIAS_MAYBE, e)
        || linear_load(&b->wi, part, base, t->gated ? wi_0 : wi, &t->hidden, 1, first, BIAS_MAYBE, e)
        || (t->gated && linear_load(&b->wi_1, part, base, wi_1, &t->hidden, 1, product, BIAS_MAYBE, e))
        || linear_load(&b->wo, part, base, wo, &t->E, 1, last, BIAS_MAYBE, e) ? -1 : 0;
}

static int load(T5Encoder *t, const Part *part, DType type, Err *e)
{
    if (t5_config_read(t, part, e) || load_tables(t, part, e))
        return -1;
    t->type = type;
    t->block = calloc((size_t)t->blocks, sizeof *t->block);
    if (!t->block)
        return err_set(e, "out of memory");
    for (int i = 0; i < t->blocks; i++)
        if (load_block(t, part, i, e))
            return -1;
    return (t->final = load_norm(t, part, "encoder", "final_layer_norm", e)) ? 0 : -1;
}

int t5_encoder_load(T5Encoder **out, const char *dir, const char *name, DType type, Err *e)
{
    Part part;
    *out = NULL;
    T5Encoder *t = calloc(1, sizeof *t);
    if (!t)
        return err_set(e, "out of memory");
    int failed = part_open(&part, dir, name, e);
    if (!failed) {
        failed = load(t, &part, type, e);
        part_close(&part);
    }
    if (failed)
        t5_encoder_free(t);
    else
        *out = t;
    return failed;
}

static void free_device(void *p)
{
    if (p)
        op->free(p);
}

void t5_encoder_free(T5Encoder *t)
{
    if (!t)
        return;
    for (int i = 0; t->block && i < t->blocks; i++) {
        T5Block *b = &t->block[i];
        free_device(b->norm1);
        free_device(b->norm2);
        op->conv_free(b->qkv);
        op->conv_free(b->out);
        op->conv_free(b->wi);
        op->conv_free(b->wi_1);
        op->conv_free(b->wo);
    }
    free_device(t->final);
    free_device(t->bias);
    free(t->block);
    free(t->token);
    free(t->table);
    workspace_free(&t->work);
    free(t);
}
