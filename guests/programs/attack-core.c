/*
 * attack-core: a hostile user space of the host, as root, attacks the memory of the core below it: through /dev/mem, and with
 * VMs whose memory it would be. The core's region is what RAM misses at its start according to /proc/iomem; where nothing is
 * missing there is no core, nothing is attacked.
 *
 * A read counts as succeeded whatever it reads, a write when the store completes. Exit status: 0 when every attack was carried out.
 */
#include "attack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096
/* Attacked are the page-table roots, the image, the middle, and the pool's last page. */
#define TARGETS 4

const char attacked[] = "core";

static int memory_file;

/* First address of RAM that the host has. */
static uint64_t first_ram(void) {
  char line[256];
  uint64_t first = 0;
  FILE *map = fopen("/proc/iomem", "r");
  while (map != NULL && first == 0 && fgets(line, sizeof line, map) != NULL) {
    if (strstr(line, "System RAM") != NULL) first = strtoull(line, NULL, 16);
  }
  if (map != NULL) fclose(map);
  return first;
}

static uint8_t *map_physical(uint64_t address) {
  uint8_t *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memory_file, (off_t)address);
  return page == MAP_FAILED ? NULL : page;
}

static int load(void *page) { return *(volatile uint64_t *)page == 0 ? 0 : 1; }

static int store(void *page) {
  *(volatile uint64_t *)page = 0x6b696c6c;
  return 0;
}

/* Each attack returns NULL when it succeeded at the address, else how it was refused. */

static const char *read_mapping(uint64_t address) {
  uint8_t *page = map_physical(address);
  if (page == NULL) return strerror(errno);
  int ended = attempt(load, page);
  munmap(page, PAGE);
  return ended < 128 ? NULL : death(ended);
}

static const char *write_mapping(uint64_t address) {
  uint8_t *page = map_physical(address);
  if (page == NULL) return strerror(errno);
  int ended = attempt(store, page);
  munmap(page, PAGE);
  return ended < 128 ? NULL : death(ended);
}

static const char *send(uint64_t address) {
  uint8_t *page = map_physical(address);
  int ends[2];
  if (page == NULL || pipe(ends) < 0) return strerror(errno);
  const char *refusal = write(ends[1], page, 64) > 0 ? NULL : strerror(errno);
  close(ends[0]);
  close(ends[1]);
  munmap(page, PAGE);
  return refusal;
}

static const char *read_file(uint64_t address) {
  uint64_t word;
  return pread(memory_file, &word, sizeof word, (off_t)address) > 0 ? NULL : strerror(errno);
}

static const char *write_file(uint64_t address) {
  uint64_t word = 0x6b696c6c;
  return pwrite(memory_file, &word, sizeof word, (off_t)address) > 0 ? NULL : strerror(errno);
}

static bool heard;

static void hear(char) { heard = true; }

/* A VM that has the page as its memory, and reads and writes it. */
static const char *give_to_vm(uint64_t address) {
  static const struct console console = { .put = hear };
  size_t size = 8 << 20;
  struct vm vm;
  struct vcpu vcpu;
  uint8_t *page = map_physical(address);
  if (page == NULL) return strerror(errno);
  uint8_t *memory = guest_memory(size, MAP_PRIVATE);
  load_file(BARE_FOLDER "peek.bin", memory + (GUEST_ENTRY - RAM_BASE), size - (GUEST_ENTRY - RAM_BASE));
  vm_open(&vm);
  if (!vm_map(&vm, RAM_BASE, memory, size) || !vm_map(&vm, 0x80000000, page, PAGE)) fail(errno, "KVM refuses the memory");
  vcpu_open(&vcpu, &vm, 0, 0, GUEST_ENTRY);
  heard = false;
  int ended = vcpu_run(&vcpu, &console);
  vcpu_close(&vcpu);
  vm_close(&vm);
  munmap(memory, size);
  munmap(page, PAGE);
  return heard ? NULL : ended == KVM_EXIT_FAIL_ENTRY ? "KVM_EXIT_FAIL_ENTRY" : strerror(-ended);
}

static const struct {
  const char *name;
  const char *(*attack)(uint64_t address);
} attacks[] = {
  { "read the core through /dev/mem", read_mapping },
  { "write the core through /dev/mem", write_mapping },
  { "send the core's memory with write(2)", send },
  { "read the core by read(2) of /dev/mem", read_file },
  { "write the core by write(2) of /dev/mem", write_file },
  { "give the core's memory to a VM", give_to_vm },
};

int main(void) {
  setbuf(stdout, NULL);
  uint64_t end = first_ram();
  if (end <= RAM_BASE || end - RAM_BASE > (1ull << 30)) return 0;
  memory_file = open("/dev/mem", O_RDWR | O_SYNC | O_CLOEXEC);
  if (memory_file < 0) fail(errno, "/dev/mem");
  uint64_t targets[TARGETS] = { RAM_BASE, RAM_BASE + (2 << 20), (RAM_BASE + (end - RAM_BASE) / 2) & ~0xfffull, end - PAGE };
  for (size_t i = 0; i < sizeof attacks / sizeof attacks[0]; i++) {
    uint64_t reached = 0;
    const char *refusal = "";
    for (int j = 0; j < TARGETS; j++) {
      const char *answer = attacks[i].attack(targets[j]);
      if (answer == NULL) reached = targets[j];
      else refusal = answer;
    }
    if (reached != 0) report_attack(attacks[i].name, true, "at %#llx", (unsigned long long)reached);
    else report_attack(attacks[i].name, false, "%d pages of the core: %s", TARGETS, refusal);
  }
  return 0;
}
