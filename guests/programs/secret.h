/* The secret of the victim (bare/victim.c), as attackers look for it. */
#ifndef SECRET_H
#define SECRET_H

#include <stdint.h>

/* Guest physical address and size. */
#define SECRET_BASE 0x41000000ull
#define SECRET_PAGES 256

/* The secret's word number `index`: no value that memory holds by chance. */
static inline uint64_t secret_word(uint64_t index) { return 0xc04e715045ec4e70 ^ (index * 0x9e3779b97f4a7c15); }

#endif
