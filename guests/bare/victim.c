/*
 * The victim: a bare-metal guest with a secret in its memory, on any number of vCPUs, that keeps checking that the secret
 * is unharmed. Needs 64 MiB of RAM. Conversation on the console, a byte in, a line out:
 *
 * (start)   "ready": the secret is in place, SECRET_PAGES pages from SECRET_BASE, see programs/secret.h
 * c         "intact" or "damaged N" for N damaged words, which are then restored
 * q         as c, and the machine powers off
 */
#include "bare.h"
#include "../programs/secret.h"

#define WORDS (SECRET_PAGES * 512)
#define MOST_VCPUS 8

static volatile u32 vcpus = 1;
/* Damaged words seen and not yet reported; the vCPUs add to it. */
static u64 damage[MOST_VCPUS];

static volatile u64 *secret(void) { return (volatile u64 *)SECRET_BASE; }

/* Checks the words of the pages that are this vCPU's. */
static void check(u32 number) {
  for (u64 i = 0; i < WORDS; i++) {
    if ((i >> 9) % vcpus != number || secret()[i] == secret_word(i)) continue;
    damage[number]++;
    secret()[i] = secret_word(i);
  }
}

void guest_secondary(u32 number) {
  for (;;) check(number);
}

/* Checks everything at once, and says what all vCPUs have found since the last time. */
static void answer(void) {
  u64 found = 0;
  for (u64 i = 0; i < WORDS; i++) {
    if (secret()[i] == secret_word(i)) continue;
    found++;
    secret()[i] = secret_word(i);
  }
  for (u32 i = 0; i < MOST_VCPUS; i++) {
    found += damage[i];
    damage[i] = 0;
  }
  if (found == 0) print("intact\n");
  else print("damaged %d\n", found);
}

void guest_main(void) {
  for (u64 i = 0; i < WORDS; i++) secret()[i] = secret_word(i);
  while (vcpus < MOST_VCPUS && start_vcpu(vcpus)) vcpus++;
  print("ready\n");
  for (;;) {
    check(0);
    int byte = get();
    if (byte == 'c' || byte == 'q') answer();
    if (byte == 'q') power_off();
  }
}
