/* The work of an indexed Job: each pod counts the primes of its own part of a range.
 *
 *   primes FROM SIZE    counts those in SIZE numbers from FROM + JOB_COMPLETION_INDEX * SIZE on
 */
#include <stdio.h>
#include <stdlib.h>

static int is_prime(long number) {
    if (number < 2 || (number > 2 && number % 2 == 0))
        return 0;
    for (long divisor = 3; divisor * divisor <= number; divisor += 2)
        if (number % divisor == 0)
            return 0;
    return 1;
}

int main(int count, char **words) {
    if (count != 3) {
        fprintf(stderr, "usage: primes FROM SIZE\n");
        return 2;
    }
    const char *index = getenv("JOB_COMPLETION_INDEX");
    long size = atol(words[2]), from = atol(words[1]) + size * (index ? atol(index) : 0);
    long found = 0;
    for (long number = from; number < from + size; number++)
        found += is_prime(number);
    printf("part %s: %ld primes from %ld to %ld\n", index ? index : "-", found, from, from + size - 1);
    return 0;
}
