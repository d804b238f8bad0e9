/*
 * fork-exec [COUNT [BATCHES]]: how long COUNT times fork and exec of a static program take (this one), in the fastest of BATCHES.
 * Prints `@corevisor {"event":"fork-exec",...}`.
 */
#include "vmm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_nsec / 1000;
}

static void once(char *program) {
  char *words[] = { program, "-", NULL };
  pid_t pid = fork();
  if (pid < 0) fail(errno, "fork");
  if (pid == 0) {
    execv("/proc/self/exe", words);
    _exit(127);
  }
  int status;
  if (waitpid(pid, &status, 0) < 0 || status != 0) fail(errno, "the child failed");
}

int main(int count, char **words) {
  if (count > 1 && strcmp(words[1], "-") == 0) return 0;
  int times = count > 1 ? atoi(words[1]) : 300;
  int batches = count > 2 ? atoi(words[2]) : 5;
  uint64_t best = UINT64_MAX;
  for (int batch = 0; batch < batches; batch++) {
    uint64_t start = now();
    for (int i = 0; i < times; i++) once(words[0]);
    uint64_t took = now() - start;
    if (took < best) best = took;
  }
  report("{\"event\":\"fork-exec\",\"count\":%d,\"microseconds\":%llu}", times, (unsigned long long)best);
}
