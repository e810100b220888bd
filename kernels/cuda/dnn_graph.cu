/* SPDX-License-Identifier: MIT */
/* dnn_graph.cu -- cuDNN opened, its descriptors, the choice of an engine, plans and their runs (dnn_graph.h). */
#include "kernels/cuda/dnn_graph.h"

#if DNN_VERSION

enum { MOST_PROPOSALS = 16, MOST_PLANS = 512 };

/* An engine and its knobs. */
typedef struct DnnChoice {
    int64_t engine;
    cudnnBackendKnobType_t knob[DNN_KNOBS];
    int64_t value[DNN_KNOBS], knobs;
    bool none;                      /* none takes the graph */
} DnnChoice;

typedef struct Choice {
    DnnKind kind;
    DnnChoice choice;
} Choice;

typedef struct Planned {
    DnnKind kind;
    int64_t B;
    DnnPlan plan;
} Planned;

#define EACH_FUNCTION(f)                                                                                               \
    f(cudnnCreate) f(cudnnSetStream) f(cudnnGetLastErrorString) f(cudnnBackendCreateDescriptor)                        \
    f(cudnnBackendDestroyDescriptor) f(cudnnBackendSetAttribute) f(cudnnBackendGetAttribute) f(cudnnBackendFinalize)   \
    f(cudnnBackendExecute)

/* cuDNN's functions, under their own names. */
static struct Dnn {
#define MEMBER(name) decltype(&::name) name;
    EACH_FUNCTION(MEMBER)
    cudnnHandle_t handle;
} dnn;

bool dnn_open(void)
{
    static bool tried;
    if (tried)
        return dnn.handle != NULL;
    tried = true;
    void *library = library_open("libcudnn.so.9");
    bool whole = library != NULL;
#define FIND(name) whole = whole && library_find(library, #name, (void **)&dnn.name);
    EACH_FUNCTION(FIND)
    if (!whole || dnn.cudnnCreate(&dnn.handle) != CUDNN_STATUS_SUCCESS)
        dnn.handle = NULL;
    else if (dnn.cudnnSetStream(dnn.handle, gpu_stream) != CUDNN_STATUS_SUCCESS)
        dnn.handle = NULL;
    if (!dnn.handle)
        library_trace("cuDNN: %s", library ? "does not start" : "not found");
    return dnn.handle != NULL;
}

/* ---- descriptors ---- */

/* Keeps whether all went well. what: a number that tells where a call stands; of a descriptor's type or of an
 * attribute it is cudnn.h's. */
static void check(Build *b, cudnnStatus_t status, const char *call, int what)
{
    if (status == CUDNN_STATUS_SUCCESS)
        return;
    char reason[512] = "";
    b->good = false;
    if (library_traced())
        dnn.cudnnGetLastErrorString(reason, sizeof reason);
    library_trace("cuDNN: %s %d: status %d: %s", call, what, (int)status, reason);
}

Descriptor dnn_make(Build *b, cudnnBackendDescriptorType_t type)
{
    Descriptor d = NULL;
    b->good = b->good && b->count < DNN_OWNED;
    if (b->good)
        check(b, dnn.cudnnBackendCreateDescriptor(type, &d), "cudnnBackendCreateDescriptor", (int)type);
    if (b->good)
        b->owned[b->count++] = d;
    return b->good ? d : NULL;
}

void dnn_set(Build *b, Descriptor d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
             const void *values)
{
    if (b->good)
        check(b, dnn.cudnnBackendSetAttribute(d, name, type, count, values), "cudnnBackendSetAttribute", (int)name);
}

