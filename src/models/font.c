/* SPDX-License-Identifier: MIT */
/* font.c -- the glyphs, and drawing them. */
#include <string.h>
#include "src/models/font.h"

/* A glyph is 9 digits in base 32, a row each from the top: bit 4 is the leftmost pixel, the last two rows lie below the
 * line. */
static const char glyphs[95][10] = {
    /*   ! " # $ % & ' */
    "000000000", "444440400", "aaa000000", "aavavaa00", "4fke5u400", "pp248jj00", "cik8lid00", "440000000",
    /* ( ) * + , - . / */
    "248884200", "842224800", "04lel4000", "044v44000", "00000c480", "000v00000", "00000cc00", "01248g000",
    /* 0 1 2 3 4 5 6 7 */
    "ehjlphe00", "4c4444e00", "eh1248v00", "v2421he00", "26aiv2200", "vgu11he00", "68guhhe00", "v12488800",
    /* 8 9 : ; < = > ? */
    "ehhehhe00", "ehhf12c00", "0cc0cc000", "0cc0c4800", "248g84200", "00v0v0000", "842124800", "eh1240400",
    /* @ A B C D E F G */
    "eh1dlle00", "ehhhvhh00", "uhhuhhu00", "ehggghe00", "sihhhis00", "vgguggv00", "vgguggg00", "ehgnhhf00",
    /* H I J K L M N O */
    "hhhvhhh00", "e44444e00", "72222ic00", "hikokih00", "ggggggv00", "hrllhhh00", "hhpljhh00", "ehhhhhe00",
    /* P Q R S T U V W */
    "uhhuggg00", "ehhhlid00", "uhhukih00", "fgge11u00", "v44444400", "hhhhhhe00", "hhhhha400", "hhhllla00",
    /* X Y Z [ \ ] ^ _ */
    "hha4ahh00", "hhha44400", "v1248gv00", "e88888e00", "0g8421000", "e22222e00", "4ah000000", "000000v00",
    /* ` a b c d e f g */
    "840000000", "00e1fhf00", "ggmphhu00", "00egghe00", "11djhhf00", "00ehvge00", "698s88800", "00fhhhf1e",
    /* h i j k l m n o */
    "ggmphhh00", "40c444e00", "2062222ic", "ggikoki00", "c44444e00", "00qllhh00", "00mphhh00", "00ehhhe00",
    /* p q r s t u v w */
    "00uhhhugg", "00fhhhf11", "00mpggg00", "00fge1u00", "88s889600", "00hhhjd00", "00hhha400", "00hhlla00",
    /* x y z { | } ~ */
    "00ha4ah00", "00hhhhf1e", "00v248v00", "244844200", "444444400", "844244800", "008l20000"};

/* The character at *text, which moves on; 0 at the end. */
static int next_character(const char **text)
{
    const unsigned char c = (unsigned char)**text;
    if (!c)
        return 0;
    (*text)++;
    while (c >= 0x80 && ((unsigned char)**text & 0xc0) == 0x80)
        (*text)++;
    return c >= ' ' && c <= '~' ? c : '?';
}

int font_length(const char *text)
{
    int length = 0;
    while (next_character(&text))
        length++;
    return length;
}

const char *font_skip(const char *text, int count)
{
    while (count-- > 0 && next_character(&text))
        ;
    return text;
}

static void fill(Canvas *c, int x, int y, int side, uint32_t rgb)
{
    for (int j = y < 0 ? 0 : y; j < y + side && j < c->height; j++)
        for (int i = x < 0 ? 0 : x; i < x + side && i < c->width; i++) {
            uint8_t *p = c->pixels + ((size_t)j * c->width + i) * 3;
            p[0] = (uint8_t)(rgb >> 16);
            p[1] = (uint8_t)(rgb >> 8);
            p[2] = (uint8_t)rgb;
        }
}

static void draw_glyph(Canvas *c, int x, int y, int scale, uint32_t rgb, const char *glyph)
{
    for (int row = 0; glyph[row]; row++) {
        const int bits = glyph[row] <= '9' ? glyph[row] - '0' : glyph[row] - 'a' + 10;
        for (int column = 0; column < 5; column++)
            if (bits >> (4 - column) & 1)
                fill(c, x + column*scale, y + row*scale, scale, rgb);
    }
}

const char *font_draw(Canvas *c, int x, int y, int scale, uint32_t rgb, const char *text, int count)
{
    for (int i = 0; i < count; i++) {
        const int character = next_character(&text);
        if (!character)
            break;
        draw_glyph(c, x + i*FONT_WIDTH*scale, y, scale, rgb, glyphs[character - ' ']);
    }
    return text;
}

int font_break(const char *text, int most)
{
    const int length = font_length(text);
    if (most < 1)
        most = 1;
    if (length <= most)
        return length;
    int best = 0, at = 0;
    for (int c; at <= most && (c = next_character(&text)); at++)
        if (c == ' ' || (c == '/' && at < most))
            best = at + 1;
    return best && best <= most + 1 ? best : most;
}

int font_lines(const char *text, int most)
{
    int lines = 0;
    while (*text) {
        text = font_skip(text, font_break(text, most));
        lines++;
    }
    return lines;
}
