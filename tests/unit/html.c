/* SPDX-License-Identifier: MIT */
/* html.c -- HTML printed: what is escaped, anchors, base64 of RFC 4648, numbers of three digits; charts and colours. */
#include "formats/html.h"
#include "src/models/chart.h"
#include "tests/unit/test.h"

static char printed[4096];

static FILE *paper(void)
{
    memset(printed, 0, sizeof printed);
    return fmemopen(printed, sizeof printed - 1, "w");
}

static int test_escape(void)
{
    int failed = 0;
    FILE *f = paper();
    html(f, "<b class=\"%s\">%d %%</b>", "a\"b'c<d>&e", -3);
    fclose(f);
    failed += test_text("markup stays, text is escaped", printed,
                        "<b class=\"a&quot;b&#39;c&lt;d&gt;&amp;e\">-3 %</b>");
    f = paper();
    html_text(f, "caf\xc3\xa9\n\x01|\xff|\xc3|\xed\xa0\x80");       /* control, bad byte, cut, surrogate */
    fclose(f);
    failed += test_ok("UTF-8 stays", strncmp(printed, "caf\xc3\xa9\n", 6) == 0);
    failed += test_ok("what is none becomes U+FFFD",
                      strstr(printed, "\n\xef\xbf\xbd|\xef\xbf\xbd|\xef\xbf\xbd|\xef\xbf\xbd")
                      && !strchr(printed, '\x01') && !strchr(printed, '\xff'));
    f = paper();
    html(f, "%'d %'lld %zu %.1f %.2f %g", 1234567, -12345ll, (size_t)7, 1.25, 2.0, 0.05);
    fclose(f);
    failed += test_text("numbers", printed, "1,234,567 -12,345 7 1.2 2.00 0.0500");
    f = paper();
    html_anchor(f, "Van Gogh_\"\xc3\xa9");
    fclose(f);
    failed += test_text("anchor", printed, "Van_20Gogh_5f_22_c3_a9");
    return failed;
}

static int test_base64(void)
{
    static const char *const in[] = {"", "f", "fo", "foo", "foob", "fooba", "foobar"};     /* RFC 4648, section 10 */
    static const char *const out[] = {"", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};
    int failed = 0;
    for (int i = 0; i < 7; i++) {
        char want[64];
        FILE *f = paper();
        html_data(f, "text/plain", in[i], strlen(in[i]));
        fclose(f);
        snprintf(want, sizeof want, "data:text/plain;base64,%s", out[i]);
        failed += test_text("base64", printed, want);
    }
    FILE *f = paper();
    html_data(f, "image/png", "\xff\xef\xbe", 3);
    fclose(f);
    return failed + test_text("base64/high bytes", printed, "data:image/png;base64,/+++");
}

static int test_numbers(void)
{
    static const struct { double value; const char *text; } cases[] = {
        {0, "0"}, {-0.0, "0"}, {0.050290, "0.0503"}, {1, "1.00"}, {9.999, "10.0"}, {-12.34, "-12.3"}, {999.6, "1,000"},
        {123456, "123,456"}, {1e7, "1.00e7"}, {4.56e-7, "4.56e-7"}, {0.0001, "0.000100"}, {INFINITY, "inf"},
        {NAN, "not known"}};
    int failed = 0;
    char text[32];
    for (size_t i = 0; i < sizeof cases/sizeof *cases; i++)
        failed += test_text("number", number_text(text, cases[i].value), cases[i].text);
    return failed;
}

static int test_chart(void)
{
    int failed = 0;
    double tick[12];
    failed += test_ok("ticks of 0 to 1", chart_ticks(tick, 0, 1, 5) == 6 && fabs(tick[1] - 0.2) < 1e-12);
    failed += test_ok("ticks of 13 to 47", chart_ticks(tick, 13, 47, 3) == 3 && tick[0] == 20 && tick[2] == 40);
    failed += test_ok("no range, no ticks", chart_ticks(tick, 2, 2, 5) == 0 && chart_ticks(tick, NAN, 1, 5) == 0);

    /* matplotlib's table at 0, 128 and 255 of 255 */
    static const struct { double share; uint8_t rgb[3]; } map[] = {
        {0, {68, 1, 84}}, {128/255.0, {33, 145, 140}}, {1, {253, 231, 37}}, {-5, {68, 1, 84}}, {NAN, {68, 1, 84}}};
    for (int i = 0; i < 5; i++) {
        uint8_t rgb[3];
        chart_viridis(rgb, map[i].share);
        int worst = 0;
        for (int k = 0; k < 3; k++)
            worst = abs(rgb[k] - map[i].rgb[k]) > worst ? abs(rgb[k] - map[i].rgb[k]) : worst;
        failed += test_ok("viridis", worst <= 4);
    }

    const double x[] = {0, 1, 2, 3}, y[] = {1, NAN, 0, 2}, none[] = {NAN, NAN, NAN, NAN};
    const Plot plot = {.label = "a <b>", .x = "x", .y = "y", .width = 258, .height = 146};
    FILE *f = paper();
    chart_lines(f, &plot, &(Series){x, y, 4, 1, false}, 1);
    fclose(f);
    /* x from 58 to 242, y from 110 (0) to 10 (2.08); a gap lifts the pen */
    failed += test_ok("line", strstr(printed, "class=\"line s1\" d=\"M58.0 61.9M180.7 110.0L242.0 13.8\"") != NULL);
    failed += test_ok("its label", strstr(printed, "aria-label=\"a &lt;b&gt;\"") != NULL);
    f = paper();
    chart_lines(f, &plot, &(Series){x, none, 4, 0, false}, 1);
    chart_bars(f, &plot, (int64_t[]){0, 0}, 2, 0, 1);
    fclose(f);
    failed += test_text("nothing to show, nothing drawn", printed, "");
    f = paper();
    chart_bars(f, &plot, (int64_t[]){0, 4, 0, 2, 0}, 5, -2, 1);       /* 0.1 to 100 in three bins, two of them filled */
    fclose(f);
    failed += test_ok("bars", strstr(printed, "M58.0 110V13.8H118.3V110") && strstr(printed, ">0.1</text>")
                      && strstr(printed, ">100</text>") && !strstr(printed, "0.01"));
    return failed;
}

int main(void)
{
    return (test_escape() + test_base64() + test_numbers() + test_chart()) != 0;
}
