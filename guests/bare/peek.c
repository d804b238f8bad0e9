/*
 * Reads the page that its VMM mapped at 0x80000000, and says what it found: `peek FIRST_WORD NONZERO_WORDS`, hexadecimal.
 * Then it writes one word there, and says `poked` when that did not stop it.
 */
#include "bare.h"

#define WINDOW 0x80000000ul

void guest_main(void) {
  volatile u64 *window = (volatile u64 *)WINDOW;
  u64 first = window[0];
  u64 nonzero = 0;
  for (u32 i = 0; i < 512; i++) nonzero += window[i] != 0;
  print("peek %x %x\n", first, nonzero);
  window[511] = 0x6b696c6c;
  print("poked\n");
}
