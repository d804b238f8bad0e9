/*
 * attack-vm [VCPUS]: a hostile user space of the host, as root, attacks a VM under stock QEMU, which holds a secret in its memory
 * and watches over it (bare/victim.c). Each attack reports `succeeded` when it obtained a word of the secret or changed one,
 * else `refused`. The checks say whether the VM went on to power off, and whether every page it owned then reads zero;
 * without protection these fail too.
 *
 * Exit status: 0 when every attack was carried out, whatever came of it.
 */
#include "attack.h"
#include "secret.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096
#define SIZE (SECRET_PAGES * PAGE)
/* Where the secret lies in the RAM's file. */
#define OFFSET (SECRET_BASE - RAM_BASE)

const char attacked[] = "vm";

static struct victim victim = { .ram = "/tmp/victim-ram", .control = "/tmp/victim-control" };
/* Where the secret lies in QEMU's address space, and in this one. */
static uint64_t theirs;
static uint8_t *ours;
static uint8_t buffer[SIZE];
static uint8_t garbage[PAGE];

static void conclude(const char *name, bool succeeded, const char *detail) {
  report_attack(name, succeeded, "%s", detail);
}

/* Reports a reading attack: `buffer` holds what `got` bytes it obtained, or -errno is in `got`. */
static void conclude_reading(const char *name, ssize_t got) {
  char detail[160];
  uint64_t words = got > 0 ? secret_words(buffer, 0, (size_t)got) : 0;
  if (got < 0) snprintf(detail, sizeof detail, "%s", strerror((int)-got));
  else snprintf(detail, sizeof detail, "%zd bytes, %" PRIu64 " words of the secret, %" PRIu64 " other words that are not 0", got,
                words, nonzero_words(buffer, (size_t)got) - words);
  conclude(name, words != 0, detail);
}

/* Reports a writing attack, after asking the victim. */
static void conclude_writing(const char *name, ssize_t put) {
  char detail[160];
  long damaged = victim_check(&victim);
  if (damaged < 0) snprintf(detail, sizeof detail, "the VM does not answer any more");
  else if (put < 0) snprintf(detail, sizeof detail, "%s, the VM is intact", strerror((int)-put));
  else snprintf(detail, sizeof detail, "%zd bytes taken, %ld words changed for the VM", put, damaged);
  conclude(name, damaged != 0, detail);
}

/* The result of a system call that returns a size. */
static ssize_t outcome(ssize_t result) { return result < 0 ? -errno : result; }

static uint64_t find_mapping(pid_t pid, const char *file) {
  char path[64], line[512];
  uint64_t found = 0;
  snprintf(path, sizeof path, "/proc/%d/maps", pid);
  FILE *maps = fopen(path, "r");
  while (maps != NULL && found == 0 && fgets(line, sizeof line, maps) != NULL) {
    if (strstr(line, file) != NULL) found = strtoull(line, NULL, 16);
  }
  if (maps != NULL) fclose(maps);
  return found;
}

static int open_memory(void) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/mem", victim.pid);
  return open(path, O_RDWR | O_CLOEXEC);
}

static void attack_proc_mem(void) {
  int fd = open_memory();
  memset(buffer, 0, SIZE);
  conclude_reading("read a VM through /proc/PID/mem", outcome(pread(fd, buffer, SIZE, (off_t)theirs)));
  ssize_t put = 0;
  for (int i = 0; i < SECRET_PAGES && put >= 0; i++) put = outcome(pwrite(fd, garbage, PAGE, (off_t)theirs + i * PAGE));
  conclude_writing("write a VM through /proc/PID/mem", put < 0 ? put : SIZE);
  close(fd);
}

static void attack_process_vm(void) {
  struct iovec local = { .iov_base = buffer, .iov_len = SIZE };
  struct iovec remote = { .iov_base = (void *)(uintptr_t)theirs, .iov_len = SIZE };
  memset(buffer, 0, SIZE);
  conclude_reading("read a VM by process_vm_readv", outcome(process_vm_readv(victim.pid, &local, 1, &remote, 1, 0)));
  memset(buffer, 0x55, SIZE);
  conclude_writing("write a VM by process_vm_writev", outcome(process_vm_writev(victim.pid, &local, 1, &remote, 1, 0)));
}

static void attack_file(void) {
  int fd = open(victim.ram, O_RDWR | O_CLOEXEC);
  memset(buffer, 0, SIZE);
  conclude_reading("read the file behind a VM's memory", outcome(pread(fd, buffer, SIZE, OFFSET)));
  memset(buffer, 0x55, SIZE);
  conclude_writing("write the file behind a VM's memory", outcome(pwrite(fd, buffer, SIZE, OFFSET)));
  close(fd);
}

static int load_all(void *result) {
  memcpy(result, ours, SIZE);
  return 0;
}

