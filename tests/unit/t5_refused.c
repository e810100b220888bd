/* SPDX-License-Identifier: MIT */
/* t5_refused.c -- T5's tokenizers and encoders that are not understood are refused by the name of the file and key, and
 * damaged ones at least do no harm.
 *
 * Each case is golden-more/t5/five, model or relu with one value of a file changed. */
#include <fcntl.h>
#include <sys/stat.h>
#include "formats/json_file.h"
#include "src/models/t5_encoder.h"
#include "src/models/unigram.h"
#include "tests/unit/golden.h"

/* path: of the value, keys parted by slashes; value: JSON, NULL: the key goes; expected: in the message, NULL:
 * accepted */
typedef struct Case { const char *file, *path, *value, *expected; } Case;

#define WHOLE "tokenizer.json"
#define CONFIG "tokenizer_config.json"

static const Case tokenizer_cases[] = {
    {WHOLE, "model/type", "\"BPE\"", "tokenizer.json: \"type\" of the model is \"BPE\", expected Unigram"},
    {WHOLE, "model/type", NULL, NULL}, {WHOLE, "model/unk_id", "0", "\"unk_id\" is 0, expected 2"},
    {WHOLE, "model/unk_id", "null", NULL}, {WHOLE, "model/byte_fallback", "true", "\"byte_fallback\" is true"},
    {WHOLE, "model", "[]", "\"model\""}, {WHOLE, "model/vocab", "{}", "\"vocab\""},
    {WHOLE, "model/vocab", "[]", "a vocabulary of 0 pieces"},
    {WHOLE, "model/vocab", "[[\"a\",0],[\"b\",\"c\"]]", "entry 1 of \"vocab\""},
    {WHOLE, "model/vocab", "[[\"a\",0],[\"\",0]]", "piece 1 has 0 bytes, expected 1 to 1024"},
    {WHOLE, "model/vocab", "[[\"a\",\"NaN\"]]", "entry 0 of \"vocab\""},
    {WHOLE, "normalizer/type", "\"Lowercase\"", "\"normalizer\" has a Lowercase"},
    {WHOLE, "normalizer", "null", NULL}, {WHOLE, "normalizer", "3", "a step of \"normalizer\" has no \"type\""},
    {WHOLE, "normalizer", "{\"type\":\"Sequence\",\"normalizers\":3}", "\"normalizers\" is an integer"},
    {WHOLE, "normalizer", "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Strip\"}]}", NULL},
    {WHOLE, "normalizer", "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"x\"},\"content\":\"\"}", "has a Replace"},
    {WHOLE, "normalizer/precompiled_charsmap", "\"AAA\"", "\"precompiled_charsmap\": 3 characters of base64"},
    {WHOLE, "normalizer/precompiled_charsmap", "\"AA!A\"", "character 3 of its base64 is 0x21"},
    {WHOLE, "normalizer/precompiled_charsmap", "\"AA=A\"", "character 3 of its base64 is 0x3d"},
    {WHOLE, "normalizer/precompiled_charsmap", "\"\"", "\"precompiled_charsmap\": 0 bytes"},
    {WHOLE, "normalizer/precompiled_charsmap", "\"AAQAAA==\"", "4 bytes with an array of 1024"},
    {WHOLE, "pre_tokenizer/type", "\"Bert\"", "\"pre_tokenizer\" has a Bert"},
    {WHOLE, "pre_tokenizer", "{\"type\":\"ByteLevel\"}", "\"pre_tokenizer\" has a ByteLevel"},
    {WHOLE, "pre_tokenizer", "{\"type\":\"Metaspace\",\"replacement\":\"_\"}", "U+2581"},
    {WHOLE, "pre_tokenizer", "{\"type\":\"Metaspace\",\"replacement\":\"\u2581\",\"prepend_scheme\":\"never\"}",
     "put before each word"},
    {WHOLE, "pre_tokenizer", "{\"type\":\"Metaspace\",\"replacement\":\"\u2581\",\"split\":false}", "U+2581"},
    {WHOLE, "pre_tokenizer", "null", NULL},
    {WHOLE, "added_tokens", "[{\"content\":\"x\"}]", "entry 0 of \"added_tokens\" has no id"},
    {WHOLE, "added_tokens", "[{\"id\":5,\"content\":\"\"}]", "an added token has a text of 0 bytes"},
    {WHOLE, "added_tokens", "[{\"id\":5,\"content\":\"x\",\"single_word\":true}]", "'x' has \"single_word\": true"},
    {WHOLE, "added_tokens", "[]", NULL}, {CONFIG, "padding_side", "\"left\"", "\"padding_side\" is \"left\""},
    {CONFIG, "truncation_side", "\"left\"", "tokenizer_config.json: \"truncation_side\" is \"left\", expected right"},
    {CONFIG, "split_special_tokens", "true", "\"split_special_tokens\" is true"},
    {CONFIG, "extra_ids", "-1", "\"extra_ids\" is -1"}, {CONFIG, "extra_ids", "1e9", "\"extra_ids\""},
    {CONFIG, "extra_ids", "1000000000", "\"extra_ids\" is 1000000000, expected 0 to 10000"},
    {CONFIG, "added_tokens_decoder", "{\"x\":{\"content\":\"y\"}}", "\"added_tokens_decoder\" has a token at 'x'"},
    {CONFIG, "extra_special_tokens", "{\"a\":\"b\"}", "\"extra_special_tokens\" is an object, expected a list"},
    {CONFIG, "eos_token", "3", "an added token has a text of 0 bytes"}, {CONFIG, "eos_token", "null", NULL},
};

