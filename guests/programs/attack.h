/* What the attack programs share: victims, attempts that may kill who makes them, and reports. */
#ifndef ATTACK_H
#define ATTACK_H

#include "vmm.h"

#include <sys/types.h>

/* Where the initramfs has the bare-metal guests. */
#define BARE_FOLDER "/corevisor/bare/"

/* What a program attacks, `core` or `vm`: each defines it. */
extern const char attacked[];

/* Prints `@corevisor {"event":"attack",...}`. */
void report_attack(const char *name, bool succeeded, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Prints `@corevisor {"event":"check",...}`. */
void report_check(const char *name, bool ok, const char *format, ...) __attribute__((format(printf, 3, 4)));
/*
 * Runs `work` in a child process, which may die of it. Returns its result, 0 to 127, or 128 + the signal that killed it.
 */
int attempt(int (*work)(void *), void *argument);
/* The text for such a result when it means death. */
const char *death(int result);

/* Words of the victim's secret in `size` bytes that were read from its page `page` on. */
uint64_t secret_words(const void *bytes, uint64_t page, size_t size);
/* Words that are not 0. */
uint64_t nonzero_words(const void *bytes, size_t size);

/* A VM under stock QEMU that runs bare/victim.c. Its RAM is the file `ram`, which others can open too. */
struct victim {
  pid_t pid;
  int to;   /* its console */
  int from;
  const char *ram;
  const char *control; /* the socket of QEMU's control protocol */
};

/* Starts the victim and waits until its secret is in place. False when it does not come up. */
bool victim_start(struct victim *victim, int vcpus);
/* Damaged words since the last time, or -1 when it does not answer any more. */
long victim_check(struct victim *victim);
/* Lets it check once more and power off. The number of damaged words, or -1 when it does not get that far. */
long victim_quit(struct victim *victim);
/* Ends it at once. Returns what it ended with, as waitpid says. */
int victim_kill(struct victim *victim);

/* Physical address of the page at `address` of a process, or 0. */
uint64_t physical_address(pid_t pid, uint64_t address);

#endif