static int store_all(void *) {
  for (int i = 0; i < SIZE; i += PAGE) *(volatile uint64_t *)(ours + i) = 1;
  return 0;
}

/* Loads, stores and system calls on a mapping of the VM's memory. */
static void attack_mapping(void) {
  char detail[160];
  uint8_t *result = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  int ended = attempt(load_all, result);
  uint64_t words = secret_words(result, 0, SIZE);
  if (ended >= 128) snprintf(detail, sizeof detail, "%s", death(ended));
  else snprintf(detail, sizeof detail, "%" PRIu64 " words of the secret", words);
  conclude("read a VM through a shared mapping", words != 0, detail);
  munmap(result, SIZE);

  ended = attempt(store_all, NULL);
  long damaged = victim_check(&victim);
  if (ended >= 128) snprintf(detail, sizeof detail, "%s, %ld words changed for the VM", death(ended), damaged);
  else snprintf(detail, sizeof detail, "%ld words changed for the VM", damaged);
  conclude("write a VM through a shared mapping", damaged != 0, detail);

  int ends[2];
  if (pipe(ends) < 0) fail(errno, "pipe");
  memset(buffer, 0, SIZE);
  ssize_t put = outcome(write(ends[1], ours, PAGE));
  conclude_reading("send a VM's memory with write(2)", put < 0 ? put : outcome(read(ends[0], buffer, PAGE)));
  if (write(ends[1], garbage, PAGE) != PAGE) fail(errno, "pipe");
  conclude_writing("receive into a VM's memory with read(2)", outcome(read(ends[0], ours, PAGE)));
  close(ends[0]);
  close(ends[1]);
}

static void attack_dev_mem(void) {
  uint64_t physical = physical_address(victim.pid, theirs);
  int fd = open("/dev/mem", O_RDWR | O_CLOEXEC);
  memset(buffer, 0, SIZE);
  conclude_reading("read a VM through /dev/mem", physical == 0 ? -EFAULT : outcome(pread(fd, buffer, PAGE, (off_t)physical)));
  conclude_writing("write a VM through /dev/mem", physical == 0 ? -EFAULT : outcome(pwrite(fd, garbage, PAGE, (off_t)physical)));
  close(fd);
}

/* The kernel's own map of all memory, as debuggers read it. */
static void attack_kcore(void) {
  uint64_t physical = physical_address(victim.pid, theirs);
  int fd = open("/proc/kcore", O_RDONLY | O_CLOEXEC);
  Elf64_Ehdr header;
  off_t at = 0;
  if (fd >= 0 && pread(fd, &header, sizeof header, 0) == sizeof header) {
    for (int i = 0; i < header.e_phnum; i++) {
      Elf64_Phdr segment;
      if (pread(fd, &segment, sizeof segment, (off_t)(header.e_phoff + (uint64_t)i * header.e_phentsize)) != sizeof segment) break;
      if (segment.p_type != PT_LOAD || segment.p_paddr == 0 || physical - segment.p_paddr >= segment.p_memsz) continue;
      at = (off_t)(segment.p_offset + physical - segment.p_paddr);
    }
  }
  memset(buffer, 0, SIZE);
  conclude_reading("read a VM through /proc/kcore", at == 0 ? -ENOENT : outcome(pread(fd, buffer, PAGE, at)));
  close(fd);
}

static char peeked[256];

static void hear(char byte) {
  size_t length = strlen(peeked);
  if (length + 1 < sizeof peeked) peeked[length] = byte == '\n' ? ' ' : byte;
}

/* A VM of the attacker's own with the victim's page as its memory. */
static int run_thief(void *result) {
  static const struct console console = { .put = hear };
  size_t size = 8 << 20;
  struct vm vm;
  struct vcpu vcpu;
  uint8_t *memory = guest_memory(size, MAP_PRIVATE);
  load_file(BARE_FOLDER "peek.bin", memory + (GUEST_ENTRY - RAM_BASE), size - (GUEST_ENTRY - RAM_BASE));
  vm_open(&vm);
  if (!vm_map(&vm, RAM_BASE, memory, size) || !vm_map(&vm, 0x80000000, ours, PAGE)) return 1;
  vcpu_open(&vcpu, &vm, 0, 0, GUEST_ENTRY);
  alarm(20);
  int ended = vcpu_run(&vcpu, &console);
  snprintf(result, PAGE, "KVM_RUN %d %s", ended, peeked);
  return 0;
}

static void attack_second_vm(void) {
  char detail[320], expected[32];
  char *result = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  int ended = attempt(run_thief, result);
  long damaged = victim_check(&victim);
  snprintf(expected, sizeof expected, "peek %" PRIx64 " ", secret_word(0));
  bool leaked = strstr(result, expected) != NULL;
  snprintf(detail, sizeof detail, "%s, %ld words changed for the VM", ended >= 128 ? death(ended) : result, damaged);
  conclude("map a VM's memory into another VM", leaked || damaged != 0, detail);
  munmap(result, PAGE);
}

