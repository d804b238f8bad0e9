/* See attack.h. */
#include "attack.h"
#include "secret.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

void report_attack(const char *name, bool succeeded, const char *format, ...) {
  char detail[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(detail, sizeof detail, format, arguments);
  va_end(arguments);
  report("{\"event\":\"attack\",\"target\":\"%s\",\"name\":\"%s\",\"result\":\"%s\",\"detail\":\"%s\"}", attacked, name,
         succeeded ? "succeeded" : "refused", detail);
}

void report_check(const char *name, bool passed, const char *format, ...) {
  char detail[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(detail, sizeof detail, format, arguments);
  va_end(arguments);
  report("{\"event\":\"check\",\"name\":\"%s\",\"ok\":%s,\"detail\":\"%s\"}", name, passed ? "true" : "false", detail);
}

int attempt(int (*work)(void *), void *argument) {
  pid_t pid = fork();
  if (pid < 0) fail(errno, "fork");
  if (pid == 0) _exit(work(argument));
  int status;
  if (waitpid(pid, &status, 0) < 0) fail(errno, "waitpid");
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

const char *death(int result) {
  static char text[32];
  int number = result - 128;
  snprintf(text, sizeof text, "SIG%s", number > 0 && sigabbrev_np(number) != NULL ? sigabbrev_np(number) : "?");
  return text;
}

uint64_t secret_words(const void *bytes, uint64_t page, size_t size) {
  const uint64_t *words = bytes;
  uint64_t found = 0;
  for (size_t i = 0; i < size / 8; i++) found += words[i] == secret_word(page * 512 + i);
  return found;
}

uint64_t nonzero_words(const void *bytes, size_t size) {
  const uint64_t *words = bytes;
  uint64_t found = 0;
  for (size_t i = 0; i < size / 8; i++) found += words[i] != 0;
  return found;
}

/* The next line from the victim's console, waited for at most `seconds`. False when it ends or says nothing. */
static bool listen_line(struct victim *victim, char *line, size_t size, int seconds) {
  size_t length = 0;
  while (length < size - 1) {
    struct pollfd poll_from = { .fd = victim->from, .events = POLLIN };
    if (poll(&poll_from, 1, seconds * 1000) <= 0) return false;
    if (read(victim->from, &line[length], 1) != 1) return false;
    if (line[length] == '\n') {
      line[length] = 0;
      return true;
    }
    if (line[length] != '\r') length++;
  }
  return false;
}

static void run_qemu(struct victim *victim, int vcpus) {
  char smp[8], memory[160], control[96];
  snprintf(smp, sizeof smp, "%d", vcpus);
  snprintf(memory, sizeof memory, "memory-backend-file,id=ram,size=64M,share=on,mem-path=%s", victim->ram);
  snprintf(control, sizeof control, "unix:%s,server=on,wait=off", victim->control);
  execlp("qemu-system-aarch64", "qemu-system-aarch64", "-machine", "virt,gic-version=3,memory-backend=ram", "-cpu", "host",
         "-enable-kvm", "-smp", smp, "-m", "64", "-object", memory, "-nodefaults", "-display", "none", "-qmp", control,
         "-serial", "stdio", "-no-reboot", "-kernel", BARE_FOLDER "victim.elf", NULL);
  _exit(127);
}

bool victim_start(struct victim *victim, int vcpus) {
  int to[2], from[2];
  signal(SIGPIPE, SIG_IGN);
  unlink(victim->ram);
  unlink(victim->control);
  if (pipe2(to, O_CLOEXEC) < 0 || pipe2(from, O_CLOEXEC) < 0) fail(errno, "pipe");
  victim->pid = fork();
  if (victim->pid < 0) fail(errno, "fork");
  if (victim->pid == 0) {
    dup2(to[0], STDIN_FILENO);
    dup2(from[1], STDOUT_FILENO);
    run_qemu(victim, vcpus);
  }
  close(to[0]);
  close(from[1]);
  victim->to = to[1];
  victim->from = from[0];
  char line[128];
  return listen_line(victim, line, sizeof line, 60) && strcmp(line, "ready") == 0;
}

static long ask(struct victim *victim, char question) {
  char line[128];
  if (write(victim->to, &question, 1) != 1 || !listen_line(victim, line, sizeof line, 60)) return -1;
  if (strcmp(line, "intact") == 0) return 0;
  return strncmp(line, "damaged ", 8) == 0 ? atol(line + 8) : -1;
}

long victim_check(struct victim *victim) { return ask(victim, 'c'); }

static int await(struct victim *victim) {
  int status = -1;
  close(victim->to);
  close(victim->from);
  waitpid(victim->pid, &status, 0);
  unlink(victim->control);
  return status;
}

long victim_quit(struct victim *victim) {
  long damaged = ask(victim, 'q');
  if (damaged < 0) kill(victim->pid, SIGKILL);
  return await(victim) == 0 ? damaged : -1;
}

int victim_kill(struct victim *victim) {
  kill(victim->pid, SIGKILL);
  return await(victim);
}

uint64_t physical_address(pid_t pid, uint64_t address) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/pagemap", pid);
  int fd = open(path, O_RDONLY);
  uint64_t entry = 0;
  if (fd < 0 || pread(fd, &entry, 8, (off_t)(address >> 12 << 3)) != 8) entry = 0;
  close(fd);
  /* Documentation/admin-guide/mm/pagemap.rst: bit 63 present, bits 54:0 frame. */
  return entry >> 63 != 0 ? (entry & ((1ull << 55) - 1)) << 12 : 0;
}
