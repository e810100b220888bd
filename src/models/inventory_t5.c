/* SPDX-License-Identifier: MIT */
/* inventory_t5.c -- the tensors of a T5EncoderModel by its config.
 *
 * Checkpoints of one file have them under transformers' names, GGUF files of T5 alone under llama.cpp's. (transformers
 * models/t5/modeling_t5.py; llama.cpp gguf-py/gguf/constants.py, MODEL_ARCH.T5ENCODER; ComfyUI-GGUF loader.py.) */
#include <stdio.h>
#include <string.h>
#include "src/models/inventory.h"
#include "src/models/t5_parts.h"

static const Path top = {{"", ""}};

static void add_block(Inventory *v, const T5Encoder *t, int i)
{
    static const char *const qkv[3][2] = {{"layer.0.SelfAttention.q", "attn_q"}, {"layer.0.SelfAttention.k", "attn_k"},
                                          {"layer.0.SelfAttention.v", "attn_v"}};
    Path at;
    snprintf(at.name[NAMES_DIFFUSERS], sizeof at.name[0], "encoder.block.%d", i);
    snprintf(at.name[NAMES_LDM], sizeof at.name[0], "enc.blk.%d", i);
    for (int k = 0; k < 3; k++)
        inventory_add(v, &at, qkv[k][0], qkv[k][1], layer_table(t->D, t->E));
    inventory_add(v, &at, "layer.0.SelfAttention.o", "attn_o", layer_table(t->E, t->D));
    if (i == 0)
        inventory_add(v, &at, "layer.0.SelfAttention.relative_attention_bias", "attn_rel_b",
                      layer_table(t->buckets, t->heads));
    inventory_add(v, &at, "layer.0.layer_norm", "attn_norm", layer_gamma(t->E));
    if (t->gated)
        inventory_add(v, &at, "layer.1.DenseReluDense.wi_0", "ffn_gate", layer_table(t->hidden, t->E));
    inventory_add(v, &at, t->gated ? "layer.1.DenseReluDense.wi_1" : "layer.1.DenseReluDense.wi", "ffn_up",
                  layer_table(t->hidden, t->E));
    inventory_add(v, &at, "layer.1.DenseReluDense.wo", "ffn_down", layer_table(t->E, t->hidden));
    inventory_add(v, &at, "layer.1.layer_norm", "ffn_norm", layer_gamma(t->E));
}

int inventory_t5(Inventory *v, const Part *part, Err *e)
{
    T5Encoder t;
    if (t5_config_read(&t, part, e))
        return -1;
    inventory_add(v, &top, "shared", "token_embd", layer_table(t.vocab, t.E));
    if (!v->failed) {
        Item *token = &v->item[0];
        token->alike = true;
        token->other[NAMES_DIFFUSERS] = strdup("encoder.embed_tokens.weight");
        v->failed = !token->other[NAMES_DIFFUSERS];
    }
    for (int i = 0; i < t.blocks; i++)
        add_block(v, &t, i);
    inventory_add(v, &top, "encoder.final_layer_norm", "enc.output_norm", layer_gamma(t.E));
    return 0;
}