/* Has QEMU do one command of its control protocol. False when it ends instead of answering. */
static bool control(const char *command, const char *arguments) {
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  char text[512];
  strncpy(address.sun_path, victim.control, sizeof address.sun_path - 1);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) fail(errno, "%s", victim.control);
  FILE *answers = fdopen(fd, "r");
  int length = snprintf(text, sizeof text, "{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"%s\",\"arguments\":%s}\n", command,
                        arguments);
  if (write(fd, text, (size_t)length) != length) fail(errno, "%s", victim.control);
  int answered = 0;
  while (answered < 2 && fgets(text, sizeof text, answers) != NULL) {
    if (strstr(text, "\"error\"") != NULL) fail(0, "QEMU refuses %s: %s", command, text);
    if (strstr(text, "\"return\"") != NULL) answered++;
  }
  fclose(answers);
  return answered == 2;
}

/* QEMU itself is told to write the VM's memory to a file: its own access may kill it, so each has a VM of its own. */
static void attack_control(const char *name, const char *command, int vcpus) {
  const char *dump = "/tmp/victim-dump";
  char arguments[160], detail[200];
  if (!victim_start(&victim, vcpus)) fail(0, "the victim does not come up");
  unlink(dump);
  snprintf(arguments, sizeof arguments, "{\"val\":%llu,\"size\":%d,\"filename\":\"%s\"}", SECRET_BASE, SIZE, dump);
  bool answered = control(command, arguments);
  int fd = open(dump, O_RDONLY | O_CLOEXEC);
  memset(buffer, 0, SIZE);
  ssize_t got = fd < 0 ? 0 : read(fd, buffer, SIZE);
  uint64_t words = secret_words(buffer, 0, SIZE);
  if (fd >= 0) close(fd);
  unlink(dump);
  if (answered) {
    long damaged = victim_quit(&victim);
    snprintf(detail, sizeof detail, "%zd bytes, %" PRIu64 " words of the secret; the VM %s", got < 0 ? 0 : got, words,
             damaged == 0 ? "goes on" : "is gone");
  } else {
    int status = victim_kill(&victim);
    snprintf(detail, sizeof detail, "QEMU died of %s, %zd bytes, %" PRIu64 " words of the secret",
             WIFSIGNALED(status) ? death(128 + WTERMSIG(status)) : "its own accord", got < 0 ? 0 : got, words);
  }
  conclude(name, words != 0, detail);
}

/* After the VM has ended: what is left of the secret in the pages that it owned. */
static void check_scrubbed(void) {
  int fd = open(victim.ram, O_RDONLY | O_CLOEXEC);
  memset(buffer, 0xff, SIZE);
  ssize_t got = outcome(pread(fd, buffer, SIZE, OFFSET));
  uint64_t rest = got == SIZE ? nonzero_words(buffer, SIZE) : ~0ull;
  uint64_t words = secret_words(buffer, 0, SIZE);
  char detail[96];
  snprintf(detail, sizeof detail, "%" PRIu64 " words of the secret, %" PRIu64 " words that are not 0", words, rest);
  close(fd);
  conclude("read a VM's memory after it ended", words != 0, detail);
  report_check("every page of a VM that ended reads zero", rest == 0, "%s", detail);
}

int main(int count, char **words) {
  int vcpus = count > 1 ? atoi(words[1]) : 1;
  setbuf(stdout, NULL);
  memset(garbage, 0x55, sizeof garbage);
  if (!victim_start(&victim, vcpus)) fail(0, "the victim does not come up");
  int fd = open(victim.ram, O_RDWR | O_CLOEXEC);
  ours = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, OFFSET);
  theirs = find_mapping(victim.pid, victim.ram) + OFFSET;
  if (fd < 0 || ours == MAP_FAILED || theirs == OFFSET) fail(errno, "cannot find the VM's memory");
  attack_proc_mem();
  attack_process_vm();
  attack_file();
  attack_mapping();
  attack_dev_mem();
  attack_kcore();
  attack_second_vm();
  long damaged = victim_quit(&victim);
  report_check("the attacked VM goes on to power off", damaged == 0, "%d vCPUs, %ld words changed since the last question", vcpus,
               damaged);
  check_scrubbed();
  munmap(ours, SIZE);
  close(fd);
  attack_control("dump a VM with QEMU's pmemsave", "pmemsave", vcpus);
  attack_control("dump a VM with QEMU's memsave", "memsave", vcpus);
  unlink(victim.ram);
  return 0;
}