static const Case encoder_cases[] = {
    {"config.json", "model_type", "\"umt5\"", "config.json: \"model_type\" is \"umt5\", expected t5"},
    {"config.json", "is_decoder", "true", "\"is_decoder\" is true"},
    {"config.json", "feed_forward_proj", "\"gated-silu\"", "\"feed_forward_proj\" is \"gated-silu\""},
    {"config.json", "feed_forward_proj", "\"gated-gelu\"", "layer.1.DenseReluDense.wi_0"},
    {"config.json", "feed_forward_proj", NULL, NULL}, {"config.json", "d_model", "21", "shared.weight"},
    {"config.json", "d_model", "1000000000", "1000000000"}, {"config.json", "d_kv", "9", "SelfAttention.q"},
    {"config.json", "d_kv", "1000", "3 heads of 1000"}, {"config.json", "d_ff", "0", "hidden width of 0"},
    {"config.json", "d_ff", "37", "DenseReluDense.wi"}, {"config.json", "num_layers", "4", "encoder.block.3"},
    {"config.json", "num_heads", "4", "relative_attention_bias"}, {"config.json", "num_heads", "-1", "-1 heads"},
    {"config.json", "vocab_size", "91", "shared.weight"}, {"config.json", "vocab_size", "\"90\"", "\"vocab_size\""},
    {"config.json", "relative_attention_num_buckets", "3", "3 buckets"},
    {"config.json", "relative_attention_num_buckets", "16", "relative_attention_bias"},
    {"config.json", "relative_attention_max_distance", "8", "distance of 8"},
    {"config.json", "layer_norm_epsilon", "-1", "\"layer_norm_epsilon\" is -1"},
    {"config.json", "layer_norm_epsilon", NULL, NULL},
};

static int load(const char *dir, const char *part, Err *e)
{
    T5Encoder *t = NULL;
    Unigram *u = NULL;
    const int failed = strcmp(part, "text_encoder_3") == 0 ? t5_encoder_load(&t, dir, part, F32, e)
                     : unigram_load(&u, dir, part, e);
    t5_encoder_free(t);
    unigram_free(u);
    return failed;
}

static void change(json_t *in, const char *path, const char *value)
{
    const char *slash;
    char key[80];
    for (; (slash = strchr(path, '/')); path = slash + 1) {
        snprintf(key, sizeof key, "%.*s", (int)(slash - path), path);
        in = json_object_get(in, key);
    }
    if (value) {
        json_t *new = json_loads(value, JSON_DECODE_ANY, NULL);
        json_object_set_new(in, path, new ? new : json_string(value));
    } else
        json_object_del(in, path);
}

/* FOLDER/part with links to all files of `from` but `but`. */
static void link_others(const char *dir, const char *part, const char *from, const char *but, bool link)
{
    static const char *const files[] = {
        "tokenizer.json", "tokenizer_config.json", "config.json", "model.safetensors.index.json",
        "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"};
    char source[4096], to[4096];
    for (size_t i = 0; i < sizeof files/sizeof *files; i++) {
        snprintf(source, sizeof source, "%s/%s", from, files[i]);
        snprintf(to, sizeof to, "%s/%s/%s", dir, part, files[i]);
        if (!link || strcmp(files[i], but) == 0)
            unlink(to);
        else if (access(source, F_OK) == 0 && symlink(source, to))
            die_if(err_set(&err, "%s: cannot link", to));
    }
}