void dnn_set_descriptor(Build *b, Descriptor d, cudnnBackendAttributeName_t name, Descriptor value)
{
    dnn_set(b, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

static int64_t get(Build *b, Descriptor d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                   int64_t most, void *values)
{
    int64_t count = 0;
    if (b->good)
        check(b, dnn.cudnnBackendGetAttribute(d, name, type, most, &count, values), "cudnnBackendGetAttribute",
              (int)name);
    return !b->good ? 0 : count < most ? count : most;
}

Descriptor dnn_finish(Build *b, Descriptor d)
{
    if (b->good)
        check(b, dnn.cudnnBackendFinalize(d), "cudnnBackendFinalize, descriptors made", b->count);
    return d;
}

void dnn_drop(Build *b, int kept)
{
    while (b->count > kept)
        dnn.cudnnBackendDestroyDescriptor(b->owned[--b->count]);
}

Descriptor dnn_tensor(Build *b, int64_t uid, cudnnDataType_t type, const int64_t dim[4], const int64_t stride[4],
                      DnnPlace place)
{
    const int64_t alignment = place == DNN_NUMBER ? sizeof(float) : 16;
    const bool is_virtual = place == DNN_BETWEEN, by_value = true;
    Descriptor d = dnn_make(b, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    dnn_set(b, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid);
    dnn_set(b, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    dnn_set(b, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dim);
    dnn_set(b, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, stride);
    dnn_set(b, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    dnn_set(b, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual);
    if (place == DNN_NUMBER)
        dnn_set(b, d, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &by_value);
    return dnn_finish(b, d);
}

Descriptor dnn_graph(Build *b, const Descriptor *operation, int64_t count)
{
    Descriptor g = dnn_make(b, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    dnn_set(b, g, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &dnn.handle);
    dnn_set(b, g, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, operation);
    return dnn_finish(b, g);
}

/* ---- engines ---- */

/* A plan of the graph by the engine and knobs of c; b is not good where it refuses. */
static Descriptor plan_with(Build *b, Descriptor g, const DnnChoice *c)
{
    Descriptor engine = dnn_make(b, CUDNN_BACKEND_ENGINE_DESCRIPTOR), knob[DNN_KNOBS];
    dnn_set_descriptor(b, engine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, g);
    dnn_set(b, engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &c->engine);
    dnn_finish(b, engine);
    for (int64_t i = 0; i < c->knobs; i++) {
        knob[i] = dnn_make(b, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
        dnn_set(b, knob[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &c->knob[i]);
        dnn_set(b, knob[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &c->value[i]);
        dnn_finish(b, knob[i]);
    }
    Descriptor config = dnn_make(b, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    dnn_set_descriptor(b, config, CUDNN_ATTR_ENGINECFG_ENGINE, engine);
    if (c->knobs)
        dnn_set(b, config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, c->knobs, knob);
    dnn_finish(b, config);
    Descriptor plan = dnn_make(b, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    dnn_set(b, plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &dnn.handle);
    dnn_set_descriptor(b, plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    dnn_finish(b, plan);
    int64_t workspace = 0;
    get(b, plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &workspace);
    if (b->good && workspace > LIBRARY_WORKSPACE) {
        library_trace("cuDNN: engine %ld wants %ld bytes to work in", (long)c->engine, (long)workspace);
        b->good = false;
    }
    return plan;
}

/* Takes down a proposed engine and its knobs; false for one that may round or order its sums otherwise. */
static bool read_proposal(Build *b, Descriptor config, DnnChoice *c)
{
    cudnnBackendNumericalNote_t note[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    Descriptor engine = dnn_make(b, CUDNN_BACKEND_ENGINE_DESCRIPTOR), knob[DNN_KNOBS];
    for (int i = 0; i < DNN_KNOBS; i++)
        knob[i] = dnn_make(b, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    get(b, config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &engine);
    get(b, engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &c->engine);
    const int64_t notes = get(b, engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                              CUDNN_NUMERICAL_NOTE_TYPE_COUNT, note);
    bool exact = true;
    for (int64_t i = 0; i < notes; i++)
        exact = exact
            && (note[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE || note[i] == CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP);
    c->knobs = get(b, config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, DNN_KNOBS, knob);
    for (int64_t i = 0; i < c->knobs; i++) {
        get(b, knob[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &c->knob[i]);
        get(b, knob[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &c->value[i]);
    }
    return b->good && exact;
}

static void trace_choice(const DnnChoice *c, const char *what, int64_t number, int64_t count)
{
    char knobs[24*DNN_KNOBS] = "";
    size_t at = 0;
    for (int64_t i = 0; i < c->knobs; i++)
        at += (size_t)snprintf(knobs + at, sizeof knobs - at, " %d=%ld", (int)c->knob[i], (long)c->value[i]);
    if (c->none)
        library_trace("cuDNN: %s: none of %ld proposals", what, (long)count);
    else
        library_trace("cuDNN: %s: engine %ld, proposal %ld of %ld, knobs%s", what, (long)c->engine, (long)number,
                      (long)count, knobs);
}

static void choose(DnnChoice *c, Build *b, Descriptor graph, const char *what)
{
    const cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
    const int kept = b->count;
    Build proposals = {{}, 0, b->good};
    Descriptor config[MOST_PROPOSALS], heuristic = dnn_make(b, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    dnn_set_descriptor(b, heuristic, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    dnn_set(b, heuristic, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    dnn_finish(b, heuristic);
    for (int i = 0; i < MOST_PROPOSALS; i++)
        config[i] = dnn_make(&proposals, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    b->good = b->good && proposals.good;
    const int64_t count = get(b, heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                              MOST_PROPOSALS, config);
    c->none = true;
    int64_t i = 0;
    for (; b->good && c->none && i < count; i++) {
        Build trial = {{}, 0, true};
        if (read_proposal(&trial, config[i], c)) {
            dnn_drop(&trial, 0);
            plan_with(&trial, graph, c);
            c->none = !trial.good;
        }
        dnn_drop(&trial, 0);
    }
    trace_choice(c, what, i, count);
    dnn_drop(&proposals, 0);
    dnn_drop(b, kept);
}

/* ---- plans ---- */

/* The first of the library's proposals for a kind that serves; NULL where none does, or there is no memory. */
static const DnnChoice *choice_for(const DnnKind *kind)
{
    static Choice **table;
    static int count;
    for (int i = 0; i < count; i++)
        if (memcmp(&table[i]->kind, kind, sizeof *kind) == 0)
            return table[i]->choice.none ? NULL : &table[i]->choice;
    Choice **more = (Choice **)realloc(table, sizeof *table*(size_t)(count + 1));
    Choice *c = more ? (Choice *)calloc(1, sizeof *c) : NULL;
    if (more)
        table = more;
    if (!c)
        return NULL;
    table[count++] = c;
    Build b = {{}, 0, true};
    char name[128];
    c->kind = *kind;
    kind->name(name, kind, DNN_IMAGES);
    choose(&c->choice, &b, kind->graph(&b, kind, DNN_IMAGES), name);
    dnn_drop(&b, 0);
    return c->choice.none ? NULL : &c->choice;
}

static void make_plan(DnnPlan *p, const DnnKind *kind, int64_t B, const DnnChoice *c)
{
    char name[128];
    p->build.good = true;
    Descriptor plan = plan_with(&p->build, kind->graph(&p->build, kind, B), c);
    p->plan = p->build.good ? plan : NULL;
    kind->name(name, kind, B);
    if (!p->plan)
        library_trace("cuDNN: %s: engine %ld refuses this number of images", name, (long)c->engine);
}

/* A full table drops its oldest. */
DnnPlan *dnn_plan_for(const DnnKind *kind, int64_t B)
{
    static Planned table[MOST_PLANS];
    static int count, oldest;
    const DnnChoice *c = choice_for(kind);
    if (!c)
        return NULL;
    for (int i = 0; i < count; i++)
        if (table[i].B == B && memcmp(&table[i].kind, kind, sizeof *kind) == 0)
            return &table[i].plan;
    int at = count;
    if (at < MOST_PLANS) {
        count++;
    } else {
        at = oldest;
        oldest = (oldest + 1)%MOST_PLANS;
        if (!gpu_recorded) {            /* else a recording may hold the plan's kernels: it stays, out of the table */
            gpu_check(cudaStreamSynchronize(gpu_stream));
            dnn_drop(&table[at].plan.run, 0);
            dnn_drop(&table[at].plan.build, 0);
        }
    }
    Planned *p = &table[at];
    memset(p, 0, sizeof *p);
    p->kind = *kind;
    p->B = B;
    make_plan(&p->plan, kind, B, c);
    return &p->plan;
}

bool dnn_plan_run(DnnPlan *p, const int64_t *uid, const void *const *data, int count)
{
    if (!p->plan)
        return false;
    const void *workspace = gpu_scratch(SCRATCH_LIBRARY, LIBRARY_WORKSPACE);
    const size_t bytes = (size_t)count*sizeof *data;
    if (!p->pack || p->workspace != workspace || memcmp(p->data, data, bytes) != 0) {
        dnn_drop(&p->run, 0);
        p->run.good = true;
        p->pack = dnn_make(&p->run, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
        dnn_set(&p->run, p->pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, uid);
        dnn_set(&p->run, p->pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, data);
        dnn_set(&p->run, p->pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
        dnn_finish(&p->run, p->pack);
        memcpy(p->data, data, bytes);
        p->workspace = workspace;
    }
    if (p->run.good)
        check(&p->run, dnn.cudnnBackendExecute(dnn.handle, p->plan, p->pack), "cudnnBackendExecute, tensors", count);
    if (!p->run.good)
        p->plan = NULL;
    return p->run.good;
}

#endif
