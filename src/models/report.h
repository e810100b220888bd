/* SPDX-License-Identifier: MIT */
/* report.h -- what sae-report has gathered, and the page and the JSON made of it.
 *
 * The page is one HTML file without scripts and without references to anything outside it; every text from data is
 * escaped. The same inputs and options give the same bytes. */
#ifndef SRC_MODELS_REPORT_H
#define SRC_MODELS_REPORT_H

#include "src/models/feature_tally.h"
#include "src/models/fit_curves.h"
#include "src/models/name_table.h"
#include "src/models/rank_leads.h"
#include "src/models/sae.h"
#include "src/models/steered_pairs.h"

typedef struct Icon { char *id; double value; } Icon;   /* id NULL: none */

typedef struct Report {             /* parts that were not given are NULL, or have a count of 0 */
    const char *title;
    const char *folder;             /* of the autoencoder, as it was given */
    const Sae *sae;
    Curves curves;
    Ranks *ranks;
    Leads leads;
    Tally *tally;
    NameTable names;                /* of its features */
    bool has_images;                /* pictures for the heat maps were given */
    Icon *icon;                     /* [tally->options.count] what each feature draws by itself; NULL: not given */
    Pairs pairs;
    Thumbs thumbs;
    json_t *step;                   /* this run, for the provenance */
} Report;

/* After the tally: takes a small copy of each picture that belongs to a peak (asked of them), which it finds by their
 * ids in streams, PNG files and folders. r->thumbs.side is set. */
int report_read_images(Report *r, const char *const *paths, int count, long *asked, long *found, Err *e);
/* Steered pictures and unsteered ones, `kept` pairs of each steering. No steered one is an error. */
int report_read_steered(Report *r, const char *const *paths, int count, int kept, Err *e);
/* After the tally: what features draw by themselves, pictures of sd-steer --mode only; of how many it was found. */
int report_read_icons(Report *r, const char *const *paths, int count, long *found, Err *e);
void report_free_icons(Report *r);              /* before the tally */
Thumb *report_icon(const Report *r, int place);             /* of tally->chosen[place]; NULL where there is none */
/* The picture that belongs to a peak; NULL when it was not given. */
Thumb *report_picture(const Report *r, const Peak *p);
/* Which pictures are drawn, in the order of the page; once, before it is written. */
void report_plan(Report *r);

/* Prints the whole page; fails only without memory, and what the file says is the caller's to ask. */
int report_page(FILE *f, Report *r, Err *e);
/* The same figures as one JSON object, the caller's; NULL with an error. */
json_t *report_json(const Report *r, Err *e);

/* ---- the page's parts, a file each ---- */
extern const char report_style[];
void report_head(FILE *f, const Report *r);             /* the autoencoder */
void report_training(FILE *f, const Report *r);
void report_concepts(FILE *f, const Report *r);
int report_features(FILE *f, const Report *r, Err *e);
void report_sheets(FILE *f, const Report *r);
void report_print_icon(FILE *f, const Report *r, int place);
/* Anchors: "f12"; "label-concept-Cats". */
void report_label_anchor(FILE *f, const char *kind, const char *label);
/* "concept Cats, theme Winter": the fields of a record that are labels of the prompt, escaped. */
void report_labels(FILE *f, const json_t *fields);
/* Places of the tally's timesteps, t falling: [times]. NULL without memory; the caller frees. */
int *report_times(const Tally *y);

#endif