static int test_cases(const char *dir, const char *variant, const char *part, const Case *c, size_t n)
{
    char from[4096], to[4096], name[400];
    int failed = 0;
    snprintf(from, sizeof from, "%s/%s", test_path(variant), part);
    snprintf(to, sizeof to, "%s/%s", dir, part);
    mkdir(to, 0777);
    for (size_t i = 0; i < n; i++) {
        char source[4200];
        Err e = {0};
        link_others(dir, part, from, c[i].file, true);
        snprintf(source, sizeof source, "%s/%s", from, c[i].file);
        snprintf(to, sizeof to, "%s/%s/%s", dir, part, c[i].file);
        json_t *whole = json_load_file(source, 0, NULL);
        change(whole, c[i].path, c[i].value);
        json_dump_file(whole, to, 0);
        json_decref(whole);
        const int refused = load(dir, part, &e);
        snprintf(name, sizeof name, "%s: %s = %.60s: %.200s", c[i].file, c[i].path, c[i].value ? c[i].value : "none",
                 e.set ? e.text + strlen(dir) + 1 : "accepted");
        failed += test_ok(name, c[i].expected ? refused && strstr(e.text, c[i].expected) && strstr(e.text, dir)
                                              : !refused && !e.set);
        link_others(dir, part, from, NULL, false);
    }
    snprintf(to, sizeof to, "%s/%s", dir, part);
    rmdir(to);
    return failed;
}

/* A damaged spiece.model is refused with its name, or gives ids. Returns 1 where it is refused, 0 where not, -1. */
static int try_model(const char *dir, const char *path)
{
    static const char *const texts[] = {"a red fish <extra_id_0> caf\u00e9 e\u0301 \ufb01\u0301 \U0001f41f",
                                        "\uff21\uff41 \u304b\u3099 tower, tower"};
    Unigram *u = NULL;
    Err e = {0};
    int32_t ids[40];
    long left;
    if (unigram_load(&u, dir, "tokenizer_3", &e))
        return !u && strstr(e.text, path) ? 1 : -1;
    int failed = 0;
    for (int i = 0; i < 2; i++)
        failed |= unigram_encode(u, texts[i], ids, 40, &left, &e);
    unigram_free(u);
    return failed ? -1 : 0;
}

static void put_byte(int fd, size_t at, char byte)
{
    if (pwrite(fd, &byte, 1, (off_t)at) != 1)
        die_if(err_set(&err, "a copy of spiece.model cannot be written"));
}

/* spiece.model with a byte changed in two ways and then cut, at every STEPth place. A cut behind the last part but
 * one is none. */
static int test_damage(const char *dir)
{
    enum { STEP = 4 };
    static char data[1 << 16];
    char folder[4096], path[4200];
    int wrong = 0, whole = 0, refused = 0, accepted = 0;
    snprintf(folder, sizeof folder, "%s/tokenizer_3", dir);
    snprintf(path, sizeof path, "%s/spiece.model", folder);
    mkdir(folder, 0777);
    const int from = open(test_path("golden-more/t5/model/tokenizer_3/spiece.model"), O_RDONLY),
        to = open(path, O_WRONLY | O_CREAT, 0666);
    const ssize_t read_bytes = from < 0 ? -1 : read(from, data, sizeof data);
    if (read_bytes < 0 || to < 0 || write(to, data, (size_t)read_bytes) != read_bytes)
        die_if(err_set(&err, "spiece.model cannot be copied"));
    const size_t n = (size_t)read_bytes;
    for (size_t i = 0; i < n; i += STEP)
        for (int way = 0; way < 2; way++) {
            put_byte(to, i, (char)(way ? ~data[i] : data[i] ^ 1));
            const int changed = try_model(dir, path);
            put_byte(to, i, data[i]);
            wrong += changed < 0;
            refused += changed == 1;
            accepted += changed == 0;
        }
    for (size_t i = n; i-- > 0;) {
        if (i % STEP)
            continue;
        const int cut = ftruncate(to, (off_t)i) ? -1 : try_model(dir, path);
        wrong += cut < 0;
        whole += cut == 0;
    }
    close(from);
    close(to);
    unlink(path);
    rmdir(folder);
    test_note("%d changes refused, %d accepted", refused, accepted);
    return test_ok("spiece.model: damage is refused or does no harm", n > 4000 && wrong == 0 && whole <= 1
                   && refused > 1000 / STEP);
}

int main(void)
{
    char dir[1024];
    snprintf(dir, sizeof dir, "%s/t5_refused.XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    die_if(backend_pick("cpu", 0, &err));
    if (!mkdtemp(dir))
        die_if(err_set(&err, "%s: cannot make a folder", dir));
    int failed = test_cases(dir, "golden-more/t5/five", "tokenizer_3", tokenizer_cases,
                            sizeof tokenizer_cases/sizeof *tokenizer_cases);
    failed += test_cases(dir, "golden-more/t5/relu", "text_encoder_3", encoder_cases,
                         sizeof encoder_cases/sizeof *encoder_cases);
    failed += test_damage(dir);
    rmdir(dir);
    return failed != 0;
}
