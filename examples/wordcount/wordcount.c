/* Counts lines, words and bytes of the files named as arguments, or of its input where none is named.
 * A file that cannot be read is named on stderr with its reason, and the exit code is 1. */

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

struct counts {
    unsigned long lines, words, bytes;
};

static int count(FILE *file, struct counts *counts)
{
    int byte, inside = 0;

    while ((byte = getc(file)) != EOF) {
        counts->bytes++;
        counts->lines += byte == '\n';
        if (isspace(byte))
            inside = 0;
        else if (!inside) {
            inside = 1;
            counts->words++;
        }
    }
    return ferror(file) ? -1 : 0;
}

static void show(const struct counts *counts, const char *name)
{
    printf("%lu lines, %lu words, %lu bytes: %s\n", counts->lines, counts->words, counts->bytes, name);
}

int main(int argc, char **argv)
{
    struct counts total = {0, 0, 0};
    int failed = 0;

    if (argc < 2) {
        if (count(stdin, &total) != 0) {
            fprintf(stderr, "wordcount: input: %s\n", strerror(errno));
            return 1;
        }
        show(&total, "input");
        return 0;
    }
    for (int i = 1; i < argc; i++) {
        struct counts one = {0, 0, 0};
        FILE *file = fopen(argv[i], "rb");

        if (file == NULL || count(file, &one) != 0) {
            fprintf(stderr, "wordcount: %s: %s\n", argv[i], strerror(errno));
            failed = 1;
        } else {
            show(&one, argv[i]);
            total.lines += one.lines;
            total.words += one.words;
            total.bytes += one.bytes;
        }
        if (file != NULL)
            fclose(file);
    }
    if (argc > 2)
        show(&total, "total");
    return failed;
}
